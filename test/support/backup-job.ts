// What Bacula jobs of one VM hold, made from plain bytes: a Full, deltas after it, and a restore of their
// files in any order, as the session of the plugin would drive it.

import { guid, randomGuid, type Guid, ZERO_GUID } from '../../shared/bytes/index.js';
import {
  CatalogNames,
  encodeRctState,
  encodeVmConfig,
  type RctDisk,
} from '../../shared/catalog/index.js';
import {
  CELL_BYTES,
  diffDisks,
  encodeDelta,
  hashCell,
  ManifestWriter,
  type ManifestHeader,
} from '../../shared/delta/index.js';
import { type Extent, isAllZero, type ReadableDisk } from '../../shared/disk/index.js';
import type { VmDefinition } from '../../shared/hypervisor/index.js';
import { streamVhdx } from '../../shared/vhdx/index.js';
import type { RestoreEntry, RestoreWork } from '../../plugin-bridge/restore/index.js';
import { SeededRandom } from './seeded-random.js';

export interface JobFile {
  /** Below the namespace. */
  readonly path: string;
  readonly bytes: Buffer;
}

class BytesDisk implements ReadableDisk {
  readonly sizeBytes: number;
  readonly logicalSectorBytes = 512;
  readonly physicalSectorBytes = 4096;
  readonly #bytes: Buffer;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
    this.sizeBytes = bytes.length;
  }

  read(offset: number, target: Uint8Array): Promise<void> {
    target.set(this.#bytes.subarray(offset, offset + target.length));
    return Promise.resolve();
  }

  async *extents(start: number, end: number): AsyncGenerator<Extent> {
    await Promise.resolve();
    yield { start, end, kind: 'data' };
  }

  async close(): Promise<void> {
    // bytes in memory
  }
}

async function collect(chunks: AsyncIterable<Buffer>): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const chunk of chunks) parts.push(Buffer.from(chunk));
  return Buffer.concat(parts);
}

/** A VM that is backed up: its disks as plain bytes, and the chain of its points. */
export class BackedUpVm {
  readonly definition: VmDefinition;
  readonly disks: Buffer[];
  readonly names: CatalogNames;
  readonly #random: SeededRandom;
  readonly #seen: Buffer[];
  #point: Guid = ZERO_GUID;
  #seq = 1_795_000_000_000;

  constructor(definition: VmDefinition, seed: number) {
    this.definition = definition;
    this.#random = new SeededRandom(seed);
    this.names = new CatalogNames(definition.name);
    this.disks = definition.disks.map(({ sizeBytes }) => Buffer.alloc(sizeBytes));
    this.#seen = this.disks.map((bytes) => Buffer.from(bytes));
  }

  get point(): Guid {
    return this.#point;
  }

  /** Writes and zeroes at random, also across cells. */
  write(count: number): void {
    for (let step = 0; step < count; step++) {
      const bytes = this.#random.pick(this.disks);
      const start = this.#random.int(bytes.length - 1);
      const length = Math.min(bytes.length - start, 1 + this.#random.int(150_000));
      const value = this.#random.chance(0.3) ? 0 : 1 + this.#random.int(255);
      bytes.fill(value, start, start + length);
    }
  }

  /** Another future of the same VM: its next point has the same parent. */
  branch(seed: number): BackedUpVm {
    const other = new BackedUpVm(this.definition, seed);
    other.#point = this.#point;
    other.#seq = this.#seq + 1000;
    for (const [index, bytes] of this.disks.entries()) {
      other.disks[index] = Buffer.from(bytes);
      other.#seen[index] = Buffer.from(this.#seen[index] ?? bytes);
    }
    return other;
  }

  full(): Promise<JobFile[]> {
    return this.#job('full');
  }

  incremental(): Promise<JobFile[]> {
    return this.#job('incremental');
  }

  async #job(level: 'full' | 'incremental'): Promise<JobFile[]> {
    const { definition, names } = this;
    const parentPointId = this.#point;
    const isFull = level === 'full';
    this.#point = randomGuid(this.#random);
    const seq = ++this.#seq;
    const files: JobFile[] = [{ path: names.config, bytes: encodeVmConfig(definition) }];
    const disks: RctDisk[] = [];
    for (const [index, { diskId, sizeBytes }] of definition.disks.entries()) {
      const now = this.disks[index] ?? Buffer.alloc(0);
      const file = isFull ? names.base(diskId) : names.delta(diskId, seq);
      const manifest = isFull ? names.baseManifest(diskId) : names.deltaManifest(diskId, seq);
      const made = isFull
        ? await this.#base(diskId, now)
        : await this.#delta(diskId, this.#seen[index] ?? now, now, parentPointId);
      files.push({ path: file, bytes: made.data }, { path: manifest, bytes: made.manifest });
      disks.push({
        diskId,
        generation: 1,
        sizeBytes,
        sectors: { logicalBytes: 512, physicalBytes: 4096 },
        kind: isFull ? 'base' : 'delta',
        file,
        manifest,
        root: made.root,
      });
      this.#seen[index] = Buffer.from(now);
    }
    const state = encodeRctState({
      vmId: definition.id,
      vmName: definition.name,
      pointId: this.#point,
      parentPointId: isFull ? undefined : parentPointId,
      job: `nightly.2026-11-26_20.00.00_${seq % 100}`,
      level,
      consistency: 'crash',
      consistentAtMs: seq,
      seq,
      disks,
    });
    return [...files, { path: names.state, bytes: state }];
  }

  #header(kind: 'base' | 'delta', diskId: Guid, now: Buffer, parentPoint: Guid): ManifestHeader {
    return {
      kind,
      point: this.#point,
      parentPoint,
      vmId: this.definition.id,
      diskId,
      diskGeneration: 1,
      diskSizeBytes: now.length,
      logicalSectorBytes: 512,
      physicalSectorBytes: 4096,
      epoch: 0n,
    };
  }

  async #base(diskId: Guid, now: Buffer): Promise<Made> {
    const options = { random: this.#random, diskId, blockSizeBytes: 1024 * 1024 };
    const data = await collect((await streamVhdx(new BytesDisk(now), options)).chunks);
    return made(data, this.#header('base', diskId, now, ZERO_GUID), async (writer) => {
      for (let at = 0; at < now.length; at += CELL_BYTES) {
        const cell = now.subarray(at, at + CELL_BYTES);
        if (!isAllZero(cell)) await writer.addData(at / CELL_BYTES, hashCell(cell));
      }
    });
  }

  async #delta(diskId: Guid, before: Buffer, now: Buffer, parent: Guid): Promise<Made> {
    const disk = new BytesDisk(now);
    const plan = await diffDisks(new BytesDisk(before), disk);
    let data = Buffer.alloc(0);
    const header = this.#header('delta', diskId, now, parent);
    const result = await made(data, header, async (manifest) => {
      data = Buffer.from(await collect(encodeDelta(disk, plan, { manifest })));
    });
    return { ...result, data };
  }
}

interface Made {
  readonly data: Buffer;
  readonly manifest: Buffer;
  readonly root: string;
}

async function made(
  data: Buffer,
  header: ManifestHeader,
  fill: (writer: ManifestWriter) => Promise<void>,
): Promise<Made> {
  const parts: Buffer[] = [];
  const writer = new ManifestWriter(header, (chunk) => {
    parts.push(Buffer.from(chunk));
    return Promise.resolve();
  });
  await fill(writer);
  const { root } = await writer.finish();
  return { data, manifest: Buffer.concat(parts), root: root.toString('hex') };
}

/** What Bacula lists of several jobs: of each name the newest. */
export function selected(...jobs: readonly (readonly JobFile[])[]): JobFile[] {
  const newest = new Map<string, JobFile>();
  for (const file of jobs.flat()) newest.set(file.path, file);
  return [...newest.values()];
}

export function entryOf(
  { path, bytes }: JobFile,
  where: string,
  modifiedAtMs = 1_795_000_000_000,
): RestoreEntry {
  return {
    path,
    namespace: '@hyperv',
    placedAt: `${where}/@hyperv/${path}`,
    kind: 'file',
    sizeBytes: bytes.length,
    modifiedAtMs,
  };
}

/** In pieces that fit no cell. */
export async function* pieces(bytes: Buffer): AsyncGenerator<Buffer> {
  await Promise.resolve();
  for (let at = 0; at < bytes.length; at += 65_001) yield bytes.subarray(at, at + 65_001);
}

/** Delivers one file; what the work answered. */
export async function deliver(work: RestoreWork, file: JobFile, where: string): Promise<string> {
  const answer = await work.begin(entryOf(file, where));
  if (answer !== 'take') return answer;
  await work.data(pieces(file.bytes));
  await work.endFile();
  return answer;
}

/** A definition with disks of these sizes and one adapter. */
export function definitionWith(name: string, sizes: readonly number[]): VmDefinition {
  return {
    id: guid('0f000000-0000-4000-8000-000000000001'),
    name,
    generation: 2,
    cpuCount: 2,
    memoryBytes: 1024 ** 3,
    isAutoStart: true,
    disks: sizes.map((sizeBytes, index) => ({
      diskId: guid(`0d000000-0000-4000-8000-00000000000${index + 1}`),
      controller: 'scsi',
      controllerNumber: 0,
      controllerLocation: index,
      sizeBytes,
      logicalSectorBytes: 512,
      physicalSectorBytes: 4096,
      path: `D:\\vms\\${index}.vhdx`,
    })),
    adapters: [
      {
        id: guid('0a000000-0000-4000-8000-000000000001'),
        name: 'Network Adapter',
        mac: '00155D0A0B0C',
        isMacStatic: true,
        switchName: 'LAN',
        vlan: 7,
        guest: { isDhcp: true, addresses: [], gateways: [], dnsServers: [] },
      },
    ],
  };
}
