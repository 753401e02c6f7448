// A restore job at a lab host, on a volume in memory.

import { join } from 'node:path';
import { systemClock } from '../../shared/clock.js';
import type { FileSystem } from '../../shared/files/index.js';
import { Lab } from '../../shared/hypervisor/lab/index.js';
import { openVhdx } from '../../shared/vhdx/index.js';
import {
  openRestore,
  type RestoreJob,
  type RestoreValues,
  type RestoreWork,
} from '../../plugin-bridge/restore/index.js';
import { deliver, type JobFile } from './backup-job.js';
import { LAB_FOLDER, labSeams, openLab } from './lab-model.js';
import { MemoryFileSystem } from './memory-file.js';
import { SeededRandom } from './seeded-random.js';

export const WHERE = '/restore';

export interface RestoreWish {
  readonly values?: Partial<RestoreValues>;
  readonly job?: Partial<RestoreJob>;
  readonly roots?: readonly string[];
  readonly fs?: FileSystem;
  /** Default: the site's. */
  readonly host?: Lab;
}

/** Every work has other names, as in real life. */
let works = 0;

export class RestoreSite {
  readonly volume: MemoryFileSystem;
  /** What was said, in order. */
  readonly said: string[] = [];

  private constructor(volume: MemoryFileSystem) {
    this.volume = volume;
  }

  static async make(): Promise<RestoreSite> {
    const volume = new MemoryFileSystem();
    const lab = await Lab.create(LAB_FOLDER, labSeams(volume));
    await lab.createVm({ name: 'other', adapters: [{ switchName: 'LAN' }] });
    return new RestoreSite(volume);
  }

  /** The site over another state of its volume. */
  static over(volume: MemoryFileSystem): RestoreSite {
    return new RestoreSite(volume);
  }

  lab(fs: FileSystem = this.volume): Promise<Lab> {
    return openLab(fs);
  }

  work({ values, job, roots, fs = this.volume, host }: RestoreWish = {}): Promise<RestoreWork> {
    return openRestore(
      { name: 'restore.1', jobId: 7, where: WHERE, regexWhere: '', replace: 'a', ...job },
      {
        new_vm_name: undefined,
        restore_path: undefined,
        restore_to: 'vm',
        replace_vm: false,
        network_map: undefined,
        unmapped: 'refuse',
        mac_policy: undefined,
        ...values,
      },
      {
        fs,
        clock: systemClock,
        random: new SeededRandom(1000 + ++works),
        stateFolder: '/state',
        roots,
        host: () => (host === undefined ? this.lab(fs) : Promise.resolve(host)),
        say: (kind, text) => this.said.push(`${kind}: ${text}`),
      },
    );
  }

  /** A whole job; abandoned when its end fails, as the session does it. */
  async restore(files: readonly JobFile[], wish: RestoreWish = {}): Promise<unknown[]> {
    const work = await this.work(wish);
    const where = wish.job?.where ?? WHERE;
    const failures: unknown[] = [];
    for (const file of files) {
      await deliver(work, file, where).catch((error: unknown) => failures.push(error));
    }
    try {
      await work.finish();
    } catch (error) {
      await work.abandon();
      throw error;
    }
    return failures;
  }

  async diskBytes(file: string): Promise<Buffer> {
    const seams = { fs: this.volume, random: new SeededRandom(5) };
    const disk = await openVhdx(file, seams);
    const bytes = Buffer.alloc(disk.sizeBytes);
    await disk.read(0, bytes);
    await disk.close();
    return bytes;
  }

  /** Every file below a folder, by path. */
  async filesBelow(folder: string): Promise<string[]> {
    const status = await this.volume.status(folder);
    if (status === undefined) return [];
    if (status.kind === 'file') return [folder];
    const found: string[] = [];
    for (const name of await this.volume.list(folder)) {
      found.push(...(await this.filesBelow(join(folder, name))));
    }
    return found;
  }
}
