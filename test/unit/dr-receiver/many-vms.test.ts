// A store with many VMs: what is read when, how many files are open, and what a device that fails for
// a moment does to one VM and to no other. Told in calls to the file system, not in time.

import { expect } from 'chai';
import { guidToWire } from '../../../shared/bytes/index.js';
import { CELL_BYTES } from '../../../shared/delta/index.js';
import { DrError } from '../../../shared/errors.js';
import { ProtectionState } from '../../../shared/channel/index.js';
import { OpenJournals } from '../../../dr-receiver/store/open-journals.js';
import { CountingFileSystem } from '../../support/counting-file.js';
import { FaultFileSystem } from '../../support/fault-file.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { expectPoint, openSite, pointIds, type Site, SourceVm } from './source-double.js';

const COUNT = 80;

/** A store in which each VM has two points. */
async function makeStore(): Promise<{ files: MemoryFileSystem; vms: SourceVm[] }> {
  const files = new MemoryFileSystem();
  const site = await openSite(files);
  const vms = Array.from({ length: COUNT }, (_, index) => new SourceVm(index + 1, [CELL_BYTES]));
  for (const vm of vms) await replicateTwice(site, vm);
  await site.receiver.close();
  return { files, vms };
}

async function replicateTwice(site: Site, vm: SourceVm): Promise<void> {
  vm.write(0, 0, 1);
  const seed = vm.plan(1, undefined, [undefined]);
  await vm.replicate(site, seed);
  vm.write(0, 0, 2);
  await vm.replicate(site, vm.plan(2, seed.pointId, [[0]]));
}

/** Most files that were open at once. */
function mostOpen(files: CountingFileSystem): number {
  let open = 0;
  let most = 0;
  for (const { kind } of files.calls) {
    if (kind === 'open' || kind === 'create') most = Math.max(most, ++open);
    if (kind === 'close') open--;
  }
  return most;
}

describe('a store with many VMs', () => {
  let made: { files: MemoryFileSystem; vms: SourceVm[] };

  before(async () => {
    made = await makeStore();
  });

  it('is open without a journal being read, and an id opens that VM alone', async () => {
    const files = new CountingFileSystem(made.files.clone());
    const site = await openSite(files, { isLazy: true });
    expect(files.tally('open', /\/vms\//).count).to.equal(0);
    // what writes left beside its two descriptions, and which VMs there are
    expect(files.tally('list').count).to.equal(2 + 1);
    const vm = made.vms[7];
    if (vm === undefined) throw new Error('there are more VMs');
    const { headPointId } = await site
      .replication()
      .describe({ vmId: guidToWire(vm.vmId), vmName: vm.name });
    expect(headPointId.length).to.equal(16);
    expect(files.tally('open', /\/journal$/).count).to.equal(1);
    expect(await pointIds(site, vm.vmId)).to.have.length(2);
    expect(files.tally('open', /\/journal$/).count).to.equal(1);
    await site.receiver.close();
  });

  it('opens each of them once, with few calls and no flush, and leaves no file open', async () => {
    const files = new CountingFileSystem(made.files.clone());
    const site = await openSite(files, { isLazy: true });
    files.reset();
    const [status] = await Promise.all([
      site.control().status({ vm: '' }),
      site.receiver.allDesks(),
    ]);
    expect(status.protections.length).to.equal(COUNT);
    expect(files.tally('open', /\/journal$/).count).to.equal(COUNT);
    expect(files.tally('flush').count + files.tally('flushFolder').count).to.equal(0);
    expect(files.tally('write').count).to.equal(0);
    // folder, snapshot and journal: list, two times open, size, read and close; then unfinished cycles
    expect(files.calls.length).to.be.at.most(COUNT * 14 + 5);
    expect(mostOpen(files)).to.be.at.most(8);
    await site.receiver.close();
  });

  it('finds a VM by its name while the rest is not open yet', async () => {
    const site = await openSite(made.files.clone(), { isLazy: true });
    expect(await pointIds(site, 'vm33')).to.have.length(2);
    await site.receiver.close();
  });

  it('counts what its owner has stored before it takes a cycle', async () => {
    const files = made.files.clone();
    const policy = {
      retention: { minRestorePoints: 1, maxRestorePoints: 1000 },
      maxProtections: COUNT,
      maxStoredBytes: COUNT * 2 * CELL_BYTES - 1,
    };
    const site = await openSite(files, { isLazy: true, policy });
    const [vm] = made.vms;
    if (vm === undefined) throw new Error('there is a VM');
    const head = (await pointIds(site, vm.vmId)).at(-1);
    let code: unknown;
    await vm.open(site, vm.plan(3, head, [[0]])).catch((error: unknown) => {
      code = error instanceof DrError ? error.code : error;
    });
    expect(code).to.equal('E_CAPACITY');
    const other = new SourceVm(COUNT + 1, [CELL_BYTES]);
    await other.open(site, other.plan(1, undefined, [undefined])).catch((error: unknown) => {
      code = error instanceof DrError ? error.message : error;
    });
    expect(code).to.match(/protects 80 VMs here/);
    await site.receiver.close();
  });

  it('holds few journals open, whatever the number of VMs', async () => {
    const files = new CountingFileSystem(made.files.clone());
    const site = await openSite(files);
    for (const vm of made.vms) {
      await site.control().pause({ vm: vm.vmId, isPaused: true });
    }
    // the snapshots are written meanwhile, each a file or two for a moment
    expect(mostOpen(files)).to.be.at.most(64 + 4);
    for (const vm of made.vms) await site.control().pause({ vm: vm.vmId, isPaused: false });
    await site.receiver.close();
    const again = await openSite(files);
    for (const { vm } of again.receiver.desks) {
      expect(vm.halt).to.equal(undefined);
      expect(vm.protection.isPaused).to.equal(false);
    }
    await again.receiver.close();
  });

  for (const kind of ['list', 'open', 'size', 'read'] as const) {
    it(`tries a VM again whose ${kind} failed at its opening, and others do not notice`, async () => {
      const files = new FaultFileSystem(made.files.clone());
      const [vm, other] = made.vms;
      if (vm === undefined || other === undefined) throw new Error('there are VMs');
      const path = new RegExp(kind === 'list' ? `${vm.vmId}$` : `${vm.vmId}/journal$`);
      files.inject({ kind, path });
      const site = await openSite(files);
      expect(files.failureCount).to.equal(1);
      const halted = site.receiver.desks.filter((desk) => desk.vm.halt !== undefined);
      expect(halted.map((desk) => desk.vm.vmId)).to.deep.equal([vm.vmId]);
      expect(await pointIds(site, other.name)).to.have.length(2);
      const head = (await pointIds(site, vm.vmId)).at(-1);
      vm.write(0, 0, 3);
      const plan = vm.plan(3, head, [[0]]);
      await vm.replicate(site, plan);
      await expectPoint(site, vm, plan);
      await site.receiver.close();
    });
  }

  it('shows a VM as halted while it cannot be read, and as well when it can', async () => {
    const files = new FaultFileSystem(made.files.clone());
    const [vm] = made.vms;
    if (vm === undefined) throw new Error('there are VMs');
    files.inject({ kind: 'read', path: new RegExp(`${vm.vmId}/journal$`), times: 3 });
    const site = await openSite(files);
    const stateOf = async (): Promise<unknown> =>
      (await site.control().status({ vm: vm.name })).protections[0]?.state;
    expect(await stateOf()).to.equal(ProtectionState.PROTECTION_STATE_HALTED);
    expect(await stateOf()).to.equal(ProtectionState.PROTECTION_STATE_HALTED);
    expect(await stateOf()).to.equal(ProtectionState.PROTECTION_STATE_PROTECTED);
    await site.receiver.close();
  });

  it('is closed in the midst of opening', async () => {
    const files = new CountingFileSystem(made.files.clone());
    const site = await openSite(files, { isLazy: true });
    const opening = site.receiver.allDesks();
    await site.receiver.close();
    await opening;
    const count = files.calls.length;
    expect(files.tally('open', /\/journal$/).count).to.be.lessThan(COUNT);
    expect(await site.receiver.desk(made.vms[50]?.vmId ?? expect.fail())).to.equal(undefined);
    expect(files.calls.length).to.equal(count);
    await (await openSite(files)).receiver.close();
  });
});

describe('open journals', () => {
  it('parks the one that was used longest ago and is not busy', () => {
    const parked: number[] = [];
    const journals = [1, 2, 3, 4].map((n) => ({
      isBusy: n === 1,
      park: () => {
        parked.push(n);
        return Promise.resolve();
      },
    }));
    const open = new OpenJournals(2);
    for (const journal of journals.slice(0, 3)) open.used(journal);
    expect(parked).to.deep.equal([2]);
    const [, , third, fourth] = journals;
    if (third === undefined || fourth === undefined) throw new Error('there are four');
    open.used(third);
    open.gone(third);
    expect(open.count).to.equal(1);
    open.used(fourth);
    expect(parked).to.deep.equal([2]);
  });
});
