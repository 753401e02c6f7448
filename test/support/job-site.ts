// A host in memory with one VM of two disks, and jobs of one Bacula that back it up.

import type { JobInfo } from '../../plugin-bridge/job-info.js';
import { runBackup } from '../../plugin-bridge/jobs/backup.js';
import { runRctPush } from '../../plugin-bridge/jobs/rct-push.js';
import type { FileSystem } from '../../shared/files/index.js';
import { silentLog } from '../../shared/log.js';
import { parsePluginString, resolveParameters } from '../../shared/params/index.js';
import { Bandwidth, type RunReport } from '../../source-agent/index.js';
import { AgentWorld, STATE } from '../unit/source-agent/agent-world.js';
import { BackupVolume } from './backup-volume.js';
import type { FakeVm } from './fake-source-hypervisor.js';

const CELL = 65536;

export interface RanJob {
  /** Unique name. */
  readonly name: string;
  readonly volume: BackupVolume;
}

export interface JobWishes {
  /** As in the Plugin string. */
  readonly parameters?: string;
  readonly volume?: BackupVolume;
  readonly job?: string;
  /** In place of the site's own. */
  readonly files?: FileSystem;
}

export class JobSite {
  readonly world = new AgentWorld();
  readonly vm: FakeVm;
  /** Of the job that ended last. */
  report: RunReport | undefined;
  #number = 0;
  #value = 1;

  constructor(diskSizes: readonly number[] = [12 * CELL - 512, 3 * CELL]) {
    this.vm = this.world.hypervisor.addVm(1, 'SQL01', diskSizes);
  }

  guestWrites(): void {
    const value = this.#value++;
    for (const [index, { bytes }] of this.vm.disks.entries()) {
      // cells that are whole
      const at = ((value * 5) % Math.floor(bytes.length / CELL)) * CELL + 512 * index;
      this.world.hypervisor.write(this.vm, index, at, Buffer.alloc(2048, value + 100 * index));
    }
  }

  /** Gives the next job its name. */
  announce({ volume = new BackupVolume(), job = 'nightly' }: JobWishes = {}): RanJob {
    const number = ++this.#number;
    const time = new Date(Date.UTC(2026, 10, 26, 20, 0, number)).toISOString();
    const [, date = '', clock = ''] = /^(.*)T(.*)\.000Z$/.exec(time) ?? [];
    const two = String(number % 100).padStart(2, '0');
    return { name: `${job}.${date}_${clock.replaceAll(':', '.')}_${two}`, volume };
  }

  async run(level: 'F' | 'I' | 'D', prev: string, wishes: JobWishes = {}): Promise<RanJob> {
    const announced = this.announce(wishes);
    await this.start(announced, level, prev, wishes);
    return announced;
  }

  async start(
    { name, volume }: RanJob,
    level: 'F' | 'I' | 'D',
    prev: string,
    { parameters = '', files = this.world.files }: JobWishes = {},
  ): Promise<void> {
    const { clock, random, hypervisor } = this.world;
    await files.makeFolder(STATE);
    const info: JobInfo = {
      ...{ name, jobId: this.#number, type: 'B', level, sinceSeconds: undefined },
      ...{ prevJobName: prev, where: '', regexWhere: '', replace: undefined },
      ...{ namespace: '@hyperv', isAccurate: false, workingFolder: undefined },
    };
    const { values } = resolveParameters(
      parsePluginString(`podheitor-hyperv: ${parameters}`).given,
    );
    const ports = { files, clock, random, hypervisor, log: silentLog, stateFolder: STATE };
    const bandwidth = new Bandwidth(clock, { bytesPerSecond: 0 });
    const work = values.mode === 'rct-push' ? runRctPush : runBackup;
    this.report = undefined;
    this.report = await this.world.running(work(info, values, volume, { ...ports, bandwidth }));
  }
}

/** What the job brought of the disks. */
export function kindOf({ files }: BackupVolume): 'whole' | 'delta' | 'nothing' {
  const paths = [...files.keys()];
  if (paths.some((path) => path.endsWith('.vhdx'))) return 'whole';
  return paths.some((path) => path.endsWith('.cbt')) ? 'delta' : 'nothing';
}
