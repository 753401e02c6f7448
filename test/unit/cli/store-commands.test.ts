// The commands that reach a store, in process, on a store in memory.

import { expect } from 'chai';
import { CELL_BYTES } from '../../../shared/delta/index.js';
import { runInProcess } from '../../support/cli.js';
import { FakeClock } from '../../support/fake-clock.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { type CyclePlan, openSite, SourceVm, STORE } from '../dr-receiver/source-double.js';

interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

describe('hvdr on a store', () => {
  let files: MemoryFileSystem;
  let clock: FakeClock;
  let plans: CyclePlan[];
  const vm = new SourceVm(1, [5 * CELL_BYTES], 'SQL01');

  const run = (...args: string[]): Promise<Ran> =>
    runInProcess([...args, '--store', STORE], { files, clock, folder: '/' });
  const json = async (...args: string[]): Promise<Record<string, unknown>> => {
    const { stdout, stderr } = await run(...args, '--json');
    expect(stderr).to.equal('');
    return JSON.parse(stdout) as Record<string, unknown>;
  };

  beforeEach(async () => {
    files = new MemoryFileSystem();
    clock = new FakeClock();
    const site = await openSite(files, { clock });
    vm.write(0, 1, 1);
    const seed = vm.plan(1, undefined, [undefined]);
    await vm.replicate(site, seed);
    vm.write(0, 2, 2);
    const delta = vm.plan(2, seed.pointId, [[2]]);
    await vm.replicate(site, delta);
    plans = [seed, delta];
    await site.receiver.close();
  });

  it('points: lists them, the oldest first, and pins by the beginning of an id', async () => {
    const listed = await json('points', 'sql01');
    expect(listed['vm']).to.equal('SQL01');
    const points = listed['points'] as { id: string; kind: string; createdAt: string }[];
    expect(points.map(({ id, kind }) => [id, kind])).to.deep.equal([
      [plans[0]?.pointId, 'seed'],
      [plans[1]?.pointId, 'delta'],
    ]);
    expect(points[0]?.createdAt).to.equal(new Date(clock.now()).toISOString());
    const id = plans[1]?.pointId ?? '';
    expect((await run('points', 'SQL01', '--pin', id)).stdout).to.match(/pinned by local operator/);
    expect((await run('points', 'SQL01', '--unpin', id)).stdout).not.to.match(/pinned/);
    const ambiguous = await run('points', 'SQL01', '--pin', id.slice(0, 4));
    expect(ambiguous.code).to.equal(12);
    expect(ambiguous.stderr).to.contain(id);
    expect((await run('points', 'SQL01', '--pin', id, '--unpin', id)).code).to.equal(2);
  });

  it('points --remove: wants confirmation, and refuses first what may not go', async () => {
    const site = await openSite(files, { clock });
    vm.write(0, 3, 3);
    await vm.replicate(site, vm.plan(3, plans.at(-1)?.pointId, [[3]]));
    await site.receiver.close();
    const remove = (index: number, ...more: string[]): Promise<Ran> =>
      run('points', 'SQL01', '--remove', plans[index]?.pointId ?? '', ...more);
    const guard = await remove(0);
    expect([guard.code, guard.stderr]).to.deep.include(14);
    expect(guard.stderr).to.match(/^E_RETENTION_FLOOR: .*first point of its day/);
    const asked = await remove(1);
    expect(asked.code, asked.stderr).to.equal(40);
    const plan = await remove(1, '--plan');
    expect(plan.stdout).to.match(/would be removed; 2 points stay\n$/);
    const removed = await remove(1, '--yes');
    expect(removed.stdout).to.match(/is removed; 2 points stay\n$/);
    const document = await json('points', 'SQL01');
    const points = document['points'] as { id: string }[];
    expect(points.map(({ id }) => id))
      .to.have.length(2)
      .and.not.include(plans[1]?.pointId);
    expect((await run('points', 'SQL01', '--yes')).code).to.equal(2);
  });

  it('compact: says what a VM took before and takes now, and what status tells of it', async () => {
    const site = await openSite(files, { clock });
    const listed = new Map(plans.map((plan) => [plan.pointId, plan]));
    let parent = plans.at(-1)?.pointId;
    for (let n = 3; n <= 8; n++) {
      vm.write(0, 3, n);
      const plan = vm.plan(n, parent, [[3]], { maxRestorePoints: 1 });
      await vm.replicate(site, plan);
      listed.set(plan.pointId, plan);
      parent = plan.pointId;
    }
    await site.control().pinPoint({ vm: 'SQL01', point: plans[0]?.pointId ?? '', isPinned: false });
    await site.receiver.close();
    // the seed is the first of its day, between it and the newest point lie seven deltas
    const before = (await json('status'))['protections'] as { reclaimableBytes: number }[];
    expect(before[0]?.reclaimableBytes).to.be.greaterThan(0);
    expect((await run('status')).stdout).to.contain('reclaimable');
    const document = await json('compact', 'SQL*');
    const [only] = document['vms'] as { vm: string; bytesBefore: number; bytesAfter: number }[];
    expect(only).to.deep.include({ vm: 'SQL01', waiting: [] });
    const { bytesBefore = 0, bytesAfter = 0 } = only ?? {};
    // the cell that six cycles wrote is there once
    expect(bytesBefore - bytesAfter).to.equal(5 * CELL_BYTES);
    const after = (await json('status'))['protections'] as { reclaimableBytes: number }[];
    expect(after[0]?.reclaimableBytes).to.equal(0);
    expect((await run('status')).stdout).not.to.contain('reclaimable');
    const again = await run('compact');
    expect(again.stdout).to.match(/^SQL01: (\S+ KiB) before, \1 now\n$/);
    expect((await run('verify', 'SQL01', '--point', 'all')).code).to.equal(0);
    expect((await run('compact', 'nothing')).code).to.equal(12);
  });

  it('status: age against the RPO, for people, scripts and monitoring', async () => {
    expect((await run('status', '--check')).code).to.equal(0);
    await clock.advance(500_000);
    const warned = await run('status', '--check');
    expect(warned.code).to.equal(1);
    expect(warned.stdout).to.equal(
      'WARN: SQL01: the newest point is 500 s old, the RPO is 600 s\n',
    );
    await clock.advance(500_000);
    expect((await run('status', '--check')).code).to.equal(2);
    const plain = await run('status');
    expect(plain.code).to.equal(0);
    expect(plain.stdout).to.match(/^SQL01 {2}PROTECTED critical {2}2 points, RPO 1000\/600 s/);
    const document = await json('status', '--vm', 'SQL*');
    const [only] = document['protections'] as Record<string, unknown>[];
    expect(only).to.deep.include({ vm: 'SQL01', state: 'PROTECTED', points: 2, owner: 'site-a' });
    expect(only?.['forecast']).to.equal(null);
    const today = new Date(clock.now()).toISOString().slice(0, 10);
    expect(only?.['rpoViolations']).to.deep.equal([{ day: today, seconds: 400 }]);
    expect(plain.stdout).to.contain('the RPO was not held for 400 s today, 400 s in seven days');
    expect((await run('status', '--vm', 'WEB*')).code).to.equal(12);
    const unknown = await runInProcess(['status', '--check', '--store', '/nowhere'], { files });
    expect(unknown.code).to.equal(3);
    expect(unknown.stdout).to.match(/^UNKNOWN: E_NOT_FOUND/);
    // 2 would be read as critical
    expect((await run('status', '--check', '--bogus')).code).to.equal(3);
    expect((await run('status', '--bogus')).code).to.equal(2);
    const nowhere = await runInProcess(['status', '--check'], { files });
    expect(nowhere.code).to.equal(3);
    expect(nowhere.stdout).to.match(/^UNKNOWN: E_USAGE/);
  });

  it('export: both formats, never over a file that is there', async () => {
    for (const [point, image] of [
      [plans[0]?.pointId ?? '', plans[0]?.images[0]],
      ['latest', plans[1]?.images[0]],
    ] as const) {
      const out = `/${point}.raw`;
      const done = await run('export', 'SQL01', '--point', point, '--out', out);
      expect(done.code, done.stderr).to.equal(0);
      expect(files.content(out)?.equals(image ?? Buffer.alloc(0))).to.equal(true);
    }
    expect((await run('export', 'SQL01', '--out', '/latest.raw')).code).to.equal(33);
    expect((await run('export', 'SQL01', '--out', '/latest.raw', '--force')).code).to.equal(0);
    expect((await run('export', 'SQL01', '--out', '/l.vhdx')).code).to.equal(0);
    const same = await runInProcess(['vhdx', 'compare', '/l.vhdx', '/latest.raw'], { files });
    expect(same.code, same.stderr).to.equal(0);
    expect((await run('export', 'SQL01', '--disk', '1', '--out', '/x')).code).to.equal(2);
    expect((await run('export', 'SQL01', '--format', 'qcow2', '--out', '/x')).code).to.equal(2);
  });

  it('verify: good, and the exit code of a damaged point', async () => {
    expect(await json('verify', 'SQL01', '--point', 'all')).to.deep.include({
      vm: 'SQL01',
      isGood: true,
      points: 2,
    });
    const path = files.paths.find((each) => each.endsWith('.delta')) ?? '';
    const bytes = files.content(path) ?? Buffer.alloc(0);
    files.put(path, bytes.subarray(1));
    const bad = await run('verify', 'SQL01');
    expect(bad.code).to.equal(13);
    expect(bad.stderr)
      .to.match(/^E_POINT_CORRUPT: SQL01: 1 point/m)
      .and.to.contain(plans[0]?.pointId);
    expect(bad.stdout).to.contain('E_DELTA_COVERAGE');
    const refused = await run('export', 'SQL01', '--out', '/y.raw');
    expect(refused.code).to.equal(13);
    expect(files.content('/y.raw')).to.equal(undefined);
  });

  it('pause and unpause', async () => {
    expect((await run('pause', 'SQL01')).stdout).to.equal('SQL01 is paused\n');
    expect((await run('status', '--check')).code).to.equal(1);
    expect((await run('unpause', 'SQL01')).code).to.equal(0);
    expect((await run('status', '--check')).code).to.equal(0);
  });

  it('rebind: gives the VM to another principal, once', async () => {
    expect((await run('rebind', 'SQL01', '--to', 'site-b')).stdout).to.equal(
      'SQL01 belongs to site-b; before to site-a\n',
    );
    expect(await json('rebind', 'SQL01', '--to', 'site-b')).to.deep.equal({
      vm: 'SQL01',
      owner: 'site-b',
      formerOwner: 'site-b',
    });
    expect((await run('rebind', 'SQL01')).code).to.equal(2);
    expect((await run('rebind', 'SQL01', '--to', '')).code).to.equal(2);
    expect((await run('rebind', 'none', '--to', 'site-b')).code).to.equal(10);
  });

  it('unhalt: wants --yes, and says what it accepts', async () => {
    const site = await openSite(files, { clock });
    const ahead = vm.plan(3, plans[1]?.pointId, [[2]], { epoch: 4n });
    await vm.open(site, ahead).catch(() => undefined);
    await site.receiver.close();
    expect((await run('status')).stdout).to.contain('HALTED');
    const unsure = await run('unhalt', 'SQL01');
    expect(unsure.code).to.equal(2);
    expect(unsure.stderr).to.contain('are not in it').and.to.contain('compares every disk');
    expect((await run('unhalt', 'SQL01', '--yes', '--epoch', 'x')).code).to.equal(2);
    expect((await run('unhalt', 'SQL01', '--yes', '--epoch', '0')).code).to.equal(2);
    const done = await run('unhalt', 'SQL01', '--yes');
    expect(done.stdout).to.equal(
      'SQL01 goes on with epoch 4, before 1\nits next cycle compares every disk\n',
    );
    expect((await run('status')).stdout).to.contain('RESYNC');
    expect((await run('unhalt', 'SQL01', '--yes')).code).to.equal(10);
  });

  it('wants to be told where the store is, once', async () => {
    const nowhere = await runInProcess(['points', 'SQL01'], { files });
    expect(nowhere.code).to.equal(2);
    expect((await run('points', 'SQL01', '--dr-host', 'dr1')).code).to.equal(2);
    const port = await runInProcess(
      ['points', 'SQL01', '--dr-host', 'dr1', '--dr-port', '70000', '--psk-file', 'k'],
      { files },
    );
    expect(port.code).not.to.equal(0);
  });
});
