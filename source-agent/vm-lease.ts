// One lease per VM over all processes that share a state folder: an exclusively locked file. The
// lock ends with the process, however that dies. The file says who holds it - operation, host,
// since - for the message of whoever is refused; and, because it is flushed before a checkpoint is
// asked for, it is the checkpoint's intent: an operation that stands in a lease nobody holds was
// killed, and what it left at the hypervisor is ours to remove.

import path from 'node:path';
import { type Guid, parseGuid } from '../shared/bytes/index.js';
import type { Clock } from '../shared/clock.js';
import { DrError } from '../shared/errors.js';
import {
  type BlockFile,
  type FileSystem,
  parseJson,
  type JsonFormat,
} from '../shared/files/index.js';

const LEASE_FORMAT: JsonFormat = { name: 'lease', version: 1, limitBytes: 4096 };
const RECORD_BYTES = 512;
const POLL_MS = 1000;

export interface LeaseSeams {
  readonly fs: FileSystem;
  readonly clock: Clock;
}

export interface LeaseRequest {
  readonly vmId: Guid;
  readonly vmName: string;
  readonly operationId: Guid;
  /** For the message of whoever is refused. */
  readonly holder: string;
  /** How long to wait for another operation; 0: refused at once. */
  readonly waitMs: number;
  readonly signal: AbortSignal;
}

export interface VmLease {
  /** The operation that held the lease before and never gave it back. */
  readonly killed: { readonly operationId: Guid; readonly sinceMs: number } | undefined;
  /** Gives the lease back; the work that was done under it stands even when that is hard. */
  release(): Promise<void>;
}

/** @throws DrError E_LOCKED (names operation, host and since), E_IO */
export async function takeVmLease(
  folder: string,
  request: LeaseRequest,
  seams: LeaseSeams,
): Promise<VmLease> {
  const { fs, clock } = seams;
  const file = path.join(folder, `${request.vmId}.lock`);
  const deadline = clock.monotonic() + request.waitMs;
  for (;;) {
    const handle = await tryOpen(fs, file);
    if (handle !== undefined) return hold(handle, request, seams);
    if (clock.monotonic() >= deadline) throw await lockedError(fs, file, request);
    await clock.sleep(Math.min(POLL_MS, deadline - clock.monotonic()), request.signal);
  }
}

/** Whether anybody holds the lease of a VM now; nothing is changed. 'none': there is no lease file. */
export async function leaseState(
  folder: string,
  vmId: Guid,
  fs: FileSystem,
): Promise<'none' | 'free' | 'held'> {
  try {
    const file = path.join(folder, `${vmId}.lock`);
    await (await fs.open(file, { mode: 'read', lock: 'exclusive' })).close();
    return 'free';
  } catch (error) {
    if (error instanceof DrError && error.code === 'E_NOT_FOUND') return 'none';
    if (error instanceof DrError && error.code === 'E_LOCKED') return 'held';
    throw error;
  }
}

async function tryOpen(fs: FileSystem, file: string): Promise<BlockFile | undefined> {
  for (const mode of ['write', 'create', 'write'] as const) {
    try {
      return await fs.open(file, { mode, lock: 'exclusive' });
    } catch (error) {
      if (!(error instanceof DrError)) throw error;
      if (error.code === 'E_LOCKED') return undefined;
      if (error.code !== 'E_NOT_FOUND' && error.code !== 'E_EXISTS') throw error;
    }
  }
  return undefined;
}

async function hold(
  handle: BlockFile,
  request: LeaseRequest,
  { clock }: LeaseSeams,
): Promise<VmLease> {
  try {
    const killed = await readRecord(handle);
    const { operationId, holder } = request;
    await writeRecord(handle, { operationId, holder, sinceMs: clock.now() });
    await handle.flush();
    return {
      killed,
      release: async () => {
        try {
          // Not flushed: a record that comes back after a power cut names an operation that has
          // ended, which costs a look for leftovers.
          await writeRecord(handle, {});
        } catch (error) {
          if (!(error instanceof DrError)) throw error;
        } finally {
          await handle.close();
        }
      },
    };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** A moment that a date can show. */
function isTime(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && Math.abs(value) < 8e15;
}

/** One sector, so it is never torn. */
async function writeRecord(handle: BlockFile, fields: object): Promise<void> {
  const text = JSON.stringify({ formatVersion: LEASE_FORMAT.version, ...fields });
  const bytes = Buffer.alloc(RECORD_BYTES, ' ');
  bytes.write(text.slice(0, RECORD_BYTES));
  await handle.write(0, bytes);
}

async function readRecord(handle: BlockFile): Promise<VmLease['killed']> {
  const bytes = Buffer.alloc(RECORD_BYTES);
  const count = await handle.read(0, bytes);
  try {
    const fields = parseJson(bytes.subarray(0, count), handle.path, LEASE_FORMAT);
    const { operationId, sinceMs } = fields;
    const parsed = typeof operationId === 'string' ? parseGuid(operationId) : undefined;
    if (parsed === undefined || !isTime(sinceMs)) return undefined;
    return { operationId: parsed, sinceMs };
  } catch (error) {
    // What cannot be read names nobody; the objects at the hypervisor carry our tag anyway.
    if (error instanceof DrError) return undefined;
    throw error;
  }
}

async function lockedError(fs: FileSystem, file: string, request: LeaseRequest): Promise<DrError> {
  let who = 'another process';
  try {
    const handle = await fs.open(file, { mode: 'read', lock: 'none' });
    try {
      const bytes = Buffer.alloc(RECORD_BYTES);
      const count = await handle.read(0, bytes);
      const { operationId, holder, sinceMs } = parseJson(
        bytes.subarray(0, count),
        file,
        LEASE_FORMAT,
      );
      if (typeof operationId === 'string' && isTime(sinceMs)) {
        const since = new Date(sinceMs).toISOString();
        who = `operation ${operationId.slice(0, 36)} of ${String(holder).slice(0, 100)} since ${since}`;
      }
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (!(error instanceof DrError)) throw error;
  }
  return new DrError('E_LOCKED', `the VM ${request.vmName} is being worked on by ${who}`, {
    context: { vmId: request.vmId, isLease: true },
    hint: 'Wait until it has ended, or give overlap=wait.',
  });
}
