// Names of a VM's files in Bacula's catalog, below the namespace (docs/bacula-catalog.md).

import { type Guid, parseGuid } from '../bytes/index.js';

/** Digits of `<seq>`: milliseconds since 1970 need thirteen until the year 2286. */
export const SEQ_DIGITS_MAX = 15;
export const SEQ_MAX = 10 ** SEQ_DIGITS_MAX - 1;
const PATH_MAX = 4096;

/** What a receiver says of its VMs. No folder of a VM has a file there. */
export const STATUS_PATH = '.meta/status.json';
/** What Hyper-V says of the VMs that it replicates itself. */
export const REPLICA_STATUS_PATH = '.meta/hvr-status.json';

export type CatalogName =
  | { readonly kind: 'config'; readonly folder: string }
  | { readonly kind: 'state'; readonly folder: string }
  | { readonly kind: 'base' | 'base-manifest'; readonly folder: string; readonly diskId: Guid }
  | {
      readonly kind: 'delta' | 'delta-manifest';
      readonly folder: string;
      readonly diskId: Guid;
      /** undefined: the old fixed name, which counts as the first. */
      readonly seq: number | undefined;
    }
  /** A folder, a report, or what a later release writes. */
  | { readonly kind: 'other'; readonly folder: string };

/** Names of the files of one VM; `folder` is its vmFolder(). */
export class CatalogNames {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  get config(): string {
    return `${this.#folder}/config/vm.json`;
  }

  get state(): string {
    return `${this.#folder}/.meta/rct-state.json`;
  }

  base(diskId: Guid): string {
    return `${this.#folder}/disks/${this.#disk(diskId)}`;
  }

  baseManifest(diskId: Guid): string {
    return `${this.#folder}/.meta/${this.#disk(diskId)}.manifest`;
  }

  delta(diskId: Guid, seq: number): string {
    return `${this.#folder}/disks/${this.#disk(diskId)}.${seqText(seq)}.cbt`;
  }

  deltaManifest(diskId: Guid, seq: number): string {
    return `${this.#folder}/.meta/${this.#disk(diskId)}.${seqText(seq)}.manifest`;
  }

  /** What a cycle towards a receiver, or a comparison with one, did; the job has nothing else of it. */
  report(about: 'push' | 'verify', seq: number): string {
    return `${this.#folder}/.meta/${about}-${seqText(seq)}.json`;
  }

  /** What a job of a failover mode did with the VM. */
  operation(seq: number): string {
    return `${this.#folder}/.meta/operation-${seqText(seq)}.json`;
  }

  /** The signed report of a test failover, and the page that shows it. */
  drill(seq: number): { readonly json: string; readonly page: string } {
    const name = `${this.#folder}/.meta/drill-${seqText(seq)}`;
    return { json: `${name}.json`, page: `${name}.html` };
  }

  #disk(diskId: Guid): string {
    return `${this.#folder}_${diskId}.vhdx`;
  }
}

/** What a job that was a receiver says of itself. No folder of a VM has a file there. */
export function receiverReport(seq: number): string {
  return `.meta/receiver-${seqText(seq)}.json`;
}

/** As it stands in names: sorts as text and as a number. */
export function seqText(seq: number): string {
  return String(seq).padStart(13, '0');
}

const DISK =
  /^.*_([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.vhdx(?:\.([0-9]{1,15}))?(\.cbt|\.manifest)?$/i;

/**
 * What a path below the namespace names; undefined: it cannot stand there. The name of the disk's file
 * need not begin like the folder, which a restore may rename. Says nothing of whether the path may be
 * written to: whoever restores confines it.
 */
export function parseCatalogPath(path: string): CatalogName | undefined {
  if (path.length > PATH_MAX) return undefined;
  const [folder, place, name, ...more] = path.split('/');
  if (folder === undefined || folder === '' || folder === '.' || folder === '..') return undefined;
  const other = { kind: 'other', folder } as const;
  if (place === undefined || name === undefined || more.length > 0) return other;
  if (place === 'config' && name === 'vm.json') return { kind: 'config', folder };
  if (place === '.meta' && name === 'rct-state.json') return { kind: 'state', folder };
  const [, guid, digits, ending] = DISK.exec(name) ?? [];
  const diskId = parseGuid(guid ?? '');
  if (diskId === undefined) return other;
  const seq = digits === undefined ? undefined : Number(digits);
  if (place === 'disks' && ending === '.cbt') return { kind: 'delta', folder, diskId, seq };
  if (place === 'disks' && ending === undefined && seq === undefined) {
    return { kind: 'base', folder, diskId };
  }
  if (place === '.meta' && ending === '.manifest') {
    if (seq === undefined) return { kind: 'base-manifest', folder, diskId };
    return { kind: 'delta-manifest', folder, diskId, seq };
  }
  return other;
}
