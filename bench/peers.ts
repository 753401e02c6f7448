// Command lines of the programs that we measure ourselves against, and of those that judge results.
// Each is used as its manual shows it, with its own defaults; whoever writes ends with a sync of
// what was written, because our commands return only when the result is durable.

import type { Command } from './command.js';
import { perform } from './measure.js';

/** Debian's modules belong to Debian's Python; another one may come first on PATH. */
export const SYSTEM_PYTHON = '/usr/bin/python3';

export type QemuFormat = 'raw' | 'qcow2' | 'vhdx';

export function qemuConvert(
  source: string,
  sourceFormat: QemuFormat,
  target: string,
  targetFormat: QemuFormat,
): Command {
  return qemuImg('convert', '-f', sourceFormat, '-O', targetFormat, source, target);
}

export function qemuImg(...words: string[]): Command {
  return { program: 'qemu-img', arguments: words };
}

/** fsync of each file. */
export function sync(...paths: string[]): Command {
  return { program: 'sync', arguments: paths };
}

/** Everything of the file system that holds `path`. */
export function syncFileSystem(path: string): Command {
  return { program: 'sync', arguments: ['--file-system', path] };
}

/** Uses the processor's SHA instructions, which sha256sum does not everywhere. */
export function opensslSha256(...paths: string[]): Command {
  return { program: 'openssl', arguments: ['dgst', '-sha256', ...paths] };
}

export function cat(...paths: string[]): Command {
  return { program: 'cat', arguments: paths };
}

export function copy(source: string, target: string): Command {
  return { program: 'cp', arguments: ['--sparse=always', source, target] };
}

/**
 * `command | cat >/dev/null`, with the failure of either side as failure of the whole. A shell
 * makes the pipe, because Node would give its child a socket in place of one.
 */
export function intoPipe(command: Command): Command {
  return {
    program: 'bash',
    arguments: [
      '-c',
      'set -o pipefail; "$@" | cat >/dev/null',
      'pipe',
      command.program,
      ...command.arguments,
    ],
  };
}

/** @throws DrError E_TOOL_FAILED unless the two files hold the same guest bytes for qemu-img. */
export async function expectSameGuestBytes(
  one: string,
  oneFormat: QemuFormat,
  other: string,
  otherFormat: QemuFormat,
): Promise<void> {
  await perform(qemuImg('compare', '-f', oneFormat, '-F', otherFormat, one, other));
}

/** @throws DrError E_TOOL_FAILED unless the two files are equal byte for byte. */
export async function expectSameFile(one: string, other: string): Promise<void> {
  await perform({ program: 'cmp', arguments: [one, other] });
}
