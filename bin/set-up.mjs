// Makes the checkout ready to run: packages as package-lock.json names them, then the build. Each
// part is skipped when it is fresh, happens once however many processes ask for it, and is marked
// done only after its results were checked, so that a killed one is repeated by the next run.

import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmdirSync,
  rmSync,
  statfsSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import {
  OLDEST_NODE,
  OLDEST_RUNTIME_MAJOR,
  buildFiles,
  buildInfo,
  buildStamp,
  builtFolder,
  cacheFolder,
  hasSources,
  inputDigest,
  installStamp,
  isBuilt,
  isInstalled,
  listFiles,
  lockDigest,
  modulesFolder,
  pinnedRuntime,
  programsFolder,
  readJson,
  root,
  runtimePath,
} from './checkout.mjs';
import { bundlePrograms } from './bundle.mjs';
import { withSetUpLock } from './set-up-lock.mjs';
import { SetUpError, note, runProgram, step } from './steps.mjs';

/** Measured with an empty cache on a 2-core Debian 12 machine; test/tidy checks the disk figure. */
export const FETCH = { downloadMegabytes: 160, diskMegabytes: 410, seconds: 15 };

function writeStamp(path, content) {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(`${path}.new`, `${JSON.stringify(content, undefined, 2)}\n`);
  renameSync(`${path}.new`, path);
}

/** Refuses a Node that cannot even run the set-up. */
function checkNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  const [oldestMajor, oldestMinor] = OLDEST_NODE;
  if (major > oldestMajor || (major === oldestMajor && minor >= oldestMinor)) return;
  throw new SetUpError(
    `Node ${process.versions.node} is too old for the set-up`,
    `install Node ${OLDEST_NODE.join('.')} or newer`,
  );
}

/** The npm that belongs to the running Node: [file, first arguments]. */
export function findNpm() {
  const besideNode = dirname(process.execPath);
  const scripts = [
    process.env.npm_execpath,
    join(besideNode, '..', 'lib', 'node_modules', 'npm', 'bin', 'npm-cli.js'),
    join(besideNode, 'node_modules', 'npm', 'bin', 'npm-cli.js'),
    '/usr/share/nodejs/npm/bin/npm-cli.js',
  ];
  const script = scripts.find(
    (path) => path !== undefined && basename(path) === 'npm-cli.js' && existsSync(path),
  );
  if (script !== undefined) return { file: process.execPath, args: [script] };
  const isWindows = process.platform === 'win32';
  const file = isWindows ? 'npm.cmd' : 'npm';
  const probe = spawnSync(file, ['--version'], { shell: isWindows });
  if (probe.status === 0) return { file, args: [], shell: isWindows };
  throw new SetUpError('npm was not found', 'install npm, or start this with `npm run …`');
}

/** Runs the Node that was installed; npm leaves optional packages out without a word. */
function checkRuntime() {
  const pinned = pinnedRuntime();
  if (pinned === undefined) {
    if (runtimePath() !== undefined) return;
    throw new SetUpError(
      `there is no pinned Node for ${process.platform}-${process.arch}, and this one is ${process.versions.node}`,
      `run it with Node ${OLDEST_RUNTIME_MAJOR} or newer`,
    );
  }
  const probe = spawnSync(pinned.path, ['--version'], { encoding: 'utf8' });
  if (probe.status === 0 && probe.stdout.trim() === `v${pinned.version}`) return;
  const state = existsSync(pinned.path)
    ? `does not run: ${probe.error?.message ?? (probe.stderr.trim() || `exit code ${probe.status}`)}`
    : 'was not installed; npm skips an optional package when it cannot be fetched';
  throw new SetUpError(
    `the pinned Node ${pinned.version} (package ${pinned.name}) ${state}`,
    'check the network and run the command again; it needs a Linux with glibc 2.28 or Windows 10',
  );
}

/** True when an npm that ran without us has installed just what the lockfile names. */
function wasInstalledByHand() {
  const wanted = readJson(join(root, 'package-lock.json'))?.packages ?? {};
  const present = readJson(join(modulesFolder, '.package-lock.json'))?.packages;
  if (present === undefined || runtimePath() === undefined) return false;
  return Object.entries(wanted).every(([path, entry]) => {
    if (path === '') return true;
    const found = present[path];
    if (found === undefined) return entry.optional === true || entry.devOptional === true;
    return (
      found.version === entry.version &&
      found.integrity === entry.integrity &&
      readJson(join(root, path, 'package.json'))?.version === entry.version
    );
  });
}

function markInstalled() {
  checkRuntime();
  writeStamp(installStamp, {
    lock: lockDigest(),
    platform: `${process.platform}-${process.arch}`,
  });
}

function checkSpace() {
  const { bavail, bsize } = statfsSync(root);
  const freeMegabytes = Math.floor((bavail * bsize) / 1e6);
  const needed = FETCH.diskMegabytes + FETCH.downloadMegabytes + 30;
  if (freeMegabytes >= needed) return;
  throw new SetUpError(
    `the volume of ${root} has ${freeMegabytes} MB free, the set-up needs ${needed} MB`,
    'free some space and run the command again',
  );
}

async function install(lock) {
  if (wasInstalledByHand()) {
    markInstalled();
    return;
  }
  checkSpace();
  const npm = findNpm();
  // npm ci begins by removing everything; killed half-way, these two would vouch for the rest
  rmSync(installStamp, { force: true });
  rmSync(join(modulesFolder, '.package-lock.json'), { force: true });
  const npmCache = join(cacheFolder, 'npm');
  note(
    `packages are missing or older than package-lock.json: fetching about ` +
      `${FETCH.downloadMegabytes} MB, ${FETCH.diskMegabytes} MB on disk, ` +
      `roughly ${FETCH.seconds} s on a fast line; all inside ${root}`,
  );
  await step('install packages (npm ci)', async () => {
    const run = await runProgram(
      npm.file,
      [
        ...npm.args,
        'ci',
        '--ignore-scripts',
        '--no-audit',
        '--no-fund',
        '--include=dev',
        '--include=optional',
        '--fetch-retry-mintimeout=2000',
        '--fetch-retry-maxtimeout=10000',
        `--cache=${npmCache}`,
      ],
      {
        cwd: root,
        shell: npm.shell,
        // an inherited production setting would leave the compiler out
        env: { NODE_ENV: 'development' },
        onStart: (pid) => lock.child(pid),
        onEnd: () => lock.child(undefined),
      },
    );
    if (run.code !== 0) {
      process.stderr.write(run.output);
      throw new SetUpError(
        `npm ci ended with ${run.signal ?? `exit code ${run.code}`}`,
        'see the lines of npm above; check network, proxy and registry (npm ping), then run the command again',
      );
    }
    markInstalled();
  });
  // the packages are in node_modules now; a second copy would only cost space
  rmSync(npmCache, { recursive: true, force: true });
}

/** Removes results whose source has gone, so that no dead test or module is ever run. */
function removeStaleResults(files) {
  const outputs = new Set(files.map(({ output }) => output));
  for (const path of listFiles(builtFolder, '')) {
    if (path.startsWith(`${programsFolder}/`)) continue;
    const output = path.replace(/\.map$/, '');
    if (!output.endsWith('.js') || outputs.has(output)) continue;
    unlinkSync(path);
    for (let folder = dirname(path); readdirSync(folder).length === 0; folder = dirname(folder)) {
      rmdirSync(folder);
    }
  }
}

async function build(lock) {
  const files = buildFiles();
  // taken before the compiler reads: an edit during the build makes the next run build again
  const inputs = inputDigest(files);
  rmSync(buildStamp, { force: true });
  removeStaleResults(files);
  // the compiler's notes say what changed in the sources, not what is missing in the results
  if (files.some(({ output }) => !existsSync(output))) rmSync(buildInfo, { force: true });
  await step(`build ${files.length} files (tsc)`, async () => {
    const run = await runProgram(
      runtimePath(),
      [join(modulesFolder, 'typescript', 'bin', 'tsc'), '-p', root, '--pretty', 'false'],
      {
        cwd: root,
        onStart: (pid) => lock.child(pid),
        onEnd: () => lock.child(undefined),
      },
    );
    if (run.code !== 0) {
      process.stderr.write(run.output);
      throw new SetUpError(
        `the build ended with ${run.signal ?? `exit code ${run.code}`}`,
        'mend the errors above and run the command again',
      );
    }
  });
  const missing = files.find(({ output }) => !existsSync(output));
  if (missing !== undefined) {
    throw new SetUpError(
      `the build left out ${missing.output}`,
      'remove the folder dist and run the command again',
    );
  }
  await step('bind the programs (esbuild)', () => bundlePrograms((pid) => lock.child(pid)));
  writeStamp(buildStamp, { inputs });
}

/**
 * Makes the packages fresh, and the build too unless `withBuild` is false. Returns the path of the
 * Node that runs the product.
 */
export async function setUp({ withBuild = true } = {}) {
  checkNode();
  const isDone = () => !hasSources() || (isInstalled() && (!withBuild || isBuilt()));
  if (!isDone()) {
    await withSetUpLock(note, async (lock) => {
      if (!isInstalled()) await install(lock);
      if (withBuild && !isBuilt()) await build(lock);
    });
  }
  const runtime = runtimePath();
  if (runtime === undefined && !hasSources()) return process.execPath;
  return runtime;
}
