// Which file of a job leads a disk where. Pure: what has arrived goes in, what is to be done or what is
// missing comes out. Identity is the GUIDs of the manifests; names only say what to select.

import type { Guid } from '../../shared/bytes/index.js';
import type { RctState } from '../../shared/catalog/index.js';
import { DrError } from '../../shared/errors.js';
import type { Item, ManifestFacts } from './items.js';
import { siblingOf } from './names.js';

/** A base whose bytes and manifest are here. */
export interface BaseDisk {
  readonly base: Item;
  readonly manifest: Item;
  readonly facts: ManifestFacts;
}

export interface DeltaFile {
  readonly delta: Item;
  readonly manifest: Item;
  readonly facts: ManifestFacts;
}

export interface Arrived {
  readonly bases: readonly BaseDisk[];
  readonly deltas: readonly DeltaFile[];
  /** Bases whose manifest has not come. */
  readonly lonelyBases: readonly Item[];
  /** Deltas whose manifest has not come. */
  readonly lonelyDeltas: readonly Item[];
  /** Manifests of deltas, by the point that the delta makes of its disk. */
  readonly manifests: readonly { readonly item: Item; readonly facts: ManifestFacts }[];
}

/** What may be used of the files of a session. */
export function arrivedOf(items: ReadonlyMap<string, Item>): Arrived {
  const bases: BaseDisk[] = [];
  const deltas: DeltaFile[] = [];
  const lonelyBases: Item[] = [];
  const lonelyDeltas: Item[] = [];
  const manifests: { item: Item; facts: ManifestFacts }[] = [];
  for (const item of items.values()) {
    if (item.status !== 'arrived' && item.status !== 'placed') continue;
    const { kind } = item.file.name;
    if (kind === 'delta-manifest' && item.manifest !== undefined) {
      manifests.push({ item, facts: item.manifest });
    }
    if (kind !== 'base' && kind !== 'delta') continue;
    const manifest = items.get(siblingOf(item.file));
    const facts = manifest?.status === 'arrived' ? manifest.manifest : undefined;
    if (manifest === undefined || facts === undefined) {
      (kind === 'base' ? lonelyBases : lonelyDeltas).push(item);
    } else if (kind === 'base') {
      bases.push({ base: item, manifest, facts });
    } else {
      deltas.push({ delta: item, manifest, facts });
    }
  }
  return { bases, deltas, lonelyBases, lonelyDeltas, manifests };
}

export function isSameDisk(one: ManifestFacts, other: ManifestFacts): boolean {
  return one.vmId === other.vmId && one.diskId === other.diskId;
}

/** Where the disk of a base stands: at which point, and whether an apply was interrupted. */
export interface DiskPosition {
  readonly point: Guid;
  readonly applying: Guid | undefined;
}

/**
 * The delta that leads the disk on. undefined: none is here, or two are, and which one is meant shows
 * only at the end of the job.
 */
export function nextDelta(
  { facts }: BaseDisk,
  { point, applying }: DiskPosition,
  { deltas }: Arrived,
): DeltaFile | undefined {
  const following = deltas.filter(
    (delta) => isSameDisk(delta.facts, facts) && delta.facts.parentPoint === point,
  );
  if (applying !== undefined) return following.find((delta) => delta.facts.point === applying);
  return following.length === 1 ? following[0] : undefined;
}

/** The points that the disk has gone through, from the one of its base to where it stands. */
export function pointsBehind(
  { facts }: BaseDisk,
  point: Guid,
  { manifests }: Arrived,
): ReadonlySet<Guid> {
  const behind = new Set<Guid>();
  let current: Guid | undefined = point;
  while (current !== undefined && !behind.has(current)) {
    behind.add(current);
    const at: Guid = current;
    current =
      at === facts.point
        ? undefined
        : manifests.find(({ facts: other }) => isSameDisk(other, facts) && other.point === at)
            ?.facts.parentPoint;
  }
  return behind;
}

/** Deltas of the disk that were not applied to it. */
export function leftDeltas(disk: BaseDisk, point: Guid, arrived: Arrived): DeltaFile[] {
  const behind = pointsBehind(disk, point, arrived);
  return arrived.deltas
    .filter(({ facts }) => isSameDisk(facts, disk.facts) && !behind.has(facts.point))
    .sort((one, other) => sequenceOf(one.delta) - sequenceOf(other.delta));
}

export function sequenceOf({ file: { name } }: Item): number {
  return name.kind === 'delta' || name.kind === 'delta-manifest' ? (name.seq ?? -1) : -1;
}

export function chainError(
  vmName: string,
  diskId: Guid | string,
  message: string,
  select: readonly string[],
): DrError {
  const names = select.slice(0, 10).map((name) => `@hyperv/${name}`);
  return new DrError('E_RESTORE_CHAIN', `${vmName}, disk ${diskId}: ${message}`, {
    context: { vmName, diskId },
    done: 'the disk is not restored',
    hint:
      names.length === 0
        ? 'Select the Full and every later job of the VM up to the point: in bconsole `restore client=… current`, then mark the folder of each name that it had since the Full.'
        : `Select in bconsole as well: ${names.join(', ')}; where the VM had another name, from the folder of that name.`,
  });
}

/** Why the disk does not reach the point of the state that was restored; undefined: it does. */
export function missingFor(
  state: RctState,
  diskId: Guid,
  disk: BaseDisk | undefined,
  point: Guid | undefined,
  arrived: Arrived,
): DrError | undefined {
  const wanted = state.disks.find((each) => each.diskId === diskId);
  if (wanted === undefined || (disk !== undefined && point === state.pointId)) return undefined;
  const { vmName } = state;
  const own = arrived.manifests.filter(
    ({ facts }) => facts.vmId === state.vmId && facts.diskId === diskId,
  );
  let at: Guid = state.pointId;
  const seen = new Set<Guid>();
  const lacking: string[] = [];
  for (;;) {
    const found = own.find(({ facts }) => facts.point === at);
    if (found === undefined || seen.has(at)) break;
    seen.add(at);
    const data = siblingOf(found.item.file);
    if (!arrived.deltas.some(({ delta }) => delta.file.path === data)) lacking.push(data);
    at = found.facts.parentPoint;
  }
  if (at === state.pointId) {
    const files = [wanted.file, wanted.manifest];
    const have = [...arrived.lonelyBases, ...arrived.lonelyDeltas].map(({ file }) => file.path);
    const isBase = disk === undefined && wanted.kind === 'delta' ? ', and its base' : '';
    return chainError(
      vmName,
      diskId,
      `what makes point ${at} is not here${isBase}`,
      files.filter((name) => !have.includes(name)),
    );
  }
  const start = disk?.facts.point ?? 'none';
  if (disk === undefined || (at !== disk.facts.point && lacking.length === 0)) {
    const what = disk === undefined ? 'no base is here' : `its base is of point ${start}`;
    const message = `${what}, and the deltas begin at point ${at}`;
    return chainError(vmName, diskId, message, disk === undefined ? baseNames(own) : []);
  }
  if (lacking.length > 0) {
    return chainError(vmName, diskId, `deltas are missing below point ${state.pointId}`, lacking);
  }
  return chainError(
    vmName,
    diskId,
    `it was led to point ${point ?? start}, which is not on the way to point ${state.pointId}: deltas of two branches were selected`,
    [],
  );
}

/** Names of the base and its manifest, as those of the deltas give them. */
function baseNames(own: Arrived['manifests']): string[] {
  const [first] = own;
  if (first === undefined) return [];
  const manifest = first.item.file.path.replace(/\.\d{1,15}\.manifest$/, '.manifest');
  return [
    siblingOf({
      path: manifest,
      name: { ...first.item.file.name, kind: 'base-manifest', diskId: first.facts.diskId },
    }),
    manifest,
  ];
}

/** Deltas of a disk without any state: each has to be on the way, for nothing says which point is meant. */
export function strayDelta(
  vmName: string,
  disk: BaseDisk,
  point: Guid,
  arrived: Arrived,
): DrError | undefined {
  const [first] = leftDeltas(disk, point, arrived);
  if (first === undefined) return undefined;
  const { facts, delta } = first;
  return chainError(
    vmName,
    facts.diskId,
    `${delta.file.path} leads on from point ${facts.parentPoint}, the disk is at point ${point}`,
    [],
  );
}

/** Deltas of a disk that has no base here. */
export function baselessDelta(
  vmName: string,
  vmId: Guid,
  diskId: Guid,
  { manifests }: Arrived,
): DrError | undefined {
  const own = manifests.filter(({ facts }) => facts.vmId === vmId && facts.diskId === diskId);
  const [first] = own;
  if (first === undefined) return undefined;
  const message = `a delta is here that leads on from point ${first.facts.parentPoint}, and no base`;
  return chainError(vmName, diskId, message, baseNames(own));
}
