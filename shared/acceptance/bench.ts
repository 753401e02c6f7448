// What a probe works with: VMs of its own, made and removed again, and the answers that it gives.

import path from 'node:path';
import { guid, randomGuid, type Guid } from '../bytes/index.js';
import type { Clock, Random } from '../clock.js';
import type { ReadableDisk } from '../disk/index.js';
import { DrError } from '../errors.js';
import type { FileSystem } from '../files/index.js';
import type {
  ByteRange,
  Checkpoint,
  CheckpointRequest,
  OwnerTag,
  ReferencePoint,
  SourceHypervisor,
  TargetHypervisor,
  VmAdapter,
  VmDefinition,
  VmDisk,
} from '../hypervisor/index.js';
import { createVhdx, describeVhdx, openVhdx } from '../vhdx/index.js';
import type { FactId } from './facts.js';
import type { AcceptancePort } from './port.js';

export type Host = SourceHypervisor & TargetHypervisor;

/** The tag of all VMs of an acceptance, on whatever host: what bears it may be removed. */
export const ACCEPTANCE_ID = guid('68766472-6163-4365-8074-616e63650001');
export const NAME_PREFIX = 'hvdr-acceptance-';
export const FOLDER_NAME = 'hvdr-acceptance';
export const MIB = 1024 * 1024;

export type Verdict = 'confirmed' | 'refuted' | 'not answered';

export interface Answer {
  readonly verdict: Verdict;
  readonly evidence: string;
}

export interface AcceptanceSeams {
  readonly host: Host;
  readonly port: AcceptancePort;
  readonly fs: FileSystem;
  readonly clock: Clock;
  readonly random: Random;
  /** Where the disks of the VMs are made; empty before and after. */
  readonly folder: string;
  readonly guest: GuestWish | undefined;
  /** A step without an end is given up after so long. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

export interface GuestWish {
  /** VHDX of a guest with integration services. It is copied. */
  readonly image: string;
  readonly generation: 1 | 2;
  /** Address that the guest is to take, `192.0.2.10/24`. */
  readonly address: string;
  readonly bootMs: number;
}

export interface NewBenchVm {
  readonly diskBytes: readonly number[];
  readonly adapterCount?: number;
  readonly generation?: 1 | 2;
  /** Files that stand ready in place of new disks. */
  readonly files?: readonly string[];
}

export class Bench {
  readonly seams: AcceptanceSeams;
  readonly host: Host;
  readonly port: AcceptancePort;
  readonly answers = new Map<FactId, Answer>();
  readonly #probe: string;
  readonly #tag: OwnerTag;
  #count = 0;

  constructor(probe: string, seams: AcceptanceSeams) {
    this.seams = seams;
    this.host = seams.host;
    this.port = seams.port;
    this.#probe = probe;
    this.#tag = { protectionId: ACCEPTANCE_ID, operationId: randomGuid(seams.random) };
  }

  get request(): CheckpointRequest {
    return { tag: this.#tag, consistency: 'crash', timeoutMs: this.seams.timeoutMs };
  }

  get tag(): OwnerTag {
    return this.#tag;
  }

  /** A fact that was refuted once stays refuted; the evidence says by what. */
  check(fact: FactId, isSo: boolean, evidence: string): void {
    if (this.answers.get(fact)?.verdict === 'refuted') return;
    this.answers.set(fact, { verdict: isSo ? 'confirmed' : 'refuted', evidence });
  }

  skip(fact: FactId, evidence: string): void {
    if (!this.answers.has(fact)) this.answers.set(fact, { verdict: 'not answered', evidence });
  }

  /** Where a file of this probe stands. */
  file(name: string): string {
    return path.join(this.seams.folder, this.#probe, name);
  }

  /** A new disk of ours, with `bytes` at its beginning. */
  async makeDisk(name: string, sizeBytes: number, bytes: Uint8Array): Promise<string> {
    const { fs, random } = this.seams;
    const file = this.file(name);
    await fs.makeFolder(path.dirname(file));
    await createVhdx(file, { type: 'dynamic', sizeBytes }, { fs, random });
    await this.write(file, 0, bytes);
    return file;
  }

  async makeChild(name: string, parentPath: string): Promise<string> {
    const { fs, random } = this.seams;
    const file = this.file(name);
    await createVhdx(file, { type: 'differencing', parentPath }, { fs, random });
    return file;
  }

  /** With our own engine, to a file that no VM has open. */
  async write(file: string, offset: number, bytes: Uint8Array): Promise<void> {
    const { fs, random } = this.seams;
    const disk = await openVhdx(file, { fs, random, isWritable: true });
    try {
      await disk.write(offset, bytes);
      await disk.flush();
    } finally {
      await disk.close();
    }
  }

  async idOf(file: string): Promise<Guid> {
    return guid((await describeVhdx(file, this.seams)).diskId);
  }

  /** A VM that is off, over disks of ours with the bytes of pattern(index). */
  async makeVm({ diskBytes, adapterCount = 1, generation = 2, files }: NewBenchVm): Promise<{
    readonly vmId: Guid;
    readonly files: readonly string[];
  }> {
    const number = ++this.#count;
    const made =
      files ??
      (await Promise.all(
        diskBytes.map((sizeBytes, index) =>
          this.makeDisk(`vm${number}-disk${index}.vhdx`, sizeBytes, pattern(index, MIB)),
        ),
      ));
    const disks: VmDisk[] = [];
    for (const [index, file] of made.entries()) {
      disks.push({ ...(await this.#diskOf(file)), ...placeOf(index, generation) });
    }
    const name = `${NAME_PREFIX}${this.#probe}-${number}`;
    const definition: VmDefinition = {
      ...{ id: ACCEPTANCE_ID, name, generation, cpuCount: 1, memoryBytes: 512 * MIB },
      ...{ isAutoStart: false, disks },
      adapters: Array.from({ length: adapterCount }, (_, index) => this.#adapter(index)),
    };
    const vmId = await this.host.registerVm({ definition, name, diskPaths: made, tag: this.#tag });
    return { vmId, files: made };
  }

  async #diskOf(file: string): Promise<Omit<VmDisk, keyof ReturnType<typeof placeOf>>> {
    const { fs, random } = this.seams;
    const disk = await openVhdx(file, { fs, random });
    try {
      const { sizeBytes, logicalSectorBytes, physicalSectorBytes } = disk;
      return {
        ...{ diskId: await this.idOf(file), path: file },
        ...{ sizeBytes, logicalSectorBytes, physicalSectorBytes },
      };
    } finally {
      await disk.close();
    }
  }

  #adapter(index: number): VmAdapter {
    const mac = Buffer.from(this.seams.random.fill(new Uint8Array(3)));
    return {
      id: randomGuid(this.seams.random),
      ...{ name: `Network Adapter ${index}`, isMacStatic: true },
      mac: `00155D${mac.toString('hex').toUpperCase()}`,
      ...{ switchName: undefined, vlan: undefined },
      guest: { isDhcp: true, addresses: [], gateways: [], dnsServers: [] },
    };
  }

  /** A checkpoint that is gone again afterwards, and its merge at its end. */
  async withCheckpoint<T>(vmId: Guid, use: (checkpoint: Checkpoint) => Promise<T>): Promise<T> {
    const checkpoint = await this.host.createCheckpoint(vmId, this.request);
    try {
      return await use(checkpoint);
    } finally {
      await this.host.removeCheckpoint(vmId, checkpoint.id);
      await this.host.waitForMerge(vmId, this.seams.timeoutMs);
    }
  }

  /** A new reference point, and the merge at its end. */
  async referencePoint(vmId: Guid): Promise<ReferencePoint> {
    const { id } = await this.host.createCheckpoint(vmId, this.request);
    const point = await this.host.convertToReferencePoint(vmId, id);
    await this.host.waitForMerge(vmId, this.seams.timeoutMs);
    return point;
  }

  async ranges(
    checkpoint: Checkpoint,
    trackingId: string,
    diskIndex = 0,
  ): Promise<readonly ByteRange[] | 'invalid'> {
    const diskId = diskAt(checkpoint.disks, diskIndex).diskId;
    const { vmId, id } = checkpoint;
    return collected(this.host.changedRanges(vmId, id, diskId, trackingId));
  }

  async openFrozen(checkpoint: Checkpoint, diskIndex = 0): Promise<ReadableDisk> {
    const diskId = diskAt(checkpoint.disks, diskIndex).diskId;
    return this.host.openCheckpointDisk(checkpoint.vmId, checkpoint.id, diskId);
  }
}

/** A machine of generation 1 boots from the first place of its IDE controller. */
function placeOf(
  index: number,
  generation: 1 | 2,
): Pick<VmDisk, 'controller' | 'controllerNumber' | 'controllerLocation'> {
  return generation === 1
    ? { controller: 'ide', controllerNumber: index >> 1, controllerLocation: index & 1 }
    : { controller: 'scsi', controllerNumber: 0, controllerLocation: index };
}

/** Of a checkpoint or a reference point. @throws DrError E_HYPERVISOR when the host says nothing of it */
export function diskAt<T>(disks: readonly T[], index = 0): T {
  const disk = disks[index];
  if (disk !== undefined) return disk;
  throw new DrError(
    'E_HYPERVISOR',
    `the host names ${disks.length} disks, and disk ${index} is none`,
  );
}

/** 'invalid' when nothing is known. */
export async function collected(
  ranges: AsyncIterable<ByteRange>,
): Promise<readonly ByteRange[] | 'invalid'> {
  const all: ByteRange[] = [];
  try {
    for await (const range of ranges) all.push(range);
  } catch (error) {
    if (error instanceof DrError && error.code === 'E_TRACKING_INVALID') return 'invalid';
    throw error;
  }
  return all;
}

/** Bytes that no disk has by itself, others for each number. */
export function pattern(number: number, lengthBytes: number): Buffer {
  const bytes = Buffer.alloc(lengthBytes);
  for (let at = 0; at + 4 <= lengthBytes; at += 4) {
    bytes.writeUInt32LE((Math.imul(at + 1, 2_654_435_761) ^ (number * 40_503 + 1)) >>> 0, at);
  }
  return bytes;
}

/** The first of `wanted` that no range covers whole; undefined when all are. */
export function uncovered(
  ranges: readonly ByteRange[],
  wanted: readonly ByteRange[],
): ByteRange | undefined {
  return wanted.find(({ start, end }) => {
    let at = start;
    for (const range of ranges) if (range.start <= at && range.end > at) at = range.end;
    return at < end;
  });
}

export function bytesOf(ranges: readonly ByteRange[]): number {
  return ranges.reduce((sum, { start, end }) => sum + end - start, 0);
}

export function rangeText({ start, end }: ByteRange): string {
  return `[${start}, ${end})`;
}

/** Where a disk reads otherwise than `wanted` says, which is all of it from its beginning; undefined: nowhere. */
export async function firstDifference(
  disk: ReadableDisk,
  wanted: Buffer,
): Promise<number | undefined> {
  if (disk.sizeBytes !== wanted.length) return Math.min(disk.sizeBytes, wanted.length);
  const piece = Buffer.alloc(MIB);
  for (let at = 0; at < wanted.length; at += MIB) {
    const part = piece.subarray(0, Math.min(MIB, wanted.length - at));
    await disk.read(at, part);
    const same = wanted.subarray(at, at + part.length);
    if (part.equals(same)) continue;
    return at + part.findIndex((byte, index) => byte !== same[index]);
  }
  return undefined;
}
