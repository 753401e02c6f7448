// The lines that describe a file (ptcomm.md § 5): written for a backup, a listing or an estimate, read
// back in a restore. Pure.

import { DrError } from '../../shared/errors.js';
import type { Namespace } from './job-block.js';

export type FileKind = 'file' | 'empty' | 'folder';

export interface Attributes {
  /** The whole name: `/@hyperv/…`, or what a listing shows. */
  readonly name: string;
  readonly kind: FileKind;
  readonly sizeBytes: number;
  readonly modifiedAtMs: number;
}

const KIND_LETTERS = { file: 'F', empty: 'E', folder: 'D' } as const;
const MODES = { file: '100600', empty: '100600', folder: '40755' } as const;

/** Whether the protocol can carry a name. */
export function isCarried(name: string): boolean {
  return name !== '' && !/[\0\n\r]/.test(name) && !/[\0-\x20]$/.test(name);
}

/** The three lines of a file. @throws DrError E_PARAMETER for a name that cannot be carried */
export function attributeLines({ name, kind, sizeBytes, modifiedAtMs }: Attributes): string[] {
  if (!isCarried(name)) {
    throw new DrError(
      'E_PARAMETER',
      `${JSON.stringify(name)} cannot be a name in Bacula's catalog`,
    );
  }
  const seconds = Math.max(0, Math.floor(modifiedAtMs / 1000));
  const size = kind === 'file' ? Math.max(0, Math.floor(sizeBytes)) : 0;
  return [
    `FNAME:${name}`,
    `STAT:${KIND_LETTERS[kind]} ${size} 0 0 ${MODES[kind]} 1`,
    `TSTAMP:${seconds} ${seconds} ${seconds}`,
  ];
}

export interface FoundAttributes extends Attributes {
  /** A link, a device: nothing that a backup of ours holds. */
  readonly isForeign: boolean;
}

/** What stands after `FNAME:`, and the lines that follow it. @throws DrError E_PROTOCOL */
export function parseAttributes(name: string, lines: readonly string[]): FoundAttributes {
  let kind: FileKind | 'foreign' | undefined;
  let sizeBytes = 0;
  let modifiedAtMs = 0;
  for (const line of lines) {
    const stat = /^STAT:(\S) (\d{1,15}) /.exec(line);
    const times = /^TSTAMP:\d+ (\d{1,12})\b/.exec(line);
    if (stat !== null) {
      kind = kindOf(stat[1]);
      sizeBytes = Number(stat[2]);
    } else if (times !== null) {
      modifiedAtMs = Number(times[1]) * 1000;
    }
  }
  if (kind === undefined) {
    throw new DrError('E_PROTOCOL', 'the plugin announced a file without STAT');
  }
  const isForeign = kind === 'foreign';
  return { name, kind: kind === 'foreign' ? 'file' : kind, sizeBytes, modifiedAtMs, isForeign };
}

function kindOf(letter: string | undefined): FileKind | 'foreign' {
  if (letter === 'F') return 'file';
  if (letter === 'E') return 'empty';
  return letter === 'D' ? 'folder' : 'foreign';
}

const NAMESPACES: readonly Namespace[] = ['@hyperv', '@vsphere', '@proxmox_'];

export interface PlacedName {
  readonly namespace: Namespace;
  /** Below the namespace. */
  readonly path: string;
}

/**
 * Cuts the restore prefix off a name. The prefix may hold the namespace's own text, so the search
 * begins after what is known of it. undefined: the name is of no namespace of ours.
 */
export function splitPlacedName(name: string, where: string): PlacedName | undefined {
  const known = where !== '' && name.startsWith(where) ? where.replace(/\/+$/, '').length : 0;
  const found = NAMESPACES.map((namespace) => ({
    namespace,
    at: `/${name}`.indexOf(`/${namespace}/`, known === 0 ? 0 : known + 1),
  }))
    .filter(({ at }) => at >= 0)
    .sort((one, other) => one.at - other.at)[0];
  if (found === undefined) return undefined;
  const path = name.slice(found.at + found.namespace.length + 1);
  return { namespace: found.namespace, path };
}
