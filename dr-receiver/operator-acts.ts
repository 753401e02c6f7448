// What an operator does to a protection as a whole: gives it to another principal, or accepts that the
// store is older than its source. Both stand in the journal with principal and key.

import {
  type Caller,
  isPrincipal,
  type RebindRequest,
  type RebindResponse,
  type UnhaltRequest,
  type UnhaltResponse,
} from '../shared/channel/index.js';
import { DrError } from '../shared/errors.js';
import { actorOf } from './actor.js';
import { findVm } from './find-vm.js';
import type { Receiver } from './receiver.js';

/** @throws DrError E_USAGE, E_NOT_PROTECTED, E_HALTED */
export async function rebind(
  receiver: Receiver,
  { vm: name, owner }: RebindRequest,
  caller: Caller,
): Promise<RebindResponse> {
  if (!isPrincipal(owner)) {
    throw new DrError('E_USAGE', 'the new owner is not the name of a principal', {
      hint: 'Name the principal of its key, as `hvdr psk show` prints it.',
    });
  }
  const desk = await findVm(receiver, name);
  const formerOwner = desk.vm.protection.owner;
  await desk.vm.change(() => desk.rebind(owner, actorOf(caller)));
  return { formerOwner };
}

/** @throws DrError E_STATE (not halted), E_USAGE (no epoch, or one that is over), E_HALTED (damage) */
export async function unhalt(
  receiver: Receiver,
  { vm: name, epoch: named }: UnhaltRequest,
  caller: Caller,
): Promise<UnhaltResponse> {
  const { vm } = await findVm(receiver, name);
  return vm.change(async () => {
    const { protection } = vm;
    const { haltReason, epoch: ours, vmName } = protection;
    // a damaged journal is nothing that can be accepted
    if (haltReason === undefined) vm.requireSound();
    const epoch = named ?? protection.haltEpoch;
    if (haltReason === undefined && (epoch === undefined || epoch === ours)) {
      throw new DrError('E_STATE', `${vmName} is not halted`, {
        hint: 'When its source refuses because the store is older, name its epoch: --epoch N.',
      });
    }
    if (epoch === undefined || epoch < ours) {
      const what = epoch === undefined ? 'is not known' : `${epoch} is over`;
      throw new DrError('E_USAGE', `the epoch to go on with ${what}; here is ${ours}`, {
        hint: 'Name the epoch of the source: --epoch N.',
      });
    }
    const atMs = receiver.seams.clock.now();
    await vm.append({ kind: 'unhalt', atMs, epoch: epoch.toString(), ...actorOf(caller) });
    return { epoch, formerEpoch: ours, reason: haltReason ?? '' };
  });
}
