// Does a plan of many VMs take what its members wait for as often as they are worked on beside each other,
// and no more? Members boot for seconds, as real ones do: that is what overlaps, while what the receiver
// does for each of them has one processor.

import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { assert } from '../../shared/assert.js';
import { systemClock, systemRandom } from '../../shared/clock.js';
import { nodeFileSystem } from '../../shared/files/index.js';
import { Lab } from '../../shared/hypervisor/lab/index.js';
import { type Bench, type BenchContext, type Contender, GIB, type Goal } from '../bench.js';
import type { Command } from '../command.js';
import { perform } from '../measure.js';
import { LOOPBACK, type Services } from '../services.js';
import { makeTinyStore } from '../tiny-store.js';

const VM_COUNT = 200;
const AT_ONCE = 20;
/** What is run one at a time to know a member's own time. */
const SAMPLE_COUNT = 10;
const BOOT_SECONDS = 5;
/** Of the sum of the members' own times divided by how many run at once. */
const GOAL_MAX = 2;
const KINDS = ['unplanned', 'test'] as const;
const SEAMS = { fs: nodeFileSystem, clock: systemClock, random: systemRandom };

type Kind = (typeof KINDS)[number];

/** A run of a plan on a store and a lab of its own. */
class PlanRun {
  readonly kind: Kind;
  readonly #vmCount: number;
  readonly #atOnce: number;
  readonly #folder: string;
  readonly #keyFile: string;
  readonly #product: BenchContext['product'];
  #port = 0;

  constructor(
    { folder, product }: Pick<BenchContext, 'folder' | 'product'>,
    options: { readonly kind: Kind; readonly vmCount: number; readonly atOnce: number },
  ) {
    this.kind = options.kind;
    this.#vmCount = options.vmCount;
    this.#atOnce = options.atOnce;
    this.#folder = join(folder, `${options.kind}-${options.vmCount}`);
    this.#keyFile = join(folder, 'bench.psk');
    this.#product = product;
  }

  get name(): string {
    return `${this.kind}: ${this.#vmCount} VMs, ${this.#atOnce} at a time`;
  }

  #file(name: string): string {
    return join(this.#folder, name);
  }

  /** The store has all VMs whatever the plan names: what a member costs beside many is its own cost. */
  async prepare(): Promise<void> {
    await rm(this.#folder, { recursive: true, force: true });
    await mkdir(this.#folder);
    const vms = await makeTinyStore(this.#file('store'), VM_COUNT, 1);
    const lab = await Lab.create(this.#file('lab'), SEAMS);
    await lab.setFault('boot-slow', String(BOOT_SECONDS * 1000));
    await lab.close();
    const steps = vms.slice(0, this.#vmCount).map(({ name }) => `  - vm: ${name}\n`);
    const head = `version: 1\nname: Many\norder: parallel\nconcurrency: ${this.#atOnce}\nsteps:\n`;
    await writeFile(this.#file('plan.yaml'), head + steps.join(''));
  }

  async serve(services: Services): Promise<void> {
    const { port } = await services.start({
      command: this.#product.hvdr(
        ...['receiver', '--store', this.#file('store'), '--host', `lab:${this.#file('lab')}`],
        ...['--listen', `${LOOPBACK}:0`, '--psk-file', this.#keyFile],
      ),
      isCounted: true,
    });
    this.#port = port;
  }

  command(): Command {
    return this.#product.hvdr(
      ...['plan', 'run', this.#file('plan.yaml'), '--kind', this.kind],
      ...['--dr-host', LOOPBACK, '--dr-port', String(this.#port), '--psk-file', this.#keyFile],
      ...['--state-dir', this.#file('state')],
    );
  }

  /** All VMs run after a failover; none is left after a test. */
  async verify(): Promise<void> {
    const lab = await Lab.open(this.#file('lab'), SEAMS);
    const vms = await lab.listVms();
    await lab.close();
    const wanted = this.kind === 'test' ? 0 : this.#vmCount;
    assert(vms.length === wanted, 'the VMs that the plan names are at the DR site');
    assert(
      vms.every(({ powerState }) => powerState === 'running'),
      'they run',
    );
  }

  contender(): Contender {
    return {
      name: this.name,
      role: this.#vmCount === VM_COUNT ? 'ours' : 'limit',
      payloadBytes: 0,
      prepare: () => this.prepare(),
      serve: (services) => this.serve(services),
      commands: () => [this.command()],
      verify: () => this.verify(),
    };
  }
}

function goalOf(kind: Kind, many: string, sample: string): Goal {
  return {
    text: `${kind}: time against the sum of the members' own times divided by ${AT_ONCE}`,
    unit: 'x',
    bound: 'at most',
    value: GOAL_MAX,
    figure(medianOf) {
      const ownSeconds = medianOf(sample).wallSeconds / SAMPLE_COUNT;
      return medianOf(many).wallSeconds / ((ownSeconds * VM_COUNT) / AT_ONCE);
    },
  };
}

export const plan200: Bench = {
  name: 'plan-200',
  question:
    `A plan of ${VM_COUNT} small VMs that boot for ${BOOT_SECONDS} s, ${AT_ONCE} at a time: its time against the ` +
    `sum of their own times, measured by ${SAMPLE_COUNT} of them one at a time, divided by ${AT_ONCE}.`,
  spaceBytes: GIB,
  programs: [],
  rounds: 1,
  async prepare(context) {
    const key = join(context.folder, 'bench.psk');
    await perform(
      context.product.hvdr(
        ...['psk', 'generate', '--out', key, '--role', 'operator', '--principal', 'bench'],
      ),
    );
    const runs = KINDS.map((kind) => ({
      kind,
      many: new PlanRun(context, { kind, vmCount: VM_COUNT, atOnce: AT_ONCE }),
      sample: new PlanRun(context, { kind, vmCount: SAMPLE_COUNT, atOnce: 1 }),
    }));
    return {
      settings: { VMs: VM_COUNT, 'at a time': AT_ONCE, 'boot s': BOOT_SECONDS },
      contenders: runs.flatMap(({ many, sample }) => [sample.contender(), many.contender()]),
      goals: runs.map(({ kind, many, sample }) => goalOf(kind, many.name, sample.name)),
    };
  },
};
