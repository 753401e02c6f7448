// Disks and deltas as push messages: what is said from a cell on is what is left to be said there.

import { expect } from 'chai';
import {
  type BatchEntry,
  CELL_BYTES,
  diskMessages,
  encodeBatch,
  encodeEndOfDisk,
  hashCell,
  messageFrom,
  parseBatch,
} from '../../../shared/delta/index.js';
import { SeededRandom } from '../../support/seeded-random.js';
import { BufferDisk } from './builders.js';

const SIZE = 40 * CELL_BYTES + 512;
const DATA = [0, 1, 2, 7, 20, 21, 40];

function makeDisk(): BufferDisk {
  const bytes = Buffer.alloc(SIZE);
  for (const cell of DATA) {
    const end = Math.min(SIZE, (cell + 1) * CELL_BYTES);
    new SeededRandom(cell + 1).fill(bytes.subarray(cell * CELL_BYTES, end));
  }
  return BufferDisk.of(bytes);
}

/** Cells and bytes of messages; the last one must be the end. */
function takenFrom(messages: readonly Buffer[]): Map<number, Buffer> {
  const cells = new Map<number, Buffer>();
  for (const [index, message] of messages.entries()) {
    const parsed = parseBatch(message);
    if (parsed.kind === 'end') {
      expect(index).to.equal(messages.length - 1);
      continue;
    }
    if (parsed.kind !== 'cells') throw new Error('no begin stands here');
    let at = 0;
    for (const entry of parsed.entries) {
      if (entry.kind !== 'data') throw new Error('a base has data cells only');
      const end = Math.min(SIZE, (entry.cell + 1) * CELL_BYTES) - entry.cell * CELL_BYTES + at;
      const bytes = parsed.payload.subarray(at, end);
      expect(hashCell(bytes).equals(entry.hash)).to.equal(true);
      cells.set(entry.cell, bytes);
      at = end;
    }
    expect(at).to.equal(parsed.payload.length);
  }
  return cells;
}

describe('messages of a disk', () => {
  it('hold its data cells from any cell on, and its end', async () => {
    for (let first = 0; first <= 41; first++) {
      const messages: Buffer[] = [];
      const disk = makeDisk();
      for await (const message of diskMessages(disk, 3, first)) messages.push(message);
      const cells = takenFrom(messages);
      expect([...cells.keys()]).to.deep.equal(DATA.filter((cell) => cell >= first));
      for (const [cell, bytes] of cells) {
        const start = cell * CELL_BYTES;
        expect(disk.bytes.subarray(start, start + bytes.length).equals(bytes)).to.equal(true);
      }
    }
  });

  it('can be cut at any cell, runs of zeros included', () => {
    const cell = (n: number): Buffer => new SeededRandom(n).bytes(n === 40 ? 512 : CELL_BYTES);
    const entries: BatchEntry[] = [
      { kind: 'data', cell: 1, hash: hashCell(cell(1)) },
      { kind: 'zero', cell: 3, count: 4 },
      { kind: 'data', cell: 9, hash: hashCell(cell(9)) },
      { kind: 'data', cell: 40, hash: hashCell(cell(40)) },
    ];
    const payload = Buffer.concat([cell(1), cell(9), cell(40)]);
    const message = encodeBatch({ kind: 'cells', diskIndex: 0, entries, payload }, 1);
    for (let first = 0; first <= 41; first++) {
      const cut = messageFrom(message, first, SIZE);
      const parsed = cut === undefined ? undefined : parseBatch(cut);
      if (parsed?.kind !== 'cells') {
        expect(first).to.equal(41);
        continue;
      }
      const said = parsed.entries.flatMap((entry) =>
        entry.kind === 'zero'
          ? Array.from({ length: entry.count }, (_, index) => `zero ${entry.cell + index}`)
          : [`data ${entry.cell}`],
      );
      const all = ['data 1', 'zero 3', 'zero 4', 'zero 5', 'zero 6', 'data 9', 'data 40'];
      expect(said).to.deep.equal(all.filter((text) => Number(text.slice(5)) >= first));
      const data = parsed.entries.filter(({ kind }) => kind === 'data').map((entry) => entry.cell);
      expect(parsed.payload.equals(Buffer.concat(data.map(cell)))).to.equal(true);
    }
    expect(messageFrom(encodeEndOfDisk(0), 41, SIZE)?.equals(encodeEndOfDisk(0))).to.equal(true);
  });
});
