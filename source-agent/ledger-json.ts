// The JSON form of a ledger: `<VM-GUID>.json`. Sets stand in the file beside it (cells-file.ts) and
// are named here by their number. Everything is checked field by field: a file that an editor, a
// restore or another release touched is refused, and the caller then compares by hashes.

import { hash } from 'node:crypto';
import { type Guid, parseGuid } from '../shared/bytes/index.js';
import { type CellSet, cellCount, MAX_DISK_BYTES, MAX_DISKS } from '../shared/delta/index.js';
import { DrError } from '../shared/errors.js';
import type { JsonFields, JsonFormat } from '../shared/files/index.js';
import type { CellsFileFacts } from './cells-file.js';
import { type DirtyCells, isNone, noCells } from './dirty-cells.js';
import {
  type Chain,
  CHAINS_MAX,
  type CycleInFlight,
  type DiskDebt,
  type Geometry,
  type JobFacts,
  type KnownGeneration,
  type Ledger,
  OFFERED_MAX,
  type PointFacts,
  type Reference,
  SOURCE_ACTIVE,
  type Standing,
} from './ledger.js';

export const LEDGER_FORMAT: JsonFormat = {
  name: 'ledger',
  version: 1,
  limitBytes: 16 * 1024 * 1024,
};

export type ToldEpoch = Pick<Chain, 'epoch' | 'standing'>;

/** Where the sets stand; undefined when there are none. */
export interface CellsReference extends CellsFileFacts {
  /** Name in the ledger's folder. */
  readonly name: string;
}

/** The fields of the file; `sets` receives the sets in the order in which they are named. */
export function encodeLedger(
  ledger: Ledger,
  cells: CellsReference | undefined,
  sets: CellSet[] = [],
): JsonFields {
  const dirty = (value: DirtyCells | undefined): unknown => {
    if (value === undefined) return null;
    if (value === 'all') return 'all';
    if (isNone(value)) return 'none';
    sets.push(value);
    return { set: sets.length - 1, cells: value.count };
  };
  const { reference } = ledger;
  return {
    vmId: ledger.vmId,
    vmName: ledger.vmName,
    cellsFile: cells === undefined ? null : { ...cells },
    referencePoint: reference === undefined ? null : { ...reference },
    chains: [...ledger.chains.values()].map((chain) => ({
      key: chain.key,
      epoch: chain.epoch.toString(),
      standing: chain.standing,
      confirmed: chain.confirmed ?? null,
      offered: chain.offered,
      inFlight: chain.inFlight ?? null,
      disks: [...chain.disks].map(([diskId, debt]) => ({
        diskId,
        generation: debt.generation,
        geometry: debt.geometry,
        pending: dirty(debt.pending),
        because: debt.because,
        inFlight: dirty(debt.inFlight),
      })),
      generations: [...chain.generations].map(([diskId, known]) => ({ diskId, ...known })),
    })),
  };
}

/** The fields with their SHA-256, so that a changed digit does not go unnoticed. */
export function withChecksum(fields: JsonFields): JsonFields {
  return { ...fields, checksum: checksumOf(fields) };
}

/** The fields without their checksum. @throws DrError E_FILE_DAMAGED when it is another one */
export function checkedFields(found: JsonFields, path: string): JsonFields {
  const { checksum, ...fields } = found;
  if (checksum === checksumOf(fields)) return fields;
  throw new FieldReader(path).bad('checksum', 'the file was changed');
}

function checksumOf(fields: JsonFields): string {
  return hash('sha256', JSON.stringify(fields), 'hex');
}

/** Which file the sets of an encoded ledger stand in. @throws DrError E_FILE_DAMAGED */
export function cellsReferenceIn(fields: JsonFields, path: string): CellsReference | undefined {
  const read = new FieldReader(path);
  const value = fields['cellsFile'];
  if (value === null) return undefined;
  const cells = read.object(value, 'cellsFile');
  const name = read.text(cells['name'], 'name', 128);
  if (!/^[0-9a-f-]{36}\.[0-9]{1,16}\.cells$/.test(name)) throw read.bad('cellsFile', 'name');
  const digest = read.text(cells['digest'], 'digest', 64);
  if (!/^[0-9a-f]{64}$/.test(digest)) throw read.bad('cellsFile', 'digest');
  return { name, digest, sizeBytes: read.whole(cells['sizeBytes'], 'sizeBytes') };
}

/** The latest consistency time of any confirmed point. @throws DrError E_FILE_DAMAGED */
export function newestConfirmedIn(fields: JsonFields, path: string): number | undefined {
  const read = new FieldReader(path);
  let newest: number | undefined;
  for (const value of read.list(fields['chains'], 'chains', CHAINS_MAX)) {
    const { confirmed } = read.object(value, 'chains');
    if (confirmed === null) continue;
    newest = Math.max(newest ?? 0, read.point(confirmed).consistentAtMs);
  }
  return newest;
}

/** What each chain was told, by its key. @throws DrError E_FILE_DAMAGED */
export function allToldIn(fields: JsonFields, path: string): ReadonlyMap<string, ToldEpoch> {
  const read = new FieldReader(path);
  const told = new Map<string, ToldEpoch>();
  for (const value of read.list(fields['chains'], 'chains', CHAINS_MAX)) {
    const { key, epoch, standing } = read.object(value, 'chains');
    const word = { epoch: read.epoch(epoch), standing: read.standing(standing) };
    told.set(read.text(key, 'key', 1024), word);
  }
  return told;
}

/** What a ledger names outside itself. */
export interface LedgerNames {
  readonly vmName: string;
  readonly referenceId: string | undefined;
  readonly cellsName: string | undefined;
}

/** @throws DrError E_FILE_DAMAGED */
export function namesIn(fields: JsonFields, path: string): LedgerNames {
  const read = new FieldReader(path);
  const reference = fields['referencePoint'];
  return {
    vmName: read.text(fields['vmName'], 'vmName', 1024),
    referenceId: reference === null ? undefined : read.reference(reference).id,
    cellsName: cellsReferenceIn(fields, path)?.name,
  };
}

/** @throws DrError E_FILE_DAMAGED */
export function parseLedger(fields: JsonFields, sets: readonly CellSet[], path: string): Ledger {
  const read = new FieldReader(path, sets);
  const chains = new Map<string, Chain>();
  for (const value of read.list(fields['chains'], 'chains', CHAINS_MAX)) {
    const chain = read.chain(value);
    chains.set(chain.key, chain);
  }
  const reference = fields['referencePoint'];
  const ledger = {
    vmId: read.guid(fields['vmId'], 'vmId'),
    vmName: read.text(fields['vmName'], 'vmName', 1024),
    reference: reference === null ? undefined : read.reference(reference),
    chains,
  };
  if (!read.hasUsedAllSets) throw read.bad('chains', 'a set that nothing names');
  return ledger;
}

class FieldReader {
  readonly #path: string;
  readonly #sets: readonly CellSet[];
  readonly #used = new Set<number>();

  constructor(path: string, sets: readonly CellSet[] = []) {
    this.#path = path;
    this.#sets = sets;
  }

  get hasUsedAllSets(): boolean {
    return this.#used.size === this.#sets.length;
  }

  bad(field: string, what: unknown): DrError {
    const shown = typeof what === 'string' ? what : typeof what;
    return new DrError(
      'E_FILE_DAMAGED',
      `${this.#path} cannot be used: ${field} is not legal (${shown.slice(0, 60)})`,
      { context: { path: this.#path, field } },
    );
  }

  object(value: unknown, field: string): JsonFields {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw this.bad(field, value);
    }
    return Object.fromEntries(Object.entries(value));
  }

  list(value: unknown, field: string, most: number): readonly unknown[] {
    if (!Array.isArray(value) || value.length > most) throw this.bad(field, value);
    return value as readonly unknown[];
  }

  text(value: unknown, field: string, most: number): string {
    if (typeof value !== 'string' || value.length > most) throw this.bad(field, value);
    return value;
  }

  whole(value: unknown, field: string): number {
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
      throw this.bad(field, value);
    }
    return value;
  }

  flag(value: unknown, field: string): boolean {
    if (typeof value !== 'boolean') throw this.bad(field, value);
    return value;
  }

  guid(value: unknown, field: string): Guid {
    const parsed = typeof value === 'string' ? parseGuid(value) : undefined;
    if (parsed === undefined) throw this.bad(field, value);
    return parsed;
  }

  geometry(value: unknown): Geometry {
    const fields = this.object(value, 'geometry');
    const sizeBytes = this.whole(fields['sizeBytes'], 'sizeBytes');
    if (sizeBytes > MAX_DISK_BYTES) throw this.bad('sizeBytes', `${sizeBytes}`);
    return {
      sizeBytes,
      logicalSectorBytes: this.whole(fields['logicalSectorBytes'], 'logicalSectorBytes'),
      physicalSectorBytes: this.whole(fields['physicalSectorBytes'], 'physicalSectorBytes'),
    };
  }

  point(value: unknown): PointFacts {
    const fields = this.object(value, 'point');
    const facts = {
      pointId: this.guid(fields['pointId'], 'pointId'),
      consistentAtMs: this.whole(fields['consistentAtMs'], 'consistentAtMs'),
    };
    const { job } = fields;
    return job === undefined ? facts : { ...facts, job: this.job(job) };
  }

  job(value: unknown): JobFacts {
    const fields = this.object(value, 'job');
    return {
      name: this.text(fields['name'], 'name', 256),
      seq: this.whole(fields['seq'], 'seq'),
      isSent: this.flag(fields['isSent'], 'isSent'),
      diskIds: this.list(fields['diskIds'], 'diskIds', MAX_DISKS).map((id) =>
        this.guid(id, 'diskIds'),
      ),
    };
  }

  cycle(value: unknown): CycleInFlight {
    const fields = this.object(value, 'inFlight');
    return { ...this.point(value), cycleId: this.guid(fields['cycleId'], 'cycleId') };
  }

  reference(value: unknown): Reference {
    const fields = this.object(value, 'referencePoint');
    const disks = this.list(fields['disks'], 'disks', MAX_DISKS).map((item) => {
      const disk = this.object(item, 'disks');
      return {
        diskId: this.guid(disk['diskId'], 'diskId'),
        trackingId: this.text(disk['trackingId'], 'trackingId', 4096),
        geometry: this.geometry(disk['geometry']),
      };
    });
    return {
      id: this.text(fields['id'], 'id', 4096),
      createdAtMs: this.whole(fields['createdAtMs'], 'createdAtMs'),
      disks,
    };
  }

  epoch(value: unknown): bigint {
    const epoch = this.text(value, 'epoch', 20);
    if (!/^\d{1,20}$/.test(epoch)) throw this.bad('epoch', epoch);
    return BigInt(epoch);
  }

  /** A ledger of before has none. */
  standing(value: unknown): Standing {
    if (value === undefined) return SOURCE_ACTIVE;
    const { activeSite, isRetired } = this.object(value, 'standing');
    if (activeSite !== 'source' && activeSite !== 'target') throw this.bad('activeSite', 'another');
    return { activeSite, isRetired: this.flag(isRetired, 'isRetired') };
  }

  chain(value: unknown): Chain {
    const fields = this.object(value, 'chains');
    const disks = new Map<Guid, DiskDebt>();
    for (const item of this.list(fields['disks'], 'disks', MAX_DISKS)) {
      const disk = this.object(item, 'disks');
      disks.set(this.guid(disk['diskId'], 'diskId'), this.debt(disk));
    }
    const generations = new Map<Guid, KnownGeneration>();
    for (const item of this.list(fields['generations'], 'generations', 65536)) {
      const known = this.object(item, 'generations');
      generations.set(this.guid(known['diskId'], 'diskId'), {
        generation: this.whole(known['generation'], 'generation'),
        geometry: this.geometry(known['geometry']),
        isUsed: this.flag(known['isUsed'], 'isUsed'),
      });
    }
    const { confirmed, inFlight } = fields;
    return {
      key: this.text(fields['key'], 'key', 256),
      epoch: this.epoch(fields['epoch']),
      standing: this.standing(fields['standing']),
      confirmed: confirmed === null ? undefined : this.point(confirmed),
      offered: this.list(fields['offered'], 'offered', OFFERED_MAX).map((item) => this.point(item)),
      inFlight: inFlight === null ? undefined : this.cycle(inFlight),
      disks,
      generations,
    };
  }

  debt(disk: JsonFields): DiskDebt {
    const geometry = this.geometry(disk['geometry']);
    const pending = this.dirty(disk['pending'], geometry);
    if (pending === undefined) throw this.bad('pending', 'nothing');
    return {
      generation: this.whole(disk['generation'], 'generation'),
      geometry,
      pending,
      because: this.text(disk['because'], 'because', 1024),
      inFlight: this.dirty(disk['inFlight'], geometry),
    };
  }

  dirty(value: unknown, geometry: Geometry): DirtyCells | undefined {
    if (value === null) return undefined;
    if (value === 'all') return 'all';
    if (value === 'none') return noCells();
    const fields = this.object(value, 'set');
    const number = this.whole(fields['set'], 'set');
    const set = this.#sets[number];
    if (set === undefined || this.#used.has(number)) throw this.bad('set', `${number}`);
    this.#used.add(number);
    if (set.count !== this.whole(fields['cells'], 'cells')) throw this.bad('cells', `${number}`);
    const cells = cellCount(geometry.sizeBytes);
    for (const { end } of set.pageRanges()) {
      if (end > cells) throw this.bad('set', `cell ${end - 1} of ${cells}`);
    }
    return set;
  }
}
