// The replication service against a store in memory: what a source sees, and what an operator reads.

import { expect } from 'chai';
import { CELL_BYTES } from '../../../shared/delta/index.js';
import { guidToWire } from '../../../shared/bytes/index.js';
import { ProtectionState } from '../../../shared/channel/index.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { expectPoint, openSite, pointIds, type Site, SourceVm } from './source-double.js';

const SIZES = [40 * CELL_BYTES, 9 * CELL_BYTES + 512];

describe('receiver: cycles', () => {
  let files: MemoryFileSystem;
  let site: Site;
  let vm: SourceVm;

  beforeEach(async () => {
    files = new MemoryFileSystem();
    site = await openSite(files);
    vm = new SourceVm(1, SIZES);
    for (const cell of [0, 1, 2, 17, 39]) vm.write(0, cell, cell + 1);
    for (const cell of [0, 8, 9]) vm.write(1, cell, cell + 101);
  });

  it('takes a seed and deltas, and reads every point back', async () => {
    const seed = vm.plan(1, undefined, [undefined, undefined]);
    await vm.replicate(site, seed);
    vm.write(0, 1, 500);
    vm.write(0, 17, 0);
    vm.write(1, 9, 501);
    const second = vm.plan(2, seed.pointId, [[1, 2, 17, 30], [9]]);
    await vm.replicate(site, second);
    vm.write(0, 30, 502);
    const third = vm.plan(3, second.pointId, [[30], []]);
    await vm.replicate(site, third);
    expect(await pointIds(site, vm.name)).to.deep.equal(
      [seed, second, third].map((p) => p.pointId),
    );
    for (const plan of [seed, second, third]) await expectPoint(site, vm, plan);
    const told = await site.replication().describe({ vmId: guidToWire(vm.vmId), vmName: '' });
    expect(told.state).to.equal(ProtectionState.PROTECTION_STATE_PROTECTED);
    expect(told.headPointId.equals(guidToWire(third.pointId))).to.equal(true);
    await site.receiver.close();
    const again = await openSite(files);
    for (const plan of [seed, second, third]) await expectPoint(again, vm, plan);
  });
});
