// What all commands of `hvdr lab` begin and end with: the lab in a folder, and its merges done.

import path from 'node:path';
import { Lab, type NewDisk, type VmRecord } from '../shared/hypervisor/lab/index.js';
import type { CliContext } from './context.js';
import { startProgress } from './progress.js';

/** Runs `action` on the lab in `folder`; returns when the merges that it began have ended. */
export async function withLab<T>(
  context: CliContext,
  folder: string,
  action: (lab: Lab) => Promise<T>,
): Promise<T> {
  const { files: fs, clock, random } = context;
  const lab = await Lab.open(path.resolve(context.folder, folder), { fs, clock, random });
  let result: T;
  try {
    result = await action(lab);
  } catch (error) {
    await lab.close().catch(() => undefined); // the first error says what is wrong
    throw error;
  }
  await lab.close();
  return result;
}

/** The same with the VM of that name or id. */
export function withLabVm<T>(
  context: CliContext,
  folder: string,
  name: string,
  action: (lab: Lab, vm: VmRecord) => Promise<T>,
): Promise<T> {
  return withLab(context, folder, async (lab) => action(lab, await lab.findVm(name)));
}

/** An image to be copied into a new disk, with its progress on stderr. */
export function importedDisk(
  { output, clock, folder }: CliContext,
  file: string,
): Pick<NewDisk, 'source' | 'onProgress'> {
  const progress = startProgress(output, clock, { label: `import ${file}` });
  return {
    source: { importFile: path.resolve(folder, file) },
    onProgress: ({ position, sizeBytes }) => {
      progress.set(position);
      if (position === sizeBytes) progress.end();
    },
  };
}
