// What an undo keeps of the VM that ran here: each disk as it is now, standing alone, under a name of the
// operator's in the folder `kept` of the VM's part of the store.

import { join } from 'node:path';
import { DrError } from '../../shared/errors.js';
import type { FileSystem } from '../../shared/files/index.js';
import { flattenVhdx } from '../../shared/image/index.js';
import type { ReadSeams } from '../store/point-sources.js';
import type { VmStore } from '../store/vm-store.js';

const NAME = /^[0-9A-Za-z][0-9A-Za-z._-]{0,63}$/;

/** @throws DrError E_PARAMETER when the name could lead out of its folder */
export function checkKeptName(name: string): void {
  if (NAME.test(name)) return;
  throw new DrError('E_PARAMETER', `keep_disk "${name.slice(0, 64)}" is no name`, {
    hint: 'Letters, digits, dots, - and _; it becomes NAME.0.vhdx and so on in the store.',
  });
}

function keptPath({ layout }: VmStore, name: string, index: number): string {
  return join(layout.kept, `${name}.${index}.vhdx`);
}

/** Whether all disks of a VM are there under that name; each has it when it is whole. @throws E_IO */
export async function areKept(
  fs: FileSystem,
  vm: VmStore,
  diskCount: number,
  name: string,
): Promise<boolean> {
  for (let index = 0; index < diskCount; index++) {
    if ((await fs.status(keptPath(vm, name, index))) === undefined) return false;
  }
  return true;
}

/**
 * `paths`: the files that the VM, which is off, would write to, checkpoints of a user included. A call that
 * is repeated keeps what is there. @throws DrError E_PARAMETER, E_EXISTS, E_CAPACITY, E_IO
 */
export async function keepDisks(
  { fs, random }: ReadSeams,
  vm: VmStore,
  paths: readonly string[],
  name: string,
): Promise<void> {
  checkKeptName(name);
  await fs.makeFolder(vm.layout.kept);
  for (const [index, path] of paths.entries()) {
    await flattenVhdx(path, keptPath(vm, name, index), { fs, random });
  }
}
