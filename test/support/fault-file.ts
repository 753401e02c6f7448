// A file system whose device fails on command: the n-th call of a kind on matching paths ends with
// a typed error, before it did anything, half-way, or after it did everything. Bits may rot: reads
// then return another byte than was written. It wraps any file system, the crash double included.
//
// A flush that failed leaves the data in doubt, and the system then forgets: every later flush of
// that path succeeds without doing anything, as fsync does on Linux. Code that retries a flush and
// believes the second answer is found out when the crash double stands below.

import { posixName } from './memory-file.js';
import { DrError, type ErrorCode } from '../../shared/errors.js';
import type { FileSystem } from '../../shared/files/index.js';
import { type Call, type CallKind, HookedFileSystem } from './hooked-file.js';

export interface Fault {
  readonly kind: CallKind;
  /** Paths that match; default all. */
  readonly path?: RegExp;
  /** The first call to fail, from 1, counted among the matching ones from now on. Default 1. */
  readonly nth?: number;
  /** How many calls fail from there on. Default 1; a full disk stays full: Infinity. */
  readonly times?: number;
  /** Default E_IO. */
  readonly code?: Extract<ErrorCode, 'E_IO' | 'E_CAPACITY' | 'E_LOCKED' | 'E_NOT_FOUND'>;
  /** Bytes of a write that still arrive. Default none. */
  readonly partialBytes?: number;
  /** The call does all its work, and fails then: the answer is lost. */
  readonly isAfter?: boolean;
}

export interface BitFlip {
  readonly path: RegExp;
  /** Byte position in the file. */
  readonly position: number;
  /** 0 to 7. */
  readonly bit: number;
}

class FaultPlan {
  readonly faults: { readonly fault: Fault; seenCount: number }[] = [];
  readonly flips: BitFlip[] = [];
  readonly doubtful = new Set<string>();
  readonly counts = new Map<CallKind, number>();
  failureCount = 0;

  async run<T>(call: Call, run: () => Promise<T>): Promise<T> {
    this.counts.set(call.kind, (this.counts.get(call.kind) ?? 0) + 1);
    const fault = this.#dueFor(call);
    if (fault !== undefined) {
      this.failureCount++;
      if (fault.isAfter === true) await run();
      else if (call.kind === 'flush') this.doubtful.add(call.path);
      else if (call.kind === 'write') await writePart(call, fault.partialBytes ?? 0);
      throw new DrError(
        fault.code ?? 'E_IO',
        `cannot ${call.kind} ${call.path}: injected by the test`,
        { context: { path: call.path } },
      );
    }
    if (call.kind === 'flush' && this.doubtful.has(call.path)) {
      // What run() would have returned: a flush returns nothing.
      return undefined as T;
    }
    const result = await run();
    if (call.kind === 'read') this.#rot(call);
    return result;
  }

  #dueFor(call: Call): Fault | undefined {
    let due: Fault | undefined;
    for (const entry of this.faults) {
      const { fault } = entry;
      if (fault.kind !== call.kind) continue;
      if (fault.path !== undefined && !fault.path.test(posixName(call.path))) continue;
      entry.seenCount++;
      const first = fault.nth ?? 1;
      if (entry.seenCount >= first && entry.seenCount < first + (fault.times ?? 1)) due ??= fault;
    }
    return due;
  }

  #rot(call: Call): void {
    const { bytes, position } = call;
    if (bytes === undefined || position === undefined) return;
    for (const flip of this.flips) {
      const within = flip.position - position;
      if (!flip.path.test(posixName(call.path)) || within < 0 || within >= bytes.length) continue;
      bytes[within] = (bytes[within] ?? 0) ^ (1 << flip.bit);
    }
  }
}

async function writePart(call: Call, lengthBytes: number): Promise<void> {
  if (lengthBytes === 0 || call.bytes === undefined) return;
  await call.file?.write(call.position ?? 0, call.bytes.subarray(0, lengthBytes));
}

export class FaultFileSystem extends HookedFileSystem {
  readonly #plan: FaultPlan;

  constructor(inner: FileSystem) {
    const plan = new FaultPlan();
    super(inner, (call, run) => plan.run(call, run));
    this.#plan = plan;
  }

  inject(fault: Fault): void {
    this.#plan.faults.push({ fault, seenCount: 0 });
  }

  /** From now on reads see one bit of a file turned over. */
  flipBit(flip: BitFlip): void {
    this.#plan.flips.push(flip);
  }

  /** The device works again, and flushes tell the truth again. */
  mend(): void {
    this.#plan.faults.length = 0;
    this.#plan.flips.length = 0;
    this.#plan.doubtful.clear();
  }

  /** Calls of a kind so far; a run without faults tells how many to fail in turn. */
  callCount(kind: CallKind): number {
    return this.#plan.counts.get(kind) ?? 0;
  }

  /** How many calls were made to fail. */
  get failureCount(): number {
    return this.#plan.failureCount;
  }
}
