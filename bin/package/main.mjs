// `npm run package`: what people install. Linux: a .deb and a tarball. Windows: the programs and a set-up. The same
// sources give the same bytes; SHA256SUMS names them.
//
//   npm run package -- [--out FOLDER] [--only deb|tarball|windows]… [--node FILE] [--programs FOLDER]
//                      [--compress off] [--release VERSION] [--sign-certificate FILE --sign-key FILE]
//
// --node ships another Node than the pinned one (Linux), --programs what was made before, as in windows-x64 (Windows);
// --compress off makes .deb and set-up quickly, and large; --release names another version. What is signed is not
// reproducible: compare before.

import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { pinnedRuntime, root } from '../checkout.mjs';
import { ensurePeerTools, missingPeerTools } from '../peer-tools.mjs';
import { SetUpError, step } from '../steps.mjs';
import { makeExecutable } from './executable.mjs';
import { packDebian, packTarball } from './linux.mjs';
import { must, packageTime } from './product.mjs';
import { copyPrograms, layWindows, packSetup } from './windows.mjs';

/** For each target what it takes besides Node, as bin/peer-tools.json names it. */
const TOOLS = {
  deb: ['gcc', 'dpkg-deb'],
  tarball: ['gcc'],
  windows: ['x86_64-w64-mingw32-gcc', 'makensis', 'osslsigncode'],
};

const PACKERS = {
  deb: async (parts) => [await packDebian(await linuxParts(parts))],
  tarball: async (parts) => [await packTarball(await linuxParts(parts))],
  windows: makeWindows,
};

/** Returns the exit code. */
export async function makePackages(runtime, args) {
  const { values } = parseArgs({
    args,
    options: {
      out: { type: 'string' },
      only: { type: 'string', multiple: true },
      node: { type: 'string' },
      programs: { type: 'string' },
      compress: { type: 'string' },
      release: { type: 'string' },
      'sign-certificate': { type: 'string' },
      'sign-key': { type: 'string' },
    },
  });
  const targets = values.only ?? Object.keys(PACKERS);
  const unknown = targets.find((target) => !Object.hasOwn(PACKERS, target));
  if (unknown !== undefined) {
    throw new SetUpError(
      `--only ${unknown} is not known`,
      `give ${Object.keys(PACKERS).join(', ')}`,
    );
  }
  await needTools(targets.flatMap((target) => TOOLS[target]));
  const folder = resolve(values.out ?? join(root, 'out'));
  mkdirSync(folder, { recursive: true });
  const time = await packageTime();
  const work = mkdtempSync(join(tmpdir(), 'hvdr-package-'));
  const node = values.node === undefined ? pinnedRuntime().path : resolve(values.node);
  const parts = { ...values, runtime, node, folder, work, time, signature: signatureOf(values) };
  try {
    const made = [];
    for (const target of targets) {
      made.push(...(await step(`package: ${target}`, () => PACKERS[target](parts))));
    }
    writeFileSync(
      join(folder, 'SHA256SUMS'),
      made
        .sort()
        .map((name) => sumLine(folder, name))
        .join(''),
    );
    for (const name of [...made, 'SHA256SUMS']) process.stdout.write(`${join(folder, name)}\n`);
    return 0;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

async function needTools(tools) {
  await ensurePeerTools(tools);
  const missing = missingPeerTools().filter(({ tool }) => tools.includes(tool));
  if (missing.length === 0) return;
  throw new SetUpError(
    `${missing.map(({ tool }) => tool).join(', ')} not installed`,
    `as root on Debian: apt-get install ${[...new Set(missing.map((entry) => entry.package))].join(' ')}`,
  );
}

function sumLine(folder, name) {
  return `${createHash('sha256')
    .update(readFileSync(join(folder, name)))
    .digest('hex')}  ${name}\n`;
}

/** The plugins of the File Daemon, built in `work`. */
async function buildAdapters(platform, work) {
  const folder = join(work, 'adapter', platform);
  const script = join(root, 'bin', 'build-adapter.mjs');
  const built = await must(process.execPath, [script, '--platform', platform, '--folder', folder]);
  return built.trim().split('\n');
}

/** The files of a key that Windows programs are signed with; undefined: they are not. */
function signatureOf({ 'sign-certificate': certificate, 'sign-key': key }) {
  if (certificate === undefined && key === undefined) return undefined;
  if (certificate !== undefined && key !== undefined) return { certificate, key };
  throw new SetUpError(
    'a signature needs a certificate and its key',
    'give --sign-certificate and --sign-key',
  );
}

/** Signs a program in its place. */
async function sign({ certificate, key }, path) {
  const signed = `${path}.signed`;
  const about = ['-h', 'sha256', '-n', 'PodHeitor HVDR'];
  await must('osslsigncode', [
    'sign',
    '-certs',
    certificate,
    '-key',
    key,
    ...about,
    '-in',
    path,
    '-out',
    signed,
  ]);
  renameSync(signed, path);
}

/** Whoever takes the bare programs takes these with them. */
function copyLicences(stage, folder) {
  return ['LICENSE.txt', 'THIRD-PARTY-LICENCES.txt'].map((file) => {
    const name = join('windows-x64', file);
    copyFileSync(stage.path(file), join(folder, name));
    return name;
  });
}

async function makeWindows(parts) {
  const { runtime, folder, work, time, signature, compress = 'lzma', release } = parts;
  const programs = parts.programs ?? join(work, 'programs');
  if (parts.programs === undefined) await makeExecutable({ platform: 'win32', folder: programs });
  const stage = layWindows({ runtime, work, programs });
  if (!existsSync(stage.path('bacula/podheitor-hyperv-fd.dll'))) {
    for (const path of await buildAdapters('windows', work)) {
      stage.copy(path, join('bacula', basename(path)));
    }
  }
  if (!existsSync(stage.path('phsvc.exe'))) {
    const script = join(root, 'bin', 'build-service-host.mjs');
    await must(process.execPath, [script, '--output', stage.path('phsvc.exe')]);
  }
  if (signature !== undefined) {
    for (const file of stage.files().filter((name) => /\.(exe|dll)$/.test(name))) {
      await sign(signature, stage.path(file));
    }
  }
  stage.setTimes(time);
  const setup = await packSetup({ stage, folder, work, time, compress, release });
  if (signature !== undefined) await sign(signature, join(folder, setup));
  return [setup, ...copyPrograms(stage, folder), ...copyLicences(stage, folder)];
}

/** Both packages for Linux have the same plugins. */
async function linuxParts(parts) {
  parts.adapters ??= await buildAdapters('linux', parts.work);
  return parts;
}
