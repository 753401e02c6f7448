// A file system as the early warning's tests need one: files on blocks of 4 KiB that can be written,
// changed in place and removed, and the disk below as the hypervisor sees it. PlainVolume is the
// simplest one; the bench has another, on real ext4.

const BLOCK = 4096;
/** In place of a block of zeros that the file system did not allot; what is written there is dropped. */
export const HOLE = -1;

export interface VolumeFile {
  readonly path: string;
  readonly sizeBytes: number;
  /** Of the disk, in the order of the file. */
  readonly blocks: readonly number[];
}

export interface Volume {
  readonly files: readonly VolumeFile[];
  /** A new file. */
  write(path: string, bytes: Buffer): void;
  /** The blocks keep their bytes, or are given back as zeros. */
  remove(path: string, isTrimmed?: boolean): void;
  read(path: string): Buffer;
  /** Changes bytes of a file where they are. */
  overwrite(path: string, offset: number, bytes: Buffer): void;
  /** The whole disk, to be looked at before the next change. */
  image(): Buffer;
  close(): void;
}

/** Bytes of blocks on a disk, as a file's own bytes. */
export function readBlocks(disk: Buffer, { blocks, sizeBytes }: VolumeFile): Buffer {
  const out = Buffer.alloc(blocks.length * BLOCK);
  for (const [index, block] of blocks.entries()) {
    if (block === HOLE) continue;
    disk.copy(out, index * BLOCK, block * BLOCK, (block + 1) * BLOCK);
  }
  return out.subarray(0, sizeBytes);
}

/** The parts of the disk that a change of a file's bytes concerns, in the file's order. */
export function* placesOf(
  { blocks }: VolumeFile,
  offset: number,
  lengthBytes: number,
): Generator<{ readonly position: number; readonly from: number; readonly to: number }> {
  for (let at = offset; at < offset + lengthBytes;) {
    const end = Math.min(offset + lengthBytes, (Math.floor(at / BLOCK) + 1) * BLOCK);
    const block = blocks[Math.floor(at / BLOCK)];
    if (block === undefined) throw new Error('the change goes beyond the file');
    if (block !== HOLE) {
      yield { position: block * BLOCK + (at % BLOCK), from: at - offset, to: end - offset };
    }
    at = end;
  }
}

/** Files one behind the other, first fit; what is freed is used again. Block 0 is nobody's. */
export class PlainVolume implements Volume {
  readonly #disk: Buffer;
  readonly #isUsed: boolean[];
  readonly #files = new Map<string, VolumeFile>();

  constructor(sizeBytes: number) {
    this.#disk = Buffer.alloc(sizeBytes);
    this.#isUsed = Array.from({ length: sizeBytes / BLOCK }, (_, block) => block === 0);
  }

  get files(): readonly VolumeFile[] {
    return [...this.#files.values()];
  }

  #file(path: string): VolumeFile {
    const file = this.#files.get(path);
    if (file === undefined) throw new Error(`there is no file ${path}`);
    return file;
  }

  write(path: string, bytes: Buffer): void {
    const wanted = Math.ceil(bytes.length / BLOCK);
    const blocks: number[] = [];
    for (let block = 1; block < this.#isUsed.length && blocks.length < wanted; block++) {
      if (this.#isUsed[block] !== true) blocks.push(block);
    }
    if (blocks.length < wanted) throw new Error(`no room for ${path}`);
    for (const block of blocks) this.#isUsed[block] = true;
    this.#files.set(path, { path, sizeBytes: bytes.length, blocks });
    const whole = Buffer.alloc(wanted * BLOCK);
    bytes.copy(whole);
    this.#put({ path, sizeBytes: whole.length, blocks }, 0, whole);
  }

  #put(file: VolumeFile, offset: number, bytes: Buffer): void {
    for (const { position, from, to } of placesOf(file, offset, bytes.length)) {
      bytes.copy(this.#disk, position, from, to);
    }
  }

  remove(path: string, isTrimmed = false): void {
    const { blocks } = this.#file(path);
    for (const block of blocks) {
      this.#isUsed[block] = false;
      if (isTrimmed) this.#disk.fill(0, block * BLOCK, (block + 1) * BLOCK);
    }
    this.#files.delete(path);
  }

  read(path: string): Buffer {
    return readBlocks(this.#disk, this.#file(path));
  }

  overwrite(path: string, offset: number, bytes: Buffer): void {
    this.#put(this.#file(path), offset, bytes);
  }

  image(): Buffer {
    return this.#disk;
  }

  close(): void {
    // nothing outside memory
  }
}
