// The licences of what comes with the product and is not of it. What is bound into the programs is asked of the bundler, not
// guessed from what was installed. A package is built only when each licence is known, lets itself be combined with
// ours (Apache-2.0), and has its text. As a program, for one who takes a new dependency into view:
//
//   node bin/package/licences.mjs [FOLDER…]     the text for what is bound in, or for the packages in these folders

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { modulesFolder, pinnedRuntime, programs, readJson, root } from '../checkout.mjs';
import { SetUpError, note } from '../steps.mjs';
import { filesOf } from './files.mjs';

/** By their SPDX names; all ask for their text and notices, and for nothing else of what they are combined with. */
const COMPATIBLE = new Set([
  ...['0BSD', 'Apache-2.0', 'BSD-2-Clause', 'BSD-3-Clause', 'BlueOak-1.0.0', 'CC0-1.0', 'ISC'],
  ...['MIT', 'MIT-0', 'Python-2.0', 'Unicode-3.0', 'Unlicense', 'Zlib'],
]);
const IS_LICENCE = /(^|\/)(licen[cs]e|notice|copying)[^/]*$/i;
const IS_SOURCE = /\.[cm]?js$/;

/** Is not bound in: it has an addon beside it. Its builds for each system are of the same sources and licence. */
export const UNBOUND = ['koffi'];

/** Folders of the packages that the bundler puts into the programs. */
function boundPackages() {
  const { buildSync } = createRequire(import.meta.url)('esbuild');
  const { metafile } = buildSync({
    entryPoints: programs().map(({ compiled }) => compiled),
    bundle: true,
    write: false,
    metafile: true,
    splitting: true,
    platform: 'node',
    format: 'esm',
    external: UNBOUND,
    outdir: join(root, 'dist', 'programs'),
    absWorkingDir: root,
    logLevel: 'silent',
  });
  const found = new Set();
  for (const input of Object.keys(metafile.inputs)) {
    const folder = /^.*node_modules\/(@[^/]+\/)?[^/]+/.exec(input)?.[0];
    if (folder !== undefined) found.add(join(root, folder));
  }
  return [...found].sort();
}

/** True when an SPDX expression leaves a choice that is compatible. Brackets around parts are not taken apart. */
function isCompatible(expression) {
  const bare = expression.replace(/^\((.*)\)$/, '$1');
  if (/[()]/.test(bare)) return false;
  return bare
    .split(/ OR /)
    .some((choice) => choice.split(/ AND /).every((name) => COMPATIBLE.has(name.trim())));
}

/** What stands above the code of a package that brings its licences nowhere else. */
function noticesAbove(folder) {
  const notices = filesOf(folder)
    .filter((file) => IS_SOURCE.test(file) && !file.includes('node_modules/'))
    .map((file) => /^(?:(?:\/\/.*)?\n)+/.exec(readFileSync(join(folder, file), 'utf8'))?.[0] ?? '')
    .filter((text) => /copyright/i.test(text))
    .map((text) => text.replace(/^\/\/ ?/gm, '').trim());
  return [...new Set(notices)].sort();
}

function textsOf(folder, licence) {
  const files = filesOf(folder).filter(
    (file) => !file.includes('node_modules/') && IS_LICENCE.test(file),
  );
  if (files.length > 0) return files.map((file) => readFileSync(join(folder, file), 'utf8'));
  const notices = noticesAbove(folder);
  if (notices.length === 0) return [];
  // a notice names this licence and does not hold it; ours is the same
  const apache = licence.includes('Apache-2.0')
    ? [readFileSync(join(root, 'LICENSE'), 'utf8')]
    : [];
  return [...notices, ...apache];
}

/** One package with its licences. @throws SetUpError */
function entryOf(folder) {
  const { name, version, license } = readJson(join(folder, 'package.json')) ?? {};
  const remedy = `look at ${relative(root, folder)}; see bin/package/licences.mjs`;
  if (name === undefined || version === undefined) {
    throw new SetUpError(`${folder} is no package`, remedy);
  }
  if (typeof license !== 'string') {
    throw new SetUpError(`${name} ${version} names no licence`, remedy);
  }
  if (!isCompatible(license)) {
    throw new SetUpError(`the licence of ${name} ${version}, ${license}, is not accepted`, remedy);
  }
  const texts = textsOf(folder, license);
  if (texts.length === 0) {
    throw new SetUpError(`${name} ${version} brings no text of its licence, ${license}`, remedy);
  }
  return { title: `${name} ${version}`, licence: license, texts };
}

/** Licences of the packages in `folders` in one text: a list, and then all texts. @throws SetUpError */
export function licencesOf(folders) {
  const entries = folders.map(entryOf);
  const list = entries.map(({ title, licence }) => `${title}: ${licence}\n`).join('');
  const texts = entries.map(
    ({ title, texts }) =>
      `${'='.repeat(78)}\n${title}\n\n${texts.map((text) => text.trim()).join('\n\n')}\n`,
  );
  return `${list}\n${texts.join('\n')}`;
}

let whole;

/** The licences of all that comes with the product. */
export function foreignLicences() {
  const node = join(modulesFolder, pinnedRuntime().name);
  const unbound = UNBOUND.map((name) => join(modulesFolder, name));
  whole ??= licencesOf([node, ...unbound, ...boundPackages()]);
  return whole;
}

if (process.argv[1] !== undefined && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  try {
    const folders = process.argv.slice(2).map((folder) => resolve(folder));
    process.stdout.write(folders.length === 0 ? foreignLicences() : licencesOf(folders));
  } catch (error) {
    if (!(error instanceof SetUpError)) throw error;
    note(`${error.message}; ${error.remedy}`);
    process.exitCode = 1;
  }
}
