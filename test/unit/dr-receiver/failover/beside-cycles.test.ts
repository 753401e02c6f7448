// Failover and what comes from a source: cycles are refused at their opening and again at their commit,
// pauses where no cycle is taken; the status says where the VM is, and its health why.

import { expect } from 'chai';
import { type FailoverRecord, ORDINARY } from '../../../../dr-receiver/failover/model.js';
import { ProtectionState, type ProtectionStatus } from '../../../../shared/channel/index.js';
import { CELL_BYTES } from '../../../../shared/delta/index.js';
import { failoverDocument, failoverLines } from '../../../../shared/operator/status-failover.js';
import { anInstance, anOperation, aTest, operationId } from '../../../support/failover-records.js';
import { MemoryFileSystem } from '../../../support/memory-file.js';
import { refusal } from '../../../support/refusal.js';
import { type CyclePlan, openSite, type Site, SourceVm } from '../source-double.js';

const BY = { by: 'ops', keyId: undefined };

describe('failover beside cycles', () => {
  let site: Site;
  let vm: SourceVm;
  let seed: CyclePlan;

  beforeEach(async () => {
    site = await openSite(new MemoryFileSystem());
    vm = new SourceVm(1, [4 * CELL_BYTES], 'SQL01');
    seed = vm.plan(1, undefined, [undefined]);
    await vm.replicate(site, seed);
  });

  async function step(failover: FailoverRecord, epoch = 1): Promise<void> {
    const store = site.receiver.desks[0]?.vm;
    if (store === undefined) throw new Error('the VM is there');
    await store.change(() =>
      store.append({ kind: 'failover', atMs: 9, epoch: epoch.toString(), failover, ...BY }),
    );
  }

  async function status(): Promise<ProtectionStatus> {
    const [only] = (await site.control().status({ vm: 'SQL01' })).protections;
    if (only === undefined) throw new Error('the VM is there');
    return only;
  }

  const failingOver = (fields: Partial<FailoverRecord['operation'] & object>): FailoverRecord => ({
    ...ORDINARY,
    phase: 'failing-over',
    operation: anOperation(fields),
  });

  it('refuses a cycle when it is opened, and names the operation', async () => {
    await step(failingOver({ kind: 'unplanned', step: 'U1' }));
    const error = await refusal(() => vm.open(site, vm.plan(2, seed.pointId, [[0]])));
    expect(error.code).to.equal('E_FAILED_OVER');
    expect(error.message).to.contain(`unplanned ${operationId(1)}, step U1`);
  });

  it('refuses the commit of a cycle that was opened before', async () => {
    vm.write(0, 1, 5);
    const plan = vm.plan(2, seed.pointId, [[1]]);
    await vm.open(site, plan);
    await vm.push(site, vm.messages(plan, []));
    await step(failingOver({ kind: 'planned', step: 'P6' }));
    expect((await refusal(() => vm.commit(site, plan))).code).to.equal('E_FAILED_OVER');
    expect((await status()).pointCount).to.equal(1);
  });

  it('refuses it by its epoch once the receiver is the active site', async () => {
    await step(failingOver({ kind: 'unplanned', step: 'U3' }), 2);
    const error = await refusal(() => vm.open(site, vm.plan(2, seed.pointId, [[0]])));
    expect(error.code).to.equal('E_STALE_EPOCH');
  });

  it('takes the cycles of a planned failover up to its final delta', async () => {
    await step(failingOver({ kind: 'planned', step: 'P5' }));
    vm.write(0, 1, 5);
    await vm.replicate(site, vm.plan(2, seed.pointId, [[1]]));
    expect(await status()).to.include({
      ...{ pointCount: 2, failoverState: 'FAILING_OVER' },
      state: ProtectionState.PROTECTION_STATE_PROTECTED,
    });
  });

  it('is not paused while no cycle is taken anyway', async () => {
    await step({ ...ORDINARY, phase: 'failed-over', activeSite: 'target' });
    const error = await refusal(() => site.control().pause({ vm: 'SQL01', isPaused: true }));
    expect(error.code).to.equal('E_STATE');
    expect(error.hint).to.contain('undo');
  });

  it('tells state, operation, instance and what is valid, and counts no RPO meanwhile', async () => {
    await site.clock.advance(3_600_000);
    expect((await status()).health).to.equal('critical');
    const instance = anInstance({ ranBesideAtMs: undefined });
    const commit = { policy: 'commit', deadlineMs: site.clock.now() + 60_000 } as const;
    await step({ ...ORDINARY, phase: 'failed-over', activeSite: 'target', instance, commit });
    const told = await status();
    expect(told).to.include({
      ...{ failoverState: 'FAILED_OVER', activeSite: 'target', instanceName: 'SQL01' },
      ...{ direction: 'B → A', health: 'warn', operation: '' },
    });
    expect(told.allowedCommands).to.deep.equal(['unplanned', 'undo', 'permanent', 'failback']);
    expect(failoverLines(told, site.clock.now())).to.deep.equal([
      '    SQL01 serves at this site',
      '    the commit policy acts in 60 s',
      '    valid commands: unplanned, undo, permanent, failback',
    ]);
    expect(failoverDocument(told)).to.deep.include({ operation: null, proof: null, tests: [] });
    await step({
      ...{ ...ORDINARY, phase: 'halted', instance: { ...instance, checks: 'failed' } },
      halted: { phase: 'failing-over', step: 'P8', cause: 'no heartbeat', allowed: ['undo'] },
    });
    const halted = await status();
    expect(halted.health).to.equal('critical');
    expect(halted.reasons).to.include('step P8 is halted: no heartbeat');
    expect(halted.reasons).to.include('checks of SQL01 failed');
    expect(halted).to.include({ haltedBecause: 'no heartbeat', failoverState: 'HALTED' });
  });

  it('tells tests, and when the VM was last proven', async () => {
    const store = site.receiver.desks[0]?.vm;
    const test = aTest(3, { phase: 'cleanup-failed', cause: 'a file is held', deadlineMs: 0 });
    const proof = {
      operationId: operationId(3),
      pointId: seed.pointId,
      testedAtMs: 1,
      isPassed: true,
    };
    await store?.change(() =>
      store.append({ kind: 'test', atMs: 9, operationId: operationId(3), test, proof, ...BY }),
    );
    const told = await status();
    expect(told.reasons).to.include(`test ${operationId(3)} could not be removed: a file is held`);
    expect(failoverLines(told, 86_400_001 * 3)).to.deep.equal([
      `    test ${operationId(3)} of SQL01-test-3: cleanup-failed`,
      '    proven by a test 3 days ago',
    ]);
    expect(failoverDocument(told)['proof']).to.deep.equal({
      ...{ testedAt: '1970-01-01T00:00:00.001Z', isPassed: true },
    });
  });
});
