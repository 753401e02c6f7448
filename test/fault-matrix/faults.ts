// What can go wrong, and where: a fault comes at one durable call of one machine.

import type { DurableKind } from '../simulation/disks.js';

export const FAULTS = [
  'power loss',
  'SIGKILL',
  'disk full',
  'fsync error',
  'bit rot',
  'network cut',
] as const;
export type FaultKind = (typeof FAULTS)[number];

/** `source: flush of ledger, new file` */
export interface Step {
  readonly side: 'source' | 'receiver';
  readonly kind: DurableKind;
  readonly role: string;
}

export interface Injection {
  readonly side: Step['side'];
  /** The call of this machine, from 1. */
  readonly call: number;
  readonly fault: FaultKind;
}

export function isPossible(fault: FaultKind, { kind }: Step): boolean {
  switch (fault) {
    case 'power loss':
    case 'SIGKILL':
    case 'network cut':
      return true;
    case 'disk full':
      return kind === 'write' || kind === 'create';
    case 'fsync error':
      return kind === 'flush' || kind === 'flushFolder';
    case 'bit rot':
      return kind === 'flush';
  }
}

export function stepName({ side, kind, role }: Step): string {
  return `${side}: ${kind} of ${role}`;
}
