// Everything that the engine does with a file, done with a mutated one. Each step ends in a value or
// a DrError; opening and the audit agree; nothing is written to what is refused; what is accepted
// for writing keeps every byte that was not written to and is in good order afterwards.

import { isDeepStrictEqual } from 'node:util';
import { DrError } from '../../shared/errors.js';
import type { FileSystem } from '../../shared/files/index.js';
import {
  checkVhdx,
  describeVhdx,
  mergeVhdx,
  openVhdx,
  readVhdxStream,
  type VhdxDisk,
} from '../../shared/vhdx/index.js';
import { HookedFileSystem, type Call } from '../support/hooked-file.js';
import type { MemoryFileSystem } from '../support/memory-file.js';
import { SeededRandom } from '../support/seeded-random.js';

const MIB = 1024 * 1024;
/** Calls that one step may make; an endless loop with I/O in it ends here. */
const CALLS_MAX = 50_000;
const READ_BYTES_MAX = 130 * MIB;
/** How much of a disk is read from its start and its end. */
const WINDOW_BYTES = 6 * MIB;
const EXTENTS_MAX = 5000;
const ZEROS = Buffer.alloc(WINDOW_BYTES);

export interface Outcome {
  readonly isOpened: boolean;
  readonly isWritten: boolean;
  readonly isMerged: boolean;
  readonly code: string;
}

class Step {
  calls = 0;
  changes = 0;
  readonly fs: FileSystem;

  constructor(inner: MemoryFileSystem) {
    const changing = new Set(['write', 'truncate', 'create', 'rename', 'remove']);
    this.fs = new HookedFileSystem(inner, <T>(call: Call, run: () => Promise<T>): Promise<T> => {
      if (++this.calls > CALLS_MAX) throw new Error(`more than ${CALLS_MAX} calls`);
      if ((call.bytes?.length ?? 0) > READ_BYTES_MAX) throw new Error('a huge buffer');
      if (changing.has(call.kind)) this.changes++;
      return run();
    });
  }

  get seams(): { fs: FileSystem; random: SeededRandom } {
    return { fs: this.fs, random: new SeededRandom(77) };
  }
}

async function attempt<T>(action: () => Promise<T>): Promise<T | DrError> {
  try {
    return await action();
  } catch (error) {
    if (error instanceof DrError && error.code !== 'E_INTERNAL') {
      if (error.line.length > 5000) throw new Error('a huge message', { cause: error });
      return error;
    }
    throw error;
  }
}

function demand(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Error(what);
}

interface Windows {
  readonly sizeBytes: number;
  readonly start: Buffer;
  readonly end: Buffer;
}

async function readWindows(disk: VhdxDisk): Promise<Windows> {
  const length = Math.min(WINDOW_BYTES, disk.sizeBytes);
  const start = Buffer.allocUnsafe(length).fill(0xee);
  const end = Buffer.alloc(Math.min(65536, length), 0xee);
  await disk.read(0, start);
  await disk.read(disk.sizeBytes - end.length, end);
  return { sizeBytes: disk.sizeBytes, start, end };
}

async function checkExtents(disk: VhdxDisk, { start }: Windows): Promise<void> {
  let position = 0;
  let count = 0;
  for await (const extent of disk.extents(0, disk.sizeBytes)) {
    demand(extent.start === position && extent.end > extent.start, 'extents without gap');
    position = extent.end;
    if (extent.kind === 'zero') {
      const part = start.subarray(extent.start, Math.min(extent.end, start.length));
      const isZero = part.equals(ZEROS.subarray(0, part.length));
      demand(isZero, 'what the map calls zero reads as zeros');
    }
    if (++count >= EXTENTS_MAX) return;
  }
  demand(position === disk.sizeBytes, 'extents reach the end of the disk');
}

/** Runs all steps; throws when a rule is broken. */
export async function runCase(volume: MemoryFileSystem, path: string): Promise<Outcome> {
  const reading = new Step(volume);
  const audit = await attempt(() => checkVhdx(path, reading.seams));
  await attempt(() => describeVhdx(path, reading.seams));
  const opened = await attempt(() => openVhdx(path, reading.seams));
  let windows: Windows | undefined;
  if (!(opened instanceof DrError)) {
    try {
      windows = await readWindows(opened);
      await checkExtents(opened, windows);
    } finally {
      await opened.close();
    }
  }
  demand(reading.changes === 0, 'reading changes nothing');
  if (!(audit instanceof DrError)) {
    const first = audit.violations[0];
    const code = opened instanceof DrError ? opened.code : undefined;
    const isChainFault = first?.code === 'E_VHDX_CHAIN';
    demand(
      first?.code === code || (isChainFault && code !== undefined),
      `the audit says ${first?.code ?? 'good'}, opening ${code ?? 'good'}`,
    );
  }
  await streamCase(volume, path, windows);
  const isWritten = await writeCase(volume.clone(), path, windows);
  const isMerged = await mergeCase(volume.clone(), path, windows);
  return {
    isOpened: windows !== undefined,
    isWritten,
    isMerged,
    code: opened instanceof DrError ? opened.code : 'good',
  };
}

async function writeCase(
  volume: MemoryFileSystem,
  path: string,
  before: Windows | undefined,
): Promise<boolean> {
  const step = new Step(volume);
  const disk = await attempt(() => openVhdx(path, { ...step.seams, isWritable: true }));
  if (disk instanceof DrError) {
    demand(step.changes === 0, 'nothing is written to what is refused');
    return false;
  }
  demand(before !== undefined, 'what may be written to may be read');
  const expected = Buffer.from(before.start);
  const random = new SeededRandom(3);
  try {
    for (let i = 0; i < 4; i++) {
      const at = random.int(expected.length / 512) * 512;
      const length = Math.min(random.pick([512, 4096, 100_000]), expected.length - at);
      const isZero = i === 2;
      const done = await attempt(async () => {
        if (isZero) await disk.zero(at, length);
        else await disk.write(at, Buffer.alloc(length, 0xa0 + i));
        return true;
      });
      if (done instanceof DrError) return false;
      expected.fill(isZero ? 0 : 0xa0 + i, at, at + length);
    }
    await disk.flush();
    const { start } = await readWindows(disk);
    demand(start.equals(expected), 'what was written is read, the rest is as it was');
  } finally {
    await disk.close();
  }
  const { violations, violationCount } = await checkVhdx(path, step.seams);
  demand(violationCount === 0, `after writing: ${violations[0]?.message ?? ''}`);
  const again = await openVhdx(path, step.seams);
  const { start } = await readWindows(again);
  await again.close();
  demand(start.equals(expected), 'what was written is read after opening again');
  return true;
}

async function mergeCase(
  volume: MemoryFileSystem,
  path: string,
  before: Windows | undefined,
): Promise<boolean> {
  if (!path.includes('child')) return false;
  const step = new Step(volume);
  const merged = await attempt(() => mergeVhdx(path, step.seams));
  if (merged instanceof DrError) {
    demand(before !== undefined || step.changes === 0, 'nothing is merged that cannot be read');
    return false;
  }
  demand(before !== undefined, 'what is merged may be read');
  const disk = await openVhdx(path, step.seams);
  const after = await readWindows(disk);
  await disk.close();
  demand(isDeepStrictEqual(after, before), 'merging changes nothing that a guest sees');
  const { violationCount } = await checkVhdx(path, step.seams);
  demand(violationCount === 0, 'the merged disk is in good order');
  return true;
}

async function streamCase(
  volume: MemoryFileSystem,
  path: string,
  windows: Windows | undefined,
): Promise<void> {
  const bytes = volume.nodeAt(path)?.bytes;
  if (bytes === undefined || bytes.sizeBytes > 64 * MIB) return;
  const source = async function* (): AsyncGenerator<Uint8Array> {
    await Promise.resolve();
    for (let at = 0; at < bytes.sizeBytes; at += MIB) {
      const chunk = Buffer.alloc(Math.min(MIB, bytes.sizeBytes - at));
      bytes.read(at, chunk);
      yield chunk;
    }
  };
  await attempt(async () => {
    const reader = await readVhdxStream(source(), path);
    const start = Buffer.alloc(Math.min(WINDOW_BYTES, reader.disk.sizeBytes));
    for await (const { offset, data } of reader.ranges) {
      demand(offset + data.length <= reader.disk.sizeBytes, 'ranges lie inside the disk');
      if (offset < start.length) data.copy(start, offset);
    }
    if (windows === undefined) return;
    demand(start.equals(windows.start), 'the stream and the file say the same');
  });
}
