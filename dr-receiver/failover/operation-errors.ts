// What a caller is told when an operation cannot begin, was ended by somebody, or stands at a step.

import { DrError } from '../../shared/errors.js';
import type { VmDesk } from '../ingest/vm-desk.js';
import { answerTo, rowOf, validCommands } from './machine.js';
import { operationWords } from './refusals.js';
import { standing } from './standing.js';

export function changedMeanwhile({ vm }: VmDesk): DrError {
  const { vmName, failover } = vm.protection;
  const words = failover.operation === undefined ? '' : `: ${operationWords(failover.operation)}`;
  return new DrError('E_LOCKED', `something else began with ${vmName} meanwhile${words}`);
}

export function stopped({ vm }: VmDesk, why: string): DrError {
  return new DrError('E_LOCKED', `the operation of ${vm.protection.vmName} ended: ${why}`);
}

export function stays(desk: VmDesk, step: string, cause: unknown): unknown {
  if (!(cause instanceof DrError)) return cause;
  const { vmName, state, failover } = standing(desk, false);
  const isEither = answerTo(rowOf(state, failover), 'abort', failover).kind === 'takeBack';
  return new DrError(cause.code, cause.message, {
    context: { ...cause.context, step },
    done: `${vmName} stands at step ${step}`,
    hint: `${cause.hint} Then \`hvdr resume ${vmName}\`${isEither ? `, or \`hvdr abort ${vmName}\`` : ''}.`,
    cause,
  });
}

export function halted({ vm }: VmDesk, step: string, cause: unknown): DrError {
  const { vmName, failover } = vm.protection;
  const why = cause instanceof Error ? cause.message : String(cause);
  const allowed = validCommands('HALTED', failover);
  return new DrError('E_HALTED', `${vmName} is halted at step ${step}: ${why}`, {
    context: { step, valid: allowed.join(' ') },
    done: 'it is safe neither to go on nor to go back',
    hint: `Mend the cause, then \`hvdr resume ${vmName}\`. Valid now are: ${allowed.join(', ')}.`,
    cause,
  });
}

export function rolledBack({ vm }: VmDesk, wrong: DrError): DrError {
  const { vmName } = vm.protection;
  return new DrError(wrong.code, `${vmName} came up, but not all checks passed`, {
    context: wrong.context,
    done: 'it was taken back, as commit_policy=rollback says',
    hint: `\`hvdr failover test ${vmName}\` tries it again beside production.`,
    cause: wrong,
  });
}
