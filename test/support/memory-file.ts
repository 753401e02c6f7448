// A file system in memory: the plain double of nodeFileSystem. Files are sparse (a 64 TiB file
// costs its written pages), locks and identities behave as on a real system, an open file outlives
// its name. It has no faults and no crash of its own: crash-file.ts and fault-file.ts add those.
//
// Paths are taken from the root "/" when relative. Folders are "/" and what makeFolder() made.

import { dirname, resolve } from 'node:path';
import { assert } from '../../shared/assert.js';
import { DrError } from '../../shared/errors.js';
import type {
  BlockFile,
  FileStatus,
  FileSystem,
  LockKind,
  OpenOptions,
} from '../../shared/files/index.js';
import { SparseBytes } from './sparse-bytes.js';

/** A file apart from its names. */
export class MemoryNode {
  readonly id: number;
  readonly bytes: SparseBytes;
  /** Locks held by open handles. */
  sharedCount = 0;
  isExclusive = false;

  constructor(id: number, bytes: SparseBytes) {
    this.id = id;
    this.bytes = bytes;
  }
}

export class MemoryFileSystem implements FileSystem {
  readonly #names = new Map<string, MemoryNode>();
  readonly #folders = new Set<string>([resolve('/')]);
  #nextId = 1;

  async open(path: string, options: OpenOptions): Promise<BlockFile> {
    await Promise.resolve();
    const key = keyOf(path);
    let node = this.#names.get(key);
    if (options.mode === 'create') {
      if (node !== undefined || this.#folders.has(key)) {
        throw new DrError('E_EXISTS', `cannot create ${path}: it exists`, { context: { path } });
      }
      this.#requireFolder(dirname(key), path);
      node = this.newNode(new SparseBytes());
      this.#names.set(key, node);
    }
    if (node === undefined) {
      if (this.#folders.has(key)) {
        throw new DrError('E_IO', `cannot open ${path}: it is a folder, not a file`, {
          context: { path },
        });
      }
      throw notFound('open', path);
    }
    const lock = options.lock ?? (options.mode === 'read' ? 'shared' : 'exclusive');
    takeLock(node, lock, path);
    return new MemoryFile(path, node, options.mode !== 'read', lock);
  }

  async rename(from: string, to: string): Promise<void> {
    await Promise.resolve();
    const node = this.#names.get(keyOf(from));
    if (node === undefined) throw notFound('rename', from);
    if (this.#folders.has(keyOf(to))) {
      throw new DrError('E_IO', `cannot rename ${from} to ${to}: that is a folder`, {
        context: { path: from },
      });
    }
    this.#requireFolder(dirname(keyOf(to)), to);
    this.#names.delete(keyOf(from));
    this.#names.set(keyOf(to), node);
  }

  async remove(path: string): Promise<void> {
    await Promise.resolve();
    if (this.#folders.has(keyOf(path))) {
      throw new DrError('E_IO', `cannot remove ${path}: it is a folder`, { context: { path } });
    }
    this.#names.delete(keyOf(path));
  }

  async flushFolder(folder: string): Promise<void> {
    await Promise.resolve();
    this.#requireFolder(keyOf(folder), folder);
  }

  async status(path: string): Promise<FileStatus | undefined> {
    await Promise.resolve();
    const key = keyOf(path);
    if (this.#folders.has(key)) return { sizeBytes: 0, kind: 'folder', identity: `folder:${key}` };
    const node = this.#names.get(key);
    if (node === undefined) return undefined;
    return { sizeBytes: node.bytes.sizeBytes, kind: 'file', identity: `memory:${node.id}` };
  }

  async realPath(path: string): Promise<string> {
    await Promise.resolve();
    const key = keyOf(path);
    if (!this.#names.has(key) && !this.#folders.has(key)) throw notFound('resolve', path);
    return key;
  }

  async list(folder: string): Promise<string[]> {
    await Promise.resolve();
    const key = keyOf(folder);
    this.#requireFolder(key, folder);
    return [...this.#names.keys(), ...this.#folders]
      .filter((name) => name !== key && dirname(name) === key)
      .map((name) => name.slice(key.endsWith('/') ? key.length : key.length + 1))
      .sort();
  }

  async makeFolder(path: string): Promise<void> {
    await Promise.resolve();
    let key = keyOf(path);
    const made: string[] = [];
    while (!this.#folders.has(key)) {
      if (this.#names.has(key)) {
        throw new DrError('E_EXISTS', `cannot create the folder ${path}: ${key} is a file`, {
          context: { path },
        });
      }
      made.push(key);
      key = dirname(key);
    }
    for (const folder of made) this.#folders.add(folder);
  }

  async freeBytes(folder: string): Promise<number | undefined> {
    await Promise.resolve();
    this.#requireFolder(keyOf(folder), folder);
    return undefined;
  }

  async removeFolder(path: string): Promise<void> {
    await Promise.resolve();
    const key = keyOf(path);
    if (!this.#folders.has(key)) return;
    if ((await this.list(path)).length > 0) {
      throw new DrError('E_IO', `cannot remove the folder ${path}: it is not empty`, {
        context: { path },
      });
    }
    this.#folders.delete(key);
  }

  // For tests and for the other doubles.

  /** All bytes of a file, or undefined when there is none. */
  content(path: string): Buffer | undefined {
    return this.#names.get(keyOf(path))?.bytes.toBuffer();
  }

  /** Creates or replaces a file, with its folders. */
  put(path: string, bytes: Uint8Array): void {
    const content = new SparseBytes();
    content.write(0, bytes);
    this.placeNode(path, this.newNode(content));
  }

  /** Memory that the file's written pages take. */
  storedBytes(path: string): number {
    return this.#names.get(keyOf(path))?.bytes.storedBytes ?? 0;
  }

  /** Another file system with the same files and no open handles. */
  clone(): MemoryFileSystem {
    const copy = new MemoryFileSystem();
    const nodes = new Map<MemoryNode, MemoryNode>();
    for (const folder of this.#folders) copy.#folders.add(folder);
    for (const [name, node] of this.#names) {
      const known = nodes.get(node) ?? copy.newNode(node.bytes.clone());
      nodes.set(node, known);
      copy.#names.set(name, known);
    }
    return copy;
  }

  nodeAt(path: string): MemoryNode | undefined {
    return this.#names.get(keyOf(path));
  }

  newNode(bytes: SparseBytes): MemoryNode {
    return new MemoryNode(this.#nextId++, bytes);
  }

  /** Gives a node a name (creating folders), replacing what has it. */
  placeNode(path: string, node: MemoryNode): void {
    let folder = dirname(keyOf(path));
    while (!this.#folders.has(folder)) {
      this.#folders.add(folder);
      folder = dirname(folder);
    }
    this.#names.set(keyOf(path), node);
  }

  addFolder(path: string): void {
    this.#folders.add(keyOf(path));
  }

  /** Absolute names of all files, with slashes, sorted. */
  get paths(): string[] {
    return [...this.#names.keys()].map(posixName).sort();
  }

  /** Absolute names of all folders, with slashes. */
  get folders(): string[] {
    return [...this.#folders].map(posixName);
  }

  #requireFolder(key: string, path: string): void {
    if (!this.#folders.has(key)) throw notFound('reach the folder of', path);
  }
}

class MemoryFile implements BlockFile {
  readonly path: string;
  readonly #node: MemoryNode;
  readonly #isWritable: boolean;
  readonly #lock: LockKind;
  #isClosed = false;

  constructor(path: string, node: MemoryNode, isWritable: boolean, lock: LockKind) {
    this.path = path;
    this.#node = node;
    this.#isWritable = isWritable;
    this.#lock = lock;
  }

  async read(position: number, target: Uint8Array): Promise<number> {
    this.#requireOpen();
    await Promise.resolve();
    return this.#node.bytes.read(position, target);
  }

  async write(position: number, source: Uint8Array): Promise<void> {
    this.#requireOpen();
    this.#requireWritable('write');
    this.#node.bytes.write(position, source);
    await Promise.resolve();
  }

  async size(): Promise<number> {
    this.#requireOpen();
    await Promise.resolve();
    return this.#node.bytes.sizeBytes;
  }

  async truncate(sizeBytes: number): Promise<void> {
    this.#requireOpen();
    this.#requireWritable('set the size of');
    this.#node.bytes.truncate(sizeBytes);
    await Promise.resolve();
  }

  async reserve(sizeBytes: number): Promise<boolean> {
    await this.truncate(sizeBytes);
    return true;
  }

  async flush(): Promise<void> {
    this.#requireOpen();
    await Promise.resolve();
  }

  async nextData(position: number): Promise<{ start: number; end: number } | undefined> {
    this.#requireOpen();
    await Promise.resolve();
    return this.#node.bytes.nextData(position);
  }

  async close(): Promise<void> {
    await Promise.resolve();
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (this.#lock === 'shared') this.#node.sharedCount--;
    if (this.#lock === 'exclusive') this.#node.isExclusive = false;
  }

  #requireOpen(): void {
    assert(!this.#isClosed, 'no file is used after close()');
  }

  #requireWritable(action: string): void {
    if (this.#isWritable) return;
    throw new DrError('E_IO', `cannot ${action} ${this.path}: it is open for reading`, {
      context: { path: this.path },
    });
  }
}

function keyOf(path: string): string {
  return resolve('/', path);
}

/** As tests name files, also where they run on Windows. */
export function posixName(path: string): string {
  return process.platform === 'win32' ? path.replace(/^[A-Z]:/i, '').replaceAll('\\', '/') : path;
}

function notFound(action: string, path: string): DrError {
  return new DrError('E_NOT_FOUND', `cannot ${action} ${path}: it is not there`, {
    context: { path },
  });
}

function takeLock(node: MemoryNode, lock: LockKind, path: string): void {
  const isRefused =
    lock === 'shared'
      ? node.isExclusive
      : lock === 'exclusive' && (node.isExclusive || node.sharedCount > 0);
  if (isRefused) {
    throw new DrError('E_LOCKED', `${path} is in use`, { context: { path, lock } });
  }
  if (lock === 'shared') node.sharedCount++;
  if (lock === 'exclusive') node.isExclusive = true;
}
