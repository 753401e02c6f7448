// The disk files of a restore: a base is led on by deltas where it is staged, checked cell by cell against
// its manifest, and only then given its name.

import { dirname } from 'node:path';
import type { Guid } from '../../shared/bytes/index.js';
import type { Random } from '../../shared/clock.js';
import { applyDelta, BaseManifest, ManifestFile, rootOfRecords } from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import type { BlockFile, FileSystem } from '../../shared/files/index.js';
import { openVhdx, VhdxFile, type VhdxDisk } from '../../shared/vhdx/index.js';
import type { ArrivedDisk } from './arrival-check.js';
import type { BaseDisk, DeltaFile, DiskPosition } from './chain.js';
import type { Item, ManifestFacts } from './items.js';

export interface DiskSeams {
  readonly fs: FileSystem;
  readonly random: Random;
}

/** Findings that are counted before a disk is given up. */
const FINDINGS_MAX = 1000;

/** The error of a file or disk that is not what was backed up, naming both. */
export function corrupt(vmName: string, what: string, cause: unknown): unknown {
  if (!(cause instanceof DrError) || !isAboutContent(cause)) return cause;
  const { message, context } = cause;
  return new DrError('E_RESTORE_CORRUPT', `${vmName}, ${what}: ${message}`, {
    context: { ...context, vmName, what, code: cause.code },
    done: 'the disk is not restored',
    cause,
  });
}

function isAboutContent({ code }: DrError): boolean {
  return /^E_(PCBT|DELTA|VHDX)_/.test(code) || code === 'E_DISK_MISMATCH';
}

async function withFile<T>(
  fs: FileSystem,
  path: string,
  use: (file: BlockFile) => Promise<T>,
): Promise<T> {
  const file = await fs.open(path, { mode: 'read' });
  try {
    return await use(file);
  } finally {
    await file.close();
  }
}

/** Reads a staged manifest whole. @throws DeltaError E_DELTA_MANIFEST, E_DELTA_VERSION */
export function manifestFacts({ fs }: DiskSeams, path: string): Promise<ManifestFacts> {
  return withFile(fs, path, async (file) => {
    const manifest = await ManifestFile.open(file);
    await manifest.verify();
    const { kind, point, parentPoint, vmId, diskId } = manifest.header;
    return { kind, point, parentPoint, vmId, diskId, root: manifest.trailer.root.toString('hex') };
  });
}

function baseManifest(seams: DiskSeams, { manifest }: BaseDisk): BaseManifest {
  return new BaseManifest(seams, manifest.staged);
}

/** @throws DeltaError E_DELTA_MANIFEST */
export async function positionOf(seams: DiskSeams, disk: BaseDisk): Promise<DiskPosition> {
  const { current, applying } = await baseManifest(seams, disk).state();
  return { point: current.point, applying: applying?.point };
}

/** A differencing disk would read whatever file its locator names. @throws DrError E_RESTORE_CORRUPT */
async function openStaged(
  { fs, random }: DiskSeams,
  { staged, file }: Item,
  isWritable: boolean,
): Promise<VhdxDisk> {
  const top = await VhdxFile.open(staged, { fs, random, isWritable: false });
  const hasParent = top.structures.locator !== undefined;
  await top.close();
  if (hasParent) {
    throw new DrError('E_RESTORE_CORRUPT', `${file.path} is a differencing disk, no base`, {
      done: 'it was not opened',
    });
  }
  return openVhdx(staged, { fs, random, isWritable });
}

/**
 * Leads the disk on; durable on return, and idempotent.
 * @throws DrError E_RESTORE_CORRUPT (the delta, or the base), E_IO, E_CAPACITY
 */
export async function applyNext(
  seams: DiskSeams,
  disk: BaseDisk,
  { delta, manifest, facts }: DeltaFile,
  vmName: string,
): Promise<void> {
  const { fs } = seams;
  try {
    const target = await openStaged(seams, disk.base, true);
    try {
      await withFile(fs, manifest.staged, (manifestFile) =>
        withFile(fs, delta.staged, async (file) =>
          applyDelta({ kind: 'file', file }, target, {
            manifest: await ManifestFile.open(manifestFile),
            base: baseManifest(seams, disk),
          }),
        ),
      );
    } finally {
      await target.close();
    }
  } catch (error) {
    throw corrupt(vmName, `disk ${facts.diskId}, ${delta.file.path}`, error);
  }
}

/** Another one for a file that was written again or changed; undefined where it is gone, or nobody can tell. */
export async function stampOf(
  { fs }: Pick<DiskSeams, 'fs'>,
  path: string,
): Promise<string | undefined> {
  const found = await fs.status(path);
  if (found?.modifiedAtMs === undefined) return undefined;
  return `${found.identity} ${found.sizeBytes} ${found.modifiedAtMs}`;
}

/** Whether the bytes of a base, on which no delta was applied since, are those that its manifest lists. */
export function isAsBackedUp(
  { fs }: DiskSeams,
  { manifest: { staged } }: BaseDisk,
  { sizeBytes, recordsRoot }: ArrivedDisk,
): Promise<boolean> {
  return withFile(fs, staged, async (file) => {
    const manifest = await ManifestFile.open(file);
    if (manifest.header.diskSizeBytes !== sizeBytes) return false;
    return (await rootOfRecords(manifest.records())).equals(recordsRoot);
  });
}

/** Reads the whole disk. @throws DrError E_RESTORE_CORRUPT with the first offset, E_IO */
export async function verifyDisk(seams: DiskSeams, disk: BaseDisk, vmName: string): Promise<void> {
  const { diskId } = disk.facts;
  let first: number | undefined;
  let count = 0;
  try {
    const content = await openStaged(seams, disk.base, false);
    try {
      for await (const { offset } of baseManifest(seams, disk).verify(content)) {
        first ??= offset;
        if (++count >= FINDINGS_MAX) break;
      }
    } finally {
      await content.close();
    }
  } catch (error) {
    throw corrupt(vmName, `disk ${diskId}, ${disk.base.file.path}`, error);
  }
  if (first === undefined) return;
  const cells = count >= FINDINGS_MAX ? `${count} cells or more` : `${count} cells`;
  throw new DrError(
    'E_RESTORE_CORRUPT',
    `${vmName}, disk ${diskId}: ${cells} have not the hash of the backup, the first at guest offset ${first}`,
    { context: { vmName, diskId, offset: first, count }, done: 'the disk is not restored' },
  );
}

/** Gives what is staged its name, in place of what has it; durable on return. */
export async function giveName(fs: FileSystem, staged: string, final: string): Promise<void> {
  // after a crash it may have its name already
  if ((await fs.status(staged)) === undefined && (await fs.status(final)) !== undefined) return;
  await fs.rename(staged, final);
  await fs.flushFolder(dirname(final));
  if (dirname(staged) !== dirname(final)) await fs.flushFolder(dirname(staged));
}

/** The root that the manifest of the disk's point stated when it arrived. */
export function rootAt(
  { facts }: BaseDisk,
  point: Guid,
  manifests: readonly { readonly facts: ManifestFacts }[],
): string | undefined {
  if (point === facts.point) return facts.root;
  return manifests.find(
    ({ facts: other }) =>
      other.vmId === facts.vmId && other.diskId === facts.diskId && other.point === point,
  )?.facts.root;
}
