// The Bacula of the tests: the one of the demo, in a temporary folder.

import { needTool } from './need.js';

export { BaculaSite, type JobResult, type RestoreWish } from '../../cli/bacula-site/index.js';

/** Skips the suite when a part of Bacula is not installed. */
export function needBacula(context: Mocha.Context): void {
  needTool(context, 'bacula-dir', 'bacula-sd', 'bacula-fd', 'bconsole', 'sqlite3');
}
