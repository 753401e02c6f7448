// Two lab sites with a receiver each, real processes: a VM is lost at A and stays at B, is protected towards
// A from the disks it left there, goes home without loss, and is protected towards B again. The guest's
// bytes are compared at every station.

import { expect } from 'chai';
import type { CliRun } from '../support/cli.js';
import { Site } from '../support/site.js';
import { WorkFolder } from '../support/work-folder.js';

interface Result {
  readonly event?: string;
  readonly state?: string;
  readonly vmId?: string;
  readonly home?: string;
  readonly networkMap?: string;
  readonly bytesSent?: number;
  readonly code?: string;
}

const MIB = 1024 * 1024;

describe('hvdr reprotect', function () {
  this.timeout(240_000);
  const work = new WorkFolder('reprotect');
  /** The receiver at B, and one at A on the lab where the VM begins. */
  const b = new Site(work.path);
  const a = new Site(work.path);
  b.drHost = 'lab:dr';

  before(async () => {
    await b.prepare();
    await b.hvdr('lab', 'init', 'dr');
    await b.hvdr('lab', 'switch', 'lab', 'add', 'Prod');
    await b.hvdr('lab', 'switch', 'dr', 'add', 'Spare');
    await b.hvdr(
      'lab',
      'create-vm',
      'lab',
      'SQL01',
      '--disk',
      '24M',
      '--disk',
      '3M',
      '--switch',
      'Prod',
    );
    await b.hvdr('lab', 'start', 'lab', 'SQL01');
    await b.startReceiver();
    await a.startReceiver('--store', 'store-a');
  });

  after(async () => {
    await b.stopReceiver();
    await a.stopReceiver();
  });

  /** The command that brings the VM home, as the reprotect printed it. */
  let home = '';

  const access = (site: Site): string[] => [
    ...['--dr-host', '127.0.0.1', '--dr-port', String(site.port)],
    ...['--psk-file', 'keys/operator.psk'],
  ];
  const lastLine = ({ stdout }: CliRun): Result => {
    const last = stdout.toString().trim().split('\n').at(-1) ?? '{}';
    return JSON.parse(last) as Result;
  };
  const hvdr = async (...args: string[]): Promise<Result> =>
    lastLine(await b.hvdr(...args, '--json'));
  const write = (lab: string, disk: number, seed: number): Promise<unknown> =>
    b.hvdr(
      ...['lab', 'write', lab, 'SQL01', '--disk', String(disk), '--random', '4', '--block', '64K'],
      ...['--seed', String(seed)],
    );
  const bytes = async (lab: string): Promise<Buffer[]> => {
    const disks: Buffer[] = [];
    for (const disk of ['0', '1']) {
      disks.push((await b.hvdr('lab', 'read', lab, 'SQL01', '--disk', disk)).stdout);
    }
    return disks;
  };
  const expectSame = (found: readonly Buffer[], wanted: readonly Buffer[]): void => {
    for (const [disk, view] of wanted.entries()) {
      expect(found[disk]?.equals(view), `disk ${disk}`).to.equal(true);
    }
  };
  /** At the site of `host`, towards the receiver `to`; the retired protection is at `from`. */
  const reprotect = (host: string, to: Site, from: Site): string[] => [
    ...['reprotect', 'SQL01', '--host', `lab:${host}`, '--state-dir', `state-${host}`],
    ...[...access(to), '--principal', 'primary'],
    ...['--retired-host', '127.0.0.1', '--retired-port', String(from.port)],
    ...['--retired-psk-file', 'keys/operator.psk'],
  ];
  const events = (run: CliRun): Result[] =>
    run.stdout
      .toString()
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Result);

  it('is refused before the failover is permanent, and while the VM runs at A', async () => {
    for (const seed of [1, 2]) {
      await write('lab', 0, seed);
      await write('lab', 1, seed + 10);
      await b.push('SQL01');
    }
    expect((await b.try(...reprotect('dr', a, b))).code).to.equal(10);
    await b.hvdr('lab', 'stop', 'lab', 'SQL01');
    await hvdr('failover', 'unplanned', 'SQL01', '--network-map', 'Prod=Spare', ...access(b));
    const uncommitted = await b.try(...reprotect('dr', a, b));
    expect(uncommitted.stderr).to.include('E_UNCOMMITTED');
    await hvdr('failover', 'permanent', 'SQL01', '--yes', ...access(b));
    await b.hvdr('lab', 'start', 'lab', 'SQL01');
    const alive = await b.try(...reprotect('dr', a, b));
    expect(alive.code, alive.stderr).to.equal(20);
    expect(alive.stderr).to.include('E_SOURCE_ALIVE');
    await b.hvdr('lab', 'stop', 'lab', 'SQL01');
    // the agent of A hears that its VM is retired, and fences it
    await b.tryPush('SQL01');
    expect((await b.try('lab', 'start', 'lab', 'SQL01')).code).to.equal(25);
  });

  it('only what differs from the disks at A travels, and those are not changed', async () => {
    await write('dr', 0, 31);
    const left = await bytes('lab');
    const plan = await b.hvdr(...reprotect('dr', a, b), '--plan');
    expect(plan.stdout.toString()).to.include('R1').and.not.include('refused');
    const run = await b.hvdr(...reprotect('dr', a, b), '--json');
    const cycle = events(run).find(({ event }) => event === 'cycle');
    expect(cycle?.bytesSent)
      .to.be.greaterThan(0)
      .and.lessThan(2 * MIB);
    expectSame(await bytes('lab'), left);
    home = lastLine(run).home ?? '';
    expect(home).to.include('--network-map Spare=Prod');
    const again = await b.hvdr(...reprotect('dr', a, b), '--json');
    expect(events(again).some(({ event }) => event === 'cycle')).to.equal(false);
    const status = await b.hvdr('status', '--vm', 'SQL01', ...access(b));
    expect(status.stdout.toString()).to.include('reprotected');
  });

  it('the retired protection is forgotten, and the VM that stays starts with its bytes', async () => {
    const wanted = await bytes('dr');
    const refused = await b.try('forget', 'SQL01', '--yes', ...access(b));
    expect(refused.code, refused.stderr).to.equal(10);
    expect(refused.stderr).to.include('hvdr flatten SQL01');
    await b.hvdr('lab', 'stop', 'dr', 'SQL01');
    await hvdr('flatten', 'SQL01', ...access(b));
    expect((await hvdr('forget', 'SQL01', '--yes', ...access(b))).state).to.equal('UNPROTECTED');
    await b.hvdr('lab', 'start', 'dr', 'SQL01');
    expectSame(await bytes('dr'), wanted);
    const status = await b.hvdr('status', '--json', ...access(b));
    expect(status.stdout.toString()).not.to.include('SQL01');
  });

  it('goes home without loss by the command that it printed', async () => {
    await write('dr', 1, 32);
    const wanted = await bytes('dr');
    const words = home.split(' ').slice(1);
    const without = words.filter((word) => word !== '--replace-retired');
    const refused = await b.try(...without);
    expect(refused.code, refused.stderr).to.equal(33);
    expect(refused.stderr).to.include('--replace-retired removes');
    const done = await hvdr(...words);
    expect(done.state).to.equal('FAILED_OVER');
    expectSame(await bytes('lab'), wanted);
    await hvdr('failover', 'permanent', 'SQL01', '--yes', ...access(a));
  });

  it('is protected towards B again, from the disks that it left there', async () => {
    await write('lab', 0, 33);
    const run = await b.hvdr(...reprotect('lab', b, a), '--json');
    const cycle = events(run).find(({ event }) => event === 'cycle');
    expect(cycle?.bytesSent)
      .to.be.greaterThan(0)
      .and.lessThan(2 * MIB);
  });
});
