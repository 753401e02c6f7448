// A file system that loses power. It tells what is durable from what merely was written, and after
// a crash builds the states in which the volume may be found again. It stands under the very code
// that production runs, through the seam of shared/files/block-file.ts.
//
// The model, which is the contract of block-file.ts read as unkindly as it allows:
//   data      Every write and truncation of a file is recorded until a flush of that file. After a
//             crash each 512-byte sector holds one of its versions since the last flush, chosen
//             independently of all others: so any subset of sectors survives, in any order, and one
//             write may survive in part. A sector itself is never torn.
//   size      Each truncation is kept or lost on its own; a write past the end may leave the larger
//             size without its data, which then reads as zeros.
//   flush     Makes durable exactly what had returned before flush() was called. A write that was
//             still under way then stays undecided.
//   names     Creations, renames and removals are recorded until a flush of their folder (both
//             folders of a rename). Each is kept or lost on its own. Flushing a file does not keep
//             its name, and a kept name may show a file whose data was lost.
//   folders   makeFolder() is durable on return, as nodeFileSystem makes it. A removed folder comes
//             back with a file in it whose removal was lost, and not without one.
//
// A crash is scheduled at the n-th operation that matters for durability (write, truncate, flush,
// create, rename, remove, flushFolder), counted from 1. The operation itself is under way when the
// power goes: it may survive like any unflushed one, and a flush cut off has promised nothing. From
// then on every call rejects with CrashError, but close(), which only lets go.
//
// Not modelled: stale bytes of other files in lost extensions, sectors that change without a write.

import { dirname, resolve } from 'node:path';
import { assert } from '../../shared/assert.js';
import { DrError } from '../../shared/errors.js';
import type { BlockFile, FileStatus, FileSystem, OpenOptions } from '../../shared/files/index.js';
import { MemoryFileSystem, type MemoryNode } from './memory-file.js';
import { SeededRandom } from './seeded-random.js';
import type { SparseBytes } from './sparse-bytes.js';

export const SECTOR_BYTES = 512;

export class CrashError extends Error {
  override readonly name = 'CrashError';
}

/** What of the undecided operations survives. */
export type SurvivorStyle =
  /** nothing */
  | 'none'
  /** everything */
  | 'all'
  /** all operations up to a random one, and a part of that one */
  | 'prefix'
  /** each sector, size and name on its own */
  | 'random'
  /** all names, no data: the empty file under its new name */
  | 'names'
  /** all data, no names */
  | 'data';

export const SURVIVOR_STYLES: readonly SurvivorStyle[] = [
  'none',
  'all',
  'prefix',
  'random',
  'names',
  'data',
];

interface PendingWrite {
  readonly kind: 'write';
  readonly sequence: number;
  readonly position: number;
  readonly bytes: Buffer;
  hasReturned: boolean;
}

interface PendingTruncate {
  readonly kind: 'truncate';
  readonly sequence: number;
  readonly sizeBytes: number;
  hasReturned: boolean;
}

type PendingChange = PendingWrite | PendingTruncate;

interface PendingName {
  readonly kind: 'create' | 'rename' | 'remove';
  readonly sequence: number;
  readonly node: MemoryNode;
  /** The name before the change; equal to `to` for a creation. */
  readonly from: string;
  readonly to: string;
  /** Folders that have still to be flushed. */
  readonly folders: Set<string>;
  hasReturned: boolean;
}

interface NodeRecord {
  readonly durable: SparseBytes;
  pending: PendingChange[];
}

export interface CrashOptions {
  /** What the volume holds, durably, at the start. It is copied. Default: empty. */
  readonly volume?: MemoryFileSystem;
  /** The operation, counted from 1, at which the power goes. Default: never. */
  readonly crashAt?: number;
  /**
   * The flush, counted from 1, that fails and loses what it was to make durable. Programs go on to see
   * those bytes, later flushes of the file succeed, and a power cut shows that they were lost: what
   * Linux does after an error of the device. Default: none.
   */
  readonly loseAtFlush?: number;
}

export class CrashFileSystem implements FileSystem {
  /** What running programs see. */
  readonly #live: MemoryFileSystem;
  readonly #crashAt: number;
  readonly #loseAtFlush: number | undefined;
  #flushCount = 0;
  readonly #records = new Map<MemoryNode, NodeRecord>();
  readonly #durableNames = new Map<string, MemoryNode>();
  #pendingNames: PendingName[] = [];
  #sequence = 0;
  #operationCount = 0;
  #hasCrashed = false;
  #lastOperation = 'nothing';

  constructor(options: CrashOptions = {}) {
    this.#live = (options.volume ?? new MemoryFileSystem()).clone();
    this.#crashAt = options.crashAt ?? Number.POSITIVE_INFINITY;
    this.#loseAtFlush = options.loseAtFlush;
    for (const path of this.#live.paths) {
      const node = this.#live.nodeAt(path);
      if (node === undefined) continue;
      this.#durableNames.set(path, node);
      this.#recordOf(node);
    }
  }

  /** Operations so far that matter for durability; a run without a crash tells how many to try. */
  get operationCount(): number {
    return this.#operationCount;
  }

  get hasCrashed(): boolean {
    return this.#hasCrashed;
  }

  /** Flushes of files so far. */
  get flushCount(): number {
    return this.#flushCount;
  }

  /** The last counted operation, for messages: "write /a/b at 4096, 512 bytes". */
  get lastOperation(): string {
    return this.#lastOperation;
  }

  /** Cuts the power between two operations. */
  crashNow(): void {
    this.#hasCrashed = true;
  }

  /**
   * The device loses what was written to a file and not flushed, and the system does not notice: programs
   * go on to see those bytes until the power goes.
   */
  losePending(path: string): void {
    const node = this.#live.nodeAt(path);
    if (node !== undefined) this.#recordOf(node).pending = [];
  }

  /** One bit of a file changes on the device, for programs that run and for those after a crash. */
  turnBit(path: string, position: number, bit: number): void {
    const node = this.#live.nodeAt(path);
    if (node === undefined) return;
    for (const bytes of [node.bytes, this.#recordOf(node).durable]) {
      const byte = Buffer.alloc(1);
      if (bytes.read(position, byte) === 0) continue;
      byte.writeUInt8(byte.readUInt8(0) ^ (1 << bit), 0);
      bytes.write(position, byte);
    }
  }

  /** Names of all files that programs see, sorted. */
  get paths(): readonly string[] {
    return this.#live.paths;
  }

  /** Length of a file as programs see it; 0 when there is none. */
  sizeOf(path: string): number {
    return this.#live.nodeAt(path)?.bytes.sizeBytes ?? 0;
  }

  /**
   * A volume as it may be found after a power cut at this moment. The same seed and style give the
   * same volume. May be called often, and without a crash too.
   */
  survivors(seed: number, style: SurvivorStyle): MemoryFileSystem {
    const random = new SeededRandom(seed);
    const choice = new Choice(style, random, this.#sequence);
    const names = new Map(this.#durableNames);
    for (const change of this.#pendingNames) {
      if (choice.keepsName(change.sequence)) applyName(names, change);
    }
    const found = new MemoryFileSystem();
    for (const folder of this.#live.folders) found.addFolder(folder);
    const copies = new Map<MemoryNode, MemoryNode>();
    for (const [path, node] of names) {
      const copy = copies.get(node) ?? found.newNode(choice.contentOf(this.#recordOf(node)));
      copies.set(node, copy);
      found.placeNode(path, copy);
    }
    return found;
  }

  async open(path: string, options: OpenOptions): Promise<BlockFile> {
    this.#requirePower();
    const isNew = options.mode === 'create';
    const isLast = isNew && this.#count(`create ${path}`);
    const inner = await this.#live.open(path, options);
    const node = this.#live.nodeAt(path);
    assert(node !== undefined, 'an open file has a name');
    if (isNew) {
      const change = this.#addName('create', node, path, path);
      if (isLast) this.#fail();
      change.hasReturned = true;
    }
    this.#requirePower();
    return new CrashFile(this, inner, this.#recordOf(node), options.mode !== 'read');
  }

  async rename(from: string, to: string): Promise<void> {
    this.#requirePower();
    const isLast = this.#count(`rename ${from} to ${to}`);
    const node = this.#live.nodeAt(from);
    await this.#live.rename(from, to);
    assert(node !== undefined, 'only a file that is there was renamed');
    const change = this.#addName('rename', node, from, to);
    if (isLast) this.#fail();
    this.#requirePower();
    change.hasReturned = true;
  }

  async remove(path: string): Promise<void> {
    this.#requirePower();
    const isLast = this.#count(`remove ${path}`);
    const node = this.#live.nodeAt(path);
    await this.#live.remove(path);
    const change = node === undefined ? undefined : this.#addName('remove', node, path, path);
    if (isLast) this.#fail();
    this.#requirePower();
    if (change !== undefined) change.hasReturned = true;
  }

  async flushFolder(folder: string): Promise<void> {
    this.#requirePower();
    const isLast = this.#count(`flushFolder ${folder}`);
    const key = resolve('/', folder);
    const covered = this.#pendingNames.filter(
      (change) => change.hasReturned && change.folders.has(key),
    );
    await this.#live.flushFolder(folder);
    if (isLast) this.#fail();
    this.#requirePower();
    for (const change of covered) {
      change.folders.delete(key);
      if (change.folders.size > 0 || !this.#pendingNames.includes(change)) continue;
      applyName(this.#durableNames, change);
      this.#pendingNames = this.#pendingNames.filter((other) => other !== change);
    }
  }

  async status(path: string): Promise<FileStatus | undefined> {
    this.#requirePower();
    return this.#live.status(path);
  }

  async realPath(path: string): Promise<string> {
    this.#requirePower();
    return this.#live.realPath(path);
  }

  async list(folder: string): Promise<string[]> {
    this.#requirePower();
    return this.#live.list(folder);
  }

  async makeFolder(path: string): Promise<void> {
    this.#requirePower();
    return this.#live.makeFolder(path);
  }

  async freeBytes(folder: string): Promise<number | undefined> {
    this.#requirePower();
    return this.#live.freeBytes(folder);
  }

  async removeFolder(path: string): Promise<void> {
    this.#requirePower();
    return this.#live.removeFolder(path);
  }

  // For CrashFile.

  /** Counts one operation; true when the power goes during it. @internal */
  countFor(operation: string): boolean {
    this.#requirePower();
    return this.#count(operation);
  }

  /** Counts a flush; true when it is the one that loses its bytes. @internal */
  losesFlush(): boolean {
    return ++this.#flushCount === this.#loseAtFlush;
  }

  /** @internal */
  nextSequence(): number {
    return ++this.#sequence;
  }

  /** @internal */
  settle(isLast: boolean): void {
    if (isLast) this.#fail();
    this.#requirePower();
  }

  #recordOf(node: MemoryNode): NodeRecord {
    let record = this.#records.get(node);
    if (record === undefined) {
      record = { durable: node.bytes.clone(), pending: [] };
      this.#records.set(node, record);
    }
    return record;
  }

  #addName(kind: PendingName['kind'], node: MemoryNode, from: string, to: string): PendingName {
    const change: PendingName = {
      kind,
      sequence: this.nextSequence(),
      node,
      from: resolve('/', from),
      to: resolve('/', to),
      folders: new Set([dirname(resolve('/', from)), dirname(resolve('/', to))]),
      hasReturned: false,
    };
    this.#pendingNames.push(change);
    return change;
  }

  #count(operation: string): boolean {
    this.#operationCount++;
    this.#lastOperation = operation;
    return this.#operationCount === this.#crashAt;
  }

  #fail(): never {
    this.#hasCrashed = true;
    throw new CrashError(`power lost at operation ${this.#crashAt}: ${this.#lastOperation}`);
  }

  #requirePower(): void {
    if (this.#hasCrashed) throw new CrashError('the power is off');
  }
}

class CrashFile implements BlockFile {
  readonly path: string;
  readonly #owner: CrashFileSystem;
  readonly #inner: BlockFile;
  readonly #record: NodeRecord;
  readonly #isWritable: boolean;

  constructor(owner: CrashFileSystem, inner: BlockFile, record: NodeRecord, isWritable: boolean) {
    this.path = inner.path;
    this.#owner = owner;
    this.#inner = inner;
    this.#record = record;
    this.#isWritable = isWritable;
  }

  async read(position: number, target: Uint8Array): Promise<number> {
    this.#owner.settle(false);
    const count = await this.#inner.read(position, target);
    this.#owner.settle(false);
    return count;
  }

  async write(position: number, source: Uint8Array): Promise<void> {
    this.#owner.settle(false);
    if (!this.#isWritable || source.length === 0) return this.#inner.write(position, source);
    const isLast = this.#owner.countFor(
      `write ${this.path} at ${position}, ${source.length} bytes`,
    );
    // The double in memory takes the bytes before it yields, so records and content agree in order.
    const written = this.#inner.write(position, source);
    const change: PendingWrite = {
      kind: 'write',
      sequence: this.#owner.nextSequence(),
      position,
      bytes: Buffer.from(source),
      hasReturned: false,
    };
    this.#record.pending.push(change);
    await written;
    this.#owner.settle(isLast);
    change.hasReturned = true;
  }

  async size(): Promise<number> {
    this.#owner.settle(false);
    return this.#inner.size();
  }

  async truncate(sizeBytes: number): Promise<void> {
    this.#owner.settle(false);
    if (!this.#isWritable) return this.#inner.truncate(sizeBytes);
    const isLast = this.#owner.countFor(`truncate ${this.path} to ${sizeBytes}`);
    const done = this.#inner.truncate(sizeBytes);
    const change: PendingTruncate = {
      kind: 'truncate',
      sequence: this.#owner.nextSequence(),
      sizeBytes,
      hasReturned: false,
    };
    this.#record.pending.push(change);
    await done;
    this.#owner.settle(isLast);
    change.hasReturned = true;
  }

  async reserve(sizeBytes: number): Promise<boolean> {
    await this.truncate(sizeBytes);
    return true;
  }

  async flush(): Promise<void> {
    const isLast = this.#owner.countFor(`flush ${this.path}`);
    // Operations return in the order in which they were begun, so what has returned is a prefix.
    const record = this.#record;
    const firstOpen = record.pending.findIndex((change) => !change.hasReturned);
    const covered = new Set(firstOpen === -1 ? record.pending : record.pending.slice(0, firstOpen));
    const isLost = this.#owner.losesFlush();
    await this.#inner.flush();
    this.#owner.settle(isLast);
    if (isLost) {
      record.pending = record.pending.filter((change) => !covered.has(change));
      throw new DrError('E_IO', `cannot flush ${this.path}: the test loses what was written`);
    }
    for (const change of record.pending) {
      if (!covered.has(change)) break;
      if (change.kind === 'truncate') record.durable.truncate(change.sizeBytes);
      else record.durable.write(change.position, change.bytes);
    }
    record.pending = record.pending.filter((change) => !covered.has(change));
  }

  async nextData(position: number): Promise<{ start: number; end: number } | undefined> {
    this.#owner.settle(false);
    return this.#inner.nextData(position);
  }

  async close(): Promise<void> {
    await this.#inner.close();
  }
}

function applyName(names: Map<string, MemoryNode>, change: PendingName): void {
  // A change that stood on a lost one finds another file under its old name and leaves that alone.
  if (change.kind !== 'create' && names.get(change.from) === change.node) {
    names.delete(change.from);
  }
  if (change.kind !== 'remove') names.set(change.to, change.node);
}

/** Decides, by style and seed, what of the undecided operations survives. */
class Choice {
  readonly #style: SurvivorStyle;
  readonly #random: SeededRandom;
  /** For 'prefix': operations below survive, this one in part, later ones not. */
  readonly #cut: number;

  constructor(style: SurvivorStyle, random: SeededRandom, lastSequence: number) {
    this.#style = style;
    this.#random = random;
    this.#cut = random.between(0, lastSequence + 2);
  }

  keepsName(sequence: number): boolean {
    switch (this.#style) {
      case 'none':
      case 'data':
        return false;
      case 'all':
      case 'names':
        return true;
      case 'prefix':
        return sequence < this.#cut;
      case 'random':
        return this.#random.chance(0.5);
    }
  }

  contentOf(record: NodeRecord): SparseBytes {
    const content = record.durable.clone();
    switch (this.#style) {
      case 'none':
      case 'names':
        break;
      case 'all':
      case 'data':
        for (const change of record.pending) applyWhole(content, change);
        break;
      case 'prefix':
        for (const change of record.pending) {
          if (change.sequence < this.#cut) applyWhole(content, change);
          else if (change.sequence === this.#cut) this.#applyTorn(content, change);
        }
        break;
      case 'random':
        this.#applySubset(content, record.pending);
        break;
    }
    return content;
  }

  #applyTorn(content: SparseBytes, change: PendingChange): void {
    if (change.kind === 'truncate') return;
    const firstSector = Math.floor(change.position / SECTOR_BYTES);
    const end = (firstSector + this.#random.int(sectorCount(change) + 1)) * SECTOR_BYTES;
    const length = Math.max(0, Math.min(end - change.position, change.bytes.length));
    content.write(change.position, change.bytes.subarray(0, length));
  }

  /** One version per sector, and each change of the size on its own. */
  #applySubset(content: SparseBytes, pending: readonly PendingChange[]): void {
    // Some files should lose or keep nearly everything: a fair coin per sector would never do that.
    const share = this.#random.pick([0, 0.1, 0.5, 0.9, 1]);
    const versionCounts = new Map<number, number>();
    for (const change of pending) {
      if (change.kind === 'truncate') continue;
      forEachSector(change, (sector) => {
        versionCounts.set(sector, (versionCounts.get(sector) ?? 0) + 1);
      });
    }
    const chosen = new Map<number, number>();
    for (const [sector, count] of versionCounts) {
      // Version 0 is the durable one, `count` the newest.
      let version = count;
      if (!this.#random.chance(share)) version = this.#random.int(count);
      chosen.set(sector, version);
    }
    const seen = new Map<number, number>();
    for (const change of pending) {
      if (change.kind === 'truncate') {
        if (this.#random.chance(0.5)) content.truncate(change.sizeBytes);
        continue;
      }
      const end = change.position + change.bytes.length;
      if (end > content.sizeBytes && this.#random.chance(0.5)) content.truncate(end);
      forEachSector(change, (sector, pieceStart, pieceEnd) => {
        const version = (seen.get(sector) ?? 0) + 1;
        seen.set(sector, version);
        if (version > (chosen.get(sector) ?? 0)) return;
        const from = pieceStart - change.position;
        const to = pieceEnd - change.position;
        content.write(pieceStart, change.bytes.subarray(from, to));
      });
    }
  }
}

function applyWhole(content: SparseBytes, change: PendingChange): void {
  if (change.kind === 'truncate') content.truncate(change.sizeBytes);
  else content.write(change.position, change.bytes);
}

function sectorCount(change: PendingWrite): number {
  const first = Math.floor(change.position / SECTOR_BYTES);
  return Math.ceil((change.position + change.bytes.length) / SECTOR_BYTES) - first;
}

function forEachSector(
  change: PendingWrite,
  visit: (sector: number, pieceStart: number, pieceEnd: number) => void,
): void {
  const end = change.position + change.bytes.length;
  let start = change.position;
  while (start < end) {
    const sector = Math.floor(start / SECTOR_BYTES);
    const pieceEnd = Math.min((sector + 1) * SECTOR_BYTES, end);
    visit(sector, start, pieceEnd);
    start = pieceEnd;
  }
}
