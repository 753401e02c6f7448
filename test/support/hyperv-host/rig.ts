// The provider on the fake host: what the conformance run and the tests of troubles share.

import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import type { Guid } from '../../../shared/bytes/index.js';
import { systemClock, systemRandom, type Clock } from '../../../shared/clock.js';
import { nodeFileSystem } from '../../../shared/files/index.js';
import { HyperV, NativeVirtualDisks } from '../../../shared/hypervisor/hyperv/index.js';
import type { VirtualDisks } from '../../../shared/hypervisor/hyperv/native/index.js';
import { PowerShellHost } from '../../../shared/hypervisor/hyperv/powershell/host.js';
import type { OperationRunner } from '../../../shared/hypervisor/hyperv/powershell/operation.js';
import { createVhdx, openVhdx } from '../../../shared/vhdx/index.js';
import { buildLinuxDouble } from '../virtdisk-rig.js';
import { WorkFolder } from '../work-folder.js';
import { FakeHyperVHost } from './host.js';
import { HostService } from './service.js';

const FAKE_POWERSHELL = fileURLToPath(new URL('../fake-powershell.js', import.meta.url));

/** The waits of the provider are for a vmms that takes its time; each is a look at this one. */
class HastyClock implements Clock {
  readonly #behindMs: number;
  #skippedMs = 0;

  constructor(behindMs: number) {
    this.#behindMs = behindMs;
  }

  now(): number {
    return systemClock.now() - this.#behindMs;
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

/** How the provider comes to the fake host: at the seam, or by a PowerShell process of its own. */
export type Way = 'in-process' | 'powershell';

/** Names the double as a DLL, where tests run in Node for Windows and cannot compile it. */
export const DOUBLE_VARIABLE = 'HVDR_VIRTDISK_DOUBLE';

/** Compiles the double to `output`, unless it is given; returns its path, and makes sure that it is what answers. */
export async function buildDouble(output: string): Promise<string> {
  const double = process.env[DOUBLE_VARIABLE] ?? output;
  if (double === output) await buildLinuxDouble(output);
  // else our own engine would read the disks, and vmms would be asked for what changed
  const capabilities = await nativeDisks(double).capabilities();
  expect(capabilities).to.include({ canRead: true, canQueryChanges: true });
  return double;
}

const nativeDisks = (double: string): NativeVirtualDisks =>
  new NativeVirtualDisks({ libraries: { virtdisk: double, kernel: double } });

export interface OpenOptions {
  readonly runner?: OperationRunner;
  readonly virtualDisks?: VirtualDisks;
  /** Of another node. */
  readonly stateFolder?: string;
  /** As if whatever it asks for came so much later. */
  readonly behindMs?: number;
}

export class HyperVRig {
  readonly work: WorkFolder;
  readonly fake: FakeHyperVHost;
  readonly #double: string;
  readonly #service: HostService | undefined;
  readonly #runners: OperationRunner[] = [];
  #diskFiles = 0;

  private constructor(
    work: WorkFolder,
    fake: FakeHyperVHost,
    double: string,
    service: HostService | undefined,
  ) {
    this.work = work;
    this.fake = fake;
    this.#double = double;
    this.#service = service;
  }

  static async create(double: string, way: Way = 'in-process'): Promise<HyperVRig> {
    const work = new WorkFolder('hyperv');
    const fake = await FakeHyperVHost.create(work.file('host'));
    const service = way === 'powershell' ? await HostService.start(fake) : undefined;
    return new HyperVRig(work, fake, double, service);
  }

  #runner(): OperationRunner {
    if (this.#service === undefined) return this.fake.runner();
    const args = [FAKE_POWERSHELL, String(this.#service.port)];
    // Windows has no sockets without it
    const systemRoot = process.env['SystemRoot'];
    const environment = systemRoot === undefined ? {} : { SystemRoot: systemRoot };
    const program = { program: process.execPath, args, environment };
    return new PowerShellHost({ program, clock: systemClock, pauseMs: 10 });
  }

  /** A provider as another process of ours would have one. */
  open({ runner, virtualDisks, stateFolder, behindMs = 0 }: OpenOptions = {}): HyperV {
    const own = runner ?? this.#runner();
    this.#runners.push(own);
    return new HyperV({
      ...{ fs: nodeFileSystem, random: systemRandom, clock: new HastyClock(behindMs) },
      runner: own,
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
    this.#diskFiles += 1;
    const file = join(folder, `disk-${this.#diskFiles}.vhdx`);
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
    for (const runner of this.#runners) await runner.close();
    await this.#service?.stop();
    await this.fake.lab.close();
    const complaints = [...this.fake.complaints(), ...(this.#service?.mistakes ?? [])];
    this.work.dispose();
    expect(complaints).to.deep.equal([]);
  }
}
