// Laws of the state machine, walked at random: whatever commands come and wherever steps end or break,
// each command has exactly one answer, each state that is reached has a way on, and the epoch of the record
// never falls. The walk writes real records into a real protection.

import { expect } from 'chai';
import fc from 'fast-check';
import { answerTo, rowOf, validCommands } from '../../dr-receiver/failover/machine.js';
import {
  type Command,
  COMMANDS,
  type FailoverRecord,
  type OperationKind,
  ORDINARY,
  type Phase,
} from '../../dr-receiver/failover/model.js';
import { planHash, planOf } from '../../dr-receiver/failover/plan.js';
import { stateName } from '../../dr-receiver/failover/states.js';
import { STEPS, stepRule } from '../../dr-receiver/failover/steps.js';
import { Protection } from '../../dr-receiver/store/protection.js';
import { parseRecord } from '../../dr-receiver/store/records.js';
import { isErrorCode } from '../../shared/errors.js';
import { anInstance, anOperation } from '../support/failover-records.js';
import { commitRecord, protectRecord, VM_ID } from '../support/protection-records.js';

/** More than any operation has. */
const STEPS_MAX = 10;
const SLOW = process.env['SLOW'] === '1';

type Event =
  | { readonly kind: 'command'; readonly command: Command }
  /** The step under way has ended well. */
  | { readonly kind: 'ended' }
  /** All of its steps have. */
  | { readonly kind: 'finished' }
  /** It can go neither on nor back. */
  | { readonly kind: 'halted'; readonly allowed: readonly Command[] }
  | { readonly kind: 'sourceSeen' };

const events: fc.Arbitrary<Event> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('command' as const),
      command: fc.constantFrom(...COMMANDS),
    }),
  },
  { weight: 3, arbitrary: fc.constant({ kind: 'ended' as const }) },
  { weight: 2, arbitrary: fc.constant({ kind: 'finished' as const }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('halted' as const),
      allowed: fc.subarray<Command>(['undo', 'abort']),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ kind: 'sourceSeen' as const }) },
);

const DURING: Readonly<Record<OperationKind, Phase>> = {
  planned: 'failing-over',
  unplanned: 'failing-over',
  undo: 'undoing',
  failback: 'failing-back',
  'failback-commit': 'failed-back',
  'failback-undo': 'failing-back',
  permanent: 'failed-over',
  resolve: 'split-brain',
};

/** Both ways out of FAILED_BACK have steps of their own. */
const RETURN_KIND = { permanent: 'failback-commit', undo: 'failback-undo' } as const;

/** The record when the last step of an operation has ended. */
const AFTER: Readonly<Record<OperationKind, FailoverRecord>> = {
  planned: served('failed-over'),
  unplanned: served('failed-over'),
  undo: ORDINARY,
  permanent: served('committed'),
  failback: { ...served('failed-back'), activeSite: 'source' },
  'failback-commit': ORDINARY,
  'failback-undo': served('failed-over'),
  resolve: ORDINARY,
};

function served(phase: Phase): FailoverRecord {
  return { ...ORDINARY, phase, activeSite: 'target', instance: anInstance() };
}

class Walk {
  readonly protection = new Protection(VM_ID);
  readonly seen = new Set<string>();

  constructor() {
    this.protection.apply(protectRecord());
    this.protection.apply(commitRecord(1));
  }

  get #record(): FailoverRecord {
    return this.protection.failover;
  }

  take(event: Event): void {
    switch (event.kind) {
      case 'command':
        this.#command(event.command);
        break;
      case 'ended':
        this.#endStep();
        break;
      case 'finished':
        for (let step = 0; step < STEPS_MAX; step++) this.#endStep();
        break;
      case 'halted':
        this.#halt(event.allowed);
        break;
      case 'sourceSeen':
        if (this.#record.phase === 'failed-over') {
          this.#write({ ...this.#record, phase: 'split-brain', operation: undefined });
        }
    }
    this.#look();
  }

  #command(command: Command): void {
    const record = this.#record;
    const answer = answerTo(rowOf(this.#state, record), command, record);
    switch (answer.kind) {
      case 'start':
        if (command in STEPS && command !== 'test') this.#begin(command as OperationKind);
        else if (command === 'resolve') this.#write({ ...ORDINARY });
        return;
      case 'supersede':
      case 'otherPoint':
        this.#begin('unplanned');
        return;
      case 'takeBack':
        if (answer.to === 'FAILED_OVER') this.#begin('failback-undo');
        else if (answer.through === undefined && record.halted === undefined) this.#write(ORDINARY);
        else this.#begin('undo');
        return;
      case 'resume':
        if (record.halted !== undefined) {
          this.#write({ ...record, phase: record.halted.phase, halted: undefined });
        }
        return;
      case 'cycle':
      case 'session':
      case 'note':
      case 'done':
      case 'asHalted':
      case 'refuse':
    }
  }

  #begin(kind: OperationKind): void {
    const { phase } = this.#record;
    const isReturn = phase === 'failed-back' && (kind === 'permanent' || kind === 'undo');
    const own = isReturn ? RETURN_KIND[kind] : kind;
    const step = own === 'resolve' ? undefined : STEPS[own][0];
    if (step === undefined) return;
    const operation = anOperation({ kind: own, step: step.name });
    this.#write({ ...this.#record, phase: DURING[own], operation, halted: undefined });
  }

  #endStep(): void {
    const { operation } = this.#record;
    if (operation === undefined || operation.kind === 'resolve') return;
    if (this.#record.phase === 'halted') return;
    const rules = STEPS[operation.kind];
    const at = rules.findIndex(({ name }) => name === operation.step);
    const next = rules[at + 1];
    if (next === undefined) {
      this.#write(AFTER[operation.kind]);
      return;
    }
    this.#write(
      { ...this.#record, operation: { ...operation, step: next.name } },
      next.isEpochRaised === true,
    );
  }

  #halt(allowed: readonly Command[]): void {
    const { operation, phase } = this.#record;
    if (operation === undefined || phase === 'halted' || operation.kind === 'permanent') return;
    const halted = { phase, step: operation.step, cause: 'it broke', allowed };
    this.#write({ ...this.#record, phase: 'halted', halted });
  }

  #write(failover: FailoverRecord, isEpochRaised = false): void {
    const before = this.protection.epoch;
    const epoch = (before + (isEpochRaised ? 1n : 0n)).toString();
    const record = { kind: 'failover', atMs: 1, epoch, failover, by: 'ops', keyId: undefined };
    const parsed = parseRecord(JSON.parse(JSON.stringify(record)));
    if ('wrong' in parsed) throw new Error(parsed.wrong);
    expect(this.protection.apply(parsed)).to.equal(undefined);
    expect(this.protection.epoch >= before).to.equal(true);
    if (before > 1n) {
      const old = { ...parsed, epoch: (before - 1n).toString() } as typeof parsed;
      expect(this.protection.apply(old)).to.equal(`epoch ${before - 1n} is over`);
    }
  }

  get #state(): ReturnType<typeof stateName> {
    const { phase } = this.#record;
    return stateName({
      ...{ phase, isHalted: false, hasPoint: true, isSeeding: false, isComparing: false },
    });
  }

  /** What holds wherever the walk is. */
  #look(): void {
    const failover = this.#record;
    const state = this.#state;
    const row = rowOf(state, failover);
    this.seen.add(row);
    const { operation } = failover;
    if (operation !== undefined && operation.kind !== 'resolve') {
      expect(stepRule(operation.kind, operation.step)).not.to.equal(undefined);
    }
    for (const command of COMMANDS) {
      const answer = answerTo(row, command, failover);
      expect(answer.kind, `${row}, ${command}`).not.to.equal('asHalted');
      const plan = planOf({
        standing: { vmName: 'VM', state, failover },
        ...{ vmId: VM_ID, epoch: this.protection.epoch, command, parameters: {} },
      });
      expect(plan.refusals.length > 0, `${row}, ${command}`).to.equal(answer.kind === 'refuse');
      if (answer.kind === 'refuse') expect(isErrorCode(answer.code)).to.equal(true);
      expect(planHash(plan)).to.have.length(64);
    }
    // nobody is ever stuck
    expect(validCommands(row, failover).length, row).to.be.greaterThan(0);
  }
}

const after = (...commands: readonly Command[]): Event[] =>
  commands.flatMap((command) => [{ kind: 'command', command }, { kind: 'finished' }]);

/** Rows that random events may not come to. */
const RARE: readonly (readonly Event[])[] = [
  [...after('planned', 'failback'), { kind: 'command', command: 'permanent' }],
  [...after('planned', 'failback'), { kind: 'command', command: 'undo' }],
];

describe('property: failover', () => {
  it('gives each command one answer wherever it is, and never lowers the epoch', () => {
    const seen = new Set<string>();
    fc.assert(
      fc.property(fc.array(events, { minLength: 1, maxLength: 60, size: 'max' }), (all) => {
        const walk = new Walk();
        for (const event of all) walk.take(event);
        for (const row of walk.seen) seen.add(row);
      }),
      { numRuns: SLOW ? 5000 : 300, examples: RARE.map((all) => [all]) },
    );
    expect([...seen].sort()).to.deep.equal([
      'COMMITTED',
      'FAILED_BACK',
      'FAILED_BACK, committing',
      'FAILED_OVER',
      'FAILING_BACK, going back',
      'FAILING_BACK, switch',
      'FAILING_BACK, sync',
      'FAILING_OVER, from P6 or U2 on',
      'FAILING_OVER, planned, before P6',
      'FAILING_OVER, unplanned, before U2',
      'HALTED',
      'PROTECTED',
      'SPLIT_BRAIN',
      'UNDOING',
    ]);
  });
});
