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

async function answerOf(run: RunTool, image: string, args: readonly string[]): Promise<object> {
  const text = await qemuImg(run, image, args);
  let answer: unknown;
  try {
    answer = JSON.parse(text);
  } catch (error) {
    throw failed(PROGRAM, args, 'its answer is not JSON', error);
  }
  if (typeof answer === 'object' && answer !== null) return answer;
  throw failed(PROGRAM, args, 'its answer is no object');
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
  const args = ['info', '-f', DRIVERS[format], '--output=json', path.resolve(image)];
  const info = await answerOf(run, image, args);
  if (!('virtual-size' in info)) throw failed(PROGRAM, args, 'its answer names no virtual size');
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

const MEASURE_CLUSTER_BYTES = 64 * 1024;

/**
 * Bytes of the guest that a vetted image of that size holds, compressed ones as they are when unpacked; counted in
 * 64 KiB. What is allocated counts, also where it holds zeros.
 * @throws DrError E_TOOL_MISSING, E_TOOL_FAILED
 */
export async function foreignDataBytes(
  run: RunTool,
  image: string,
  format: ForeignFormat,
  sizeBytes: number,
): Promise<number> {
  // the list of extents (`map`) has no bound; of a qcow2, only the room for the data depends on them
  const target = ['-O', 'qcow2', '-o', `cluster_size=${MEASURE_CLUSTER_BYTES}`];
  const from = ['-f', DRIVERS[format], path.resolve(image)];
  const args = ['measure', '--output=json', ...target, ...from];
  const answer = await answerOf(run, image, args);
  const required = 'required' in answer ? answer.required : undefined;
  const full = 'fully-allocated' in answer ? answer['fully-allocated'] : undefined;
  const clusteredBytes = Math.ceil(sizeBytes / MEASURE_CLUSTER_BYTES) * MEASURE_CLUSTER_BYTES;
  const dataBytes = clusteredBytes - (Number(full) - Number(required));
  if (dataBytes >= 0 && dataBytes <= clusteredBytes) return dataBytes;
  throw failed(PROGRAM, args, 'its answer names no size that can be');
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
