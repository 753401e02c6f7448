// Many VMs: which are taken, in which order, how often, and how the run ends.

import { expect } from 'chai';
import { DrError, type ErrorCode } from '../../../shared/errors.js';
import { silentLog } from '../../../shared/log.js';
import { type Job, runAgent } from '../../../source-agent/agent.js';
import { Bandwidth } from '../../../source-agent/bandwidth.js';
import type { CycleResult } from '../../../source-agent/cycle.js';
import {
  addOutcome,
  type CycleOutcome,
  type RunReport,
  verdict,
  type VmReport,
} from '../../../source-agent/run-report.js';
import { testGuid } from '../../support/fake-source-hypervisor.js';
import { refusal } from '../../support/refusal.js';
import { AgentWorld, difference, linkTo, SETTINGS, STATE } from './agent-world.js';

interface Ran {
  readonly report: RunReport;
  readonly outcomes: {
    readonly name: string;
    readonly outcome: CycleOutcome;
    readonly atMs: number;
  }[];
}

function jobOf(world: AgentWorld, part: Partial<Job> = {}): Job {
  return {
    name: 'push',
    hypervisor: world.hypervisor,
    link: linkTo(world.receiver),
    bandwidth: new Bandwidth(world.clock, 0),
    stateFolder: STATE,
    vmPattern: '*',
    exclude: [],
    takesRunning: true,
    cycle: SETTINGS,
    cycleCount: 1,
    intervalMs: 300_000,
    isAbortingOnError: false,
    ...part,
  };
}

async function run(
  world: AgentWorld,
  jobs: readonly Job[],
  signal = new AbortController().signal,
  onOutcome: (name: string, outcome: CycleOutcome) => void = () => undefined,
): Promise<Ran> {
  await world.files.makeFolder(STATE);
  const outcomes: Ran['outcomes'] = [];
  const running = runAgent(jobs, {
    fs: world.files,
    clock: world.clock,
    random: world.random,
    log: silentLog,
    signal,
    onOutcome: ({ name }, _job, outcome) => {
      outcomes.push({ name, outcome, atMs: world.clock.monotonic() });
      onOutcome(name, outcome);
    },
  });
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
