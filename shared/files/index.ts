export type {
  BlockFile,
  FileStatus,
  FileSystem,
  LockKind,
  OpenMode,
  OpenOptions,
} from './block-file.js';
