// A daemon with many VMs, as a user runs it: everybody's turns, trouble that stays where it belongs,
// a configuration that changes under way, and what `hvdr status` says of the RPO meanwhile.

import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { systemClock } from '../../shared/clock.js';
import { HvdrProcess } from '../support/hvdr-process.js';
import { Site } from '../support/site.js';

const VM_COUNT = 12;

/** One line of `hvdr daemon --json`. */
interface Line {
  readonly event: string;
  readonly vm?: string;
  readonly job?: string;
  readonly kind?: string;
  readonly isApplied?: boolean;
  readonly jobs?: readonly string[];
  readonly warnings?: readonly { readonly code: string }[];
  readonly error?: { readonly code: string; readonly message: string };
}

interface Protection {
  readonly vm: string;
  readonly points: number;
  readonly running: string;
  readonly forecast: {
    readonly newestAgeSeconds: number;
    readonly willMissRpo: boolean;
    readonly because: string;
  } | null;
  readonly reasons: readonly string[];
}

function linesOf(daemon: HvdrProcess): Line[] {
  const whole = daemon.stdout.slice(0, daemon.stdout.lastIndexOf('\n') + 1);
  // the contract of `hvdr daemon --json`
  return whole
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Line);
}

function countsOf(lines: readonly Line[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { event, kind, vm = '' } of lines) {
    if (event !== 'cycle' || kind === 'failed') continue;
    counts.set(vm, (counts.get(vm) ?? 0) + 1);
  }
  return counts;
}

/** Waits until what the daemon has said is enough. @throws when it ends before */
async function until(daemon: HvdrProcess, isEnough: (lines: Line[]) => boolean): Promise<Line[]> {
  const ended = daemon.ended.then(({ code, stderr }) => {
    throw new Error(`the daemon ended with ${String(code)}: ${stderr}`);
  });
  ended.catch(() => undefined);
  for (;;) {
    const lines = linesOf(daemon);
    if (isEnough(lines)) return lines;
    await Promise.race([systemClock.sleep(50), ended]);
  }
}

describe('many VMs', function () {
  this.timeout(300_000);
  let site: Site;
  let daemon: HvdrProcess | undefined;

  beforeEach(async () => {
    site = new Site(mkdtempSync(join(tmpdir(), 'hvdr-many-')));
    await site.prepare();
    await site.startReceiver();
  });

  afterEach(async () => {
    await daemon?.stop('SIGKILL');
    daemon = undefined;
    await site.stopReceiver('SIGKILL');
    rmSync(site.folder, { recursive: true, force: true });
  });

  const common = (): string[] => [
    `host=lab:${join(site.folder, 'lab')}`,
    'dr_host=127.0.0.1',
    `dr_port=${site.port}`,
    `dr_psk_file=${join(site.folder, 'keys/source.psk')}`,
    `state_dir=${join(site.folder, 'state')}`,
    'push_interval=2',
  ];
  const config = (): string => join(site.folder, 'daemon.conf');
  const write = (...lines: string[]): void => {
    // as a careful editor does
    writeFileSync(`${config()}.new`, `${[...common(), ...lines].join('\n')}\n`);
    renameSync(`${config()}.new`, config());
  };
  const start = (): HvdrProcess => {
    daemon = new HvdrProcess(['daemon', '--config', config(), '--json']);
    return daemon;
  };
  const protections = async (): Promise<Protection[]> => {
    const run = await site.hvdr('status', ...site.operator(), '--json');
    // the contract of `hvdr status --json`
    return (JSON.parse(run.stdout.toString()) as { protections: Protection[] }).protections;
  };

  it(`keeps ${VM_COUNT} VMs in step: no cycle is missed, none fails, monitoring is content`, async () => {
    for (let i = 1; i <= VM_COUNT; i++) {
      await site.hvdr('lab', 'create-vm', 'lab', `vm${i}`, '--disk', '4M');
    }
    write('vm=vm*', 'rpo_seconds=60', 'max_restore_points=100');
    const running = start();
    const reached = (count: number) => (lines: readonly Line[]) =>
      Math.max(0, ...countsOf(lines).values()) >= count;
    await until(running, reached(3));
    for (let i = 1; i <= VM_COUNT; i++) {
      await site.hvdr('lab', 'write', 'lab', `vm${i}`, '--random', '1', '--seed', String(i));
    }
    const isDelta = ({ kind }: Line): boolean => kind === 'delta';
    const lines = await until(
      running,
      (all) => reached(8)(all) && all.filter(isDelta).length >= VM_COUNT,
    );
    const counts = countsOf(lines);
    expect(counts.size).to.equal(VM_COUNT);
    // start to start, five per cent more or less: nobody is two cycles behind the first
    const most = Math.max(...counts.values());
    for (const [vm, count] of counts) expect(count, vm).to.be.within(most - 2, most);
    const cycles = lines.filter(({ event }) => event === 'cycle');
    expect(cycles.filter(({ kind }) => kind === 'failed')).to.deep.equal([]);
    expect(cycles.flatMap(({ warnings }) => warnings ?? [])).to.deep.equal([]);
    const check = await site.try('status', '--check', ...site.operator());
    expect(check.code, check.stdout.toString()).to.equal(0);
    expect(check.stdout.toString()).to.equal(`OK: ${VM_COUNT} VMs are protected\n`);
    for (const { vm, points, forecast } of await protections()) {
      expect(points, vm).to.be.at.least(6);
      expect(forecast, vm).to.include({ willMissRpo: false });
    }
    const { stderr } = await running.stop('SIGTERM');
    expect(stderr).not.to.match(/cycle\.failed|rpo\.out-of-reach/);
  });

  it('keeps trouble where it belongs: a host that is gone, a job that ends at its failure', async () => {
    for (const name of ['web', 'sql', 'strict']) {
      await site.hvdr('lab', 'create-vm', 'lab', name, '--disk', '1M');
    }
    await site.hvdr('lab', 'init', 'far');
    await site.hvdr('lab', 'create-vm', 'far', 'remote', '--disk', '1M');
    await site.hvdr('lab', 'fault', 'lab', 'strict', 'set', 'checkpoint-fails');
    await site.hvdr('lab', 'fault', 'lab', 'sql', 'set', 'checkpoint-fails');
    const far = join(site.folder, 'far');
    const [lab = '', ...rest] = common();
    expect(lab).to.match(/^host=/);
    const sections = [
      ...['[near]', lab, 'vm=*', 'exclude=strict'],
      ...['[strict]', lab, 'vm=strict', 'abort_on_error=yes'],
      ...['[far]', `host=lab:${far}`, 'vm=*'],
    ];
    writeFileSync(config(), `${[...rest, ...sections].join('\n')}\n`);
    const running = start();
    const doneOf = (lines: readonly Line[], vm: string): number => countsOf(lines).get(vm) ?? 0;
    await until(running, (lines) => doneOf(lines, 'remote') >= 1);
    renameSync(far, `${far}.away`);
    const before = linesOf(running).length;
    await until(running, (lines) => doneOf(lines.slice(before), 'web') >= 3);
    renameSync(`${far}.away`, far);
    const away = linesOf(running).length;
    const lines = await until(running, (all) => doneOf(all.slice(away), 'remote') >= 2);
    const failed = lines.filter(({ kind }) => kind === 'failed');
    expect(failed.filter(({ vm }) => vm === 'strict')).to.have.length(1);
    expect(failed.filter(({ vm }) => vm === 'sql')).to.have.length.at.least(3);
    const { code, stderr } = await running.stop('SIGTERM');
    expect(code).to.equal(143);
    expect(stderr).to.contain('job.ended').and.to.contain('the VMs could not be listed');
  });

  it('takes over a changed configuration, refuses a wrong one, and goes on', async () => {
    for (const name of ['web', 'sql']) {
      await site.hvdr('lab', 'create-vm', 'lab', name, '--disk', '1M');
    }
    write('vm=web', 'rpo_seconds=1');
    const running = start();
    await until(running, (lines) => (countsOf(lines).get('web') ?? 0) >= 2);
    const told = (lines: readonly Line[]): Line[] =>
      lines.filter(({ event }) => event === 'config');

    write('vm=web', 'bandwidth_schedule=mon-fri 08-18=5Mbit');
    let lines = await until(running, (all) => told(all).length === 1);
    expect(told(lines)[0]).to.include({ isApplied: false });
    expect(told(lines)[0]?.error?.code).to.equal('E_PARAMETER');
    expect(told(lines)[0]?.error?.message).to.contain('bandwidth_schedule');
    let seen = lines.length;
    await until(running, (all) => (countsOf(all.slice(seen)).get('web') ?? 0) >= 2);

    renameSync(config(), `${config()}.away`);
    lines = await until(running, (all) => told(all).length === 2);
    expect(told(lines)[1]?.error?.code).to.equal('E_NOT_FOUND');

    write('[one]', 'vm=web', 'bandwidth=1M', '[two]', 'vm=sql', 'bandwidth=2M');
    lines = await until(running, (all) => told(all).length === 3);
    expect(told(lines)[2]?.error?.message).to.match(/^bandwidth, job two: 2097152 is not the /);

    write('rpo_seconds=60', 'bandwidth_schedule=*=64M', '[one]', 'vm=web', '[two]', 'vm=sql');
    lines = await until(running, (all) => told(all).length === 4);
    expect(told(lines)[3]).to.deep.include({ isApplied: true, jobs: ['one', 'two'] });
    seen = lines.length;
    lines = await until(running, (all) => (countsOf(all.slice(seen)).get('sql') ?? 0) >= 2);
    const jobs = lines.slice(seen).map(({ job }) => job);
    expect(jobs).to.include('one').and.to.include('two');
    // the cycle that was under way ends as it began
    expect(jobs.filter((job) => job === 'all')).to.have.length.at.most(1);
    expect(lines.filter(({ kind }) => kind === 'failed' || kind === 'stopped')).to.deep.equal([]);
    const { code, stderr } = await running.stop('SIGTERM');
    expect(code).to.equal(143);
    expect(stderr).to.contain('job all: rpo_seconds=1 cannot hold with push_interval=2');
  });

  it('says of a cycle under way that its VM will miss its RPO, and what the next one does', async () => {
    await site.hvdr('lab', 'create-vm', 'lab', 'slow', '--disk', '64M');
    await site.push('slow', '--rpo-seconds', '100');
    await site.hvdr('lab', 'write', 'lab', 'slow', '--random', '500', '--seed', '1');
    // thirty MiB at so much a second take longer than that
    const push = site.startPush('slow', '--rpo-seconds', '100', '--bandwidth', '192K');
    let found: Protection | undefined;
    while (found?.forecast?.willMissRpo !== true) {
      [found] = await protections();
      expect(push.child.exitCode).to.equal(null);
    }
    expect(found.forecast.because).to.match(/^the cycle under way brought \d+ % in \d+ s$/);
    expect(found.forecast.newestAgeSeconds).to.be.greaterThan(100);
    expect(found.reasons.join()).to.contain('it will miss its RPO of 100 s at this rate');
    const check = await site.try('status', '--check', ...site.operator());
    expect(check.code).to.be.oneOf([1, 2]);
    expect(check.stdout.toString()).to.match(/^(WARN|CRITICAL): slow: /);
    push.child.kill('SIGTERM');
    await push.done;
    const fast = await site.push('slow', '--rpo-seconds', '100');
    expect(fast.kind).to.equal('delta');
    const [after] = await protections();
    expect(after?.reasons).to.deep.equal([]);
    expect(after?.running).to.equal('');
  });
});
