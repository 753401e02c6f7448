// Every path of a store (docs/on-disk.md "Store"). All parts of a name are GUIDs and numbers that
// were parsed as such, so no path leaves the store.

import { basename, dirname, isAbsolute, join, relative } from 'node:path';
import { type Guid, parseGuid } from '../../shared/bytes/index.js';

/** One disk of a VM, in one of its sizes. */
export interface DiskKey {
  readonly diskId: Guid;
  readonly generation: number;
}

export function diskName({ diskId, generation }: DiskKey): string {
  return `${diskId}.${generation}`;
}

const DISK_NAME = /^([0-9a-f-]{36})\.(\d{1,10})$/;

/** undefined when the name is none of diskName(). */
export function parseDiskName(name: string): DiskKey | undefined {
  const [, text = '', generation = ''] = DISK_NAME.exec(name) ?? [];
  const diskId = parseGuid(text);
  const key = diskId === undefined ? undefined : { diskId, generation: Number(generation) };
  return key !== undefined && diskName(key) === name ? key : undefined;
}

export class StoreLayout {
  readonly folder: string;

  constructor(folder: string) {
    this.folder = folder;
  }

  get description(): string {
    return join(this.folder, 'store.json');
  }

  /** The same twice. */
  get descriptions(): readonly string[] {
    return [this.description, `${this.description}.copy`];
  }

  /** Locked by whoever works on the store; has no content. */
  get lock(): string {
    return join(this.folder, 'lock');
  }

  get vms(): string {
    return join(this.folder, 'vms');
  }

  /** Signs the reports of drills. */
  get drillKey(): string {
    return join(this.folder, 'drill.key');
  }

  get reports(): string {
    return join(this.folder, 'reports');
  }

  /** What a drill found, for machines and for people. */
  report(operationId: Guid, form: 'json' | 'html'): string {
    return join(this.reports, `${operationId}.${form}`);
  }

  vm(vmId: Guid): VmLayout {
    return new VmLayout(join(this.vms, vmId));
  }

  /** Disks of a VM that stays at this site and that stand alone: the VM's own, whatever is forgotten. */
  machine(vmId: Guid): string {
    return join(this.folder, 'machines', vmId);
  }
}

export class VmLayout {
  readonly folder: string;

  constructor(folder: string) {
    this.folder = folder;
  }

  get journal(): string {
    return join(this.folder, 'journal');
  }

  get snapshot(): string {
    return join(this.folder, 'protection.json');
  }

  /** How far the scrub came, and which cells are known to be damaged. */
  get scrub(): string {
    return join(this.folder, 'scrub.json');
  }

  /** Whether a file lies in the folder. */
  holds(path: string): boolean {
    const way = relative(this.folder, path);
    return way !== '' && !way.startsWith('..') && !isAbsolute(way);
  }

  /** The name of a file of a cycle inside the folder, the same wherever the store lies. */
  keyOf({ data }: Pick<DiskFiles, 'data'>): string {
    return relative(this.folder, data).replaceAll('\\', '/');
  }

  get cycles(): string {
    return join(this.folder, 'cycles');
  }

  /** What an operator kept of a VM that ran here: whole disks, which nobody needs but him. */
  get kept(): string {
    return join(this.folder, 'kept');
  }

  /** Says that the protection was given up: whatever lies beside it may go. */
  get forgotten(): string {
    return join(this.folder, 'forgotten.json');
  }

  /** What forgetting leaves, outside of the folder. `atMs`: when it was forgotten. */
  remains(atMs: number): string {
    const store = dirname(dirname(this.folder));
    return join(store, 'forgotten', `${basename(this.folder)}.${atMs}`);
  }

  cycle(cycleId: Guid): string {
    return join(this.cycles, cycleId);
  }

  progress(cycleId: Guid): string {
    return join(this.cycle(cycleId), 'progress');
  }

  /** Says that the folder of a cycle is being removed, so that what is left of it may be. */
  removing(cycleId: Guid): string {
    return join(this.cycle(cycleId), 'removing');
  }

  get disks(): string {
    return join(this.folder, 'disks');
  }

  /** Folder of the base that a cycle brought. */
  base(disk: DiskKey, cycleId: Guid): string {
    return join(this.disks, diskName(disk), cycleId);
  }

  /** The two files in which a cycle keeps a disk. */
  files(disk: DiskKey, cycleId: Guid, transfer: 'base' | 'delta'): DiskFiles {
    if (transfer === 'base') {
      const folder = this.base(disk, cycleId);
      return {
        folder,
        data: join(folder, 'base.vhdx'),
        manifest: join(folder, 'base.manifest'),
      };
    }
    const folder = this.cycle(cycleId);
    return {
      folder,
      data: join(folder, `${diskName(disk)}.delta`),
      manifest: join(folder, `${diskName(disk)}.manifest`),
    };
  }
}

export interface DiskFiles {
  readonly folder: string;
  readonly data: string;
  readonly manifest: string;
}

/** The manifest that a base will have when what is being folded into it is there. */
export function announcedPath({ manifest }: DiskFiles): string {
  return `${manifest}.applying`;
}

/** Holds room on the volume for what a fold writes. */
export function reservePath({ data }: DiskFiles): string {
  return `${data}.reserve`;
}
