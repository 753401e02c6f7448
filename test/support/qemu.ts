// qemu-img and qemu-io as judges of our files and as makers of theirs. They read fixed and dynamic
// VHDX with 512-byte sectors, no differencing ones (spec vhdx.md § 14).

import { expectTool, runTool } from './run-tool.js';

export const QEMU = ['qemu-img', 'qemu-io'] as const;

/** Throws when qemu finds the structure of a VHDX wrong. */
export async function qemuCheck(file: string): Promise<void> {
  const { text } = await expectTool('qemu-img', ['check', '-f', 'vhdx', file]);
  if (!text.includes('No errors were found')) throw new Error(text);
}

/** Throws when qemu reads other bytes from the VHDX than the raw file has. */
export async function qemuCompare(raw: string, vhdx: string): Promise<void> {
  await expectTool('qemu-img', ['compare', '-f', 'raw', '-F', 'vhdx', raw, vhdx]);
}

/** A new image made by qemu. */
export async function qemuCreate(
  file: string,
  format: string,
  sizeBytes: number,
  options = '',
): Promise<void> {
  const wanted = options === '' ? [] : ['-o', options];
  await expectTool('qemu-img', ['create', '-q', '-f', format, ...wanted, file, `${sizeBytes}`]);
}

export async function qemuConvert(
  from: { readonly file: string; readonly format: string },
  to: { readonly file: string; readonly format: string; readonly options?: string },
): Promise<void> {
  const wanted = to.options === undefined ? [] : ['-o', to.options];
  const args = ['convert', '-f', from.format, '-O', to.format, ...wanted, from.file, to.file];
  await expectTool('qemu-img', args);
}

/** Guest writes by qemu-io, for example `write -P 0xab 1M 64k`. */
export async function qemuWrite(
  file: string,
  format: string,
  commands: readonly string[],
): Promise<void> {
  const args = commands.flatMap((command) => ['-c', command]);
  const run = await runTool('qemu-io', ['-f', format, ...args, file]);
  if (run.code !== 0 || /fail|error/i.test(run.text)) throw new Error(run.text + run.stderr);
}
