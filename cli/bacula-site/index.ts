// A whole Bacula as Debian ships it, in a folder, for the demo, the benches and the tests.

export { BaculaCatalog, type FileRow, type JobRow } from './catalog.js';
export { DAEMONS, type DaemonName, SITE_NAMES } from './config.js';
export { BaculaDaemon } from './daemon.js';
export { freePort } from './free-port.js';
export { requireBacula } from './programs.js';
export type { RestoreWish } from './restore-lines.js';
export {
  BACKEND_PROGRAM,
  BaculaSite,
  DIRECTOR_FILES,
  type JobResult,
  type SiteOptions,
} from './site.js';
