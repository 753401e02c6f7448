// Scripts of the operator: files directly in one folder of this side. What names them may come from a
// parameter, a plan or over the wire, so a name is never a path.

import path from 'node:path';
import { DrError } from '../errors.js';
import { accessAdvice, type FileSystem } from '../files/index.js';

const NAME_CHARACTERS_MAX = 128;

/** Letters, digits and `. _ -`, no dot in front: it stays in its folder and looks like no option. */
export function isScriptName(text: string): boolean {
  return /^[A-Za-z0-9_][A-Za-z0-9._-]*$/.test(text) && text.length <= NAME_CHARACTERS_MAX;
}

/**
 * Absolute path of a script, without symbolic links.
 * @throws DrError E_PARAMETER (no name of a script; no folder of scripts here; it leads out of the
 * folder; others may change it), E_NOT_FOUND
 */
export async function findScript(
  fs: FileSystem,
  folder: string | undefined,
  name: string,
): Promise<string> {
  if (!isScriptName(name)) {
    throw new DrError('E_PARAMETER', `"${name}" is no name of a script`, {
      hint: 'Scripts are named by their file name alone: letters, digits, dots, - and _.',
    });
  }
  if (folder === undefined) {
    throw new DrError(
      'E_PARAMETER',
      `the script ${name} cannot run: this side has no script folder`,
      {
        hint: 'Name the folder that holds the scripts with `--script-dir DIR`.',
      },
    );
  }
  const inFolder = path.join(folder, name);
  if ((await fs.status(inFolder))?.kind !== 'file') {
    throw new DrError('E_NOT_FOUND', `there is no script ${name} in ${folder}`, {
      context: { path: inFolder },
    });
  }
  const real = await fs.realPath(inFolder);
  if (path.dirname(real) !== (await fs.realPath(folder))) {
    throw new DrError('E_PARAMETER', `the script ${name} leads out of ${folder}`, {
      context: { path: inFolder },
      hint: 'Put the file itself into the folder instead of a link.',
    });
  }
  for (const place of [real, path.dirname(real)]) {
    if ((await fs.status(place))?.isChangeableByOthers !== true) continue;
    throw new DrError('E_PARAMETER', `the script ${name} is not run: others may change ${place}`, {
      context: { path: place },
      hint: `Take the right to write from others (${accessAdvice(place, 'change')}).`,
    });
  }
  return real;
}
