// Test sessions that do not go their ordinary way: forgotten, grown too large, not to be taken away, cut off
// by a restart, in the way of a failover, kept for good.

import { expect } from 'chai';
import type { Guid } from '../../../../shared/bytes/index.js';
import type { TestSession } from '../../../../dr-receiver/failover/model.js';
import { refusal } from '../../../support/refusal.js';
import { FailoverBench, failoverVolume, type FailoverVolume } from './failover-double.js';
import { FakeSource } from './fake-source.js';

describe('test sessions', function () {
  this.timeout(60_000);
  let made: FailoverVolume;
  let bench: FailoverBench;

  beforeEach(async () => {
    made = await failoverVolume();
    bench = await FailoverBench.open(made.volume);
  });

  afterEach(async () => {
    await bench.close();
  });

  const tick = (): Promise<void> => bench.site.receiver.failovers.tick();
  const sessions = async (): Promise<TestSession[]> => [
    ...(await bench.desk()).vm.protection.tests.values(),
  ];
  const names = async (): Promise<string[]> => (await bench.lab.listVms()).map(({ name }) => name);
  const filesOf = (operationId: string): string[] =>
    made.volume.paths.filter(
      (path) => path.includes('/disks/') && path.includes(`/${operationId}.`),
    );
  const reopen = async (): Promise<void> => {
    await bench.close();
    bench = await FailoverBench.open(made.volume, { clock: bench.site.clock });
    await bench.site.receiver.failovers.resumeAll();
  };
  /** One that was kept running, with its VM. */
  const kept = async (
    parameters: Readonly<Record<string, string>> = {},
  ): Promise<{ readonly session: TestSession; readonly vmId: Guid }> => {
    await bench.operate('test', { keep: 'yes', ...parameters });
    const session = (await sessions()).at(-1);
    const vmId = session?.instance.vmId;
    if (session === undefined || vmId === undefined) throw new Error('the test was kept');
    return { session, vmId };
  };
  /** What of the VM's part of the store is nobody's, after all that may go has gone. */
  const gc = async (): Promise<string[]> => {
    const control = bench.site.control();
    await control.collectGarbage({ isPlan: false, olderThanMs: 0n });
    const { items } = await control.collectGarbage({ isPlan: true, olderThanMs: 0n });
    return items.map(({ path }) => path);
  };
  const replicate = async (): Promise<void> => {
    const { source, plans } = made;
    source.write(0, 8, 77);
    await source.replicate(bench.site, source.plan(4, plans[2]?.pointId, [[8], []]));
  };

  it('end by themselves when they were forgotten, and not before', async () => {
    await kept({ test_timeout: '60' });
    await bench.site.clock.advance(59_000);
    await tick();
    expect(await sessions()).to.have.length(1);
    await bench.site.clock.advance(2000);
    await tick();
    expect(await sessions()).to.deep.equal([]);
    expect(await names()).to.deep.equal([]);
  });

  it('end by their time although the receiver was down when it was over', async () => {
    await kept({ test_timeout: '60' });
    await bench.site.clock.advance(61_000);
    await reopen();
    await tick();
    expect(await sessions()).to.deep.equal([]);
    expect(await names()).to.deep.equal([]);
  });

  it('end when their disks grow too large; replication and other tests go on', async () => {
    const { session, vmId } = await kept();
    const { failovers } = bench.site.receiver;
    const bytes = await failovers.tests.usedBytes(await bench.desk(), session.operationId);
    const small = await kept({ test_disk_limit: String(bytes + 65_536) });
    await tick();
    expect(await sessions()).to.have.length(2);
    await bench.lab.guestWrite(vmId, 0, 0, Buffer.alloc(400_000, 3));
    await bench.lab.guestWrite(small.vmId, 0, 0, Buffer.alloc(400_000, 3));
    await bench.lab.guestWrite(small.vmId, 1, 0, Buffer.alloc(150_000, 3));
    const limit = bytes + 65_536;
    expect(
      await failovers.tests.usedBytes(await bench.desk(), small.session.operationId),
    ).to.be.above(limit);
    await tick();
    expect((await sessions()).map(({ operationId }) => operationId)).to.deep.equal([
      session.operationId,
    ]);
    expect(await names()).to.deep.equal([session.instance.vmName]);
    await replicate();
  });

  it('fail when they grow too large while they are checked', async () => {
    await bench.lab.setFault('no-heartbeat');
    const parameters = { test_disk_limit: '16K', boot_timeout: '600', checks: 'heartbeat' };
    const run = refusal(() => bench.operate('test', parameters));
    run.catch(() => undefined);
    for (let n = 0; n < 200 && (await sessions()).at(0)?.step !== 'T5'; n++) {
      await bench.site.clock.advance(1);
    }
    expect((await sessions()).at(0)?.step).to.equal('T5');
    await tick();
    expect((await run).code).to.equal('E_CAPACITY');
    expect(await sessions()).to.deep.equal([]);
    expect((await bench.desk()).vm.protection.proof?.isPassed).to.equal(false);
    await replicate();
  });

  it('stand as CLEANUP_FAILED with their cause, are tried again, and then are gone', async () => {
    const { session } = await kept();
    await bench.lab.setFault('turn-off-fails');
    const stop = { stop: session.operationId };
    expect((await refusal(() => bench.operate('test', stop))).code).to.equal('E_HYPERVISOR');
    expect((await sessions())[0]).to.include({ phase: 'cleanup-failed', step: 'T7' });
    expect((await sessions())[0]?.cause).to.include('turn-off-fails');
    await replicate();
    await tick();
    expect((await sessions())[0]?.phase).to.equal('cleanup-failed');
    await bench.lab.clearFault('turn-off-fails');
    await tick();
    expect(await sessions(), 'not at every look').to.have.length(1);
    await bench.site.clock.advance(60_000);
    await tick();
    expect(await sessions()).to.deep.equal([]);
    expect(await names()).to.deep.equal([]);
    expect(filesOf(session.operationId)).to.deep.equal([]);
  });

  it('are tried again after a restart, whose start no clean-up holds up', async () => {
    const { session } = await kept({ test_timeout: '60' });
    await bench.lab.setFault('turn-off-fails');
    await refusal(() => bench.operate('test', { stop: session.operationId }));
    await reopen();
    expect((await sessions())[0]?.phase).to.equal('cleanup-failed');
    await bench.lab.clearFault('turn-off-fails');
    await reopen();
    expect(await sessions()).to.deep.equal([]);
    expect(await names()).to.deep.equal([]);
  });

  it('are ended by force by whoever gives up what cannot be taken away', async () => {
    const { session } = await kept();
    await bench.lab.setFault('turn-off-fails');
    const stop = { stop: session.operationId };
    await refusal(() => bench.operate('test', stop));
    await bench.operate('test', { ...stop, force: 'yes', reason: 'the host is gone' });
    expect(await sessions()).to.deep.equal([]);
  });

  it('keep the protection from being forgotten while a VM of theirs may run on it', async () => {
    const { session } = await kept();
    await bench.lab.setFault('turn-off-fails');
    const stop = { stop: session.operationId, force: 'yes', reason: 'the host is gone' };
    await bench.operate('test', stop);
    const refused = await refusal(() => bench.operate('forget'));
    expect(refused.code).to.equal('E_STATE');
    expect(refused.message).to.include(session.instance.vmName);
    expect(filesOf(session.operationId)).not.to.deep.equal([]);
  });

  it('keep what was left running over a restart, with the bytes that it wrote', async () => {
    const { session, vmId } = await kept();
    await bench.lab.guestWrite(vmId, 0, 0, Buffer.alloc(512, 0xab));
    await reopen();
    expect((await sessions())[0]).to.include({ phase: 'running' });
    expect((await bench.lab.guestRead(vmId, 0, 0, 512)).every((byte) => byte === 0xab)).to.equal(
      true,
    );
    await bench.operate('test', { stop: session.operationId.slice(0, 8) });
    expect(await names()).to.deep.equal([]);
  });

  it('keep their point, however many newer ones there are', async () => {
    const { plans, source } = made;
    // the first one of a day stays anyway
    const point = plans[1]?.pointId ?? '';
    const { session } = await kept({ point });
    let parent = plans.at(-1)?.pointId;
    const listed = async (): Promise<string[]> =>
      (await bench.desk()).vm.protection.listed.map(({ pointId }) => pointId);
    const more = async (n: number): Promise<void> => {
      source.write(0, 9, n);
      const plan = source.plan(n, parent, [[9], []], { maxRestorePoints: 2 });
      await source.replicate(bench.site, plan);
      parent = plan.pointId;
    };
    for (const n of [4, 5, 6, 7]) await more(n);
    expect(await listed()).to.include(point);
    expect(await listed()).not.to.include(plans[2]?.pointId);
    const [view] = await bench.guest(session.instance.vmName);
    expect(view?.equals(plans[1]?.images[0] ?? Buffer.alloc(0))).to.equal(true);
    await bench.operate('test', { stop: session.operationId });
    await more(8);
    expect(await listed()).not.to.include(point);
  });

  it('hinder a planned failover, unless it may stop them', async () => {
    const source = new FakeSource();
    source.onFinalCycle = async () => {
      await replicate();
      return made.source.plan(4, undefined, []).pointId;
    };
    bench.site.receiver.sources.find = () => source;
    await kept();
    expect((await refusal(() => bench.operate('planned'))).message).to.include('stop_tests=yes');
    expect(await sessions()).to.have.length(1);
    const run = await bench.operate('planned', { stop_tests: 'yes' });
    expect(run.done?.state).to.equal('FAILED_OVER');
    expect(await names()).to.deep.equal(['VM1']);
  });

  it('leave nothing that gc finds, and gc leaves what is under way', async () => {
    const { session } = await kept();
    expect(await gc()).to.deep.equal([]);
    expect(filesOf(session.operationId)).to.have.length(4);
    await bench.operate('test', { stop: session.operationId });
    expect(await gc()).to.deep.equal([]);
    expect(filesOf(session.operationId)).to.deep.equal([]);
  });

  describe('that are adopted', () => {
    it('are no tests any more: their VM stands alone, and nothing of ours touches it', async () => {
      const { session, vmId } = await kept();
      await bench.lab.guestWrite(vmId, 0, 100, Buffer.alloc(5000, 9));
      await bench.lab.turnOffVm(vmId);
      const before = await bench.view(vmId);
      const run = await bench.operate('test', { adopt: session.operationId });
      expect(run.done).to.include({ instanceName: session.instance.vmName, isPassed: true });
      expect(await sessions()).to.deep.equal([]);
      expect(await bench.lab.tagOf(vmId)).to.equal(undefined);
      expect(filesOf(session.operationId)).to.deep.equal([]);
      const { disks } = await bench.lab.describeVm(vmId);
      for (const { path } of disks) expect(path).to.include(`/machines/${vmId}/`);
      const expectSame = async (): Promise<void> => {
        for (const [disk, view] of (await bench.view(vmId)).entries()) {
          expect(view.equals(before[disk] ?? Buffer.alloc(0)), `disk ${disk}`).to.equal(true);
        }
      };
      await expectSame();
      await gc();
      await bench.operate('unplanned');
      await bench.operate('undo');
      await reopen();
      await gc();
      await bench.lab.startVm(vmId);
      await expectSame();
      expect(await names()).to.deep.equal([session.instance.vmName]);
    });

    it('have to be off, and without checkpoints of a user', async () => {
      const { session, vmId } = await kept();
      const adopt = { adopt: session.operationId };
      expect((await refusal(() => bench.operate('test', adopt))).hint).to.include('shut it down');
      await bench.lab.addUserCheckpoint(vmId);
      await bench.lab.turnOffVm(vmId);
      const refused = await refusal(() => bench.operate('test', adopt));
      expect(refused.code).to.equal('E_STATE');
      expect(refused.message).to.include('checkpoints');
      expect((await sessions())[0]?.phase).to.equal('running');
    });

    it('come to that end whatever call of the hypervisor fails first', async () => {
      const { session, vmId } = await kept();
      await bench.lab.turnOffVm(vmId);
      const adopt = { adopt: session.operationId };
      const setDiskFiles = bench.lab.setDiskFiles.bind(bench.lab);
      const dropTag = bench.lab.dropTag.bind(bench.lab);
      const fail = (): Promise<never> => Promise.reject(new Error('the host went away'));
      bench.lab.setDiskFiles = fail;
      await bench.operate('test', adopt).catch(() => undefined);
      expect((await sessions())[0]?.phase).to.equal('adopting');
      expect(
        (await refusal(() => bench.operate('test', { stop: session.operationId }))).code,
      ).to.equal('E_LOCKED');
      await bench.site.clock.advance(86_400_000);
      await tick();
      bench.lab.setDiskFiles = setDiskFiles;
      bench.lab.dropTag = fail;
      await bench.operate('test', adopt).catch(() => undefined);
      bench.lab.dropTag = dropTag;
      await bench.operate('unplanned');
      expect(await names()).to.have.members(['VM1', session.instance.vmName]);
      await reopen();
      expect(await sessions()).to.deep.equal([]);
      expect(await bench.lab.tagOf(vmId)).to.equal(undefined);
    });

    it('outlive the protection that they came from', async () => {
      const { session, vmId } = await kept();
      await bench.lab.turnOffVm(vmId);
      await bench.operate('test', { adopt: session.operationId });
      const before = await bench.view(vmId);
      await bench.operate('forget');
      await bench.lab.startVm(vmId);
      for (const [disk, view] of (await bench.view(vmId)).entries()) {
        expect(view.equals(before[disk] ?? Buffer.alloc(0)), `disk ${disk}`).to.equal(true);
      }
    });

    it('have the disks of their point and no others; one that has vanished is given up by force', async () => {
      const { session, vmId } = await kept();
      await bench.lab.turnOffVm(vmId);
      const adopt = { adopt: session.operationId };
      await bench.lab.addDisk(vmId, { source: { sizeBytes: 1 << 20 } });
      expect((await refusal(() => bench.operate('test', adopt))).message).to.include('3 disks');
      expect((await sessions())[0]?.phase).to.equal('running');
      await bench.lab.removeDisk(vmId, 2);
      const dropTag = bench.lab.dropTag.bind(bench.lab);
      bench.lab.dropTag = async () => {
        await bench.lab.removeVm(vmId);
        throw new Error('the host went away');
      };
      await bench.operate('test', adopt).catch(() => undefined);
      bench.lab.dropTag = dropTag;
      expect((await refusal(() => bench.operate('test', adopt))).code).to.equal('E_STATE');
      const force = { force: 'yes', reason: 'its owner removed it' };
      await bench.operate('test', { stop: session.operationId, ...force });
      expect(await sessions()).to.deep.equal([]);
    });

    it('copy their disks again when the VM has run since a copy was broken off', async () => {
      const { session, vmId } = await kept();
      await bench.lab.turnOffVm(vmId);
      const adopt = { adopt: session.operationId };
      const { vm } = await bench.desk();
      const change = vm.change.bind(vm);
      vm.change = () => Promise.reject(new Error('the volume is full'));
      await bench.operate('test', adopt).catch(() => undefined);
      vm.change = change;
      expect((await sessions())[0]?.phase).to.equal('running');
      await bench.lab.startVm(vmId);
      await bench.lab.guestWrite(vmId, 0, 0, Buffer.alloc(512, 0xcd));
      await bench.lab.turnOffVm(vmId);
      await bench.operate('test', adopt);
      expect((await bench.lab.guestRead(vmId, 0, 0, 512)).every((byte) => byte === 0xcd)).to.equal(
        true,
      );
    });
  });
});
