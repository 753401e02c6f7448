export type {
  BlockFile,
  FileStatus,
  FileSystem,
  LockKind,
  OpenMode,
  OpenOptions,
} from './block-file.js';
export { accessAdvice, keepAdvice, ownerAdvice } from './access-advice.js';
export { forbidCoreDumps } from './core-dumps.js';
export { lockedFile, makeLockFile } from './lock-file.js';
export { openNotifySocket, type SendNotice } from './native-notify.js';
export { nodeFileSystem } from './node-file.js';
export { refuseExisting } from './refuse-existing.js';
export { requireOurs } from './require-ours.js';
export {
  createBeside,
  isLeftoverOf,
  removeLeftovers,
  TEMPORARY_SUFFIX,
  temporaryPathBeside,
} from './temporary-path.js';
export { WriteBehind } from './write-behind.js';
export {
  parseJson,
  readJson,
  readSmall,
  writeDurably,
  writeJsonDurably,
  type JsonFields,
  type JsonFormat,
} from './durable-file.js';
