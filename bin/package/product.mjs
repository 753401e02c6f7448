// What is packed: version, time, the compiled program with its modules, texts that the program prints itself.

import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { modulesFolder, programsFolder, readJson, root } from '../checkout.mjs';
import { SetUpError, runProgram } from '../steps.mjs';
import { filesOf } from './files.mjs';
import { UNBOUND } from './licences.mjs';

export { foreignLicences } from './licences.mjs';

export const NAME = 'podheitor-hvdr';
export const version = readJson(join(root, 'package.json')).version;

/** Runs a program that has to succeed; returns what it printed. */
export async function must(file, args, options) {
  const run = await runProgram(file, args, options);
  if (run.code === 0) return run.output;
  throw new SetUpError(`${file} failed: ${run.output.trim()}`, 'look at its message');
}

/** Seconds since 1970 that every file of a package bears: $SOURCE_DATE_EPOCH, else the time of the commit. */
export async function packageTime() {
  const given = process.env.SOURCE_DATE_EPOCH;
  if (given !== undefined) {
    if (/^\d{1,10}$/.test(given)) return Number(given);
    throw new SetUpError(`SOURCE_DATE_EPOCH=${given} is no number of seconds`, 'correct it');
  }
  const run = await runProgram('git', ['log', '-1', '--format=%ct'], { cwd: root }).catch(() => {});
  if (run?.code === 0 && /^\d+\s*$/.test(run.output)) return Number(run.output);
  throw new SetUpError('the time of the sources is not known', 'set SOURCE_DATE_EPOCH');
}

/** All that a program prints, however long it is. */
export function whole(file, args) {
  const run = spawnSync(file, args, { encoding: 'utf8', maxBuffer: 2 ** 26 });
  if (run.status === 0) return run.stdout;
  throw new SetUpError(
    `${file} failed: ${run.error?.message ?? run.stderr}`,
    'look at its message',
  );
}

/** What `hvdr …args` prints. */
export function printedBy(runtime, ...args) {
  return whole(runtime, [join(programsFolder, 'main.js'), ...args]);
}

/** The folder of package `name` that a module in `from` gets, as Node looks for it. */
function folderOf(lock, from, name) {
  for (let at = from; ; at = at.slice(0, Math.max(0, at.lastIndexOf('/node_modules/')))) {
    const path = `${at === '' ? '' : `${at}/`}node_modules/${name}`;
    if (lock[path] !== undefined) return path;
    if (at === '' || !at.includes('/node_modules/')) {
      const top = `node_modules/${name}`;
      return lock[top] === undefined ? undefined : top;
    }
  }
}

/** Folders of the packages `names` and of all that they need when they run, as package-lock.json names them. */
function packagesOf(names) {
  const lock = readJson(join(root, 'package-lock.json')).packages;
  const found = new Set();
  const take = (path) => {
    if (found.has(path)) return;
    found.add(path);
    const { dependencies = {}, optionalDependencies = {} } = lock[path];
    for (const name of Object.keys({ ...dependencies, ...optionalDependencies })) {
      const next = folderOf(lock, path, name);
      // types are for the compiler; builds for other machines were not installed
      const isTypes = name.startsWith('@types/') || name === 'undici-types';
      if (next !== undefined && !isTypes && existsSync(join(root, next))) take(next);
    }
  };
  for (const name of names) take(`node_modules/${name}`);
  return [...found].sort();
}

const IS_CODE = /\.(js|cjs|mjs|json|node)$/;
/** Beside the build for the C library of the pinned Node koffi brings another. */
const IS_FOREIGN = /(^|\/)musl_/;

/** Lays the program that Node runs into `place`: the bound programs and their addon. */
export function layProgram(stage, place) {
  stage.copyFolder(programsFolder, join(place, 'dist', 'programs'));
  const inner = modulesFolder.length + 1;
  for (const path of packagesOf(UNBOUND)) {
    const from = join(root, path);
    stage.copyFolder(from, join(place, 'node_modules', from.slice(inner)), (file) => {
      const isNested = file.startsWith('node_modules/'); // a package of its own
      return !isNested && !IS_FOREIGN.test(file) && IS_CODE.test(file);
    });
  }
  const manifest = { name: NAME, version, type: 'module', private: true };
  stage.write(join(place, 'package.json'), `${JSON.stringify(manifest, undefined, 2)}\n`);
}

/** Pages for people, by their names in the package. */
export function documents() {
  const pages = filesOf(join(root, 'docs')).map((file) => [join('docs', file), file]);
  const top = ['README.md', 'CHANGELOG.md', 'LICENSE', 'SECURITY.md'].map((file) => [file, file]);
  return [...top, ...pages].map(([source, name]) => ({ source: join(root, source), name }));
}

/** Resources for a Director to begin with. */
export function baculaExamples() {
  const folder = join(root, 'deploy', 'bacula');
  return filesOf(folder).map((name) => ({ source: join(folder, name), name }));
}

export function readText(...path) {
  return readFileSync(join(root, ...path), 'utf8');
}
