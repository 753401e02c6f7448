// The kinds of operations as data: the phase of the record while one is under way, its first step, and the
// table of its steps.

import { DrError } from '../../shared/errors.js';
import type { Command, FailoverRecord, Operation, OperationKind, Phase } from './model.js';
import { FAILBACK, FAILBACK_SYNC, isSyncOnly } from './operations/failback.js';
import { FAILBACK_COMMIT } from './operations/failback-commit.js';
import { FAILBACK_UNDO } from './operations/failback-undo.js';
import { PERMANENT } from './operations/permanent.js';
import { PLANNED } from './operations/planned.js';
import { UNDO } from './operations/undo.js';
import { OTHER_POINT, UNPLANNED } from './operations/unplanned.js';
import type { WorkTable } from './operations/work.js';
import { isFailback, REPLACES } from './way-back.js';

/** What a receiver works at; a `resolve` is decided at once. */
export type WorkedKind = Exclude<OperationKind, 'resolve'>;

interface KindRule {
  /** undefined: that of before. */
  readonly phase: Phase | undefined;
  readonly firstStep: string;
  readonly table: (operation: Operation) => WorkTable;
}

const KINDS: Readonly<Record<WorkedKind, KindRule>> = {
  planned: { phase: 'failing-over', firstStep: 'P1', table: () => PLANNED },
  unplanned: {
    phase: 'failing-over',
    firstStep: 'U1',
    table: ({ facts }) => (facts[REPLACES] === 'yes' ? OTHER_POINT : UNPLANNED),
  },
  undo: { phase: 'undoing', firstStep: 'N1', table: () => UNDO },
  permanent: { phase: undefined, firstStep: 'C1', table: () => PERMANENT },
  failback: {
    phase: 'failing-back',
    firstStep: 'F1',
    table: (operation) => (isSyncOnly(operation) ? FAILBACK_SYNC : FAILBACK),
  },
  'failback-commit': { phase: undefined, firstStep: 'F6', table: () => FAILBACK_COMMIT },
  'failback-undo': { phase: 'failing-back', firstStep: 'B1', table: () => FAILBACK_UNDO },
};

export function isWorked(kind: OperationKind): kind is WorkedKind {
  return kind in KINDS;
}

export function phaseOf(kind: WorkedKind): Phase | undefined {
  return KINDS[kind].phase;
}

export function firstStepOf(kind: WorkedKind): string {
  return KINDS[kind].firstStep;
}

/** @throws DrError E_STATE for an operation that has no steps */
export function tableOf(operation: Operation): WorkTable {
  const { kind } = operation;
  if (isWorked(kind)) return KINDS[kind].table(operation);
  throw new DrError('E_STATE', `${kind} cannot be run by this receiver`);
}

/** `undo` and `permanent` are of whichever provisional state is open. @throws DrError E_STATE */
export function kindOf(command: Command, failover: FailoverRecord): WorkedKind {
  if (command === 'planned' || command === 'unplanned' || command === 'failback') return command;
  if (command === 'undo') return isFailback(failover) ? 'failback-undo' : command;
  if (command === 'permanent') return isFailback(failover) ? 'failback-commit' : command;
  throw new DrError('E_STATE', `${command} cannot be run by this receiver`);
}

/** What makes a provisional state final, and leaves it as it was when it cannot. */
export function isCommitting(kind: OperationKind): boolean {
  return kind === 'permanent' || kind === 'failback-commit';
}
