export type { Extent, ExtentKind, ReadableDisk, WritableDisk } from './disk.js';
export { readAhead, type Piece, type ReadAheadOptions } from './read-ahead.js';
export { isAllZero, zeroRuns, type ZeroRun } from './zero-runs.js';
export { openRawDisk, RawDisk, type OpenRawOptions } from './raw.js';
export {
  compareDisks,
  hashDisk,
  type CompareOptions,
  type Difference,
  type HashOptions,
} from './compare.js';
export { ZeroDisk } from './zero-disk.js';
