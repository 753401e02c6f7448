// The provider on the fake host: what the conformance run and the tests of troubles share.

import { join } from 'node:path';
import { expect } from 'chai';
import type { Guid } from '../../../shared/bytes/index.js';
import { systemClock, systemRandom, type Clock } from '../../../shared/clock.js';
import { nodeFileSystem } from '../../../shared/files/index.js';
import { HyperV, NativeVirtualDisks } from '../../../shared/hypervisor/hyperv/index.js';
import type { VirtualDisks } from '../../../shared/hypervisor/hyperv/native/index.js';
import type { OperationRunner } from '../../../shared/hypervisor/hyperv/powershell/operation.js';
import { createVhdx, openVhdx } from '../../../shared/vhdx/index.js';
import { buildLinuxDouble } from '../virtdisk-rig.js';
import { WorkFolder } from '../work-folder.js';
import { FakeHyperVHost } from './host.js';

/** The waits of the provider are for a vmms that takes its time; each is a look at this one. */
class HastyClock implements Clock {
  #skippedMs = 0;

  now(): number {
    return systemClock.now();
  }

  monotonic(): number {
    return systemClock.monotonic() + this.#skippedMs;
  }

  async sleep(durationMs: number): Promise<void> {
    const realMs = Math.min(durationMs, 10);
    await systemClock.sleep(realMs);
    this.#skippedMs += durationMs - realMs;
  }
}

/** Compiles the double, and makes sure that it is what answers. */
export async function buildDouble(output: string): Promise<void> {
  await buildLinuxDouble(output);
  // else our own engine would read the disks, and vmms would be asked for what changed
  const capabilities = await nativeDisks(output).capabilities();
  expect(capabilities).to.include({ canRead: true, canQueryChanges: true });
}

const nativeDisks = (double: string): NativeVirtualDisks =>
  new NativeVirtualDisks({ libraries: { virtdisk: double, kernel: double } });

export interface OpenOptions {
  readonly runner?: OperationRunner;
  readonly virtualDisks?: VirtualDisks;
  /** Of another node. */
  readonly stateFolder?: string;
}

export class HyperVRig {
  readonly work: WorkFolder;
  readonly fake: FakeHyperVHost;
  readonly #double: string;

  private constructor(work: WorkFolder, fake: FakeHyperVHost, double: string) {
    this.work = work;
    this.fake = fake;
    this.#double = double;
  }

  static async create(double: string): Promise<HyperVRig> {
    const work = new WorkFolder('hyperv');
    return new HyperVRig(work, await FakeHyperVHost.create(work.file('host')), double);
  }

  /** A provider as another process of ours would have one. */
  open({ runner, virtualDisks, stateFolder }: OpenOptions = {}): HyperV {
    return new HyperV({
      ...{ fs: nodeFileSystem, random: systemRandom, clock: new HastyClock() },
      runner: runner ?? this.fake.runner(),
      virtualDisks: virtualDisks ?? nativeDisks(this.#double),
      stateFolder: stateFolder ?? this.work.file('state'),
    });
  }

  nativeDisks(): NativeVirtualDisks {
    return nativeDisks(this.#double);
  }

  makeVm(name: string, diskSizes: readonly number[]): Promise<Guid> {
    return this.fake.lab.createVm({
      name,
      disks: diskSizes.map((sizeBytes) => ({ source: { sizeBytes } })),
      adapters: [{ switchName: 'production' }],
    });
  }

  async makeDiskFile(sizeBytes: number, bytes: Uint8Array): Promise<string> {
    const seams = { fs: nodeFileSystem, random: systemRandom };
    const folder = this.work.file('ready');
    await nodeFileSystem.makeFolder(folder);
    const file = join(folder, 'disk.vhdx');
    await createVhdx(file, { type: 'dynamic', sizeBytes }, seams);
    const disk = await openVhdx(file, { ...seams, isWritable: true });
    await disk.write(0, bytes);
    await disk.close();
    return file;
  }

  async makeChildFile(parentPath: string): Promise<string> {
    const file = parentPath.replace(/\.vhdx$/, '.child.vhdx');
    const seams = { fs: nodeFileSystem, random: systemRandom };
    await createVhdx(file, { type: 'differencing', parentPath }, seams);
    return file;
  }

  /** Fails when a handle was left open, or the double was called in a way that Windows refuses. */
  async dispose(): Promise<void> {
    await this.fake.lab.close();
    const complaints = this.fake.complaints();
    this.work.dispose();
    expect(complaints).to.deep.equal([]);
  }
}
