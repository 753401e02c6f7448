// Does what the receiver does for one VM follow the number of VMs and points that are beside it? The
// same calls over the channel to a receiver on a store of 1,000 VMs with 10 points each, and to one on
// a store of 10 VMs with one point. What has to be done for every VM (status of all) is not in it.

import { join } from 'node:path';
import { defined } from '../../shared/assert.js';
import {
  connect,
  type ControlService,
  controlService,
  loadKey,
  replicationService,
  type ServiceClient,
} from '../../shared/channel/index.js';
import { type Clock, systemRandom } from '../../shared/clock.js';
import { DrError } from '../../shared/errors.js';
import { nodeFileSystem } from '../../shared/files/index.js';
import { silentLog } from '../../shared/log.js';
import type { Bench, BenchContext, Contender, Goal } from '../bench.js';
import { GIB } from '../bench.js';
import type { Command } from '../command.js';
import { perform } from '../measure.js';
import { LOOPBACK, Services } from '../services.js';
import { TinySource, type TinyVm } from '../tiny-source.js';
import { makeTinyStore } from '../tiny-store.js';

const SIZES = [
  { name: '10 points, 10 VMs', vmCount: 10, pointCount: 1 },
  { name: '10,000 points, 1,000 VMs', vmCount: 1000, pointCount: 10 },
] as const;
const GOAL_MAX = 1.5;
/** Calls that are measured as one; the figure is that of one call. */
const CALLS = 100;

interface Reached {
  readonly source: TinySource;
  readonly control: ServiceClient<ControlService>;
  close(): Promise<void>;
}

/** A store of one size, and the ways to a receiver on it. */
class HistoryStore {
  readonly #context: BenchContext;
  readonly #folder: string;
  readonly #size: (typeof SIZES)[number];
  #vms: TinyVm[] = [];
  #turn = 0;

  constructor(context: BenchContext, size: (typeof SIZES)[number]) {
    this.#context = context;
    this.#size = size;
    this.#folder = join(context.folder, `store-${size.vmCount}`);
  }

  get #key(): string {
    return `${this.#folder}.psk`;
  }

  async make(): Promise<void> {
    const { product } = this.#context;
    await perform(
      product.hvdr(
        ...['psk', 'generate', '--out', this.#key, '--role', 'operator', '--principal', 'bench'],
      ),
    );
    const { vmCount, pointCount } = this.#size;
    this.#vms = await makeTinyStore(this.#folder, vmCount, pointCount);
  }

  /** Another one each time. */
  get nextVm(): TinyVm {
    this.#turn = 1 + (this.#turn % (this.#vms.length - 1));
    return defined(this.#vms[this.#turn], 'the store has VMs');
  }

  /** The one that gets more points. */
  get prunedVm(): TinyVm {
    return defined(this.#vms[0], 'the store has VMs');
  }

  get pointCount(): number {
    return this.#size.pointCount;
  }

  receiver(): Command {
    return this.#context.product.hvdr(
      ...['receiver', '--store', this.#folder, '--listen', `${LOOPBACK}:0`],
      ...['--psk-file', this.#key],
    );
  }

  async reach(port: number): Promise<Reached> {
    const { clock } = this.#context;
    const key = await loadKey(this.#key, { fs: nodeFileSystem, environment: process.env });
    const target = { host: LOOPBACK, port };
    const log = silentLog;
    const connection = await connect({ ...target, key, clock, random: systemRandom, log });
    return {
      source: new TinySource(connection.client(replicationService)),
      control: connection.client(controlService),
      close: () => connection.close(),
    };
  }
}

type Work = (store: HistoryStore, reached: Reached) => Promise<void>;

/** What is asked of a receiver that has been running for a while, by name. */
const CALLS_OF: Readonly<Record<string, Work>> = {
  list: async (store, { control }) => {
    const { points } = await control.listPoints({ vm: store.nextVm.name });
    if (points.length < 1) throw new DrError('E_TOOL_FAILED', 'a VM has no points');
  },
  plan: (store, { source }) => source.plan(store.nextVm),
  // each of these commits forgets a point, but for the very first one: the first point of the day stays
  prune: async (store, { source }) => {
    const count = await source.commit(store.prunedVm, store.pointCount);
    if (count <= store.pointCount + 1) return;
    throw new DrError('E_TOOL_FAILED', `a commit left ${count} points`);
  },
};

/** The first thing that is asked of a receiver that starts. */
const FIRST_OF: Readonly<Record<string, Work>> = {
  'start-up': (store, { source }) => source.describe(store.nextVm),
  // a name may be that of any VM, so all of them are opened first
  'start-up, then by name': defined(CALLS_OF['list'], 'there is a list'),
};

/** A receiver that has opened all of its VMs, and CALLS calls to it. */
function calls(store: HistoryStore, size: string, name: string, work: Work): Contender {
  let reached: Reached | undefined;
  return {
    name: `${name}: ${size}`,
    role: 'ours',
    payloadBytes: 0,
    async serve(services) {
      const { port } = await services.start({ command: store.receiver(), isCounted: true });
      reached = await store.reach(port);
      await reached.control.status({ vm: '' });
      for (let call = 0; call < CALLS; call += 1) await work(store, reached);
    },
    commands: () => [
      {
        act: `${name}, ${CALLS} times`,
        async run(clock: Clock) {
          const access = defined(reached, 'the receiver was started');
          const start = clock.monotonic();
          for (let call = 0; call < CALLS; call += 1) await work(store, access);
          const seconds = (clock.monotonic() - start) / 1000 / CALLS;
          await access.close();
          return seconds;
        },
      },
    ],
  };
}

/** From the start of the process to its first answer. */
function startUp(store: HistoryStore, size: string, name: string, work: Work): Contender {
  return {
    name: `${name}: ${size}`,
    role: 'ours',
    payloadBytes: 0,
    commands: () => [
      {
        act: 'a receiver starts and answers',
        async run(clock: Clock) {
          const services = new Services(clock);
          try {
            const start = clock.monotonic();
            const { port } = await services.start({ command: store.receiver(), isCounted: true });
            const reached = await store.reach(port);
            await work(store, reached);
            const seconds = (clock.monotonic() - start) / 1000;
            await reached.close();
            return seconds;
          } finally {
            await services.stopAll();
          }
        },
      },
    ],
  };
}

export const scaleHistory: Bench = {
  name: 'scale-history',
  question:
    'The calls about one VM with 10,000 points of 1,000 VMs in the store, against 10 points of 10 VMs.',
  spaceBytes: 5 * GIB,
  programs: [],
  async prepare(context) {
    const contenders: Contender[] = [];
    for (const size of SIZES) {
      const store = new HistoryStore(context, size);
      await store.make();
      for (const [name, work] of Object.entries(FIRST_OF)) {
        contenders.push(startUp(store, size.name, name, work));
      }
      for (const [name, work] of Object.entries(CALLS_OF)) {
        contenders.push(calls(store, size.name, name, work));
      }
    }
    const [small, large] = SIZES;
    const goals = ['start-up', ...Object.keys(CALLS_OF)].map((name): Goal => ({
      text: `${name} against that of ${small.name}`,
      unit: 'x',
      bound: 'at most',
      value: GOAL_MAX,
      figure: (medianOf) =>
        medianOf(`${name}: ${large.name}`).wallSeconds /
        medianOf(`${name}: ${small.name}`).wallSeconds,
    }));
    return { contenders, goals, settings: { callsPerMeasurement: CALLS } };
  },
};
