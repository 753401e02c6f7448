// The steps of each operation as data: what a plan prints, what the record's `step` means, and what may
// follow when a step was begun and nobody knows whether its effect is there. The journal has a step before
// its effect begins.

import type { OperationKind } from './model.js';

/**
 * What may follow a step that was broken off.
 *
 * - `back`: it is taken back; nothing happened
 * - `either`: it goes on, or is taken back
 * - `forward`: it goes on; what it did cannot be taken back by itself
 */
export type Recovery = 'back' | 'either' | 'forward';

export interface StepRule {
  readonly name: string;
  readonly what: string;
  readonly recovery: Recovery;
  /** The record of this step carries the next epoch. */
  readonly isEpochRaised?: true;
}

/** Operations with steps of their own; a test stands beside the state machine. */
export type SteppedKind = Exclude<OperationKind, 'resolve'> | 'test';

export const STEPS: Readonly<Record<SteppedKind, readonly StepRule[]>> = {
  planned: [
    step('P1', 'lock the VM and tell the source which epoch is proposed', 'back'),
    step('P2', 'bring over what changed, while the source runs', 'back'),
    step('P3', 'shut the guest down at the source', 'either'),
    step('P4', 'fence the source: no start, no network', 'either'),
    step('P5', 'bring over the last delta, and compare all disks', 'back'),
    {
      ...step('P6', 'this site becomes the active one, under the next epoch', 'either'),
      isEpochRaised: true,
    },
    step('P7', 'materialise the point, protective disk, network, register the VM', 'forward'),
    step('P8', 'power on, and check heartbeat, address and services', 'forward'),
    step('P9', 'the VM serves here; the commit timer runs', 'forward'),
  ],
  unplanned: [
    step('U1', 'choose the point, and ask whether the source is alive', 'back'),
    {
      ...step('U2', 'this site becomes the active one, under the next epoch', 'either'),
      isEpochRaised: true,
    },
    step('U3', 'set the unfinished cycle aside', 'either'),
    step('U4', 'materialise the point, and put a protective disk over it', 'either'),
    step('U5', 'network, addresses, register the VM', 'either'),
    step('U6', 'power on, and check heartbeat, address and services', 'forward'),
    step('U7', 'the VM serves here; the commit timer runs', 'forward'),
  ],
  test: [
    step('T1', 'hold the point', 'back'),
    step('T2', 'a new VM on a protective disk over the point', 'back'),
    step('T3', 'connect it to the test network, or to none', 'back'),
    step('T4', 'power on', 'back'),
    step('T5', 'checks', 'back'),
    step('T6', 'report', 'back'),
    step('T7', 'power off, remove the VM and its disks, stamp the point', 'forward'),
  ],
  undo: [
    step('N1', 'put down what is to be done', 'either'),
    step('N2', 'power the VM off here', 'forward'),
    step('N3', 'remove the VM and its protective disk, or export the disk', 'forward'),
    {
      ...step('N4', 'the source becomes the active site, under the next epoch', 'forward'),
      isEpochRaised: true,
    },
    step('N5', 'lift the fence of the source; start it if we had stopped it', 'forward'),
    step('N6', 'protected; the next cycle is a delta', 'forward'),
  ],
  permanent: [
    step('C1', 'see whether the VM is healthy here', 'back'),
    step('C2', 'the disk chain belongs to the VM from here on; no data moves', 'forward'),
    step('C3', 'tell the source that its protection is retired', 'forward'),
    step('C4', 'points and the fence of the source stay as they are', 'forward'),
  ],
  failback: [
    step('F1', 'bring the primary level, while the VM serves here', 'either'),
    step('F2', 'shut the VM down here, bring over the last delta, compare all disks', 'either'),
    {
      ...step('F3', 'the primary becomes the active site, under the next epoch', 'either'),
      isEpochRaised: true,
    },
    step('F4', 'start the VM at the primary, with its own network', 'either'),
    step('F5', 'the VM serves at the primary; the commit timer runs', 'either'),
  ],
  'failback-commit': [
    step('F6', 'see whether the VM is healthy at the primary', 'back'),
    step('F7', 'what was written here becomes a point', 'either'),
    step('F8', 'the ledger of the source goes on from that point', 'forward'),
    step('F9', 'remove the VM here and its protective disk', 'forward'),
    step('F10', 'protected; the next cycle is a delta', 'forward'),
  ],
  'failback-undo': [
    step('B1', 'power the VM off at the primary, fence it, drop its protective disk', 'forward'),
    {
      ...step('B2', 'this site becomes the active one again, under the next epoch', 'forward'),
      isEpochRaised: true,
    },
    step('B3', 'start the VM here, and check it', 'forward'),
    step('B4', 'the VM serves here again', 'forward'),
  ],
};

function step(name: string, what: string, recovery: Recovery): StepRule {
  return { name, what, recovery };
}

/** The rule of a step of the journal; undefined: it is none of this operation. */
export function stepRule(kind: SteppedKind, name: string): StepRule | undefined {
  return STEPS[kind].find((rule) => rule.name === name);
}
