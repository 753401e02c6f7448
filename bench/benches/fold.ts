// The fold of a delta into its base, the way a receiver reclaims: manifest announced, each cell read and
// checked against its hash, written through the log of the VHDX, durable, the delta removed. The peer
// writes the same cells to a raw file and knows nothing of hashes, crashes or places.

import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type Bench, GIB, MIB, speedGoal } from '../bench.js';
import { CELL_BYTES, scatteredCells, writeDelta, writeRandomFile, writeRuns } from '../data.js';
import { perform } from '../measure.js';
import { makeOldStore } from '../old-store.js';
import { copy, expectSameFile } from '../peers.js';
import { removeFile } from './files.js';

const DISK_BYTES = 2 * GIB;
const CHANGED_BYTES = 256 * MIB;
const OURS = 'hvdr compact: fold';
const PEER = 'plain pwrite, one fsync';

export const fold: Bench = {
  name: 'fold',
  question:
    'A delta of 256 MiB of scattered 64 KiB cells is folded into the base of a 2 GiB disk in a DR store, durable.',
  spaceBytes: 12 * GIB,
  programs: [],
  async prepare({ folder, product, clock }) {
    const at = (file: string): string => join(folder, file);
    const all = Array.from({ length: DISK_BYTES / CELL_BYTES }, (_, cell) => ({
      offset: cell * CELL_BYTES,
      lengthBytes: CELL_BYTES,
    }));
    const cells = scatteredCells(CHANGED_BYTES / CELL_BYTES, DISK_BYTES / CELL_BYTES, 'fold cells');
    const content = {
      base: { runs: all, seed: 'fold base' },
      delta: { runs: cells, seed: 'fold delta' },
    };
    await makeOldStore(at('kept'), DISK_BYTES, content, clock);
    const plain = at('plain.raw');
    writeRandomFile(plain, DISK_BYTES, 'fold base');
    const expected = at('expected.raw');
    await perform(copy(plain, expected));
    writeRuns(expected, cells, 'fold delta');
    const delta = at('delta.cbt');
    writeDelta(delta, cells, 'fold delta');
    const store = at('store');
    const copyStore = {
      program: 'cp',
      arguments: ['--recursive', '--sparse=always', at('kept'), store],
    };
    return {
      settings: { disk: '2 GiB', cells: `${CHANGED_BYTES / CELL_BYTES} of 64 KiB, scattered` },
      contenders: [
        {
          ...{ name: OURS, role: 'ours', payloadBytes: CHANGED_BYTES, inputs: [] },
          async prepare() {
            await rm(store, { recursive: true, force: true });
            await perform(copyStore);
            await perform({ program: 'sync', arguments: ['--file-system', store] });
          },
          commands: () => [product.hvdr('compact', '--store', store)],
          async verify() {
            const out = at('out.raw');
            await perform(
              product.hvdr('export', 'folded', '--disk', '0', '--out', out, '--store', store),
            );
            await expectSameFile(expected, out);
            await removeFile(out);
          },
        },
        {
          ...{ name: PEER, role: 'peer', payloadBytes: CHANGED_BYTES, inputs: [delta, plain] },
          commands: () => [product.helper('plain-pwrite', delta, plain)],
          verify: () => expectSameFile(expected, plain),
        },
      ],
      goals: [speedGoal(OURS, PEER, 0.5)],
    };
  },
};
