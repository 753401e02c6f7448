// Facts about this checkout that the launcher and the set-up share. Plain Node 20, no packages: it
// runs before anything is installed, and on every start of bin/hvdr, so it must be quick.

import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Oldest Node that can run these scripts; the product itself runs on the pinned one. */
export const OLDEST_NODE = [20, 19];
/** Oldest Node that can run the product where no pinned build exists. */
export const OLDEST_RUNTIME_MAJOR = 24;

export const root = resolve(fileURLToPath(new URL('..', import.meta.url)));
export const cacheFolder = join(root, '.cache');
export const modulesFolder = join(root, 'node_modules');
export const builtFolder = join(root, 'dist');
export const installStamp = join(modulesFolder, '.hvdr-install.json');
export const buildStamp = join(builtFolder, '.hvdr-build.json');
export const buildInfo = join(builtFolder, '.tsbuildinfo');
/** Where the programs stand as they are run: each bound together with all that it uses. */
export const programsFolder = join(builtFolder, 'programs');
const PROGRAMS = ['main', 'backend-main'];

/** The parsed file, or undefined when it is missing or torn. */
export function readJson(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return undefined;
  }
}

/** False in an installed package, which has results but no sources. */
export function hasSources() {
  return existsSync(join(root, 'tsconfig.json'));
}

/** Name and version of the package with the pinned Node for this machine, if there is one. */
export function pinnedRuntime() {
  const name = `node-${process.platform === 'win32' ? 'win' : process.platform}-${process.arch}`;
  const manifest = readJson(join(root, 'package.json'));
  const version = manifest?.optionalDependencies?.[name];
  if (version === undefined) return undefined;
  const binary = process.platform === 'win32' ? 'node.exe' : 'node';
  return { name, version, path: join(modulesFolder, name, 'bin', binary) };
}

/** The Node that runs the product, or undefined when the set-up has to provide it first. */
export function runtimePath() {
  const pinned = pinnedRuntime();
  if (pinned !== undefined && existsSync(pinned.path)) return pinned.path;
  const major = Number(process.versions.node.split('.')[0]);
  return pinned === undefined && major >= OLDEST_RUNTIME_MAJOR ? process.execPath : undefined;
}

export function lockDigest() {
  return createHash('sha256')
    .update(readFileSync(join(root, 'package-lock.json')))
    .digest('hex');
}

/** True when node_modules holds exactly what package-lock.json names. */
export function isInstalled() {
  if (runtimePath() === undefined) return false;
  const stamp = readJson(installStamp);
  return (
    stamp !== undefined &&
    stamp.lock === lockDigest() &&
    stamp.platform === `${process.platform}-${process.arch}`
  );
}

function filesBelow(folder, ending, found) {
  let entries;
  try {
    entries = readdirSync(folder, { withFileTypes: true });
  } catch {
    return; // a folder that is not there yet has no sources
  }
  for (const entry of entries) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory()) filesBelow(path, ending, found);
    else if (entry.name.endsWith(ending)) found.push(path);
  }
}

/** Absolute paths of all files below `folder` whose name ends with `ending`. */
export function listFiles(folder, ending) {
  const found = [];
  filesBelow(folder, ending, found);
  return found;
}

/** Every TypeScript source of the build, sorted, as { source, output } with absolute paths. */
export function buildFiles() {
  const folders = readJson(join(root, 'tsconfig.json'))?.include ?? [];
  return folders
    .flatMap((folder) => listFiles(`${root}/${folder}`, '.ts'))
    .filter((source) => !source.endsWith('.d.ts'))
    .sort()
    .map((source) => ({
      source,
      output: `${builtFolder}${source.slice(root.length).replace(/\.ts$/, '.js')}`,
    }));
}

/** The programs whose sources are here, compiled and bound. */
export function programs() {
  return PROGRAMS.filter((name) => existsSync(join(root, 'cli', `${name}.ts`))).map((name) => ({
    compiled: join(builtFolder, 'cli', `${name}.js`),
    bundled: join(programsFolder, `${name}.js`),
  }));
}

/** The scripts of Windows PowerShell; the programs run them from the folder `powershell` beside them. */
export function scriptFiles() {
  return listFiles(join(root, 'shared', 'hypervisor'), '.ps1').sort();
}

/** Changes when a source, the compiler's options or a package is added, changed or removed. */
export function inputDigest(files) {
  const hash = createHash('sha256');
  const paths = [
    ...files.map(({ source }) => source),
    ...scriptFiles(),
    join(root, 'tsconfig.json'),
  ];
  for (const path of paths) {
    const { mtimeMs, size } = statSync(path, { throwIfNoEntry: false }) ?? { mtimeMs: 0, size: 0 };
    hash.update(`${path.slice(root.length)} ${mtimeMs} ${size}\n`);
  }
  return hash.update(lockDigest()).digest('hex');
}

/** True when every result of the build is there and made from the sources as they are now. */
export function isBuilt() {
  const stamp = readJson(buildStamp);
  if (stamp === undefined) return false;
  const files = buildFiles();
  const results = [
    ...files.map(({ output }) => output),
    ...programs().map(({ bundled }) => bundled),
  ];
  return stamp.inputs === inputDigest(files) && results.every((path) => existsSync(path));
}

export function isReady() {
  return !hasSources() || (isInstalled() && isBuilt());
}
