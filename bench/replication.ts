// Our side of the benches that replicate: a lab VM, a receiver with a store, and `hvdr push` between
// them, all as the command line offers it.

import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { BenchContext } from './bench.js';
import { KIB } from './bench.js';
import type { Command } from './command.js';
import { CELL_BYTES } from './data.js';
import { perform } from './measure.js';
import { expectSameFile } from './peers.js';
import type { Product } from './product.js';
import { LOOPBACK, type Service, type Services } from './services.js';

const VM = 'BENCH01';
const DISK = '0';

export interface PushTarget {
  readonly host: string;
  readonly port: number;
}

/** One protected VM with its own lab, store and keys in a folder of its own. */
export class Replication {
  readonly #product: Product;
  readonly #folder: string;
  #port = 0;

  constructor({ product, folder }: BenchContext, name: string) {
    this.#product = product;
    this.#folder = join(folder, name);
  }

  get vm(): string {
    return VM;
  }

  /** Where the receiver of this round listens. */
  get target(): PushTarget {
    return { host: LOOPBACK, port: this.#port };
  }

  file(name: string): string {
    return join(this.#folder, name);
  }

  get viewerKey(): string {
    return this.file('viewer.psk');
  }

  /** A running VM whose disk holds what the image holds, and keys; in place of what was there. */
  async makeVm(image: string): Promise<void> {
    await rm(this.#folder, { recursive: true, force: true });
    await mkdir(this.#folder, { recursive: true });
    const product = this.#product;
    for (const lab of [this.#source, this.#receiverLab]) {
      await perform(product.hvdr('lab', 'init', lab));
    }
    await perform(product.hvdr('lab', 'create-vm', this.#source, VM, '--import', image));
    await perform(product.hvdr('lab', 'start', this.#source, VM));
    await perform(product.hvdr('psk', 'generate', '--out', this.#sourceKey));
    await perform(
      product.hvdr(
        ...['psk', 'generate', '--out', this.viewerKey],
        ...['--role', 'viewer', '--principal', 'bench-viewer'],
      ),
    );
  }

  /** Forgets what was replicated: the next push is a seed into an empty store. */
  async forget(): Promise<void> {
    for (const folder of [this.#store, this.#state]) {
      await rm(folder, { recursive: true, force: true });
    }
  }

  /** Starts the receiver; `target` tells its port. */
  async serve(services: Services): Promise<Service> {
    const service = await services.start({
      command: this.#product.hvdr(
        ...['receiver', '--store', this.#store, '--host', `lab:${this.#receiverLab}`],
        ...['--listen', `${LOOPBACK}:0`],
        ...['--psk-file', this.#sourceKey, '--psk-file', this.viewerKey],
      ),
      isCounted: true,
    });
    this.#port = service.port;
    return service;
  }

  /** Pushes into a receiver of its own, not measured. */
  async pushOnce(services: Services): Promise<void> {
    try {
      await this.serve(services);
      await perform(this.push());
    } finally {
      await services.stopAll();
    }
  }

  /** One cycle, a process of its own. */
  push({ host, port }: PushTarget = this.target): Command {
    return this.#product.hvdr(
      ...['push', '--vm', VM, '--host', `lab:${this.#source}`],
      ...['--dr-host', host, '--dr-port', String(port), '--psk-file', this.#sourceKey],
      ...['--state-dir', this.#state, '--json'],
    );
  }

  /** The same as settings of a configuration file, for `hvdr daemon`. */
  settings(): Readonly<Record<string, string | number>> {
    return {
      vm: VM,
      host: `lab:${this.#source}`,
      dr_host: this.target.host,
      dr_port: this.target.port,
      dr_psk_file: this.#sourceKey,
    };
  }

  daemon(configuration: string): Command {
    return this.#product.hvdr(
      ...['daemon', '--config', configuration, '--state-dir', this.#state, '--json'],
    );
  }

  /** Scattered guest writes of a cell each. */
  guestWrites(cellCount: number, seed: string): Command {
    return this.#product.hvdr(
      ...['lab', 'write', this.#source, VM, '--disk', DISK],
      ...['--random', String(cellCount), '--block', `${CELL_BYTES / KIB}K`, '--seed', seed],
    );
  }

  /** The guest's disk as a process reads it, so that the push finds it in the page cache. */
  async readSource(): Promise<void> {
    await perform(this.#product.hvdr('lab', 'read', this.#source, VM, '--disk', DISK));
  }

  /** @throws DrError E_TOOL_FAILED unless the newest point holds what the raw file holds */
  async expectReplica(expected: string): Promise<void> {
    const exported = this.file('exported.raw');
    await perform(
      this.#product.hvdr(
        ...['export', VM, '--store', this.#store, '--point', 'latest', '--disk', DISK],
        ...['--format', 'raw', '--out', exported],
      ),
    );
    await expectSameFile(expected, exported);
    await rm(exported);
  }

  /** @throws DrError E_TOOL_FAILED unless the newest point holds what the guest sees now */
  async expectReplicaOfGuest(): Promise<void> {
    const seen = this.file('seen.raw');
    await perform({
      ...this.#product.hvdr('lab', 'read', this.#source, VM, '--disk', DISK),
      output: seen,
    });
    await this.expectReplica(seen);
    await rm(seen);
  }

  get #source(): string {
    return this.file('lab');
  }

  get #receiverLab(): string {
    return this.file('receiver-lab');
  }

  get #store(): string {
    return this.file('store');
  }

  get #state(): string {
    return this.file('state');
  }

  get #sourceKey(): string {
    return this.file('source.psk');
  }
}
