// Recovery checkpoints and reference points (hyperv.md § 1). Checkpoints of users are not listed.

import type { Guid } from '../../../bytes/index.js';
import type { Fields } from '../../fields.js';
import type { Operation } from '../powershell/operation.js';
import { CHANGE_MS, LOOK_MS, methodAnswer, type MethodAnswer } from './answers.js';

export interface CheckpointFacts {
  /** InstanceID of its setting data. */
  readonly id: string;
  /** ElementName. */
  readonly name: string;
  /** ISO 8601, UTC. */
  readonly createdAt: string;
  /** As obtained; 'unknown' where the host does not say. */
  readonly consistency: 'application' | 'crash' | 'unknown';
  readonly disks: readonly {
    /** InstanceID of the storage setting. */
    readonly instanceId: string;
    /** The frozen file: a parent of the one that the guest writes to. */
    readonly path: string;
  }[];
}

export interface ReferencePointFacts {
  readonly id: string;
  readonly consistency: 'application' | 'crash' | 'unknown';
  /** Same order as the host keeps them. */
  readonly disks: readonly {
    /** InstanceID of the VM's storage setting. */
    readonly instanceId: string;
    /** '' for a disk without tracking. */
    readonly trackingId: string;
  }[];
}

const CONSISTENCIES = ['application', 'crash', 'unknown'] as const;

export interface NewCheckpoint {
  readonly [name: string]: string;
  readonly vmId: Guid;
  readonly consistency: 'application' | 'crash';
}

export interface CheckpointAnswer extends MethodAnswer {
  /** Known at once, or by checkpointOfJob when the job has ended. */
  readonly checkpointId: string | undefined;
}

export const createCheckpoint: Operation<NewCheckpoint, CheckpointAnswer> = {
  name: 'checkpoint.create',
  timeoutMs: CHANGE_MS,
  read: checkpointAnswer,
};

/** By Msvm_AffectedJobElement. */
export const checkpointOfJob: Operation<
  { readonly jobId: string },
  { readonly checkpointId: string | undefined }
> = {
  name: 'checkpoint.ofJob',
  timeoutMs: LOOK_MS,
  read: (fields) => ({ checkpointId: fields.optionalString('checkpointId') }),
};

export const renameCheckpoint: Operation<
  { readonly checkpointId: string; readonly name: string },
  MethodAnswer
> = { name: 'checkpoint.rename', timeoutMs: CHANGE_MS, read: methodAnswer };

export const listCheckpoints: Operation<{ readonly vmId: Guid }, readonly CheckpointFacts[]> = {
  name: 'checkpoint.list',
  timeoutMs: LOOK_MS,
  read: (fields) =>
    fields.list('checkpoints', (item) => ({
      id: item.string('id', 1024),
      name: item.string('name', 1024),
      createdAt: item.string('createdAt', 40),
      consistency: item.oneOf('consistency', CONSISTENCIES),
      disks: item.list('disks', (disk) => ({
        instanceId: disk.string('instanceId', 1024),
        path: disk.string('path', 32_768),
      })),
    })),
};

export const destroyCheckpoint: Operation<{ readonly checkpointId: string }, MethodAnswer> = {
  name: 'checkpoint.destroy',
  timeoutMs: CHANGE_MS,
  read: methodAnswer,
};

export interface ConversionAnswer extends MethodAnswer {
  readonly referencePointId: string | undefined;
}

/** Deletes the checkpoint, begins the merge. */
export const convertCheckpoint: Operation<{ readonly checkpointId: string }, ConversionAnswer> = {
  name: 'checkpoint.convert',
  timeoutMs: CHANGE_MS,
  read: (fields) => ({
    ...methodAnswer(fields),
    referencePointId: fields.optionalString('referencePointId'),
  }),
};

export const referencePointOfJob: Operation<
  { readonly jobId: string },
  { readonly referencePointId: string | undefined }
> = {
  name: 'referencePoint.ofJob',
  timeoutMs: LOOK_MS,
  read: (fields) => ({ referencePointId: fields.optionalString('referencePointId') }),
};

export const listReferencePoints: Operation<
  { readonly vmId: Guid },
  readonly ReferencePointFacts[]
> = {
  name: 'referencePoint.list',
  timeoutMs: LOOK_MS,
  read: (fields) =>
    fields.list('referencePoints', (item) => ({
      id: item.string('id', 1024),
      consistency: item.oneOf('consistency', CONSISTENCIES),
      disks: item.list('disks', (disk) => ({
        instanceId: disk.string('instanceId', 1024),
        trackingId: disk.string('trackingId', 256),
      })),
    })),
};

export const destroyReferencePoint: Operation<{ readonly referencePointId: string }, MethodAnswer> =
  { name: 'referencePoint.destroy', timeoutMs: CHANGE_MS, read: methodAnswer };

function checkpointAnswer(fields: Fields): CheckpointAnswer {
  return { ...methodAnswer(fields), checkpointId: fields.optionalString('checkpointId') };
}
