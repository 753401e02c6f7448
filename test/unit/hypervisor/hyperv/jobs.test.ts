import { expect } from 'chai';
import type { Clock } from '../../../../shared/clock.js';
import { DrError } from '../../../../shared/errors.js';
import { Fields } from '../../../../shared/hypervisor/fields.js';
import { endOfMethod, isBusyRefusal } from '../../../../shared/hypervisor/hyperv/jobs.js';
import type { MethodAnswer } from '../../../../shared/hypervisor/hyperv/operations/answers.js';
import type { OperationRunner } from '../../../../shared/hypervisor/hyperv/powershell/operation.js';
import { refusal } from '../../../support/refusal.js';

const JOB: MethodAnswer = { returnValue: 4096, jobId: 'job-1' };

describe('jobs of Hyper-V', () => {
  let nowMs: number;
  let asked: string[];
  const clock: Clock = {
    now: () => nowMs,
    monotonic: () => nowMs,
    sleep: (durationMs) => {
      nowMs += durationMs;
      return Promise.resolve();
    },
  };

  beforeEach(() => {
    nowMs = 0;
    asked = [];
  });

  /** Tells the states one after the other, the last one for ever. */
  function runnerOf(states: readonly string[], more: Readonly<Record<string, unknown>> = {}) {
    let next = 0;
    const runner: OperationRunner = {
      run: (operation) => {
        asked.push(operation.name);
        const state = states[Math.min(next++, states.length - 1)];
        const job = { state, percent: 5, errorCode: 0, errorText: '', errors: [], ...more };
        const answer = operation.name === 'job.get' ? job : { returnValue: 0 };
        const refuse = (field: string): DrError => new DrError('E_HYPERVISOR', field);
        return Promise.resolve(operation.read(new Fields(answer, refuse)));
      },
      close: () => Promise.resolve(),
    };
    return { runner, clock, what: 'a thing', timeoutMs: 10_000 };
  }

  it('asks for nothing when the method is done at once', async () => {
    const answer = { returnValue: 0, jobId: undefined };
    expect(await endOfMethod(answer, runnerOf([]))).to.equal('done');
    expect(asked).to.deep.equal([]);
  });

  for (const end of ['completed', 'completedWithWarnings']) {
    it(`polls through all states that are no end: ${end}`, async () => {
      const states = ['new', 'starting', 'running', 'suspended', 'unknown(77)', end];
      expect(await endOfMethod(JOB, runnerOf(states))).to.equal('done');
      expect(asked.length).to.equal(states.length);
    });
  }

  it('a job that vanished is no verdict', async () => {
    expect(await endOfMethod(JOB, runnerOf(['running', 'gone']))).to.equal('unknown');
  });

  for (const end of ['terminated', 'killed', 'exception']) {
    it(`tells why a job ended badly: ${end}`, async () => {
      const wait = runnerOf(['running', end], {
        errorCode: 32_775,
        errorText: 'It failed.',
        errors: ['It failed.', 'Merging.'],
      });
      const error = await refusal(() => endOfMethod(JOB, { ...wait, code: 'E_CHECKPOINT' }));
      expect(error.code).to.equal('E_CHECKPOINT');
      expect(error.message).to.equal(
        'Hyper-V did not do a thing: It failed. Merging. (job error 32775)',
      );
      expect(error.context['jobErrors']).to.equal('It failed.\nMerging.');
      expect(error.context).to.include({ jobState: end, jobError: 32_775 });
      expect(isBusyRefusal(error)).to.equal(true);
    });
  }

  it('names a refusal, known or not', async () => {
    for (const [returnValue, name, isBusy] of [
      [32_769, 'access denied', false],
      [32_775, 'invalid state for this operation', true],
      [55_555, 'an unknown code', false],
    ] as const) {
      const answer = { returnValue, jobId: undefined };
      const error = await refusal(() => endOfMethod(answer, runnerOf([])));
      expect(error.code).to.equal('E_HYPERVISOR');
      expect(error.message).to.include(`${name} (${String(returnValue)})`);
      expect(isBusyRefusal(error)).to.equal(isBusy);
    }
  });

  it('ends a job that takes too long, and waits between two looks', async () => {
    const error = await refusal(() => endOfMethod(JOB, runnerOf(['running'])));
    expect(error.code).to.equal('E_STALLED');
    expect(error.done).to.equal('its job was told to end');
    expect(asked.at(-1)).to.equal('job.cancel');
    expect(asked.length).to.be.lessThan(20);
    expect(nowMs).to.be.within(10_000, 12_000);
  });

  it('refuses a job without a name', async () => {
    const answer = { returnValue: 4096, jobId: undefined };
    const error = await refusal(() => endOfMethod(answer, runnerOf([])));
    expect(error.code).to.equal('E_HYPERVISOR');
  });
});
