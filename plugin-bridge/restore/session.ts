// The session of a restore job, on disk, so that each backend of the job can go on with what another one
// took (docs/bacula-restore.md "The session"):
//
//   restore-<job id>/session.json   whose it is, how it ended, which VMs were registered
//                    turn           locked while one backend works; holds who did so last
//                    alive          locked, shared, by each backend while it lives
//                    items/<id>.json  one for each file: announced, then arrived
//                    items/<id>.data  manifests and configuration; disks are staged where they will stand
//
// A file is announced durably before its first byte is written, and has arrived when its bytes are
// durable. So whatever a crash leaves is known by name, and a session that nobody keeps alive can go.

import { join } from 'node:path';
import { parseGuid, randomGuid, type Guid } from '../../shared/bytes/index.js';
import type { Clock, Random } from '../../shared/clock.js';
import { DrError } from '../../shared/errors.js';
import {
  type BlockFile,
  type FileSystem,
  type JsonFields,
  type JsonFormat,
  lockedFile,
  makeLockFile,
  readJson,
  writeJsonDurably,
} from '../../shared/files/index.js';
import { type Item, ITEM_FORMAT, itemFields, itemId } from './items.js';
import {
  asUnreadable,
  ifNobodyLives,
  readItems,
  removeItems,
  removeSession,
  removeStaged,
} from './session-files.js';

export interface SessionSeams {
  readonly fs: FileSystem;
  readonly clock: Clock;
  readonly random: Random;
}

export interface SessionJob {
  /** Unique. */
  readonly name: string;
  readonly jobId: number;
}

type SessionState = 'open' | 'ended';

/** A VM that the session has registered, by the id that it was backed up with. */
export interface RegisteredVm {
  readonly vmId: Guid;
  readonly registeredId: Guid;
}

const FORMAT: JsonFormat = { name: 'restore session', version: 1, limitBytes: 4 * 1024 * 1024 };
/** Another backend of the job may just be applying a delta. */
const TURN_TIMEOUT_MS = 60 * 60_000;
const ITEMS_MAX = 100_000;

export class RestoreSession {
  readonly folder: string;
  readonly jobId: number;
  readonly #seams: SessionSeams;
  readonly #alive: BlockFile;
  readonly #worker: Guid;
  #operationId: Guid;
  #state: SessionState = 'open';
  #jobName: string;
  #registered: RegisteredVm[] = [];
  #items = new Map<string, Item>();
  #isClosed = false;

  private constructor(seams: SessionSeams, folder: string, job: SessionJob, alive: BlockFile) {
    this.#seams = seams;
    this.folder = folder;
    this.jobId = job.jobId;
    this.#jobName = job.name;
    this.#alive = alive;
    this.#worker = randomGuid(seams.random);
    this.#operationId = randomGuid(seams.random);
  }

  /** Goes on with the session of the job, or begins it. @throws DrError E_LOCKED, E_IO, E_FILE_DAMAGED */
  static async open(
    seams: SessionSeams,
    stateFolder: string,
    job: SessionJob,
  ): Promise<RestoreSession> {
    const { fs } = seams;
    const folder = join(stateFolder, `restore-${job.jobId}`);
    await fs.makeFolder(join(folder, 'items'));
    for (const name of ['turn', 'alive']) await makeLockFile(fs, join(folder, name));
    await refuseForeign(seams, folder, job);
    const alive = await fs.open(join(folder, 'alive'), { mode: 'read', lock: 'shared' });
    const session = new RestoreSession(seams, folder, job, alive);
    try {
      await session.inTurn(() => Promise.resolve());
      return session;
    } catch (error) {
      await alive.close();
      throw error;
    }
  }

  /** By path; to be used in turn. */
  get items(): ReadonlyMap<string, Item> {
    return this.#items;
  }

  /** Marks what the session makes at a hypervisor. */
  get operationId(): Guid {
    return this.#operationId;
  }

  get isOpen(): boolean {
    return this.#state === 'open';
  }

  get registered(): readonly RegisteredVm[] {
    return this.#registered;
  }

  /** Runs `action` while no other backend of the job works on the session. @throws DrError E_LOCKED */
  async inTurn<T>(action: () => Promise<T>): Promise<T> {
    const { fs, clock } = this.#seams;
    const turn = await lockedFile({ fs, clock }, join(this.folder, 'turn'), TURN_TIMEOUT_MS);
    try {
      const last = Buffer.alloc(this.#worker.length);
      await turn.read(0, last);
      if (last.toString('latin1') !== this.#worker) {
        await this.#load();
        await turn.write(0, Buffer.from(this.#worker, 'latin1'));
      }
      return await action();
    } finally {
      await turn.close();
    }
  }

  /** Where the bytes of a small file are staged. */
  dataFile(path: string): string {
    return join(this.folder, 'items', `${itemId(path)}.data`);
  }

  /** Durable on return. @throws DrError E_IO, E_CAPACITY */
  async put(item: Item): Promise<void> {
    const { fs, random } = this.#seams;
    const { path } = item.file;
    if (this.#items.size >= ITEMS_MAX && !this.#items.has(path)) {
      throw new DrError('E_CAPACITY', `the job restores more than ${ITEMS_MAX} files of VMs`, {
        hint: 'Restore fewer VMs at once.',
      });
    }
    await writeJsonDurably(fs, this.#recordFile(path), ITEM_FORMAT, itemFields(item), random);
    this.#items.set(path, item);
  }

  /** Forgets a file, and removes what is staged of it. */
  async drop(path: string): Promise<void> {
    const item = this.#items.get(path);
    if (item === undefined) return;
    await removeStaged(this.#seams.fs, item);
    await this.#seams.fs.remove(this.#recordFile(path));
    await this.#seams.fs.flushFolder(join(this.folder, 'items'));
    this.#items.delete(path);
  }

  /** Durable on return. */
  async addRegistered(vm: RegisteredVm): Promise<void> {
    this.#registered = [...this.#registered, vm];
    await this.#save();
  }

  /** Nothing more is to be done for the job; durable on return. What is staged goes. */
  async end(): Promise<void> {
    this.#state = 'ended';
    await this.#save();
    await removeItems(this.#seams.fs, this.folder);
    this.#items.clear();
  }

  /** This backend is done with it. The last one that leaves an ended session takes it away. */
  async close({ isAbandoned = false } = {}): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await this.#alive.close();
    if (!isAbandoned && this.#state === 'open') return;
    await removeSession(this.#seams.fs, this.folder);
  }

  #recordFile(path: string): string {
    return join(this.folder, 'items', `${itemId(path)}.json`);
  }

  async #load(): Promise<void> {
    const { fs, random } = this.#seams;
    const file = join(this.folder, 'session.json');
    const fields = await readJson(fs, file, FORMAT);
    if (fields === undefined) {
      await this.#save();
    } else {
      this.#operationId = parseGuid(textOf(fields, 'operationId')) ?? randomGuid(random);
      this.#state = fields['state'] === 'ended' ? 'ended' : 'open';
      this.#jobName = textOf(fields, 'jobName');
      this.#registered = registeredOf(fields);
    }
    this.#items = await readItems(fs, this.folder);
  }

  #save(): Promise<void> {
    const { fs, random } = this.#seams;
    const fields = {
      jobName: this.#jobName,
      operationId: this.#operationId,
      state: this.#state,
      registered: this.#registered,
    };
    return writeJsonDurably(fs, join(this.folder, 'session.json'), FORMAT, fields, random);
  }
}

/** Whose session lies in a folder, and what marks its VMs; undefined: it has not begun, or is unreadable. */
export async function operationOf(
  fs: FileSystem,
  folder: string,
): Promise<{ readonly jobName: string; readonly operationId: Guid } | undefined> {
  const fields = await readJson(fs, join(folder, 'session.json'), FORMAT).catch(asUnreadable);
  const operationId = fields === undefined ? undefined : parseGuid(textOf(fields, 'operationId'));
  if (fields === undefined || operationId === undefined) return undefined;
  return { jobName: textOf(fields, 'jobName'), operationId };
}

function textOf(fields: JsonFields, name: string): string {
  const value = fields[name];
  return typeof value === 'string' ? value : '';
}

function registeredOf(fields: JsonFields): RegisteredVm[] {
  const list = fields['registered'];
  if (!Array.isArray(list)) return [];
  return list.flatMap((each: unknown) => {
    const pair = typeof each === 'object' && each !== null ? (each as JsonFields) : {};
    const vmId = parseGuid(textOf(pair, 'vmId'));
    const registeredId = parseGuid(textOf(pair, 'registeredId'));
    return vmId === undefined || registeredId === undefined ? [] : [{ vmId, registeredId }];
  });
}

/** A job id comes again when a catalog was made anew: what the former job left is not gone on with. */
async function refuseForeign(
  seams: SessionSeams,
  folder: string,
  { name, jobId }: SessionJob,
): Promise<void> {
  const fields = await readJson(seams.fs, join(folder, 'session.json'), FORMAT);
  if (fields === undefined || fields['jobName'] === name) return;
  const isGone = await ifNobodyLives(seams.fs, folder, async () => {
    await removeItems(seams.fs, folder);
    await seams.fs.remove(join(folder, 'session.json'));
    await seams.fs.flushFolder(folder);
  });
  if (isGone) return;
  throw new DrError('E_LOCKED', `another job with the id ${jobId} is being restored`, {
    context: { folder },
    hint: 'Wait until it has ended, then restore again.',
  });
}
