// What a test needs from outside: peer programs and sample files. When it is missing the test is
// skipped with a reason that the closing report prints; with HVDR_FORBID_SKIP=1 (CI) it fails
// instead. Call it first in a test or in a `before` hook written as `function ()`.

import { spawnSync } from 'node:child_process';
import { accessSync, appendFileSync, constants, existsSync, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { checkoutFolder, samplesFolder } from './checkout.js';

interface PeerTool {
  readonly tool?: string;
  readonly pythonModule?: string;
  readonly package: string;
}

/** One line of the file that HVDR_SKIP_LOG names; read by test/support/reporter.ts. */
export interface SkipRecord {
  /** Full title of the test, or of the suite when a hook skipped all of it. */
  readonly title: string;
  readonly reason: string;
}

function peerTools(): readonly PeerTool[] {
  const text = readFileSync(join(checkoutFolder, 'bin', 'peer-tools.json'), 'utf8');
  // our own checked-in file; tidy.test.ts checks its shape
  return (JSON.parse(text) as { tools: PeerTool[] }).tools;
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Absolute path of a program on PATH (or in the sbin folders), or undefined. */
export function findTool(name: string): string | undefined {
  const folders = (process.env['PATH'] ?? '').split(delimiter).filter((folder) => folder !== '');
  return [...folders, '/usr/sbin', '/sbin']
    .map((folder) => join(folder, name))
    .find((path) => isProgram(path));
}

function isTest(runnable: Mocha.Runnable): boolean {
  return 'type' in runnable && runnable.type === 'test';
}

/** Skips the running test, or the suite when called in a hook, and says why. */
export function skipBecause(context: Mocha.Context, reason: string): never {
  if (process.env['HVDR_FORBID_SKIP'] === '1') {
    throw new Error(`${reason}; skipping is forbidden here (HVDR_FORBID_SKIP=1)`);
  }
  const runnable = context.runnable();
  // a hook speaks for its whole suite
  const title = isTest(runnable) ? runnable.fullTitle() : (runnable.parent?.fullTitle() ?? '');
  const log = process.env['HVDR_SKIP_LOG'];
  if (log !== undefined) {
    appendFileSync(log, `${JSON.stringify({ title, reason } satisfies SkipRecord)}\n`);
  }
  return context.skip();
}

/** Goes on only when every named program can be run. */
export function needTool(context: Mocha.Context, ...names: string[]): void {
  const missing = names.filter((name) => findTool(name) === undefined);
  if (missing.length === 0) return;
  const packages = missing.map(
    (name) => peerTools().find((peer) => peer.tool === name)?.package ?? name,
  );
  skipBecause(
    context,
    `${missing.join(', ')} not installed (Debian: apt-get install ${[...new Set(packages)].join(' ')})`,
  );
}

/** Debian's modules belong to Debian's Python; another one may come first on PATH. */
export const SYSTEM_PYTHON = '/usr/bin/python3';

/** Goes on only when Debian's Python can import every named module (for example `pyvhdi`). */
export function needPythonModule(context: Mocha.Context, ...names: string[]): void {
  needTool(context, 'python3');
  const run = spawnSync(SYSTEM_PYTHON, ['-c', `import ${names.join(', ')}`], { stdio: 'ignore' });
  if (run.status === 0) return;
  const packages = names.map(
    (name) => peerTools().find((peer) => peer.pythonModule === name)?.package ?? name,
  );
  skipBecause(
    context,
    `Python module ${names.join(', ')} not installed (Debian: apt-get install ${packages.join(' ')})`,
  );
}

/** Absolute path of a sample file, for example `vhdx/win2012-dynamic-1G.vhdx.gz`. */
export function sampleFile(context: Mocha.Context, relative: string): string {
  const path = join(samplesFolder, relative);
  if (!existsSync(path)) {
    skipBecause(context, `sample ${relative} is not in ${samplesFolder} (set HVDR_SAMPLES)`);
  }
  return path;
}
