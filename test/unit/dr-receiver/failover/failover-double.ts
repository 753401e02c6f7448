// A receiver with a lab host beside its store, on one volume in memory: a VM with points to fail over to,
// and what an operator asks and hears.

import { defined } from '../../../../shared/assert.js';
import type { Guid } from '../../../../shared/bytes/index.js';
import type { OperationDone, OperationPlan } from '../../../../shared/channel/index.js';
import type { FileSystem } from '../../../../shared/files/index.js';
import { Lab } from '../../../../shared/hypervisor/lab/index.js';
import type { VmDesk } from '../../../../dr-receiver/ingest/vm-desk.js';
import type { FakeClock } from '../../../support/fake-clock.js';
import { labSeams } from '../../../support/lab-model.js';
import { MemoryFileSystem } from '../../../support/memory-file.js';
import {
  type CyclePlan,
  openSite,
  OPERATOR,
  type Services,
  type Site,
  SourceVm,
} from '../source-double.js';
import { CELL_BYTES } from '../../../../shared/delta/index.js';

export const TARGET_LAB = '/dr-lab';
const SIZES = [12 * CELL_BYTES, 3 * CELL_BYTES + 512];

export interface FailoverVolume {
  readonly volume: MemoryFileSystem;
  readonly source: SourceVm;
  readonly plans: readonly CyclePlan[];
}

/** Three points of one VM, and an empty lab at the DR site. */
export async function failoverVolume(): Promise<FailoverVolume> {
  const volume = new MemoryFileSystem();
  const source = new SourceVm(1, SIZES);
  for (const cell of [0, 1, 5]) source.write(0, cell, cell + 1);
  for (const cell of [0, 3]) source.write(1, cell, cell + 50);
  const site = await openSite(volume);
  const plans: CyclePlan[] = [];
  for (let n = 1; n <= 3; n++) {
    const cells = n === 1 ? [undefined, undefined] : [[n, 5], [n - 1]];
    if (n > 1) {
      source.write(0, n, 100 * n);
      source.write(0, 5, n === 3 ? 0 : 7);
      source.write(1, n - 1, 200 * n);
    }
    const plan = source.plan(n, plans.at(-1)?.pointId, cells);
    plans.push(plan);
    await source.replicate(site, plan);
  }
  await site.receiver.close();
  const lab = await Lab.create(TARGET_LAB, labSeams(volume));
  await lab.close();
  return { volume, source, plans };
}

export interface OperateRun {
  readonly plan: OperationPlan | undefined;
  readonly steps: readonly string[];
  readonly done: OperationDone | undefined;
}

/** One command for `VM1`, confirmed when that is wanted. */
export async function operateAt(
  site: Services,
  command: string,
  parameters: Readonly<Record<string, string>> = {},
): Promise<OperateRun> {
  const control = site.control(OPERATOR);
  const ask = { vm: 'VM1', command, parameters, isPlan: true, confirmedHash: '' };
  let hash = '';
  for await (const { step } of control.operate(ask)) {
    if (step?.$case === 'plan') ({ hash } = step.value);
  }
  let plan: OperationPlan | undefined;
  let done: OperationDone | undefined;
  const steps: string[] = [];
  const confirmed = { ...ask, isPlan: false, confirmedHash: hash };
  for await (const { step } of control.operate(confirmed)) {
    if (step?.$case === 'plan') plan = step.value;
    if (step?.$case === 'progress') steps.push(step.value.step);
    if (step?.$case === 'done') done = step.value;
  }
  return { plan, steps: [...new Set(steps)], done };
}

export class FailoverBench {
  readonly site: Site;
  readonly lab: Lab;

  private constructor(site: Site, lab: Lab) {
    this.site = site;
    this.lab = lab;
  }

  static async open(
    fs: FileSystem,
    options: { clock?: FakeClock; seed?: number } = {},
  ): Promise<FailoverBench> {
    const host = await Lab.open(TARGET_LAB, labSeams(fs));
    const site = await openSite(fs, { ...options, failover: { host } });
    return new FailoverBench(site, host);
  }

  async desk(): Promise<VmDesk> {
    const [desk] = await this.site.receiver.allDesks();
    return defined(desk, 'there is a VM');
  }

  async phase(): Promise<string> {
    return (await this.desk()).vm.protection.failover.phase;
  }

  /** One command, confirmed when that is wanted. */
  operate(command: string, parameters: Readonly<Record<string, string>> = {}): Promise<OperateRun> {
    return operateAt(this.site, command, parameters);
  }

  /** The guest's view of the VM of that name at the DR site. */
  async guest(name: string): Promise<Buffer[]> {
    const { id } = await this.lab.findVm(name);
    return this.view(id);
  }

  async view(vmId: Guid): Promise<Buffer[]> {
    const { disks } = await this.lab.describeVm(vmId);
    const views: Buffer[] = [];
    for (const [index, { sizeBytes }] of disks.entries()) {
      views.push(await this.lab.guestRead(vmId, index, 0, sizeBytes));
    }
    return views;
  }

  async close(): Promise<void> {
    await this.site.receiver.close();
  }
}
