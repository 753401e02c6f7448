// Operations about Hyper-V Replica (hyperv.md § 4). Each is one cmdlet on the VM of this host; which one is
// right in which state is decided in ../replica/.

import type { Guid } from '../../../bytes/index.js';
import type { Fields } from '../../fields.js';
import type { Operation } from '../powershell/operation.js';
import { CHANGE_MS, done } from './answers.js';

interface OfVm {
  readonly vmId: Guid;
  readonly [name: string]: string | number | boolean | null | readonly string[];
}

/** What ships or applies data before it answers: the last log of a planned failover, recovery points. */
const LONG_MS = 3_600_000;

export interface RelationAnswer {
  readonly state: string;
  readonly health: string;
  readonly mode: string;
  readonly relationship: string;
  readonly primaryServer: string;
  readonly replicaServer: string;
  readonly intervalSeconds: number;
  readonly lastReplicationAt: string | undefined;
  readonly lastReplicationType: string;
  readonly pendingBytes: bigint;
  readonly errors: number;
  readonly missed: number;
  readonly healthDetails: readonly string[];
  readonly testVmId: Guid | undefined;
}

export const replicaGet: Operation<OfVm, { readonly relations: readonly RelationAnswer[] }> = {
  name: 'replica.get',
  timeoutMs: CHANGE_MS,
  read: (fields) => ({ relations: fields.list('relations', readRelation) }),
};

function readRelation(fields: Fields): RelationAnswer {
  return {
    state: fields.string('state'),
    health: fields.string('health'),
    mode: fields.string('mode'),
    relationship: fields.string('relationship'),
    primaryServer: fields.optionalString('primaryServer') ?? '',
    replicaServer: fields.optionalString('replicaServer') ?? '',
    intervalSeconds: fields.whole('intervalSeconds'),
    lastReplicationAt: fields.optionalString('lastReplicationAt'),
    lastReplicationType: fields.string('lastReplicationType'),
    pendingBytes: fields.counter('pendingBytes'),
    errors: fields.whole('errors'),
    missed: fields.whole('missed'),
    healthDetails: fields.strings('healthDetails'),
    testVmId: fields.optionalString('testVmId') === undefined ? undefined : fields.guid('testVmId'),
  };
}

export interface PointAnswer {
  readonly id: Guid;
  readonly name: string;
  readonly createdAt: string;
  readonly type: string;
}

export const replicaPoints: Operation<OfVm, { readonly points: readonly PointAnswer[] }> = {
  name: 'replica.points',
  timeoutMs: CHANGE_MS,
  read: (fields) => ({
    points: fields.list('points', (point) => ({
      id: point.guid('id'),
      name: point.string('name'),
      createdAt: point.string('createdAt'),
      type: point.string('type'),
    })),
  }),
};

interface EnableArguments extends OfVm {
  readonly replicaServer: string;
  readonly port: number;
  readonly authentication: string;
  /** '' for Kerberos. */
  readonly certificateThumbprint: string;
  readonly intervalSeconds: number;
  readonly recoveryPoints: number;
  readonly vssHours: number;
  readonly excludedDiskPaths: readonly string[];
}

/** An order about one of the relations of a VM. */
interface OfRelation extends OfVm {
  readonly relationship: 'Simple' | 'Extended';
}

/** Asks the other host for a connection first, which names what is wrong better than the enabling does. */
export const replicaEnable = act<EnableArguments>('replica.enable');
export const replicaAccept = act<OfVm>('replica.accept');
/** `folder` '' and `usesBackup` false: over the network. */
export const replicaStartInitial = act<
  OfRelation & { readonly folder: string; readonly usesBackup: boolean }
>('replica.startInitial', LONG_MS);
export const replicaStopInitial = act<OfRelation>('replica.stopInitial');
export const replicaImportInitial = act<OfRelation & { readonly folder: string }>(
  'replica.importInitial',
  LONG_MS,
);
/** At the primary: sends what is left. */
export const replicaPrepare = act<OfVm>('replica.prepare', LONG_MS);
/** `pointId` '': the newest. */
export const replicaFailover = act<OfVm & { readonly pointId: Guid | '' }>(
  'replica.failover',
  LONG_MS,
);
export const replicaTest = act<OfVm & { readonly pointId: Guid | '' }>('replica.test', LONG_MS);
/** Ends what is open: a prepared failover, a failover, or a test. */
export const replicaStopFailover = act<OfVm>('replica.stopFailover', LONG_MS);
export const replicaComplete = act<OfVm>('replica.complete', LONG_MS);
export const replicaReverse = act<OfRelation>('replica.reverse', LONG_MS);
export const replicaSuspend = act<OfRelation>('replica.suspend');
export const replicaResume = act<OfRelation & { readonly resynchronizes: boolean }>(
  'replica.resume',
);
export const replicaRemove = act<OfRelation>('replica.remove');

/** What it has led to is read from the state; the answer says that the cmdlet has returned. */
function act<A extends OfVm>(name: string, timeoutMs = CHANGE_MS): Operation<A, void> {
  return { name, timeoutMs, read: done };
}
