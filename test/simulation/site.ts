// A DR site of a simulated world: a machine with a receiver on it, what that has promised, and what an
// operator knows about it.

import { defined } from '../../shared/assert.js';
import type { Guid } from '../../shared/bytes/index.js';
import { DrError } from '../../shared/errors.js';
import type { Receiver, Scrub } from '../../dr-receiver/index.js';
import type { VmStore } from '../../dr-receiver/store/vm-store.js';
import type { MemoryFileSystem } from '../support/memory-file.js';
import type { Machine } from './disks.js';
import type { BroughtPoint } from './other-road.js';
import type { Endpoint } from './network.js';
import type { Promises } from './promises.js';
import type { SimulatedProcess } from './scheduler.js';

/** cells: bytes of listed layers only, so nothing but points is concerned. any: whatever it was. */
export type Rot = 'cells' | 'any';

export interface StoreCopy {
  readonly volume: MemoryFileSystem;
  readonly acknowledged: ReadonlyMap<Guid, readonly Guid[]>;
  readonly rotten: ReadonlyMap<Guid, Rot>;
}

const DAY_MS = 86_400_000;
/** A receiver that runs notices when its clock is off by more. */
const NOTICED_JUMP_MS = 60 * 60 * 1000;

export class Site {
  readonly name: string;
  readonly machine: Machine;
  readonly endpoint: Endpoint;
  readonly promises: Promises;
  process: SimulatedProcess | undefined;
  receiver: Receiver | undefined;
  /** Of the receiver that runs. */
  scrub: Scrub | undefined;
  /** Why it did not start the last time. */
  refusal: DrError | undefined;
  /** Stays down until it is started again. */
  isStopped = true;
  /** VMs of whose files some rotted: their points may be refused, never wrong. */
  readonly rotten = new Map<Guid, Rot>();
  /** How often something rotted. */
  rotCount = 0;
  /** The device has failed at least once. */
  hasFailed = false;
  /** VMs of which the receiver knows all that is wrong with the files. */
  readonly known = new Set<Guid>();
  /** Points that were read back and found good, since something rotted the last time. */
  readonly proven = new Set<Guid>();
  /** Points that an operator pinned, and the pin was answered. */
  readonly pinned = new Set<Guid>();
  /** By point: how often a pin was asked for or let go. */
  readonly #pinAsks = new Map<Guid, number>();
  /** Points that may not be forgotten for their age: the clock of the receiver has jumped. */
  readonly guards = new Set<Guid>();
  /** Copies of the store that an operator made. */
  readonly copies: StoreCopy[] = [];
  /** Deltas that are to come by another road, or have come in part. */
  readonly brought: BroughtPoint[] = [];
  /** How far the wall clock was off when the receiver's process began. */
  #shiftAtStartMs = 0;

  constructor(name: string, machine: Machine, endpoint: Endpoint, promises: Promises) {
    this.name = name;
    this.machine = machine;
    this.endpoint = endpoint;
    this.promises = promises;
  }

  vm(vmId: Guid): VmStore | undefined {
    return this.receiver?.store.vms.find((vm) => vm.vmId === vmId);
  }

  /**
   * A pin is about to change: until that is answered nobody knows, so nothing is promised. To be called
   * with what was answered, which counts unless more was asked for meanwhile.
   */
  askPin(pointId: Guid): (isPinned: boolean) => void {
    const asked = (this.#pinAsks.get(pointId) ?? 0) + 1;
    this.#pinAsks.set(pointId, asked);
    this.pinned.delete(pointId);
    return (isPinned) => {
      if (isPinned && this.#pinAsks.get(pointId) === asked) this.pinned.add(pointId);
    };
  }

  begins(process: SimulatedProcess): void {
    this.process = process;
    this.#shiftAtStartMs = this.machine.wallShiftMs;
  }

  ends(): void {
    this.process = undefined;
    this.receiver = undefined;
    this.scrub = undefined;
    this.guards.clear();
  }

  /** The wall clock jumps; whoever runs meanwhile may not let go of a point for its age any more. */
  jump(byMs: number): void {
    this.machine.wallShiftMs += byMs;
    this.guards.clear();
    if (Math.abs(this.machine.wallShiftMs - this.#shiftAtStartMs) <= NOTICED_JUMP_MS) return;
    for (const { protection } of this.receiver?.store.vms ?? []) {
      const days = new Set<number>();
      for (const { pointId, committedAtMs } of protection.listed) {
        const day = Math.floor(committedAtMs / DAY_MS);
        if (!days.has(day)) this.guards.add(pointId);
        days.add(day);
      }
    }
  }

  noteRot(vmId: Guid, rot: Rot): void {
    if (this.rotten.get(vmId) !== 'any') this.rotten.set(vmId, rot);
    this.rotCount++;
    this.known.delete(vmId);
    this.proven.clear();
  }

  /** An operator makes a copy of the store, whatever is going on. */
  copy(): StoreCopy {
    const made = {
      volume: this.machine.volume.survivors(0, 'all'),
      acknowledged: this.promises.snapshot(),
      rotten: new Map(this.rotten),
    };
    this.copies.push(made);
    return made;
  }

  goBackTo({ volume, acknowledged, rotten }: StoreCopy): void {
    this.process?.end();
    this.machine.replaceVolume(volume);
    this.promises.goBackTo(acknowledged);
    this.pinned.clear();
    this.known.clear();
    this.proven.clear();
    for (const [vmId, rot] of rotten) this.noteRot(vmId, rot);
  }

  /** A file of a simulated operator's, durable at once. */
  async put(path: string, write: (file: OperatorFile) => Promise<void>): Promise<void> {
    const { volume } = this.machine;
    const folder = defined(path.split('/').slice(0, -1).join('/'), 'a file has a folder');
    await volume.makeFolder(folder);
    const file = await volume.open(path, { mode: 'create', lock: 'none' });
    await write(file);
    await file.flush();
    await file.close();
    await volume.flushFolder(folder);
  }
}

type OperatorFile = Awaited<ReturnType<Machine['volume']['open']>>;
