// What Open asks for, checked field by field: protobuf turns a missing field into a silent zero, and
// the source may be anybody's program.

import { type Guid, guidFromWire, ZERO_GUID } from '../../shared/bytes/index.js';
import {
  DiskTransfer,
  type DiskGeometry as WireGeometry,
  OpenRequest,
  VmDefinition,
} from '../../shared/channel/index.js';
import { type ManifestHeader, MAX_DISK_BYTES, MAX_DISKS } from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import { parseRetentionGrid } from '../../shared/params/index.js';
import { RETURN_CYCLE } from '../failover/machine.js';
import type { DiskGeometry, Transfer } from '../store/records.js';

const NAME_MAX = 255;
const TEXT_MAX = 256;
const FROM_MAX = 4096;
const ADAPTERS_MAX = 64;
const ADDRESSES_MAX = 64;
const DEFINITION_BYTES_MAX = 64 * 1024;
const KINDS = ['seed', 'delta', 'resync', RETURN_CYCLE];

export interface CycleDisk extends DiskGeometry {
  readonly transfer: Transfer;
}

export interface CycleRequest {
  readonly vmId: Guid;
  readonly vmName: string;
  readonly cycleId: Guid;
  readonly pointId: Guid;
  readonly parentPointId: Guid | undefined;
  readonly epoch: bigint;
  readonly kind: string;
  readonly disks: readonly CycleDisk[];
  /** VmDefinition, encoded. */
  readonly definition: Buffer;
  readonly consistentAtMs: number;
  readonly isApplicationConsistent: boolean;
  readonly maxRestorePoints: number;
  readonly rpoSeconds: number;
  readonly checkpointId: string;
  /** Where a staged seed came from (seed/stage-seed.ts); empty in every cycle of a source. */
  readonly seededFrom: string;
  /** A legal grid, or empty. */
  readonly retentionGrid: string;
  /** 0: the source does not know. */
  readonly expectedBytes: number;
  /** The whole request, encoded: the same request has the same bytes. */
  readonly encoded: Buffer;
}

function refuse(message: string): never {
  throw new DrError('E_PROTOCOL', `the request is not legal: ${message}`);
}

export function requireGuid(bytes: Uint8Array, what: string): Guid {
  const id = guidFromWire(bytes);
  if (id === undefined) refuse(`${what} has ${bytes.length} bytes, not 16`);
  if (id === ZERO_GUID) refuse(`${what} is zero`);
  return id;
}

/** Text for people: short, without control characters. */
export function requireText(text: string, what: string, max = TEXT_MAX): string {
  if (text.length > max) refuse(`${what} has ${text.length} characters, at most ${max} are legal`);

  if (/[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/.test(text)) {
    refuse(`${what} has control characters`);
  }
  return text;
}

function requireGrid(text: string): string {
  if (text === '') return text;
  const rules = parseRetentionGrid(requireText(text, 'the retention grid'));
  if ('wrong' in rules) refuse(`the retention grid ${rules.wrong}`);
  return text;
}

function requireNumber(value: bigint, what: string, max: number): number {
  if (value < 0n || value > BigInt(max)) refuse(`${what} is ${value}, at most ${max} is legal`);
  return Number(value);
}

function geometryFrom(geometry: WireGeometry | undefined): DiskGeometry {
  if (geometry === undefined) refuse('a disk has no geometry');
  const { logicalSectorBytes, physicalSectorBytes, generation } = geometry;
  const diskId = requireGuid(geometry.diskId, 'a disk id');
  const sizeBytes = requireNumber(geometry.sizeBytes, 'a disk size', MAX_DISK_BYTES);
  for (const sector of [logicalSectorBytes, physicalSectorBytes]) {
    if (sector !== 512 && sector !== 4096) refuse(`the sector size ${sector}`);
  }
  if (logicalSectorBytes > physicalSectorBytes) refuse('sectors are larger than their device has');
  if (sizeBytes === 0 || sizeBytes % logicalSectorBytes !== 0) {
    refuse(`a disk of ${sizeBytes} bytes has no whole number of sectors`);
  }
  return { diskId, generation, sizeBytes, logicalSectorBytes, physicalSectorBytes };
}

function definitionFrom(definition: VmDefinition | undefined): Buffer {
  if (definition === undefined) return Buffer.alloc(0);
  const { adapters, diskPlaces } = definition;
  if (adapters.length > ADAPTERS_MAX) refuse(`${adapters.length} network adapters`);
  if (diskPlaces.length > MAX_DISKS) refuse(`${diskPlaces.length} places of disks`);
  for (const adapter of adapters) {
    const lists = [adapter.addresses, adapter.gateways, adapter.dnsServers];
    for (const text of [adapter.name, adapter.mac, adapter.switchName, ...lists.flat()]) {
      requireText(text, 'a text of an adapter');
    }
    if (lists.some((list) => list.length > ADDRESSES_MAX)) refuse('too many addresses');
  }
  const encoded = Buffer.from(VmDefinition.encode(definition).finish());
  if (encoded.length > DEFINITION_BYTES_MAX) refuse(`a definition of ${encoded.length} bytes`);
  return encoded;
}

/** @throws DrError E_PROTOCOL for whatever is not legal */
export function parseOpenRequest(request: OpenRequest): CycleRequest {
  const disks = request.disks.map(({ geometry, transfer }): CycleDisk => {
    if (
      transfer !== DiskTransfer.DISK_TRANSFER_BASE &&
      transfer !== DiskTransfer.DISK_TRANSFER_DELTA
    )
      refuse(`the transfer ${transfer}`);
    const isBase = transfer === DiskTransfer.DISK_TRANSFER_BASE;
    return { ...geometryFrom(geometry), transfer: isBase ? 'base' : 'delta' };
  });
  if (disks.length > MAX_DISKS) refuse(`${disks.length} disks, at most ${MAX_DISKS} are legal`);
  if (new Set(disks.map((disk) => disk.diskId)).size < disks.length)
    refuse('a disk is named twice');
  const vmName = requireText(request.vmName, 'the name of the VM', NAME_MAX);
  if (vmName === '') refuse('the VM has no name');
  if (!KINDS.includes(request.kind)) refuse('the kind is none of seed, delta, resync');
  const parent = request.parentPointId;
  const parentPointId = parent.length === 0 ? undefined : requireGuid(parent, 'the parent point');
  const pointId = requireGuid(request.pointId, 'the point id');
  if (pointId === parentPointId) refuse('the point is its own parent');
  return {
    vmId: requireGuid(request.vmId, 'the VM id'),
    vmName,
    cycleId: requireGuid(request.cycleId, 'the cycle id'),
    pointId,
    parentPointId,
    epoch: request.epoch,
    kind: request.kind,
    disks,
    definition: definitionFrom(request.definition),
    consistentAtMs: requireNumber(request.consistentAtMs, 'the time', Number.MAX_SAFE_INTEGER),
    isApplicationConsistent: request.isApplicationConsistent,
    maxRestorePoints: request.maxRestorePoints,
    rpoSeconds: request.rpoSeconds,
    checkpointId: requireText(request.checkpointId, 'the checkpoint id'),
    seededFrom: requireText(request.seededFrom, 'the origin of a seed', FROM_MAX),
    retentionGrid: requireGrid(request.retentionGrid),
    expectedBytes: requireNumber(
      request.expectedBytes,
      'what the cycle will bring',
      MAX_DISKS * MAX_DISK_BYTES,
    ),
    encoded: Buffer.from(OpenRequest.encode(request).finish()),
  };
}

/** The manifest header of a disk of the cycle, as both sides build it. */
export function manifestHeaderOf(request: CycleRequest, disk: CycleDisk): ManifestHeader {
  const isBase = disk.transfer === 'base';
  return {
    kind: disk.transfer,
    point: request.pointId,
    parentPoint: isBase ? ZERO_GUID : (request.parentPointId ?? ZERO_GUID),
    vmId: request.vmId,
    diskId: disk.diskId,
    diskGeneration: disk.generation,
    diskSizeBytes: disk.sizeBytes,
    logicalSectorBytes: disk.logicalSectorBytes,
    physicalSectorBytes: disk.physicalSectorBytes,
    epoch: request.epoch,
  };
}
