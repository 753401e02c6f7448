// Wine's service manager, up for a whole test file. It lives with the first program of a prefix and keeps that one's
// streams, and services have them from it: a program that a test waits for must not be the first.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { runTool } from './run-tool.js';
import type { WinePrefix } from './wine.js';

/** Until the prefix is disposed of. */
export async function holdServices({ environment }: WinePrefix): Promise<void> {
  // stays after the last program has ended, and must not keep our streams either
  const persist = '(wineserver -p || /usr/lib/wine/wineserver -p) </dev/null >/dev/null 2>&1';
  await runTool('sh', ['-c', persist], { environment });
  const first = spawn('wine', ['cmd', '/c', 'ver'], {
    env: { ...process.env, ...environment },
    stdio: 'ignore',
  });
  await once(first, 'close');
}
