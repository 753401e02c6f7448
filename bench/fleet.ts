// Many lab VMs under one daemon: made once, changed by their guests at an even pace, watched as
// monitoring does.

import { mkdir } from 'node:fs/promises';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { assert } from '../shared/assert.js';
import { connect, controlService, loadKey } from '../shared/channel/index.js';
import { type Clock, systemRandom } from '../shared/clock.js';
import { DrError } from '../shared/errors.js';
import { nodeFileSystem } from '../shared/files/index.js';
import { Lab } from '../shared/hypervisor/lab/index.js';
import { openLog } from '../shared/log.js';
import type { BenchContext } from './bench.js';
import { CELL_BYTES, RandomBytes } from './data.js';
import { perform } from './measure.js';
import type { Product } from './product.js';
import { LOOPBACK, type Services } from './services.js';

export interface FleetOptions {
  readonly vmCount: number;
  readonly diskBytes: number;
  readonly changedCells: number;
  readonly intervalSeconds: number;
  readonly rpoSeconds: number;
}

/** What was seen of a fleet during a time. */
export interface FleetSight {
  /** Of each VM at each look: how old the moment of its newest point was. */
  readonly agesSeconds: readonly number[];
  readonly failedCount: number;
  /** Cycles that should have begun and did not. */
  readonly missedCount: number;
}

const LOOK_EVERY_MS = 1000;
const SEEDED_WITHIN_MS = 300_000;

export class Fleet {
  readonly #product: Product;
  readonly #folder: string;
  readonly #clock: Clock;
  readonly #options: FleetOptions;
  #port = 0;
  /** By VM: the moments of its points, as the daemon tells them. */
  readonly #moments = new Map<string, number[]>();
  #failedCount = 0;

  constructor({ product, folder, clock }: BenchContext, options: FleetOptions) {
    this.#product = product;
    this.#folder = join(folder, 'fleet');
    this.#clock = clock;
    this.#options = options;
  }

  #file(name: string): string {
    return join(this.#folder, name);
  }

  /** Running VMs with empty disks, and keys. */
  async make(): Promise<void> {
    await mkdir(this.#folder, { recursive: true });
    const product = this.#product;
    for (const lab of ['lab', 'receiver-lab']) {
      await perform(product.hvdr('lab', 'init', this.#file(lab)));
    }
    for (let index = 0; index < this.#options.vmCount; index++) {
      const disk = String(this.#options.diskBytes);
      await perform(
        product.hvdr('lab', 'create-vm', this.#file('lab'), nameOf(index), '--disk', disk),
      );
      await perform(product.hvdr('lab', 'start', this.#file('lab'), nameOf(index)));
    }
    await perform(product.hvdr('psk', 'generate', '--out', this.#file('source.psk')));
    await perform(
      product.hvdr(
        ...['psk', 'generate', '--out', this.#file('viewer.psk')],
        ...['--role', 'viewer', '--principal', 'bench-viewer'],
      ),
    );
  }

  /** Starts receiver and daemon; returns when every VM has had two cycles. */
  async serve(services: Services): Promise<void> {
    const { port } = await services.start({
      command: this.#product.hvdr(
        ...['receiver', '--store', this.#file('store')],
        ...['--host', `lab:${this.#file('receiver-lab')}`, '--listen', `${LOOPBACK}:0`],
        ...['--psk-file', this.#file('source.psk'), '--psk-file', this.#file('viewer.psk')],
      ),
      isCounted: true,
    });
    this.#port = port;
    const { intervalSeconds, rpoSeconds } = this.#options;
    const settings = {
      vm: '*',
      host: `lab:${this.#file('lab')}`,
      dr_host: LOOPBACK,
      dr_port: port,
      dr_psk_file: this.#file('source.psk'),
      push_interval: intervalSeconds,
      rpo_seconds: rpoSeconds,
      max_restore_points: 10,
    };
    const configuration = this.#file('daemon.conf');
    const lines = Object.entries(settings).map(([name, value]) => `${name}=${value}\n`);
    writeFileSync(configuration, lines.join(''));
    await services.start({
      command: this.#product.hvdr(
        ...['daemon', '--config', configuration, '--state-dir', this.#file('state'), '--json'],
      ),
      port: 'none',
      isCounted: true,
      onLine: (line) => {
        this.#note(line);
      },
    });
    const deadline = this.#clock.monotonic() + SEEDED_WITHIN_MS;
    const isReady = (): boolean =>
      this.#moments.size === this.#options.vmCount &&
      [...this.#moments.values()].every((moments) => moments.length >= 2);
    while (!isReady()) {
      if (this.#clock.monotonic() > deadline) {
        throw new DrError('E_TOOL_FAILED', 'some VM of the fleet has no two points yet');
      }
      await this.#clock.sleep(LOOK_EVERY_MS);
    }
  }

  /** A line of `hvdr daemon --json`. */
  #note(line: string): void {
    // the contract of the command
    const { event, kind, vm, consistentAt } = JSON.parse(line) as {
      event: string;
      kind?: string;
      vm?: string;
      consistentAt?: string;
    };
    if (event !== 'cycle' || vm === undefined) return;
    if (consistentAt === undefined) {
      if (kind === 'failed') this.#failedCount++;
      return;
    }
    const moments = this.#moments.get(vm) ?? [];
    moments.push(Date.parse(consistentAt));
    this.#moments.set(vm, moments);
  }

  /** Lets the guests write for so long, each once an interval, and looks on. */
  async watch(durationSeconds: number): Promise<FleetSight> {
    const failedBefore = this.#failedCount;
    const fromMs = this.#clock.now();
    const stop = new AbortController();
    const ages: number[] = [];
    // the first of them that fails ends both
    const sides = [this.#writeUntil(stop.signal), this.#lookUntil(stop.signal, ages)];
    for (const side of sides) side.catch(() => stop.abort());
    await this.#clock.sleep(durationSeconds * 1000, stop.signal).catch(() => undefined);
    stop.abort();
    await Promise.all(sides);
    return {
      agesSeconds: ages,
      failedCount: this.#failedCount - failedBefore,
      missedCount: this.#missedSince(fromMs),
    };
  }

  /** A pause of one and a half intervals or more is a cycle that was left out. */
  #missedSince(fromMs: number): number {
    const intervalMs = this.#options.intervalSeconds * 1000;
    let missed = 0;
    for (const moments of this.#moments.values()) {
      const times = [...moments.filter((at) => at >= fromMs - intervalMs), this.#clock.now()];
      for (const [index, at] of times.slice(1).entries()) {
        missed += Math.max(0, Math.round((at - (times[index] ?? at)) / intervalMs) - 1);
      }
    }
    return missed;
  }

  async #writeUntil(signal: AbortSignal): Promise<void> {
    const { vmCount, diskBytes, changedCells, intervalSeconds } = this.#options;
    const clock = this.#clock;
    const lab = await Lab.open(this.#file('lab'), {
      fs: nodeFileSystem,
      clock,
      random: systemRandom,
    });
    const random = new RandomBytes('fleet');
    try {
      const vms = await lab.listVms();
      assert(vms.length === vmCount, 'the lab has the VMs');
      const startedAt = clock.monotonic();
      for (let turn = 0; !signal.aborted; turn++) {
        const writes = new Map<number, Buffer>();
        while (writes.size < changedCells) {
          writes.set(random.below(diskBytes / CELL_BYTES) * CELL_BYTES, random.next(CELL_BYTES));
        }
        const vm = vms[turn % vmCount];
        assert(vm !== undefined, 'the turn is that of a VM');
        await lab.withGuestDisk(vm.id, 0, (disk) =>
          disk.writeAll([...writes].map(([offset, bytes]) => ({ offset, bytes }))),
        );
        const nextAt = startedAt + ((turn + 1) * intervalSeconds * 1000) / vmCount;
        await clock.sleep(Math.max(0, nextAt - clock.monotonic()), signal).catch(() => undefined);
      }
    } finally {
      await lab.close();
    }
  }

  async #lookUntil(signal: AbortSignal, ages: number[]): Promise<void> {
    const clock = this.#clock;
    const log = await openLog({ destination: { write: () => undefined }, level: 'error', clock });
    const place = { fs: nodeFileSystem, environment: process.env };
    const key = await loadKey(this.#file('viewer.psk'), place);
    const target = { host: LOOPBACK, port: this.#port };
    const connection = await connect({ ...target, key, clock, random: systemRandom, log });
    try {
      const control = connection.client(controlService);
      while (!signal.aborted) {
        const { protections, nowMs } = await control.status({ vm: '' });
        for (const { newest } of protections) {
          assert(newest !== undefined, 'every VM has a point');
          ages.push(Math.max(0, Number(nowMs - newest.consistentAtMs)) / 1000);
        }
        await clock.sleep(LOOK_EVERY_MS, signal).catch(() => undefined);
      }
    } finally {
      await connection.close();
    }
  }

  /** @throws DrError E_TOOL_FAILED unless the newest point of a few VMs reads back */
  async expectSoundPoints(): Promise<void> {
    for (const index of [0, this.#options.vmCount - 1]) {
      const store = this.#file('store');
      await perform(
        this.#product.hvdr('verify', nameOf(index), '--store', store, '--point', 'latest'),
      );
    }
  }
}

function nameOf(index: number): string {
  return `vm${String(index + 1).padStart(2, '0')}`;
}
