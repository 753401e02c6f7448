// A real ext4 file system in a file, changed with debugfs, for the bench of the early warning: where
// files lie, what stays behind when they are removed and what is used again is decided by e2fsprogs.

import { spawnSync } from 'node:child_process';
import {
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { DrError } from '../shared/errors.js';
import { findTool } from '../test/support/need.js';
import {
  HOLE,
  placesOf,
  readBlocks,
  type Volume,
  type VolumeFile,
} from '../test/support/volume.js';

const BLOCK = 4096;
const FIXED_ID = '68766472-0000-4000-8000-64656d6f0002';
const OUTPUT_MAX = 256 * 1024 * 1024;

function run(tool: string, ...words: string[]): string {
  const path = findTool(tool);
  if (path === undefined) {
    throw new DrError('E_TOOL_MISSING', `${tool} is not installed`, {
      hint: 'Debian: apt-get install e2fsprogs',
    });
  }
  const result = spawnSync(path, words, { encoding: 'utf8', maxBuffer: OUTPUT_MAX });
  if (result.status === 0) return result.stdout;
  throw new DrError('E_TOOL_FAILED', `${tool} ${words.join(' ')}: ${result.stderr}`);
}

/** A hole at the end has no extent that would tell of it. */
function withTail(blocks: number[], sizeBytes: number): number[] {
  while (blocks.length * BLOCK < sizeBytes) blocks.push(HOLE);
  return blocks;
}

export class Ext4Volume implements Volume {
  readonly #folder: string;
  readonly #path: string;
  readonly #sizes = new Map<string, number>();
  readonly #folders = new Set<string>();
  #commands: string[] = [];
  #staged = 0;
  readonly #known = new Map<string, VolumeFile>();
  /** Files of which it is not known yet where they lie. */
  #new: string[] = [];
  #image: Buffer | undefined;

  /** Makes an empty file system in `folder`, which is the volume's own. */
  constructor(folder: string, sizeBytes: number) {
    this.#folder = folder;
    this.#path = join(folder, 'ext4.img');
    mkdirSync(folder, { recursive: true });
    run(
      'mke2fs',
      ...['-q', '-t', 'ext4', '-F', '-b', String(BLOCK), '-U', FIXED_ID, '-m', '0'],
      ...['-O', '^has_journal', this.#path, `${sizeBytes / 1024}k`],
    );
  }

  write(path: string, bytes: Buffer): void {
    const parent = path.slice(0, path.lastIndexOf('/'));
    if (!this.#folders.has(parent)) this.#commands.push(`mkdir ${parent}`);
    this.#folders.add(parent);
    const staged = join(this.#folder, `staged-${this.#staged++}`);
    writeFileSync(staged, bytes);
    this.#commands.push(`write ${staged} ${path}`);
    this.#sizes.set(path, bytes.length);
    this.#new.push(path);
  }

  remove(path: string, isTrimmed = false): void {
    if (isTrimmed) {
      const { blocks } = this.#file(path);
      for (const block of blocks) {
        if (block !== HOLE) this.#put(block * BLOCK, Buffer.alloc(BLOCK));
      }
    }
    this.#commands.push(`rm ${path}`);
    this.#sizes.delete(path);
    this.#known.delete(path);
    this.#new = this.#new.filter((each) => each !== path);
  }

  #flush(): void {
    if (this.#commands.length === 0) return;
    this.#debugfs(this.#commands, true);
    this.#commands = [];
    for (let n = 0; n < this.#staged; n++)
      rmSync(join(this.#folder, `staged-${n}`), { force: true });
    this.#image = undefined;
  }

  #debugfs(commands: readonly string[], isWriting: boolean): string {
    const script = join(this.#folder, 'commands');
    writeFileSync(script, `${commands.join('\n')}\n`);
    return run('debugfs', ...(isWriting ? ['-w'] : []), '-f', script, this.#path);
  }

  get files(): readonly VolumeFile[] {
    this.#locate();
    return [...this.#known.values()];
  }

  #locate(): void {
    if (this.#new.length === 0) return;
    this.#flush();
    for (const file of this.#extents(this.#new)) this.#known.set(file.path, file);
    this.#new = [];
  }

  /** Where each file lies, as debugfs tells: "level/depth entry/entries first - last from - to count". */
  #extents(paths: readonly string[]): VolumeFile[] {
    const output = this.#debugfs(
      paths.map((path) => `dump_extents -l ${path}`),
      false,
    );
    const blocks = new Map<string, number[]>();
    let current: number[] = [];
    for (const line of output.split('\n')) {
      const path = /^debugfs: dump_extents -l (\S+)/.exec(line)?.[1];
      if (path !== undefined) {
        current = [];
        blocks.set(path, current);
      }
      const extent = /^\s*\d+\/\s*\d+\s+\d+\/\s*\d+\s+(\d+) -\s+\d+\s+(\d+) -\s+(\d+)/.exec(line);
      if (extent === null) continue;
      const first = Number(extent[1]);
      while (current.length < first) current.push(HOLE);
      for (let block = Number(extent[2]); block <= Number(extent[3]); block++) current.push(block);
    }
    return paths.map((path) => ({
      path,
      sizeBytes: this.#sizes.get(path) ?? 0,
      blocks: withTail(blocks.get(path) ?? [], this.#sizes.get(path) ?? 0),
    }));
  }

  #file(path: string): VolumeFile {
    if (!this.#known.has(path)) this.#locate();
    const file = this.#known.get(path);
    if (file === undefined) throw new DrError('E_NOT_FOUND', `there is no file ${path}`);
    return file;
  }

  read(path: string): Buffer {
    const file = this.#file(path);
    if (this.#image !== undefined) return readBlocks(this.#image, file);
    const out = Buffer.alloc(file.blocks.length * BLOCK);
    const image = openSync(this.#path, 'r');
    try {
      for (const [index, block] of file.blocks.entries()) {
        if (block !== HOLE) readSync(image, out, index * BLOCK, BLOCK, block * BLOCK);
      }
    } finally {
      closeSync(image);
    }
    return out.subarray(0, file.sizeBytes);
  }

  overwrite(path: string, offset: number, bytes: Buffer): void {
    for (const { position, from, to } of placesOf(this.#file(path), offset, bytes.length)) {
      this.#put(position, bytes.subarray(from, to));
    }
  }

  #put(position: number, bytes: Buffer): void {
    const image = openSync(this.#path, 'r+');
    try {
      writeSync(image, bytes, 0, bytes.length, position);
    } finally {
      closeSync(image);
    }
    if (this.#image !== undefined) bytes.copy(this.#image, position);
  }

  image(): Buffer {
    this.#flush();
    this.#image ??= readFileSync(this.#path);
    return this.#image;
  }

  close(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
