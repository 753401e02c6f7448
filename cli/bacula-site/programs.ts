// Programs of others that a site needs, and what they say.

import { DrError } from '../../shared/errors.js';
import { runStep } from '../demo-run.js';
import { findProgram } from '../find-program.js';

/** By name; most stand in the sbin folders, which are not on everybody's path. */
const NEEDED = [
  'bacula-dir',
  'bacula-sd',
  'bacula-fd',
  'bconsole',
  'sqlite3',
  'gcc',
  'setpriv',
] as const;
const PACKAGES =
  'bacula-director bacula-director-sqlite3 bacula-sd bacula-fd bacula-console sqlite3 build-essential';

/** @throws DrError E_TOOL_MISSING that names all that is missing */
export function requireBacula(environment: Readonly<Record<string, string | undefined>>): void {
  const missing = NEEDED.filter((name) => findProgram({ environment }, name) === undefined);
  if (missing.length === 0) return;
  throw new DrError('E_TOOL_MISSING', `not installed: ${missing.join(', ')}`, {
    done: 'nothing was started',
    hint: `Debian: apt-get install --no-install-recommends ${PACKAGES}`,
  });
}

/** What a program says that has to succeed. @throws DrError E_TOOL_FAILED */
export async function outputOf(
  program: string,
  args: readonly string[],
  options: { readonly input?: string; readonly codes?: 'any' } = {},
): Promise<string> {
  const chunks: Buffer[] = [];
  await runStep(program, args, {
    folder: '/',
    environment: { ...process.env, LC_ALL: 'C' },
    onOutput: (chunk) => chunks.push(chunk),
    ...(options.input !== undefined && { input: options.input }),
    ...(options.codes !== undefined && { expectedCodes: options.codes }),
  });
  return Buffer.concat(chunks).toString();
}
