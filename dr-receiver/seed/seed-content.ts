// What a seed is made of, whatever it comes from: an identity, disks, and their cells as messages of
// the push stream. seed-files.ts, seed-medium.ts and seed-backup.ts make one, stage-seed.ts uses it.

import type { Guid } from '../../shared/bytes/index.js';
import type { KeyRing, PreSharedKey } from '../../shared/channel/index.js';
import type { Random } from '../../shared/clock.js';
import { cellCount, diskMessages } from '../../shared/delta/index.js';
import type { ReadableDisk } from '../../shared/disk/index.js';
import { DrError } from '../../shared/errors.js';
import type { FileSystem } from '../../shared/files/index.js';
import type { DiskGeometry } from '../store/records.js';

/** Where a disk goes on: a cell, or nowhere because all of it is there. */
export type SeedStart = number | 'complete';

export interface SeedContent {
  /** Known when the seed says so itself. */
  readonly vmId: Guid | undefined;
  readonly vmName: string | undefined;
  /** Of the key that sealed a medium: whose it is, and which VMs it may newly protect. */
  readonly sealedBy: Pick<PreSharedKey, 'role' | 'principal' | 'vmPattern'> | undefined;
  /** For reports and for going on with the same seed later. */
  readonly from: string;
  readonly disks: readonly DiskGeometry[];
  /** Messages of all disks in order, each from its start on. */
  messages(starts: readonly SeedStart[]): AsyncGenerator<Buffer, void, undefined>;
  close(): Promise<void>;
}

/** What seeds are read with. */
export interface SeedSeams {
  /** The whole file system, or a folder that is never left (confined-files.ts). */
  readonly files: FileSystem;
  readonly random: Random;
  /** Keys that media may be sealed with. */
  readonly keys: KeyRing | undefined;
  /** The path of a name in a request. */
  resolve(name: string): string;
}

/** A seed of open disks, which are closed with it. */
export function contentOfDisks(
  parts: Omit<SeedContent, 'disks' | 'messages' | 'close'> & {
    readonly disks: readonly { readonly geometry: DiskGeometry; readonly disk: ReadableDisk }[];
    readonly alsoClose?: () => Promise<void>;
  },
): SeedContent {
  const { disks, alsoClose, ...identity } = parts;
  return {
    ...identity,
    disks: disks.map(({ geometry }) => geometry),
    async *messages(starts) {
      for (const [index, { disk }] of disks.entries()) {
        const start = starts[index] ?? 0;
        if (start !== 'complete') yield* diskMessages(disk, index, start);
      }
    },
    async close() {
      for (const { disk } of disks) await disk.close();
      await alsoClose?.();
    },
  };
}

/** Geometry of a disk in the first generation. @throws DrError E_DISK_MISMATCH */
export function geometryOf(diskId: Guid, disk: ReadableDisk, name: string): DiskGeometry {
  const { sizeBytes, logicalSectorBytes, physicalSectorBytes } = disk;
  if (cellCount(sizeBytes) === 0 || sizeBytes % logicalSectorBytes !== 0) {
    throw new DrError(
      'E_DISK_MISMATCH',
      `${name} has ${sizeBytes} bytes, no whole number of sectors`,
      { context: { file: name } },
    );
  }
  return { diskId, generation: 0, sizeBytes, logicalSectorBytes, physicalSectorBytes };
}
