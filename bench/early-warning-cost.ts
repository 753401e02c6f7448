// The processor time that the early warning adds to a cell: hashes cells of a file as the receiver does,
// and with `screened` feeds them to the statistics besides.
// Usage: early-warning-cost.js hashed|screened FILE

import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { argv } from 'node:process';
import { CellStatistics } from '../dr-receiver/warning/cell-statistics.js';
import { assert } from '../shared/assert.js';
import { CELL_BYTES, hashCell } from '../shared/delta/index.js';

/** As large as the payload of a message. */
const BATCH_CELLS = 16;

const [mode = '', path = ''] = argv.slice(2);
assert(mode === 'hashed' || mode === 'screened', 'the mode is known');
const statistics = new CellStatistics();
const file = openSync(path, 'r');
const cellCount = fstatSync(file).size / CELL_BYTES;
const batch = Buffer.alloc(BATCH_CELLS * CELL_BYTES);
for (let cell = 0; cell < cellCount; cell++) {
  const at = (cell % BATCH_CELLS) * CELL_BYTES;
  if (at === 0) readSync(file, batch, 0, batch.length, cell * CELL_BYTES);
  const bytes = batch.subarray(at, at + CELL_BYTES);
  const hash = hashCell(bytes);
  if (mode === 'screened') statistics.add(cell, hash, bytes);
}
closeSync(file);
