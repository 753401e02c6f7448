// Whether what a record of the progress file tells is in the files. A record is written together with
// its data, so after a power cut it may be there and its data not, or not all of it. The disk's record
// before it is true; so what lies between the two is read, at most some 8 MiB.
//
// Content decides, and nothing else: bytes that have the right CRC and the right SHA-256 are the right
// ones, whichever write brought them.

import {
  CELL_BYTES,
  cellCount,
  cellLength,
  hashCell,
  type ManifestHeader,
  readManifestPart,
} from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import type { BlockFile, FileSystem } from '../../shared/files/index.js';
import type { DiskFiles } from '../store/layout.js';
import { isDamaged } from './damage.js';
import type { DiskProgress, LastRecords } from './progress-file.js';
import { cellPlaces } from './staged-cells.js';

export interface SoundProgress extends DiskProgress {
  /**
   * Records of the manifest that are durable with their data. What is behind them was found in the
   * files, where a process that was killed may have left it in memory only. Undefined: not even the
   * beginning of the files is durable.
   */
  readonly durableRecords: number | undefined;
}

/** What of a disk counts: its last record, the one before, or nothing. */
export async function soundProgress(
  fs: FileSystem,
  disk: { readonly header: ManifestHeader; readonly files: DiskFiles },
  { last, before }: LastRecords,
): Promise<SoundProgress | undefined> {
  const { standing } = last;
  if (standing.kind !== 'ahead') return { ...last, durableRecords: last.recordCount };
  const { manifestCrc } = standing;
  if (await isThere(fs, disk, { from: before, to: last, manifestCrc })) {
    return { ...last, durableRecords: before?.recordCount };
  }
  return before && { ...before, durableRecords: before.recordCount };
}

interface Interval {
  /** Undefined: from the beginning of the files on. */
  readonly from: DiskProgress | undefined;
  readonly to: DiskProgress;
  readonly manifestCrc: number;
}

async function isThere(
  fs: FileSystem,
  { header, files }: { readonly header: ManifestHeader; readonly files: DiskFiles },
  interval: Interval,
): Promise<boolean> {
  let manifest: BlockFile | undefined;
  let data: BlockFile | undefined;
  try {
    manifest = await fs.open(files.manifest, { mode: 'read', lock: 'none' });
    data = await fs.open(files.data, { mode: 'read', lock: 'none' });
    return await hasInterval(header, { manifest, data }, interval);
  } catch (error) {
    // a sector that cannot be read holds nothing that counts, and must not stop the VM's next cycle
    if (isDamaged(error) || (error instanceof DrError && error.code === 'E_IO')) return false;
    throw error;
  } finally {
    await manifest?.close();
    await data?.close();
  }
}

/** @throws DeltaError E_DELTA_MANIFEST, which is no as well */
async function hasInterval(
  header: ManifestHeader,
  { manifest, data }: { readonly manifest: BlockFile; readonly data: BlockFile },
  { from, to, manifestCrc }: Interval,
): Promise<boolean> {
  const recordCount = from?.recordCount ?? 0;
  if (to.recordCount < recordCount) return false;
  let lastCell = 0;
  if (header.kind === 'base' && recordCount > 0) {
    const last = { from: recordCount - 1, to: recordCount };
    await readManifestPart(header, manifest, last, (record) => {
      lastCell = record.cell;
    });
  }
  const placeOf = cellPlaces(header, from && { ...from, lastCell });
  const cells = cellCount(header.diskSizeBytes);
  const found = { isSound: true, dataBytes: from?.dataBytes ?? 0 };
  const buffer = Buffer.allocUnsafe(CELL_BYTES);
  const part = { from: from?.recordCount, to: to.recordCount };
  const crc = await readManifestPart(header, manifest, part, async (record) => {
    if (!found.isSound || record.kind === 'zero') return;
    found.isSound = record.cell < cells;
    if (!found.isSound) return;
    const bytes = buffer.subarray(0, cellLength(record.cell, header.diskSizeBytes));
    found.isSound = await hasCell(data, placeOf(record.cell), bytes, record.hash);
    found.dataBytes += bytes.length;
  });
  return found.isSound && crc === manifestCrc && found.dataBytes === to.dataBytes;
}

async function hasCell(
  file: BlockFile,
  place: number,
  bytes: Buffer,
  hash: Buffer,
): Promise<boolean> {
  const count = await file.read(place, bytes);
  return count === bytes.length && hashCell(bytes).equals(hash);
}
