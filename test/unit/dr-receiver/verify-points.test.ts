// What an operator reads back from a store in memory, and what damage does to it.

import { expect } from 'chai';
import { guidToWire } from '../../../shared/bytes/index.js';
import { CELL_BYTES } from '../../../shared/delta/index.js';
import { HookedFileSystem } from '../../support/hooked-file.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { refusal } from '../../support/refusal.js';
import {
  caller,
  type CyclePlan,
  expectPoint,
  openSite,
  type Site,
  SourceVm,
  twoDiskVm,
} from './source-double.js';

describe('reading points back', () => {
  let files: MemoryFileSystem;
  let site: Site;
  let vm: SourceVm;
  let seed: CyclePlan;

  beforeEach(async () => {
    files = new MemoryFileSystem();
    site = await openSite(files);
    ({ vm, seed } = twoDiskVm());
  });

  it('verifies points, names disk and offset, and refuses those that show the damage', async () => {
    await vm.replicate(site, seed);
    vm.write(0, 17, 950);
    const second = vm.plan(2, seed.pointId, [[17], []]);
    await vm.replicate(site, second);
    const base = files.paths.find(
      (path) => path.includes(`${vm.disks[0]?.diskId}.0/`) && path.endsWith('base.vhdx'),
    );
    const bytes = files.content(base ?? '') ?? Buffer.alloc(0);
    const place = bytes.indexOf(
      seed.images[0]?.subarray(17 * CELL_BYTES, 17 * CELL_BYTES + 64) ?? '',
    );
    bytes.writeUInt8(bytes.readUInt8(place) ^ 1, place);
    files.put(base ?? '', bytes);
    const findings: string[] = [];
    let damaged: Buffer[] = [];
    for await (const { step } of site
      .control()
      .verify({ vm: vm.name, point: 'all', isRepair: false })) {
      if (step?.$case === 'finding') findings.push(`${step.value.code} ${step.value.offset}`);
      if (step?.$case === 'done') damaged = step.value.damagedPointIds;
    }
    expect(findings).to.deep.equal([`E_DELTA_HASH ${17 * CELL_BYTES}`]);
    expect(damaged.map((bad) => bad.equals(guidToWire(seed.pointId)))).to.deep.equal([true]);
    await expectPoint(site, vm, second);
    const error = await refusal(() => expectPoint(site, vm, seed));
    expect(error.code).to.equal('E_POINT_CORRUPT');
    expect(error.hint).to.contain(second.pointId);
  });

  it('takes a point for damaged when more is damaged than is told one by one', async () => {
    const wide = new SourceVm(3, [110 * CELL_BYTES]);
    for (let cell = 0; cell < 110; cell++) wide.write(0, cell, 3000 + cell);
    const first = wide.plan(30, undefined, [undefined]);
    await wide.replicate(site, first);
    const hidden = Array.from({ length: 104 }, (_, cell) => cell);
    for (const cell of hidden) wide.write(0, cell, 4000 + cell);
    const second = wide.plan(31, first.pointId, [hidden]);
    await wide.replicate(site, second);
    const base = files.paths.find((path) => path.endsWith('base.vhdx')) ?? '';
    const bytes = files.content(base) ?? Buffer.alloc(0);
    // the second point shows the last of these cells and none of the others
    for (const cell of [...hidden, 109]) {
      const start = cell * CELL_BYTES;
      const place = bytes.indexOf(first.images[0]?.subarray(start, start + 64) ?? '');
      bytes.writeUInt8(bytes.readUInt8(place) ^ 1, place);
    }
    files.put(base, bytes);
    const damaged: string[] = [];
    for await (const { step } of site
      .control()
      .verify({ vm: wide.name, point: 'all', isRepair: false })) {
      if (step?.$case !== 'done') continue;
      damaged.push(...step.value.damagedPointIds.map((bad) => bad.toString('hex')));
    }
    const all = [first, second].map(({ pointId }) => guidToWire(pointId).toString('hex'));
    expect(damaged).to.deep.equal(all);
  });

  it('asks each newer layer once what it hides, however many points stand on the damage', async () => {
    const plans = [seed];
    await vm.replicate(site, { ...seed, maxRestorePoints: 20 });
    for (let n = 2; n <= 9; n++) {
      vm.write(0, n + 20, 5000 + n);
      const plan = vm.plan(n, plans.at(-1)?.pointId, [[n + 20], []], { maxRestorePoints: 20 });
      plans.push(plan);
      await vm.replicate(site, plan);
    }
    await site.receiver.close();
    const base = files.paths.find(
      (path) => path.includes(`${vm.disks[0]?.diskId}.0/`) && path.endsWith('base.vhdx'),
    );
    const bytes = files.content(base ?? '') ?? Buffer.alloc(0);
    for (const cell of [0, 1, 2, 17]) {
      const start = cell * CELL_BYTES;
      const place = bytes.indexOf(seed.images[0]?.subarray(start, start + 64) ?? '');
      bytes.writeUInt8(bytes.readUInt8(place) ^ 1, place);
    }
    files.put(base ?? '', bytes);
    let openCount = 0;
    const counting = new HookedFileSystem(files, (call, run) => {
      if (call.kind === 'open' && call.path.endsWith('.manifest')) openCount++;
      return run();
    });
    site = await openSite(counting);
    let findingCount = 0;
    for await (const { step } of site
      .control()
      .verify({ vm: vm.name, point: 'all', isRepair: false })) {
      if (step?.$case === 'finding') findingCount++;
    }
    expect(findingCount).to.equal(4 * plans.length);
    // 2 bases and 8 deltas of each of 2 disks to read, and the 8 deltas over the damage
    expect(openCount).to.equal(2 + 16 + 8);
  });

  it('finds VMs by any pattern in no time', async () => {
    const long = new SourceVm(4, [CELL_BYTES], 'a'.repeat(255));
    await long.replicate(site, long.plan(40, undefined, [undefined]));
    const viewer = caller('monitor', 'viewer');
    const error = await refusal(() => site.control(viewer).status({ vm: `${'*a'.repeat(40)}*b` }));
    expect(error.code).to.equal('E_NO_MATCH');
    const { protections } = await site.control(viewer).status({ vm: '*A?*' });
    expect(protections.map(({ vmName }) => vmName)).to.deep.equal([long.name]);
  });

  it('gives no byte away that does not have its hash, verified before or not', async () => {
    await vm.replicate(site, seed);
    const path = files.paths.find((each) => each.endsWith('base.manifest')) ?? '';
    const bytes = files.content(path) ?? Buffer.alloc(0);
    bytes.writeUInt8(bytes.readUInt8(140) ^ 1, 140);
    files.put(path, bytes);
    const broken = vm.disks.findIndex((disk) => path.includes(disk.diskId));
    const only = { ...seed, images: seed.images.map((image) => image) };
    const error = await refusal(() => expectPoint(site, vm, only));
    expect(error.code, `disk ${broken}`).to.equal('E_POINT_CORRUPT');
  });
});
