// VMs that a registration left half made, when its process died after any step: who takes them away, and which ones stay.

import { existsSync } from 'node:fs';
import { expect } from 'chai';
import { unfinishedVmItems, type GarbageItem } from '../../../../cli/gc-unfinished.js';
import { guid, type Guid } from '../../../../shared/bytes/index.js';
import type { HyperV } from '../../../../shared/hypervisor/hyperv/index.js';
import type {
  Arguments,
  Operation,
  OperationRunner,
} from '../../../../shared/hypervisor/hyperv/powershell/operation.js';
import type { RegisterRequest } from '../../../../shared/hypervisor/index.js';
import { buildDouble, HyperVRig } from '../../../support/hyperv-host/rig.js';
import { refusal } from '../../../support/refusal.js';
import { WorkFolder } from '../../../support/work-folder.js';

const SIZE = 4 * 1024 * 1024;
const TAG = {
  protectionId: guid('aaaaaaaa-0000-4000-8000-000000000001'),
  operationId: guid('aaaaaaaa-0000-4000-8000-000000000002'),
};
const NAME = `hvdr unfinished ${TAG.operationId}`;

describe('a registration at Hyper-V that died half-way', function () {
  this.timeout(120_000);
  const tools = new WorkFolder('hyperv-unfinished');
  let double = '';
  let rig: HyperVRig;
  let host: HyperV;
  let request: RegisterRequest;
  let file = '';

  before(async () => {
    double = await buildDouble(tools.file('virtdisk.so'));
  });
  after(() => {
    tools.dispose();
  });
  beforeEach(async () => {
    rig = await HyperVRig.create(double);
    host = rig.open();
    file = await rig.makeDiskFile(SIZE, Buffer.from('ready'));
    const definition = await host.describeVm(await rig.makeVm('vm', [SIZE]));
    request = { definition, name: 'copy', diskPaths: [file], tag: TAG };
  });
  afterEach(() => rig.dispose());

  const collect = (isPlan = false): Promise<GarbageItem[]> => unfinishedVmItems(host, { isPlan });

  const names = async (): Promise<string[]> =>
    (await rig.fake.lab.listVms()).map(({ name }) => name).sort();

  /** True: it was over before. */
  function registerUntil(step: string, which = 1): Promise<boolean> {
    const runner = new RunnerUntil(rig.fake.runner(), step, which);
    return rig
      .open({ runner })
      .registerVm(request)
      .then(
        () => true,
        () => false,
      );
  }

  /** What is left after the disks are in place; its id. */
  async function leaveHalf(): Promise<Guid> {
    await registerUntil('adapter.add');
    const [left, second] = await host.unfinished.list();
    if (left === undefined || second !== undefined) throw new Error('there is not one half VM');
    return left.vmId;
  }

  it('leaves nothing after a clean-up, whatever step was the last one, and its disks stay', async () => {
    rig.fake.trace.length = 0;
    await host.removeVm(await host.registerVm(request));
    const steps = rig.fake.trace.filter((name) =>
      /^(machine\.(create|set|add|rename)|adapter\.add)/.test(name),
    );
    expect(steps.length).to.be.at.least(6);
    for (const step of new Set(steps)) {
      for (let which = 1; which <= steps.filter((each) => each === step).length; which++) {
        await registerUntil(step, which);
        const isWhole = step === 'machine.rename';
        expect(await names(), step).to.deep.equal(isWhole ? ['copy', 'vm'] : [NAME, 'vm']);
        const planned = await collect(true);
        expect(
          planned.map(({ isRemovable, isRemoved }) => [isRemovable, isRemoved]),
          step,
        ).to.deep.equal(isWhole ? [] : [[true, false]]);
        const [item] = await collect();
        expect([item?.isRemoved, item?.vm], step).to.deep.equal(
          isWhole ? [undefined, undefined] : [true, NAME],
        );
        const had = (await host.findTagged(TAG))?.id;
        expect(had === undefined, step).to.equal(!isWhole);
        if (had !== undefined) await host.removeVm(had);
        expect(await names(), step).to.deep.equal(['vm']);
        expect(existsSync(file), step).to.equal(true);
      }
    }
  });

  it('names the disks of what it takes away', async () => {
    await leaveHalf();
    const [item] = await collect();
    expect(item?.because).to.contain(`its disks stay: ${file}`);
  });

  it('leaves a VM that somebody has started, while it runs and after, to a clean-up and to the next registration', async () => {
    const vmId = await leaveHalf();
    // as an administrator does, who has given it an adapter
    await rig.fake.answer('machine.start', { vmId });
    const [running] = await collect();
    expect([running?.isRemoved, running?.because]).to.satisfy(
      ([isRemoved, because]: [boolean, string]) => !isRemoved && because.includes('started it'),
    );
    await host.turnOffVm(vmId);
    const [stopped] = await collect();
    expect(stopped?.isRemoved).to.equal(false);
    expect(stopped?.because).to.contain('somebody has started it');
    // where names may repeat there are two then
    await host.registerVm(request).catch(() => undefined);
    expect(await names()).to.include(NAME);
  });

  it('leaves a VM whose notes are not its own, as those of a copy, and one that has a checkpoint', async () => {
    const vmId = await leaveHalf();
    const { notes } = rig.fake.overlayOf(vmId);
    for (const foreign of [
      notes.replaceAll(vmId, guid('bbbbbbbb-0000-4000-8000-000000000001')),
      '',
    ]) {
      rig.fake.overlayOf(vmId).notes = foreign;
      const [item] = await collect();
      expect([item?.isRemoved, item?.because]).to.deep.equal([
        false,
        `its notes do not say that it is of this product; its disks stay: ${file}`,
      ]);
    }
    rig.fake.overlayOf(vmId).notes = notes;
    await rig.fake.lab.addUserCheckpoint(vmId, 'mine');
    expect((await collect())[0]?.because).to.contain('checkpoint');
    await host.registerVm(request).catch(() => undefined);
    expect(await names()).to.include(NAME);
  });

  it('is not found as the VM of its tag when somebody gives it another name', async () => {
    const vmId = await leaveHalf();
    await rig.fake.lab.renameVm(vmId, 'mine');
    expect(await host.findTagged(TAG)).to.equal(undefined);
    expect(await collect()).to.deep.equal([]);
  });

  it('is told from one that is under way, which nobody takes away', async () => {
    const seen: GarbageItem[][] = [];
    const watch = new RunnerUntil(rig.fake.runner(), 'machine.addDisk', 1, async () => {
      const [vm] = await host.unfinished.list();
      const error = await refusal(() => host.unfinished.remove(vm?.vmId ?? TAG.operationId));
      expect(error.code).to.equal('E_LOCKED');
      seen.push(await collect());
    });
    const vmId = await rig.open({ runner: watch }).registerVm(request);
    expect(
      seen.flat().map(({ isRemoved, because }) => [isRemoved, because.split(';')[0]]),
    ).to.deep.equal([[false, 'VMs are being registered now']]);
    expect((await host.findTagged(TAG))?.id).to.equal(vmId);
  });
});

/** When the step was done so many times, the process dies, or something else happens. */
class RunnerUntil implements OperationRunner {
  readonly #runner: OperationRunner;
  readonly #step: string;
  readonly #then: (() => Promise<void>) | undefined;
  #left: number;

  constructor(runner: OperationRunner, step: string, which: number, then?: () => Promise<void>) {
    this.#runner = runner;
    this.#step = step;
    this.#left = which;
    this.#then = then;
  }

  async run<A extends Arguments, R>(operation: Operation<A, R>, args: A): Promise<R> {
    if (this.#left <= 0 && this.#then === undefined) throw new Error('dead');
    const answer = await this.#runner.run(operation, args);
    if (operation.name !== this.#step || --this.#left !== 0) return answer;
    if (this.#then === undefined) throw new Error('dies');
    await this.#then();
    return answer;
  }

  close(): Promise<void> {
    return this.#runner.close();
  }
}
