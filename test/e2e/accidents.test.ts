// What goes wrong on a working day, with real processes: either side killed at any moment, the
// guest writing on after its agent died, a full disk at the DR site, a network that is cut or slow.
// Afterwards the newest point is what the guest had, and every older one reads back.

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { skipBecause } from '../support/need.js';
import { SeededRandom } from '../support/seeded-random.js';
import { pushRun, Site } from '../support/site.js';
import { TcpProxy } from '../support/tcp-proxy.js';

const VM = 'SQL01';
const KILLS = process.env['SLOW'] === '1' ? 200 : 6;

describe('accidents', () => {
  let site: Site;

  beforeEach(async () => {
    site = new Site(mkdtempSync(join(tmpdir(), 'hvdr-accidents-')));
    await site.prepare();
    await site.hvdr('lab', 'create-vm', 'lab', VM, '--disk', '64M', '--disk', '16M');
    await site.hvdr('lab', 'start', 'lab', VM);
  });

  afterEach(async () => {
    await site.stopReceiver('SIGKILL');
    rmSync(site.folder, { recursive: true, force: true });
  });

  async function guestWrites(disk: number, cells: number, seed: number): Promise<void> {
    await site.hvdr(
      ...['lab', 'write', 'lab', VM, '--disk', String(disk)],
      ...['--random', String(cells), '--block', '64K', '--seed', String(seed)],
    );
  }

  async function expectNewestIsGuest(): Promise<void> {
    const hashes = await site.guestHashes(VM, 2);
    const newest = await site.push(VM);
    expect(await site.pointHashes(VM, newest.point, 2)).to.deep.equal(hashes);
  }

  it(`loses nothing when either side is killed, ${KILLS} times at random moments`, async function () {
    this.timeout(60_000 + KILLS * 20_000);
    const random = new SeededRandom(20261125);
    await guestWrites(0, 300, 1);
    await site.startReceiver();
    for (let round = 0; round < KILLS; round++) {
      await guestWrites(random.int(2), 20 + random.int(60), 100 + round);
      const push = site.startPush(VM, '--bandwidth', '16M');
      await sleep(random.int(1500));
      if (random.chance(0.5)) {
        push.child.kill('SIGKILL');
        await push.done;
      } else {
        await site.stopReceiver('SIGKILL');
        await site.startReceiver();
        // a push that began while nobody listened says so at once; one under way goes on
        const { code, stderr } = await push.done;
        expect(code, stderr).to.be.oneOf([0, 3, 21]);
      }
      if (round % 3 === 2) await expectNewestIsGuest();
    }
    await expectNewestIsGuest();
    await site.hvdr('verify', VM, '--point', 'all', ...site.operator());
  });

  it('makes no mixed image when the agent dies and the guest writes on', async function () {
    this.timeout(300_000);
    await guestWrites(0, 700, 1);
    await guestWrites(1, 100, 2);
    await site.startReceiver();
    const push = site.startPush(VM, '--bandwidth', '8M');
    await sleep(2500);
    push.child.kill('SIGKILL');
    expect((await push.done).signal).to.equal('SIGKILL');
    // over what was sent and over what was not
    await guestWrites(0, 300, 3);
    await guestWrites(1, 50, 4);
    const hashes = await site.guestHashes(VM, 2);
    const { point, bytesSent } = await site.push(VM);
    expect(await site.pointHashes(VM, point, 2)).to.deep.equal(hashes);
    expect(bytesSent).to.be.below(52 * 1024 * 1024, 'staged cells that fit are used again');
    // and nothing of the dead run stays at the host
    const again = await site.push(VM);
    expect(again.kind).to.equal('nothing');
  });

  it('ends a push at a safe point on SIGTERM and goes on afterwards', async function () {
    this.timeout(300_000);
    await guestWrites(0, 400, 1);
    await site.startReceiver();
    const push = site.startPush(VM, '--bandwidth', '4M');
    await sleep(2000);
    push.child.kill('SIGTERM');
    const run = pushRun(await push.done);
    expect(run.signal).to.equal(null);
    expect(run.code).not.to.equal(0);
    await guestWrites(0, 10, 2);
    await expectNewestIsGuest();
  });

  it('goes on when the network is cut in mid-cycle, and sends at most 8 MiB again', async function () {
    this.timeout(300_000);
    await guestWrites(0, 500, 1);
    await site.startReceiver();
    const proxy = await TcpProxy.start({
      target: { host: '127.0.0.1', port: site.port },
      delayMs: 10,
    });
    try {
      site.pushPort = proxy.port;
      const hashes = await site.guestHashes(VM, 2);
      const push = site.startPush(VM, '--bandwidth', '8M');
      await sleep(2500);
      proxy.cut();
      const run = pushRun(await push.done);
      expect(run.code, run.stderr).to.be.oneOf([0, 3]);
      const [vm] = run.vms;
      const repeated = (vm?.disks ?? []).map(({ repeatedBytes }) => repeatedBytes);
      expect(repeated).to.have.length(2);
      for (const bytes of repeated) expect(bytes).to.be.at.most(8 * 1024 * 1024);
      expect(await site.pointHashes(VM, vm?.point ?? '', 2)).to.deep.equal(hashes);
    } finally {
      await proxy.close();
    }
  });

  it('says that the DR site is full, keeps every point, and goes on when there is room', async function () {
    if (process.platform !== 'linux' || process.getuid?.() !== 0) {
      skipBecause(this, 'a small volume is mounted by root on Linux only');
    }
    this.timeout(300_000);
    const store = join(site.folder, 'store');
    mkdirSync(store);
    mount(['-t', 'tmpfs', '-o', 'size=40m', 'tmpfs', store]);
    try {
      await guestWrites(0, 200, 1);
      await site.startReceiver();
      const hashes = await site.guestHashes(VM, 2);
      const first = await site.push(VM);
      await guestWrites(0, 900, 2);
      const full = await site.tryPush(VM);
      expect(full.code, full.stderr).to.equal(32);
      expect(full.stderr).to.match(/^E_CAPACITY: /m);
      expect(await site.points(VM)).to.deep.equal([first.point]);
      expect(await site.pointHashes(VM, first.point, 2)).to.deep.equal(hashes);
      mount(['-o', 'remount,size=300m', store]);
      await expectNewestIsGuest();
      expect(await site.pointHashes(VM, first.point, 2)).to.deep.equal(hashes);
    } finally {
      await site.stopReceiver('SIGKILL');
      spawnSync('umount', ['-l', store]);
    }
  });
});

function mount(args: readonly string[]): void {
  const run = spawnSync('mount', args, { encoding: 'utf8' });
  if (run.status !== 0) throw new Error(`mount ${args.join(' ')}: ${run.stderr}`);
}
