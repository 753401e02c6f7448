// What the tests of whole circles have in common: VMs with two disks and two adapters that live at either of
// two lab sites, a daemon behind a line that counts, and what is compared at each station.

import { createHash } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { expect } from 'chai';
import { CELL_BYTES } from '../../shared/delta/index.js';
import { FailoverSite } from './failover-site.js';
import { expectViews } from './lab-model.js';
import { SeededRandom } from './seeded-random.js';
import { TcpProxy } from './tcp-proxy.js';

export type LabName = 'lab' | 'dr';

export interface ShownAdapter {
  readonly mac: string;
  readonly switchName?: string;
  readonly guest: { readonly addresses: readonly string[] };
}

/** The disks of a VM at the primary, as nobody may change them. */
export interface OldDisks {
  readonly paths: readonly string[];
  readonly views: readonly Buffer[];
  readonly files: readonly string[];
}

const DISKS_MIB = [24, 3] as const;
const MIB = 1024 * 1024;
/** Networks of the DR site for those of the primary. */
export const MAP = ['--network-map', 'Prod=DR-Prod,San=DR-San'];
/** What a failback may send, as a part of the cells that changed. */
const WIRE_SHARE = 1.1;
export const DISK_COUNT = DISKS_MIB.length;

export class CircleSite extends FailoverSite {
  #proxy: TcpProxy | undefined;
  #seed = 0;

  /** Two labs, a receiver, and VMs that run at the primary with something on their disks. */
  override async prepare(vms: readonly string[]): Promise<void> {
    const { site } = this;
    await site.prepare();
    await site.hvdr('lab', 'init', 'dr');
    for (const name of ['DR-Prod', 'DR-San']) await site.hvdr('lab', 'switch', 'dr', 'add', name);
    for (const [index, vm] of vms.entries()) {
      await site.hvdr(
        ...['lab', 'create-vm', 'lab', vm, '--disk', ...DISKS_MIB.map((size) => `${size}M`)],
        ...['--switch', 'Prod,San', '--ip', `10.1.0.${index + 5}/24,10.1.0.1`],
        `10.2.0.${index + 5}/24`,
      );
      await site.hvdr('lab', 'start', 'lab', vm);
      await this.live('lab', vm, 40);
    }
    await site.startReceiver();
    const target = { host: '127.0.0.1', port: site.port };
    this.#proxy = await TcpProxy.start({ target, isRecording: false });
  }

  /** Starts the daemon behind the line; each of the VMs has a point then. */
  async replicate(vms: readonly string[]): Promise<void> {
    this.startDaemon(this.#proxy?.port);
    for (const vm of vms) {
      await this.until(`a point of ${vm}`, async () => {
        const run = await this.site.try('points', vm, ...this.operator, '--json');
        return run.code === 0 && run.stdout.toString().includes('"id"');
      });
    }
  }

  /** Bytes that passed between the daemon and the receiver so far, both ways. */
  get wireBytes(): number {
    const proxy = this.#proxy;
    if (proxy === undefined) throw new Error('there is no line');
    return proxy.passedBytes('to-client') + proxy.passedBytes('to-server');
  }

  /** The guest writes `count` cells, and discards a MiB of its first disk. */
  async live(name: LabName, vm: string, count: number): Promise<void> {
    const random = new SeededRandom(++this.#seed);
    await this.inLab(name, async (lab) => {
      const { id } = await lab.findVm(vm);
      for (let n = 0; n < count; n++) {
        const disk = n % 3 === 2 ? 1 : 0;
        const cell = random.int((DISKS_MIB[disk] * MIB) / CELL_BYTES);
        await lab.guestWrite(id, disk, cell * CELL_BYTES, random.bytes(CELL_BYTES));
      }
      await lab.guestZero(id, 0, random.int(DISKS_MIB[0]) * MIB, MIB);
    });
  }

  /** A command of the operator that must succeed, and bring the VM into this state. */
  async becomes(
    state: string,
    command: readonly string[],
    vm: string,
    ...more: readonly string[]
  ): Promise<void> {
    const run = await this.run(command, vm, ...more);
    expect(run.code, `${command.join(' ')} ${vm}: ${run.stderr}`).to.equal(0);
    const last = run.stdout.toString().trim().split('\n').at(-1) ?? '';
    // the contract of --json for long runs
    expect((JSON.parse(last) as { state?: string }).state).to.equal(state);
  }

  async adaptersOf(name: LabName, vm: string): Promise<readonly ShownAdapter[]> {
    const shown = await this.site.hvdr('lab', 'show', name, vm, '--json');
    // the contract of `hvdr lab show --json`
    return (JSON.parse(shown.stdout.toString()) as { adapters: ShownAdapter[] }).adapters;
  }

  /** What the guest sees of a VM that is off at the primary, and the files that are there for it. */
  oldDisks(vm: string): Promise<OldDisks> {
    return this.inLab('lab', async (lab) => {
      const { id } = await lab.findVm(vm);
      const paths = (await lab.describeVm(id)).disks.map(({ path }) => path);
      const views = await this.views('lab', vm);
      return { paths, views, files: readdirSync(dirname(paths[0] ?? '')).sort() };
    });
  }

  /** Nothing is left of a failback that was taken back, and the VM does not start. */
  async expectAsBefore(vm: string, wanted: OldDisks): Promise<void> {
    expect(await this.powerOf('lab', vm)).to.equal('off');
    const found = await this.oldDisks(vm);
    expectViews(found.views, wanted.views, 'the old disks');
    expect(found.paths).to.deep.equal(wanted.paths);
    expect(found.files).to.deep.equal(wanted.files);
    const refused = await this.site.try('lab', 'start', 'lab', vm);
    expect(refused.code, refused.stderr).to.equal(25);
  }

  /** The VM runs here with these bytes, and not at the other site. */
  async expectServes(name: LabName, vm: string, wanted: readonly Buffer[]): Promise<void> {
    expect(await this.powerOf(name, vm), `at ${name}`).to.equal('running');
    const other = await this.powerOf(name === 'lab' ? 'dr' : 'lab', vm);
    expect(other, 'at the other site').to.be.oneOf(['off', undefined]);
    expectViews(await this.views(name, vm), wanted, `at ${name}`);
  }

  override async dispose(): Promise<void> {
    await super.dispose();
    await this.#proxy?.close();
  }
}

/** Cells with other bytes than before; those that read as zeros now cost nothing on the line. */
export function changedCells(before: readonly Buffer[], after: readonly Buffer[]): number {
  let count = 0;
  for (const [disk, bytes] of after.entries()) {
    const former = before[disk] ?? Buffer.alloc(0);
    for (let at = 0; at < bytes.length; at += CELL_BYTES) {
      const cell = bytes.subarray(at, at + CELL_BYTES);
      const isZero = cell.every((byte) => byte === 0);
      if (!isZero && !cell.equals(former.subarray(at, at + CELL_BYTES))) count++;
    }
  }
  return count;
}

export function expectLittle(sentBytes: number, cellCount: number): void {
  expect(sentBytes, `${cellCount} cells`).to.be.at.most(WIRE_SHARE * cellCount * CELL_BYTES);
}

/** As Site.pointHashes() has them. */
export function hashesOf(views: readonly Buffer[]): string[] {
  return views.map((view) => createHash('sha256').update(view).digest('hex'));
}
