// What bin/podheitor-hyperv-backend starts. All but the signals is loaded after they are taken, and after
// there is somebody who tells what cannot be loaded.

import { takeSignals } from './early-cancel.js';
import { tellEarlyFailure } from './early-failure.js';

takeSignals();
tellEarlyFailure();
void stand();

// no await at the top: the single executable is bundled to a script, which knows none
async function stand(): Promise<void> {
  await import('./thread-pool.js');
  const { standAsBackend } = await import('./ptcomm-process.js');
  await standAsBackend();
}
