// What may be replaced: asked before any work is done, so that a wish that cannot be fulfilled costs
// nothing and harms nothing. A target appears by a rename, which would take a file away from under
// the disks that depend on it, and from under the very command that reads it.

import type { Random } from '../clock.js';
import { DrError } from '../errors.js';
import type { FileSystem } from '../files/index.js';
import { findChildren, openVhdx, VhdxError } from '../vhdx/index.js';
import { vetForeignImage } from './foreign-image.js';
import { detectImageFormat } from './open-image.js';

export interface TargetRequest {
  /** Replace a file that has the target's name. */
  readonly isReplacing: boolean;
  /** Every file that the command reads; the files that these need are found here. */
  readonly inputs: readonly string[];
}

/**
 * Passes when `target` is free, or is a file that may be replaced.
 * @throws DrError E_EXISTS; E_USAGE for an input or a file that one needs; VhdxError E_VHDX_HAS_CHILDREN;
 * what opening an input throws
 */
export async function checkTarget(
  target: string,
  { isReplacing, inputs }: TargetRequest,
  { fs, random }: { readonly fs: FileSystem; readonly random: Random },
): Promise<void> {
  const existing = await fs.status(target);
  if (existing === undefined) return;
  if (!isReplacing || existing.kind !== 'file') {
    const what = existing.kind === 'file' ? 'exists already' : 'exists and is no file';
    throw new DrError('E_EXISTS', `${target} ${what}`, {
      context: { file: target },
      hint: 'Choose another name; `--force` replaces an existing file.',
    });
  }
  for (const input of inputs) {
    for (const file of await filesOf(input, { fs, random })) {
      if ((await fs.status(file))?.identity !== existing.identity) continue;
      const what = file === input ? 'is an input' : `holds a part of ${input}, an input`;
      throw new DrError('E_USAGE', `${target} ${what} of this command`, {
        context: { file: target },
      });
    }
  }
  const children = await findChildren(fs, target);
  if (children.length > 0) {
    throw new VhdxError(
      {
        code: 'E_VHDX_HAS_CHILDREN',
        structure: 'chain',
        offset: 0,
        message: `replacing it would make its children wrong: ${children.join(', ')}`,
      },
      target,
    );
  }
}

/** An input itself, then the parents of a differencing VHDX or the extents of a VMDK. */
async function filesOf(
  input: string,
  { fs, random }: { readonly fs: FileSystem; readonly random: Random },
): Promise<string[]> {
  const format = await detectImageFormat(fs, input);
  if (format === 'raw') return [input];
  if (format !== 'vhdx') return [input, ...(await vetForeignImage(fs, input, format))];
  const disk = await openVhdx(input, { fs, random });
  try {
    return [input, ...disk.layers.slice(1).map((layer) => layer.path)];
  } finally {
    await disk.close();
  }
}
