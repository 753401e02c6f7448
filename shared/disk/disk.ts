// What a guest sees: a flat, sector-addressed range of bytes. VHDX chains, raw files and layered
// views (base + deltas) all look like this, so convert, diff, apply, verify and export know one
// thing only.

/** What a range of a disk is made of, as far as it is known without reading the payload. */
export type ExtentKind =
  /** bytes are stored and must be read */
  | 'data'
  /** reads as zeros, known without reading */
  | 'zero'
  /** this layer says nothing; the parent decides (only in the map of a single layer) */
  | 'parent';

/** A half-open range [start, end) of guest bytes. */
export interface Extent {
  readonly start: number;
  readonly end: number;
  readonly kind: ExtentKind;
}

export interface ReadableDisk {
  /** Guest-visible size in bytes. */
  readonly sizeBytes: number;
  /** 512 or 4096. */
  readonly logicalSectorBytes: number;
  /** 512 or 4096. */
  readonly physicalSectorBytes: number;

  /**
   * Fills all of `target` with guest bytes from `offset` on. The range must lie inside the disk.
   * Several reads may be under way at once.
   */
  read(offset: number, target: Uint8Array): Promise<void>;

  /**
   * The extents that cover [start, end) without gap or overlap, in order, neighbours of one kind
   * joined. Cost follows the number of extents, not the size of the disk.
   */
  extents(start: number, end: number): AsyncIterable<Extent>;

  close(): Promise<void>;
}

export interface WritableDisk extends ReadableDisk {
  /** Writes guest bytes; durable only after flush(). The buffer is the caller's again on return. */
  write(offset: number, source: Uint8Array): Promise<void>;
  /** Makes a range read as zeros, giving space back where whole blocks are covered. */
  zero(offset: number, lengthBytes: number): Promise<void>;
  /** Durable on return: every write() and zero() that had returned before the call. */
  flush(): Promise<void>;
}
