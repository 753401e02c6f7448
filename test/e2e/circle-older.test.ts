// Two lab sites, real processes: a VM that was failed over to an older point goes home with all that it was
// at the DR site. Nobody believes what is known of changes then: the disks are compared by their hashes.

import { expect } from 'chai';
import {
  changedCells,
  CircleSite,
  DISK_COUNT,
  expectLittle,
  hashesOf,
  MAP,
  type OldDisks,
} from '../support/circle-site.js';
import { WorkFolder } from '../support/work-folder.js';

const MIB = 1024 * 1024;
const VM = 'OLDER';

describe('full circle from an older point', function () {
  this.timeout(240_000);
  const work = new WorkFolder('circle-older');
  const both = new CircleSite(work.path);
  const { site } = both;
  let left: OldDisks;
  let back: Buffer[] = [];

  before(async () => {
    await both.prepare([VM]);
    await both.replicate([VM]);
  });

  after(async () => {
    await both.dispose();
    work.dispose();
  });

  it('given up while its disks are brought level, the DR site serves on', async () => {
    const older = await both.views('lab', VM);
    const [point = ''] = await site.points(VM);
    await both.live('lab', VM, 20);
    await site.push(VM);
    // what nobody has but the disks at the primary
    await both.live('lab', VM, 3);
    await site.hvdr('lab', 'stop', 'lab', VM, '--turn-off');
    await both.becomes('FAILED_OVER', ['failover', 'unplanned'], VM, '--point', point, ...MAP);
    await both.expectServes('dr', VM, older);
    left = await both.oldDisks(VM);
    await both.live('dr', VM, 10);
    const served = await both.views('dr', VM);
    await both.becomes('FAILING_BACK', ['failback'], VM, '--stage', 'sync');
    await both.becomes('FAILED_OVER', ['abort'], VM);
    await both.expectAsBefore(VM, left);
    await both.expectServes('dr', VM, served);
  });

  it('goes home with what it was there, and only what differs travels', async () => {
    await both.live('dr', VM, 40);
    back = await both.views('dr', VM);
    const before = both.wireBytes;
    await both.becomes('FAILED_BACK', ['failback'], VM);
    expectLittle(both.wireBytes - before, changedCells(left.views, back));
    await both.expectServes('lab', VM, back);
    await both.becomes('FAILED_OVER', ['failover', 'undo'], VM, '--yes');
    await both.expectAsBefore(VM, left);
    await both.expectServes('dr', VM, back);
  });

  it('a checkpoint that is applied there between two rounds is brought home as well', async () => {
    await site.hvdr('lab', 'checkpoint', 'dr', VM, 'add', 'before-update');
    await both.live('dr', VM, 12);
    await both.becomes('FAILING_BACK', ['failback'], VM, '--stage', 'sync');
    await site.hvdr('lab', 'stop', 'dr', VM);
    await site.hvdr('lab', 'checkpoint', 'dr', VM, 'apply', 'before-update');
    await site.hvdr('lab', 'start', 'dr', VM);
    await both.live('dr', VM, 2);
    back = await both.views('dr', VM);
    await both.becomes('FAILED_BACK', ['failback'], VM);
    await both.expectServes('lab', VM, back);
  });

  it('cycles go on from what it was when it came home', async () => {
    await both.live('lab', VM, 3);
    await both.becomes('PROTECTED', ['failover', 'permanent'], VM, '--yes');
    const returned = (await site.points(VM)).at(-1) ?? '';
    expect(await site.pointHashes(VM, returned, DISK_COUNT)).to.deep.equal(hashesOf(back));
    const pushed = await site.push(VM);
    expect(pushed.kind).to.equal('delta');
    expect(pushed.bytesSent).to.be.lessThan(MIB);
    const wanted = hashesOf(await both.views('lab', VM));
    expect(await site.pointHashes(VM, pushed.point, DISK_COUNT)).to.deep.equal(wanted);
  });
});
