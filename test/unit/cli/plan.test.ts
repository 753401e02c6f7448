// `hvdr plan …`: what is said before a receiver is asked, and how the answers of one are read.

import { expect } from 'chai';
import { vmCommands } from '../../../cli/plan-commands.js';
import { guid, guidToWire } from '../../../shared/bytes/index.js';
import type { OperateRequest, OperateResponse } from '../../../shared/channel/index.js';
import { runInProcess } from '../../support/cli.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { refusal } from '../../support/refusal.js';

const vmId = guid('01234567-89ab-4def-8123-456789abcdef');
const operationId = guid('11111111-89ab-4def-8123-456789abcdef');
const ACCESS = ['--dr-host', 'dr1', '--psk-file', 'operator.psk'];

describe('hvdr plan', () => {
  const hvdr = (text: string, ...args: string[]): ReturnType<typeof runInProcess> => {
    const files = new MemoryFileSystem();
    files.put('/plan.yaml', Buffer.from(text));
    return runInProcess(['plan', ...args], { files, folder: '/' });
  };
  const GOOD = 'version: 1\nname: P\nsteps: [{vm: A}]\n';

  it('names line and column of a mistake, before it asks for anything', async () => {
    for (const command of ['check', 'run', 'resume', 'undo']) {
      const { code, stderr } = await hvdr(`${GOOD}colour: red\n`, command, 'plan.yaml');
      expect(code).to.equal(2);
      expect(stderr).to.contain('plan.yaml:4:1: unknown key "colour"');
    }
  });

  it('wants a file that is there, a kind that exists, and the way to a receiver', async () => {
    expect((await hvdr(GOOD, 'check', 'none.yaml', ...ACCESS)).code).to.equal(16);
    const kind = await hvdr(GOOD, 'check', 'plan.yaml', '--kind', 'magic', ...ACCESS);
    expect(kind.code).to.equal(2);
    expect((await hvdr(GOOD, 'check', 'plan.yaml')).stderr).to.contain(
      'not told where the store is',
    );
    const both = await hvdr(GOOD, 'resume', 'plan.yaml', '--skip', '--cancel', ...ACCESS);
    expect(both.code).to.equal(2);
  });
});

describe('commands of a VM, asked of a receiver', () => {
  type Control = Parameters<typeof vmCommands>[0];
  type Status = Awaited<ReturnType<ReturnType<typeof vmCommands>['look']>>;

  /** Answers with what a test gives. The fields that are not read are left out. */
  const control = (
    protections: readonly object[],
    responses: readonly object[] = [],
    asked: OperateRequest[] = [],
  ): Control =>
    ({
      statusPages: () => each([{ page: { protections } }]),
      operate: (request: OperateRequest) => {
        asked.push(request);
        return each(responses as OperateResponse[]);
      },
    }) as unknown as Control;

  async function* each<T>(items: readonly T[]): AsyncGenerator<T> {
    await Promise.resolve();
    yield* items;
  }

  const STATUS = {
    ...{ vmId: guidToWire(vmId), vmName: 'SQL01', failoverState: 'PROTECTED', operation: '' },
    ...{ provenAtMs: 5n, isProofPassed: true, instanceName: '' },
    tests: [{ operationId: guidToWire(operationId) }],
  };
  const order = {
    ...{ vm: 'SQL01', command: 'unplanned' as const, parameters: { force: 'yes' } },
    ...{ confirmedHash: 'h', signal: new AbortController().signal },
  };

  it('look at the one VM of this name', async () => {
    const found: Status = await vmCommands(control([STATUS])).look('SQL01');
    expect(found).to.deep.equal({
      ...{ vmId, vmName: 'SQL01', state: 'PROTECTED', operation: '', provenAtMs: 5 },
      ...{ isProofPassed: true, instanceName: '', testOperationIds: [operationId] },
    });
    for (const protections of [[], [STATUS, STATUS]]) {
      const { code } = await refusal(() => vmCommands(control(protections)).look('SQL01'));
      expect(code).to.equal('E_NO_MATCH');
    }
  });

  it('read the plan, and ask for nothing else', async () => {
    const asked: OperateRequest[] = [];
    const value = {
      ...{ fromState: 'PROTECTED', toState: 'FAILED_OVER', notes: [], lostSeconds: 7n },
      addresses: [],
      ...{ refusals: [{ code: 'E_NO_POINT', message: 'none' }], isDestructive: false, hash: 'x' },
    };
    const plan = await vmCommands(control([], [{ step: { $case: 'plan', value } }], asked)).plan(
      'SQL01',
      'unplanned',
      { point: 'latest' },
    );
    expect(plan).to.deep.equal({ ...value, lostSeconds: 7 });
    expect(asked).to.deep.equal([
      {
        ...{ vm: 'SQL01', command: 'unplanned', parameters: { point: 'latest' }, isPlan: true },
        confirmedHash: '',
      },
    ]);
  });

  it('tell the steps of a run, and its end', async () => {
    const asked: OperateRequest[] = [];
    const id = guidToWire(operationId);
    const done = {
      ...{ operationId: id, state: 'FAILED_OVER', pointId: Buffer.alloc(0), warnings: ['w'] },
      ...{ isPassed: false, reportJson: '' },
    };
    const moved = { adapter: 'nic', switchName: 'DR', isByRule: true };
    const addresses = [
      { ...moved, from: '10.0.0.1/24', to: '10.9.0.1/16' },
      { ...moved, from: '', to: '10.9.0.2/16' },
    ];
    const responses = [
      { step: { $case: 'plan', value: { addresses } } },
      { step: { $case: 'progress', value: { operationId: id, step: 'U4', what: '' } } },
      { step: { $case: 'done', value: done } },
    ];
    const steps: string[] = [];
    const outcome = await vmCommands(control([], responses, asked)).run({
      ...order,
      onStep: (step, of) => steps.push(`${step} ${of}`),
    });
    expect(steps).to.deep.equal([`U4 ${operationId}`]);
    expect(outcome).to.deep.equal({
      ...{ operationId, state: 'FAILED_OVER', pointId: '', warnings: ['w'], isPassed: false },
      ipMap: { '10.0.0.1': '10.9.0.1' },
    });
    expect(asked[0]).to.include({ isPlan: false, confirmedHash: 'h' });
  });

  it('believe no answer that stops before its end', async () => {
    const commands = vmCommands(control([], [{ step: { $case: 'plan', value: {} } }]));
    const { code } = await refusal(() => commands.run({ ...order, onStep: () => undefined }));
    expect(code).to.equal('E_PROTOCOL');
  });
});
