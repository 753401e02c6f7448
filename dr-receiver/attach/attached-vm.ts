// What an agent of the primary site says of its VMs and answers to orders, checked and converted at the
// edge: it is data of another site.

import { type Guid, guidFromWire } from '../../shared/bytes/index.js';
import {
  type AttachedVm as WireVm,
  type AttachedVms as WireVms,
  type OrderFailed,
  printable,
} from '../../shared/channel/index.js';
import { DrError, isErrorCode } from '../../shared/errors.js';
import type { Heartbeat, PowerState } from '../../shared/hypervisor/index.js';
import type { RemoteAction, SourceVm } from '../failover/ports.js';

/** One VM as its agent tells it. */
export interface AttachedVm extends SourceVm {
  readonly vmId: Guid;
  /** For people. */
  readonly vmName: string;
}

const VMS_MAX = 4096;
const NAME_MAX = 256;
const TEXT_MAX = 2048;

const POWER_STATES: readonly PowerState[] = [
  'off',
  'starting',
  'running',
  'stopping',
  'paused',
  'unknown',
];
const HEARTBEATS: readonly Heartbeat[] = ['ok', 'absent'];
const ACTIONS: readonly RemoteAction[] = ['shutdown', 'start', 'failback'];

/** @throws DrError E_PROTOCOL, E_LIMIT */
export function attachedVms({ vms }: WireVms): ReadonlyMap<Guid, AttachedVm> {
  if (vms.length > VMS_MAX) {
    throw new DrError('E_LIMIT', `an agent brings ${vms.length} VMs, at most ${VMS_MAX} fit`, {
      context: { limit: VMS_MAX },
    });
  }
  return new Map(vms.map(attachedVm).map((vm) => [vm.vmId, vm]));
}

/** @throws DrError E_PROTOCOL */
export function attachedVm(vm: WireVm): AttachedVm {
  const vmId = guidFromWire(vm.vmId);
  const powerState = POWER_STATES.find((state) => state === vm.powerState);
  if (vmId === undefined) throw illegal(`a VM is named by ${vm.vmId.length} bytes`);
  if (powerState === undefined) throw illegal('a VM has a power state that is none');
  return {
    vmId,
    vmName: printable(vm.vmName.slice(0, NAME_MAX)),
    powerState,
    heartbeat: HEARTBEATS.find((each) => each === vm.heartbeat),
    isFenced: vm.isFenced,
    epoch: vm.epoch,
    // what a newer agent allows besides is not asked for here
    allowed: ACTIONS.filter((action) => vm.remoteActions.includes(action)),
  };
}

/** Why an order was not done, in the words of the agent. */
export function orderError({ code, message, done, hint }: OrderFailed): DrError {
  const words = (text: string): string => printable(text.slice(0, TEXT_MAX));
  const options = { done: words(done), ...(hint === '' ? {} : { hint: words(hint) }) };
  return isErrorCode(code)
    ? new DrError(code, words(message), options)
    : new DrError('E_PROTOCOL', `${words(code)}: ${words(message)}`, options);
}

export function illegal(what: string): DrError {
  return new DrError('E_PROTOCOL', `an attached agent is not legal: ${what}`, {
    done: 'its connection was ended',
  });
}
