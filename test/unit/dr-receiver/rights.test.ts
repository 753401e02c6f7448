// Who may do what with a VM at the receiver, and what stops everybody: epochs, halts, pauses. Real
// services, a store in memory.

import { expect } from 'chai';
import { guidToWire } from '../../../shared/bytes/index.js';
import { ProtectionState } from '../../../shared/channel/index.js';
import { CELL_BYTES, encodeBegin } from '../../../shared/delta/index.js';
import { DEFAULT_POLICY } from '../../../dr-receiver/index.js';
import { MemoryFileSystem, posixName } from '../../support/memory-file.js';
import { refusal } from '../../support/refusal.js';
import {
  caller,
  type CyclePlan,
  expectPoint,
  id,
  openSite,
  OPERATOR,
  pointIds,
  type Site,
  SOURCE,
  SourceVm,
  twoDiskVm,
  journalPath,
} from './source-double.js';

describe('rights and halts', () => {
  let files: MemoryFileSystem;
  let site: Site;
  let vm: SourceVm;
  let seed: CyclePlan;

  beforeEach(async () => {
    files = new MemoryFileSystem();
    site = await openSite(files);
    ({ vm, seed } = twoDiskVm());
  });

  const describeVm = async (as = SOURCE): ReturnType<typeof describeCall> => describeCall(as);
  const describeCall = (as = SOURCE) =>
    site.replication(as).describe({ vmId: guidToWire(vm.vmId), vmName: vm.name });

  describe('rights', () => {
    const stranger = caller('site-b');

    it('answers alike for a VM of another principal and for none', async () => {
      const unknown = await site.replication(stranger).describe({
        vmId: guidToWire(id(5)),
        vmName: '',
      });
      await vm.replicate(site, seed);
      expect(await describeVm(stranger)).to.deep.equal(unknown);
      const ids = (vmId = vm.vmId): { vmId: Buffer; cycleId: Buffer } => ({
        vmId: guidToWire(vmId),
        cycleId: guidToWire(seed.cycleId),
      });
      const calls = [
        (of: typeof vm.vmId) => site.replication(stranger).commit({ ...ids(of), roots: [] }),
        (of: typeof vm.vmId) => site.replication(stranger).abandon(ids(of)),
        async (of: typeof vm.vmId) => {
          const begin = [encodeBegin(of, seed.cycleId)];
          await vm.push(site, begin, undefined, stranger);
        },
        async (of: typeof vm.vmId) => {
          const what = { diskId: guidToWire(vm.disks[0]?.diskId ?? id(1)), generation: 0 };
          const point = { $case: 'pointId', value: guidToWire(seed.pointId) } as const;
          const request = { vmId: guidToWire(of), ...what, of: point };
          for await (const answer of site.replication(stranger).hashes(request)) {
            throw new Error(`${answer.records.length} bytes of hashes`);
          }
        },
      ];
      for (const call of calls) {
        const codes = [await refusal(() => call(vm.vmId)), await refusal(() => call(id(5)))];
        expect(codes.map((error) => error.code)).to.deep.equal([
          'E_NOT_PROTECTED',
          'E_NOT_PROTECTED',
        ]);
      }
      const theirs = await refusal(() =>
        vm.open(site, vm.plan(2, seed.pointId, [[], []]), stranger),
      );
      expect(theirs.code).to.equal('E_NOT_PROTECTED');
    });

    it('admits new VMs by the pattern of the key, and known ones under any name', async () => {
      const narrow = caller('site-a', 'source', 'SQL*');
      const refused = await refusal(() => vm.open(site, seed, narrow));
      expect(refused.code).to.equal('E_NOT_PROTECTED');
      await vm.replicate(site, seed);
      vm.write(0, 5, 1);
      const sizes = vm.disks.map(({ bytes }) => bytes.length);
      const renamed = new SourceVm(1, sizes, 'renamed');
      renamed.disks.splice(0, 2, ...vm.disks);
      await renamed.open(site, renamed.plan(2, seed.pointId, [[5], []]), narrow);
    });

    it('lets an operator push without taking the VM over', async () => {
      await vm.replicate(site, seed);
      vm.write(0, 5, 1);
      const plan = vm.plan(2, seed.pointId, [[5], []]);
      const { outcome } = await vm.open(site, plan, OPERATOR);
      expect(outcome?.$case).to.equal('accepted');
      await vm.push(site, vm.messages(plan, []), undefined, OPERATOR);
      await vm.commit(site, plan, OPERATOR);
      const { protections } = await site.control().status({ vm: '' });
      expect(protections[0]?.owner).to.equal(SOURCE.principal);
    });

    it('gives a source no control, and a viewer no replication', async () => {
      await vm.replicate(site, seed);
      const control = site.control(SOURCE);
      expect((await refusal(() => control.status({ vm: '' }))).code).to.equal('E_AUTH');
      const viewer = caller('viewer', 'viewer');
      expect((await refusal(() => describeVm(viewer))).code).to.equal('E_AUTH');
      await site.control(viewer).status({ vm: '' });
      const pin = { vm: vm.name, point: 'latest', isPinned: true };
      expect((await refusal(() => site.control(viewer).pinPoint(pin))).code).to.equal('E_AUTH');
    });

    it('holds each principal to its quota, and makes no room by forgetting points', async () => {
      await vm.replicate(site, seed);
      await site.receiver.close();
      const policy = { ...DEFAULT_POLICY, maxProtections: 1, maxStoredBytes: 9 * CELL_BYTES };
      site = await openSite(files, { policy });
      for (const cell of [20, 21, 22]) vm.write(0, cell, cell);
      const more = vm.plan(2, seed.pointId, [[20, 21, 22], []]);
      expect((await refusal(() => vm.replicate(site, more))).code).to.equal('E_CAPACITY');
      expect(await pointIds(site, vm.name)).to.deep.equal([seed.pointId]);
      const second = new SourceVm(2, [CELL_BYTES]);
      const error = await refusal(() =>
        second.replicate(site, second.plan(9, undefined, [undefined])),
      );
      expect(error.code).to.equal('E_CAPACITY');
    });
  });

  describe('epochs', () => {
    beforeEach(() => vm.replicate(site, seed));

    it('refuses a source of an older epoch', async () => {
      const old = vm.plan(2, seed.pointId, [[], []], { epoch: 0n });
      expect((await refusal(() => vm.open(site, old))).code).to.equal('E_STALE_EPOCH');
    });

    it('halts, durably, when its source knows a newer one; other VMs go on', async () => {
      const ahead = vm.plan(2, seed.pointId, [[], []], { epoch: 2n });
      expect((await refusal(() => vm.open(site, ahead))).code).to.equal('E_HALTED');
      await site.receiver.close();
      site = await openSite(files);
      const again = await refusal(() => vm.open(site, vm.plan(3, seed.pointId, [[], []])));
      expect(again.code).to.equal('E_HALTED');
      expect(again.message).to.contain('older than its source');
      expect((await describeVm()).state).to.equal(ProtectionState.PROTECTION_STATE_HALTED);
      const other = new SourceVm(2, [CELL_BYTES]);
      await other.replicate(site, other.plan(9, undefined, [undefined]));
    });

    it('goes on when an operator accepts the epoch, after every disk was compared', async () => {
      const control = site.control();
      expect(
        (await refusal(() => control.unhalt({ vm: vm.name, epoch: undefined }))).code,
      ).to.equal('E_STATE');
      const ahead = vm.plan(2, seed.pointId, [[], []], { epoch: 7n });
      await refusal(() => vm.open(site, ahead));
      const early = await refusal(() => control.unhalt({ vm: vm.name, epoch: 0n }));
      expect(early.code).to.equal('E_USAGE');
      const done = await control.unhalt({ vm: vm.name, epoch: undefined });
      expect([done.epoch, done.formerEpoch]).to.deep.equal([7n, 1n]);
      expect(done.reason).to.contain('older than its source');
      // over a restart as well
      await site.receiver.close();
      site = await openSite(files);
      const described = await describeVm();
      expect(described.state).to.equal(ProtectionState.PROTECTION_STATE_RESYNC);
      expect(described.epoch).to.equal(7n);
      const delta = await refusal(() => vm.open(site, ahead));
      expect(delta.code).to.equal('E_STATE');
      expect(delta.message).to.contain('compare');
      vm.write(0, 3, 41);
      const compared = vm.plan(3, seed.pointId, [[3], []], { epoch: 7n, kind: 'resync' });
      await vm.replicate(site, compared);
      await expectPoint(site, vm, compared);
      expect((await describeVm()).state).to.equal(ProtectionState.PROTECTION_STATE_PROTECTED);
      await vm.replicate(site, vm.plan(4, compared.pointId, [[], []], { epoch: 7n }));
      expect((await refusal(() => vm.open(site, { ...ahead, epoch: 1n }))).code).to.equal(
        'E_STALE_EPOCH',
      );
      // a source that refused by itself has halted nothing here
      await site.control().unhalt({ vm: vm.name, epoch: 9n });
      expect((await describeVm()).epoch).to.equal(9n);
      const journal = files.content(journalPath(vm))?.toString('latin1') ?? '';
      expect(journal).to.match(/"kind":"unhalt",[^}]*"by":"operator","keyId":"operator-key"/);
    });

    it('accepts no damaged journal', async () => {
      await site.receiver.close();
      const bytes = Buffer.from(files.content(journalPath(vm)) ?? []);
      bytes.writeUInt8(bytes.readUInt8(200) ^ 1, 200);
      files.put(journalPath(vm), bytes);
      site = await openSite(files);
      const error = await refusal(() => site.control().unhalt({ vm: vm.name, epoch: 9n }));
      expect(error.code).to.equal('E_HALTED');
      expect(files.content(journalPath(vm))?.equals(bytes)).to.equal(true);
    });

    it('reads and verifies the points of a VM that its source has halted', async () => {
      const ahead = vm.plan(2, seed.pointId, [[], []], { epoch: 2n });
      expect((await refusal(() => vm.open(site, ahead))).code).to.equal('E_HALTED');
      const before = files.content(journalPath(vm)) ?? Buffer.alloc(0);
      await expectPoint(site, vm, seed);
      let good: Buffer[] = [];
      for await (const { step } of site
        .control()
        .verify({ vm: vm.name, point: 'all', isRepair: false })) {
        if (step?.$case === 'done') good = step.value.goodPointIds;
      }
      expect(good.map((each) => each.equals(guidToWire(seed.pointId)))).to.deep.equal([true]);
      expect(files.content(journalPath(vm))?.equals(before)).to.equal(true);
      await site.receiver.close();
      site = await openSite(files);
      await expectPoint(site, vm, seed);
    });
  });

  it('halts a VM whose journal is damaged, names file and byte, and the other VMs go on', async () => {
    await vm.replicate(site, seed);
    const other = new SourceVm(2, [3 * CELL_BYTES]);
    other.write(0, 1, 5);
    const first = other.plan(9, undefined, [undefined]);
    await other.replicate(site, first);
    await site.receiver.close();
    const bytes = files.content(journalPath(vm)) ?? Buffer.alloc(0);
    bytes.writeUInt8(bytes.readUInt8(200) ^ 1, 200);
    files.put(journalPath(vm), bytes);
    site = await openSite(files);
    const error = await refusal(() => vm.open(site, vm.plan(2, seed.pointId, [[], []])));
    expect(error.code).to.equal('E_HALTED');
    expect(posixName(error.message)).to.contain(journalPath(vm)).and.to.contain('byte 64');
    const { protections } = await site.control().status({ vm: '' });
    expect(protections.map(({ health }) => health).sort()).to.deep.equal(['critical', 'ok']);
    other.write(0, 2, 6);
    const second = other.plan(10, first.pointId, [[2]]);
    await other.replicate(site, second);
    await expectPoint(site, other, second);
    expect(files.content(journalPath(vm))?.equals(bytes)).to.equal(true);
  });

  it('pauses a VM and goes on with it', async () => {
    await vm.replicate(site, seed);
    await site.control().pause({ vm: vm.name, isPaused: true });
    const plan = vm.plan(2, seed.pointId, [[], []]);
    expect((await refusal(() => vm.open(site, plan))).code).to.equal('E_STATE');
    await site.control().pause({ vm: vm.name, isPaused: false });
    await vm.replicate(site, plan);
  });

  it('belongs to another principal when an operator says so, and to the former one no more', async () => {
    await vm.replicate(site, seed);
    const other = caller('site-b');
    const plan = vm.plan(2, seed.pointId, [[1], []]);
    await vm.open(site, plan);
    const control = site.control();
    expect((await refusal(() => control.rebind({ vm: vm.name, owner: 'site b\n' }))).code).to.equal(
      'E_USAGE',
    );
    const asSource = site.control(SOURCE).rebind({ vm: vm.name, owner: 'site-a' });
    expect((await refusal(() => asSource)).code).to.equal('E_AUTH');
    expect(await control.rebind({ vm: vm.name, owner: 'site-b' })).to.deep.equal({
      formerOwner: 'site-a',
    });
    for (const late of [
      () => vm.open(site, plan),
      () => vm.push(site, vm.messages(plan, [])),
      () => vm.commit(site, plan),
    ]) {
      expect((await refusal(late)).code).to.equal('E_NOT_PROTECTED');
    }
    await site.receiver.close();
    site = await openSite(files);
    await vm.open(site, plan, other);
    await vm.push(site, vm.messages(plan, []), undefined, other);
    await vm.commit(site, plan, other);
    expect(await pointIds(site, vm.name)).to.deep.equal([seed.pointId, plan.pointId]);
    const { protections } = await site.control().status({ vm: vm.name });
    expect(protections[0]?.owner).to.equal('site-b');
    const journal = files.content(journalPath(vm))?.toString('latin1') ?? '';
    expect(journal).to.match(/"kind":"rebind",[^}]*"by":"operator","keyId":"operator-key"/);
    expect(journal).to.match(/"kind":"commit",[^[]*"by":"site-b","keyId":"site-b-key"/);
  });
});
