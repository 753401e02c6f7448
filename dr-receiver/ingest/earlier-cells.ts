// Disks that come back: what older points of a VM still have of disks that the newest one lacks, for a
// cycle that brings such a disk as a new base.

import type { Guid } from '../../shared/bytes/index.js';
import { DrError } from '../../shared/errors.js';
import { type EarlierDisk, earlierDisks } from '../store/earlier-disks.js';
import type { ReadSeams } from '../store/point-sources.js';
import type { VmStore } from '../store/vm-store.js';
import type { ReusableCells } from './incoming-cycle.js';
import type { CycleDisk } from './open-request.js';
import { PointCells } from './point-cells.js';

export class EarlierCells {
  readonly #vm: VmStore;
  readonly #seams: ReadSeams;
  readonly #unsound = new Set<Guid>();

  constructor(vm: VmStore, seams: ReadSeams) {
    this.#vm = vm;
    this.#seams = seams;
  }

  /**
   * The disks. A point that was found damaged while its cells were looked for is left out, or it would
   * be in the way of every cycle.
   */
  disks(): EarlierDisk[] {
    return earlierDisks(this.#vm.protection).filter(
      ({ point }) => !this.#unsound.has(point.pointId),
    );
  }

  /** To be told when a point cannot be read as it should. */
  noteUnsound(pointId: Guid): void {
    this.#unsound.add(pointId);
  }

  /** The cells of a disk in this size; undefined when there are none, or none that can be read. */
  async open({ diskId, sizeBytes }: CycleDisk): Promise<ReusableCells | undefined> {
    const found = this.disks().find(
      ({ disk }) => disk.diskId === diskId && disk.sizeBytes === sizeBytes,
    );
    if (found === undefined) return undefined;
    const orNothing = <T>(result: Promise<T>): Promise<T | undefined> =>
      result.catch((error: unknown) => {
        if (!(error instanceof DrError)) throw error;
        this.noteUnsound(found.point.pointId);
        return undefined;
      });
    const cells = await orNothing(PointCells.open(this.#seams, this.#vm, found));
    if (cells === undefined) return undefined;
    return {
      find: (cell, hash) => orNothing(cells.find(cell, hash)),
      close: () => cells.close(),
    };
  }
}
