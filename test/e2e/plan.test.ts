// A plan of three VMs with two lab sites and real processes: a drill, a disaster whose orchestrator is
// killed and resumed, and its undo in reverse order.

import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import type { CliRun } from '../support/cli.js';
import { Site } from '../support/site.js';
import { WorkFolder } from '../support/work-folder.js';

const PLAN = `
version: 1
name: Shop
on_error: continue
steps:
  - vm: DB
  - script: {name: told.sh, about: DB}
  - group: front
    steps:
      - {vm: APP, depends_on: DB}
      - {vm: WEB, depends_on: DB}
`;

interface Result {
  readonly state: string;
  readonly outcome: string;
  readonly steps: readonly { readonly step: string; readonly status: string }[];
}

describe('hvdr plan', function () {
  this.timeout(240_000);
  const work = new WorkFolder('plan');
  const site = new Site(work.path);
  site.drHost = 'lab:dr';
  const vms = ['DB', 'APP', 'WEB'];

  before(async () => {
    await site.prepare();
    await site.hvdr('lab', 'init', 'dr');
    for (const vm of vms) {
      await site.hvdr('lab', 'create-vm', 'lab', vm, '--disk', '3M');
      await site.hvdr('lab', 'start', 'lab', vm);
    }
    await site.startReceiver();
    for (const vm of vms) await site.push(vm);
    writeFileSync(work.file('plan.yaml'), PLAN);
    mkdirSync(work.file('scripts'), { mode: 0o700 });
    const script = join(work.path, 'scripts', 'told.sh');
    writeFileSync(script, '#!/bin/sh\ncat >> told.json\n', { mode: 0o700 });
  });

  after(async () => {
    await site.stopReceiver();
    work.dispose();
  });

  const argumentsOf = (command: string, ...more: string[]): string[] => [
    ...['plan', command, 'plan.yaml', '--dr-host', '127.0.0.1', '--dr-port', String(site.port)],
    ...['--psk-file', 'keys/operator.psk', '--state-dir', 'plans', '--json', ...more],
    ...['--script-dir', 'scripts'],
  ];
  const plan = (command: string, ...more: string[]): Promise<CliRun> =>
    site.try(...argumentsOf(command, ...more));
  const resultOf = ({ stdout }: CliRun): Result =>
    JSON.parse(stdout.toString().trim().split('\n').at(-1) ?? '') as Result;
  const statesAtDr = async (): Promise<string> =>
    (await site.hvdr('lab', 'list', 'dr', '--json')).stdout.toString();

  it('is checked without touching anything', async () => {
    const run = await plan('check', '--kind', 'unplanned');
    expect(run.code, run.stderr).to.equal(0);
    expect(await statesAtDr()).not.to.include('DB');
  });

  it('tests all VMs together, and takes every clone away', async () => {
    const kept = await plan('run', '--kind', 'test', '--keep');
    expect(resultOf(kept), kept.stderr).to.include({ state: 'TEST_DONE' });
    for (const vm of vms) expect(await statesAtDr()).to.include(`${vm}-test-`);
    const end = await plan('resume');
    expect(resultOf(end), end.stderr).to.include({ state: 'READY', outcome: 'done' });
    expect(end.code).to.equal(0);
    expect(await statesAtDr()).not.to.include('DB');
    rmSync(work.file('scripts/told.json'));
  });

  it('fails all of them over, in order, although its orchestrator is killed in between', async () => {
    const killed = site.start(...argumentsOf('run', '--kind', 'unplanned'));
    killed.child.stdout?.on('data', (chunk: Buffer) => {
      if (chunk.toString().includes('"step":"APP"')) killed.child.kill('SIGKILL');
    });
    expect((await killed.done).signal).to.equal('SIGKILL');
    const refused = await plan('run', '--kind', 'unplanned');
    expect(refused.code, refused.stderr).to.equal(10);
    const run = await plan('resume');
    expect(resultOf(run), run.stderr + run.stdout.toString()).to.include({ state: 'DONE' });
    expect(run.code).to.equal(0);
    const told = readFileSync(work.file('scripts/told.json'), 'utf8').trim().split('\n');
    expect(told).to.have.length(1);
    expect(JSON.parse(told[0] ?? '')).to.include({ kind: 'unplanned', vm: 'DB', site: 'target' });
    const again = await plan('run', '--kind', 'unplanned');
    const { steps } = resultOf(again);
    expect(steps.filter(({ status }) => status === 'already')).to.have.length(3);
  });

  it('takes them back in reverse order, when that is confirmed', async () => {
    expect((await plan('undo')).code).to.equal(40);
    const run = await plan('undo', '--yes');
    expect(resultOf(run), run.stderr + run.stdout.toString()).to.include({ state: 'DONE' });
    const order = run.stdout
      .toString()
      .split('\n')
      .flatMap((line) => /"step":"(\w+)","part":"run","status":"done"/.exec(line)?.[1] ?? []);
    expect(order.slice(0, 2).sort()).to.deep.equal(['APP', 'WEB']);
    expect(order[2]).to.equal('DB');
    expect(await statesAtDr()).not.to.include('DB');
  });
});
