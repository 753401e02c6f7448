// What a session knows of a file that the job has delivered, as it lies on disk. Written by us and read
// back by whichever backend of the job goes on; still, a field that does not fit is refused.

import { createHash } from 'node:crypto';
import { type Guid, parseGuid } from '../../shared/bytes/index.js';
import type { ManifestHeader } from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import type { JsonFields, JsonFormat } from '../../shared/files/index.js';
import { catalogFileOf, type CatalogFile } from './names.js';

/** What the manifest of a base or a delta says of itself. */
export interface ManifestFacts {
  readonly kind: ManifestHeader['kind'];
  readonly point: Guid;
  readonly parentPoint: Guid;
  readonly vmId: Guid;
  readonly diskId: Guid;
  /** Hexadecimal. */
  readonly root: string;
}

/**
 * coming: announced, so that what a crash leaves of it is found; placed: checked, and about to have its
 * name; skipped: Replace left the old file.
 */
export type ItemStatus = 'coming' | 'arrived' | 'placed' | 'skipped';

export interface Item {
  readonly file: CatalogFile;
  readonly status: ItemStatus;
  readonly modifiedAtMs: number;
  /** Where its bytes are until all is verified; absolute. */
  readonly staged: string;
  /** Where it, or what becomes of it, is to stand; absolute. */
  readonly final: string;
  readonly manifest: ManifestFacts | undefined;
}

export const ITEM_FORMAT: JsonFormat = {
  name: 'record of a restored file',
  version: 1,
  limitBytes: 64 * 1024,
};

/** Names of one session never meet. */
export function itemId(path: string): string {
  return createHash('sha256').update(path).digest('hex').slice(0, 32);
}

export function itemFields(item: Item): JsonFields {
  const { file, status, modifiedAtMs, staged, final, manifest } = item;
  return { path: file.path, status, modifiedAtMs, staged, final, ...(manifest && { manifest }) };
}

/** @throws DrError E_FILE_DAMAGED */
export function itemOf(fields: JsonFields, recordFile: string): Item {
  const { path, status, modifiedAtMs, staged, final, manifest } = fields;
  const isStatus =
    status === 'coming' || status === 'arrived' || status === 'placed' || status === 'skipped';
  if (
    typeof path !== 'string' ||
    typeof staged !== 'string' ||
    typeof final !== 'string' ||
    typeof modifiedAtMs !== 'number' ||
    !isStatus
  ) {
    throw damaged(recordFile);
  }
  const facts = manifest === undefined ? undefined : factsOf(manifest, recordFile);
  return { file: catalogFileOf(path), status, modifiedAtMs, staged, final, manifest: facts };
}

function factsOf(value: unknown, recordFile: string): ManifestFacts {
  if (typeof value !== 'object' || value === null) throw damaged(recordFile);
  const fields = value as JsonFields;
  const id = (name: string): Guid => {
    const text = fields[name];
    const found = typeof text === 'string' ? parseGuid(text) : undefined;
    if (found === undefined) throw damaged(recordFile);
    return found;
  };
  const { kind, root } = fields;
  if ((kind !== 'base' && kind !== 'delta') || typeof root !== 'string') throw damaged(recordFile);
  const [point, parentPoint] = [id('point'), id('parentPoint')];
  return { kind, point, parentPoint, vmId: id('vmId'), diskId: id('diskId'), root };
}

function damaged(path: string): DrError {
  return new DrError('E_FILE_DAMAGED', `${path} cannot be used: a field of it is not legal`, {
    context: { path },
    hint: 'Restore again: a new job begins anew.',
  });
}
