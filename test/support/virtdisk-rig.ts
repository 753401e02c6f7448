// The double of virtdisk.dll (virtdisk-double/) for one test: disks are files with a sidecar each, and what the double
// refused or holds open can be asked for. Runs on Linux and, the same code, in Node for Windows under Wine.

import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import {
  NativeVirtualDisks,
  type LibraryNames,
  type NativeVirtualDisksOptions,
} from '../../shared/hypervisor/hyperv/native/index.js';
import { checkoutFolder } from './checkout.js';
import { expectTool } from './run-tool.js';

const SOURCES = join(checkoutFolder, 'test', 'support', 'virtdisk-double');
const DISK_ID = 'id 01234567-89ab-cdef-0123-456789abcdef';

export const doubleSources = (...names: readonly string[]): string[] =>
  names.map((name) => join(SOURCES, name));

/** Compiles the double for this Linux. */
export async function buildLinuxDouble(output: string): Promise<void> {
  const flags = ['-std=gnu11', '-O1', '-g', '-Wall', '-Wextra', '-Werror'];
  const shared = ['-fPIC', '-fvisibility=hidden', '-shared', '-Wl,-z,nodelete', '-o', output];
  const sources = doubleSources('virtdisk.c', 'sidecar.c');
  await expectTool('gcc', [...flags, ...shared, ...sources, '-lpthread']);
}

/** Small transfers, so that a few kilobytes take several, and more reads than slots wait. */
export const SMALL_LIMITS = { chunkBytes: 16 * 1024, slotCount: 3, timeoutMs: 20_000 };

export class VirtdiskRig {
  readonly folder: string;
  readonly libraries: LibraryNames;
  /** A library that is there, but has none of the functions. */
  readonly otherLibrary: string;

  constructor(parentFolder: string, libraries: LibraryNames, otherLibrary: string) {
    this.folder = mkdtempSync(join(parentFolder, 'disks-'));
    this.libraries = libraries;
    this.otherLibrary = otherLibrary;
  }

  disks(options: NativeVirtualDisksOptions = {}): NativeVirtualDisks {
    return new NativeVirtualDisks({
      libraries: this.libraries,
      limits: SMALL_LIMITS,
      ...options,
    });
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  /** A disk of `content` with more lines in its sidecar; answers with its path. */
  disk(name: string, content: Uint8Array, ...lines: readonly string[]): string {
    const path = this.path(name);
    const sidecar = [`size ${String(content.length)}`, DISK_ID, 'tracking 1 0 -', ...lines];
    writeFileSync(path, '');
    writeFileSync(`${path}.calls`, '');
    writeFileSync(`${path}.double`, `${sidecar.join('\n')}\n`);
    writeFileSync(`${path}.image`, content);
    return path;
  }

  /** The guest's bytes of a disk. */
  image(path: string): Buffer {
    return readFileSync(`${path}.image`);
  }

  calls(path: string): string[] {
    return readFileSync(`${path}.calls`, 'utf8').trim().split('\n');
  }

  openHandles(path: string): number {
    const marker = `${basename(path)}.open-`;
    return readdirSync(dirname(path)).filter((name) => name.startsWith(marker)).length;
  }

  /** Everything that the double refused, and every handle that is still open. */
  complaints(): string[] {
    return readdirSync(this.folder).flatMap((name) => {
      if (name.includes('.open-')) return [`${name} is still open`];
      return name.endsWith('.refused') ? [readFileSync(this.path(name), 'utf8')] : [];
    });
  }

  dispose(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
