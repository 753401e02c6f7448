// A machine of the simulated world: its volume, and the processes on it. The volume is the crash
// double, so a power cut shows what had been flushed and what had not, across all processes that
// wrote to it since the last cut. The device can be full, fail, and rot.
//
// Each call that changes something waits for an event before it takes effect or after, by chance: a
// kill may come between any two of them, and calls that are under way together change their order.

import type { Clock } from '../../shared/clock.js';
import { DrError } from '../../shared/errors.js';
import type { BlockFile, FileSystem } from '../../shared/files/index.js';
import { CrashFileSystem, type SurvivorStyle } from '../support/crash-file.js';
import { type Call, type CallKind, HookedFileSystem } from '../support/hooked-file.js';
import type { MemoryFileSystem } from '../support/memory-file.js';
import { never, type Scheduler, SimulatedProcess } from './scheduler.js';

const LATENCY_MS = 2;
/** In the message of every failure of the device. */
export const DEVICE_FAILED = 'the device failed';

export type DurableKind =
  'create' | 'write' | 'truncate' | 'flush' | 'rename' | 'remove' | 'flushFolder';

const DURABLE: ReadonlySet<CallKind> = new Set<DurableKind>([
  'create',
  'write',
  'truncate',
  'flush',
  'rename',
  'remove',
  'flushFolder',
]);

/** A failure of the device that waits for its call. */
export interface DeviceFault {
  readonly kind: DurableKind | 'read' | 'open' | 'list' | 'status';
  readonly path?: RegExp;
  /** Matching calls that pass before. */
  skip: number;
}

export interface DurableCall {
  readonly machine: Machine;
  readonly kind: DurableKind;
  readonly path: string;
  /** Of a write. */
  readonly bytes: Uint8Array | undefined;
}

export class Machine {
  readonly name: string;
  readonly #scheduler: Scheduler;
  readonly #processes = new Set<SimulatedProcess>();
  #volume: CrashFileSystem;
  isFull = false;
  /** How far its wall clock is off. */
  wallShiftMs = 0;
  readonly faults: DeviceFault[] = [];
  /** How many calls were made to fail since the last cut. */
  failureCount = 0;
  /** Shown every call that changes something, before it takes effect. */
  onDurable: (call: DurableCall) => void = () => undefined;
  /** Told when the device fails or is full. */
  onFailure: () => void = () => undefined;
  /** Shown the process of each such call, which it may end; then the call is the last one. */
  trap: ((process: SimulatedProcess, path: string) => void) | undefined;

  constructor(name: string, scheduler: Scheduler) {
    this.name = name;
    this.#scheduler = scheduler;
    this.#volume = new CrashFileSystem();
  }

  /** The volume without waiting and without faults: for operators and checks. */
  get volume(): CrashFileSystem {
    return this.#volume;
  }

  get processes(): readonly SimulatedProcess[] {
    return [...this.#processes];
  }

  /** By its own clock. */
  get wallMs(): number {
    return this.#scheduler.wallMs + this.wallShiftMs;
  }

  clockOf(process: SimulatedProcess): Clock {
    return process.clock(() => this.wallShiftMs);
  }

  start(name: string): SimulatedProcess {
    const process = new SimulatedProcess(name, this.#scheduler);
    this.#processes.add(process);
    process.onDeath(() => this.#processes.delete(process));
    return process;
  }

  /** All processes end, and of what was not flushed a part survives, by chance. */
  cutPower(style: SurvivorStyle): void {
    for (const process of this.#processes) process.end();
    this.#volume.crashNow();
    this.replaceVolume(this.#volume.survivors(this.#scheduler.random.next(), style));
    this.isFull = false;
    this.faults.length = 0;
    this.failureCount = 0;
  }

  /** The volume goes on as `found`, all of it durable. No process may run. */
  replaceVolume(found: MemoryFileSystem): void {
    this.#volume = new CrashFileSystem({ volume: found });
  }

  /** The files as `process` sees them; closed by the system when it ends. */
  filesOf(process: SimulatedProcess): FileSystem {
    return new HookedFileSystem(this.#volume, (call, run) => this.#serve(process, call, run));
  }

  async #serve<T>(process: SimulatedProcess, call: Call, run: () => Promise<T>): Promise<T> {
    if (process.isDead) return call.kind === 'close' ? run() : never<T>();
    if (!DURABLE.has(call.kind)) {
      this.#failWhenDue(call);
      return process.gate(this.#owned(process, call, run()));
    }
    const isBefore = this.#scheduler.random.chance(0.5);
    if (isBefore) await process.gate(this.#scheduler.delay(LATENCY_MS));
    const { path, bytes } = call;
    this.onDurable({ machine: this, kind: call.kind as DurableKind, path, bytes });
    this.#scheduler.note(`${process.name}: ${call.kind} ${call.path}${extentOf(call)}`);
    const failure = this.#failure(call);
    if (failure !== undefined) throw failure;
    const running = this.#owned(process, call, run());
    this.trap?.(process, path);
    const result = await process.gate(running);
    if (!isBefore) await process.gate(this.#scheduler.delay(LATENCY_MS));
    return result;
  }

  /** A file that was opened is closed with its process, also when that never learned of it. */
  async #owned<T>(process: SimulatedProcess, { kind }: Call, running: Promise<T>): Promise<T> {
    const result = await running;
    if (kind === 'open' || kind === 'create') {
      process.onDeath(() => {
        void (result as BlockFile).close();
      });
    }
    return result;
  }

  #failWhenDue(call: Call): void {
    const failure = this.#failure(call);
    if (failure !== undefined) throw failure;
  }

  #failure(call: Call): DrError | undefined {
    const { kind, path } = call;
    if (this.isFull && (kind === 'write' || kind === 'create')) {
      this.failureCount++;
      this.onFailure();
      return new DrError('E_CAPACITY', `cannot ${kind} ${path}: the volume is full`, {
        context: { path },
      });
    }
    const index = this.faults.findIndex(
      (fault) => fault.kind === kind && (fault.path?.test(path) ?? true) && fault.skip-- <= 0,
    );
    if (index < 0) return undefined;
    this.faults.splice(index, 1);
    this.failureCount++;
    this.onFailure();
    this.#scheduler.note(`${this.name}: the device fails at ${kind} ${path}`);
    if (kind === 'flush' && call.file !== undefined) this.#volume.losePending(path);
    return new DrError('E_IO', `cannot ${kind} ${path}: ${DEVICE_FAILED}`, { context: { path } });
  }

  /** Turns one bit of a file over, durably. */
  rot(path: string, position: number, bit: number): void {
    this.#volume.turnBit(path, position, bit);
    this.#scheduler.note(`${this.name}: rot in ${path} at ${position}.${bit}`);
  }
}

function extentOf({ position, bytes }: Call): string {
  const at = position === undefined ? '' : ` ${position}`;
  return bytes === undefined ? at : `${at}+${bytes.length}`;
}
