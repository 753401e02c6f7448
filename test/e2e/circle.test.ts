// Two lab sites, real processes, whole circles: a VM moves to the DR site, lives there, goes home, is taken
// back, goes home for good, and its cycles go on. The guest's bytes are compared at every station, and what
// a failback sends is counted.

import { expect } from 'chai';
import { CELL_BYTES } from '../../shared/delta/index.js';
import {
  changedCells,
  CircleSite,
  DISK_COUNT,
  expectLittle,
  hashesOf,
  MAP,
  type OldDisks,
  type ShownAdapter,
} from '../support/circle-site.js';
import { WorkFolder } from '../support/work-folder.js';

const MIB = 1024 * 1024;
const VM = 'HOME';
const RULES = ['--reip-rules', '*#1:10.1.0.*>10.9.0.*/24/10.9.0.1'];
const FENCED = 25;

describe('full circles', function () {
  this.timeout(240_000);
  const work = new WorkFolder('circle');
  const both = new CircleSite(work.path);
  const { site } = both;

  before(async () => {
    await both.prepare([VM]);
    await both.replicate([VM]);
  });

  after(async () => {
    await both.dispose();
    work.dispose();
  });

  describe('planned', () => {
    const kept = new Map<string, string[]>();
    let origin: readonly ShownAdapter[] = [];
    let left: OldDisks;
    let back: Buffer[] = [];

    it('replicates, a test proves it, and it moves without loss', async () => {
      origin = await both.adaptersOf('lab', VM);
      for (const count of [12, 9]) {
        await both.live('lab', VM, count);
        const { point } = await site.push(VM);
        kept.set(point, hashesOf(await both.views('lab', VM)));
      }
      await both.becomes('PROTECTED', ['failover', 'test'], VM);
      await both.live('lab', VM, 6);
      await both.becomes('FAILED_OVER', ['failover', 'planned'], VM, ...MAP, ...RULES);
      left = await both.oldDisks(VM);
      await both.expectServes('dr', VM, left.views);
      const [first, second] = await both.adaptersOf('dr', VM);
      expect(first?.switchName).to.equal('DR-Prod');
      expect(first?.guest.addresses).to.deep.equal(['10.9.0.5/24']);
      expect(second?.switchName).to.equal('DR-San');
      const refused = await site.try('lab', 'start', 'lab', VM);
      expect(refused.code, refused.stderr).to.equal(FENCED);
    });

    it('what it wrote at the DR site goes home while it serves, and not much more', async () => {
      await both.live('dr', VM, 60);
      await site.hvdr('lab', 'checkpoint', 'dr', VM, 'add', 'before-update');
      await both.live('dr', VM, 24);
      const served = await both.views('dr', VM);
      const before = both.wireBytes;
      await both.becomes('FAILING_BACK', ['failback'], VM, '--stage', 'sync');
      await both.expectServes('dr', VM, served);
      await both.live('dr', VM, 15);
      back = await both.views('dr', VM);
      await both.becomes('FAILED_BACK', ['failback'], VM);
      const sent = both.wireBytes - before;
      const changed = changedCells(left.views, served) + changedCells(served, back);
      expect(changed * CELL_BYTES).to.be.greaterThan(4 * MIB);
      expectLittle(sent, changed);
      await both.expectServes('lab', VM, back);
      expect(await both.adaptersOf('lab', VM)).to.deep.equal(origin);
      expect((await site.try('lab', 'start', 'dr', VM)).code).to.equal(FENCED);
    });

    it('the way home is taken back: its old disks are as they were, the DR site goes on', async () => {
      await both.live('lab', VM, 5);
      await both.becomes('FAILED_OVER', ['failover', 'undo'], VM, '--yes');
      await both.expectAsBefore(VM, left);
      await both.expectServes('dr', VM, back);
      await both.live('dr', VM, 7);
    });

    it('goes home for good, and its cycles go on from there', async () => {
      back = await both.views('dr', VM);
      await both.becomes('FAILED_BACK', ['failback'], VM);
      await both.expectServes('lab', VM, back);
      await both.live('lab', VM, 4);
      await both.becomes('PROTECTED', ['failover', 'permanent'], VM, '--yes');
      expect(await both.powerOf('dr', VM)).to.equal(undefined);
      kept.set((await site.points(VM)).at(-1) ?? '', hashesOf(back));
      const pushed = await site.push(VM);
      expect(pushed.kind).to.equal('delta');
      expect(pushed.bytesSent).to.be.lessThan(MIB);
      kept.set(pushed.point, hashesOf(await both.views('lab', VM)));
    });

    it('all of its points are what they were, those before the failover as well', async () => {
      for (const [point, wanted] of kept) {
        expect(await site.pointHashes(VM, point, DISK_COUNT), point).to.deep.equal(wanted);
      }
      await site.hvdr('verify', VM, '--point', 'all', ...both.operator);
    });
  });

  describe('a second time, without a daemon', () => {
    const AT_HOME = ['--host', 'lab:lab', '--state-dir', 'state'];

    before(() => both.stopDaemon());

    it('the commands run at the primary do all of it', async () => {
      await both.becomes('FAILED_OVER', ['failover', 'planned'], VM, ...MAP, ...AT_HOME);
      await both.live('dr', VM, 12);
      const refused = await both.run(['failback'], VM);
      expect(refused.code, refused.stderr).to.equal(21);
      await both.becomes('FAILING_BACK', ['failback'], VM, '--stage', 'sync', ...AT_HOME);
      await both.live('dr', VM, 3);
      const back = await both.views('dr', VM);
      await both.becomes('FAILED_BACK', ['failback'], VM, ...AT_HOME);
      await both.expectServes('lab', VM, back);
      await both.becomes('PROTECTED', ['failover', 'permanent'], VM, '--yes', ...AT_HOME);
      await both.live('lab', VM, 2);
      expect((await site.push(VM)).kind).to.equal('delta');
    });
  });
});
