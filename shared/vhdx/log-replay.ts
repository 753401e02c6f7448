// Replaying a dirty log (§ 6). Finding what to replay is separate from doing it: the same plan is
// laid over the file in memory (read-only, and for checking first) or written to it.
//
// Replay is idempotent. A crash during it is harmless, because the header keeps its log GUID until
// every page is durable.

import type { Guid } from '../bytes/index.js';
import type { BlockFile } from '../files/index.js';
import {
  FILE_SIZE_MAX,
  LOG_SECTOR_BYTES,
  LOG_ZERO_MAX_BYTES,
  LOG_ZERO_RECORDS_MAX,
  MIB,
  REGION_TABLE_OFFSETS,
} from './format.js';
import type { Header } from './header.js';
import {
  logRecords,
  validateLogEntry,
  type LogEntryHeader,
  type LogRecord,
  type SectorAt,
} from './log-entry.js';
import { OverlayFile } from './overlay-file.js';
import { effectOf, endOf } from './replay-effect.js';
import type { Report } from './violation.js';

export interface ReplayPlan {
  /** In the order in which they must be applied; nothing in it is undone by what follows. */
  readonly records: readonly LogRecord[];
  /** Length of the file afterwards. */
  readonly fileSizeBytes: number;
  readonly lastSequenceNumber: bigint;
}

/** The active sequence: the entries from the tail of the last one to the last one. */
interface Sequence {
  readonly entries: readonly { readonly offset: number; readonly header: LogEntryHeader }[];
  readonly last: LogEntryHeader;
}

/**
 * What a dirty log says must be written, or undefined when a violation was reported. Memory is
 * bounded by the log's length, which checkHeader has capped.
 */
export async function planReplay(
  file: BlockFile,
  header: Header,
  report: Report,
): Promise<ReplayPlan | undefined> {
  const { logOffset, logLengthBytes, logGuid } = header;
  const log = Buffer.alloc(logLengthBytes);
  await file.read(logOffset, log);
  const sectorAt: SectorAt = (offset) => log.subarray(offset, offset + LOG_SECTOR_BYTES);
  const wrong = (offset: number, message: string): undefined =>
    report({ code: 'E_VHDX_LOG', structure: 'log', offset: logOffset + offset, message });

  const sequence = findActiveSequence(sectorAt, logLengthBytes, logGuid);
  if (sequence === undefined) {
    return wrong(0, 'the header says that there is a log to replay, but it holds no valid entry');
  }
  const fileSizeBytes = await file.size();
  const { flushedFileOffset, lastFileOffset } = sequence.last;
  const lastOffset = sequence.entries.at(-1)?.offset ?? 0;
  if (BigInt(fileSizeBytes) < flushedFileOffset) {
    return report({
      code: 'E_VHDX_TRUNCATED',
      structure: 'log',
      offset: logOffset + lastOffset,
      message: `the file is ${fileSizeBytes} bytes long, when the log was written it had ${flushedFileOffset.toString()}`,
    });
  }
  if (lastFileOffset > BigInt(FILE_SIZE_MAX)) {
    return wrong(lastOffset, `the log would extend the file to ${lastFileOffset.toString()} bytes`);
  }
  const records: LogRecord[] = [];
  let zeroCount = 0;
  for (const { offset, header: entry } of sequence.entries) {
    for (const { record, wideOffset, wideLength } of logRecords(
      sectorAt,
      offset,
      logLengthBytes,
      entry,
    )) {
      const problem = targetProblem(wideOffset, wideLength, header);
      if (problem !== undefined) return wrong(offset, problem);
      if (record.kind === 'zero' && ++zeroCount > LOG_ZERO_RECORDS_MAX) {
        return report({
          code: 'E_VHDX_LIMIT',
          structure: 'log',
          offset: logOffset + offset,
          message: `more than ${LOG_ZERO_RECORDS_MAX} ranges are to be zeroed`,
        });
      }
      records.push(record);
    }
  }
  const effect = effectOf(records);
  return {
    records: effect,
    fileSizeBytes: Math.max(fileSizeBytes, Number(lastFileOffset), endOf(effect)),
    lastSequenceNumber: sequence.last.sequenceNumber,
  };
}

/** § 9 point 10: headers and the log itself are never targets; nothing is unbounded. */
function targetProblem(offset: bigint, length: bigint, header: Header): string | undefined {
  const end = offset + length;
  if (length > BigInt(LOG_ZERO_MAX_BYTES)) return `an entry zeroes ${length.toString()} bytes`;
  if (offset < BigInt(REGION_TABLE_OFFSETS[0])) {
    return `an entry writes to byte ${offset.toString()}, in front of the region tables`;
  }
  if (end > BigInt(FILE_SIZE_MAX)) return `an entry writes up to byte ${end.toString()}`;
  const logEnd = BigInt(header.logOffset + header.logLengthBytes);
  if (offset < logEnd && end > BigInt(header.logOffset)) return 'an entry writes into the log';
  return undefined;
}

/**
 * § 6 replay, step 1. Runs of entries with rising sequence numbers; a run counts when the tail of
 * its last entry is the start of one of its entries; the one with the highest last number wins.
 */
export function findActiveSequence(
  sectorAt: SectorAt,
  logLengthBytes: number,
  logGuid: Guid,
): Sequence | undefined {
  const known = new Map<number, LogEntryHeader | undefined>();
  const entryAt = (offset: number): LogEntryHeader | undefined => {
    if (!known.has(offset)) {
      known.set(offset, validateLogEntry(sectorAt, offset, logLengthBytes, logGuid));
    }
    return known.get(offset);
  };
  let best: Sequence | undefined;
  let start = 0;
  while (start < logLengthBytes) {
    const run: { offset: number; header: LogEntryHeader }[] = [];
    let offset = start;
    let travelled = 0;
    for (;;) {
      const header = entryAt(offset);
      if (header === undefined) break;
      const previous = run.at(-1)?.header;
      if (previous !== undefined && header.sequenceNumber !== previous.sequenceNumber + 1n) break;
      travelled += header.entryLengthBytes;
      if (travelled > logLengthBytes) break;
      run.push({ offset, header });
      offset = (offset + header.entryLengthBytes) % logLengthBytes;
    }
    const last = run.at(-1)?.header;
    if (last !== undefined) {
      const tailIndex = run.findIndex((entry) => entry.offset === last.tail);
      const isNewer = best === undefined || last.sequenceNumber > best.last.sequenceNumber;
      if (tailIndex >= 0 && isNewer) best = { entries: run.slice(tailIndex), last };
    }
    // A run that wraps ends before `start`; everything up to the end of the log was then seen.
    const next = offset > start ? offset : logLengthBytes;
    start = run.length === 0 ? start + LOG_SECTOR_BYTES : next;
  }
  return best;
}

/** The file as it is after replay, without touching it. */
export function overlayReplay(file: BlockFile, plan: ReplayPlan): OverlayFile {
  const overlay = new OverlayFile(file, plan.fileSizeBytes);
  for (const record of plan.records) overlay.apply(record);
  return overlay;
}

/**
 * Writes the plan to the file and flushes it. The caller clears the log GUID in the header only
 * after this returned.
 */
export async function writeReplay(file: BlockFile, plan: ReplayPlan): Promise<void> {
  if ((await file.size()) < plan.fileSizeBytes) await file.truncate(plan.fileSizeBytes);
  for (const record of plan.records) {
    if (record.kind === 'page') await file.write(record.offset, record.bytes);
    else await writeZeros(file, record.offset, record.offset + record.lengthBytes);
  }
  await file.flush();
}

/** What is a hole already is left alone, so that the cost follows what the file holds. */
async function writeZeros(file: BlockFile, start: number, end: number): Promise<void> {
  const zeros = Buffer.alloc(MIB);
  let position = start;
  while (position < end) {
    const data = await file.nextData(position);
    if (data === undefined || data.start >= end) return;
    const dataEnd = Math.min(data.end, end);
    for (let at = data.start; at < dataEnd; at += zeros.length) {
      await file.write(at, zeros.subarray(0, Math.min(zeros.length, dataEnd - at)));
    }
    position = dataEnd;
  }
}
