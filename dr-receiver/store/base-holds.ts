// Which bases disks of running VMs hang on (design.md § 7): such a base is not folded into, and its
// segment not given up. What runs stands in the journal; what is only being made, and no record names
// yet, is known by the process that makes it. Files that no record names any more hold their base as
// well, as long as they are there: whether a VM runs on them is known by the hypervisor alone.

import type { Guid } from '../../shared/bytes/index.js';
import type { InstanceDisk } from '../failover/model.js';
import type { Protection } from './protection.js';
import type { SegmentKey } from './records.js';
import { nameOf } from './segments.js';

export class BaseHolds {
  /** Names of segments, by the operation whose disks are being made. */
  readonly #underWay = new Map<Guid, ReadonlySet<string>>();

  /** Of operations that are over, and whose files are there still. */
  readonly #leftBehind = new Map<Guid, ReadonlySet<string>>();

  /** Replaces what the operation held before. */
  take(operationId: Guid, segments: readonly SegmentKey[]): void {
    this.#underWay.set(operationId, new Set(segments.map(nameOf)));
  }

  /** The operation is over for its record, and not for whoever runs on its disks. */
  leave(operationId: Guid, segments: readonly SegmentKey[]): void {
    this.#underWay.delete(operationId);
    this.#leftBehind.set(operationId, new Set(segments.map(nameOf)));
  }

  /** Nothing of the operation is there any more. */
  release(operationId: Guid): void {
    this.#underWay.delete(operationId);
    this.#leftBehind.delete(operationId);
  }

  /** Operations that hold something which no record may name. */
  get operationIds(): Guid[] {
    return [...this.#underWay.keys()];
  }

  /** Whether disks stand, or are about to stand, on the base of the segment. */
  isHeld(segment: SegmentKey, protection: Protection): boolean {
    const name = nameOf(segment);
    let isHeld = false;
    for (const { operationId, disks } of instancesOf(protection)) {
      // from here on the journal says it
      if (disks.length > 0) this.#underWay.delete(operationId);
      isHeld ||= disks.some((disk) => nameOf(disk) === name);
    }
    const others = [...this.#underWay.values(), ...this.#leftBehind.values()];
    return isHeld || others.some((names) => names.has(name));
  }
}

interface InstanceOf {
  readonly operationId: Guid;
  readonly disks: readonly InstanceDisk[];
}

/** All VMs at this site that the record of a protection names, of failover and tests. */
export function instancesOf({ failover, tests }: Protection): InstanceOf[] {
  const { instance, replacement } = failover;
  const sessions = [...tests.values()].map((session) => session.instance);
  return [instance, replacement, ...sessions].filter((each) => each !== undefined);
}
