// Protective files that nothing needs any more: what an operation left whose record is gone. One on which
// a VM stands, as after every committed failback, is the VM's disk, and none of this.

import { dirname, join } from 'node:path';
import { type Guid, parseGuid } from '../../shared/bytes/index.js';
import type { Random } from '../../shared/clock.js';
import { DrError } from '../../shared/errors.js';
import type { FileSystem } from '../../shared/files/index.js';
import type { SourceHypervisor } from '../../shared/hypervisor/index.js';
import { openVhdx } from '../../shared/vhdx/index.js';
import { ReturnFile, type ReturnRecord } from './return-record.js';

interface Seams {
  readonly fs: FileSystem;
  readonly random: Random;
}

/** 'unreadable': there is one, and nobody knows what it needs. */
export type OpenFailback = ReturnRecord | 'unreadable';

/** @throws DrError E_IO */
export async function openFailback(
  vmId: Guid,
  stateFolder: string,
  seams: Seams,
): Promise<OpenFailback | undefined> {
  try {
    return await new ReturnFile(stateFolder, vmId, seams).read();
  } catch (error) {
    const isUnreadable =
      error instanceof DrError && ['E_FILE_DAMAGED', 'E_FILE_VERSION'].includes(error.code);
    if (isUnreadable) return 'unreadable';
    throw error;
  }
}

/**
 * The fence of a failback under way is what proves that its disks are level still; a record that nobody can
 * read says as much. @throws DrError E_STATE, E_IO
 */
export async function requireNoFailback(
  { id, name }: { readonly id: Guid; readonly name: string },
  stateFolder: string,
  seams: Seams,
): Promise<void> {
  const open = await openFailback(id, stateFolder, seams);
  if (open === undefined) return;
  const context = open === 'unreadable' ? {} : { operationId: open.operationId, stage: open.stage };
  throw new DrError('E_STATE', `a failback of ${name} is open, which its fence belongs to`, {
    context: { vmId: id, ...context },
    done: 'the fence stands',
    hint: `End it at the DR site: \`hvdr abort ${name}\` or \`hvdr failover undo ${name}\`. When that site is lost, --during-failback lifts it nevertheless.`,
  });
}

export interface ProtectiveFile {
  readonly file: string;
  readonly isStoodOn: 'yes' | 'no' | 'unknown';
}

/** Those beside the disks of the VM. @throws what the hypervisor throws, DrError E_IO */
export async function protectiveFiles(
  vmId: Guid,
  hypervisor: SourceHypervisor,
  seams: Seams,
): Promise<ProtectiveFile[]> {
  const { fs } = seams;
  const { disks } = await hypervisor.describeVm(vmId);
  const files = new Set<string>();
  for (const { path } of disks) {
    const folder = dirname(path);
    if ((await fs.status(folder))?.kind !== 'folder') continue;
    for (const name of await fs.list(folder)) {
      // only of this VM's own disks: others may stand in the same folder
      if (disks.some(({ diskId }) => isProtectiveOf(name, diskId))) files.add(join(folder, name));
    }
  }
  if (files.size === 0) return [];
  const inUse = await filesInUse(hypervisor, seams);
  const found: ProtectiveFile[] = [];
  for (const file of files) {
    const identity = (await fs.status(file))?.identity;
    const isUsed = identity === undefined || inUse?.has(identity) === true;
    found.push({ file, isStoodOn: isUsed ? 'yes' : inUse === undefined ? 'unknown' : 'no' });
  }
  return found;
}

function isProtectiveOf(name: string, diskId: Guid): boolean {
  const rest = name.startsWith(`${diskId}.`) ? name.slice(diskId.length + 1) : '';
  return (
    rest.endsWith('.failback.vhdx') &&
    parseGuid(rest.slice(0, -'.failback.vhdx'.length)) !== undefined
  );
}

/** Of all disks of all VMs of the host, down to their bases; undefined: one of them cannot be read. */
async function filesInUse(
  hypervisor: SourceHypervisor,
  { fs, random }: Seams,
): Promise<ReadonlySet<string> | undefined> {
  const found = new Set<string>();
  for (const { id } of await hypervisor.listVms()) {
    for (const { path } of (await hypervisor.describeVm(id)).disks) {
      try {
        const disk = await openVhdx(path, { fs, random });
        for (const layer of disk.layers) {
          const identity = (await fs.status(layer.path))?.identity;
          if (identity !== undefined) found.add(identity);
        }
        await disk.close();
      } catch (error) {
        if (error instanceof DrError) return undefined;
        throw error;
      }
    }
  }
  return found;
}
