// A new image file, whatever its format: begun under a temporary name, filled by the caller, complete
// and durable under its own name, or not there at all.

import type { Random } from '../clock.js';
import type { FileSystem } from '../files/index.js';
import { SealedVhdxWriter } from '../vhdx/index.js';
import type { CopyTarget } from './copy-disk.js';
import type { OwnFormat } from './image-format.js';
import { RawTarget } from './raw-target.js';

/** What the target is to be. */
export interface TargetFormat {
  readonly to: OwnFormat;
  /** VHDX only. Default: dynamic. */
  readonly type?: 'fixed' | 'dynamic' | undefined;
  /** VHDX only. Default: 32 MiB. */
  readonly blockSizeBytes?: number | undefined;
}

export interface TargetOptions extends TargetFormat {
  /** Replace a file that has the target's name. Default: refuse with E_EXISTS. */
  readonly isReplacing?: boolean | undefined;
}

/** What the guest sees of a disk; every disk fits. A raw file keeps nothing but the size. */
export interface TargetGeometry {
  readonly sizeBytes: number;
  readonly logicalSectorBytes: number;
  readonly physicalSectorBytes: number;
}

/**
 * Makes the file `target` of what `fill` writes, in ascending order; all else reads as zeros. Durable
 * under its name on return; what goes wrong leaves nothing behind, and is thrown as it is.
 * @throws DrError E_EXISTS, E_USAGE for an impossible disk, E_IO, E_CAPACITY; what `fill` throws
 */
export async function buildTarget<T>(
  target: string,
  options: TargetOptions,
  { sizeBytes, logicalSectorBytes, physicalSectorBytes }: TargetGeometry,
  { fs, random }: { readonly fs: FileSystem; readonly random: Random },
  fill: (writer: CopyTarget) => Promise<T>,
): Promise<T> {
  const { to, type = 'dynamic', blockSizeBytes, isReplacing } = options;
  const file = { fs, random, path: target, sizeBytes, isReplacing };
  const writer =
    to === 'raw'
      ? await RawTarget.create(file)
      : await SealedVhdxWriter.create({
          ...file,
          type,
          blockSizeBytes,
          logicalSectorBytes,
          physicalSectorBytes: Math.max(logicalSectorBytes, physicalSectorBytes),
        });
  try {
    const result = await fill(writer);
    await writer.finish();
    return result;
  } catch (error) {
    await writer.abort();
    throw error;
  }
}
