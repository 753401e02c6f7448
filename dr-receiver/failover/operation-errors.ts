// What a caller is told when an operation cannot begin, was ended by somebody, or stands at a step.

import { DrError } from '../../shared/errors.js';
import type { VmDesk } from '../ingest/vm-desk.js';
import { operationWords } from './refusals.js';

export function changedMeanwhile({ vm }: VmDesk): DrError {
  const { vmName, failover } = vm.protection;
  const words = failover.operation === undefined ? '' : `: ${operationWords(failover.operation)}`;
  return new DrError('E_LOCKED', `something else began with ${vmName} meanwhile${words}`);
}

export function stopped({ vm }: VmDesk, why: string): DrError {
  return new DrError('E_LOCKED', `the operation of ${vm.protection.vmName} ended: ${why}`);
}

export function stays({ vm }: VmDesk, step: string, cause: unknown): unknown {
  if (!(cause instanceof DrError)) return cause;
  const { vmName } = vm.protection;
  return new DrError(cause.code, cause.message, {
    context: { ...cause.context, step },
    done: `${vmName} stands at step ${step}`,
    hint: `${cause.hint} Then \`hvdr resume ${vmName}\`, or \`hvdr abort ${vmName}\`.`,
    cause,
  });
}

export function halted({ vm }: VmDesk, step: string, cause: unknown): DrError {
  const { vmName } = vm.protection;
  const why = cause instanceof Error ? cause.message : String(cause);
  return new DrError('E_HALTED', `${vmName} is halted at step ${step}: ${why}`, {
    context: { step },
    done: 'it is safe neither to go on nor to go back',
    hint: `Mend the cause, then \`hvdr resume ${vmName}\`.`,
    cause,
  });
}
