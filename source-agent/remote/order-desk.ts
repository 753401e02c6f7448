// Carries out what the DR site asks for, as far as this site allows it. For each VM one order after the
// other; an order that came before - the same action of the same operation - is done once: while it runs
// the second waits for it, and each action looks at what there is, so that doing it again changes
// nothing.
//
//   of an older epoch than the ledger's   E_STALE_EPOCH
//   not named in remote_actions           E_REMOTE_ACTION, unless whoever runs a command here asks for it;
//                                         a start is allowed as well of what this DR site shut down
//
// A VM that runs is never stopped but by an order to shut it down that this site allows.

import type { Guid } from '../../shared/bytes/index.js';
import { guidToWire } from '../../shared/bytes/index.js';
import type { OrderDone } from '../../shared/channel/index.js';
import { DrError } from '../../shared/errors.js';
import type { PowerState } from '../../shared/hypervisor/index.js';
import { chainKey } from '../ledger.js';
import type { ToldEpoch } from '../ledger-json.js';
import { allTold } from '../ledger-store.js';
import { blockStart, liftFence, powerOf, staleEpoch } from '../start-block.js';
import { type AttendedVm, attendedVms, describeAttended } from './attended-vms.js';
import type { Job } from '../agent.js';
import { isFailbackHost } from '../failback/host.js';
import { refuseDuringFailback } from '../failback/return-record.js';
import { endGivenBack, type FailbackAction, failbackOrder } from './failback.js';
import { finalCycle, presync } from './ordered-cycles.js';
import { REMOTE_ACTIONS, type RemoteAction } from './remote-actions.js';
import type { AttachSeams } from './seams.js';
import { StoppedNote } from './stopped-note.js';
import { keepWord } from './told.js';
import { DONE, type ReceivedOrder } from './wire.js';

export interface Scope {
  readonly storeId: Guid;
  readonly jobs: readonly Job[];
  /** Somebody at this site runs a command, and what it names is allowed by him. */
  readonly isAtCommand: boolean;
}

interface Running {
  readonly result: Promise<OrderDone>;
  /** Of everybody who waits for it. */
  readonly listeners: Set<() => void>;
}

export class OrderDesk {
  readonly #seams: AttachSeams;
  readonly #running = new Map<string, Running>();
  /** The last order of each VM. */
  readonly #last = new Map<Guid, Promise<unknown>>();

  constructor(seams: AttachSeams) {
    this.#seams = seams;
  }

  /** `onProgress` is told whenever the order gets on. @throws DrError of the order */
  async carryOut(order: ReceivedOrder, scope: Scope, onProgress: () => void): Promise<OrderDone> {
    const { vmId, operationId, action } = order;
    const key = `${vmId} ${operationId ?? 'none'} ${JSON.stringify(action, whole)}`;
    const known = this.#running.get(key);
    if (known !== undefined) {
      known.listeners.add(onProgress);
      return known.result;
    }
    const listeners = new Set([onProgress]);
    const tell = (): void => {
      for (const each of listeners) each();
    };
    const before = this.#last.get(vmId) ?? Promise.resolve();
    // a question is answered beside whatever runs
    const result =
      action.$case === 'describe'
        ? this.#do(order, scope, tell)
        : before.then(() => this.#do(order, scope, tell));
    this.#running.set(key, { result, listeners });
    const settled = result.then(
      () => undefined,
      () => undefined,
    );
    if (action.$case !== 'describe') this.#last.set(vmId, settled);
    try {
      return await result;
    } finally {
      this.#running.delete(key);
      if (this.#last.get(vmId) === settled) this.#last.delete(vmId);
    }
  }

  /** When no order is under way any more. */
  async idle(): Promise<void> {
    await Promise.allSettled([...this.#running.values()].map(({ result }) => result));
  }

  async #do(order: ReceivedOrder, scope: Scope, onProgress: () => void): Promise<OrderDone> {
    const { vmId, epoch, action } = order;
    const { fs } = this.#seams;
    this.#seams.signal.throwIfAborted();
    const attended = (await attendedVms(scope.jobs)).get(vmId);
    if (attended === undefined) {
      throw new DrError('E_NOT_FOUND', `the agent has no VM ${vmId} in its jobs any more`, {
        context: { vmId },
      });
    }
    if (action.$case === 'describe') {
      const vm = await describeAttended(attended, scope.storeId, fs);
      const heartbeat = await heartbeatOf(attended);
      const { remoteActions } = scope.isAtCommand ? { remoteActions: [...REMOTE_ACTIONS] } : vm;
      return { ...DONE, vm: { ...vm, heartbeat, remoteActions } };
    }
    const { vm, job } = attended;
    const chains = await allTold(fs, job.stateFolder, vmId);
    const told = chains.get(chainKey(scope.storeId));
    if (told !== undefined && epoch < told.epoch) throw staleEpoch(vm, epoch, told.epoch);
    const isTarget = told?.standing.activeSite === 'target' && told.epoch === epoch;
    // what wakes the VM here, or may: no store speaks for another one
    if (['start', 'unfence', 'failbackStart'].includes(action.$case)) {
      refuseServedByOthers(attended, chains, scope.storeId);
    }
    if (action.$case === 'start') {
      await refuseDuringFailback(job.stateFolder, vm, this.#seams);
    }
    switch (action.$case) {
      case 'presync':
        await presync(attended, this.#seams, onProgress);
        return DONE;
      case 'shutDown': {
        const { timeoutMs, mayTurnOff } = action.value;
        await this.#shutDownVm(order, attended, scope, Number(timeoutMs), mayTurnOff);
        return DONE;
      }
      case 'start':
        await this.#start(order, attended, scope, isTarget);
        return DONE;
      case 'fence':
        await this.#fence(order, attended);
        return DONE;
      case 'unfence':
        await this.#unfence(order, attended, scope.storeId, isTarget);
        return DONE;
      case 'finalCycle': {
        const pointId = await finalCycle(attended, scope.storeId, this.#seams, onProgress);
        return { ...DONE, pointId: guidToWire(pointId), isCompared: true };
      }
      case 'tellEpoch':
        await this.#tell(order, action.value, attended, scope);
        return DONE;
      case 'failbackSync':
      case 'failbackStart':
      case 'failbackCommit':
      case 'failbackUndo': {
        requireSide(action, attended, epoch, told);
        const requireAllowed = (anyOf: readonly RemoteAction[]): void => {
          this.#requireAllowed(anyOf, attended, scope);
        };
        const seams = { ...this.#seams, requireAllowed, onProgress };
        const ordered = { vmId, operationId: operationIdOf(order), epoch, action };
        const done = await failbackOrder(ordered, attended, scope.storeId, seams);
        // from here on the VM runs at its own site for good
        if (action.$case === 'failbackCommit') await this.#noteOf(attended).remove();
        return done;
      }
    }
  }

  async #shutDownVm(
    order: ReceivedOrder,
    attended: AttendedVm,
    scope: Scope,
    timeoutMs: number,
    mayTurnOff: boolean,
  ): Promise<void> {
    const { vm, job } = attended;
    const { hypervisor } = job;
    if ((await requirePower(attended)) === 'off') return;
    this.#requireAllowed(['shutdown'], attended, scope);
    const { epoch } = order;
    const stopped = { storeId: scope.storeId, operationId: operationIdOf(order), epoch };
    await this.#noteOf(attended).write(stopped);
    try {
      await hypervisor.shutDownVm(vm.id, timeoutMs);
    } catch (error) {
      const isLate = error instanceof DrError && error.code === 'E_SHUTDOWN_TIMEOUT';
      if (!isLate || !mayTurnOff) throw error;
      await hypervisor.turnOffVm(vm.id);
    }
  }

  async #start(
    order: ReceivedOrder,
    attended: AttendedVm,
    scope: Scope,
    isTarget: boolean,
  ): Promise<void> {
    const { vm, job } = attended;
    const { epoch } = order;
    if (isTarget) throw servesElsewhere(attended, epoch);
    const note = this.#noteOf(attended);
    if ((await requirePower(attended)) !== 'running') {
      const isAllowed = scope.isAtCommand || attended.allowed.has('start');
      // whoever lets a DR site shut the VM down lets it start the VM again
      if (!isAllowed && !(await note.isOf({ storeId: scope.storeId, epoch }))) {
        this.#requireAllowed(['start'], attended, scope);
      }
      await job.hypervisor.startVm(vm.id);
    }
    await note.remove();
  }

  async #fence(order: ReceivedOrder, { vm, job }: AttendedVm): Promise<void> {
    const { epoch } = order;
    const operationId = operationIdOf(order);
    const present = await job.hypervisor.fenceOf(vm.id);
    if (present !== undefined && present.epoch > epoch) throw staleEpoch(vm, epoch, present.epoch);
    if (present?.tag.operationId === operationId && present.epoch === epoch) return;
    await job.hypervisor.fenceVm(vm.id, { tag: { protectionId: vm.id, operationId }, epoch });
    this.#seams.log.info('fence.set', { vmId: vm.id, vmName: vm.name, epoch });
  }

  /**
   * Only ours, and never one of a later epoch than the order's. The store gives the VM back: a failback of it
   * that is open here still has no other end any more.
   */
  async #unfence(
    order: ReceivedOrder,
    attended: AttendedVm,
    storeId: Guid,
    isTarget: boolean,
  ): Promise<void> {
    const { vm, job } = attended;
    if (isTarget) throw servesElsewhere(attended, order.epoch);
    await endGivenBack({ vm, epoch: order.epoch, storeId }, job, this.#seams);
    await refuseDuringFailback(job.stateFolder, vm, this.#seams);
    await liftFence(vm, order.epoch, job.hypervisor, this.#seams.log);
  }

  async #tell(
    order: ReceivedOrder,
    { isSourceActive, isRetired }: { isSourceActive: boolean; isRetired: boolean },
    attended: AttendedVm,
    { storeId }: Scope,
  ): Promise<void> {
    const { vm, job } = attended;
    const { epoch } = order;
    const operationId = operationIdOf(order);
    const activeSite = isSourceActive ? 'source' : 'target';
    const word = { operationId, epoch, activeSite, isRetired } as const;
    await keepWord(vm, storeId, word, job.stateFolder, this.#seams);
    const isOver = isRetired || (isSourceActive && (await requirePower(attended)) === 'running');
    if (isOver) await this.#noteOf(attended).remove();
    if (isSourceActive) return;
    await blockStart(vm, { epoch, operationId }, job.hypervisor, this.#seams.log);
  }

  #requireAllowed(
    anyOf: readonly RemoteAction[],
    { vm, allowed }: AttendedVm,
    { isAtCommand }: Scope,
  ): void {
    if (isAtCommand || anyOf.some((each) => allowed.has(each))) return;
    const action = anyOf.join(' or ');
    const named = REMOTE_ACTIONS.filter((each) => allowed.has(each)).join(',');
    throw new DrError('E_REMOTE_ACTION', `remote_actions of ${vm.name} has no ${action}`, {
      context: { vmId: vm.id, action, allowed: named === '' ? 'none' : named },
      done: 'nothing was changed at the primary site',
    });
  }

  #noteOf({ vm, job }: AttendedVm): StoppedNote {
    return new StoppedNote(job.stateFolder, vm.id, this.#seams);
  }
}

function operationIdOf({ operationId, vmId }: ReceivedOrder): Guid {
  // wire.ts refuses orders without one, but for questions
  return operationId ?? vmId;
}

async function requirePower({ vm, job }: AttendedVm): Promise<PowerState> {
  const power = await powerOf(vm.id, job.hypervisor);
  if (power !== undefined) return power;
  throw new DrError('E_NOT_FOUND', `${job.hypervisor.name} has no VM ${vm.name} any more`);
}

function servesElsewhere({ vm }: AttendedVm, epoch: bigint): DrError {
  return new DrError('E_STATE', `${vm.name} serves at the DR site since epoch ${epoch}`, {
    context: { vmId: vm.id, epoch },
    done: 'its fence stands, and it was not started',
  });
}

/** @throws DrError E_STATE when the DR site of another store serves the VM, by its last word */
function refuseServedByOthers(
  { vm }: AttendedVm,
  chains: ReadonlyMap<string, ToldEpoch>,
  storeId: Guid,
): void {
  for (const [key, { epoch, standing }] of chains) {
    if (key === chainKey(storeId) || standing.activeSite !== 'target') continue;
    throw new DrError(
      'E_STATE',
      `${vm.name} serves at the DR site of another store, ${key.replace(/^dr:/, '')}, since epoch ${epoch}`,
      {
        context: { vmId: vm.id, chain: key, epoch },
        done: 'its fence stands, and it was not started',
        hint: 'Undo the failover at that site, or fail back from there.',
      },
    );
  }
}

/**
 * The DR site brings disks back while it is the active one, and starts the VM here once it has said that
 * this site is. @throws DrError E_STATE
 */
function requireSide(
  { $case }: FailbackAction,
  attended: AttendedVm,
  epoch: bigint,
  told: ToldEpoch | undefined,
): void {
  const activeSite = told?.standing.activeSite ?? 'source';
  const isTold = told?.epoch === epoch;
  if ($case === 'failbackSync' && isTold && activeSite === 'source') {
    throw new DrError('E_STATE', `${attended.vm.name} serves here since epoch ${epoch}`, {
      context: { vmId: attended.vm.id, epoch },
      done: 'nothing was changed at the primary site',
    });
  }
  if ($case !== 'failbackStart' || (isTold && activeSite === 'source')) return;
  throw servesElsewhere(attended, told?.epoch ?? epoch);
}

/** As the guest answers now; empty where nobody knows. */
async function heartbeatOf({ vm, job: { hypervisor } }: AttendedVm): Promise<string> {
  if (vm.powerState !== 'running' || !isFailbackHost(hypervisor)) return '';
  try {
    return await hypervisor.heartbeat(vm.id);
  } catch (error) {
    // the rest of the answer is worth having
    if (error instanceof DrError) return '';
    throw error;
  }
}

function whole(_name: string, value: unknown): unknown {
  return typeof value === 'bigint' ? value.toString() : value;
}
