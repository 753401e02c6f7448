// Memory must not grow with the disk: each command runs on a disk of 64 TiB with 1 GiB allocated,
// and on one of 1 GiB, and the largest resident sets are compared. Two shapes: a dynamic file with
// 32 MiB blocks, and a differencing child with 2 MiB blocks, whose allocation table alone has
// 256 MiB.

import { join } from 'node:path';
import {
  type Bench,
  type BenchContext,
  type Contender,
  GIB,
  type Goal,
  MIB,
  type MedianOf,
  TIB,
} from '../bench.js';
import { evenRuns, writeDelta } from '../data.js';
import { perform } from '../measure.js';
import { copy } from '../peers.js';
import { removeFile } from './files.js';

const DATA_BYTES = GIB;
const LIMIT_MIB = 200;
const GROWTH_MAX = 1.1;

type Size = '1 GiB' | '64 TiB';
const SIZES: readonly Size[] = ['1 GiB', '64 TiB'];
const SIZE_BYTES: Readonly<Record<Size, number>> = { '1 GiB': GIB, '64 TiB': 64 * TIB };

interface Shape {
  readonly name: string;
  readonly blockBytes: number;
  readonly isChild: boolean;
}

const SHAPES: readonly Shape[] = [
  { name: 'dynamic, 32 MiB blocks', blockBytes: 32 * MIB, isChild: false },
  { name: 'child, 2 MiB blocks', blockBytes: 2 * MIB, isChild: true },
];

const COMMANDS = ['convert', 'stream', 'read', 'map', 'check', 'diff', 'apply', 'merge'] as const;
type CommandName = (typeof COMMANDS)[number];

function contenderName(command: CommandName, shape: Shape, size: Size): string {
  return `${command}: ${shape.name}, ${size}`;
}

function commandsOf(shape: Shape): readonly CommandName[] {
  return shape.isChild ? COMMANDS : COMMANDS.filter((name) => name !== 'merge');
}

/** Makes one disk of a shape; returns its contenders. */
async function prepareDisk(
  { folder, product }: BenchContext,
  shape: Shape,
  size: Size,
): Promise<Contender[]> {
  const prefix = `${shape.isChild ? 'child' : 'dynamic'}-${SIZE_BYTES[size]}`;
  const at = (name: string): string => join(folder, `${prefix}-${name}`);
  const [empty, full, delta] = [at('empty.vhdx'), at('full.vhdx'), at('data.cbt')];
  const [target, made] = [at('target.vhdx'), at('made')];
  const parent = at('parent.vhdx');
  const create = (path: string, parentOfChild: string): Promise<void> =>
    perform(
      product.hvdr(
        ...['vhdx', 'create', path, '--block-size', String(shape.blockBytes)],
        ...(shape.isChild
          ? ['--type', 'differencing', '--parent', parentOfChild]
          : ['--type', 'dynamic', '--size', String(SIZE_BYTES[size])]),
      ),
    );
  await perform(
    product.hvdr(
      ...['vhdx', 'create', empty, '--type', 'dynamic', '--block-size', '32M'],
      ...['--size', String(SIZE_BYTES[size])],
    ),
  );
  const count = DATA_BYTES / shape.blockBytes;
  writeDelta(delta, evenRuns(count, shape.blockBytes, SIZE_BYTES[size]), 'memory-flat');
  await create(full, empty);
  await perform(product.hvdr('pcbt', 'apply', full, delta));

  const work: Readonly<Record<CommandName, Omit<Contender, 'name' | 'role' | 'payloadBytes'>>> = {
    convert: {
      prepare: () => removeFile(made),
      commands: () => [product.hvdr('vhdx', 'convert', full, made, '--to', 'vhdx')],
    },
    stream: { commands: () => [product.hvdr('vhdx', 'convert', full, '-', '--to', 'vhdx')] },
    read: {
      // the last GiB of the disk, through the far end of the allocation table
      commands: () => [
        product.hvdr('vhdx', 'read', full, '--offset', String(SIZE_BYTES[size] - GIB)),
      ],
    },
    map: { commands: () => [product.hvdr('vhdx', 'map', full)] },
    check: { commands: () => [product.hvdr('vhdx', 'check', full)] },
    diff: {
      prepare: () => removeFile(made),
      commands: () => [product.hvdr('pcbt', 'diff', empty, full, '--out', made)],
    },
    apply: {
      async prepare() {
        await removeFile(target);
        await create(target, empty);
      },
      commands: () => [product.hvdr('pcbt', 'apply', target, delta)],
    },
    merge: {
      async prepare() {
        await removeFile(target, parent);
        await perform(copy(empty, parent));
        await create(target, parent);
        await perform(product.hvdr('pcbt', 'apply', target, delta));
      },
      commands: () => [product.hvdr('vhdx', 'merge', target)],
    },
  };
  return commandsOf(shape).map((command) => ({
    ...work[command],
    name: contenderName(command, shape, size),
    role: 'ours',
    payloadBytes: DATA_BYTES,
  }));
}

function goalsOf(shape: Shape): Goal[] {
  const peak = (medianOf: MedianOf, command: CommandName, size: Size): number =>
    medianOf(contenderName(command, shape, size)).peakRssBytes;
  return [
    {
      text: `largest RSS of any command on 64 TiB, ${shape.name}`,
      unit: 'MiB',
      bound: 'at most',
      value: LIMIT_MIB,
      figure: (medianOf) =>
        Math.max(...commandsOf(shape).map((name) => peak(medianOf, name, '64 TiB'))) / MIB,
    },
    {
      text: `largest growth of RSS from 1 GiB to 64 TiB, ${shape.name}`,
      unit: 'x',
      bound: 'at most',
      value: GROWTH_MAX,
      figure: (medianOf) =>
        Math.max(
          ...commandsOf(shape).map(
            (name) => peak(medianOf, name, '64 TiB') / peak(medianOf, name, '1 GiB'),
          ),
        ),
    },
  ];
}

export const memoryFlat: Bench = {
  name: 'memory-flat',
  question:
    'Every command on a disk of 64 TiB with 1 GiB allocated, against the same on a disk of 1 GiB.',
  spaceBytes: 24 * GIB,
  programs: [],
  rounds: 3,
  async prepare(context) {
    const contenders: Contender[] = [];
    for (const shape of SHAPES) {
      for (const size of SIZES) contenders.push(...(await prepareDisk(context, shape, size)));
    }
    return {
      settings: { allocated: '1 GiB, evenly spread' },
      contenders,
      goals: SHAPES.flatMap(goalsOf),
    };
  },
};
