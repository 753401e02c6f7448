// What a cycle transfers, and why: a pure function of the frozen disks, the ledger's chain (already
// settled, changes already absorbed) and the receiver's view. cycle.ts carries the plan out.
//
//   the receiver has no point           seed     every disk whole
//   its head is the confirmed point     delta    per disk: the dirty set
//   its head is another                 resync   per disk: compare with the hashes of the head
//
// and per disk, whatever the kind:
//
//   the head lacks it, or has it in another size     whole, as a base of its own
//   the receiver cannot read its files any more      whole, as a base of its own
//   the ledger has no set for it, or "all cells"     compare
//   the receiver asks for a comparison               compare
//
// A disk that an unfinished cycle brought in the same size, or that an older point has when it is sent
// whole, is sent with reuse: cells whose hash the
// receiver has already are named, not sent.

import type { Guid } from '../shared/bytes/index.js';
import { DrError } from '../shared/errors.js';
import type { CheckpointDisk } from '../shared/hypervisor/index.js';
import { type DirtyCells } from './dirty-cells.js';
import { type Chain, type DiskDebt, type Geometry, isSameGeometry } from './ledger.js';
import type { ReceiverDisk, ReceiverView } from './receiver-view.js';

export type CycleKind = 'seed' | 'delta' | 'resync' | 'nothing';

/** How the cells of a disk are found. */
export type CellsToSend =
  /** Every cell that is not zero, onto an empty disk. */
  | { readonly how: 'whole' }
  /** The cells of the set. */
  | { readonly how: 'dirty'; readonly cells: Exclude<DirtyCells, 'all'> }
  /** Cells that differ from the receiver's head point. */
  | { readonly how: 'compare'; readonly pointId: Guid; readonly generation: number };

export interface DiskPlan {
  readonly diskId: Guid;
  readonly geometry: Geometry;
  readonly generation: number;
  readonly send: CellsToSend;
  /** The unfinished cycle whose cells may be named instead of sent. */
  readonly reuseCycleId: Guid | undefined;
  /** The older point whose cells may be named, and the generation that it has the disk in. */
  readonly reusePoint: { readonly pointId: Guid; readonly generation: number } | undefined;
  /** For reports: "17 cells changed", "the receiver's head is not known here". */
  readonly because: string;
}

export interface CyclePlan {
  readonly kind: CycleKind;
  /** undefined: the first point. */
  readonly parentPointId: Guid | undefined;
  readonly disks: readonly DiskPlan[];
}

export interface PlanInput {
  readonly disks: readonly CheckpointDisk[];
  readonly chain: Chain;
  readonly receiver: ReceiverView;
}

/**
 * Refuses a receiver that no cycle may be sent to.
 * @throws DrError E_FAILED_OVER, E_LOCKED, E_STATE, E_HALTED, E_SPLIT_BRAIN, E_STALE_EPOCH
 */
export function checkReceiver(receiver: ReceiverView, chain: Chain, vmName: string): void {
  const context = { state: receiver.state, epoch: receiver.epoch };
  const { standing } = chain;
  if (standing.isRetired) {
    throw new DrError('E_FAILED_OVER', `${vmName} runs at the DR site for good`, {
      context: { ...context, state: 'committed' },
    });
  }
  switch (receiver.state) {
    case 'failed-over':
    case 'committed':
      throw new DrError('E_FAILED_OVER', `${vmName} runs at the DR site`, { context });
    case 'paused':
      throw new DrError('E_STATE', `the protection of ${vmName} is paused at the receiver`, {
        context,
        hint: 'Let it go on at the DR site: `hvdr unpause VM`.',
      });
    case 'halted':
      throw new DrError('E_HALTED', `the receiver has halted the protection of ${vmName}`, {
        context,
      });
    case 'split-brain':
      throw new DrError('E_SPLIT_BRAIN', `${vmName} runs at both sites`, { context });
    case 'returning':
      throw new DrError('E_LOCKED', `an undo or a failback of ${vmName} is under way`, {
        context,
        hint: 'Let it end, or see at the DR site what it waits for: `hvdr status VM`.',
      });
    case 'unprotected':
    case 'seeding':
    case 'protected':
    case 'resync':
      break;
  }
  if (receiver.epoch > chain.epoch) {
    throw new DrError(
      'E_STALE_EPOCH',
      `the receiver is at epoch ${receiver.epoch.toString()} of ${vmName}, this source at ${chain.epoch.toString()}`,
      { context },
    );
  }
  if (standing.activeSite === 'target' && receiver.epoch === chain.epoch) {
    throw new DrError('E_FAILED_OVER', `${vmName} runs at the DR site since epoch ${chain.epoch}`, {
      context,
      hint: 'What the receiver says of it now contradicts what it said before: look at its store.',
    });
  }
  if (receiver.epoch < chain.epoch) {
    throw new DrError(
      'E_HALTED',
      `the receiver is at epoch ${receiver.epoch.toString()} of ${vmName}, this source knows ${chain.epoch.toString()}: its store is older than it was`,
      {
        context,
        hint: `When that is known and wanted, at the DR site: \`hvdr unhalt VM --epoch ${chain.epoch} --yes\`.`,
      },
    );
  }
}

/** The receiver serves the VM under an epoch that this source was not told of. */
export function isTakenOver(receiver: ReceiverView, known: Chain | undefined): boolean {
  if (!['failed-over', 'returning', 'committed'].includes(receiver.state)) return false;
  if (receiver.isSourceActive) return false;
  return known === undefined || receiver.epoch > known.epoch;
}

/**
 * The primary site is active again under an epoch that this source was not told of: an undo, or a
 * failback, ended while it was away. What is retired stays so.
 */
export function isGivenBack(receiver: ReceiverView, known: Chain | undefined): boolean {
  if (known === undefined || known.standing.isRetired) return false;
  const isTaking = ['seeding', 'protected', 'resync'].includes(receiver.state);
  return isTaking && receiver.isSourceActive && receiver.epoch > known.epoch;
}

export function planCycle(input: PlanInput): CyclePlan {
  const { disks, chain, receiver } = input;
  const { headPointId } = receiver;
  const plans = disks.map((disk) => planDisk(disk, chain, receiver));
  return { kind: kindOf(plans, receiver), parentPointId: headPointId, disks: plans };
}

function kindOf(plans: readonly DiskPlan[], receiver: ReceiverView): CycleKind {
  if (receiver.headPointId === undefined) return 'seed';
  if (plans.some(({ send }) => send.how === 'compare')) return 'resync';
  const isSameSet =
    plans.length === receiver.disks.length &&
    plans.every(({ send }) => send.how === 'dirty' && send.cells.count === 0);
  return isSameSet ? 'nothing' : 'delta';
}

function planDisk(disk: CheckpointDisk, chain: Chain, receiver: ReceiverView): DiskPlan {
  const { diskId, sizeBytes, logicalSectorBytes, physicalSectorBytes } = disk;
  const geometry = { sizeBytes, logicalSectorBytes, physicalSectorBytes };
  const { headPointId } = receiver;
  const atHead = receiver.disks.find((other) => other.diskId === diskId);
  const shape = { diskId, geometry };
  if (headPointId === undefined || atHead === undefined) {
    const generation = baseGeneration(disk, geometry, chain, undefined);
    const because =
      headPointId === undefined
        ? 'the receiver has no point yet'
        : 'the disk is new to the receiver';
    return finish({ ...shape, generation, send: { how: 'whole' }, because }, receiver);
  }
  if (!isSameGeometry(atHead.geometry, geometry)) {
    const generation = baseGeneration(disk, geometry, chain, atHead);
    const because = `the disk has another shape than at the receiver (${atHead.geometry.sizeBytes} bytes there)`;
    return finish({ ...shape, generation, send: { how: 'whole' }, because }, receiver);
  }
  if (receiver.lostDiskIds.includes(diskId)) {
    const generation = baseGeneration(disk, geometry, chain, atHead);
    const because = 'the receiver cannot read its copy of the disk any more';
    return finish({ ...shape, generation, send: { how: 'whole' }, because }, receiver);
  }
  const { generation } = atHead;
  const debt = chain.disks.get(diskId);
  const reason = whyCompare(debt, atHead, chain, headPointId, receiver.state === 'resync');
  if (reason === undefined && debt !== undefined && debt.pending !== 'all') {
    const { pending } = debt;
    const because = pending.count === 0 ? 'no cell changed' : `${pending.count} cells changed`;
    const send = { how: 'dirty', cells: pending } as const;
    return finish({ ...shape, generation, send, because }, receiver);
  }
  const send = { how: 'compare', pointId: headPointId, generation } as const;
  return finish({ ...shape, generation, send, because: reason ?? 'nothing is known' }, receiver);
}

/** Why a dirty set cannot be used, or undefined when it can. */
function whyCompare(
  debt: DiskDebt | undefined,
  atHead: ReceiverDisk,
  chain: Chain,
  headPointId: Guid,
  isCompareAsked: boolean,
): string | undefined {
  if (isCompareAsked) return 'the receiver asks for a comparison';
  if (chain.confirmed === undefined) return 'no point of the receiver is known here';
  if (chain.confirmed.pointId !== headPointId)
    return "the receiver's head is not the one known here";
  if (debt === undefined) return 'the disk has no set in the ledger';
  if (debt.generation !== atHead.generation)
    return 'the receiver has another generation of the disk';
  if (debt.pending === 'all') return debt.because;
  return undefined;
}

/** A number that no point of this disk has used, as far as anybody knows. */
function baseGeneration(
  disk: CheckpointDisk,
  geometry: Geometry,
  chain: Chain,
  atHead: ReceiverDisk | undefined,
): number {
  const known = chain.generations.get(disk.diskId);
  const above = atHead === undefined ? 0 : atHead.generation + 1;
  if (known === undefined) return above;
  const isFree = !known.isUsed && isSameGeometry(known.geometry, geometry);
  return Math.max(above, isFree ? known.generation : known.generation + 1);
}

function finish(
  plan: Omit<DiskPlan, 'reuseCycleId' | 'reusePoint'>,
  receiver: ReceiverView,
): DiskPlan {
  const { unfinished, earlierDisks } = receiver;
  const earlier = earlierDisks.find(
    (disk) =>
      plan.send.how === 'whole' &&
      disk.diskId === plan.diskId &&
      disk.geometry.sizeBytes === plan.geometry.sizeBytes,
  );
  const isThere = unfinished?.disks.some(
    (disk) => disk.diskId === plan.diskId && disk.geometry.sizeBytes === plan.geometry.sizeBytes,
  );
  return {
    ...plan,
    reuseCycleId: isThere === true ? unfinished?.cycleId : undefined,
    reusePoint: earlier && { pointId: earlier.pointId, generation: earlier.generation },
  };
}
