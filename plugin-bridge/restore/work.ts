// What a session of the plugin protocol drives while a job restores. One work for each backend of the
// job; several of one job go on with one another's session, which lies on disk.

/** One file, folder or empty file that the volume delivers, before its bytes. */
export interface RestoreEntry {
  /** Below the namespace: `SQL01/disks/…`. */
  readonly path: string;
  readonly namespace: '@hyperv' | '@vsphere' | '@proxmox_';
  /** The whole name as Bacula gives it, with the job's Where in front. */
  readonly placedAt: string;
  readonly kind: 'file' | 'empty' | 'folder';
  /** As the catalog says; approximate. */
  readonly sizeBytes: number;
  readonly modifiedAtMs: number;
}

/** `core`: Bacula writes the file itself, under the job's Where. */
export type RestoreAnswer = 'take' | 'skip' | 'core';

export interface RestoreWork {
  /** A restore object of the job, before the first file. */
  object(name: string, bytes: Buffer): Promise<void>;

  /** @throws DrError: this file fails, the rest of the job goes on */
  begin(entry: RestoreEntry): Promise<RestoreAnswer>;

  /**
   * The bytes of the entry that was taken. The session drains what is left when this ends early.
   * @throws DrError: this file fails, the rest of the job goes on
   */
  data(content: AsyncIterable<Buffer>): Promise<void>;

  /**
   * To be called after each entry that was taken, before the next one and before finish().
   * @throws DrError: this file fails, the rest of the job goes on
   */
  endFile(): Promise<void>;

  /** Checks all, and registers what is to be registered. @throws DrError: the job is red */
  finish(): Promise<void>;

  /** The job was cancelled, or Bacula went away. What cannot be gone on with is removed. */
  abandon(): Promise<void>;
}
