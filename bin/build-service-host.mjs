// Compiles the service host of Windows (deploy/windows/phsvc):
//   --output FILE [--define NAME=VALUE]…
// The same sources give the same bytes.

import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { root } from './checkout.mjs';

const COMPILER = 'x86_64-w64-mingw32-gcc';
const source = join(root, 'deploy', 'windows', 'phsvc');

const { values } = parseArgs({
  options: { output: { type: 'string' }, define: { type: 'string', multiple: true } },
});
const { output = 'phsvc.exe', define: defines = [] } = values;
const files = readdirSync(source)
  .filter((name) => name.endsWith('.c'))
  .sort()
  .map((name) => join(source, name));
mkdirSync(dirname(output), { recursive: true });
const run = spawnSync(
  COMPILER,
  [
    ...['-std=gnu11', '-O2', '-Wall', '-Wextra', '-Werror', '-Wshadow', '-Wvla'],
    ...['-D_WIN32_WINNT=0x0A00', '-D__USE_MINGW_ANSI_STDIO=1', '-municode', '-static', '-s'],
    ...['-Wl,--no-insert-timestamp', '-Wl,--image-base,0x140000000'],
    ...['-Wl,--dynamicbase,--nxcompat,--high-entropy-va'],
    ...defines.map((define) => `-D${define}`),
    ...['-o', output, ...files],
  ],
  { encoding: 'utf8' },
);
if (run.status === 0) {
  process.stdout.write(`${output}\n`);
} else {
  process.stderr.write(`${COMPILER} failed: ${run.error?.message ?? run.stderr}\n`);
  process.stderr.write('install the package gcc-mingw-w64-x86-64 or look at the message\n');
  process.exitCode = 1;
}
