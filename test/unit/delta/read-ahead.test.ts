// The cells of a union read ahead: fewer reads, and nothing that a caller could tell otherwise.

import { expect } from 'chai';
import { CELL_BYTES, type DeltaSource, readUnion } from '../../../shared/delta/index.js';
import { pattern, refusal, testHeader } from './builders.js';
import { cellDeltaBetween } from './union.test.js';

const CELLS = 150;
const SIZE = CELLS * CELL_BYTES;
const BEFORE = Buffer.alloc(SIZE);

/** A read of a source. */
interface Read {
  readonly lengthBytes: number;
  isDone: boolean;
}

/** Two deltas whose cells alternate, the last of all cells of the second one, and the reads of both. */
async function alternating(): Promise<{ sources: DeltaSource[]; after: Buffer; reads: Read[] }> {
  const after = pattern(SIZE, 5);
  const reads: Read[] = [];
  const images = [Buffer.from(BEFORE), Buffer.from(after)];
  for (let cell = 0; cell < CELLS; cell += 2) {
    after.copy(images[0] ?? BEFORE, cell * CELL_BYTES, cell * CELL_BYTES, (cell + 1) * CELL_BYTES);
  }
  const sources: DeltaSource[] = [];
  let from: Buffer = BEFORE;
  for (const [index, image] of images.entries()) {
    const { source } = await cellDeltaBetween(from, image, testHeader(SIZE, index + 1));
    sources.push({
      header: source.header,
      entries: () => source.entries(),
      read: async (position, target) => {
        const read: Read = { lengthBytes: target.length, isDone: false };
        reads.push(read);
        await source.read(position, target);
        read.isDone = true;
      },
    });
    from = image;
  }
  return { sources, after, reads };
}

describe('a union that is read ahead', () => {
  it('reads what a delta has in a row at once, whatever lies between in another', async () => {
    const { sources, after, reads } = await alternating();
    const found = Buffer.alloc(SIZE);
    let batches = 0;
    for await (const batch of readUnion(sources)) {
      if (batch.kind === 'zero') throw new Error('no cell is zero');
      batches++;
      batch.bytes.copy(found, (batch.entries[0]?.cell ?? 0) * CELL_BYTES);
    }
    expect(found.equals(after)).to.equal(true);
    expect(batches).to.equal(CELLS);
    // three windows of two deltas
    expect(reads.length).to.equal(6);
    expect(reads.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0)).to.equal(SIZE);
  });

  it('hands on all cells before the one that is damaged', async () => {
    const { sources } = await alternating();
    const damagedCell = 139;
    const [older, newer] = sources;
    if (older === undefined || newer === undefined) throw new Error('there are two deltas');
    const damaged: DeltaSource = {
      ...newer,
      read: async (position, target) => {
        await newer.read(position, target);
        const at = ((damagedCell - 1) / 2) * CELL_BYTES - position;
        if (at >= 0 && at < target.length) target[at] = (target[at] ?? 0) ^ 1;
      },
    };
    const cells: number[] = [];
    const error = await refusal('E_DELTA_HASH', async () => {
      for await (const batch of readUnion([older, damaged])) {
        cells.push(batch.kind === 'zero' ? batch.cell : (batch.entries[0]?.cell ?? -1));
      }
    });
    expect(error.context['offset']).to.equal(damagedCell * CELL_BYTES);
    expect(cells).to.deep.equal(Array.from({ length: damagedCell }, (_, cell) => cell));
  });

  it('has no read under way when its caller has had enough', async () => {
    const { sources, reads } = await alternating();
    for await (const batch of readUnion(sources)) {
      if (batch.kind === 'data') break;
    }
    expect(reads.every(({ isDone }) => isDone)).to.equal(true);
    expect(reads.length).to.be.lessThan(6);
  });
});
