// The state machine (docs/failover.md) as data: for every state and command exactly one answer. What an
// answer means for the disks, the VMs and the journal is told by the operations; their steps are in
// steps.ts, the words of a refusal in refusals.ts.

import type { ErrorCode } from '../../shared/errors.js';
import {
  type Command,
  COMMANDS,
  type FailoverRecord,
  type Phase,
  type StateName,
} from './model.js';

/** States that answer differently at different steps stand in several rows. */
export type Row =
  | Exclude<StateName, 'FAILING_OVER' | 'FAILING_BACK'>
  | 'FAILING_OVER, planned, before P6'
  | 'FAILING_OVER, unplanned, before U2'
  | 'FAILING_OVER, from P6 or U2 on'
  | 'FAILING_BACK, sync'
  | 'FAILING_BACK, switch'
  | 'FAILING_BACK, going back'
  | 'FAILED_BACK, committing';

export type Answer =
  /** A cycle of the source is taken. */
  | { readonly kind: 'cycle' }
  /** An operation begins and leads to this state, through another one where that is named. */
  | {
      readonly kind: 'start';
      readonly to: StateName;
      readonly through?: StateName;
      /** Where it may lead instead, as its parameters say. */
      readonly or?: StateName;
      /** Nobody but the operator can say which point is good now. */
      readonly wantsPoint?: true;
    }
  /** The operation under way goes on. */
  | { readonly kind: 'resume' }
  /** The operation under way is given up for this one. */
  | { readonly kind: 'supersede'; readonly to: StateName }
  /** The operation under way is taken back. */
  | { readonly kind: 'takeBack'; readonly to: StateName; readonly through?: StateName }
  /** The VM comes up again from another point, in one operation. */
  | { readonly kind: 'otherPoint'; readonly to: StateName; readonly through?: StateName }
  /** A test beside the machine. */
  | { readonly kind: 'session' }
  /** Nothing but the record changes. */
  | { readonly kind: 'note'; readonly to: StateName }
  /** It has been done, or is being done anyway. */
  | { readonly kind: 'done' }
  /** As what was halted says: haltedAnswer(). */
  | { readonly kind: 'asHalted' }
  | { readonly kind: 'refuse'; readonly code: ErrorCode };

const cycle: Answer = { kind: 'cycle' };
const resume: Answer = { kind: 'resume' };
const session: Answer = { kind: 'session' };
const done: Answer = { kind: 'done' };
const asHalted: Answer = { kind: 'asHalted' };
const start = (to: StateName, through?: StateName): Answer & { readonly kind: 'start' } => ({
  kind: 'start',
  to,
  ...(through === undefined ? {} : { through }),
});
const takeBack = (to: StateName, through?: StateName): Answer => ({
  kind: 'takeBack',
  to,
  ...(through === undefined ? {} : { through }),
});
const note = (to: StateName): Answer => ({ kind: 'note', to });
const refuse = (code: ErrorCode): Answer => ({ kind: 'refuse', code });
const no = refuse('E_STATE');
const locked = refuse('E_LOCKED');

type Answers = Readonly<Record<Command, Answer>>;

/** What no row but a few takes. */
const ELSEWHERE = {
  pause: no,
  unpause: no,
  resolve: no,
  forget: no,
  flatten: no,
} as const;

const NOT_FAILED_OVER = {
  undo: refuse('E_NOTHING_TO_UNDO'),
  permanent: refuse('E_NOT_FAILED_OVER'),
  reprotect: refuse('E_NOT_FAILED_OVER'),
  failback: refuse('E_NOT_FAILED_OVER'),
} as const;

function all(answer: Answer): Answers {
  return Object.fromEntries(COMMANDS.map((command) => [command, answer])) as Answers;
}

export const TABLE: Readonly<Record<Row, Answers>> = {
  UNPROTECTED: {
    ...ELSEWHERE,
    cycle,
    planned: refuse('E_NOT_PROTECTED'),
    unplanned: refuse('E_NOT_PROTECTED'),
    test: refuse('E_NOT_PROTECTED'),
    undo: refuse('E_NOTHING_TO_UNDO'),
    permanent: no,
    reprotect: no,
    failback: no,
    abort: no,
    resume: no,
    pause: note('UNPROTECTED'),
    unpause: note('UNPROTECTED'),
    forget: note('UNPROTECTED'),
  },
  SEEDING: {
    ...ELSEWHERE,
    cycle,
    planned: refuse('E_NO_POINT'),
    unplanned: refuse('E_NO_POINT'),
    test: refuse('E_NO_POINT'),
    undo: refuse('E_NOTHING_TO_UNDO'),
    permanent: no,
    reprotect: no,
    failback: no,
    abort: note('UNPROTECTED'),
    resume: done,
    pause: note('SEEDING'),
    unpause: note('SEEDING'),
    forget: note('UNPROTECTED'),
  },
  PROTECTED: {
    ...ELSEWHERE,
    ...NOT_FAILED_OVER,
    cycle,
    planned: start('FAILED_OVER', 'FAILING_OVER'),
    unplanned: start('FAILED_OVER', 'FAILING_OVER'),
    test: session,
    abort: no,
    resume: note('PROTECTED'),
    pause: note('PROTECTED'),
    unpause: note('PROTECTED'),
    forget: note('UNPROTECTED'),
  },
  RESYNC: {
    ...ELSEWHERE,
    ...NOT_FAILED_OVER,
    cycle,
    planned: refuse('E_RESYNC_RUNNING'),
    unplanned: { ...start('FAILED_OVER', 'FAILING_OVER'), wantsPoint: true },
    test: session,
    abort: note('PROTECTED'),
    resume: done,
    pause: note('RESYNC'),
    unpause: note('RESYNC'),
    forget: note('UNPROTECTED'),
  },
  'FAILING_OVER, planned, before P6': {
    ...all(locked),
    cycle: refuse('E_FAILED_OVER'),
    planned: resume,
    unplanned: { kind: 'supersede', to: 'FAILED_OVER' },
    undo: takeBack('PROTECTED'),
    abort: takeBack('PROTECTED'),
    resume,
  },
  'FAILING_OVER, unplanned, before U2': {
    ...all(locked),
    cycle: refuse('E_FAILED_OVER'),
    unplanned: resume,
    undo: takeBack('PROTECTED'),
    abort: takeBack('PROTECTED'),
    resume,
  },
  'FAILING_OVER, from P6 or U2 on': {
    ...all(locked),
    cycle: refuse('E_FAILED_OVER'),
    planned: resume,
    unplanned: resume,
    undo: takeBack('PROTECTED', 'UNDOING'),
    abort: takeBack('PROTECTED', 'UNDOING'),
    resume,
  },
  FAILED_OVER: {
    ...ELSEWHERE,
    cycle: refuse('E_FAILED_OVER'),
    planned: no,
    unplanned: { kind: 'otherPoint', to: 'FAILED_OVER', through: 'FAILING_OVER' },
    test: no,
    undo: start('PROTECTED', 'UNDOING'),
    permanent: start('COMMITTED'),
    reprotect: refuse('E_UNCOMMITTED'),
    failback: start('FAILED_BACK', 'FAILING_BACK'),
    abort: no,
    resume: no,
  },
  UNDOING: {
    ...all(locked),
    undo: resume,
    resume,
    abort: no,
  },
  COMMITTED: {
    ...ELSEWHERE,
    cycle: refuse('E_COMMITTED'),
    planned: refuse('E_COMMITTED'),
    unplanned: refuse('E_COMMITTED'),
    test: refuse('E_COMMITTED'),
    undo: refuse('E_COMMITTED'),
    permanent: done,
    reprotect: note('COMMITTED'),
    failback: refuse('E_COMMITTED'),
    abort: no,
    resume: no,
    forget: note('UNPROTECTED'),
    flatten: start('COMMITTED'),
  },
  'FAILING_BACK, sync': {
    ...all(locked),
    undo: takeBack('FAILED_OVER'),
    failback: resume,
    abort: takeBack('FAILED_OVER'),
    resume,
  },
  'FAILING_BACK, switch': {
    ...all(locked),
    undo: takeBack('FAILED_OVER'),
    failback: resume,
    abort: takeBack('FAILED_OVER'),
    resume,
  },
  'FAILING_BACK, going back': {
    ...all(locked),
    undo: resume,
    abort: resume,
    resume,
  },
  'FAILED_BACK, committing': {
    ...all(locked),
    cycle: no,
    permanent: resume,
    resume,
  },
  FAILED_BACK: {
    ...ELSEWHERE,
    cycle: no,
    planned: no,
    unplanned: no,
    test: no,
    undo: start('FAILED_OVER', 'FAILING_BACK'),
    permanent: start('PROTECTED'),
    reprotect: no,
    failback: done,
    abort: no,
    resume: no,
  },
  SPLIT_BRAIN: {
    ...all(refuse('E_SPLIT_BRAIN')),
    resolve: { ...start('PROTECTED'), or: 'FAILED_OVER' },
  },
  HALTED: {
    ...all(refuse('E_HALTED')),
    unplanned: asHalted,
    undo: asHalted,
    failback: asHalted,
    abort: asHalted,
    resume: asHalted,
    forget: asHalted,
  },
};

/** Steps of a planned failover before the receiver is the active site. */
const BEFORE_P6: ReadonlySet<string> = new Set(['P1', 'P2', 'P3', 'P4', 'P5']);

/** The row of a protection that is in `state`. */
export function rowOf(state: StateName, { operation }: Pick<FailoverRecord, 'operation'>): Row {
  if (state === 'FAILING_OVER') {
    if (operation?.kind === 'planned' && BEFORE_P6.has(operation.step)) {
      return 'FAILING_OVER, planned, before P6';
    }
    return operation?.kind === 'unplanned' && operation.step === 'U1'
      ? 'FAILING_OVER, unplanned, before U2'
      : 'FAILING_OVER, from P6 or U2 on';
  }
  if (state === 'FAILING_BACK') {
    if (operation?.kind === 'failback-undo') return 'FAILING_BACK, going back';
    return operation?.step === 'F1' ? 'FAILING_BACK, sync' : 'FAILING_BACK, switch';
  }
  if (state === 'FAILED_BACK' && operation !== undefined) return 'FAILED_BACK, committing';
  return state;
}

/** What of the record the answers depend on. */
export type AnswerBasis = Pick<FailoverRecord, 'halted' | 'instance'>;

/** The one answer, with what was halted taken into account. */
export function answerTo(row: Row, command: Command, failover: AnswerBasis): Answer {
  const answer = TABLE[row][command];
  return answer.kind === 'asHalted' ? haltedAnswer(command, failover) : answer;
}

/** Phases in which the receiver may take the VM over from any source, also when a step was halted. */
const MAY_TAKE_OVER: ReadonlySet<Phase> = new Set(['ordinary', 'failing-over', 'failed-over']);

/** Without a halted step it is the store that is unsound, and nothing goes on before `unhalt`. */
function haltedAnswer(command: Command, { halted, instance }: AnswerBasis): Answer {
  const refused = refuse('E_HALTED');
  if (halted === undefined) return refused;
  // a disaster must not wait for a broken step
  if (command === 'unplanned' && MAY_TAKE_OVER.has(halted.phase)) {
    return { kind: 'supersede', to: 'FAILED_OVER' };
  }
  if (command === 'resume') return resume;
  if (command === 'failback' && halted.phase === 'failing-back') return resume;
  // else a VM of ours, or its disks, may still stand on the base
  if (command === 'forget' && instance === undefined) return note('UNPROTECTED');
  if ((command === 'undo' || command === 'abort') && halted.allowed.includes(command)) {
    const isReturn = halted.phase === 'failing-back' || halted.phase === 'failed-back';
    return takeBack(isReturn ? 'FAILED_OVER' : 'PROTECTED');
  }
  return refused;
}

/** Commands that are not refused in this row; for messages. */
export function validCommands(row: Row, failover: AnswerBasis): readonly Command[] {
  return COMMANDS.filter((command) => answerTo(row, command, failover).kind !== 'refuse');
}

/** Whether points may be added by a source now, and the word for why not. */
export function cycleRefusal(
  { phase, operation }: FailoverRecord,
  cycleKind: string,
): ErrorCode | undefined {
  switch (phase) {
    case 'ordinary':
      return undefined;
    case 'failing-over':
      // the last cycles of a planned failover are the source's own
      return operation?.kind === 'planned' && BEFORE_P6.has(operation.step)
        ? undefined
        : 'E_FAILED_OVER';
    case 'failed-over':
      return 'E_FAILED_OVER';
    case 'undoing':
    case 'failing-back':
      return 'E_LOCKED';
    case 'failed-back':
      return cycleKind === RETURN_CYCLE ? undefined : 'E_STATE';
    case 'committed':
      return 'E_COMMITTED';
    case 'split-brain':
      return 'E_SPLIT_BRAIN';
    case 'halted':
      return 'E_HALTED';
  }
}

/** The kind of the cycle with which the receiver takes over what a failback brought home. */
export const RETURN_CYCLE = 'failback';
