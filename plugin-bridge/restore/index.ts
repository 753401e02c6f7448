// Restore (docs/bacula-restore.md): the files of a job, in any order that Bacula can deliver, become
// disks at a point, and a VM over them.

export type { RestoreAnswer, RestoreEntry, RestoreWork } from './work.js';
export { openRestore } from './restore.js';
export {
  RESTORE_OPTIONS,
  type RestoreJob,
  type RestorePorts,
  type RestoreValues,
} from './ports.js';
export { isSameName, type RestoreHost } from './register.js';
export { collectRestoreSessions, isSessionName, type LeftSession } from './session-files.js';
export { collectHalfRegistered, type HalfRegisteredVm } from './half-registered.js';
export { destinationOf, isInside } from './destination.js';
export { confinedSegments } from './names.js';
export { confinedFolder } from './place.js';
