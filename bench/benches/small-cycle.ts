// A small change on its way: 64 cells of 64 KiB, 4 MiB together, from the guest's write to the durable
// point. Once by a daemon that runs already, once by `hvdr push` that starts for it. The limit is
// the sum of what no replication can do without, by plain means: files of a checkpoint, reading the
// cells, a round trip with the bytes, one flush at the far side.

import {
  closeSync,
  fdatasyncSync,
  fsyncSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { type AddressInfo, connect, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import type { Clock } from '../../shared/clock.js';
import { type Bench, type Contender, GIB, type Goal } from '../bench.js';
import { CELL_BYTES, type Run, scatteredCells, writeRandomFile } from '../data.js';
import type { Act } from '../measure.js';
import { perform } from '../measure.js';
import { PointWatch } from '../point-watch.js';
import { Replication } from '../replication.js';
import { LOOPBACK, Services } from '../services.js';

const CELL_COUNT = 64;
const CHANGED_BYTES = CELL_COUNT * CELL_BYTES;
const DAEMON = 'hvdr daemon, one cycle';
const COLD = 'hvdr push, started for it';
const LIMIT = 'checkpoint files + read + round trip + fsync';
/** Long enough for a guest write to be over before the next cycle begins. */
const INTERVAL_SECONDS = 3;
/** A daemon that runs has done the same before; its first cycles pay for compiling the code. */
const EARLIER_CYCLES = 5;

const SECONDS_MAX: readonly (readonly [string, number])[] = [
  [DAEMON, 0.15],
  [COLD, 0.8],
];

export const smallCycle: Bench = {
  name: 'small-cycle',
  question: '64 scattered cells of 64 KiB are written by the guest and become a durable point.',
  sizeBytes: GIB,
  spaceBytes: 9 * GIB,
  programs: ['cmp'],
  async prepare(context) {
    const { folder, sizeBytes, clock } = context;
    const image = join(folder, 'image.raw');
    writeRandomFile(image, sizeBytes, 'small-cycle');
    const cells = scatteredCells(CELL_COUNT, sizeBytes / CELL_BYTES, 'small-cycle');
    const plain = new PlainCycle(folder, image, cells);
    return Promise.resolve({
      settings: {
        'disk MiB': sizeBytes / 2 ** 20,
        changed: `${CELL_COUNT} cells of 64 KiB, drawn at random`,
      },
      contenders: [
        daemon(new Replication(context, 'daemon'), image, clock),
        coldPush(new Replication(context, 'cold'), image, new Services(clock)),
        {
          name: LIMIT,
          role: 'limit',
          payloadBytes: CHANGED_BYTES,
          inputs: [image],
          commands: () => [plain],
        },
      ],
      goals: SECONDS_MAX.map(([name, value]): Goal => ({
        text: `time of ${name}`,
        unit: 's',
        bound: 'at most',
        value,
        figure: (medianOf) => medianOf(name).wallSeconds,
      })),
    });
  },
};

function coldPush(replication: Replication, image: string, seeding: Services): Contender {
  return {
    name: COLD,
    role: 'ours',
    payloadBytes: CHANGED_BYTES,
    async prepare(round) {
      if (round === 0) {
        await replication.makeVm(image);
        await replication.pushOnce(seeding);
      }
      await perform(replication.guestWrites(CELL_COUNT, String(round + 1)));
    },
    async serve(services) {
      await replication.serve(services);
    },
    commands: () => [replication.push()],
    verify: () => replication.expectReplicaOfGuest(),
  };
}

/** Its seconds are those between the moment that the point shows and its commit, by the receiver. */
function daemon(replication: Replication, image: string, clock: Clock): Contender {
  const seeding = new Services(clock);
  const configuration = replication.file('daemon.conf');
  const cycle: Act = {
    act: 'guest writes, the daemon pushes',
    async run(clock) {
      const watch = await PointWatch.open(replication, clock);
      try {
        return await watch.pointOf(CELL_COUNT, () =>
          perform(replication.guestWrites(CELL_COUNT, String(clock.now() % 2 ** 31))),
        );
      } finally {
        await watch.close();
      }
    },
  };
  return {
    name: DAEMON,
    role: 'ours',
    payloadBytes: CHANGED_BYTES,
    async prepare(round) {
      if (round > 0) return;
      await replication.makeVm(image);
      await replication.pushOnce(seeding);
    },
    async serve(services) {
      await replication.serve(services);
      writeFileSync(
        configuration,
        Object.entries({ ...replication.settings(), push_interval: INTERVAL_SECONDS })
          .map(([name, value]) => `${name}=${value}\n`)
          .join(''),
      );
      await services.start({
        command: replication.daemon(configuration),
        port: 'none',
        isCounted: true,
      });
      for (let count = 0; count < EARLIER_CYCLES; count++) await cycle.run(clock);
    },
    commands: () => [cycle],
    verify: () => replication.expectReplicaOfGuest(),
  };
}

/** The limit. Every part ends durable where the product's does. */
class PlainCycle implements Act {
  readonly act = LIMIT;
  readonly #folder: string;
  readonly #image: string;
  readonly #cells: readonly Run[];

  constructor(folder: string, image: string, cells: readonly Run[]) {
    this.#folder = folder;
    this.#image = image;
    this.#cells = cells;
  }

  async run(): Promise<undefined> {
    const far = join(this.#folder, 'plain-far');
    this.#publish('plain-checkpoint');
    const image = openSync(this.#image, 'r');
    const bytes = Buffer.alloc(CHANGED_BYTES);
    for (const [index, { offset, lengthBytes }] of this.#cells.entries()) {
      readSync(image, bytes, index * CELL_BYTES, lengthBytes, offset);
    }
    closeSync(image);
    const received = await roundTripOf(bytes);
    const descriptor = openSync(far, 'w');
    writeSync(descriptor, received);
    fdatasyncSync(descriptor);
    closeSync(descriptor);
    // the point is listed, and the checkpoint becomes the next reference point
    this.#publish('plain-point');
    this.#publish('plain-checkpoint');
    for (const name of ['plain-far', 'plain-point', 'plain-checkpoint']) {
      rmSync(join(this.#folder, name));
    }
    return undefined;
  }

  /** A small file, durable under its name. */
  #publish(name: string): void {
    const path = join(this.#folder, name);
    const descriptor = openSync(`${path}.new`, 'w');
    writeSync(descriptor, Buffer.alloc(4096));
    fsyncSync(descriptor);
    closeSync(descriptor);
    renameSync(`${path}.new`, path);
    const folder = openSync(this.#folder, 'r');
    fsyncSync(folder);
    closeSync(folder);
  }
}

/** Sends `bytes` over a loopback connection; returns them as they arrived, after an answer. */
async function roundTripOf(bytes: Buffer): Promise<Buffer> {
  const chunks: Buffer[] = [];
  const server: Server = createServer({ noDelay: true }, (socket) => {
    let count = 0;
    socket.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      count += chunk.length;
      if (count === bytes.length) socket.end('.');
    });
  });
  await new Promise<void>((resolve) => {
    server.listen(0, LOOPBACK, () => resolve());
  });
  await new Promise<void>((resolve, reject) => {
    const socket = connect((server.address() as AddressInfo).port, LOOPBACK, () =>
      socket.write(bytes),
    );
    socket.on('error', reject);
    socket.on('data', () => {
      socket.destroy();
      resolve();
    });
  });
  await new Promise<void>((resolve) => {
    server.close(() => resolve());
  });
  return Buffer.concat(chunks);
}
