// Disk files by way of vmms: the second provider of changed ranges, and of what a file is, where this process
// may not open it (hyperv.md § 1.4).

import type { Guid } from '../../../bytes/index.js';
import type { Operation } from '../powershell/operation.js';
import { bytesOf, CHANGE_MS, LOOK_MS, methodAnswer, type MethodAnswer } from './answers.js';

export interface DiskFileFacts {
  readonly diskId: Guid;
  readonly sizeBytes: number;
  readonly logicalSectorBytes: number;
  readonly physicalSectorBytes: number;
  /** `VHD`, `VHDX`, `VHDSet`. */
  readonly format: string;
  readonly parentPath: string | undefined;
}

export const getDiskFile: Operation<{ readonly path: string }, DiskFileFacts> = {
  name: 'disk.get',
  timeoutMs: LOOK_MS,
  read: (fields) => ({
    diskId: fields.guid('diskId'),
    sizeBytes: bytesOf(fields, 'sizeBytes'),
    logicalSectorBytes: fields.oneOf('logicalSectorBytes', [512, 4096]),
    physicalSectorBytes: fields.oneOf('physicalSectorBytes', [512, 4096]),
    format: fields.string('format', 16),
    parentPath: fields.optionalString('parentPath'),
  }),
};

export interface ChangesWish {
  readonly [name: string]: string;
  readonly path: string;
  readonly trackingId: string;
  /** Decimal texts. */
  readonly offsetBytes: string;
  readonly lengthBytes: string;
}

export interface ChangesAnswer extends MethodAnswer {
  readonly processedBytes: number;
  readonly ranges: readonly { readonly offsetBytes: number; readonly lengthBytes: number }[];
}

/** Msvm_ImageManagementService.GetVirtualDiskChanges, one window of the disk at a time. */
export const getDiskChanges: Operation<ChangesWish, ChangesAnswer> = {
  name: 'disk.changes',
  timeoutMs: CHANGE_MS,
  read: (fields) => ({
    ...methodAnswer(fields),
    processedBytes: bytesOf(fields, 'processedBytes'),
    ranges: fields.list('ranges', (range) => ({
      offsetBytes: bytesOf(range, 'offsetBytes'),
      lengthBytes: bytesOf(range, 'lengthBytes'),
    })),
  }),
};
