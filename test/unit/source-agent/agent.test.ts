// Many VMs: which are taken, in which order, how often, and how the run ends.

import { expect } from 'chai';
import { DrError, type ErrorCode } from '../../../shared/errors.js';
import { silentLog } from '../../../shared/log.js';
import { Agent, type Job } from '../../../source-agent/agent.js';
import type { CycleResult } from '../../../source-agent/cycle-result.js';
import {
  addOutcome,
  type CycleOutcome,
  type RunReport,
  verdict,
  type VmReport,
} from '../../../source-agent/run-report.js';
import { testGuid } from '../../support/fake-source-hypervisor.js';
import { refusal } from '../../support/refusal.js';
import { AgentWorld, difference, jobOf, SETTINGS, STATE } from './agent-world.js';

interface Ran {
  readonly report: RunReport;
  readonly outcomes: {
    readonly name: string;
    readonly outcome: CycleOutcome;
    readonly atMs: number;
  }[];
}

async function run(
  world: AgentWorld,
  jobs: readonly Job[],
  signal = new AbortController().signal,
  onOutcome: (name: string, outcome: CycleOutcome) => void = () => undefined,
): Promise<Ran> {
  await world.files.makeFolder(STATE);
  const outcomes: Ran['outcomes'] = [];
  const running = new Agent(jobs, {
    fs: world.files,
    clock: world.clock,
    random: world.random,
    log: silentLog,
    signal,
    onOutcome: ({ name }, _job, outcome) => {
      outcomes.push({ name, outcome, atMs: world.clock.monotonic() });
      onOutcome(name, outcome);
    },
  }).run();
  const report = await world.running(running, 100_000);
  return { report, outcomes };
}

function hosts(): AgentWorld {
  const world = new AgentWorld();
  for (const [index, name] of ['SQL01', 'sql02', 'web', 'old-web', 'test'].entries()) {
    world.hypervisor.addVm(index + 1, name, [65536 * 2]);
  }
  return world;
}

describe('agent', () => {
  it('takes the one VM that is meant by its id, though another one has its name', async () => {
    const world = new AgentWorld();
    const wanted = world.hypervisor.addVm(1, 'SQL01', [65536]);
    world.hypervisor.addVm(2, 'SQL01', [65536]);
    const { report } = await run(world, [jobOf(world, { vmPattern: 'SQL01', vmId: wanted.id })]);
    expect(report.vms.map(({ vmId }) => vmId)).to.deep.equal([wanted.id]);
  });

  it('takes the VMs that match, whatever the case, but those left out', async () => {
    const world = hosts();
    const { report } = await run(world, [jobOf(world, { vmPattern: '*e*', exclude: ['OLD-*'] })]);
    expect(report.vms.map(({ vmName }) => vmName).sort()).to.deep.equal(['test', 'web']);
    const sql = await run(world, [jobOf(world, { vmPattern: 'SQL*' })]);
    expect(sql.report.vms.map(({ vmName }) => vmName).sort()).to.deep.equal(['SQL01', 'sql02']);
  });

  it('refuses a pattern that matches nothing', async () => {
    const world = hosts();
    const error = await refusal(() => run(world, [jobOf(world, { vmPattern: 'none' })]));
    expect(error.code).to.equal('E_NO_MATCH');
    const all = await refusal(() => run(world, [jobOf(world, { exclude: ['*'] })]));
    expect(all.code).to.equal('E_NO_MATCH');
  });

  it('leaves running VMs out with online=no, and says so', async () => {
    const world = hosts();
    const [first] = world.hypervisor.vms.values();
    if (first !== undefined) first.powerState = 'off';
    const { report } = await run(world, [jobOf(world, { takesRunning: false })]);
    expect(report.vms.filter(({ last }) => last.kind === 'done')).to.have.length(1);
    expect(report.vms.filter(({ last }) => last.kind === 'skipped')).to.have.length(4);
    expect(verdict(report, 'warn')).to.deep.equal({ error: undefined, isWarned: true });
  });

  it('leaves a VM out with online=no from the cycle on before which it was started', async () => {
    const world = hosts();
    const [first] = world.hypervisor.vms.values();
    if (first === undefined) throw new Error('the host has VMs');
    first.powerState = 'off';
    const job = jobOf(world, { vmPattern: 'SQL01', takesRunning: false, cycleCount: 3 });
    const { outcomes } = await run(world, [job], undefined, () => {
      first.powerState = 'running';
    });
    expect(outcomes.map(({ outcome }) => outcome.kind)).to.deep.equal([
      'done',
      'skipped',
      'skipped',
    ]);
  });

  it('goes on with the others when one fails, or ends at the first with abort_on_error', async () => {
    const world = hosts();
    const broken = [...world.hypervisor.vms.values()][2];
    const [disk] = broken?.disks ?? [];
    if (disk !== undefined) disk.unsupported = 'it is shared';
    const { report } = await run(world, [jobOf(world)]);
    expect(report.vms.filter(({ last }) => last.kind === 'done')).to.have.length(4);
    expect(verdict(report, 'warn').error?.code).to.equal('E_PARTIAL');
    expect(verdict(report, 'fail').error?.code).to.equal('E_HYPERVISOR');
    const aborted = await run(world, [jobOf(world, { isAbortingOnError: true, cycleCount: 50 })]);
    expect(verdict(aborted.report, 'warn').error?.code).to.equal('E_HYPERVISOR');
    expect(aborted.outcomes.length).to.be.below(15);
  });

  it('runs so many cycles, from start to start, each within five per cent of the interval', async () => {
    const world = hosts();
    const { report, outcomes } = await run(world, [
      jobOf(world, { vmPattern: 'SQL01', cycleCount: 20, intervalMs: 100_000 }),
    ]);
    expect(report.vms[0]?.cycleCount).to.equal(20);
    const times = outcomes.map(({ atMs }) => atMs);
    const gaps = times.slice(1).map((at, index) => at - (times[index] ?? 0));
    for (const gap of gaps) expect(gap).to.be.within(93_000, 107_000);
    expect(new Set(gaps.map((gap) => Math.round(gap / 1000))).size).to.be.greaterThan(3);
  });

  it('starts the next cycle at once when one took longer than the interval', async () => {
    const world = hosts();
    world.hypervisor.onCall = async (verb) => {
      if (verb === 'waitForMerge') await world.clock.sleep(250_000);
    };
    const { outcomes } = await run(world, [
      jobOf(world, { vmPattern: 'SQL01', cycleCount: 4, intervalMs: 100_000 }),
    ]);
    const times = outcomes.map(({ atMs }) => atMs);
    const gaps = times.slice(1).map((at, index) => at - (times[index] ?? 0));
    for (const gap of gaps) expect(gap).to.be.within(250_000, 280_000);
  });

  it('counts cycles that fail, and goes on', async () => {
    const world = hosts();
    let count = 0;
    world.hypervisor.onCall = (verb) => {
      if (verb === 'createCheckpoint application' && ++count === 2) {
        throw new DrError('E_CHECKPOINT', 'injected');
      }
    };
    const { report } = await run(world, [jobOf(world, { vmPattern: 'web', cycleCount: 3 })]);
    expect(report.vms[0]).to.include({ cycleCount: 3, failureCount: 1 });
    expect(verdict(report, 'warn').error?.code).to.equal('E_PARTIAL');
  });

  it('works on at most four VMs at a time, and on none twice at once', async () => {
    const world = new AgentWorld();
    for (let i = 1; i <= 10; i++) world.hypervisor.addVm(i, `vm${i}`, [65536]);
    let most = 0;
    world.hypervisor.onCall = () => {
      most = Math.max(most, world.hypervisor.checkpoints.size);
    };
    const jobs = [jobOf(world), jobOf(world, { name: 'again' })];
    const { report } = await run(world, jobs);
    expect(most).to.be.within(2, 4);
    expect(report.vms).to.have.length(20);
    expect(report.vms.every(({ last }) => last.kind === 'done')).to.equal(true);
    for (const vm of world.hypervisor.vms.values()) {
      expect(
        difference(
          world.receiver,
          vm.id,
          vm.disks.map(({ bytes }) => bytes),
        ),
      ).to.equal('');
    }
  });

  it('takes along VMs that appear later, for ever, until it is asked to stop', async () => {
    const world = new AgentWorld();
    world.hypervisor.addVm(1, 'first', [65536]);
    const stop = new AbortController();
    const seen = new Set<string>();
    const job = jobOf(world, { cycleCount: 0, intervalMs: 60_000 });
    const { report } = await run(world, [job], stop.signal, (name) => {
      seen.add(name);
      if (!world.hypervisor.vms.has(testGuid(2))) world.hypervisor.addVm(2, 'second', [65536]);
      if (seen.size === 2) stop.abort();
    });
    expect(report.isStopped).to.equal(true);
    expect([...seen].sort()).to.deep.equal(['first', 'second']);
    expect(world.hypervisor.checkpoints.size).to.equal(0);
  });

  it('skips a VM that another process works on: green only while the RPO holds', async () => {
    const world = hosts();
    const job = jobOf(world, { vmPattern: 'web' });
    const vm = [...world.hypervisor.vms.values()][2];
    await run(world, [job]);
    const path = `${STATE}/${vm?.id ?? ''}.lock`;
    const lock = await world.files.open(path, { mode: 'write', lock: 'exclusive' });
    const green = await run(world, [job]);
    expect(verdict(green.report, 'warn').error).to.equal(undefined);
    expect(green.report.vms[0]?.last.kind).to.equal('skipped');
    await world.clock.advance(1_000_000);
    const red = await run(world, [job]);
    expect(verdict(red.report, 'warn').error?.code).to.equal('E_LOCKED');
    await lock.close();
  });
});

/** Runs jobs that go on for ever for a while; returns how many cycles of each VM ended how. */
async function runFor(
  world: AgentWorld,
  jobs: readonly Job[],
  durationMs: number,
  meanwhile: (agent: Agent) => Promise<void> = () => Promise.resolve(),
): Promise<{ report: RunReport; done: Map<string, number>; failed: Map<string, number> }> {
  await world.files.makeFolder(STATE);
  const stop = new AbortController();
  const done = new Map<string, number>();
  const failed = new Map<string, number>();
  const agent = new Agent(jobs, {
    fs: world.files,
    clock: world.clock,
    random: world.random,
    log: silentLog,
    signal: stop.signal,
    onOutcome: ({ name }, job, { kind }) => {
      const counts = kind === 'done' ? done : failed;
      if (kind === 'stopped') return;
      counts.set(name, (counts.get(name) ?? 0) + 1);
      counts.set(`${job.name}:`, (counts.get(`${job.name}:`) ?? 0) + 1);
    },
  });
  const running = agent.run();
  running.catch(() => undefined);
  for (let passed = 0; passed < durationMs; passed += 1000) {
    await world.clock.advance(1000);
    if (passed === Math.floor(durationMs / 2000) * 1000) await meanwhile(agent);
  }
  stop.abort();
  const report = await world.running(running, 100_000);
  return { report, done, failed };
}

const HOUR_MS = 3_600_000;

describe('agent: nobody starves', () => {
  /** 20 VMs that work and 8 that fail in the given way. */
  function mixed(fail: (world: AgentWorld) => Promise<void>): AgentWorld {
    const world = new AgentWorld();
    for (let i = 1; i <= 8; i++) world.hypervisor.addVm(i, `bad${i}`, [65536]);
    for (let i = 11; i <= 30; i++) world.hypervisor.addVm(i, `good${i}`, [65536]);
    const create = world.hypervisor.createCheckpoint.bind(world.hypervisor);
    world.hypervisor.createCheckpoint = async (vmId, request) => {
      const name = world.hypervisor.vms.get(vmId)?.name ?? '';
      if (name.startsWith('bad')) await fail(world);
      await world.clock.sleep(2000);
      return create(vmId, request);
    };
    return world;
  }

  it('behind VMs that fail slowly', async () => {
    const world = mixed(async ({ clock }) => {
      await clock.sleep(200_000);
      throw new DrError('E_CHECKPOINT', 'injected');
    });
    const job = jobOf(world, { cycleCount: 0, intervalMs: 60_000 });
    const { done, failed } = await runFor(world, [job], HOUR_MS);
    for (let i = 11; i <= 30; i++) expect(done.get(`good${i}`), `good${i}`).to.be.at.least(50);
    for (let i = 1; i <= 8; i++) expect(failed.get(`bad${i}`), `bad${i}`).to.be.at.least(3);
  });

  it('behind VMs that hang until they are given up', async () => {
    const world = mixed(async ({ clock }) => {
      await clock.sleep(HOUR_MS / 2);
      throw new DrError('E_STALLED', 'injected');
    });
    const job = jobOf(world, { cycleCount: 0, intervalMs: 60_000 });
    const { done, failed } = await runFor(world, [job], 2 * HOUR_MS);
    for (let i = 11; i <= 30; i++) expect(done.get(`good${i}`), `good${i}`).to.be.at.least(100);
    expect(failed.get('push:')).to.be.within(8, 30);
  });

  it('behind more cycles than places: whoever waits comes to its turn', async () => {
    const world = new AgentWorld();
    for (let i = 1; i <= 40; i++) world.hypervisor.addVm(i, `vm${i}`, [65536]);
    world.hypervisor.onCall = async (verb) => {
      if (verb === 'createCheckpoint application') await world.clock.sleep(20_000);
    };
    const tight = { ...SETTINGS, rpoSeconds: 30 };
    const jobs = [
      jobOf(world, {
        name: 'a',
        vmPattern: 'vm1*',
        cycleCount: 0,
        intervalMs: 10_000,
        cycle: tight,
      }),
      jobOf(world, { name: 'b', exclude: ['vm1*'], cycleCount: 0, intervalMs: 10_000 }),
    ];
    // forty times twenty seconds, four at a time: 200 s for a round
    const { done } = await runFor(world, jobs, HOUR_MS);
    const counts = Array.from({ length: 40 }, (_, index) => done.get(`vm${index + 1}`) ?? 0);
    expect(Math.min(...counts)).to.be.at.least(3);
    expect(done.get('vm1')).to.be.greaterThan(done.get('vm2') ?? 0);
  });

  it('behind a host that does not tell its VMs, or hangs', async () => {
    const world = hosts();
    const other = new AgentWorld();
    let count = 0;
    other.hypervisor.listVms = async () => {
      count++;
      if (count < 4) throw new DrError('E_HYPERVISOR', 'injected');
      await world.clock.sleep(10 * HOUR_MS);
      return [];
    };
    const jobs = [
      jobOf(world, { name: 'broken', hypervisor: other.hypervisor, cycleCount: 0 }),
      jobOf(world, { name: 'whole', cycleCount: 0, intervalMs: 100_000 }),
    ];
    const { done, report } = await runFor(world, jobs, HOUR_MS);
    expect(done.get('whole:')).to.be.within(5 * 33, 5 * 38);
    // asked again a minute later each time, and then it hangs
    expect(count).to.equal(4);
    expect(report.isStopped).to.equal(true);
  });

  it('behind a job that ends at its first failure', async () => {
    const world = mixed(() => Promise.reject(new DrError('E_CHECKPOINT', 'injected')));
    const jobs = [
      jobOf(world, { name: 'strict', vmPattern: 'bad1', cycleCount: 0, isAbortingOnError: true }),
      jobOf(world, { name: 'lax', vmPattern: 'good*', cycleCount: 0, intervalMs: 60_000 }),
    ];
    const { done, failed, report } = await runFor(world, jobs, HOUR_MS);
    expect(failed.get('strict:')).to.equal(1);
    expect(done.get('lax:')).to.be.at.least(20 * 55);
    expect(report.abortedBy?.code).to.equal('E_CHECKPOINT');
    expect(verdict(report, 'warn').error?.code).to.equal('E_CHECKPOINT');
  });
});

describe('agent: other jobs while it runs', () => {
  it('takes over intervals, VMs and new jobs, and restarts no cycle', async () => {
    const world = new AgentWorld();
    for (const [index, name] of ['web', 'sql', 'new'].entries()) {
      world.hypervisor.addVm(index + 1, name, [65536]);
    }
    let checkpoints = 0;
    world.hypervisor.onCall = async (verb) => {
      if (verb !== 'createCheckpoint application') return;
      checkpoints++;
      await world.clock.sleep(90_000);
    };
    const slow = { cycleCount: 0, intervalMs: 600_000 };
    let replaced: Promise<void> | undefined;
    let isReplaced = false;
    const { done } = await runFor(
      world,
      [jobOf(world, { ...slow, name: 'all', exclude: ['new'] })],
      // both are in the midst of their third cycle then
      2 * 1_240_000,
      (agent) => {
        const fast = { cycleCount: 0, intervalMs: 100_000 };
        replaced = agent.replaceJobs([
          jobOf(world, { ...fast, name: 'all', vmPattern: 'web' }),
          jobOf(world, { ...fast, name: 'more', vmPattern: 'new' }),
        ]);
        void replaced.then(() => {
          isReplaced = true;
        });
        expect(isReplaced).to.equal(false);
        return Promise.resolve();
      },
    );
    await replaced;
    expect(isReplaced).to.equal(true);
    expect(done.get('sql'), 'no more of it').to.be.within(2, 3);
    expect(done.get('web')).to.be.within(13, 16);
    expect(done.get('new')).to.be.within(11, 13);
    // none was begun twice: those of the end were stopped
    const ended = (done.get('sql') ?? 0) + (done.get('web') ?? 0) + (done.get('new') ?? 0);
    expect(checkpoints - ended).to.be.within(0, 2);
    expect(world.hypervisor.checkpoints.size).to.equal(0);
  });

  it('lets a job begin again that a failure had ended', async () => {
    const world = hosts();
    let isBroken = true;
    world.hypervisor.onCall = (verb) => {
      if (isBroken && verb === 'createCheckpoint application') {
        throw new DrError('E_CHECKPOINT', 'injected');
      }
    };
    const crash = { ...SETTINGS, consistency: 'crash' } as const;
    const jobs = [
      jobOf(world, { name: 'a', vmPattern: 'web', cycleCount: 0, isAbortingOnError: true }),
      jobOf(world, { name: 'b', vmPattern: 'test', cycleCount: 0, cycle: crash }),
    ];
    const { done, failed } = await runFor(world, jobs, HOUR_MS, async (agent) => {
      isBroken = false;
      await agent.replaceJobs(jobs);
    });
    expect(failed.get('web')).to.equal(1);
    expect(done.get('web')).to.be.within(5, 7);
  });

  it('warns when the cycles that were measured cannot keep the RPO', async () => {
    const world = hosts();
    world.hypervisor.onCall = async (verb) => {
      if (verb === 'createCheckpoint application') await world.clock.sleep(20_000);
    };
    const cycle = { ...SETTINGS, rpoSeconds: 30 };
    const job = jobOf(world, { vmPattern: 'web', cycleCount: 0, intervalMs: 25_000, cycle });
    const { report } = await runFor(world, [job], HOUR_MS / 4);
    expect(report.warnings).to.have.length(1);
    expect(report.warnings[0]).to.match(/^rpo_seconds=30 of web is less than two .* [23]\d\.\d s$/);
    const loose = jobOf(world, { vmPattern: 'web', cycleCount: 0, intervalMs: 25_000 });
    expect((await runFor(world, [loose], HOUR_MS / 4)).report.warnings).to.deep.equal([]);
  });
});

describe('verdict', () => {
  const done: CycleOutcome = {
    kind: 'done',
    // only these fields are looked at
    result: { warnings: [], bytesSent: 1 } as unknown as CycleResult,
  };
  const warned: CycleOutcome = {
    kind: 'done',
    result: { warnings: [{ code: 'W_RPO', text: '' }], bytesSent: 1 } as unknown as CycleResult,
  };
  const failed = (code: ErrorCode): CycleOutcome => ({
    kind: 'failed',
    error: new DrError(code, 'x'),
  });
  const report = (...vms: readonly (readonly CycleOutcome[])[]): RunReport => ({
    vms: vms.map((outcomes, index) => {
      let vm: VmReport | undefined;
      const facts = { vmId: testGuid(index), vmName: `vm${index}`, rpoSeconds: 900 };
      for (const outcome of outcomes) vm = addOutcome(vm, facts, outcome);
      return vm ?? addOutcome(undefined, facts, done);
    }),
    abortedBy: undefined,
    isStopped: false,
    warnings: [],
  });

  const ROWS: readonly (readonly [string, RunReport, 'warn' | 'fail', string, boolean])[] = [
    ['all done', report([done], [done]), 'warn', '', false],
    ['all done, one with a warning', report([done], [warned]), 'warn', '', true],
    ['one of two failed', report([done], [failed('E_IO')]), 'warn', 'E_PARTIAL', false],
    ['one of two failed, on_partial=fail', report([done], [failed('E_IO')]), 'fail', 'E_IO', false],
    ['all failed alike', report([failed('E_IO')], [failed('E_IO')]), 'warn', 'E_IO', false],
    [
      'all failed, differently',
      report([failed('E_IO')], [failed('E_AUTH')]),
      'warn',
      'E_PARTIAL',
      false,
    ],
    ['the only one failed', report([failed('E_CHECKPOINT')]), 'warn', 'E_CHECKPOINT', false],
    ['a cycle of several failed', report([done, failed('E_IO'), done]), 'warn', 'E_PARTIAL', false],
    ['the last cycle failed', report([done, failed('E_IO')]), 'warn', 'E_PARTIAL', false],
    ['stopped', report([{ kind: 'stopped' }]), 'warn', 'E_PARTIAL', false],
  ];
  for (const [title, what, onPartial, code, isWarned] of ROWS) {
    it(`${title}: ${code === '' ? 'protected' : code}`, () => {
      const found = verdict(what, onPartial);
      expect(found.error?.code ?? '').to.equal(code);
      expect(found.isWarned).to.equal(isWarned);
    });
  }
});
