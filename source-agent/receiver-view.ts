// What the receiver says about a VM, checked and converted at the edge: protobuf turns a missing
// field into a silent zero, and everything that comes from the network is bounded before use.

import { type Guid, guidFromWire, guidToWire } from '../shared/bytes/index.js';
import {
  type CommitResponse,
  type DescribeResponse,
  type DiskGeometry,
  ProtectionState,
} from '../shared/channel/index.js';
import { MAX_DISK_BYTES, MAX_DISKS } from '../shared/delta/index.js';
import { DrError } from '../shared/errors.js';
import { type Geometry } from './ledger.js';

export interface ReceiverDisk {
  readonly diskId: Guid;
  readonly generation: number;
  readonly geometry: Geometry;
}

export type ReceiverState =
  | 'unprotected'
  | 'seeding'
  | 'protected'
  | 'resync'
  | 'paused'
  | 'failed-over'
  | 'committed'
  | 'halted'
  | 'split-brain'
  | 'returning';

export interface ReceiverView {
  readonly storeId: Guid;
  readonly state: ReceiverState;
  readonly epoch: bigint;
  /** The primary site is the active one under that epoch. False of a receiver that does not say. */
  readonly isSourceActive: boolean;
  readonly headPointId: Guid | undefined;
  readonly disks: readonly ReceiverDisk[];
  /** How many cells rotted there, which the source may still have. */
  readonly wantedCellCount: number;
  /** Disks of the head on which no delta can stand. */
  readonly lostDiskIds: readonly Guid[];
  /** Disks that an older point has and the head lacks, or has in another size. */
  readonly earlierDisks: readonly (ReceiverDisk & { readonly pointId: Guid })[];
  readonly unfinished:
    { readonly cycleId: Guid; readonly disks: readonly ReceiverDisk[] } | undefined;
}

const STATES = new Map<ProtectionState, ReceiverState>([
  [ProtectionState.PROTECTION_STATE_UNPROTECTED, 'unprotected'],
  [ProtectionState.PROTECTION_STATE_SEEDING, 'seeding'],
  [ProtectionState.PROTECTION_STATE_PROTECTED, 'protected'],
  [ProtectionState.PROTECTION_STATE_RESYNC, 'resync'],
  [ProtectionState.PROTECTION_STATE_PAUSED, 'paused'],
  [ProtectionState.PROTECTION_STATE_FAILED_OVER, 'failed-over'],
  [ProtectionState.PROTECTION_STATE_COMMITTED, 'committed'],
  [ProtectionState.PROTECTION_STATE_HALTED, 'halted'],
  [ProtectionState.PROTECTION_STATE_SPLIT_BRAIN, 'split-brain'],
  [ProtectionState.PROTECTION_STATE_RETURNING, 'returning'],
]);

export function protocolError(what: string): DrError {
  return new DrError('E_PROTOCOL', `the receiver's answer is not legal: ${what}`, {
    done: 'the cycle was stopped',
  });
}

/** @throws DrError E_PROTOCOL */
export function receiverView(response: DescribeResponse): ReceiverView {
  const state = STATES.get(response.state);
  if (state === undefined) throw protocolError(`no state has the number ${response.state}`);
  const { unfinished } = response;
  return {
    storeId: wireGuid(response.storeId, 'store id'),
    state,
    epoch: response.epoch,
    isSourceActive: response.isSourceActive,
    headPointId:
      response.headPointId.length === 0 ? undefined : wireGuid(response.headPointId, 'head point'),
    disks: receiverDisks(response.disks),
    wantedCellCount: Number(response.wantedCellCount),
    lostDiskIds: lostDisks(response.lostDiskIds),
    earlierDisks: earlierDisks(response.earlierDisks),
    unfinished:
      unfinished === undefined
        ? undefined
        : {
            cycleId: wireGuid(unfinished.cycleId, 'unfinished cycle'),
            disks: receiverDisks(unfinished.disks),
          },
  };
}

/** The point that a commit names, which must be the one that was asked for. */
export function checkCommit(response: CommitResponse, pointId: Guid): CommitResponse {
  if (!response.pointId.equals(guidToWire(pointId))) {
    throw protocolError('it committed another point than the one that was sent');
  }
  return response;
}

function wireGuid(bytes: Uint8Array, what: string): Guid {
  const parsed = guidFromWire(bytes);
  if (parsed === undefined) throw protocolError(`the ${what} has ${bytes.length} bytes`);
  return parsed;
}

function lostDisks(ids: readonly Uint8Array[]): Guid[] {
  if (ids.length > MAX_DISKS) throw protocolError(`${ids.length} lost disks`);
  return ids.map((bytes) => wireGuid(bytes, 'lost disk id'));
}

function earlierDisks(
  earlier: DescribeResponse['earlierDisks'],
): (ReceiverDisk & { pointId: Guid })[] {
  const disks = receiverDisks(earlier.flatMap(({ geometry }) => geometry ?? []));
  if (disks.length !== earlier.length) throw protocolError('an earlier disk without geometry');
  return disks.map((disk, index) => ({
    ...disk,
    pointId: wireGuid(earlier[index]?.pointId ?? Buffer.alloc(0), 'point of an earlier disk'),
  }));
}

function receiverDisks(disks: readonly DiskGeometry[]): ReceiverDisk[] {
  if (disks.length > MAX_DISKS) throw protocolError(`${disks.length} disks`);
  return disks.map((disk) => {
    if (disk.sizeBytes > BigInt(MAX_DISK_BYTES)) {
      throw protocolError(`a disk of ${disk.sizeBytes.toString()} bytes`);
    }
    return {
      diskId: wireGuid(disk.diskId, 'disk id'),
      generation: disk.generation,
      geometry: {
        sizeBytes: Number(disk.sizeBytes),
        logicalSectorBytes: disk.logicalSectorBytes,
        physicalSectorBytes: disk.physicalSectorBytes,
      },
    };
  });
}
