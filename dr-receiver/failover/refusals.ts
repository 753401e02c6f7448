// What a command that is not possible now is told: the code of the table, what is under way, and which
// commands are possible instead.

import { DrError, type ErrorCode, type ErrorContext } from '../../shared/errors.js';
import { type Answer, answerTo, type Row, rowOf, validCommands } from './machine.js';
import type { Command, FailoverRecord, Operation, StateName } from './model.js';

/** A VM as the state machine sees it. */
export interface Standing {
  readonly vmName: string;
  readonly state: StateName;
  readonly failover: FailoverRecord;
}

export type Permitted = Exclude<Answer, { readonly kind: 'refuse' | 'asHalted' }>;

/** `planned failover 0000…-01, step P3, since 2026-01-01T00:00:00.000Z, by ops` */
export function operationWords({ operationId, kind, step, startedAtMs, by }: Operation): string {
  return `${kind} ${operationId}, step ${step}, since ${new Date(startedAtMs).toISOString()}, by ${by}`;
}

/**
 * The answer of the table to a command.
 * @throws DrError with the table's code when it is a refusal
 */
export function requireAnswer(standing: Standing, command: Command): Permitted {
  const { state, failover } = standing;
  const row = rowOf(state, failover);
  const answer = answerTo(row, command, failover);
  if (answer.kind === 'refuse') throw refusal(standing, command, answer.code);
  if (answer.kind === 'asHalted') throw refusal(standing, command, 'E_HALTED');
  return answer;
}

/** The error of a command that the table refuses. */
export function refusal(
  { vmName, state, failover }: Standing,
  command: Command,
  code: ErrorCode,
): DrError {
  const row = rowOf(state, failover);
  const valid = validCommands(row, failover).filter((each) => each !== 'cycle');
  return new DrError(code, `${vmName} is ${state}: ${because(row, command, failover)}`, {
    context: { state, command, valid: valid.join(' '), ...operationContext(failover) },
    ...(hasOwnRemedy(code)
      ? {
          hint:
            valid.length === 0 ? 'No command is valid now.' : `Valid now are: ${valid.join(', ')}.`,
        }
      : {}),
  });
}

/** Codes of which the catalogue's remedy says less than the list of valid commands. */
function hasOwnRemedy(code: ErrorCode): boolean {
  return ['E_STATE', 'E_LOCKED', 'E_SPLIT_BRAIN', 'E_HALTED'].includes(code);
}

function because(row: Row, command: Command, { operation, halted }: FailoverRecord): string {
  if (row === 'HALTED' && halted !== undefined) {
    return `step ${halted.step} could neither go on nor back: ${halted.cause}`;
  }
  if (operation !== undefined) return `${operationWords(operation)} is under way`;
  return `"${command}" is not possible now`;
}

function operationContext({ operation }: FailoverRecord): ErrorContext {
  if (operation === undefined) return {};
  const { operationId, step, by, startedAtMs } = operation;
  return { operationId, step, by, since: new Date(startedAtMs).toISOString() };
}
