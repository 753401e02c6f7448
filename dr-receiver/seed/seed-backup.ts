// A seed from the folder that a restore of a Bacula job wrote (docs/seeding.md):
//
//   [@hyperv/]VM-Name/disks/VM-Name_<disk id>.vhdx              the disk of the Full
//                     disks/VM-Name_<disk id>.vhdx.<n>.cbt      deltas, in the order of n
//                     .meta/VM-Name_<disk id>.vhdx.<n>.manifest their manifests
//
// A delta without a number is the first one. Each delta has to follow the one before it. Read as base
// plus deltas, without writing anything.

import path from 'node:path';
import { type Guid, parseGuid, ZERO_GUID } from '../../shared/bytes/index.js';
import { LayeredDisk, ManifestFile, MAX_DISKS, PcbtDelta } from '../../shared/delta/index.js';
import type { ReadableDisk } from '../../shared/disk/index.js';
import { DrError } from '../../shared/errors.js';
import type { BlockFile } from '../../shared/files/index.js';
import { openVhdx } from '../../shared/vhdx/index.js';
import type { DiskGeometry } from '../store/records.js';
import { contentOfDisks, geometryOf, type SeedContent, type SeedSeams } from './seed-content.js';

/** Deltas of one disk: each takes two open files. */
const DELTAS_MAX = 1000;
const BASE_NAME = /^(.+)_([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.vhdx$/i;

interface FoundDisk {
  readonly name: string;
  readonly diskId: Guid;
  /** By number, the oldest first. */
  readonly deltas: readonly { readonly name: string; readonly number: number }[];
}

function backupError(message: string, hint: string, context: Record<string, string> = {}): DrError {
  return new DrError('E_SEED_BACKUP', message, { context, done: 'nothing was staged', hint });
}

/** @throws DrError E_SEED_BACKUP, E_SEED_PATH, E_DELTA_PARENT, E_DISK_MISMATCH; VhdxError, DeltaError */
export async function openSeedBackup(
  seams: SeedSeams,
  name: string,
  vmName: string,
): Promise<SeedContent> {
  const folder = await vmFolder(seams, seams.resolve(name), vmName);
  const found = disksIn(await seams.files.list(path.join(folder, 'disks')), folder);
  const open: OpenDisk[] = [];
  const close = async (): Promise<void> => {
    for (const { files } of open) for (const file of files) await file.close();
  };
  try {
    for (const each of found) open.push(await openDisk(seams, folder, each));
  } catch (error) {
    for (const { disk } of open) await disk.close();
    await close();
    throw error;
  }
  const newest = found.map(({ name: base, deltas }) => deltas.at(-1)?.name ?? base);
  return contentOfDisks({
    vmId: oneVm(open, folder),
    vmName: vmName === '' ? path.basename(folder) : vmName,
    sealedBy: undefined,
    from: `bacula:${newest.join(', ')}`.slice(0, 4000),
    disks: open,
    alsoClose: close,
  });
}

/** The folder of the VM: the one that is named, or the one below it that holds `disks`. */
async function vmFolder({ files }: SeedSeams, place: string, vmName: string): Promise<string> {
  const isVm = async (folder: string): Promise<boolean> =>
    (await files.status(path.join(folder, 'disks')))?.kind === 'folder';
  if ((await files.status(place))?.kind !== 'folder') {
    throw backupError(
      `${place} is no folder`,
      'Restore the job to a folder of this machine, then name that folder.',
    );
  }
  if (await isVm(place)) return place;
  const found: string[] = [];
  for (const parent of [path.join(place, '@hyperv'), place]) {
    if ((await files.status(parent))?.kind !== 'folder') continue;
    for (const name of await files.list(parent)) {
      const folder = path.join(parent, name);
      if ((await files.status(folder))?.kind === 'folder' && (await isVm(folder)))
        found.push(folder);
    }
  }
  const named = found.filter((folder) => path.basename(folder) === vmName);
  const [only] = named.length > 0 ? named : found;
  if (only !== undefined && (named.length === 1 || found.length === 1)) return only;
  throw backupError(
    only === undefined ? `${place} holds no restored VM` : `${place} holds ${found.length} VMs`,
    only === undefined
      ? 'Name the folder to which the job was restored: it holds @hyperv/VM/disks.'
      : 'Give --vm with the name of one, or name its folder.',
  );
}

function disksIn(names: readonly string[], folder: string): FoundDisk[] {
  const found = names.flatMap((name): FoundDisk[] => {
    const diskId = parseGuid(BASE_NAME.exec(name)?.[2] ?? '');
    return diskId === undefined ? [] : [{ name, diskId, deltas: deltasOf(name, names) }];
  });
  if (found.length === 0 || found.length > MAX_DISKS) {
    throw backupError(
      `${path.join(folder, 'disks')} holds ${found.length} disks`,
      'A disk is named VM-Name_<id>.vhdx; restore the Full with the later jobs, not the deltas alone.',
    );
  }
  return found;
}

function deltasOf(base: string, names: readonly string[]): FoundDisk['deltas'] {
  const deltas = names
    .filter((name) => name.startsWith(`${base}.`) && name.endsWith('.cbt'))
    .flatMap((name) => {
      const middle = name.slice(base.length + 1, -'cbt'.length);
      if (middle === '') return [{ name, number: -1 }];
      return /^\d{1,15}\.$/.test(middle) ? [{ name, number: Number(middle.slice(0, -1)) }] : [];
    })
    .sort((a, b) => a.number - b.number);
  if (deltas.length <= DELTAS_MAX) return deltas;
  throw backupError(
    `${base} has ${deltas.length} deltas`,
    `Restore a later Full: at most ${DELTAS_MAX} deltas are read at once.`,
  );
}

interface OpenDisk {
  readonly geometry: DiskGeometry;
  readonly disk: ReadableDisk;
  readonly vmIds: readonly Guid[];
  readonly files: readonly BlockFile[];
}

async function openDisk(
  { files: fs, random }: SeedSeams,
  folder: string,
  { name, diskId, deltas }: FoundDisk,
): Promise<OpenDisk> {
  const open: BlockFile[] = [];
  const take = async (file: string): Promise<BlockFile> => {
    const handle = await fs.open(file, { mode: 'read' });
    open.push(handle);
    return handle;
  };
  let base: ReadableDisk | undefined;
  try {
    base = await openVhdx(path.join(folder, 'disks', name), { fs, random });
    const sources: PcbtDelta[] = [];
    for (const delta of deltas) {
      const manifestName = delta.name.replace(/cbt$/, 'manifest');
      const manifestFile = path.join(folder, '.meta', manifestName);
      if ((await fs.status(manifestFile)) === undefined) {
        throw backupError(
          `${delta.name} has no manifest`,
          `Restore .meta/${manifestName} as well, or import another job.`,
          { file: manifestFile },
        );
      }
      const manifest = await ManifestFile.open(await take(manifestFile));
      if (manifest.header.diskId !== diskId) {
        throw new DrError(
          'E_DISK_MISMATCH',
          `${manifestName} is of disk ${manifest.header.diskId}, its name says ${diskId}`,
          { context: { field: 'disk', file: manifestFile } },
        );
      }
      sources.push(new PcbtDelta(manifest, await take(path.join(folder, 'disks', delta.name))));
    }
    const vmIds = sources.map(({ header }) => header.vmId).filter((id) => id !== ZERO_GUID);
    const geometry = geometryOf(diskId, base, name);
    const disk = sources.length === 0 ? base : await LayeredDisk.open(base, sources);
    return { geometry, disk, vmIds, files: open };
  } catch (error) {
    await base?.close();
    for (const file of open) await file.close();
    throw error;
  }
}

/** The VM that the manifests name; undefined when none does. */
function oneVm(disks: readonly OpenDisk[], folder: string): Guid | undefined {
  const ids = new Set(disks.flatMap(({ vmIds }) => vmIds));
  if (ids.size > 1) {
    throw backupError(
      `the manifests of ${folder} are of ${ids.size} VMs`,
      'Restore one VM to a folder of its own.',
    );
  }
  return [...ids][0];
}
