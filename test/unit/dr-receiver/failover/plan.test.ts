// Plans: what the table and the record tell of them, and the hash that confirms them: equal for equal
// plans whatever the time is, another one as soon as something that matters is.

import { expect } from 'chai';
import {
  type OperationPlan,
  type PlanInput,
  planHash,
  planOf,
  requireConfirmed,
} from '../../../../dr-receiver/failover/plan.js';
import { type FailoverRecord, ORDINARY } from '../../../../dr-receiver/failover/model.js';
import { REPLACES } from '../../../../dr-receiver/failover/way-back.js';
import { STEPS, stepRule } from '../../../../dr-receiver/failover/steps.js';
import { planToWire } from '../../../../dr-receiver/wire.js';
import { DrError } from '../../../../shared/errors.js';
import { aFailover, anInstance, anOperation } from '../../../support/failover-records.js';
import { pointId, VM_ID } from '../../../support/protection-records.js';

const FAILED_OVER: FailoverRecord = {
  ...ORDINARY,
  phase: 'failed-over',
  activeSite: 'target',
  instance: anInstance(),
};

function plan(fields: Partial<PlanInput> = {}): OperationPlan {
  return planOf({
    standing: { vmName: 'SQL01', state: 'FAILED_OVER', failover: FAILED_OVER },
    vmId: VM_ID,
    epoch: 3n,
    command: 'undo',
    parameters: {},
    ...fields,
  });
}

function ordinary(command: PlanInput['command'], fields: Partial<PlanInput> = {}): OperationPlan {
  return plan({
    standing: { vmName: 'SQL01', state: 'PROTECTED', failover: ORDINARY },
    command,
    ...fields,
  });
}

function names({ steps }: OperationPlan): string {
  return steps.map(({ name }) => name).join(' ');
}

function refusalOf(run: () => void): DrError {
  try {
    run();
  } catch (error) {
    if (error instanceof DrError) return error;
    throw error;
  }
  throw new Error('it was not refused');
}

describe('failover: plan', () => {
  it('tells steps, states and what is destructive', () => {
    expect(names(ordinary('planned'))).to.equal('P1 P2 P3 P4 P5 P6 P7 P8 P9');
    expect(names(ordinary('unplanned'))).to.equal('U1 U2 U3 U4 U5 U6 U7');
    expect(names(ordinary('test'))).to.equal('T1 T2 T3 T4 T5 T6 T7');
    expect(ordinary('planned')).to.include({
      ...{ fromState: 'PROTECTED', toState: 'FAILED_OVER', isDestructive: false },
    });
    expect(ordinary('unplanned', { parameters: { force: 'yes' } }).isDestructive).to.equal(true);
    expect(ordinary('forget').isDestructive).to.equal(true);
    expect(names(plan())).to.equal('N1 N2 N3 N4 N5 N6');
    expect(plan()).to.include({ toState: 'PROTECTED', isDestructive: true });
    expect(plan({ command: 'permanent' })).to.include({
      toState: 'COMMITTED',
      isDestructive: true,
    });
    expect(plan({ command: 'failback' })).to.include({
      ...{ toState: 'FAILED_BACK', isDestructive: false },
    });
  });

  it('of another point undoes and comes up again, and says what is thrown away', () => {
    const other = plan({ command: 'unplanned', pointId: pointId(1) });
    expect(names(other)).to.equal('N2 N3 U1 U2 U3 U4 U5 U6 U7');
    expect(other.notes).to.deep.equal(['what was written here since the failover is thrown away']);
    expect(other.isDestructive).to.equal(true);
  });

  it('of what goes on has the rest of its steps', () => {
    const operation = anOperation({ kind: 'planned', step: 'P7' });
    const failover: FailoverRecord = { ...ORDINARY, phase: 'failing-over', operation };
    const standing = { vmName: 'SQL01', state: 'FAILING_OVER', failover } as const;
    expect(names(plan({ standing, command: 'resume' }))).to.equal('P7 P8 P9');
    expect(plan({ standing, command: 'resume' }).toState).to.equal('FAILED_OVER');
    expect(names(plan({ standing, command: 'abort' }))).to.equal('N1 N2 N3 N4 N5 N6');
    const early = { ...failover, operation: { ...operation, step: 'P3' } };
    const atEarly = { ...standing, failover: early };
    expect(names(plan({ standing: atEarly, command: 'abort' }))).to.equal('A1 A2');
    expect(names(plan({ standing: atEarly, command: 'unplanned' }))).to.equal(
      'U1 U2 U3 U4 U5 U6 U7',
    );
  });

  it('of taking another point back says which VM serves afterwards, and so does one of a halted step', () => {
    const facts = { [REPLACES]: 'yes' };
    const operation = anOperation({ kind: 'unplanned', step: 'U1', facts });
    const failover: FailoverRecord = { ...FAILED_OVER, phase: 'failing-over', operation };
    const standing = { vmName: 'SQL01', state: 'FAILING_OVER', failover } as const;
    const abort = plan({ standing, command: 'abort' });
    expect([names(abort), abort.toState]).to.deep.equal(['A1', 'FAILED_OVER']);
    const undo = plan({ standing, command: 'undo' });
    expect([names(undo), undo.toState]).to.deep.equal(['N1 N2 N3 N4 N5 N6', 'PROTECTED']);
    const halted = { phase: 'failing-back', step: 'F4', cause: '', allowed: ['undo'] } as const;
    const broken = { ...standing, state: 'HALTED', failover: { ...FAILED_OVER, halted } } as const;
    const back = plan({ standing: broken, command: 'undo' });
    expect([names(back), back.toState]).to.deep.equal(['B1 B2 B3 B4', 'FAILED_OVER']);
  });

  it('of a failback ends it, or brings the VM here again', () => {
    const failover: FailoverRecord = { ...ORDINARY, phase: 'failed-back' };
    const standing = { vmName: 'SQL01', state: 'FAILED_BACK', failover } as const;
    expect(names(plan({ standing, command: 'permanent' }))).to.equal('F6 F7 F8 F9 F10');
    expect(plan({ standing, command: 'permanent' }).toState).to.equal('PROTECTED');
    expect(names(plan({ standing, command: 'undo' }))).to.equal('B1 B2 B3 B4');
  });

  it('has the refusals of the table, and wants a point while a compare runs', () => {
    expect(ordinary('undo').refusals.map(({ code }) => code)).to.deep.equal(['E_NOTHING_TO_UNDO']);
    const standing = { vmName: 'SQL01', state: 'RESYNC', failover: ORDINARY } as const;
    const codes = (parameters: Record<string, string>): string[] =>
      plan({ standing, command: 'unplanned', parameters }).refusals.map(({ code }) => code);
    expect(codes({})).to.deep.equal(['E_RESYNC_RUNNING']);
    expect(codes({ point: 'abc' })).to.deep.equal([]);
  });

  it('has steps of which each names one thing, and raises the epoch once at most', () => {
    for (const [kind, rules] of Object.entries(STEPS)) {
      expect(new Set(rules.map(({ name }) => name)).size, kind).to.equal(rules.length);
      const raising = rules.filter(({ isEpochRaised }) => isEpochRaised === true);
      const isChange = !['test', 'permanent', 'failback-commit'].includes(kind);
      expect(raising.length, kind).to.equal(isChange ? 1 : 0);
    }
    expect(stepRule('planned', 'P6')?.isEpochRaised).to.equal(true);
    expect(stepRule('planned', 'U2')).to.equal(undefined);
  });

  it('travels with its hash', () => {
    const wire = planToWire({ ...plan(), timedNotes: ['it ran for 5 s'], lostSeconds: 7 });
    expect(wire).to.include({ command: 'undo', isDestructive: true, hash: planHash(plan()) });
    expect(wire.notes).to.deep.equal(['it ran for 5 s']);
    expect(wire.lostSeconds).to.equal(7n);
    expect(planToWire(plan({ pointId: pointId(2) })).pointId.length).to.equal(16);
  });
});

describe('failover: confirmation', () => {
  it('is by a hash that does not change with time or order', () => {
    const hash = planHash(plan({ parameters: { a: '1', b: '2' } }));
    expect(hash).to.match(/^[0-9a-f]{64}$/);
    expect(planHash(plan({ parameters: { b: '2', a: '1' } }))).to.equal(hash);
    expect(planHash({ ...plan({ parameters: { a: '1', b: '2' } }), lostSeconds: 99 })).to.equal(
      hash,
    );
    const later = { ...plan({ parameters: { a: '1', b: '2' } }), timedNotes: ['it ran for 9 s'] };
    expect(planHash(later)).to.equal(hash);
  });

  it('is another one as soon as the world is', () => {
    const standing = (failover: FailoverRecord) =>
      ({ vmName: 'SQL01', state: 'FAILED_OVER', failover }) as const;
    const instance = anInstance({ operationId: VM_ID });
    const plans = [
      plan(),
      plan({ epoch: 4n }),
      plan({ vmId: pointId(1) }),
      plan({ command: 'permanent' }),
      plan({ pointId: pointId(2) }),
      plan({ parameters: { keep_disk: 'a' } }),
      plan({ parameters: { keep_disk: 'b' } }),
      plan({ standing: standing({ ...FAILED_OVER, instance }) }),
      plan({ standing: standing({ ...FAILED_OVER, operation: anOperation() }) }),
      plan({ standing: standing({ ...FAILED_OVER, operation: anOperation({ step: 'P9' }) }) }),
      { ...plan(), notes: ['a note'] },
      { ...plan(), refusals: [{ code: 'E_CAPACITY', message: 'full' } as const] },
      { ...plan(), steps: [] },
    ];
    expect(new Set(plans.map(planHash)).size).to.equal(plans.length);
  });

  it('is wanted of what destroys, and of nothing else', () => {
    expect(() => {
      requireConfirmed(ordinary('planned'), '');
    }).not.to.throw();
    const hash = planHash(plan());
    for (const given of ['', 'yes', hash.slice(0, 11), `${hash}0`, planHash(plan({ epoch: 9n }))]) {
      const error = refusalOf(() => {
        requireConfirmed(plan(), given);
      });
      expect(error.code, given).to.equal('E_CONFIRM');
      // who has not looked at the plan is not told what to confirm
      expect(JSON.stringify([error.line, error.context])).not.to.contain(hash.slice(0, 12));
    }
    for (const given of [hash, hash.slice(0, 12)]) {
      expect(() => {
        requireConfirmed(plan(), given);
      }).not.to.throw();
    }
  });

  it('is of no use for what is refused: the first refusal is the error, the others stand in it', () => {
    const refused: OperationPlan = {
      ...plan(),
      refusals: [
        { code: 'E_CAPACITY', message: 'need 5, have 3' },
        { code: 'E_NET_UNMAPPED', message: 'switch "a"' },
      ],
    };
    const error = refusalOf(() => {
      requireConfirmed(refused, planHash(refused));
    });
    expect(error.code).to.equal('E_CAPACITY');
    expect(error.message).to.equal('need 5, have 3; and besides E_NET_UNMAPPED: switch "a"');
  });

  it('is wanted for a way back once the VM may have written something', () => {
    const operation = anOperation({ kind: 'unplanned', step: 'U6' });
    const at = (poweredOnAtMs: number): OperationPlan => {
      const instance = anInstance({ poweredOnAtMs });
      const failover = aFailover({ phase: 'failing-over', operation, instance });
      return plan({
        standing: { vmName: 'SQL01', state: 'FAILING_OVER', failover },
        command: 'abort',
      });
    };
    expect([at(0), at(5)].map(({ isDestructive }) => isDestructive)).to.deep.equal([false, true]);
  });
});
