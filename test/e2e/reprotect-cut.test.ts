// The line to the former primary is cut in the first cycle of a reprotect, while it compares and while it
// sends: no point is listed there meanwhile, the same command goes on, and the point is the VM as it is.

import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { SeededRandom } from '../support/seeded-random.js';
import { type Running, Site } from '../support/site.js';
import { type Direction, TcpProxy } from '../support/tcp-proxy.js';
import { WorkFolder } from '../support/work-folder.js';

const KIB = 1024;
const SIZE_MIB = 32;
const CHANGED_CELLS = 96;

interface Cut {
  readonly what: string;
  readonly direction: Direction;
  /** More than passes before the cycle, less than the cycle needs. */
  readonly bytes: number;
}

/** The hashes of the staged disk come over, of all its cells. */
const IN_COMPARE: Cut = { what: 'compares', direction: 'to-client', bytes: 12 * KIB };
/** The cells that differ go over; what is there already counts. */
const IN_PUSH: Cut = { what: 'sends', direction: 'to-server', bytes: 1536 * KIB };

describe('hvdr reprotect, cut off', function () {
  this.timeout(240_000);
  const work = new WorkFolder('reprotect-cut');
  const b = new Site(work.path);
  const a = new Site(work.path);
  b.drHost = 'lab:dr';
  let proxy: TcpProxy;

  before(async () => {
    await b.prepare();
    await b.hvdr('lab', 'init', 'dr');
    const full = new SeededRandom(7).bytes(SIZE_MIB * KIB * KIB);
    writeFileSync(join(work.path, 'full.raw'), full);
    await b.startReceiver();
    await a.startReceiver('--store', 'store-a');
    const target = { host: '127.0.0.1', port: a.port };
    proxy = await TcpProxy.start({ target, isRecording: false });
  });

  after(async () => {
    await proxy.close();
    await b.stopReceiver();
    await a.stopReceiver();
    work.dispose();
  });

  const write = (lab: string, vm: string, count: number, seed: number): Promise<unknown> =>
    b.hvdr(
      ...['lab', 'write', lab, vm, '--random', String(count), '--block', '64K'],
      ...['--seed', String(seed)],
    );
  const read = async (lab: string, vm: string): Promise<Buffer> =>
    (await b.hvdr('lab', 'read', lab, vm, '--disk', '0')).stdout;

  /** It stays at B for good, where it has written since. */
  const stays = async (vm: string): Promise<void> => {
    await b.hvdr('lab', 'create-vm', 'lab', vm, '--disk', `${SIZE_MIB}M`);
    await b.hvdr('lab', 'start', 'lab', vm);
    await b.hvdr('lab', 'write', 'lab', vm, '--file', 'full.raw', '--offset', '0');
    await b.push(vm);
    await b.hvdr('lab', 'stop', 'lab', vm);
    await b.hvdr('failover', 'unplanned', vm, ...b.operator());
    await b.hvdr('failover', 'permanent', vm, '--yes', ...b.operator());
    await write('dr', vm, CHANGED_CELLS, 2);
  };

  const reprotect = (vm: string): Running =>
    b.start(
      ...['reprotect', vm, '--host', 'lab:dr', '--state-dir', 'state-dr'],
      ...['--dr-host', '127.0.0.1', '--dr-port', String(proxy.port)],
      ...['--psk-file', 'keys/operator.psk', '--principal', 'primary'],
      ...['--retired-host', '127.0.0.1', '--retired-port', String(b.port)],
      ...['--retired-psk-file', 'keys/operator.psk', '--json'],
    );

  const cutWhile = async (running: Running, cut: Cut): Promise<void> => {
    const isCut = proxy.nextCut();
    proxy.cutAfter(cut.direction, cut.bytes, true);
    const ended = running.done.then(({ stderr }) => {
      throw new Error(`it ended before the line was cut while it ${cut.what}: ${stderr}`);
    });
    await Promise.race([isCut, ended]);
    ended.catch(() => undefined);
  };

  const expectNothingListed = async (vm: string): Promise<void> => {
    const listed = await b.try('points', vm, ...a.operator(), '--json');
    if (listed.code === 0) expect(await a.points(vm)).to.deep.equal([]);
    else expect(listed.stderr).to.include('E_NOT_PROTECTED');
    const status = await b.hvdr('status', '--vm', vm, ...b.operator());
    expect(status.stdout.toString()).not.to.include('reprotected');
  };

  const expectProtected = async (vm: string, left: Buffer): Promise<void> => {
    const points = await a.points(vm);
    expect(points.length).to.equal(1);
    const [found] = await a.pointHashes(vm, points[0] ?? '', 1);
    const wanted = createHash('sha256')
      .update(await read('dr', vm))
      .digest('hex');
    expect(found).to.equal(wanted);
    expect((await read('lab', vm)).equals(left)).to.equal(true);
    const home = await b.hvdr('status', '--vm', vm, ...a.operator());
    expect(home.stdout.toString()).to.include('PROTECTED');
    const status = await b.hvdr('status', '--vm', vm, ...b.operator());
    expect(status.stdout.toString()).to.include('reprotected');
  };

  it('it is stopped while the line is away: nothing is listed, and the same command goes on', async () => {
    const vm = 'SQL01';
    await stays(vm);
    const left = await read('lab', vm);
    for (const cut of [IN_COMPARE, IN_PUSH]) {
      const running = reprotect(vm);
      await cutWhile(running, cut);
      await expectNothingListed(vm);
      running.child.kill('SIGTERM');
      const { stdout } = await running.done;
      expect(stdout.toString(), cut.what).to.include('"step":"R2"').and.not.include('"step":"R3"');
      proxy.refuse(false);
      await expectNothingListed(vm);
    }
    const last = await reprotect(vm).done;
    expect(last.code, last.stderr).to.equal(0);
    await expectProtected(vm, left);
  });

  it('it goes on by itself when the line is back, and ends protected', async () => {
    const vm = 'WEB01';
    await stays(vm);
    const left = await read('lab', vm);
    const running = reprotect(vm);
    for (const cut of [IN_COMPARE, IN_PUSH]) {
      await cutWhile(running, cut);
      await expectNothingListed(vm);
      proxy.refuse(false);
    }
    const { code, stderr } = await running.done;
    expect(code, stderr).to.equal(0);
    await expectProtected(vm, left);
  });
});
