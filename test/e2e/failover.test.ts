// Two lab sites, real processes: replicate, test, fail over to an older point, undo, go on as deltas; then
// a planned failover from the primary, and its undo. The guest's bytes are compared at every station.

import { expect } from 'chai';
import { Site } from '../support/site.js';
import { WorkFolder } from '../support/work-folder.js';

interface Result {
  readonly event: string;
  readonly state?: string;
  readonly instance?: string;
  readonly isPassed?: boolean;
  readonly operation?: string;
}

describe('hvdr failover', function () {
  this.timeout(240_000);
  const work = new WorkFolder('failover');
  const site = new Site(work.path);
  site.drHost = 'lab:dr';

  before(async () => {
    await site.prepare();
    await site.hvdr('lab', 'init', 'dr');
    await site.hvdr('lab', 'create-vm', 'lab', 'SQL01', '--disk', '24M', '--disk', '3M');
    await site.hvdr('lab', 'start', 'lab', 'SQL01');
    await site.startReceiver();
  });

  after(async () => {
    await site.stopReceiver();
  });

  const access = (): string[] => [
    ...['--dr-host', '127.0.0.1', '--dr-port', String(site.port)],
    ...['--psk-file', 'keys/operator.psk'],
  ];
  const failover = async (...args: string[]): Promise<Result> => {
    const run = await site.hvdr('failover', ...args, ...access(), '--json');
    const last = run.stdout.toString().trim().split('\n').at(-1) ?? '';
    return JSON.parse(last) as Result;
  };
  const write = (lab: string, disk: number, seed: number, vm = 'SQL01'): Promise<unknown> =>
    site.hvdr(
      ...['lab', 'write', lab, vm, '--disk', String(disk), '--random', '9', '--block', '64K'],
      ...['--seed', String(seed)],
    );
  const bytes = async (lab: string, vm = 'SQL01'): Promise<Buffer[]> => {
    const disks: Buffer[] = [];
    for (const disk of ['0', '1']) {
      disks.push((await site.hvdr('lab', 'read', lab, vm, '--disk', disk)).stdout);
    }
    return disks;
  };
  const expectSame = (found: readonly Buffer[], wanted: readonly Buffer[]): void => {
    for (const [disk, view] of wanted.entries()) {
      expect(found[disk]?.equals(view), `disk ${disk}`).to.equal(true);
    }
  };
  const atPrimary = ['--host', 'lab:lab', '--state-dir', 'state'];
  const points: string[] = [];
  const views: Buffer[][] = [];

  it('replicates, and a test proves the newest point without anybody noticing', async () => {
    for (const seed of [1, 2, 3]) {
      await write('lab', 0, seed);
      await write('lab', 1, seed + 10);
      const pushed = await site.push('SQL01');
      points.push(pushed.point);
      views.push(await bytes('lab'));
    }
    const kept = await failover('test', 'SQL01', '--keep');
    expect(kept.isPassed).to.equal(true);
    expectSame(await bytes('dr', kept.instance), views[2] ?? []);
    await write('dr', 0, 99, kept.instance);
    await failover('test', 'SQL01', '--stop', kept.operation ?? '');
    const list = await site.hvdr('lab', 'list', 'dr', '--json');
    expect(list.stdout.toString()).not.to.include('SQL01');
  });

  it('fails over to an older point; the primary is refused from then on', async () => {
    const point = points[0] ?? '';
    // whatever took the primary away: its VM does not run when the site is back
    await site.hvdr('lab', 'stop', 'lab', 'SQL01');
    const plan = await site.try('failover', 'unplanned', 'SQL01', '--plan', ...access());
    expect(plan.stdout.toString()).to.include('PROTECTED → FAILED_OVER').and.include('U4');
    const done = await failover('unplanned', 'SQL01', '--point', point);
    expect(done.state).to.equal('FAILED_OVER');
    expectSame(await bytes('dr'), views[0] ?? []);
    const refused = await site.tryPush('SQL01');
    expect(refused.code, refused.stderr).to.equal(10);
    const status = await site.try('status', '--vm', 'SQL01', ...access());
    expect(status.stdout.toString()).to.include('FAILED_OVER');
  });

  it('a failback wants the agent of the primary, and its plan says so', async () => {
    const plan = await site.try('failback', 'SQL01', '--stage', 'sync', '--plan', ...access());
    expect(plan.stdout.toString())
      .to.include('FAILED_OVER → FAILING_BACK')
      .and.include('F1')
      .and.include('refused: E_SOURCE_UNREACHABLE')
      .and.not.include('F2');
    expect((await site.try('failback', 'SQL01', ...access())).code).to.equal(21);
  });

  it('undo wants confirmation, and then cycles go on as deltas', async () => {
    await write('dr', 0, 77);
    const refused = await site.try('failover', 'undo', 'SQL01', ...access());
    expect(refused.code).to.equal(40);
    // run at the primary, its agent hears at once that it is the active site again
    const done = await failover('undo', 'SQL01', '--yes', ...atPrimary);
    expect(done.state).to.equal('PROTECTED');
    // it was off when we came, so it was left off; its fence is lifted
    await site.hvdr('lab', 'start', 'lab', 'SQL01');
    await write('lab', 0, 5);
    const pushed = await site.push('SQL01');
    expect(pushed.kind).to.equal('delta');
    views.push(await bytes('lab'));
  });

  it('moves without loss from the primary; its VM starts no more, until the undo', async () => {
    await write('lab', 1, 6);
    const wanted = await bytes('lab');
    const done = await failover('planned', 'SQL01', ...atPrimary);
    expect(done.state).to.equal('FAILED_OVER');
    expectSame(await bytes('dr'), wanted);
    expect((await site.try('lab', 'start', 'lab', 'SQL01')).code).to.equal(25);
    const undone = await failover('undo', 'SQL01', '--yes', ...atPrimary);
    expect(undone.state).to.equal('PROTECTED');
    const shown = await site.hvdr('lab', 'show', 'lab', 'SQL01', '--json');
    expect(shown.stdout.toString()).to.include('running');
    await write('lab', 0, 8);
    expect((await site.push('SQL01')).kind).to.equal('delta');
  });

  it('permanent: the VM stays, and its source skips it from then on, with a warning', async () => {
    await site.hvdr('lab', 'stop', 'lab', 'SQL01');
    await failover('unplanned', 'SQL01', '--force', '--reason', 'drill', '--yes');
    const done = await failover('permanent', 'SQL01', '--yes');
    expect(done.state).to.equal('COMMITTED');
    expect((await site.try('failover', 'undo', 'SQL01', '--yes', ...access())).code).to.equal(10);
    const before = (await site.hvdr('points', 'SQL01', ...access())).stdout.toString();
    // the first cycle hears of it, the second one knows
    for (const time of ['first', 'second']) {
      const skipped = await site.tryPush('SQL01');
      expect(skipped.code, `${time}: ${skipped.stderr}`).to.equal(3);
      expect(skipped.vms[0]?.kind).to.equal('skipped');
      expect(skipped.stdout.toString()).to.include('W_RETIRED_SKIPPED');
    }
    expect((await site.hvdr('points', 'SQL01', ...access())).stdout.toString()).to.equal(before);
    expect((await site.try('lab', 'start', 'lab', 'SQL01')).code).to.equal(25);
  });
});
