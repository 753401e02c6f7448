// The one outside program that the product may call for a disk format: qemu-img, for qcow2, VMDK
// and VHD. Always with the format stated, with arguments as an array, with an absolute path (so that
// no name is taken for a protocol), and never with its own lock switched off.

import { execFile } from 'node:child_process';
import path from 'node:path';
import { DrError } from '../errors.js';
import type { ForeignFormat } from './image-format.js';

export interface ToolResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program; undefined when it is not installed. The seam for tests. */
export type RunTool = (program: string, args: readonly string[]) => Promise<ToolResult | undefined>;

const PROGRAM = 'qemu-img';
const OUTPUT_MAX_BYTES = 8 * 1024 * 1024;
const MESSAGE_MAX_CHARACTERS = 500;
const VIRTUAL_SIZE_MAX = 64 * 1024 ** 4;
const DRIVERS: Readonly<Record<ForeignFormat, string>> = {
  qcow2: 'qcow2',
  vmdk: 'vmdk',
  vhd: 'vpc',
};

export const runTool: RunTool = (program, args) =>
  new Promise((resolve, reject) => {
    execFile(
      program,
      [...args],
      { maxBuffer: OUTPUT_MAX_BYTES, env: { ...process.env, LC_ALL: 'C' }, windowsHide: true },
      (error, stdout, stderr) => {
        if (error === null) resolve({ exitCode: 0, stdout, stderr });
        else if (error.code === 'ENOENT') resolve(undefined);
        else if (typeof error.code === 'number') resolve({ exitCode: error.code, stdout, stderr });
        else reject(failed(program, args, error.message, error));
      },
    );
  });

function failed(
  program: string,
  args: readonly string[],
  message: string,
  cause?: unknown,
): DrError {
  const said = message.trim().slice(0, MESSAGE_MAX_CHARACTERS);
  return new DrError('E_TOOL_FAILED', `${program} ${args[0] ?? ''} failed: ${said}`, {
    context: { program, arguments: args.join(' ') },
    cause,
  });
}

async function qemuImg(run: RunTool, image: string, args: readonly string[]): Promise<string> {
  const result = await run(PROGRAM, args);
  if (result === undefined) {
    throw new DrError('E_TOOL_MISSING', `${PROGRAM} is not installed and ${image} needs it`, {
      context: { program: PROGRAM, file: image },
    });
  }
  if (result.exitCode !== 0) {
    throw failed(PROGRAM, args, result.stderr === '' ? result.stdout : result.stderr);
  }
  return result.stdout;
}

/**
 * Guest-visible size of a vetted image, as qemu-img tells it.
 * @throws DrError E_TOOL_MISSING, E_TOOL_FAILED, E_IMAGE_REFERENCE when qemu sees a backing file
 */
export async function foreignSize(
  run: RunTool,
  image: string,
  format: ForeignFormat,
): Promise<number> {
  const file = path.resolve(image);
  const args = ['info', '-f', DRIVERS[format], '--output=json', file];
  const text = await qemuImg(run, image, args);
  let info: unknown;
  try {
    info = JSON.parse(text);
  } catch (error) {
    throw failed(PROGRAM, args, 'its answer is not JSON', error);
  }
  if (typeof info !== 'object' || info === null || !('virtual-size' in info)) {
    throw failed(PROGRAM, args, 'its answer names no virtual size');
  }
  if ('backing-filename' in info || 'full-backing-filename' in info) {
    throw new DrError('E_IMAGE_REFERENCE', `${image} has a backing file`, {
      context: { file: image },
    });
  }
  const sizeBytes = info['virtual-size'];
  if (typeof sizeBytes !== 'number' || !(sizeBytes > 0) || sizeBytes > VIRTUAL_SIZE_MAX) {
    throw new DrError('E_IMAGE_FORMAT', `${image} has no usable size: ${String(sizeBytes)}`, {
      context: { file: image },
      hint: 'Disks up to 64 TiB are supported.',
    });
  }
  return sizeBytes;
}

/**
 * Writes the guest's bytes of a vetted image into the raw file `target`, which exists, is at least as
 * long and reads as zeros; its holes stay holes where the guest has zeros.
 */
export async function foreignToRaw(
  run: RunTool,
  image: string,
  format: ForeignFormat,
  target: string,
): Promise<void> {
  await qemuImg(run, image, [
    'convert',
    '-n',
    '--target-is-zero',
    '-f',
    DRIVERS[format],
    '-O',
    'raw',
    path.resolve(image),
    path.resolve(target),
  ]);
}
