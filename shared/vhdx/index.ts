// The VHDX engine. Layers, lower ones ignorant of the upper:
//
//   format                                every number of the standard
//   header region-table metadata parent-locator geometry bat sector-bitmap log-entry    pure codecs
//   log-replay overlay-file log-writer space page-cache block-table bat-scan structures
//   vhdx-file + write-session             one file: resolve, read, write in place through the log
//   chain                                 a file with its parents as one disk
//   sealed stream stream-reader           whole files written or read sequentially, without a log
//   create merge check describe           what a user asks for
//
// Invariants: a file that failed a check is never written to; a commit is one log entry; space is
// published only after its payload is durable; no path of a locator leaves the child's folder.

export { openVhdx, VhdxDisk, type OpenVhdxOptions } from './chain.js';
export { checkVhdx, type CheckResult } from './check.js';
export { findChildren } from './children.js';
export { childOf, completeRequest, createVhdx, type CreateVhdxRequest } from './create.js';
export { describeVhdx, type VhdxDescription } from './describe.js';
export type { VhdxType } from './geometry.js';
export type { NewDisk } from './layout.js';
export { mergeVhdx, type MergeOptions, type MergeResult } from './merge.js';
export { realTargetPath } from './parent-path.js';
export { SealedPlaces } from './sealed-places.js';
export {
  SealedVhdxWriter,
  type OwnedVhdxOptions,
  type SealedVhdx,
  type SealedVhdxOptions,
} from './sealed.js';
export { readVhdxStream, type StreamedRange, type VhdxStreamReader } from './stream-reader.js';
export { streamVhdx, type StreamVhdxOptions, type VhdxStream } from './stream.js';
export { VhdxFile } from './vhdx-file.js';
export { VhdxError, type Violation } from './violation.js';
