// Where ledgers and leases live when nobody says: the machine's folder when this user may write
// there, else one of the user's own, so that nothing needs root. Two users with two folders do not
// share leases: one of them protects a VM, not both.

import path from 'node:path';
import type { Random } from '../shared/clock.js';
import { DrError } from '../shared/errors.js';
import { type FileSystem, temporaryPathBeside } from '../shared/files/index.js';

export interface StateFolderSeams {
  readonly fs: FileSystem;
  readonly random: Random;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly platform: NodeJS.Platform;
}

/** The folder, made if need be. @throws DrError E_IO when none can be written */
export async function stateFolder(
  wanted: string | undefined,
  seams: StateFolderSeams,
): Promise<string> {
  const { fs, random } = seams;
  if (wanted !== undefined) {
    await fs.makeFolder(wanted);
    return wanted;
  }
  const candidates = defaultFolders(seams);
  let refusal: unknown;
  for (const folder of candidates) {
    try {
      await fs.makeFolder(folder);
      await probe(fs, folder, random);
      return folder;
    } catch (error) {
      if (!(error instanceof DrError)) throw error;
      refusal ??= error;
    }
  }
  throw new DrError('E_IO', `no folder for state can be written: ${candidates.join(', ')}`, {
    hint: 'Name one with --state-dir.',
    cause: refusal,
  });
}

/**
 * The folder that is there, for work that must not make one. When there is none, the one that would be
 * made.
 */
export async function presentStateFolder(
  wanted: string | undefined,
  seams: StateFolderSeams,
): Promise<string> {
  if (wanted !== undefined) return wanted;
  const { fs, random } = seams;
  const candidates = defaultFolders(seams);
  for (const folder of candidates) {
    try {
      if ((await fs.status(folder)) === undefined) continue;
      await probe(fs, folder, random);
      return folder;
    } catch (error) {
      if (!(error instanceof DrError)) throw error;
    }
  }
  return candidates[0] ?? '';
}

/** Most preferred first. */
export function defaultFolders({ environment, platform }: StateFolderSeams): string[] {
  if (platform === 'win32') {
    const machine = environment['ProgramData'] ?? 'C:\\ProgramData';
    const own = environment['LOCALAPPDATA'];
    const under = (folder: string): string => path.win32.join(folder, 'PodHeitor', 'rct');
    return own === undefined ? [under(machine)] : [under(machine), under(own)];
  }
  const home = environment['HOME'];
  const state = environment['XDG_STATE_HOME'] ?? (home && path.join(home, '.local', 'state'));
  const machine = '/var/lib/podheitor/rct';
  return state === undefined || state === ''
    ? [machine]
    : [machine, path.join(state, 'podheitor', 'rct')];
}

async function probe(fs: FileSystem, folder: string, random: Random): Promise<void> {
  const file = temporaryPathBeside(path.join(folder, 'probe'), random);
  const handle = await fs.open(file, { mode: 'create' });
  await handle.close();
  await fs.remove(file);
}
