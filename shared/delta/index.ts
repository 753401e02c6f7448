// The delta (design.md § 1): what changed on one disk between two moments.
//
//   disk ─ diff.ts ─▶ PCBT file + manifest ─ apply.ts ─▶ disk          base-manifest.ts keeps level
//                         │ pcbt-source.ts      ▲
//   DR store: .delta + manifest ─ cell-delta.ts ─┴▶ union.ts ─▶ merged delta · differencing disk
//                                                └▶ layered-disk.ts ─▶ a disk as of a point
//
// Invariants: cells are 64 KiB on the guest's grid; every list is in ascending order and inside the
// disk, asserted by the writer and refused by the reader; no byte of a target changes before what is
// to be written there has been checked; nothing here holds a delta, or one of its blocks, in memory.

export {
  applyDelta,
  type ApplyOptions,
  type ApplyResult,
  applyToCopy,
  type DeltaInput,
  type DeltaTarget,
} from './apply.js';
export {
  type Announcement,
  type BaseFinding,
  BaseManifest,
  checkSameDisk,
  type DeltaRecords,
  verifyBase,
} from './base-manifest.js';
export {
  BATCH_DATA_CELLS,
  BATCH_ENTRIES,
  BATCH_PAYLOAD_BYTES,
  type BatchEntry,
  batchHeadBytes,
  type BatchMessage,
  compressPayload,
  encodeBatch,
  encodeBatchHead,
  encodeBegin,
  encodeEndOfDisk,
  MAX_DISKS,
  parseBatch,
} from './cell-batch.js';
export { type ByteSink, ByteReader, type Chunks, fileChunks } from './byte-source.js';
export {
  CELL_BYTES,
  cellCount,
  cellLength,
  cellOffset,
  HASH_BYTES,
  hashCell,
  MAX_DISK_BYTES,
} from './cell.js';
export { GatheredHashes } from './gathered-hashes.js';
export { CellDelta, CellDeltaWriter } from './cell-delta.js';
export { cellsOfRanges, touchedMib, unionOfCells } from './cell-ranges.js';
export { readCells } from './cell-reader.js';
export { recordsOfCells, RecordsRoot, rootOfRecords } from './cell-records.js';
export { type CellRange, CellSet } from './cell-set.js';
export {
  checkDelta,
  type DeltaCheckOptions,
  type DeltaCheckResult,
  type DeltaFinding,
} from './check.js';
export { DeltaError } from './delta-error.js';
export {
  type DataEntry,
  type DeltaEntry,
  type DeltaSource,
  readVerified,
  type ZeroEntry,
} from './delta-source.js';
export {
  addCells,
  type DeltaPlan,
  diffDisks,
  encodeDelta,
  planDelta,
  type Progress,
} from './diff.js';
export { LayeredDisk } from './layered-disk.js';
export {
  isManifest,
  ManifestFile,
  ManifestReader,
  ManifestRoot,
  ManifestWriter,
} from './manifest.js';
export {
  encodeManifestHeader,
  encodeManifestRecord,
  MANIFEST_HEADER_BYTES,
  MANIFEST_RECORD_BYTES,
  type ManifestHeader,
  type ManifestRecord,
  type ManifestTrailer,
  parseManifestHeader,
  parseManifestRecord,
} from './manifest-format.js';
export {
  ManifestAppender,
  type ManifestPosition,
  readManifestRecords,
  manifestEnd,
  readManifestPart,
} from './manifest-appender.js';
export { cellMessages, deltaMessages, diskMessages, messageFrom } from './message-stream.js';
export { materialise } from './materialise.js';
export { OverlappedWrites } from './overlapped-writes.js';
export { encodeMerge, type MergePlan, planMerge } from './merge-pcbt.js';
export {
  encodePcbt,
  indexPcbt,
  type PcbtBlock,
  type PcbtOptions,
  type PcbtPiece,
  type PcbtPlan,
  PcbtReader,
  PIECE_BYTES,
  planPcbt,
  walkPcbt,
} from './pcbt.js';
export { PCBT_MAGIC, type PcbtRange, type PcbtViolation } from './pcbt-format.js';
export { PcbtDelta } from './pcbt-source.js';
export {
  type CreateFile,
  publishFile,
  type PublishOptions,
  type PublishSeams,
  publishTogether,
} from './publish.js';
export { type UnionBatch, type UnionEntry } from './read-ahead.js';
export {
  checkAdjacent,
  mergedHeader,
  mergeDeltas,
  readUnion,
  unionOf,
  writeUnion,
} from './union.js';
