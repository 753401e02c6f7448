// Wraps any file system and shows every call to a hook, which runs it, changes it or refuses it.
// fault-file.ts and counting-file.ts are hooks.

import type { BlockFile, FileStatus, FileSystem, OpenOptions } from '../../shared/files/index.js';

export type CallKind =
  | 'open'
  | 'create'
  | 'read'
  | 'write'
  | 'size'
  | 'truncate'
  | 'reserve'
  | 'flush'
  | 'nextData'
  | 'close'
  | 'rename'
  | 'remove'
  | 'flushFolder'
  | 'status'
  | 'realPath'
  | 'list'
  | 'makeFolder'
  | 'removeFolder'
  | 'freeBytes';

export interface Call {
  readonly kind: CallKind;
  /** The file or folder; the old name of a rename. */
  readonly path: string;
  readonly position?: number;
  /** What a read fills or a write takes. */
  readonly bytes?: Uint8Array;
  /** The wrapped file, for calls on one. */
  readonly file?: BlockFile;
}

export type Hook = <T>(call: Call, run: () => Promise<T>) => Promise<T>;

export class HookedFileSystem implements FileSystem {
  readonly #inner: FileSystem;
  readonly #hook: Hook;

  constructor(inner: FileSystem, hook: Hook) {
    this.#inner = inner;
    this.#hook = hook;
  }

  open(path: string, options: OpenOptions): Promise<BlockFile> {
    const kind = options.mode === 'create' ? 'create' : 'open';
    return this.#hook({ kind, path }, async () => {
      const file = await this.#inner.open(path, options);
      return new HookedFile(file, this.#hook);
    });
  }

  rename(from: string, to: string): Promise<void> {
    return this.#hook({ kind: 'rename', path: from }, () => this.#inner.rename(from, to));
  }

  remove(path: string): Promise<void> {
    return this.#hook({ kind: 'remove', path }, () => this.#inner.remove(path));
  }

  flushFolder(folder: string): Promise<void> {
    return this.#hook({ kind: 'flushFolder', path: folder }, () => this.#inner.flushFolder(folder));
  }

  status(path: string): Promise<FileStatus | undefined> {
    return this.#hook({ kind: 'status', path }, () => this.#inner.status(path));
  }

  realPath(path: string): Promise<string> {
    return this.#hook({ kind: 'realPath', path }, () => this.#inner.realPath(path));
  }

  list(folder: string): Promise<string[]> {
    return this.#hook({ kind: 'list', path: folder }, () => this.#inner.list(folder));
  }

  makeFolder(path: string): Promise<void> {
    return this.#hook({ kind: 'makeFolder', path }, () => this.#inner.makeFolder(path));
  }

  freeBytes(folder: string): Promise<number | undefined> {
    return this.#hook({ kind: 'freeBytes', path: folder }, () => this.#inner.freeBytes(folder));
  }

  removeFolder(path: string): Promise<void> {
    return this.#hook({ kind: 'removeFolder', path }, () => this.#inner.removeFolder(path));
  }
}

class HookedFile implements BlockFile {
  readonly path: string;
  readonly #inner: BlockFile;
  readonly #hook: Hook;

  constructor(inner: BlockFile, hook: Hook) {
    this.path = inner.path;
    this.#inner = inner;
    this.#hook = hook;
  }

  read(position: number, target: Uint8Array): Promise<number> {
    const call: Call = { ...this.#call('read'), position, bytes: target };
    return this.#hook(call, () => this.#inner.read(position, target));
  }

  write(position: number, source: Uint8Array): Promise<void> {
    const call: Call = { ...this.#call('write'), position, bytes: source };
    return this.#hook(call, () => this.#inner.write(position, source));
  }

  size(): Promise<number> {
    return this.#hook(this.#call('size'), () => this.#inner.size());
  }

  truncate(sizeBytes: number): Promise<void> {
    return this.#hook({ ...this.#call('truncate'), position: sizeBytes }, () =>
      this.#inner.truncate(sizeBytes),
    );
  }

  reserve(sizeBytes: number): Promise<boolean> {
    return this.#hook({ ...this.#call('reserve'), position: sizeBytes }, () =>
      this.#inner.reserve(sizeBytes),
    );
  }

  flush(): Promise<void> {
    return this.#hook(this.#call('flush'), () => this.#inner.flush());
  }

  nextData(position: number): Promise<{ start: number; end: number } | undefined> {
    return this.#hook({ ...this.#call('nextData'), position }, () =>
      this.#inner.nextData(position),
    );
  }

  close(): Promise<void> {
    return this.#hook(this.#call('close'), () => this.#inner.close());
  }

  #call(kind: CallKind): Call {
    return { kind, path: this.path, file: this.#inner };
  }
}
