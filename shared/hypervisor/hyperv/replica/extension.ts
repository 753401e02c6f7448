// A VM whose replica is sent on to a third host has two relations at the host in between. Orders are about the first one;
// most cmdlets are told which one is meant (replica.ps1). What may reach the second all the same is refused here.

import { DrError } from '../../../errors.js';
import type { ReplicaOrder, ReplicaView } from '../../replica.js';
import type { Act, Step } from './act.js';
import type { StateName } from './states.js';

/** Cmdlets of a failover are given the VM, and cannot be told which of its relations is meant. */
const OF_WHOLE_VM: readonly Act['do'][] = [
  'prepare',
  'failover',
  'test',
  'stop-failover',
  'complete',
];
const FAILING_OVER: readonly StateName[] = [
  'PreparedForFailover',
  'FailedOverWaitingCompletion',
  'FailedOver',
];

/** Why an order is not given: it might reach the second relation instead of the first. */
export function crossed(
  view: ReplicaView,
  steps: readonly Step[],
  { verb }: ReplicaOrder,
): DrError | undefined {
  const { vmName, relation, extension } = view;
  if (extension === undefined) return undefined;
  const { state, replicaServer } = extension;
  if (relation === undefined && (verb === 'enable' || verb === 'accept')) {
    return new DrError(
      'E_STATE',
      `${vmName} is replicated from here to ${replicaServer} as an extended replica`,
      {
        context: { state },
        hint: 'End that first: in Hyper-V Manager, or by Remove-VMReplication -ReplicationRelationshipType Extended.',
      },
    );
  }
  const isOpen = FAILING_OVER.some((each) => each === state) || extension.phase === 'HALTED';
  if (!isOpen || !steps.some(({ act }) => OF_WHOLE_VM.includes(act.do))) return undefined;
  return new DrError(
    'E_STATE',
    `the extended replica of ${vmName} at ${replicaServer} is ${state}, and ${verb} might reach it instead`,
    {
      context: { state },
      hint: `Go on with that one first, in Hyper-V Manager or at ${replicaServer}.`,
    },
  );
}
