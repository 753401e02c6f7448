// Two benches of one shape: a delta is applied in place to a disk whose every block is there, and a
// plain program writes the same cells into a raw file. Two deltas take turns, so that no round
// writes what is there already.

import { join } from 'node:path';
import {
  type Bench,
  type Contender,
  GIB,
  MIB,
  type PreparedBench,
  speedGoal,
  type BenchContext,
} from '../bench.js';
import { CELL_BYTES, scatteredCells, writeDelta, writeRandomFile, writeRuns } from '../data.js';
import { perform } from '../measure.js';
import { copy, expectSameFile, expectSameGuestBytes } from '../peers.js';
import { removeFile } from './files.js';

const DISK_BYTES = 4 * GIB;
const CHANGED_BYTES = 256 * MIB;
const PEER = 'plain pwrite, one fsync';
const OURS_VHDX = 'hvdr pcbt apply BASE.vhdx';
const OURS_RAW = 'hvdr pcbt apply BASE.raw';

interface ApplyCase {
  readonly name: string;
  readonly targets: readonly ('raw' | 'vhdx')[];
}

async function prepareApply(
  { folder, product }: BenchContext,
  { name, targets }: ApplyCase,
): Promise<PreparedBench> {
  const at = (file: string): string => join(folder, file);
  const cells = ['even', 'odd'].map((turn) =>
    scatteredCells(CHANGED_BYTES / CELL_BYTES, DISK_BYTES / CELL_BYTES, `${name} ${turn} cells`),
  );
  const deltas = [at('even.cbt'), at('odd.cbt')] as const;
  writeDelta(deltas[0], cells[0] ?? [], `${name} even`);
  writeDelta(deltas[1], cells[1] ?? [], `${name} odd`);
  const delta = (round: number): string => deltas[round % 2 === 0 ? 0 : 1];

  const plain = at('plain.raw');
  writeRandomFile(plain, DISK_BYTES, name);
  const expected = at('expected.raw');
  await perform(copy(plain, expected));
  writeRuns(expected, cells[0] ?? [], `${name} even`);
  const common = { payloadBytes: CHANGED_BYTES };
  const contenders: Contender[] = [];
  if (targets.includes('vhdx')) {
    const base = at('base.vhdx');
    await perform(product.hvdr('vhdx', 'convert', plain, base));
    contenders.push({
      ...common,
      name: OURS_VHDX,
      role: 'ours',
      inputs: [...deltas, base],
      commands: (round) => [product.hvdr('pcbt', 'apply', base, delta(round))],
      verify: () => expectSameGuestBytes(expected, 'raw', base, 'vhdx'),
    });
  }
  if (targets.includes('raw')) {
    const base = at('base.raw');
    await perform(copy(plain, base));
    contenders.push({
      ...common,
      name: OURS_RAW,
      role: 'ours',
      inputs: [...deltas, base],
      commands: (round) => [product.hvdr('pcbt', 'apply', base, delta(round))],
      verify: () => expectSameFile(expected, base),
    });
  }
  contenders.push({
    ...common,
    name: PEER,
    role: 'peer',
    inputs: [...deltas, plain],
    commands: (round) => [product.helper('plain-pwrite', delta(round), plain)],
    async verify() {
      await expectSameFile(expected, plain);
      await removeFile(expected);
    },
  });
  return {
    settings: { disk: '4 GiB', cells: `${CHANGED_BYTES / CELL_BYTES} of 64 KiB, scattered` },
    contenders,
    goals: contenders
      .filter(({ role }) => role === 'ours')
      .map(({ name: ours }) => ({
        ...speedGoal(ours, PEER, 0.5),
        text: `speed of ${ours} against ${PEER}`,
      })),
  };
}

export const vhdxScattered: Bench = {
  name: 'vhdx-scattered',
  question:
    '256 MiB of scattered 64 KiB cells are applied in place to a 4 GiB dynamic VHDX, durable.',
  spaceBytes: 14 * GIB,
  programs: ['qemu-img'],
  prepare: (context) => prepareApply(context, { name: 'vhdx-scattered', targets: ['vhdx'] }),
};

export const deltaApply: Bench = {
  name: 'delta-apply',
  question: '256 MiB of scattered 64 KiB cells are applied in place to a 4 GiB raw file, durable.',
  spaceBytes: 14 * GIB,
  programs: [],
  prepare: (context) => prepareApply(context, { name: 'delta-apply', targets: ['raw'] }),
};
