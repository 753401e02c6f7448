// `hvdr forget`: what goes, what hinders it, and what stays.

import { expect } from 'chai';
import { refusal } from '../../../support/refusal.js';
import { FailoverBench, type FailoverVolume, failoverVolume } from './failover-double.js';
import { STORE } from '../source-double.js';

describe('failover: a protection is forgotten', () => {
  let made: FailoverVolume;
  let bench: FailoverBench;

  beforeEach(async () => {
    made = await failoverVolume();
    bench = await FailoverBench.open(made.volume);
  });
  afterEach(async () => {
    await bench.close();
  });

  it('its folder goes, the journal stays beside, and the plan says what goes', async () => {
    const { plan, done } = await bench.operate('forget');
    expect(plan?.isDestructive).to.equal(true);
    expect(plan?.notes[0]).to.match(/^3 points go, and \d+ bytes with them$/);
    expect(done?.state).to.equal('UNPROTECTED');
    expect(done?.warnings).to.deep.equal([]);
    expect(await made.volume.list(`${STORE}/vms`)).to.deep.equal([]);
    const [remains = ''] = await made.volume.list(`${STORE}/forgotten`);
    const left = await made.volume.list(`${STORE}/forgotten/${remains}`);
    expect(left).to.deep.equal(['forgotten.json', 'journal']);
    expect(await bench.site.receiver.allDesks()).to.deep.equal([]);
    expect((await refusal(() => bench.operate('forget'))).code).to.equal('E_NOT_PROTECTED');
    const { items } = await bench.site.control().collectGarbage({ isPlan: true, olderThanMs: 0n });
    expect(items).to.deep.equal([]);
  });

  it('the same VM can be protected anew, in the same process and in the next one', async () => {
    const { source } = made;
    await bench.operate('forget');
    await source.replicate(bench.site, source.plan(7, undefined, [undefined, undefined]));
    expect((await bench.desk()).vm.protection.listed).to.have.length(1);
    await bench.close();
    bench = await FailoverBench.open(made.volume, { seed: 9 });
    expect((await bench.desk()).vm.protection.listed).to.have.length(1);
  });

  it('pins do not hinder it and are named', async () => {
    const { vm } = await bench.desk();
    const { pointId } = vm.protection.listed[0] ?? {};
    await vm.change(async () => {
      if (pointId === undefined) return;
      const pin = { kind: 'pin', atMs: 1, pointId, isPinned: true, by: 'ops' } as const;
      await vm.append(pin);
    });
    const { plan } = await bench.operate('forget');
    expect(plan?.notes.join('\n')).to.contain(`point ${pointId ?? ''} goes as well: pinned by ops`);
  });

  it('what an operator kept of an undone failover stays', async () => {
    await bench.operate('unplanned');
    await bench.operate('undo', { keep_disk: 'evidence' });
    await bench.operate('forget');
    const [remains = ''] = await made.volume.list(`${STORE}/forgotten`);
    expect(await made.volume.list(`${STORE}/forgotten/${remains}`)).to.include('evidence.0.vhdx');
  });

  it('is refused while a VM of it serves, and while a test runs', async () => {
    await bench.operate('test', { keep: 'yes' });
    expect((await refusal(() => bench.operate('forget'))).code).to.equal('E_LOCKED');
    const [session] = (await bench.desk()).vm.protection.tests.keys();
    await bench.operate('test', { stop: session ?? '' });
    await bench.operate('unplanned');
    expect((await refusal(() => bench.operate('forget'))).code).to.equal('E_STATE');
  });

  it('a VM that stays has to be flattened first, and keeps its bytes', async () => {
    await bench.operate('unplanned');
    await bench.operate('permanent');
    const refused = await refusal(() => bench.operate('forget'));
    expect(refused.code).to.equal('E_STATE');
    expect(refused.message).to.contain('hvdr flatten VM1');
    const before = await bench.guest('VM1');
    const { id } = await bench.lab.findVm('VM1');
    await bench.lab.turnOffVm(id);
    await bench.operate('flatten');
    await bench.lab.startVm(id);
    await bench.operate('forget');
    expect(await made.volume.list(`${STORE}/vms`)).to.deep.equal([]);
    await bench.lab.turnOffVm(id);
    await bench.lab.startVm(id);
    const after = await bench.guest('VM1');
    for (const [disk, view] of before.entries()) expect(after[disk]?.equals(view)).to.equal(true);
    const { items } = await bench.site.control().collectGarbage({ isPlan: false, olderThanMs: 0n });
    expect(items).to.deep.equal([]);
  });

  it('a VM that stayed and is not to be found may run elsewhere: only who forces it removes its disks', async () => {
    await bench.operate('unplanned');
    await bench.operate('permanent');
    const { id } = await bench.lab.findVm('VM1');
    await bench.lab.turnOffVm(id);
    const forced = { force: 'yes', reason: 'it is gone' };
    expect((await refusal(() => bench.operate('forget', forced))).code).to.equal('E_STATE');
    await bench.lab.removeVm(id);
    expect((await refusal(() => bench.operate('forget'))).code).to.equal('E_STATE');
    expect((await refusal(() => bench.operate('forget', { force: 'yes' }))).code).to.equal(
      'E_PARAMETER',
    );
    const { plan } = await bench.operate('forget', forced);
    expect(plan?.notes).to.include('the disks of VM1 go as well');
    expect(await made.volume.list(`${STORE}/vms`)).to.deep.equal([]);
  });

  it('a folder that could not be removed at once is removed before the VM is protected anew', async () => {
    const { vm } = await bench.desk();
    await vm.change(() => vm.forget({ vmName: 'VM1', owner: 'a', atMs: 5, by: 'ops' }));
    expect((await refusal(() => bench.operate('pause'))).code).to.equal('E_NOT_PROTECTED');
    await bench.close();
    bench = await FailoverBench.open(made.volume, { seed: 9 });
    expect(await bench.site.receiver.allDesks()).to.deep.equal([]);
    expect(await made.volume.list(`${STORE}/vms`)).to.deep.equal([]);
  });
});
