// A run that closes: what is under way ends as it began, each VM has had a cycle, and no other begins.

import { expect } from 'chai';
import { DrError } from '../../../shared/errors.js';
import { silentLog } from '../../../shared/log.js';
import { Agent, type Job } from '../../../source-agent/agent.js';
import type { CycleOutcome, RunReport } from '../../../source-agent/run-report.js';
import { AgentWorld, difference, jobOf, STATE } from './agent-world.js';

const NAMES = ['SQL01', 'SQL02', 'SQL03', 'SQL04', 'SQL05', 'SQL06'];

interface Ran {
  readonly report: RunReport;
  /** `SQL01 done`, in their order. */
  readonly outcomes: readonly string[];
}

describe('agent: a run that closes', () => {
  let world: AgentWorld;
  let closing: AbortController;

  beforeEach(() => {
    world = new AgentWorld();
    for (const [index, name] of NAMES.entries()) world.hypervisor.addVm(index + 1, name, [65536]);
    closing = new AbortController();
  });

  async function run(
    part: Partial<Job>,
    onOutcome: (count: number, outcome: CycleOutcome) => void = () => undefined,
  ): Promise<Ran> {
    await world.files.makeFolder(STATE);
    const job = jobOf(world, { cycleCount: 0, ...part });
    const outcomes: string[] = [];
    const { files: fs, clock, random } = world;
    const agent = new Agent([job], {
      ...{ fs, clock, random, log: silentLog },
      signal: new AbortController().signal,
      closing: closing.signal,
      onOutcome: ({ name }, _job, outcome) => {
        outcomes.push(`${name} ${outcome.kind}`);
        onOutcome(outcomes.length, outcome);
      },
    });
    return { report: await world.running(agent.run(), 100_000), outcomes };
  }

  it('before it began gives every VM its one cycle, and ends', async () => {
    closing.abort();
    const { report, outcomes } = await run({});
    expect([...outcomes].sort()).to.deep.equal(NAMES.map((name) => `${name} done`));
    expect(report).to.include({ isStopped: false, abortedBy: undefined });
    for (const vm of world.hypervisor.vms.values()) {
      const disks = vm.disks.map(({ bytes }) => bytes);
      expect(difference(world.receiver, vm.id, disks)).to.equal('');
    }
  });

  it('in its first round gives the others theirs, and in a later one begins no more', async () => {
    for (const at of [1, NAMES.length, NAMES.length + 2]) {
      closing = new AbortController();
      const { outcomes } = await run({}, (count) => {
        if (count === at) closing.abort();
      });
      expect(new Set(outcomes)).to.have.length(NAMES.length);
      // four are at work at once at most
      expect(outcomes.length).to.be.within(Math.max(at, NAMES.length), at + NAMES.length);
    }
  });

  it('has fewer cycles than its job asks for', async () => {
    const { report } = await run({ cycleCount: 3 }, (count) => {
      if (count === NAMES.length) closing.abort();
    });
    expect(report.vms.map(({ cycleCount }) => cycleCount)).to.deep.equal(NAMES.map(() => 1));
  });

  it('ends also when nothing matches', async () => {
    closing.abort();
    const { report } = await run({ vmPattern: 'web*' });
    expect(report.vms).to.have.length(0);
    expect(report.warnings.join()).to.match(/no VM .* matches "web\*"/);
  });

  it('tells that the VMs could not be listed, when that is so at the end', async () => {
    const { hypervisor } = world;
    const list = hypervisor.listVms.bind(hypervisor);
    let count = 0;
    hypervisor.listVms = () => {
      if (count++ > 0) throw new DrError('E_HYPERVISOR', 'the host does not answer');
      return list();
    };
    const { report } = await run({ intervalMs: 1000 }, (ended) => {
      if (ended === 3 * NAMES.length) closing.abort();
    });
    expect(report.warnings.join()).to.match(
      /^job push: the VMs of .* could not be listed: the host/,
    );
    count = -Infinity;
    closing = new AbortController();
    closing.abort();
    expect((await run({})).report.warnings).to.deep.equal([]);
  });
});
