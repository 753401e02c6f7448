// The transition table against the specification's, cell by cell; what is not in a cell: steps that tell
// rows apart, halted steps, cycles, and the words of a refusal.

import { expect } from 'chai';
import {
  answerTo,
  cycleRefusal,
  RETURN_CYCLE,
  type Row,
  rowOf,
  TABLE,
  validCommands,
} from '../../../../dr-receiver/failover/machine.js';
import {
  type Command,
  COMMANDS,
  type FailoverRecord,
  type HaltedStep,
  ORDINARY,
  type Phase,
} from '../../../../dr-receiver/failover/model.js';
import { cellText } from '../../../../dr-receiver/failover/page.js';
import { requireAnswer } from '../../../../dr-receiver/failover/refusals.js';
import { stateName } from '../../../../dr-receiver/failover/states.js';
import { DrError, type ErrorCode, isErrorCode } from '../../../../shared/errors.js';
import { anInstance, anOperation } from '../../../support/failover-records.js';

/** failover.md § 3, as it stands there; `-` is E_STATE. Rows that it lacks are ours. */
const SPECIFICATION = `
| State | cycle | planned | unplanned | test | undo | permanent | reprotect | failback | abort | resume |
| UNPROTECTED | SEEDING | E_NOT_PROTECTED | E_NOT_PROTECTED | E_NOT_PROTECTED | E_NOTHING_TO_UNDO | - | - | - | - | - |
| SEEDING | goes on | E_NO_POINT | E_NO_POINT | E_NO_POINT | E_NOTHING_TO_UNDO | - | - | - | → UNPROTECTED (partial data kept for a later seed) | goes on |
| PROTECTED | PROTECTED | FAILING_OVER → FAILED_OVER | FAILING_OVER → FAILED_OVER | session | E_NOTHING_TO_UNDO | E_NOT_FAILED_OVER | E_NOT_FAILED_OVER | E_NOT_FAILED_OVER | - | unpause |
| RESYNC | goes on | E_RESYNC_RUNNING | to an older verified point; \`--point\` required | older points | E_NOTHING_TO_UNDO | E_NOT_FAILED_OVER | E_NOT_FAILED_OVER | E_NOT_FAILED_OVER | → PROTECTED, head as before, chain marked "all cells" | goes on |
| FAILING_OVER, planned, before P6 | E_FAILED_OVER | same op: resume; other: E_LOCKED | **supersedes**: the planned one is abandoned, the unplanned one starts at U1 | E_LOCKED | as abort | E_LOCKED | E_LOCKED | E_LOCKED | → PROTECTED; the source unfences only on our explicit "aborted, epoch e" | goes on |
| FAILING_OVER, from P6 / U2 on, B not yet powered on | E_FAILED_OVER | resume | resume | E_LOCKED | → UNDOING | E_LOCKED | E_LOCKED | E_LOCKED | as undo | goes on |
| FAILED_OVER | E_FAILED_OVER | - | \`--point\` other: undo and failover in one operation | E_STATE | → UNDOING → PROTECTED | → COMMITTED | E_UNCOMMITTED | → FAILING_BACK | - | - |
| UNDOING | E_LOCKED | E_LOCKED | E_LOCKED | E_LOCKED | resume | E_LOCKED | E_LOCKED | E_LOCKED | - | goes on |
| COMMITTED | E_COMMITTED | E_COMMITTED | E_COMMITTED | E_COMMITTED | E_COMMITTED | done already, exit 0 | new protection B→A | E_COMMITTED (the text names reprotect, then planned failover) | - | - |
| FAILING_BACK, sync | E_LOCKED | E_LOCKED | E_LOCKED | E_LOCKED | → FAILED_OVER (A's disks as before) | E_LOCKED | E_LOCKED | resume | → FAILED_OVER | goes on |
| FAILING_BACK, switch | E_LOCKED | E_LOCKED | E_LOCKED | E_LOCKED | before A's first power-on: B starts again → FAILED_OVER | E_LOCKED | E_LOCKED | resume | as undo | goes on |
| FAILED_BACK | E_STATE | - | - | - | A off, its protective disk dropped, B started → FAILED_OVER | **commit** → PROTECTED | - | done already | - | - |
| SPLIT_BRAIN | E_SPLIT_BRAIN | … | … | … | … | … | … | … | … | only \`resolve --keep source\` → PROTECTED with compare, or \`--keep replica\` → FAILED_OVER; works with the loser dead |
| HALTED | E_HALTED | E_HALTED | allowed when the previous state allowed it and a verified point exists (a disaster must not wait for a broken step) | E_HALTED | if the step's row says so | E_HALTED | E_HALTED | if it was FAILING_BACK | if the step's row says so | the step again |
`;

const ROW_NAMES: Readonly<Record<string, Row>> = {
  'FAILING_OVER, from P6 / U2 on, B not yet powered on': 'FAILING_OVER, from P6 or U2 on',
};

/** What we say where the specification says it in other words, by row and column. */
const OUR_WORDS: Readonly<Record<string, string>> = {
  'UNPROTECTED cycle': 'taken',
  'SEEDING cycle': 'taken',
  'SEEDING abort': 'noted → UNPROTECTED',
  'SEEDING resume': 'done',
  'PROTECTED cycle': 'taken',
  'PROTECTED resume': 'noted → PROTECTED',
  'RESYNC cycle': 'taken',
  'RESYNC unplanned': 'FAILING_OVER → FAILED_OVER, wants `--point`',
  'RESYNC test': 'session',
  'RESYNC abort': 'noted → PROTECTED',
  'RESYNC resume': 'done',
  'FAILING_OVER, planned, before P6 planned': 'goes on',
  'FAILING_OVER, planned, before P6 unplanned': 'supersedes → FAILED_OVER',
  'FAILING_OVER, planned, before P6 undo': 'back → PROTECTED',
  'FAILING_OVER, planned, before P6 abort': 'back → PROTECTED',
  'FAILING_OVER, from P6 or U2 on planned': 'goes on',
  'FAILING_OVER, from P6 or U2 on unplanned': 'goes on',
  'FAILING_OVER, from P6 or U2 on undo': 'back → UNDOING → PROTECTED',
  'FAILING_OVER, from P6 or U2 on abort': 'back → UNDOING → PROTECTED',
  'FAILED_OVER unplanned': 'other point → FAILED_OVER',
  'FAILED_OVER undo': 'UNDOING → PROTECTED',
  'FAILED_OVER permanent': 'COMMITTED',
  'FAILED_OVER failback': 'FAILING_BACK → FAILED_BACK',
  'UNDOING undo': 'goes on',
  'COMMITTED permanent': 'done',
  'COMMITTED reprotect': 'noted → COMMITTED',
  'COMMITTED failback': 'E_COMMITTED',
  'FAILING_BACK, sync undo': 'back → FAILED_OVER',
  'FAILING_BACK, sync abort': 'back → FAILED_OVER',
  'FAILING_BACK, sync failback': 'goes on',
  'FAILING_BACK, switch undo': 'back → FAILED_OVER',
  'FAILING_BACK, switch abort': 'back → FAILED_OVER',
  'FAILING_BACK, switch failback': 'goes on',
  'FAILED_BACK undo': 'FAILING_BACK → FAILED_OVER',
  'FAILED_BACK permanent': 'PROTECTED',
  'FAILED_BACK failback': 'done',
  'SPLIT_BRAIN resume': 'E_SPLIT_BRAIN',
  'HALTED unplanned': 'as halted',
  'HALTED undo': 'as halted',
  'HALTED failback': 'as halted',
  'HALTED abort': 'as halted',
  'HALTED resume': 'as halted',
};

function specified(): Map<Row, Map<Command, string>> {
  const [heads = [], ...lines] = SPECIFICATION.trim()
    .split('\n')
    .map((line) => line.split('|').map((cell) => cell.trim()))
    .map((cells) => cells.slice(1, -1));
  const columns = heads.slice(1) as Command[];
  return new Map(
    lines.map(([name = '', ...cells]) => {
      const row = ROW_NAMES[name] ?? (name as Row);
      const answers = cells.map((cell, index): [Command, string] => {
        const command = columns[index] ?? 'cycle';
        const plain = cell === 'E_STATE' ? '-' : cell === '…' ? 'E_SPLIT_BRAIN' : cell;
        return [command, OUR_WORDS[`${row} ${command}`] ?? plain];
      });
      return [row, new Map(answers)];
    }),
  );
}

const ROWS = Object.keys(TABLE) as Row[];

function halted(fields: Partial<HaltedStep> = {}): FailoverRecord {
  const {
    phase = 'failing-over',
    step = 'P7',
    cause = 'the volume is full',
    allowed = [],
  } = fields;
  return { ...ORDINARY, phase: 'halted', halted: { phase, step, cause, allowed } };
}

function refusalOf(run: () => unknown): DrError {
  try {
    run();
  } catch (error) {
    if (error instanceof DrError) return error;
    throw error;
  }
  throw new Error('it was not refused');
}

describe('failover: transition table', () => {
  it('is that of the specification, cell by cell', () => {
    const wanted = specified();
    expect(ROWS.filter((row) => !wanted.has(row))).to.deep.equal([
      'FAILING_OVER, unplanned, before U2',
      'FAILING_BACK, going back',
      'FAILED_BACK, committing',
    ]);
    for (const [row, cells] of wanted) {
      for (const [command, text] of cells) {
        expect(cellText(TABLE[row][command]), `${row}, ${command}`).to.equal(text);
      }
    }
  });

  it('has one answer for every state and command, and every refusal a code of the catalogue', () => {
    for (const row of ROWS) {
      expect(Object.keys(TABLE[row]).sort(), row).to.deep.equal([...COMMANDS].sort());
      for (const command of COMMANDS) {
        for (const failover of [ORDINARY, halted(), { ...ORDINARY, instance: anInstance() }]) {
          const answer = answerTo(row, command, failover);
          expect(answer.kind, `${row}, ${command}`).not.to.equal('asHalted');
          if (answer.kind === 'refuse') expect(isErrorCode(answer.code)).to.equal(true);
        }
      }
    }
  });

  it('lets an unplanned failover go on before U2 and no planned one beside it', () => {
    const row = 'FAILING_OVER, unplanned, before U2';
    const answers = COMMANDS.map((command) => `${command}: ${cellText(TABLE[row][command])}`);
    expect(answers.filter((text) => !text.endsWith('E_LOCKED'))).to.deep.equal([
      'cycle: E_FAILED_OVER',
      'unplanned: goes on',
      'undo: back → PROTECTED',
      'abort: back → PROTECTED',
      'resume: goes on',
    ]);
  });

  it('lets a protection be paused and forgotten where no VM of ours runs', () => {
    const rowsFor = (command: Command): Row[] =>
      ROWS.filter((row) => answerTo(row, command, ORDINARY).kind !== 'refuse');
    const ordinary: Row[] = ['UNPROTECTED', 'SEEDING', 'PROTECTED', 'RESYNC'];
    expect(rowsFor('pause')).to.deep.equal(ordinary);
    expect(rowsFor('unpause')).to.deep.equal(ordinary);
    expect(rowsFor('forget')).to.deep.equal([...ordinary, 'COMMITTED']);
    expect(rowsFor('flatten')).to.deep.equal(['COMMITTED']);
    expect(rowsFor('resolve')).to.deep.equal(['SPLIT_BRAIN']);
  });

  it('tells rows of one state apart by the step', () => {
    const rows: readonly [FailoverRecord['operation'], Row][] = [
      ...['P1', 'P2', 'P3', 'P4', 'P5'].map((step): [FailoverRecord['operation'], Row] => [
        anOperation({ kind: 'planned', step }),
        'FAILING_OVER, planned, before P6',
      ]),
      [anOperation({ kind: 'planned', step: 'P6' }), 'FAILING_OVER, from P6 or U2 on'],
      [anOperation({ kind: 'unplanned', step: 'U1' }), 'FAILING_OVER, unplanned, before U2'],
      [anOperation({ kind: 'unplanned', step: 'U2' }), 'FAILING_OVER, from P6 or U2 on'],
    ];
    for (const [operation, row] of rows) {
      expect(rowOf('FAILING_OVER', { operation }), operation?.step).to.equal(row);
    }
    const back = (step: string): Row =>
      rowOf('FAILING_BACK', { operation: anOperation({ kind: 'failback', step }) });
    expect(['F1', 'F2', 'F5'].map(back)).to.deep.equal([
      'FAILING_BACK, sync',
      'FAILING_BACK, switch',
      'FAILING_BACK, switch',
    ]);
  });
});

describe('failover: a halted step', () => {
  const kindOf = (command: Command, failover: FailoverRecord): string => {
    const answer = answerTo('HALTED', command, failover);
    return 'to' in answer ? `${answer.kind} ${answer.to}` : answer.kind;
  };

  it('never hinders a disaster where the state before allowed the failover', () => {
    const phases: Readonly<Record<Exclude<Phase, 'halted'>, boolean>> = {
      ...{ ordinary: true, 'failing-over': true, 'failed-over': true, undoing: false },
      ...{ committed: false, 'failing-back': false, 'failed-back': false, 'split-brain': false },
    };
    for (const [phase, isAllowed] of Object.entries(phases)) {
      expect(kindOf('unplanned', halted({ phase: phase as Phase })), phase).to.equal(
        isAllowed ? 'supersede FAILED_OVER' : 'refuse',
      );
    }
  });

  it('can be tried again, and taken back only where it says so', () => {
    expect(kindOf('resume', halted())).to.equal('resume');
    expect(kindOf('undo', halted())).to.equal('refuse');
    expect(kindOf('undo', halted({ allowed: ['undo'] }))).to.equal('takeBack PROTECTED');
    expect(kindOf('abort', halted({ allowed: ['undo'] }))).to.equal('refuse');
    const back = halted({ phase: 'failing-back', step: 'F3', allowed: ['abort'] });
    expect(kindOf('abort', back)).to.equal('takeBack FAILED_OVER');
    expect(kindOf('failback', back)).to.equal('resume');
    expect(kindOf('failback', halted())).to.equal('refuse');
  });

  it('is not forgotten while a VM of ours may stand on the store', () => {
    expect(kindOf('forget', halted())).to.equal('note UNPROTECTED');
    expect(kindOf('forget', { ...halted(), instance: anInstance() })).to.equal('refuse');
  });

  it('is none where the store itself is unsound: nothing but `unhalt` helps', () => {
    expect(validCommands('HALTED', ORDINARY)).to.deep.equal([]);
  });
});

describe('failover: cycles', () => {
  it('are taken by phase', () => {
    const phases: Readonly<Record<Phase, ErrorCode | undefined>> = {
      ordinary: undefined,
      'failing-over': 'E_FAILED_OVER',
      'failed-over': 'E_FAILED_OVER',
      undoing: 'E_LOCKED',
      committed: 'E_COMMITTED',
      'failing-back': 'E_LOCKED',
      'failed-back': 'E_STATE',
      'split-brain': 'E_SPLIT_BRAIN',
      halted: 'E_HALTED',
    };
    for (const [phase, code] of Object.entries(phases)) {
      const failover = { ...ORDINARY, phase: phase as Phase };
      expect(cycleRefusal(failover, 'delta'), phase).to.equal(code);
    }
  });

  it('of the source itself are part of a planned failover until the receiver is active', () => {
    for (const step of ['P1', 'P2', 'P3', 'P4', 'P5', 'P6', 'P7']) {
      const operation = anOperation({ kind: 'planned', step });
      const failover: FailoverRecord = { ...ORDINARY, phase: 'failing-over', operation };
      expect(cycleRefusal(failover, 'delta'), step).to.equal(
        step < 'P6' ? undefined : 'E_FAILED_OVER',
      );
    }
    const operation = anOperation({ kind: 'unplanned', step: 'U1' });
    expect(cycleRefusal({ ...ORDINARY, phase: 'failing-over', operation }, 'delta')).to.equal(
      'E_FAILED_OVER',
    );
  });

  it('with which a failback comes home are the only ones that FAILED_BACK takes', () => {
    expect(cycleRefusal({ ...ORDINARY, phase: 'failed-back' }, RETURN_CYCLE)).to.equal(undefined);
  });
});

describe('failover: states by name', () => {
  const base = { phase: 'ordinary', isHalted: false, hasPoint: true } as const;
  const idle = { isSeeding: false, isComparing: false };

  it('follow from points and cycle while the phase is ordinary', () => {
    expect(stateName({ ...base, ...idle, hasPoint: false })).to.equal('UNPROTECTED');
    expect(stateName({ ...base, ...idle, hasPoint: false, isSeeding: true })).to.equal('SEEDING');
    expect(stateName({ ...base, ...idle })).to.equal('PROTECTED');
    expect(stateName({ ...base, ...idle, isComparing: true })).to.equal('RESYNC');
    expect(stateName({ ...base, ...idle, isHalted: true })).to.equal('HALTED');
    expect(stateName({ ...base, ...idle, phase: 'failed-back' })).to.equal('FAILED_BACK');
  });
});

describe('failover: refusals', () => {
  it('list what is valid instead', () => {
    const standing = { vmName: 'SQL01', state: 'FAILED_OVER', failover: ORDINARY } as const;
    const error = refusalOf(() => requireAnswer(standing, 'test'));
    expect(error.code).to.equal('E_STATE');
    expect(error.message).to.equal('SQL01 is FAILED_OVER: "test" is not possible now');
    expect(error.hint).to.equal('Valid now are: unplanned, undo, permanent, failback.');
  });

  it('name the operation under way: id, step, since, by whom', () => {
    const operation = anOperation({ kind: 'undo', step: 'N2' });
    const failover: FailoverRecord = { ...ORDINARY, phase: 'undoing', operation };
    const error = refusalOf(() =>
      requireAnswer({ vmName: 'SQL01', state: 'UNDOING', failover }, 'planned'),
    );
    expect(error.code).to.equal('E_LOCKED');
    expect(error.message).to.equal(
      `SQL01 is UNDOING: undo ${operation.operationId}, step N2, since 1970-01-01T00:00:05.000Z, by ops is under way`,
    );
    expect(error.context).to.include({ step: 'N2', by: 'ops', valid: 'undo resume' });
  });

  it('name the halted step, its cause and what is allowed', () => {
    const failover = halted({ allowed: ['undo'] });
    const error = refusalOf(() =>
      requireAnswer({ vmName: 'SQL01', state: 'HALTED', failover }, 'test'),
    );
    expect(error.code).to.equal('E_HALTED');
    expect(error.message).to.contain('step P7 could neither go on nor back: the volume is full');
    expect(error.hint).to.equal('Valid now are: unplanned, undo, resume, forget.');
  });

  it('let through what the table allows', () => {
    const standing = { vmName: 'SQL01', state: 'PROTECTED', failover: ORDINARY } as const;
    expect(requireAnswer(standing, 'planned')).to.include({ kind: 'start', to: 'FAILED_OVER' });
  });
});
