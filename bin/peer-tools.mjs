// Outside programs that the tests compare with: what is missing, and its installation by apt where
// that is possible (root on Debian or a child of it). Elsewhere the tests name what they skip.

import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { root } from './checkout.mjs';
import { note, runProgram, step } from './steps.mjs';

const LOCK_WAIT_SECONDS = 300;

function isOnPath(tool) {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  return folders.some((folder) => {
    try {
      accessSync(join(folder, tool), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** Debian's modules belong to Debian's Python; another one may come first on PATH. */
const SYSTEM_PYTHON = '/usr/bin/python3';

function isPresent({ tool, pythonModule }) {
  if (tool !== undefined) return isOnPath(tool);
  const run = spawnSync(SYSTEM_PYTHON, ['-c', `import ${pythonModule}`], { stdio: 'ignore' });
  return run.status === 0;
}

/** The entries of peer-tools.json that this machine lacks. */
export function missingPeerTools() {
  const list = JSON.parse(readFileSync(join(root, 'bin', 'peer-tools.json'), 'utf8')).tools;
  return list.filter((entry) => !isPresent(entry));
}

function canInstall() {
  return process.getuid?.() === 0 && existsSync('/etc/debian_version') && isOnPath('apt-get');
}

function apt(args) {
  return runProgram('apt-get', ['-o', `DPkg::Lock::Timeout=${LOCK_WAIT_SECONDS}`, ...args], {
    env: { DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C.UTF-8' },
  });
}

/** Debian asks this program whether a package may start its service; 101 means no. */
const POLICY = '/usr/sbin/policy-rc.d';

/** The tests start daemons themselves; none of an installed package is to run on the machine. */
async function withoutServices(install) {
  if (existsSync(POLICY)) return install();
  writeFileSync(POLICY, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  try {
    return await install();
  } finally {
    rmSync(POLICY, { force: true });
  }
}

/**
 * Installs what is missing, or says what is missing and why it was not installed. With `tools`: of
 * these only.
 */
export async function ensurePeerTools(tools) {
  const missing = missingPeerTools().filter(
    ({ tool }) => tools === undefined || tools.includes(tool),
  );
  if (missing.length === 0) return;
  // what `with` names comes in place of heavier packages that apt would choose
  const wanted = missing.flatMap((entry) => [entry.package, ...(entry.with ?? [])]);
  const packages = [...new Set(wanted)];
  const names = missing.map(({ tool, pythonModule }) => tool ?? `python3 ${pythonModule}`);
  if (!canInstall()) {
    note(
      `not installed: ${names.join(', ')}; what needs them is skipped or refused ` +
        `(as root on Debian: apt-get install ${packages.join(' ')})`,
    );
    return;
  }
  const update = await step('refresh the package lists (apt-get update)', () => apt(['update']));
  if (update.code !== 0) note(`apt-get update ended with exit code ${update.code}; going on`);
  const install = ['install', '-y', '--no-install-recommends', ...packages];
  const preview = await apt(['--assume-no', ...install.filter((word) => word !== '-y')]);
  const amounts = preview.output
    .split('\n')
    .filter((line) => /^Need to get|disk space will be used/.test(line))
    .join(' ');
  note(`${names.join(', ')} missing: installing ${packages.join(', ')}. ${amounts}`);
  const run = await step('install the peer programs (apt-get)', () =>
    withoutServices(() => apt(install)),
  );
  if (run.code !== 0) {
    process.stderr.write(run.output);
    note('apt-get could not install them; what needs them is skipped or fails');
  }
}
