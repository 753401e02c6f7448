export type { Extent, ExtentKind, ReadableDisk, WritableDisk } from './disk.js';
