// Memory of agent and receiver must follow neither the data nor the disk: the same push of 1 GiB, of
// eight times as much, and of 1 GiB that lies scattered over a disk of 64 TiB.

import { join } from 'node:path';
import { type Bench, type Contender, GIB, type Goal, MIB, TIB } from '../bench.js';
import { evenRuns, writeDelta, writeRandomFile } from '../data.js';
import { perform } from '../measure.js';
import { Replication } from '../replication.js';
import { removeFile } from './files.js';

const SMALL = 'hvdr push, 1 GiB';
const LARGE = 'hvdr push, 8 GiB';
const SPARSE = 'hvdr push, 1 GiB on a disk of 64 TiB';
const LARGE_FACTOR = 8;
const SPARSE_BYTES = 64 * TIB;
const RUN_BYTES = 2 * MIB;
const LIMIT_MIB = 200;
const GROWTH_MAX = 1.1;

const GOALS: readonly Goal[] = [
  ...[SMALL, LARGE, SPARSE].map((name): Goal => ({
    text: `largest process of: ${name}`,
    unit: 'MiB',
    bound: 'at most',
    value: LIMIT_MIB,
    figure: (medianOf) => medianOf(name).peakRssBytes / MIB,
  })),
  ...[LARGE, SPARSE].map((name): Goal => ({
    text: `growth of the largest process from 1 GiB to: ${name}`,
    unit: 'x',
    bound: 'at most',
    value: GROWTH_MAX,
    figure: (medianOf) => medianOf(name).peakRssBytes / medianOf(SMALL).peakRssBytes,
  })),
];

export const pushMemory: Bench = {
  name: 'push-memory',
  question:
    'A seed of 1 GiB, of 8 GiB, and of 1 GiB on a sparse disk of 64 TiB: the largest resident set of agent and receiver.',
  sizeBytes: GIB,
  spaceBytes: 34 * GIB,
  programs: [],
  rounds: 3,
  async prepare(context) {
    const { folder, product, sizeBytes } = context;
    const image = join(folder, 'image');
    const delta = join(folder, 'data.cbt');
    const raw = (lengthBytes: number) => (): Promise<void> => {
      writeRandomFile(image, lengthBytes, 'push-memory');
      return Promise.resolve();
    };
    const sparse = async (): Promise<void> => {
      writeDelta(delta, evenRuns(sizeBytes / RUN_BYTES, RUN_BYTES, SPARSE_BYTES), 'push-memory');
      await perform(
        product.hvdr(
          ...['vhdx', 'create', image, '--type', 'dynamic', '--block-size', '32M'],
          ...['--size', String(SPARSE_BYTES)],
        ),
      );
      await perform(product.hvdr('pcbt', 'apply', image, delta));
      await removeFile(delta);
    };
    const contender = (
      name: string,
      payloadBytes: number,
      makeImage: () => Promise<void>,
    ): Contender => {
      const replication = new Replication(context, `vm-${payloadBytes}-${name.length}`);
      return {
        name,
        role: 'ours',
        payloadBytes,
        async prepare(round) {
          if (round > 0) return replication.forget();
          await removeFile(image);
          await makeImage();
          await replication.makeVm(image);
          await removeFile(image);
        },
        async serve(services) {
          await replication.serve(services);
        },
        commands: () => [replication.push()],
      };
    };
    return Promise.resolve({
      settings: { 'base MiB': sizeBytes / MIB, scattered: 'runs of 2 MiB, evenly over 64 TiB' },
      contenders: [
        contender(SMALL, sizeBytes, raw(sizeBytes)),
        contender(LARGE, LARGE_FACTOR * sizeBytes, raw(LARGE_FACTOR * sizeBytes)),
        contender(SPARSE, sizeBytes, sparse),
      ],
      goals: GOALS,
    });
  },
};
