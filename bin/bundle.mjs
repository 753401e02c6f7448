// Binds what the compiler made of a program and of the packages that it uses into a few files: node finds and
// reads a thousand modules in half a second, and these in an eighth.

import { copyFileSync, existsSync, mkdirSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import {
  builtFolder,
  modulesFolder,
  programs,
  programsFolder,
  runtimePath,
  scriptFiles,
} from './checkout.mjs';
import { SetUpError, runProgram } from './steps.mjs';

// what packages in the old format ask for, where everything is a module
const HEAD = [
  "import { createRequire as hvdrCreateRequire } from 'node:module';",
  'const require = hvdrCreateRequire(import.meta.url);',
].join('');

/** @throws SetUpError */
export async function bundlePrograms(onChild) {
  rmSync(programsFolder, { recursive: true, force: true });
  const entries = programs().map(({ compiled }) => compiled);
  const run = await runProgram(
    runtimePath(),
    [
      join(modulesFolder, 'esbuild', 'bin', 'esbuild'),
      ...entries,
      '--bundle',
      '--platform=node',
      '--format=esm',
      '--target=node24',
      '--splitting',
      '--keep-names',
      '--legal-comments=none',
      // has an addon beside it
      '--external:koffi',
      `--outbase=${join(builtFolder, 'cli')}`,
      `--outdir=${programsFolder}`,
      `--banner:js=${HEAD}`,
      '--log-level=warning',
    ],
    { onStart: (pid) => onChild(pid), onEnd: () => onChild(undefined) },
  );
  const missing = programs().find(({ bundled }) => !existsSync(bundled));
  if (run.code === 0 && missing === undefined) return copyScripts();
  process.stderr.write(run.output);
  throw new SetUpError(
    `binding the programs ended with ${run.signal ?? `exit code ${run.code}`}`,
    'remove the folder dist and run the command again',
  );
}

/** As in an installed build: in `powershell` beside the programs. */
function copyScripts() {
  const folder = join(programsFolder, 'powershell');
  mkdirSync(folder, { recursive: true });
  for (const path of scriptFiles()) copyFileSync(path, join(folder, basename(path)));
}
