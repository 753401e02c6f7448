// The product as one executable, for Windows and for Linux: the compiled program in one script, embedded in the pinned Node
// (a "single executable application" of Node). koffi's addon and the PowerShell scripts lie beside it and are not unpacked
// from it: a program that writes a library to a temporary folder and loads it looks like a virus, and can be made one.
//
//   FOLDER/podheitor-hyperv-backend[.exe]     the program; under this name and without arguments it is the backend
//   FOLDER/hvdr[.exe]                         the same file again (a hard link): the command line
//   FOLDER/native/koffi.node
//   FOLDER/powershell/*.ps1                   Windows only
//   FOLDER/THIRD-PARTY-LICENCES.txt           when this is run as a program
//
// The same sources give the same bytes: nothing of the machine, the time or the path of the build gets in. As a program:
//
//   node bin/package/executable.mjs --platform win32|linux --out FOLDER

import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, linkSync, mkdirSync, mkdtempSync, readFileSync } from 'node:fs';
import { readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { builtFolder, modulesFolder, pinnedRuntime, readJson, root } from '../checkout.mjs';
import { SetUpError, note, step } from '../steps.mjs';
import { foreignLicences } from './licences.mjs';
import { windowsModules } from '../windows-modules.mjs';

const PROGRAM = 'podheitor-hyperv-backend';
const COMMAND_LINE = 'hvdr';
const ENTRY = join(builtFolder, 'cli', 'executable-main.js');
const SCRIPTS = join(root, 'shared', 'hypervisor', 'hyperv', 'powershell', 'scripts');
const LICENCES = 'THIRD-PARTY-LICENCES.txt';
/** Files of the checkout that the program reads when it runs: cli/own-program.ts. */
const ASSETS = ['package.json'];

/** Node looks for the script under this name, and does so only when the digit behind the mark is 1. */
const BLOB = 'NODE_SEA_BLOB';
const FUSE = 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2';
const RESOURCE_OF_RAW_DATA = 10;
const ENGLISH = 1033;
const UNICODE = 1200;

/** Node reads modules of the system only from a script that is embedded in it: addons are opened by their path. */
const addonsBeside = {
  name: 'addons beside the executable',
  setup(build) {
    build.onLoad({ filter: /[\\/]koffi[\\/]src[\\/]koffi[\\/]src[\\/]static\.js$/ }, () => ({
      loader: 'js',
      contents: `
        import { join, dirname } from 'node:path';
        export function loadStatic() {
          const addon = { exports: {} };
          process.dlopen(addon, join(dirname(process.execPath), 'native', 'koffi.node'));
          return addon.exports;
        }`,
    }));
  },
};

/** The whole program as one script. */
async function bundle(platform) {
  const { build } = await import('esbuild');
  const result = await build({
    entryPoints: [ENTRY],
    bundle: true,
    write: false,
    platform: 'node',
    format: 'cjs',
    target: 'node24',
    absWorkingDir: root,
    legalComments: 'none',
    logLevel: 'silent',
    plugins: [addonsBeside],
    banner: {
      js:
        "const hvdrFolder = require('node:path').dirname(process.execPath);\n" +
        "const hvdrUrl = require('node:url').pathToFileURL(process.execPath).href;",
    },
    define: {
      'import.meta.url': 'hvdrUrl',
      'import.meta.dirname': 'hvdrFolder',
      'process.platform': JSON.stringify(platform),
    },
  });
  if (result.warnings.length > 0) {
    throw new SetUpError(`the bundle: ${result.warnings[0].text}`, 'mend it');
  }
  return result.outputFiles[0].contents;
}

/** The script and its files as Node wants them embedded. It has to be made by the Node that runs it. */
function blobOf(script, work) {
  writeFileSync(join(work, 'main.cjs'), script);
  const config = {
    // its path gets in as it is written here
    main: 'main.cjs',
    output: 'blob',
    disableExperimentalSEAWarning: true,
    // both would be bound to this platform
    useSnapshot: false,
    useCodeCache: false,
    assets: Object.fromEntries(ASSETS.map((name) => [name, join(root, name)])),
  };
  writeFileSync(join(work, 'config.json'), JSON.stringify(config));
  const made = spawnSync(pinnedRuntime().path, ['--experimental-sea-config', 'config.json'], {
    cwd: work,
    encoding: 'utf8',
  });
  if (made.status !== 0) throw new SetUpError(`the script: ${made.stderr}`, 'look at its message');
  return readFileSync(join(work, 'blob'));
}

/** Node for Windows with the script inside, our name on it, and without the signature, which is of other bytes. */
async function windowsExecutable(node, blob) {
  const { NtExecutable, NtExecutableResource, Resource } = await import('resedit');
  const executable = NtExecutable.from(node, { ignoreCert: true });
  const resources = NtExecutableResource.from(executable);
  const { version } = readJson(join(root, 'package.json'));
  const [info] = Resource.VersionInfo.fromEntries(resources.entries);
  const numbers = [...version.split(/[.-]/).slice(0, 3).map(Number), 0];
  info.setFileVersion(...numbers, ENGLISH);
  info.setProductVersion(...numbers, ENGLISH);
  info.setStringValues(
    { lang: ENGLISH, codepage: UNICODE },
    {
      CompanyName: 'PodHeitor',
      ProductName: 'PodHeitor HVDR',
      FileDescription: 'Disaster recovery for Hyper-V',
      FileVersion: version,
      ProductVersion: version,
      InternalName: PROGRAM,
      OriginalFilename: `${PROGRAM}.exe`,
      LegalCopyright: 'The authors of PodHeitor HVDR; Node.js contributors. See LICENSE.',
    },
  );
  info.outputToResourceEntries(resources.entries);
  const entry = { type: RESOURCE_OF_RAW_DATA, id: BLOB, lang: ENGLISH, codepage: UNICODE };
  resources.entries.push({ ...entry, bin: blob });
  resources.outputResource(executable);
  return lightFuse(Buffer.from(executable.generate()));
}

async function linuxExecutable(node, blob) {
  const { default: postject } = await import('postject');
  const work = mkdtempSync(join(tmpdir(), 'hvdr-inject-'));
  try {
    const path = join(work, 'node');
    writeFileSync(path, node);
    await postject.inject(path, BLOB, blob, { sentinelFuse: FUSE });
    return readFileSync(path);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function lightFuse(executable) {
  const at = executable.indexOf(`${FUSE}:0`);
  if (at < 0 || executable.includes(FUSE, at + 1)) {
    throw new SetUpError('this Node has no single place for a script', 'use the pinned one');
  }
  executable[at + FUSE.length + 1] = '1'.charCodeAt(0);
  return executable;
}

/** What is put together, by platform. */
const PARTS = {
  win32: async () => {
    const { node, koffi } = await windowsModules();
    return { node, koffi, suffix: '.exe', embed: windowsExecutable };
  },
  linux: () => {
    const koffi = join(modulesFolder, '@koromix', `koffi-linux-${process.arch}`);
    const triplet = `linux_${process.arch}`;
    return {
      node: pinnedRuntime().path,
      koffi: join(koffi, triplet, 'koffi.node'),
      suffix: '',
      embed: linuxExecutable,
    };
  },
};

/**
 * Makes the executable and what lies beside it in `folder`; returns the paths in it. The checkout has to be built.
 * @throws SetUpError
 */
export async function makeExecutable({ platform, folder }) {
  const { node, koffi, suffix, embed } = await PARTS[platform]();
  const work = mkdtempSync(join(tmpdir(), 'hvdr-executable-'));
  try {
    const blob = blobOf(await bundle(platform), work);
    mkdirSync(join(folder, 'native'), { recursive: true });
    const program = `${PROGRAM}${suffix}`;
    const commandLine = `${COMMAND_LINE}${suffix}`;
    for (const name of [program, commandLine]) rmSync(join(folder, name), { force: true });
    writeFileSync(join(folder, program), await embed(readFileSync(node), blob), { mode: 0o755 });
    linkSync(join(folder, program), join(folder, commandLine));
    copyFileSync(koffi, join(folder, 'native', 'koffi.node'));
    const scripts = platform === 'win32' ? copyScripts(join(folder, 'powershell')) : [];
    return [program, commandLine, 'native/koffi.node', ...scripts];
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function copyScripts(folder) {
  if (!existsSync(SCRIPTS)) return [];
  mkdirSync(folder, { recursive: true });
  const names = readdirSync(SCRIPTS).filter((name) => name.endsWith('.ps1'));
  for (const name of names) copyFileSync(join(SCRIPTS, name), join(folder, name));
  return names.sort().map((name) => `powershell/${name}`);
}

async function main() {
  const { values } = parseArgs({
    options: { platform: { type: 'string' }, out: { type: 'string' } },
  });
  if (!Object.hasOwn(PARTS, values.platform ?? '') || values.out === undefined) {
    throw new SetUpError(
      `usage: ${basename(process.argv[1])} --platform win32|linux --out FOLDER`,
      'give both',
    );
  }
  const folder = resolve(values.out);
  const made = await step(`make the executable for ${values.platform}`, () =>
    makeExecutable({ platform: values.platform, folder }),
  );
  // whoever passes the program on passes these on as well; the packages hold them in places of their own
  writeFileSync(join(folder, LICENCES), foreignLicences());
  for (const name of [...made, LICENCES]) process.stdout.write(`${join(folder, name)}\n`);
}

if (process.argv[1] !== undefined && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  try {
    await main();
  } catch (error) {
    if (!(error instanceof SetUpError)) throw error;
    note(`${error.message}; ${error.remedy}`);
    process.exitCode = 1;
  }
}
