// A seed from disk images that are at the DR site already. The format is said, never guessed.

import path from 'node:path';
import { type Guid, guidFromWire, ZERO_GUID } from '../../shared/bytes/index.js';
import type { SeedFile } from '../../shared/channel/index.js';
import { type ReadableDisk } from '../../shared/disk/index.js';
import { DrError } from '../../shared/errors.js';
import { openImage } from '../../shared/image/index.js';
import { openVhdx } from '../../shared/vhdx/index.js';
import { contentOfDisks, geometryOf, type SeedContent, type SeedSeams } from './seed-content.js';

/** @throws DrError E_SEED_PATH, E_USAGE, E_NOT_FOUND, E_IMAGE_FORMAT; VhdxError */
export async function openSeedFiles(
  seams: SeedSeams,
  wanted: readonly SeedFile[],
): Promise<SeedContent> {
  const disks: { geometry: ReturnType<typeof geometryOf>; disk: ReadableDisk }[] = [];
  const names: string[] = [];
  try {
    for (const file of wanted) {
      const name = seams.resolve(file.path);
      const { disk, ownId } = await openDisk(seams, name, file.format);
      try {
        const diskId = file.diskId.length === 0 ? ownId : guidFromWire(file.diskId);
        if (diskId === undefined || diskId === ZERO_GUID) {
          throw new DrError('E_USAGE', `${file.path} does not say which disk of the VM it is`, {
            hint: 'Give --disk-id ID for each file; `hvdr seed --vm NAME --host HOST` at the source prints the ids.',
          });
        }
        disks.push({ geometry: geometryOf(diskId, disk, file.path), disk });
        names.push(`${file.format}:${path.basename(file.path)}`);
      } catch (error) {
        await disk.close();
        throw error;
      }
    }
  } catch (error) {
    for (const { disk } of disks) await disk.close();
    throw error;
  }
  const identity = { vmId: undefined, vmName: undefined, sealedBy: undefined };
  return contentOfDisks({ ...identity, from: names.join(', '), disks });
}

async function openDisk(
  { files: fs, random }: SeedSeams,
  name: string,
  format: string,
): Promise<{ disk: ReadableDisk; ownId: Guid | undefined }> {
  if (format === 'vhdx') {
    const disk = await openVhdx(name, { fs, random });
    return { disk, ownId: disk.top.structures.disk.diskId };
  }
  if (format === 'raw') {
    return { disk: await openImage(fs, name, { random, format }), ownId: undefined };
  }
  throw new DrError('E_USAGE', `a seed has no format "${format}", vhdx and raw are legal`);
}
