// A plan of many VMs with a real receiver, twenty at a time: order, counts, a member that fails and who has
// to do without it, and an orchestrator that is killed in the middle.

import { writeFileSync } from 'node:fs';
import { expect } from 'chai';
import type { CliRun } from '../support/cli.js';
import { makeProtectedVms, nameOfVm, planOfVms } from '../support/protected-vms.js';
import { Site } from '../support/site.js';
import { WorkFolder } from '../support/work-folder.js';

const VM_COUNT = 60;
const AT_ONCE = 20;
const GROUPS = 3;
const GROUP_SIZE = VM_COUNT / GROUPS;
const FAILING = nameOfVm(1);
/** The latter depends on the former, which depends on the one that fails. */
const DEPENDANTS = [nameOfVm(0), nameOfVm(2)] as const;

/** One group, in which one VM is to be proven by a script that is not there. */
function dependingPlan(): string {
  const proof = '{checks: "script:none.sh"}';
  const others = Array.from({ length: VM_COUNT - 3 }, (_vm, index) => nameOfVm(index + 3));
  return [
    `version: 1\nname: Depends\non_error: continue\nconcurrency: ${AT_ONCE}\nsteps:`,
    '  - group: all\n    steps:',
    `      - {vm: ${DEPENDANTS[0]}, depends_on: ${FAILING}}`,
    `      - {vm: ${FAILING}, parameters: ${proof}}`,
    `      - {vm: ${DEPENDANTS[1]}, depends_on: ${DEPENDANTS[0]}}`,
    ...others.map((vm) => `      - {vm: ${vm}}`),
  ].join('\n');
}

interface Step {
  readonly step: string;
  readonly status: string;
  readonly words?: string;
  readonly code?: string;
}

interface Line {
  readonly event?: string;
  readonly step?: string;
  readonly status?: string;
}

interface Result {
  readonly state: string;
  readonly outcome?: string;
  readonly steps: readonly Step[];
}

describe('hvdr plan of many VMs', function () {
  this.timeout(240_000);
  const work = new WorkFolder('plan-many');
  const site = new Site(work.path);
  site.drHost = 'lab:dr';

  before(async () => {
    await site.prepare();
    await makeProtectedVms(work.file('store'), work.file('dr'), VM_COUNT);
    await site.startReceiver();
    writeFileSync(work.file('many.yaml'), planOfVms(VM_COUNT, AT_ONCE, GROUPS));
    writeFileSync(work.file('depends.yaml'), dependingPlan());
  });

  after(async () => {
    await site.stopReceiver();
    work.dispose();
  });

  const argumentsOf = (...words: string[]): string[] => [
    ...['plan', ...words, ...site.operator(), '--state-dir', 'plans', '--json'],
  ];
  const plan = (...words: string[]): Promise<CliRun> => site.try(...argumentsOf(...words));
  const linesOf = ({ stdout }: CliRun): string[] => stdout.toString().trim().split('\n');
  const resultOf = (run: CliRun): Result => JSON.parse(linesOf(run).at(-1) ?? '') as Result;
  const countOf = ({ steps }: Result, status: string): number =>
    steps.filter((step) => step.status === status && step.step.startsWith('V')).length;
  /** Names of the VMs that were done, in that order, and how many were under way at most. */
  const courseOf = (run: CliRun): { readonly done: string[]; readonly atOnce: number } => {
    const done: string[] = [];
    const running = new Set<string>();
    let atOnce = 0;
    for (const text of linesOf(run).slice(0, -1)) {
      const { step = '', status } = JSON.parse(text) as Line;
      if (!step.startsWith('V')) continue;
      if (status === 'running') running.add(step);
      else running.delete(step);
      if (status === 'done') done.push(step);
      atOnce = Math.max(atOnce, running.size);
    }
    return { done, atOnce };
  };
  const vmsAtDr = async (): Promise<number> => {
    const { stdout } = await site.hvdr('lab', 'list', 'dr', '--json');
    return stdout.toString().match(/"name"/g)?.length ?? 0;
  };

  it('tests all of them, so many at a time, and leaves nothing', async () => {
    const run = await plan('run', 'many.yaml', '--kind', 'test');
    expect(run.code, run.stderr).to.equal(0);
    expect(resultOf(run)).to.include({ state: 'READY', outcome: 'done' });
    expect(countOf(resultOf(run), 'done')).to.equal(VM_COUNT);
    expect(courseOf(run).atOnce).to.equal(AT_ONCE);
    expect(await vmsAtDr()).to.equal(0);
  });

  it('fails over, and who depends on a member that failed is left out, and nobody else', async () => {
    const run = await plan('run', 'depends.yaml', '--kind', 'unplanned');
    expect(run.code, run.stderr).to.equal(1);
    const result = resultOf(run);
    expect(result).to.include({ state: 'DONE_WITH_ERRORS' });
    const left = result.steps.filter(({ status }) => status !== 'done');
    expect(left.map(({ step, status }) => `${step} ${status}`)).to.have.members([
      `${FAILING} failed`,
      `${DEPENDANTS[0]} skipped`,
      `${DEPENDANTS[1]} skipped`,
    ]);
    expect(countOf(result, 'done')).to.equal(VM_COUNT - 3);
    const { done, atOnce } = courseOf(run);
    expect(done).to.have.length(VM_COUNT - 3);
    expect(atOnce).to.equal(AT_ONCE);
  });

  it('takes them back although its orchestrator is killed, in the reverse order of its groups', async () => {
    const running = site.start(...argumentsOf('undo', 'many.yaml', '--yes'));
    running.child.stdout?.on('data', (chunk: Buffer) => {
      if (chunk.toString().includes('"status":"done"')) running.child.kill('SIGKILL');
    });
    expect((await running.done).signal).to.equal('SIGKILL');
    expect(await vmsAtDr()).to.be.above(0);
    const end = await plan('resume', 'many.yaml');
    expect(end.code, end.stderr).to.equal(0);
    const result = resultOf(end);
    expect(result).to.include({ state: 'DONE', outcome: 'done' });
    expect(countOf(result, 'done') + countOf(result, 'already')).to.equal(VM_COUNT);
    const places = courseOf(end).done.map((vm) => Math.floor(Number(vm.slice(1)) / GROUP_SIZE));
    expect(places).to.deep.equal(places.toSorted((one, other) => other - one));
    expect(await vmsAtDr()).to.equal(0);
  });
});
