// The restore of one job as its session drives it: each file is confined, staged, recorded; a disk is led
// on as soon as the delta that follows is here; the rest is done at the end (finish.ts).

import path from 'node:path';
import { RECORD_BYTES_MAX } from '../../shared/catalog/index.js';
import { publishFile } from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import { ArrivalCheck, type ArrivedDisk } from './arrival-check.js';
import { arrivedOf } from './chain.js';
import { destinationOf } from './destination.js';
import { GatheredSink } from './gathered-sink.js';
import { corrupt, giveName, manifestFacts, stampOf } from './disks.js';
import { finishRestore, type FinishWork, settle } from './finish.js';
import { collectHalfRegistered } from './half-registered.js';
import { itemId, type Item, type ManifestFacts } from './items.js';
import {
  catalogFileOf,
  type CatalogFile,
  confinedSegments,
  pathError,
  siblingOf,
} from './names.js';
import { confinedFolder, mayWrite, refuseWithChildren } from './place.js';
import type { RestoreJob, RestorePorts, RestoreValues } from './ports.js';
import { refuseInUse } from './register.js';
import { RestoreSession } from './session.js';
import type { RestoreAnswer, RestoreEntry, RestoreWork } from './work.js';

/** What a restore that died left with its mark would hold the name and the files of the VM. */
async function clearHalfRegistered(
  { name }: RestoreJob,
  { fs, host, say, stateFolder }: RestorePorts,
): Promise<void> {
  const left = await collectHalfRegistered({ fs, host }, stateFolder, {
    isPlan: false,
    ownJob: name,
  });
  for (const { vm, isInUse } of left) {
    if (isInUse) continue;
    say(
      'warning',
      `a restore that did not end had registered ${vm.name} and not finished it: that VM was removed, its disks stay`,
    );
  }
}

/** @throws DrError E_LOCKED, E_IO, E_FILE_DAMAGED, E_HYPERVISOR */
export async function openRestore(
  job: RestoreJob,
  values: RestoreValues,
  ports: RestorePorts,
): Promise<RestoreWork> {
  await clearHalfRegistered(job, ports);
  const session = await RestoreSession.open(ports, ports.stateFolder, job);
  return new Restore(job, values, ports, session);
}

/** What the volume waits with is small when the file is whole. */
const FLUSH_EVERY_BYTES = 128 * 1024 * 1024;

/** What the session began and has not ended. */
interface OpenFile {
  readonly item: Item;
  readonly sizeBytes: number;
  hasData: boolean;
}

class Restore implements RestoreWork {
  readonly #job: RestoreJob;
  readonly #values: RestoreValues;
  readonly #ports: RestorePorts;
  readonly #session: RestoreSession;
  /** Bases that came to this process, by the stamps of their files. */
  readonly #checked = new Map<string, ArrivedDisk>();
  #open: OpenFile | undefined;

  constructor(
    job: RestoreJob,
    values: RestoreValues,
    ports: RestorePorts,
    session: RestoreSession,
  ) {
    this.#job = job;
    this.#values = values;
    this.#ports = ports;
    this.#session = session;
  }

  object(): Promise<void> {
    return Promise.resolve();
  }

  async begin(entry: RestoreEntry): Promise<RestoreAnswer> {
    this.#open = undefined;
    const file = catalogFileOf(entry.path);
    if (entry.namespace !== '@hyperv' && this.#values.restore_to !== 'files') {
      throw pathError(
        `${entry.namespace}/${entry.path} is no file of a Hyper-V VM`,
        'Give `restore_to=files`, or restore it with the plugin that made it.',
      );
    }
    const root = await this.#root(entry);
    const segments = confinedSegments(entry.path);
    const name = segments.pop() ?? '';
    const isFolder = entry.kind === 'folder';
    const below = isFolder ? [...segments, name] : segments;
    const folder = await confinedFolder(this.#ports.fs, root, below, this.#rootsOf(root));
    if (isFolder) return 'skip';
    const item = this.#itemOf(entry, file, path.join(folder, name));
    return this.#session.inTurn(async () => {
      if (!this.#session.isOpen) throw alreadyEnded(entry.path);
      if (this.#isPlaced(file)) return 'skip';
      await this.#session.drop(entry.path);
      if (!(await this.#isWanted(item))) {
        await this.#session.put({ ...item, status: 'skipped' });
        this.#ports.say('info', `${item.final} is there and stays, as Replace says`);
        return 'skip';
      }
      await this.#session.put(item);
      this.#open = { item, sizeBytes: entry.sizeBytes, hasData: false };
      return 'take';
    });
  }

  /** Checked already by a backend that died at the end: the file has its name, or gets it. */
  #isPlaced(file: CatalogFile): boolean {
    const { items } = this.#session;
    return [file.path, siblingOf(file)].some((name) => items.get(name)?.status === 'placed');
  }

  /** Roots limit what the job asks for, not where the host keeps its VMs. */
  #rootsOf(root: string): readonly string[] | undefined {
    return this.#originalRoot === root ? undefined : this.#ports.roots;
  }

  #originalRoot: string | undefined;

  async #root(entry: RestoreEntry): Promise<string> {
    const { where, regexWhere } = this.#job;
    const { restore_path: restorePath } = this.#values;
    const wish = { restorePath, where, regexWhere, roots: this.#ports.roots };
    const destination = destinationOf(entry, wish, path);
    if (destination.kind === 'folder') return destination.folder;
    const host = await this.#ports.host();
    // a folder of the job's own: nothing that a VM uses stands there
    const name = `restore-${this.#job.jobId}`;
    this.#originalRoot = path.join(await host.defaultVmFolder(), name, entry.namespace);
    return this.#originalRoot;
  }

  #itemOf({ modifiedAtMs }: RestoreEntry, file: CatalogFile, final: string): Item {
    const { kind } = file.name;
    const isData = kind === 'base' || kind === 'delta' || kind === 'other' || this.#isPlain;
    // beside its final name, so that it gets it by a rename
    const beside = `.${itemId(file.path).slice(0, 16)}.restoring-${this.#job.jobId}`;
    const staged = isData
      ? path.join(path.dirname(final), beside)
      : this.#session.dataFile(file.path);
    return { file, status: 'coming', modifiedAtMs, staged, final, manifest: undefined };
  }

  get #isPlain(): boolean {
    return this.#values.restore_to === 'files';
  }

  /** Deltas and manifests are needed for the disk, whatever stands there. @throws DrError E_RESTORE_VM */
  async #isWanted({ file, final, modifiedAtMs }: Item): Promise<boolean> {
    const { fs } = this.#ports;
    const { kind } = file.name;
    if (!this.#isPlain && kind !== 'base' && kind !== 'other') return true;
    if (!(await mayWrite(fs, final, this.#job.replace, modifiedAtMs))) return false;
    if (kind !== 'base' || (await fs.status(final)) === undefined) return true;
    await refuseWithChildren(fs, final);
    if (this.#values.restore_to === 'vm') await refuseInUse(await this.#ports.host(), final);
    return true;
  }

  async data(content: AsyncIterable<Buffer>): Promise<void> {
    const open = this.#open;
    if (open === undefined || open.hasData) return;
    open.hasData = true;
    const { path: name } = open.item.file;
    try {
      await this.#stage(open, content);
      const manifest = await this.#facts(open.item);
      await this.#session.inTurn(() => this.#arrived({ ...open.item, manifest }));
    } catch (error) {
      // The first error is the one to report; what is left is named by the record.
      if (!this.#hasArrived(name)) {
        await this.#session.inTurn(() => this.#session.drop(name)).catch(() => undefined);
      }
      throw error;
    }
  }

  #hasArrived(name: string): boolean {
    return this.#session.items.get(name)?.status === 'arrived';
  }

  async #stage(
    { item: { staged, file }, sizeBytes }: OpenFile,
    content: AsyncIterable<Buffer>,
  ): Promise<void> {
    const limit = limitOf(file);
    const isLarge = file.name.kind === 'base' || file.name.kind === 'other';
    const options = { isReplacing: true, flushEveryBytes: FLUSH_EVERY_BYTES, isDirect: isLarge };
    const check = this.#isChecked(file) ? new ArrivalCheck(file.path) : undefined;
    let found: ArrivedDisk | undefined;
    await publishFile(this.#ports, staged, options, async (sink) => {
      const output = new GatheredSink(async (bytes) => {
        await Promise.all([sink(bytes), check?.add(bytes)]);
      });
      let lengthBytes = 0;
      try {
        for await (const chunk of content) {
          lengthBytes += chunk.length;
          if (lengthBytes > limit) {
            throw new DrError('E_LIMIT', `${file.path} has more than ${limit} bytes`, {
              hint: 'That is no file of ours: leave it out of the selection.',
            });
          }
          await output.add(chunk);
        }
        await output.end();
      } finally {
        await output.settled();
        found = await check?.end();
      }
      refuseCut(file, lengthBytes, sizeBytes);
    });
    const stamp = await stampOf(this.#ports, staged);
    if (found !== undefined && stamp !== undefined) this.#checked.set(stamp, found);
  }

  #isChecked({ name }: CatalogFile): boolean {
    return name.kind === 'base' && !this.#isPlain;
  }

  async #facts({ file, staged }: Item): Promise<ManifestFacts | undefined> {
    const { name } = file;
    if (this.#isPlain) return undefined;
    if (name.kind !== 'base-manifest' && name.kind !== 'delta-manifest') return undefined;
    try {
      const facts = await manifestFacts(this.#ports, staged);
      const kind = name.kind === 'base-manifest' ? 'base' : 'delta';
      if (facts.diskId === name.diskId && facts.kind === kind) return facts;
      throw new DrError(
        'E_DISK_MISMATCH',
        `it is the manifest of a ${facts.kind} of disk ${facts.diskId}`,
      );
    } catch (error) {
      throw corrupt(name.folder, file.path, error);
    }
  }

  /** In turn. */
  async #arrived(item: Item): Promise<void> {
    const { fs } = this.#ports;
    const { kind } = item.file.name;
    if (this.#isPlain || kind === 'other') {
      await giveName(fs, item.staged, item.final);
      await this.#session.drop(item.file.path);
      return;
    }
    await this.#session.put({ ...item, status: 'arrived' });
    if (kind === 'config' || kind === 'state') return;
    await settle(this.#ports, arrivedOf(this.#session.items));
  }

  async endFile(): Promise<void> {
    const open = this.#open;
    if (open?.hasData === false) await this.data(nothing());
    this.#open = undefined;
  }

  async finish(): Promise<void> {
    await this.endFile();
    try {
      await this.#session.inTurn(async () => {
        if (!this.#session.isOpen) return;
        const { host, say, fs, clock, random } = this.#ports;
        const work: FinishWork = {
          ...{ host, say, fs, clock, random, job: this.#job, values: this.#values },
          arrivedDisks: this.#checked,
        };
        const errors = this.#isPlain ? [] : await finishRestore(work, this.#session);
        await this.#session.end();
        for (const error of errors.slice(1)) say('error', lineOf(error));
        if (errors.length > 0) throw errors[0];
      });
    } finally {
      // else the session is abandoned by who drives it
      if (!this.#session.isOpen) await this.#session.close();
    }
  }

  async abandon(): Promise<void> {
    await this.#session.close({ isAbandoned: true });
  }
}

/** Another backend has finished the job: nobody would look at this file. */
function alreadyEnded(name: string): DrError {
  return new DrError('E_STATE', `${name} came after the end of the restore`, {
    hint: 'Restore again: a new job begins anew.',
  });
}

/**
 * When a Storage Daemon goes away between two records, the File Daemon takes it for the end of the job.
 * Our backups state the exact length of every file.
 */
function refuseCut({ path: file, name }: CatalogFile, lengthBytes: number, stated: number): void {
  if (name.kind === 'other' || lengthBytes >= stated) return;
  throw new DrError('E_RESTORE_CORRUPT', `${file} ends after ${lengthBytes} of ${stated} bytes`, {
    context: { file, lengthBytes, stated },
    done: 'the file is not used',
    hint: "Look in the job's log whether the Storage Daemon went away, and restore again.",
  });
}

function limitOf({ name }: CatalogFile): number {
  return name.kind === 'config' || name.kind === 'state' ? RECORD_BYTES_MAX : Infinity;
}

async function* nothing(): AsyncGenerator<Buffer> {
  // an empty file has no bytes
}

function lineOf(error: unknown): string {
  if (error instanceof DrError) return error.line;
  return error instanceof Error ? error.message : String(error);
}
