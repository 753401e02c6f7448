// Failback in trouble, step by step: what is refused before it begins, where it stays, how it is taken back.
// Never do two VMs run by us, and never is a guest's byte lost that nobody gave up.

import { expect } from 'chai';
import type { Guid } from '../../../../shared/bytes/index.js';
import { CELL_BYTES } from '../../../../shared/delta/index.js';
import { DrError } from '../../../../shared/errors.js';
import { failoverWords } from '../../../../dr-receiver/failover/health-words.js';
import type { FailoverRecord } from '../../../../dr-receiver/failover/model.js';
import { requireHost } from '../../../../dr-receiver/failover/site.js';
import { appendFailover } from '../../../../dr-receiver/failover/failover-book.js';
import { refusal } from '../../../support/refusal.js';
import { readPoint } from '../source-double.js';
import { FailoverBench, failoverVolume, type FailoverVolume } from './failover-double.js';
import { failedOver, type Primary, writeHere } from './primary-double.js';

const GONE = new DrError('E_SOURCE_UNREACHABLE', 'it is gone');

describe('failback in trouble', function () {
  this.timeout(60_000);
  let made: FailoverVolume;
  let bench: FailoverBench;
  let primary: Primary;
  let views: readonly Buffer[];

  beforeEach(async () => {
    made = await failoverVolume();
    bench = await FailoverBench.open(made.volume);
    primary = await failedOver(bench, made.source);
    views = await bench.guest('VM1');
  });

  afterEach(async () => {
    await bench.close();
  });

  const record = async (): Promise<FailoverRecord> => (await bench.desk()).vm.protection.failover;
  const powerHere = async (): Promise<string | undefined> =>
    (await bench.lab.listVms())[0]?.powerState;
  const epoch = async (): Promise<bigint> => (await bench.desk()).vm.protection.epoch;
  const standsAt = async (step: string): Promise<void> => {
    const { phase, operation } = await record();
    expect([phase, operation?.step]).to.deep.equal(['failing-back', step]);
  };
  const fails = async (
    command: string,
    parameters: Readonly<Record<string, string>> = {},
  ): Promise<string> => (await refusal(() => bench.operate(command, parameters))).code;
  /** The VM serves here with all that it had, and only here. */
  const expectServing = async ({ source } = { source: 'off' }): Promise<void> => {
    const { phase, operation, activeSite, instance } = await record();
    expect({ phase, operation, activeSite, served: instance?.servedUntilMs }).to.deep.equal({
      phase: 'failed-over',
      operation: undefined,
      activeSite: 'target',
      served: 0,
    });
    expect([await powerHere(), primary.powerState]).to.deep.equal(['running', source]);
    const found = await bench.guest('VM1');
    for (const [disk, view] of views.entries()) {
      expect(found[disk]?.equals(view), `disk ${disk}`).to.equal(true);
    }
    const { id } = await bench.lab.findVm('VM1');
    expect(await bench.lab.listReferencePoints(id)).to.deep.equal([]);
    expect(await bench.lab.listCheckpoints(id)).to.deep.equal([]);
    expect(bench.site.receiver.servingRounds.size).to.equal(0);
  };

  describe('before it begins', () => {
    it('the agent of the primary has to be attached', async () => {
      bench.site.receiver.sources.find = () => undefined;
      expect(await fails('failback')).to.equal('E_SOURCE_UNREACHABLE');
      await expectServing();
    });

    it('the primary has to allow it, and its VM has to be off', async () => {
      primary.allowed = ['shutdown', 'start'];
      expect(await fails('failback')).to.equal('E_REMOTE_ACTION');
      primary.allowed = ['failback'];
      primary.powerState = 'running';
      expect(await fails('failback')).to.equal('E_SOURCE_ALIVE');
    });

    it('it is the original VM that goes home', async () => {
      expect(await fails('failback', { failback_to: 'new:/srv/vms' })).to.equal('E_PARAMETER');
      await expectServing();
    });

    it('the disks of the point that serves and of the newest one have to be the same', async () => {
      await bench.operate('undo');
      const { source, plans } = made;
      const disk = source.disks[1];
      if (disk === undefined) throw new Error('there are two disks');
      disk.bytes = Buffer.concat([disk.bytes, Buffer.alloc(CELL_BYTES)]);
      disk.generation = 1;
      const more = { epoch: await epoch() };
      const grown = source.plan(7, plans[2]?.pointId, [[], undefined], more);
      await source.replicate(bench.site, grown);
      await bench.operate('unplanned', { point: plans[2]?.pointId ?? '' });
      expect(await fails('failback')).to.equal('E_DISK_MISMATCH');
    });

    it('the plan says how much the primary lacks, and throws nothing away', async () => {
      const { plan } = await bench.operate('failback', { stage: 'sync' });
      expect(plan?.isDestructive).to.equal(false);
      expect(plan?.notes.join()).to.match(/lacks about \d+ MiB.*every disk is compared/);
    });

    it('no source may send a return point', async () => {
      const plan = made.source.plan(7, made.plans[2]?.pointId, [[], []], { kind: 'failback' });
      const failure = await refusal(() => made.source.open(bench.site, plan));
      expect(failure.code).to.equal('E_PROTOCOL');
    });
  });

  describe('F1', () => {
    it('a disk that was resized where it serves is refused, and the VM serves on', async () => {
      const { id } = await bench.lab.findVm('VM1');
      // the lab refuses it; a hypervisor may let people do it
      const refused = await refusal(() => bench.lab.resizeDisk(id, 0, 16 * CELL_BYTES));
      expect(refused.code).to.equal('E_HYPERVISOR');
      const host = requireHost(bench.site.receiver.failovers.site);
      const open = host.openCheckpointDisk.bind(host);
      host.openCheckpointDisk = async (...args) => {
        const disk = await open(...args);
        const sizeBytes = disk.sizeBytes + CELL_BYTES;
        return Object.defineProperty(disk, 'sizeBytes', { value: sizeBytes });
      };
      const failure = await refusal(() => bench.operate('failback'));
      expect(failure.code).to.equal('E_DISK_MISMATCH');
      expect(`${failure.message} ${failure.hint}`)
        .to.include('bytes where it serves')
        .and.include('permanent');
      host.openCheckpointDisk = open;
      await standsAt('F1');
      expect(primary.rounds).to.deep.equal([]);
    });

    it('an agent that goes away leaves the VM serving; resume goes on', async () => {
      primary.failures.set('failbackSync', GONE);
      expect(await fails('failback')).to.equal('E_SOURCE_UNREACHABLE');
      await standsAt('F1');
      expect(await powerHere()).to.equal('running');
      primary.failures.clear();
      expect((await bench.operate('resume')).done?.state).to.equal('FAILED_BACK');
    });

    it('a failback is taken back as if it had not been, the epoch included', async () => {
      primary.failures.set('failbackSync last', GONE);
      await bench.operate('failback', { stage: 'sync' });
      const before = await epoch();
      const run = await bench.operate('abort');
      expect(run.done?.state).to.equal('FAILED_OVER');
      expect(run.plan?.isDestructive).to.equal(false);
      expect(await epoch()).to.equal(before);
      expect(primary.calls.at(-1)).to.equal('failbackUndo');
      await expectServing();
    });

    it('an abort ends a round that is under way', async () => {
      let begun: () => void = () => undefined;
      const inRound = new Promise<void>((resolve) => {
        begun = resolve;
      });
      primary.onRound = () => {
        begun();
        return new Promise(() => undefined);
      };
      const failing = refusal(() => bench.operate('failback'));
      await inRound;
      expect(await fails('failback', { stage: 'sync' })).to.equal('E_LOCKED');
      await bench.operate('abort');
      expect((await failing).code).to.equal('E_LOCKED');
      await expectServing();
    });

    it('a source that cannot be told of the abort is told when it comes back', async () => {
      await bench.operate('failback', { stage: 'sync' });
      bench.site.receiver.sources.find = () => undefined;
      await bench.operate('abort');
      expect((await record()).owed.map(({ kind }) => kind)).to.deep.equal(['dropFailback']);
      bench.site.receiver.sources.find = () => primary;
      await bench.site.receiver.failovers.tick();
      expect(primary.views).to.equal(primary.disks);
      expect((await record()).owed).to.deep.equal([]);
      await expectServing();
    });

    it('what an earlier failback left at the primary goes before a new one begins', async () => {
      await bench.operate('failback', { stage: 'sync' });
      primary.failures.set('failbackUndo', GONE);
      await bench.operate('abort');
      primary.failures.clear();
      primary.calls.length = 0;
      await bench.operate('failback', { stage: 'sync' });
      expect(primary.calls.slice(0, 2)).to.deep.equal(['failbackUndo', 'failbackSync']);
      expect((await record()).owed).to.deep.equal([]);
    });

    it('without a reference point the guest is not left on a checkpoint', async () => {
      await bench.lab.setFault('convert-fails');
      expect(await fails('failback')).to.equal('E_CHECKPOINT');
      const { id } = await bench.lab.findVm('VM1');
      expect(await bench.lab.listCheckpoints(id)).to.deep.equal([]);
      await bench.lab.clearFault('convert-fails');
      expect((await bench.operate('resume')).done?.state).to.equal('FAILED_BACK');
    });

    it('where nobody knows what changed since the round before, all is compared', async () => {
      await bench.operate('failback', { stage: 'sync', compare: 'changed' });
      const { id } = await bench.lab.findVm('VM1');
      for (const each of await bench.lab.listReferencePoints(id)) {
        await bench.lab.removeReferencePoint(id, each.id);
      }
      await bench.operate('failback', { stage: 'sync' });
      expect(primary.rounds.map(({ compare }) => compare)).to.deep.equal(['changed', 'full']);
    });

    it('a checkpoint that was applied here since the round before: that is no round to go on from', async () => {
      const { id } = await bench.lab.findVm('VM1');
      await bench.lab.addUserCheckpoint(id, 'before');
      await writeHere(bench, 2);
      await bench.operate('failback', { stage: 'sync', compare: 'changed' });
      await bench.lab.turnOffVm(id);
      await bench.lab.applyUserCheckpoint(id, 'before');
      await bench.lab.startVm(id);
      await bench.operate('failback', { stage: 'sync' });
      expect(primary.rounds.map(({ compare }) => compare)).to.deep.equal(['changed', 'full']);
    });
  });

  describe('F2', () => {
    it('a guest that does not stop serves on; with force_off it is turned off', async () => {
      await bench.lab.setFault('shutdown-ignored');
      expect(await fails('failback', { shutdown_timeout: '1' })).to.equal('E_SHUTDOWN_TIMEOUT');
      await standsAt('F2');
      expect(await powerHere()).to.equal('running');
      await bench.operate('abort');
      await expectServing();
      await bench.operate('failback', { shutdown_timeout: '1', force_off: 'yes' });
      expect(primary.powerState).to.equal('running');
    });

    it('a primary that differs is not started; resume compares every disk', async () => {
      primary.onRound = ({ isLast }) => {
        if (!isLast) primary.views[0]?.fill(7, 0, 16);
        return Promise.resolve();
      };
      expect(await fails('failback', { compare: 'changed' })).to.equal('E_DIFFERENT');
      await standsAt('F2');
      expect([await powerHere(), primary.powerState]).to.deep.equal(['off', 'off']);
      const run = await bench.operate('resume');
      expect(run.done?.state).to.equal('FAILED_BACK');
      expect(primary.rounds.at(-1)?.compare).to.equal('full');
      expect(primary.views[0]?.equals(views[0] ?? Buffer.alloc(0))).to.equal(true);
    });

    it('it is too late to let the VM serve here: that is refused, and it goes on or back', async () => {
      primary.failures.set('failbackSync last', GONE);
      await fails('failback');
      await standsAt('F2');
      expect(await fails('failback', { stage: 'sync' })).to.equal('E_STATE');
      expect((await record()).operation?.parameters).to.not.include({ stage: 'sync' });
      primary.failures.clear();
      expect((await bench.operate('resume')).done?.state).to.equal('FAILED_BACK');
    });

    it('taken back, the VM starts here again', async () => {
      primary.failures.set('failbackSync last', GONE);
      await fails('failback');
      await standsAt('F2');
      const before = await epoch();
      await bench.operate('abort');
      expect(await epoch()).to.equal(before);
      await expectServing();
    });
  });

  describe('F3', () => {
    beforeEach(async () => {
      primary.failures.set('tellEpoch', GONE);
      expect(await fails('failback')).to.equal('E_SOURCE_UNREACHABLE');
      await standsAt('F3');
      primary.failures.clear();
    });

    it('goes on when the source is there again', async () => {
      expect((await bench.operate('resume')).done?.state).to.equal('FAILED_BACK');
    });

    it('taken back, this site is the active one under another epoch', async () => {
      const before = await epoch();
      await bench.operate('undo');
      expect(await epoch()).to.equal(before + 1n);
      expect([primary.epoch, primary.isActive]).to.deep.equal([before + 1n, false]);
      await expectServing();
    });

    it('a source that is gone was never started: the VM goes on here, and it is told later', async () => {
      bench.site.receiver.sources.find = () => undefined;
      await bench.operate('abort');
      await expectServing();
      const kinds = (await record()).owed.map(({ kind }) => kind);
      expect(kinds).to.deep.equal(['dropFailback', 'fence']);
      bench.site.receiver.sources.find = () => primary;
      await bench.site.receiver.failovers.tick();
      expect([primary.isActive, primary.isFenced]).to.deep.equal([false, true]);
      expect((await record()).owed).to.deep.equal([]);
    });
  });

  describe('F4', () => {
    it('a VM that does not start at the primary is brought back', async () => {
      primary.failures.set('failbackStart', new DrError('E_HYPERVISOR', 'it did not start'));
      expect(await fails('failback')).to.equal('E_HYPERVISOR');
      await standsAt('F4');
      const run = await bench.operate('abort');
      // what it wrote until it was turned off, if it ran at all
      expect(run.plan?.isDestructive).to.equal(true);
      await expectServing();
    });

    it('a source that may have started the VM has to say that it is off', async () => {
      primary.failures.set('failbackStart', GONE);
      await fails('failback');
      primary.powerState = 'running';
      bench.site.receiver.sources.find = () => undefined;
      expect(await fails('abort')).to.equal('E_SOURCE_UNREACHABLE');
      await standsAt('B1');
      expect(await powerHere()).to.equal('off');
      expect(await fails('undo', { force: 'yes' })).to.equal('E_PARAMETER');
      bench.site.receiver.sources.find = () => primary;
      await bench.operate('resume');
      await expectServing();
    });

    it('by force it goes on here, and a primary that runs is a split brain', async () => {
      primary.failures.set('failbackStart', GONE);
      await fails('failback');
      primary.powerState = 'running';
      bench.site.receiver.sources.find = () => undefined;
      await fails('abort');
      const run = await bench.operate('undo', { force: 'yes', reason: 'the rack burnt' });
      expect(run.plan?.isDestructive).to.equal(true);
      expect(run.done?.state).to.equal('FAILED_OVER');
      expect(await powerHere()).to.equal('running');
      bench.site.receiver.sources.find = () => primary;
      await bench.site.receiver.failovers.tick();
      expect(await bench.phase()).to.equal('split-brain');
      // nobody turned it off for that
      expect(primary.powerState).to.equal('running');
    });

    it('force does not go on against a primary that says it runs', async () => {
      primary.failures.set('failbackStart', GONE);
      await fails('failback');
      primary.powerState = 'running';
      primary.failures.set('failbackUndo', new DrError('E_HYPERVISOR', 'it cannot be turned off'));
      expect(await fails('abort')).to.equal('E_HYPERVISOR');
      const force = { force: 'yes', reason: 'in a hurry' };
      expect(await fails('undo', force)).to.equal('E_HYPERVISOR');
      expect([await powerHere(), primary.powerState]).to.deep.equal(['off', 'running']);
      primary.failures.clear();
      await bench.operate('resume');
      await expectServing();
    });

    it('is refused when somebody started the VM here meanwhile', async () => {
      primary.failures.set('tellEpoch', GONE);
      await fails('failback');
      primary.failures.clear();
      const { id } = await bench.lab.findVm('VM1');
      await bench.lab.unfenceVm(id);
      await bench.lab.startVm(id);
      expect(await fails('resume')).to.equal('E_STATE');
      expect(primary.powerState).to.equal('off');
    });

    /** As fails(), while time passes. */
    const failsInTime = async (parameters: Readonly<Record<string, string>>): Promise<string> => {
      let code: string | undefined;
      const failing = fails('failback', parameters).then((found) => {
        code = found;
      });
      while (code === undefined) {
        await bench.site.clock.advance(1000);
        await new Promise((resolve) => setImmediate(resolve));
      }
      await failing;
      return code;
    };

    it('a guest that gives no sign of life is told, and the failback stands', async () => {
      primary.heartbeat = 'absent';
      expect(await failsInTime({ boot_timeout: '1' })).to.equal('E_HYPERVISOR');
      expect(await bench.phase()).to.equal('failed-back');
      expect(await fails('permanent')).to.equal('E_STATE');
      expect(await bench.phase()).to.equal('failed-back');
      const force = { force: 'yes', reason: 'it has no integration services' };
      expect((await bench.operate('permanent', force)).done?.state).to.equal('PROTECTED');
    });

    it('with a rollback policy it comes back by itself', async () => {
      primary.heartbeat = 'absent';
      const given = { boot_timeout: '1', commit_policy: 'rollback' };
      expect(await failsInTime(given)).to.equal('E_HYPERVISOR');
      await expectServing();
    });
  });

  describe('when it is done', () => {
    beforeEach(async () => {
      await bench.operate('failback');
    });

    it('undone, nothing that the primary wrote can be kept, and nobody is left to think so', async () => {
      expect(await fails('undo', { keep_disk: 'mine' })).to.equal('E_PARAMETER');
      expect(await bench.phase()).to.equal('failed-back');
    });

    it('F6: wants the primary to answer', async () => {
      bench.site.receiver.sources.find = () => undefined;
      expect(await fails('permanent')).to.equal('E_SOURCE_UNREACHABLE');
      expect(await bench.phase()).to.equal('failed-back');
    });

    it('F7: when the point cannot be written the failback stays provisional', async () => {
      await bench.lab.setFault('checkpoint-fails');
      expect(await fails('permanent')).to.equal('E_CHECKPOINT');
      expect(await bench.phase()).to.equal('failed-back');
      await bench.lab.clearFault('checkpoint-fails');
      await bench.operate('undo');
      await expectServing();
    });

    describe('F7: a VM that somebody changed here since', () => {
      const force = { force: 'yes', reason: 'what is here is not missed' };
      const listed = async (): Promise<number> => (await bench.desk()).vm.protection.listed.length;

      const startByHand = async (): Promise<Guid> => {
        const { id } = await bench.lab.findVm('VM1');
        await bench.lab.unfenceVm(id);
        await bench.lab.startVm(id);
        return id;
      };

      it('is no return point while it runs', async () => {
        const id = await startByHand();
        const before = await listed();
        expect(await fails('permanent')).to.equal('E_SPLIT_BRAIN');
        expect(await fails('permanent', force)).to.equal('E_SPLIT_BRAIN');
        expect([await bench.phase(), await listed()]).to.deep.equal(['failed-back', before]);
        // as it was: off, and with nothing written
        await bench.lab.turnOffVm(id);
        expect((await bench.operate('permanent')).done?.state).to.equal('PROTECTED');
        expect((await bench.desk()).vm.protection.isCompareDue).to.equal(false);
      });

      it('is no return point when it wrote, and an undo goes on with what it has', async () => {
        const id = await startByHand();
        await writeHere(bench, 5);
        await bench.lab.turnOffVm(id);
        views = await bench.guest('VM1');
        const before = await listed();
        expect(await fails('permanent')).to.equal('E_DIFFERENT');
        expect([await bench.phase(), await listed()]).to.deep.equal(['failed-back', before]);
        expect(primary.calls).not.to.include('failbackCommit');
        await bench.operate('undo');
        await expectServing();
      });

      it('forced, it is a point that the primary does not go on from without a comparison', async () => {
        const id = await startByHand();
        await writeHere(bench, 5);
        await bench.lab.turnOffVm(id);
        views = await bench.guest('VM1');
        expect((await bench.operate('permanent', force)).done?.state).to.equal('RESYNC');
        const { head, isCompareDue, epoch: now } = (await bench.desk()).vm.protection;
        expect(isCompareDue).to.equal(true);
        expect(primary.committed?.pointId).to.equal(head?.pointId);
        expect(primary.epoch).to.equal(now);
        for (const [disk, view] of views.entries()) {
          const found = await readPoint(bench.site, 'VM1', head?.pointId ?? '', disk);
          expect(found.equals(view), `disk ${disk}`).to.equal(true);
        }
      });

      it('is compared later on when nobody knows what it was', async () => {
        const { vm } = await bench.desk();
        const { instance } = vm.protection.failover;
        const older = instance?.disks.map((disk) => ({ ...disk, servedRoot: undefined })) ?? [];
        const failover = {
          ...(await record()),
          instance: instance && { ...instance, disks: older },
        };
        await vm.change(() =>
          appendFailover(vm, bench.site.clock, failover, vm.protection.epoch, { by: 'test' }),
        );
        expect((await bench.operate('permanent')).done?.state).to.equal('RESYNC');
        expect(vm.protection.isCompareDue).to.equal(true);
      });

      it('is no return point when a checkpoint of its user was applied', async () => {
        await bench.operate('undo');
        const { id } = await bench.lab.findVm('VM1');
        await bench.lab.addUserCheckpoint(id, 'before');
        await writeHere(bench, 3);
        await bench.operate('failback', { compare: 'changed' });
        await bench.lab.applyUserCheckpoint(id, 'before');
        expect(await fails('permanent')).to.equal('E_DIFFERENT');
        expect(await bench.phase()).to.equal('failed-back');
      });
    });

    describe('a VM that is seen running here too', () => {
      const wordsNow = async (): Promise<readonly string[]> =>
        failoverWords((await bench.desk()).vm.protection, 0).critical;

      beforeEach(async () => {
        const { id } = await bench.lab.findVm('VM1');
        await bench.site.receiver.failovers.tick();
        expect(await wordsNow()).to.deep.equal([]);
        await bench.lab.unfenceVm(id);
        await bench.lab.startVm(id);
        await bench.site.receiver.failovers.tick();
      });

      it('is critical, and is not made permanent while it runs', async () => {
        expect((await wordsNow()).join()).to.match(/running here too/);
        expect(await bench.phase()).to.equal('failed-back');
        expect(await fails('permanent')).to.equal('E_SPLIT_BRAIN');
        expect([await powerHere(), primary.powerState]).to.deep.equal(['running', 'running']);
      });

      it('stays critical when it is off again, until somebody decides for the primary', async () => {
        const { id } = await bench.lab.findVm('VM1');
        await writeHere(bench, 6);
        await bench.lab.turnOffVm(id);
        await bench.site.receiver.failovers.tick();
        expect((await wordsNow()).join()).to.match(/running here too/);
        const force = { force: 'yes', reason: 'the primary counts' };
        expect((await bench.operate('permanent', force)).done?.state).to.equal('RESYNC');
        expect(await wordsNow()).to.deep.equal([]);
      });

      it('serves on after an undo, with what it wrote', async () => {
        await writeHere(bench, 6);
        views = await bench.guest('VM1');
        await bench.operate('undo');
        await expectServing();
        expect(await wordsNow()).to.deep.equal([]);
      });
    });

    it('no timer decides between two VMs that ran', async () => {
      await bench.operate('undo');
      await bench.operate('failback', { commit_policy: 'rollback', commit_after: '3600' });
      const { id } = await bench.lab.findVm('VM1');
      await bench.lab.unfenceVm(id);
      await bench.lab.startVm(id);
      const { failovers } = bench.site.receiver;
      await failovers.tick();
      await bench.site.clock.advance(2 * 3_600_000);
      await failovers.tick();
      expect(failovers.runOf(await bench.desk())).to.equal(undefined);
      expect(await bench.phase()).to.equal('failed-back');
    });

    it('F8: stays until the source is told, and is not taken back', async () => {
      primary.failures.set('failbackCommit', GONE);
      expect(await fails('permanent')).to.equal('E_SOURCE_UNREACHABLE');
      expect(await fails('undo')).to.equal('E_LOCKED');
      expect(await fails('permanent', { force: 'yes' })).to.equal('E_PARAMETER');
      const { head } = (await bench.desk()).vm.protection;
      primary.failures.clear();
      expect((await bench.operate('resume')).done?.state).to.equal('PROTECTED');
      expect(primary.committed?.pointId).to.equal(head?.pointId);
    });

    describe('F8: a primary that is lost', () => {
      const lost = { force: 'yes', reason: 'the primary burns' };

      beforeEach(async () => {
        primary.failures.set('failbackCommit', GONE);
        await fails('permanent');
        bench.site.receiver.sources.find = () => undefined;
        expect((await bench.operate('permanent', lost)).done?.state).to.equal('PROTECTED');
      });

      const comesBack = (): void => {
        primary.failures.clear();
        primary.calls.length = 0;
        bench.site.receiver.sources.find = () => primary;
      };

      it('keeps nobody waiting, and goes on from the point when it is back', async () => {
        const { vm } = await bench.desk();
        const { head } = vm.protection;
        expect((await record()).owed.map(({ kind }) => kind)).to.deep.equal(['commitFailback']);
        expect(await bench.lab.listVms()).to.deep.equal([]);
        comesBack();
        await bench.site.receiver.failovers.onClaim(vm.vmId);
        expect(primary.committed?.pointId).to.equal(head?.pointId);
        expect((await record()).owed).to.deep.equal([]);
      });

      it('is failed over from the return point, and goes on from it before it is brought back', async () => {
        const { head } = (await bench.desk()).vm.protection;
        const run = await bench.operate('unplanned');
        expect(run.done?.state).to.equal('FAILED_OVER');
        await expectServing({ source: 'running' });
        primary.powerState = 'off';
        comesBack();
        await bench.operate('failback', { stage: 'sync' });
        const ends = primary.calls.filter((call) => call.startsWith('failback'));
        expect(ends.slice(0, 2)).to.deep.equal(['failbackCommit', 'failbackSync']);
        expect(primary.committed?.pointId).to.equal(head?.pointId);
        expect(primary.isActive).to.equal(false);
        expect((await record()).owed).to.deep.equal([]);
      });
    });

    it('F9: a VM that somebody started here is not taken away', async () => {
      const { id } = await bench.lab.findVm('VM1');
      primary.failures.set('failbackCommit', GONE);
      await fails('permanent');
      primary.failures.clear();
      await bench.lab.unfenceVm(id);
      await bench.lab.startVm(id);
      expect(await fails('resume')).to.equal('E_STATE');
      expect(await powerHere()).to.equal('running');
      await bench.lab.turnOffVm(id);
      expect((await bench.operate('resume')).done?.state).to.equal('PROTECTED');
    });
  });
});
