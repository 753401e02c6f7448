// Operations on checkpoints as a user makes them, for the acceptance of a host; replication never uses them.

import type { Guid } from '../../../bytes/index.js';
import type { Operation } from '../powershell/operation.js';
import { done } from './answers.js';

interface OfVm {
  readonly vmId: Guid;
  readonly [name: string]: string;
}

interface OfCheckpoint extends OfVm {
  readonly checkpointId: Guid;
}

const MS = 600_000;

export const userCheckpointAdd: Operation<OfVm, { readonly checkpointId: Guid }> = {
  name: 'acceptance.addCheckpoint',
  timeoutMs: MS,
  read: (fields) => ({ checkpointId: fields.guid('checkpointId') }),
};

export const userCheckpointList: Operation<OfVm, { readonly checkpointIds: readonly string[] }> = {
  name: 'acceptance.listCheckpoints',
  timeoutMs: MS,
  read: (fields) => ({ checkpointIds: fields.strings('checkpointIds') }),
};

export const userCheckpointApply: Operation<OfCheckpoint, void> = {
  name: 'acceptance.applyCheckpoint',
  timeoutMs: MS,
  read: done,
};

export const userCheckpointRemove: Operation<OfCheckpoint, void> = {
  name: 'acceptance.removeCheckpoint',
  timeoutMs: MS,
  read: done,
};
