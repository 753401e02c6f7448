// What could be reclaimed of a VM, and what is worth its cost now: pure functions of the segments and
// of who uses them.
//
//   drop      a segment on which no listed point stands
//   fold      the deltas up to the oldest listed point into the base, unless the base is held
//   compact   deltas between two listed points into one, which leads to the newer of them
//
// Reclaiming costs reading and writing what stays, so it is done when what it gives back has grown to
// a share of the VM's data: then the store stays within that share of what it has to hold, and the
// work stays in proportion to what came in. Rows of many small deltas are merged before that, so that
// a point does not stand on a thousand files; only those of about the same size together, so that a
// large one is not written again for each small one.

import type { Guid } from '../../shared/bytes/index.js';
import { CELL_BYTES } from '../../shared/delta/index.js';
import type { Segment, StoredLayer } from '../store/segments.js';

export type Action =
  | { readonly kind: 'drop'; readonly segment: Segment }
  | { readonly kind: 'fold'; readonly segment: Segment; readonly pointId: Guid }
  | { readonly kind: 'compact'; readonly segment: Segment; readonly parts: readonly StoredLayer[] };

export interface Candidate {
  readonly action: Action;
  /** Bytes of data that it gives back; an upper bound unless `isExact`. */
  readonly gainBytes: number;
  /** What has to be read and written for it, roughly. */
  readonly costBytes: number;
  readonly isExact: boolean;
  /** now: whatever it gives back. rows: when nothing gives back enough. gain: when it gives back enough. */
  readonly because: 'now' | 'rows' | 'gain';
}

/** Why something that could be reclaimed stays as it is. */
export interface Held {
  readonly segment: Segment;
  readonly because: 'damage' | 'lease';
}

export interface PlanInput {
  readonly segments: readonly Segment[];
  /** Bytes of all layers. */
  readonly storedBytes: number;
  readonly isListed: (pointId: Guid) => boolean;
  /** A listed point that does not read back to its manifests. */
  readonly isDamaged: (pointId: Guid) => boolean;
  /** Disks that live outside of the store hang on this base: it stays as it is. */
  readonly isBaseHeld: (segment: Segment) => boolean;
  /** What a merge of these deltas was found to give back; undefined: nobody has looked. */
  readonly mergeGain: (segment: Segment, parts: readonly StoredLayer[]) => number | undefined;
}

export interface Plan {
  /** In the order in which they are best done. */
  readonly candidates: readonly Candidate[];
  readonly held: readonly Held[];
  /** An upper bound where a candidate is not exact. */
  readonly reclaimableBytes: number;
  /** What would stay. */
  readonly neededBytes: number;
}

export interface ReclaimLimits {
  /** Of what has to stay: with more than that to regain, work begins. */
  readonly share: number;
  /** Below this nothing is worth the work. */
  readonly minBytes: number;
  /** Deltas in a row between two listed points. */
  readonly rowLayers: number;
}

export const RECLAIM_LIMITS: ReclaimLimits = {
  share: 0.05,
  minBytes: 1024 * 1024,
  rowLayers: 16,
};

/** Of a merge for its number of layers: what is that much larger than all newer ones stays apart. */
const TIER_RATIO = 2;
const MANIFEST_RECORD_BYTES = 40;

export function planReclaim(input: PlanInput, limits = RECLAIM_LIMITS): Plan {
  const candidates: Candidate[] = [];
  const held: Held[] = [];
  for (const segment of input.segments) {
    const needed = neededIndexes(segment, input);
    const [oldest] = needed;
    if (oldest === undefined) {
      if (input.isBaseHeld(segment)) held.push({ segment, because: 'lease' });
      else candidates.push(dropOf(segment));
      continue;
    }
    if (segment.layers.some(({ pointId }) => input.isListed(pointId) && input.isDamaged(pointId))) {
      if (segment.folding !== undefined || hasSpare(segment, needed)) {
        held.push({ segment, because: 'damage' });
      }
      continue;
    }
    const foldable = segment.layers.slice(1, oldest + 1);
    const isHeld = input.isBaseHeld(segment);
    if (foldable.length > 0 && !isHeld) {
      candidates.push(foldOf(segment, foldable));
      // many small ones cost files until they are worth a fold; what they give back is counted there
      const rows = mergesOf(segment, foldable, input, limits).filter(isForRows);
      candidates.push(...rows.map((row) => ({ ...row, gainBytes: 0, isExact: true })));
    } else if (foldable.length > 0) {
      held.push({ segment, because: 'lease' });
      candidates.push(...mergesOf(segment, foldable, input, limits));
    }
    for (const [place, index] of needed.entries()) {
      const next = needed[place + 1];
      if (next === undefined) break;
      candidates.push(
        ...mergesOf(segment, segment.layers.slice(index + 1, next + 1), input, limits),
      );
    }
  }
  const reclaimableBytes = candidates.reduce((sum, { gainBytes }) => sum + gainBytes, 0);
  candidates.sort((a, b) => orderOf(b) - orderOf(a));
  const neededBytes = Math.max(0, input.storedBytes - reclaimableBytes);
  return { candidates, held, reclaimableBytes, neededBytes };
}

/** How much has to be regainable before work begins. */
export function thresholdOf(plan: Plan, limits = RECLAIM_LIMITS): number {
  return Math.max(limits.minBytes, Math.floor(plan.neededBytes * limits.share));
}

/** The next thing to do; undefined when nothing is worth it. */
export function nextOf(plan: Plan, limits = RECLAIM_LIMITS): Candidate | undefined {
  const now = plan.candidates.find(({ because }) => because === 'now');
  if (now !== undefined) return now;
  const isEnough = plan.reclaimableBytes > thresholdOf(plan, limits);
  const best = isEnough ? plan.candidates.find(({ gainBytes }) => gainBytes > 0) : undefined;
  return best ?? plan.candidates.find(isForRows);
}

function isForRows({ because }: Candidate): boolean {
  return because === 'rows';
}

/** Layers to which a listed point, or the fold that was begun, has to be led. In ascending order. */
function neededIndexes({ layers, folding }: Segment, { isListed }: PlanInput): number[] {
  const isFoldEnd = (pointId: Guid): boolean => pointId === folding?.pointId;
  const indexes: number[] = [];
  let hasListed = false;
  for (const [index, { pointId }] of layers.entries()) {
    hasListed ||= isListed(pointId);
    if (isListed(pointId) || isFoldEnd(pointId)) indexes.push(index);
  }
  return hasListed ? indexes : [];
}

function hasSpare({ layers }: Segment, needed: readonly number[]): boolean {
  return layers.length > needed.length;
}

function dropOf(segment: Segment): Candidate {
  const gainBytes = sumOf(segment.layers);
  return {
    ...{ action: { kind: 'drop', segment }, gainBytes, costBytes: 0 },
    ...{ isExact: true, because: 'now' },
  };
}

function foldOf(segment: Segment, foldable: readonly StoredLayer[]): Candidate {
  const pointId = segment.folding?.pointId ?? foldable.at(-1)?.pointId ?? segment.baseCycleId;
  const [base] = segment.layers;
  const gainBytes = sumOf(foldable);
  const manifestBytes = 2 * MANIFEST_RECORD_BYTES * (base?.cellCount ?? 0);
  return {
    action: { kind: 'fold', segment, pointId },
    ...{ gainBytes, costBytes: 2 * gainBytes + manifestBytes, isExact: true },
    // what was begun is ended: until then nothing else of the segment can be
    because: segment.folding === undefined ? 'gain' : 'now',
  };
}

/** The merge of a row of deltas of which only the last may be listed; none when it has no parts. */
function mergesOf(
  segment: Segment,
  row: readonly StoredLayer[],
  input: PlanInput,
  limits: ReclaimLimits,
): Candidate[] {
  if (row.length < 2) return [];
  const tier = row.length > limits.rowLayers ? tierOf(row) : [];
  const isForItsLayers = tier.length >= 2;
  const because = isForItsLayers ? 'rows' : 'gain';
  return [mergeOf(segment, isForItsLayers ? tier : row, input, because)];
}

function mergeOf(
  segment: Segment,
  parts: readonly StoredLayer[],
  input: PlanInput,
  because: Candidate['because'],
): Candidate {
  const known = input.mergeGain(segment, parts);
  // the newest is seen whole, and what it has is in the sum
  const bound = sumOf(parts.slice(0, -1));
  const gainBytes = known ?? bound;
  return {
    action: { kind: 'compact', segment, parts },
    ...{
      gainBytes,
      costBytes: 2 * sumOf(parts) - gainBytes,
      isExact: known !== undefined,
      because,
    },
  };
}

/** The newest layers of a row, as far back as an older one is not much larger than all of them. */
function tierOf(row: readonly StoredLayer[]): readonly StoredLayer[] {
  let start = row.length - 1;
  let bytes = weightOf(row[start]);
  while (start > 0 && weightOf(row[start - 1]) <= TIER_RATIO * bytes) {
    start--;
    bytes += weightOf(row[start]);
  }
  return row.slice(start);
}

/** What a layer costs to be written again, an empty one included. */
function weightOf(layer: StoredLayer | undefined): number {
  if (layer === undefined) return 0;
  return CELL_BYTES + layer.dataBytes + MANIFEST_RECORD_BYTES * layer.cellCount;
}

function sumOf(layers: readonly StoredLayer[]): number {
  return layers.reduce((sum, { dataBytes }) => sum + dataBytes, 0);
}

/** What gives most back for its cost first. */
function orderOf({ gainBytes, costBytes }: Candidate): number {
  return gainBytes / (costBytes + CELL_BYTES);
}
