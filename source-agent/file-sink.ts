// Where a backup's files go: Bacula's storage, or whatever stands for it. Implemented over the plugin
// protocol by the bridge, and by tests in memory.

export interface FileEntry {
  /** `SQL01/disks/…`, below the namespace; ends with `/` for a folder. */
  readonly path: string;
  /** As announced; may be approximate. */
  readonly sizeBytes: number;
  readonly modifiedAtMs: number;
}

/** A row of Bacula's table of objects: what a console shows of a VM. */
export interface PluginObject {
  readonly path: string;
  readonly name: string;
  readonly category: string;
  readonly type: string;
  readonly source?: string;
  readonly uuid?: string;
  readonly sizeBytes?: number;
  readonly status?: 'OK' | 'WARNING' | 'ERROR' | 'FATAL';
}

export interface FileSink {
  /**
   * Takes one file; resolves when its last byte was handed on. When `content` throws, the file is
   * marked truncated at the sink and the error is thrown on.
   */
  file(entry: FileEntry, content: AsyncIterable<Buffer>): Promise<void>;
  /** The job was cancelled. */
  readonly signal: AbortSignal;
  say(kind: 'info' | 'warning' | 'error', text: string): void;
  /** No effect where Bacula does not know plugin objects. */
  pluginObject?(object: PluginObject): Promise<void>;
  restoreObject?(name: string, bytes: Buffer): Promise<void>;
}
