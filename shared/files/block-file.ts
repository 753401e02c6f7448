// The disk seam. Everything that must survive a power cut goes through these two interfaces, so
// that the crash, fault and memory doubles of test/support can stand under the very code that
// production runs. Implementations: node-file.ts (real), test/support/{memory,crash,fault}-file.ts.
// One conformance suite (test/conformance/file-system.ts) is passed by all of them.
//
// Durability contract, the weakest that real systems give:
//   write     may survive a crash in any subset of 512-byte sectors until flush() returned
//   flush     after it returned, everything written or truncated before the call survives
//   create, rename, unlink    survive only after flushFolder() of the folder returned
//   a flush that failed       proves nothing about earlier writes, nor does a second try

export interface BlockFile {
  /** Path as given to open(), for messages. */
  readonly path: string;

  /**
   * Reads into `target` from byte `position`. Returns the number of bytes read, which is less than
   * target.length only at the end of the file. The buffer may be reused once the promise settled.
   * @throws DrError E_IO
   */
  read(position: number, target: Uint8Array): Promise<number>;

  /**
   * Writes all of `source` at byte `position`; a gap before it reads as zeros. Nothing is durable
   * on return. The buffer must not change until the promise settled.
   * @throws DrError E_IO, E_CAPACITY (device full; a part may have been written)
   */
  write(position: number, source: Uint8Array): Promise<void>;

  /** Current length in bytes. */
  size(): Promise<number>;

  /** Sets the length; new bytes read as zeros. @throws DrError E_IO, E_CAPACITY */
  truncate(sizeBytes: number): Promise<void>;

  /**
   * Makes an empty file so long that all of its bytes have room on the volume, which read as zeros. False
   * where the system cannot set room aside; the file is as it was then. @throws DrError E_IO, E_CAPACITY
   */
  reserve(sizeBytes: number): Promise<boolean>;

  /**
   * Durable on return: all writes and truncations that had returned before the call (fdatasync).
   * Never tried again after a failure: the second answer means nothing.
   * @throws DrError E_IO
   */
  flush(): Promise<void>;

  /**
   * The next half-open range [start, end) at or after `position` that may hold non-zero bytes, or
   * undefined when only zeros follow. Without knowledge of holes: everything up to the end.
   */
  nextData(position: number): Promise<{ start: number; end: number } | undefined>;

  /** Releases the handle and its lock. Not a flush. */
  close(): Promise<void>;
}

export type OpenMode =
  /** existing file, read only */
  | 'read'
  /** existing file, read and write */
  | 'write'
  /** new file, read and write; fails with E_EXISTS when the name is taken */
  | 'create';

export type LockKind =
  /** many readers, no writer */
  | 'shared'
  /** one writer, nobody else */
  | 'exclusive'
  | 'none';

export interface OpenOptions {
  readonly mode: OpenMode;
  /** Held until close() or the end of the process. Default: exclusive for writers, shared else. */
  readonly lock?: LockKind;
  /**
   * Large writes pass the page cache by, where the system can. For files that are written once,
   * mostly in aligned pieces of 64 KiB and more, and flushed often. Changes nothing else.
   */
  readonly isDirect?: boolean;
  /**
   * The new file is its owner's, the system's and the administrators' alone, wherever it is. POSIX: it always is. On Windows
   * files have the rights of their folder otherwise, and folders that we make are as this says.
   */
  readonly isSecret?: boolean;
}

export interface FileStatus {
  readonly sizeBytes: number;
  readonly kind: 'file' | 'folder' | 'other';
  /** Equal exactly for two names of one file (device and inode). */
  readonly identity: string;
  /** Of the last write, milliseconds since 1970; undefined where nobody can tell. */
  readonly modifiedAtMs?: number | undefined;
  /**
   * Others than its owner may read or change it: permissions of group or world (POSIX); anybody but the owner, the
   * system and administrators (Windows). undefined where nobody can tell.
   */
  readonly isExposed?: boolean | undefined;
  /** Of the same, those that may change it. */
  readonly isChangeableByOthers?: boolean | undefined;
  /** Its owner is neither root (Windows: the system or an administrator) nor who runs this process. */
  readonly isOwnedByAnother?: boolean | undefined;
}

export interface FileSystem {
  /** @throws DrError E_NOT_FOUND, E_EXISTS, E_LOCKED, E_IO, E_CAPACITY */
  open(path: string, options: OpenOptions): Promise<BlockFile>;
  /** Replaces `to` atomically; durable after flushFolder(). */
  rename(from: string, to: string): Promise<void>;
  /** Durable after flushFolder(). Removing what is not there is no error. */
  remove(path: string): Promise<void>;
  /** Makes creations, renames and removals in `folder` durable (where the system offers it). */
  flushFolder(folder: string): Promise<void>;
  /** undefined when nothing has that name. Follows symbolic links. */
  status(path: string): Promise<FileStatus | undefined>;
  /** Absolute path without symbolic links; the file must exist. */
  realPath(path: string): Promise<string>;
  /** Names in a folder, sorted. */
  list(folder: string): Promise<string[]>;
  /** Bytes that may still be written to the volume of a folder; undefined when nobody can tell. */
  freeBytes(folder: string): Promise<number | undefined>;
  /**
   * Creates a folder and its parents, durable on return; no error when it is there. On Windows they are for this account and
   * administrators alone, unless they are to have the rights of the folder above.
   */
  makeFolder(path: string, options?: { readonly inheritsRights?: boolean }): Promise<void>;
  /** Removes an empty folder, durable after flushFolder() of its parent; none there is no error. */
  removeFolder(path: string): Promise<void>;
}
