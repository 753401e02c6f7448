// What may have changed on one disk: a set of cells, or all of them when nothing is known. Sets only
// ever grow by union; they shrink when a receiver has confirmed what was sent, and then to nothing.

import { CellSet, unionOfCells } from '../shared/delta/index.js';

export type DirtyCells = CellSet | 'all';

export function noCells(): CellSet {
  return new CellSet();
}

export function isNone(cells: DirtyCells): boolean {
  return cells !== 'all' && cells.count === 0;
}

/** Both together; neither argument is changed. */
export function union(one: DirtyCells, other: DirtyCells): DirtyCells {
  return one === 'all' || other === 'all' ? 'all' : unionOfCells(one, other);
}
