// What the record of a VM says of an operation that begins, ends or is given up: pure questions to it.

import type { Guid } from '../../shared/bytes/index.js';
import type { VmDesk } from '../ingest/vm-desk.js';
import { nameOfState } from '../wire.js';
import type { FailoverRecord, Operation } from './model.js';
import type { Standing } from './refusals.js';

/** What is told of an operation that came to its end. */
export interface OperationResult {
  readonly operationId: Guid;
  readonly pointId: Guid | undefined;
  readonly instanceName: string;
  readonly instanceVmId: Guid | undefined;
  readonly lostSeconds: number;
  readonly warnings: readonly string[];
}

/** Facts of an operation. */
export const TOUCHES_SOURCE = 'touchesSource';
export const LOST_SECONDS = 'lostSeconds';

export function standing(desk: VmDesk, isBegun: boolean): Standing {
  const { vmName, failover } = desk.vm.protection;
  return { vmName, state: nameOfState(desk, isBegun), failover };
}

/** Nothing began, ended or came up in between. */
export function isSameStanding(one: FailoverRecord, other: FailoverRecord): boolean {
  return (
    one.phase === other.phase &&
    one.operation?.operationId === other.operation?.operationId &&
    one.instance?.operationId === other.instance?.operationId
  );
}

export function isBeforeShutdown({ operation }: FailoverRecord): boolean {
  return operation?.kind === 'planned' && operation.step < 'P3';
}

/** The operation, or the one whose place it took, may have had its effect at the source. */
export function mayBeFenced(failover: FailoverRecord): boolean {
  const { operation } = failover;
  if (operation?.kind === 'planned') return !isBeforeShutdown(failover);
  return operation?.facts[TOUCHES_SOURCE] === 'yes';
}

/** What a source is owed when the operation comes to nothing. */
export function giveBackOf({ isSourceStopped }: FailoverRecord): ('unfence' | 'start')[] {
  return isSourceStopped ? ['unfence', 'start'] : ['unfence'];
}

export function resultOf(
  desk: VmDesk,
  { operationId, pointId, facts }: Operation,
): OperationResult {
  const { instance, activeSite } = desk.vm.protection.failover;
  return {
    operationId,
    pointId: instance?.pointId ?? pointId,
    // a VM that has gone home runs there
    instanceName: activeSite === 'target' ? (instance?.vmName ?? '') : '',
    instanceVmId: instance?.vmId,
    lostSeconds: Number(facts[LOST_SECONDS] ?? 0),
    warnings: [],
  };
}
