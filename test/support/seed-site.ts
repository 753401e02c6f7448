// A site for tests of seeds: a VM with data on two disks, copies of them at the DR site, and a look at how
// much of a cycle is staged.

import { cpSync, existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { systemClock } from '../../shared/clock.js';
import type { CliRun } from './cli.js';
import { Site } from './site.js';

export const SEED_VM = 'SQL01';

export interface Identity {
  readonly vmId: string;
  readonly disks: readonly { readonly id: string; readonly file: string }[];
}

export class SeedSite extends Site {
  at(...names: string[]): string {
    return join(this.folder, ...names);
  }

  /** How a command names the VM at its source. */
  source(): string[] {
    return ['--vm', SEED_VM, '--host', 'lab:lab', '--state-dir', 'state'];
  }

  async write(disk: number, count: number, seed: number): Promise<void> {
    await this.hvdr(
      ...['lab', 'write', 'lab', SEED_VM, '--disk', String(disk), '--random', String(count)],
      ...['--block', '64K', '--seed', String(seed)],
    );
  }

  /** A VM with two disks that hold data, and what it is called. */
  async makeVm(): Promise<Identity> {
    await this.hvdr('lab', 'create-vm', 'lab', SEED_VM, '--disk', '32M', '--disk', '8M');
    await this.write(0, 200, 1);
    await this.write(1, 60, 2);
    return this.identity();
  }

  async identity(): Promise<Identity> {
    const run = await this.hvdr('seed', '--vm', SEED_VM, '--host', 'lab:lab', '--json');
    // the contract of `hvdr seed --json`
    return JSON.parse(run.stdout.toString()) as Identity;
  }

  /** Copies the disk files as they are now to the DR site. */
  copyDisks({ disks }: Identity): void {
    for (const [index, { file }] of disks.entries())
      cpSync(file, this.at('seeds', `${index}.vhdx`));
  }

  async expectGuest(point: string, diskCount: number): Promise<void> {
    const guest = await this.guestHashes(SEED_VM, diskCount);
    expect(await this.pointHashes(SEED_VM, point, diskCount)).to.deep.equal(guest);
  }

  /** Bytes of cells that the last record of each progress file tells, by cycle. */
  #toldBytes(vmId: string): number[] {
    const cycles = this.at('store', 'vms', vmId, 'cycles');
    if (!existsSync(cycles)) return [];
    return readdirSync(cycles).flatMap((id) => {
      const file = join(cycles, id, 'progress');
      if (!existsSync(file)) return [];
      const bytes = readFileSync(file);
      const at = bytes.lastIndexOf('PROG');
      return at < 64 ? [] : [Number(bytes.readBigUInt64LE(at + 24))];
    });
  }

  stagedBytes(vmId: string): number {
    return Math.max(0, ...this.#toldBytes(vmId));
  }

  untilStaged(vmId: string, bytes: number): Promise<void> {
    return until(() => this.stagedBytes(vmId) >= bytes);
  }

  /** Until a cycle beside the seed, which is the larger one, has come so far. */
  untilCycle(vmId: string, bytes: number): Promise<void> {
    return until(() => {
      const told = this.#toldBytes(vmId);
      return told.length > 1 && Math.min(...told) >= bytes;
    });
  }
}

export async function until(isTrue: () => boolean): Promise<void> {
  while (!isTrue()) await systemClock.sleep(2);
}

export function expectRefused(run: CliRun, exitCode: number, code: string): void {
  expect(run.stderr).to.match(new RegExp(`^${code}: `, 'm'));
  expect(run.code, run.stderr).to.equal(exitCode);
}
