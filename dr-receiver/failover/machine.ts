// The state machine of failover.md § 3 as data: for every state and command exactly one answer. What
// an answer means for the disks, the VMs and the journal is told by the operations (operations/).

import type { ErrorCode } from '../../shared/errors.js';
import { type Command, COMMANDS, type FailoverRecord, type StateName } from './model.js';

/** States that answer differently at different steps stand in several rows. */
export type Row =
  | Exclude<StateName, 'FAILING_OVER' | 'FAILING_BACK'>
  | 'FAILING_OVER, planned, before P6'
  | 'FAILING_OVER, from P6 or U2 on'
  | 'FAILING_BACK, sync'
  | 'FAILING_BACK, switch';

export type Answer =
  /** A cycle of the source is taken. */
  | { readonly kind: 'cycle' }
  /** An operation begins and leads to this state. */
  | { readonly kind: 'start'; readonly to: StateName }
  /** The operation under way goes on. */
  | { readonly kind: 'resume' }
  /** The operation under way is given up for this one. */
  | { readonly kind: 'supersede'; readonly to: StateName }
  /** The operation under way is taken back. */
  | { readonly kind: 'takeBack'; readonly to: StateName }
  /** The VM comes up again from another point, in one operation. */
  | { readonly kind: 'otherPoint'; readonly to: StateName }
  /** A test beside the machine. */
  | { readonly kind: 'session' }
  /** Nothing but the record changes. */
  | { readonly kind: 'note'; readonly to: StateName }
  /** It has been done, or is being done anyway. */
  | { readonly kind: 'done' }
  /** As `HaltedStep.allowed` says. */
  | { readonly kind: 'asAllowed' }
  | { readonly kind: 'refuse'; readonly code: ErrorCode };

const cycle: Answer = { kind: 'cycle' };
const resume: Answer = { kind: 'resume' };
const session: Answer = { kind: 'session' };
const done: Answer = { kind: 'done' };
const asAllowed: Answer = { kind: 'asAllowed' };
const start = (to: StateName): Answer => ({ kind: 'start', to });
const takeBack = (to: StateName): Answer => ({ kind: 'takeBack', to });
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
    forget: note('UNPROTECTED'),
  },
  PROTECTED: {
    ...ELSEWHERE,
    ...NOT_FAILED_OVER,
    cycle,
    planned: start('FAILED_OVER'),
    unplanned: start('FAILED_OVER'),
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
    unplanned: start('FAILED_OVER'),
    test: session,
    abort: note('PROTECTED'),
    resume: done,
    pause: note('RESYNC'),
    unpause: note('RESYNC'),
    forget: note('UNPROTECTED'),
  },
  'FAILING_OVER, planned, before P6': {
    ...ELSEWHERE,
    cycle: refuse('E_FAILED_OVER'),
    planned: resume,
    unplanned: { kind: 'supersede', to: 'FAILED_OVER' },
    test: locked,
    undo: takeBack('PROTECTED'),
    permanent: locked,
    reprotect: locked,
    failback: locked,
    abort: takeBack('PROTECTED'),
    resume,
  },
  'FAILING_OVER, from P6 or U2 on': {
    ...ELSEWHERE,
    cycle: refuse('E_FAILED_OVER'),
    planned: resume,
    unplanned: resume,
    test: locked,
    undo: takeBack('PROTECTED'),
    permanent: locked,
    reprotect: locked,
    failback: locked,
    abort: takeBack('PROTECTED'),
    resume,
  },
  FAILED_OVER: {
    ...ELSEWHERE,
    cycle: refuse('E_FAILED_OVER'),
    planned: no,
    unplanned: { kind: 'otherPoint', to: 'FAILED_OVER' },
    test: no,
    undo: start('PROTECTED'),
    permanent: start('COMMITTED'),
    reprotect: refuse('E_UNCOMMITTED'),
    failback: start('FAILED_BACK'),
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
    reprotect: start('COMMITTED'),
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
  FAILED_BACK: {
    ...ELSEWHERE,
    cycle: no,
    planned: no,
    unplanned: no,
    test: no,
    undo: start('FAILED_OVER'),
    permanent: start('PROTECTED'),
    reprotect: no,
    failback: done,
    abort: no,
    resume: no,
  },
  SPLIT_BRAIN: {
    ...all(refuse('E_SPLIT_BRAIN')),
    resolve: start('PROTECTED'),
  },
  HALTED: {
    ...all(refuse('E_HALTED')),
    unplanned: asAllowed,
    undo: asAllowed,
    failback: asAllowed,
    abort: asAllowed,
    resume: asAllowed,
  },
};

/** Steps of a planned failover before the receiver is the active site, and of a failback before B is off. */
const BEFORE_P6: ReadonlySet<string> = new Set(['P1', 'P2', 'P3', 'P4', 'P5']);

/** The row of a protection that is in `state`. */
export function rowOf(state: StateName, { operation }: FailoverRecord): Row {
  if (state === 'FAILING_OVER') {
    const isEarly =
      (operation?.kind === 'planned' && BEFORE_P6.has(operation.step)) ||
      (operation?.kind === 'unplanned' && operation.step === 'U1');
    return isEarly ? 'FAILING_OVER, planned, before P6' : 'FAILING_OVER, from P6 or U2 on';
  }
  if (state === 'FAILING_BACK') {
    return operation?.step === 'F1' ? 'FAILING_BACK, sync' : 'FAILING_BACK, switch';
  }
  return state;
}

/** The one answer, with what a halted step allows taken into account. */
export function answerTo(row: Row, command: Command, failover: FailoverRecord): Answer {
  const answer = TABLE[row][command];
  if (answer.kind !== 'asAllowed') return answer;
  if (failover.halted?.allowed.includes(command) !== true) return refuse('E_HALTED');
  if (command === 'unplanned') return { kind: 'supersede', to: 'FAILED_OVER' };
  if (command === 'resume' || command === 'failback') return resume;
  return takeBack(failover.halted.phase === 'failing-back' ? 'FAILED_OVER' : 'PROTECTED');
}

/** Commands that are not refused in this row; for messages. */
export function validCommands(row: Row, failover: FailoverRecord): readonly Command[] {
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
