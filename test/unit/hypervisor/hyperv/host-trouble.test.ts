// The provider with PowerShell processes of its own, when merges take their time or never end, and when such a process
// ends at any operation. The host behind them is the fake one.

import { expect } from 'chai';
import { guid, type Guid } from '../../../../shared/bytes/index.js';
import { DrError } from '../../../../shared/errors.js';
import type { HyperV } from '../../../../shared/hypervisor/hyperv/index.js';
import { buildDouble, HyperVRig } from '../../../support/hyperv-host/rig.js';
import { refusal } from '../../../support/refusal.js';
import { WorkFolder } from '../../../support/work-folder.js';

const MIB = 1024 * 1024;
const SIZE = 4 * MIB;
const MERGE_MS = 60_000;
const TAG = {
  protectionId: guid('aaaaaaaa-0000-4000-8000-000000000001'),
  operationId: guid('aaaaaaaa-0000-4000-8000-000000000002'),
};
const REQUEST = { tag: TAG, consistency: 'crash', timeoutMs: MERGE_MS } as const;

describe('the provider of Hyper-V over PowerShell processes', function () {
  this.timeout(240_000);
  const tools = new WorkFolder('hyperv-double');
  let double = '';
  let rig: HyperVRig;
  let host: HyperV;
  let vmId: Guid;

  before(async () => {
    double = await buildDouble(tools.file('virtdisk.so'));
  });
  after(() => {
    tools.dispose();
  });
  beforeEach(async () => {
    rig = await HyperVRig.create(double, 'powershell');
    host = rig.open();
    vmId = await rig.makeVm('vm', [SIZE]);
  });
  afterEach(() => rig.dispose());

  const write = (at: number, value: number): Promise<void> =>
    rig.fake.lab.guestWrite(vmId, 0, at, Buffer.alloc(512, value));

  const diskPath = async (): Promise<string> => (await host.describeVm(vmId)).disks[0]?.path ?? '';

  const looks = (): number => rig.fake.trace.filter((name) => name === 'machine.status').length;

  /** Whether 512 bytes from each offset on are told as changed since the tracking id. */
  async function areTold(checkpointId: string, trackingId: string, ...offsets: readonly number[]) {
    const diskId = (await host.describeVm(vmId)).disks[0]?.diskId ?? vmId;
    const ranges: { readonly start: number; readonly end: number }[] = [];
    for await (const range of host.changedRanges(vmId, checkpointId, diskId, trackingId)) {
      ranges.push(range);
    }
    return offsets.every((at) => ranges.some(({ start, end }) => start <= at && at + 512 <= end));
  }

  for (const isSeen of [true, false]) {
    const said = isSeen ? 'and vmms says so' : 'and vmms says nothing of it';
    it(`waits until the disks stand on their own files again: a merge takes long, ${said}`, async () => {
      await rig.fake.delayMerges({ looks: 6, isSeen });
      const original = await diskPath();
      const checkpoint = await host.createCheckpoint(vmId, REQUEST);
      await write(MIB, 7);
      const point = await host.convertToReferencePoint(vmId, checkpoint.id);
      expect(await diskPath()).not.to.equal(original);
      const before = looks();
      await host.waitForMerge(vmId, MERGE_MS);
      expect(looks() - before).to.be.at.least(6);
      expect(await diskPath()).to.equal(original);
      const next = await host.createCheckpoint(vmId, REQUEST);
      expect(await areTold(next.id, point.disks[0]?.trackingId ?? '', MIB)).to.equal(true);
    });
  }

  it('makes a checkpoint only when the files of the former one have merged, whoever asks for it', async () => {
    await rig.fake.delayMerges({ looks: 6, isSeen: false });
    const { id } = await host.createCheckpoint(vmId, REQUEST);
    await write(MIB, 7);
    await host.convertToReferencePoint(vmId, id);
    const before = looks();
    const next = await host.createCheckpoint(vmId, REQUEST);
    expect(looks() - before).to.be.at.least(6);
    await rig.fake.delayMerges({ looks: Infinity, isSeen: false });
    await write(MIB, 8);
    await host.removeCheckpoint(vmId, next.id);
    const leaf = await diskPath();
    rig.fake.trace.length = 0;
    const error = await refusal(() => host.createCheckpoint(vmId, REQUEST));
    expect(error.code, error.line).to.equal('E_STALLED');
    expect(error.context['files']).to.equal(leaf);
    expect(rig.fake.trace).not.to.include('checkpoint.create');
  });

  it('says since when a merge is due, also in a process that starts after a crash', async () => {
    await rig.fake.delayMerges({ looks: Infinity, isSeen: false });
    const { id } = await host.createCheckpoint(vmId, REQUEST);
    const start = Date.now();
    await host.removeCheckpoint(vmId, id);
    const end = Date.now();
    for (const by of [host, rig.open({ behindMs: -60 * 60_000 })]) {
      const { code, context, message } = await refusal(() => by.waitForMerge(vmId, MERGE_MS));
      expect(code).to.equal('E_STALLED');
      const since = String(context['since']);
      expect(Date.parse(since)).to.be.within(start, end);
      expect(message).to.contain(since);
    }
  });

  it('waits for no merge that cannot begin, because its checkpoint is there', async () => {
    const { id } = await host.createCheckpoint(vmId, REQUEST);
    rig.fake.trouble.jobFails.set('checkpoint.convert', { text: 'In use.', code: 32_768 });
    const failed = await refusal(() => host.convertToReferencePoint(vmId, id));
    expect(failed.code).to.equal('E_CHECKPOINT');
    await host.waitForMerge(vmId, MERGE_MS);
    await rig.fake.delayMerges({ looks: 6, isSeen: false });
    rig.fake.trouble.jobFails.clear();
    await host.convertToReferencePoint(vmId, id);
    const before = looks();
    await host.waitForMerge(vmId, MERGE_MS);
    expect(looks() - before).to.be.at.least(6);
  });

  it('says which files did not merge when that never ends, and goes on when it ends after all', async () => {
    await rig.fake.delayMerges({ looks: Infinity, isSeen: false });
    const original = await diskPath();
    const checkpoint = await host.createCheckpoint(vmId, REQUEST);
    await write(MIB, 7);
    await host.removeCheckpoint(vmId, checkpoint.id);
    const leaf = await diskPath();
    for (let times = 0; times < 2; times++) {
      const error = await refusal(() => host.waitForMerge(vmId, MERGE_MS));
      expect(error.code, error.line).to.equal('E_STALLED');
      expect(error.context['files']).to.equal(leaf);
    }
    await rig.fake.delayMerges({ looks: 0, isSeen: false });
    await host.waitForMerge(vmId, MERGE_MS);
    expect(await diskPath()).to.equal(original);
    const found = await rig.fake.lab.guestRead(vmId, 0, MIB, 512);
    expect(found.equals(Buffer.alloc(512, 7))).to.equal(true);
  });

  it('loses no change when the process ends at any operation of a cycle, before it or after it', async () => {
    const { hostDies } = rig.fake.trouble;
    rig.fake.trace.length = 0;
    await host.waitForMerge(vmId, MERGE_MS);
    await cycle(await mark());
    const operations = [...new Set(rig.fake.trace)];
    expect(operations).to.include.members(['checkpoint.create', 'checkpoint.convert', 'job.get']);
    for (const operation of operations) {
      for (const when of ['before', 'after'] as const) {
        const what = `${operation}, ${when} it`;
        for (const { id } of await host.listReferencePoints(vmId)) {
          await host.removeReferencePoint(vmId, id);
        }
        const trackingId = await mark();
        await write(MIB, 1);
        hostDies.set(operation, when);
        const failure = await cycle(trackingId).then(() => undefined, outcome);
        expect(hostDies.size, `${what}: was not asked for`).to.equal(0);
        // what a listing or a look meets may be looked at again; everything else is told
        if (failure !== undefined) expect(failure.context, what).to.include({ effect: 'unknown' });
        await write(2 * MIB, 1);
        for (const { id, tag } of await host.listCheckpoints(vmId)) {
          expect(tag, what).to.deep.equal(TAG);
          await host.removeCheckpoint(vmId, id);
        }
        await host.waitForMerge(vmId, MERGE_MS);
        const points = await host.listReferencePoints(vmId);
        const old = points.find(({ disks }) => disks[0]?.trackingId === trackingId);
        const from = old ?? points[0];
        const wanted = old === undefined ? [2 * MIB] : [MIB, 2 * MIB];
        const checkpoint = await host.createCheckpoint(vmId, REQUEST);
        const isTold = await areTold(checkpoint.id, from?.disks[0]?.trackingId ?? '', ...wanted);
        expect(isTold, what).to.equal(true);
        await host.removeCheckpoint(vmId, checkpoint.id);
        await host.waitForMerge(vmId, MERGE_MS);
      }
    }
  });

  /** A reference point; its tracking id. */
  async function mark(): Promise<string> {
    const { id } = await host.createCheckpoint(vmId, REQUEST);
    const point = await host.convertToReferencePoint(vmId, id);
    await host.waitForMerge(vmId, MERGE_MS);
    return point.disks[0]?.trackingId ?? '';
  }

  /** A delta cycle, as the agent runs one. */
  async function cycle(trackingId: string): Promise<void> {
    const old = await host.listReferencePoints(vmId);
    const checkpoint = await host.createCheckpoint(vmId, REQUEST);
    await areTold(checkpoint.id, trackingId);
    const point = await host.convertToReferencePoint(vmId, checkpoint.id);
    await host.waitForMerge(vmId, MERGE_MS);
    for (const { id } of old) if (id !== point.id) await host.removeReferencePoint(vmId, id);
  }
});

function outcome(error: unknown): DrError {
  if (error instanceof DrError) return error;
  throw error;
}
