// `.meta/rct-state.json`: which point a job brought of a VM. It is the last file that the job sends of
// the VM, so its presence says that all others were sent.

import type { Guid } from '../bytes/index.js';
import { MAX_DISK_BYTES, MAX_DISKS } from '../delta/index.js';
import { SEQ_MAX } from './names.js';
import { encodeRecord, RecordFields } from './json-record.js';

export interface RctDisk {
  readonly diskId: Guid;
  readonly generation: number;
  readonly sizeBytes: number;
  readonly sectors: { readonly logicalBytes: number; readonly physicalBytes: number };
  /** Whole disk, or what changed since the parent point. */
  readonly kind: 'base' | 'delta';
  /** Paths below the namespace. */
  readonly file: string;
  readonly manifest: string;
  /** Root of the manifest: 64 hexadecimal digits. */
  readonly root: string;
}

export interface RctState {
  readonly vmId: Guid;
  readonly vmName: string;
  readonly pointId: Guid;
  /** undefined: no disk of the point needs an earlier one. */
  readonly parentPointId: Guid | undefined;
  /** Unique name of the job. */
  readonly job: string;
  readonly level: 'full' | 'incremental' | 'differential';
  readonly consistency: 'application' | 'crash';
  /** When the disks were frozen, by the source's clock, milliseconds since 1970. */
  readonly consistentAtMs: number;
  /** Grows strictly along the chain. */
  readonly seq: number;
  readonly disks: readonly RctDisk[];
}

export function encodeRctState(state: RctState): Buffer {
  const { consistentAtMs, parentPointId, ...rest } = state;
  return encodeRecord({
    ...rest,
    parentPointId: parentPointId ?? null,
    consistentAt: new Date(consistentAtMs).toISOString(),
  });
}

/** `name` is for messages. @throws DrError E_FILE_DAMAGED, E_FILE_VERSION */
export function parseRctState(bytes: Uint8Array, name: string): RctState {
  const fields = RecordFields.parse(bytes, name);
  const consistentAtMs = Date.parse(fields.text('consistentAt', 40));
  if (!Number.isSafeInteger(consistentAtMs) || consistentAtMs < 0) throw fields.bad('consistentAt');
  const state: RctState = {
    vmId: fields.guid('vmId'),
    vmName: fields.text('vmName', 1024),
    pointId: fields.guid('pointId'),
    parentPointId: fields.guidOrNone('parentPointId'),
    job: fields.text('job', 256),
    level: fields.choice('level', ['full', 'incremental', 'differential']),
    consistency: fields.choice('consistency', ['application', 'crash']),
    consistentAtMs,
    seq: fields.whole('seq', SEQ_MAX),
    disks: fields.objects('disks', MAX_DISKS, parseDisk),
  };
  const ids = new Set(state.disks.map(({ diskId }) => diskId));
  if (ids.size !== state.disks.length) throw fields.bad('disks');
  const needsParent = state.disks.some(({ kind }) => kind === 'delta');
  if (needsParent && state.parentPointId === undefined) throw fields.bad('parentPointId');
  return state;
}

function parseDisk(disk: RecordFields): RctDisk {
  const sectors = disk.object('sectors');
  const root = disk.text('root', 64);
  if (!/^[0-9a-f]{64}$/.test(root)) throw disk.bad('root');
  return {
    diskId: disk.guid('diskId'),
    generation: disk.whole('generation', 0xffff_ffff),
    sizeBytes: disk.whole('sizeBytes', MAX_DISK_BYTES),
    sectors: {
      logicalBytes: sectors.choice('logicalBytes', [512, 4096]),
      physicalBytes: sectors.choice('physicalBytes', [512, 4096]),
    },
    kind: disk.choice('kind', ['base', 'delta']),
    file: disk.text('file'),
    manifest: disk.text('manifest'),
    root,
  };
}
