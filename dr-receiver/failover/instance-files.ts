// The files of VMs that run at this site, beside the bases that they stand on. Each name begins with the
// operation that made it, which is how a leftover is told from everything else:
//
//   <operation-id>.<n>.vhdx              disk n as of its point; never written to
//   <operation-id>.<n>.protective.vhdx   what the VM writes to, over it
//   .<either of them>.<tag>.unfinished   being made
//   <operation-id>.<n>.protective…       what the hypervisor put beside it: checkpoints, tracking

import { join } from 'node:path';
import { type Guid, parseGuid } from '../../shared/bytes/index.js';
import type { FileSystem } from '../../shared/files/index.js';
import { instancesOf } from '../store/base-holds.js';
import { parseDiskName, type VmLayout } from '../store/layout.js';
import type { SegmentKey } from '../store/records.js';
import type { VmStore } from '../store/vm-store.js';
import type { InstanceDisk } from './model.js';

const GUID_LENGTH = 36;
const INSTANCE_FILE = /^\.?([0-9a-f-]{36})\.\d{1,4}\./;

export function materialisedName(operationId: Guid, index: number): string {
  return `${operationId}.${index}.vhdx`;
}

export function protectiveName(operationId: Guid, index: number): string {
  return `${operationId}.${index}.protective.vhdx`;
}

export interface InstanceDiskPaths {
  /** Of the base that both stand on, through each other. */
  readonly base: string;
  readonly materialised: string;
  readonly protective: string;
}

/** Absolute, as far as the store's folder is. */
export function instanceDiskPaths(layout: VmLayout, disk: InstanceDisk): InstanceDiskPaths {
  const { folder, data } = layout.files(disk, disk.baseCycleId, 'base');
  return {
    base: data,
    materialised: join(folder, disk.materialised),
    protective: join(folder, disk.protective),
  };
}

export interface InstanceFile {
  readonly operationId: Guid;
  /** On whose base it stands. */
  readonly segment: SegmentKey;
  readonly folder: string;
  readonly name: string;
}

/** All files of operations beside the bases of a VM, those above others first. @throws DrError E_IO */
export async function instanceFiles(fs: FileSystem, layout: VmLayout): Promise<InstanceFile[]> {
  const found: InstanceFile[] = [];
  for (const disk of await namesIn(fs, layout.disks)) {
    const key = parseDiskName(disk);
    if (key === undefined) continue;
    for (const base of await namesIn(fs, join(layout.disks, disk))) {
      const baseCycleId = parseGuid(base);
      if (baseCycleId === undefined || baseCycleId !== base) continue;
      const folder = join(layout.disks, disk, base);
      for (const name of await namesIn(fs, folder)) {
        const operationId = operationOfFile(name);
        const segment = { ...key, baseCycleId };
        if (operationId !== undefined) found.push({ operationId, segment, folder, name });
      }
    }
  }
  return found.sort((a, b) => heightOf(b.name) - heightOf(a.name));
}

/** The operation that made a file of that name; undefined: none of ours did. */
export function operationOfFile(name: string): Guid | undefined {
  const text = INSTANCE_FILE.exec(name)?.[1];
  if (text?.length !== GUID_LENGTH) return undefined;
  const operationId = parseGuid(text);
  return operationId === text ? operationId : undefined;
}

/** What nothing can stand on comes first, what others stand on last. */
function heightOf(name: string): number {
  if (name.endsWith('.protective.vhdx')) return 1;
  return /^[0-9a-f-]{36}\.\d+\.vhdx$/.test(name) ? 0 : 2;
}

async function namesIn(fs: FileSystem, folder: string): Promise<readonly string[]> {
  return (await fs.status(folder))?.kind === 'folder' ? fs.list(folder) : [];
}

/**
 * Takes all files of an operation away, whatever has become of them; nothing runs on them any more. From
 * then on the operation holds no base. Durable on return; no error when they are gone.
 * @throws DrError E_IO
 */
export async function removeInstanceDisks(
  fs: FileSystem,
  vm: VmStore,
  operationId: Guid,
): Promise<void> {
  const files = await instanceFiles(fs, vm.layout);
  await removeFiles(
    fs,
    files.filter((file) => file.operationId === operationId),
  );
  vm.baseHolds.release(operationId);
}

export async function removeFiles(
  fs: FileSystem,
  files: readonly Pick<InstanceFile, 'folder' | 'name'>[],
): Promise<void> {
  for (const { folder, name } of files) await fs.remove(join(folder, name));
  for (const folder of new Set(files.map((file) => file.folder))) await fs.flushFolder(folder);
}

/** Files of operations that no record names and nobody makes now. @throws DrError E_IO */
export async function leftoverInstanceFiles(fs: FileSystem, vm: VmStore): Promise<InstanceFile[]> {
  const { protection, baseHolds } = vm;
  const { operation } = protection.failover;
  const named = new Set([
    ...instancesOf(protection).map(({ operationId }) => operationId),
    ...(operation === undefined ? [] : [operation.operationId]),
    ...protection.tests.keys(),
    ...baseHolds.operationIds,
  ]);
  const files = await instanceFiles(fs, vm.layout);
  return files.filter(({ operationId }) => !named.has(operationId));
}

/**
 * Holds the bases of files that no record names: nobody knows here whether a VM runs on them. They are
 * held until the files are removed by somebody who has asked the hypervisor (garbage.ts). @throws E_IO
 */
export async function holdLeftBehind(fs: FileSystem, vm: VmStore): Promise<void> {
  const files = await leftoverInstanceFiles(fs, vm);
  for (const operationId of new Set(files.map((file) => file.operationId))) {
    const own = files.filter((file) => file.operationId === operationId);
    vm.baseHolds.leave(
      operationId,
      own.map(({ segment }) => segment),
    );
  }
}
