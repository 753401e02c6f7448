// Hyper-V Replica through the operations of operations/replica.ts: reads the state, says what an order would
// do, and does it step by step. Decides nothing itself: that stands in steps.ts.

import { createHash } from 'node:crypto';
import type { Guid } from '../../../bytes/index.js';
import type { Clock } from '../../../clock.js';
import { DrError } from '../../../errors.js';
import type {
  ReplicaHost,
  ReplicaOrder,
  ReplicaPlan,
  ReplicaPoint,
  ReplicaRelation,
  ReplicaStep,
  ReplicaView,
  ReplicaWatch,
} from '../../replica.js';
import type { TargetHypervisor } from '../../target.js';
import * as operations from '../operations/replica.js';
import type { OperationRunner } from '../powershell/operation.js';
import type { Act, Step } from './act.js';
import { courseOf, halted } from './steps.js';
import { readHealth, readMode, readState } from './states.js';

/** What the rest of the provider does for VMs. */
export type ReplicaVms = Pick<
  TargetHypervisor,
  'name' | 'summaryOf' | 'describeVm' | 'listSwitches' | 'startVm' | 'shutDownVm' | 'turnOffVm'
>;

interface ReplicaSeams {
  readonly runner: OperationRunner;
  readonly vms: ReplicaVms;
  readonly clock: Clock;
}

/** A cmdlet answers before the state has followed, at times. */
const STATE_FOLLOWS_MS = 300_000;
const LOOK_AGAIN_MS = 2_000;

export class HyperVReplica implements ReplicaHost {
  readonly #runner: OperationRunner;
  readonly #vms: ReplicaVms;
  readonly #clock: Clock;

  constructor({ runner, vms, clock }: ReplicaSeams) {
    this.#runner = runner;
    this.#vms = vms;
    this.#clock = clock;
  }

  async view(vmId: Guid): Promise<ReplicaView> {
    const summary = await this.#vms.summaryOf(vmId);
    if (summary === undefined) {
      throw new DrError('E_NOT_FOUND', `${this.#vms.name} has no VM ${vmId}`, {
        hint: '`hvdr replica status --host hyperv` lists the VMs of this host.',
      });
    }
    const { relations } = await this.#runner.run(operations.replicaGet, { vmId });
    const { own, extension } = toldApart(summary.name, relations);
    return {
      vmId,
      vmName: summary.name,
      powerState: summary.powerState,
      relation: own && (await this.#relationOf(own)),
      extension: extension && (await this.#relationOf(extension)),
    };
  }

  async points(vmId: Guid): Promise<readonly ReplicaPoint[]> {
    const { points } = await this.#runner.run(operations.replicaPoints, { vmId });
    return points
      .map(({ id, name, createdAt, type }) => ({
        id,
        name,
        createdAtMs: timeOf(createdAt, 'createdAt'),
        isApplicationConsistent: type === 'AppConsistentReplica',
      }))
      .sort((a, b) => a.createdAtMs - b.createdAtMs);
  }

  async plan(vmId: Guid, order: ReplicaOrder): Promise<ReplicaPlan> {
    const view = await this.view(vmId);
    const course = courseOf(order);
    const steps = course.steps.filter((step) => !step.isDone(view)).map(shown);
    const refusal = course.refuse(view);
    const losesAfterMs =
      order.verb === 'unplanned' ? await this.#lossOf(view, order.pointId) : undefined;
    const { powerState, relation, extension } = view;
    const parts = {
      ...{ vmId, order, powerState, steps, refusal: refusal?.code ?? '' },
      ...{ state: relation?.state ?? '', mode: relation?.mode ?? '' },
      test: relation?.test?.vmId ?? '',
      ...(extension !== undefined && { extension: extension.state }),
    };
    return {
      ...{ view, verb: order.verb, steps, refusal, losesAfterMs },
      isDestructive: course.isDestructive && steps.length > 0,
      hash: createHash('sha256').update(JSON.stringify(parts)).digest('hex'),
    };
  }

  async carryOut(
    vmId: Guid,
    order: ReplicaOrder,
    { onStep, signal }: ReplicaWatch,
  ): Promise<ReplicaView> {
    const course = courseOf(order);
    let view = await this.view(vmId);
    const refused = course.refuse(view);
    if (refused !== undefined) throw refused;
    for (const step of course.steps) {
      if (step.isDone(view)) continue;
      signal.throwIfAborted();
      onStep(shown(step));
      await this.#act(view, step.act);
      view = await this.#until(vmId, step, signal);
    }
    return view;
  }

  /** What the step has led to. @throws DrError E_STALLED, E_HALTED */
  async #until(vmId: Guid, step: Step, signal: AbortSignal): Promise<ReplicaView> {
    const endsAt = this.#clock.monotonic() + STATE_FOLLOWS_MS;
    for (;;) {
      const view = await this.view(vmId);
      if (step.isDone(view)) return view;
      const strange = halted(view);
      if (strange !== undefined) throw strange;
      if (this.#clock.monotonic() >= endsAt) {
        const state = view.relation?.state ?? 'not replicated';
        throw new DrError('E_STALLED', `${view.vmName} is still ${state} after "${step.name}"`, {
          context: { state, step: step.name },
          done: 'Hyper-V has taken the command',
          hint: 'Look at the VM in Hyper-V Manager; the same command goes on where this one stopped.',
        });
      }
      await this.#clock.sleep(LOOK_AGAIN_MS, signal);
    }
  }

  async #act(view: ReplicaView, act: Act): Promise<void> {
    const { vmId } = view;
    const runner = this.#runner;
    // a VM with an extended replica has two, and a cmdlet that is given the VM may take either
    const relationship = view.relation?.relationship ?? 'Simple';
    switch (act.do) {
      case 'enable': {
        const { settings } = act.order;
        const { certificateThumbprint = '' } = settings;
        await runner.run(operations.replicaEnable, { vmId, ...settings, certificateThumbprint });
        return;
      }
      case 'accept':
        await runner.run(operations.replicaAccept, { vmId });
        return;
      case 'start-initial': {
        const { folder, usesBackup } = act;
        await runner.run(operations.replicaStartInitial, {
          ...{ vmId, relationship, folder, usesBackup },
        });
        return;
      }
      case 'stop-initial':
        await runner.run(operations.replicaStopInitial, { vmId, relationship });
        return;
      case 'import-initial':
        await runner.run(operations.replicaImportInitial, {
          ...{ vmId, relationship, folder: act.folder },
        });
        return;
      case 'shut-down':
        await this.#shutDown(vmId, act);
        return;
      case 'prepare':
        await runner.run(operations.replicaPrepare, { vmId });
        return;
      case 'failover':
        await runner.run(operations.replicaFailover, { vmId, pointId: act.pointId ?? '' });
        return;
      case 'test':
        await runner.run(operations.replicaTest, { vmId, pointId: act.pointId ?? '' });
        return;
      case 'stop-failover':
        await runner.run(operations.replicaStopFailover, { vmId });
        return;
      case 'complete':
        await runner.run(operations.replicaComplete, { vmId });
        return;
      case 'reverse':
        await runner.run(operations.replicaReverse, { vmId, relationship });
        return;
      case 'start-vm':
        await this.#vms.startVm(vmId);
        return;
      case 'start-test-vm':
        await this.#startTest(view);
        return;
      case 'suspend':
        await runner.run(operations.replicaSuspend, { vmId, relationship });
        return;
      case 'resume': {
        const { resynchronizes } = act;
        await runner.run(operations.replicaResume, { vmId, relationship, resynchronizes });
        return;
      }
      case 'remove':
        await runner.run(operations.replicaRemove, { vmId, relationship });
        return;
    }
  }

  async #shutDown(vmId: Guid, act: Extract<Act, { do: 'shut-down' }>): Promise<void> {
    try {
      await this.#vms.shutDownVm(vmId, act.timeoutMs);
    } catch (error) {
      const isTimeout = error instanceof DrError && error.code === 'E_SHUTDOWN_TIMEOUT';
      if (!isTimeout || !act.mayTurnOff) throw error;
      await this.#vms.turnOffVm(vmId);
    }
  }

  /** A test must not be seen by production. @throws DrError E_NOT_ISOLATED */
  async #startTest({ vmName, relation }: ReplicaView): Promise<void> {
    const test = relation?.test;
    if (test === undefined) {
      throw new DrError('E_HYPERVISOR', `the test VM of ${vmName} has gone before it was started`);
    }
    const { adapters } = await this.#vms.describeVm(test.vmId);
    const switches = await this.#vms.listSwitches();
    for (const { name, switchName } of adapters) {
      if (switchName === undefined) continue;
      // names may repeat at a host: which one it is cannot be told, so all must be
      const named = switches.filter((each) => each.name === switchName);
      if (named.length > 0 && named.every(({ isPrivate }) => isPrivate)) continue;
      throw new DrError(
        'E_NOT_ISOLATED',
        `adapter "${name}" of the test VM of ${vmName} is connected to ${switchName}, which is not private`,
        {
          done: 'the test VM stays off',
          hint: `End the test (\`hvdr replica failover test ${vmName} --stop\`), and choose a private switch, or none, as the test network in the settings of the replica VM.`,
        },
      );
    }
    await this.#vms.startVm(test.vmId);
  }

  async #relationOf(answer: operations.RelationAnswer): Promise<ReplicaRelation> {
    const { phase, isPaused = false, state } = readState(answer.state);
    const { testVmId, lastReplicationAt } = answer;
    // it may go between two calls
    const test = testVmId === undefined ? undefined : await this.#vms.summaryOf(testVmId);
    return {
      relationship: answer.relationship === 'Extended' ? 'Extended' : 'Simple',
      ...{ phase, isPaused, state },
      health: readHealth(answer.health),
      mode: readMode(answer.mode),
      primaryServer: answer.primaryServer,
      replicaServer: answer.replicaServer,
      intervalSeconds: answer.intervalSeconds,
      lastReplicationAtMs:
        lastReplicationAt === undefined
          ? undefined
          : timeOf(lastReplicationAt, 'lastReplicationAt'),
      isLastPlanned: answer.lastReplicationType === 'Planned',
      pendingBytes: answer.pendingBytes,
      errorCount: answer.errors,
      missedCount: answer.missed,
      healthDetails: answer.healthDetails,
      test: test === undefined ? undefined : { vmId: test.id, powerState: test.powerState },
    };
  }

  /** @throws DrError E_NO_POINT */
  async #lossOf(view: ReplicaView, pointId: Guid | undefined): Promise<number | undefined> {
    if (pointId === undefined) return view.relation?.lastReplicationAtMs;
    const points = await this.points(view.vmId);
    const point = points.find(({ id }) => id === pointId);
    if (point !== undefined) return point.createdAtMs;
    throw new DrError('E_NO_POINT', `${view.vmName} has no recovery point ${pointId}`, {
      hint: `\`hvdr replica points ${view.vmName} --host hyperv\` lists them.`,
    });
  }
}

/**
 * The relation that orders are about, and the one from this replica on to a third host. At that host the only one is its
 * own, whatever it is called. @throws DrError E_HYPERVISOR
 */
function toldApart(
  vmName: string,
  relations: readonly operations.RelationAnswer[],
): { readonly own?: operations.RelationAnswer; readonly extension?: operations.RelationAnswer } {
  const [first, ...moreFirst] = relations.filter(({ relationship }) => relationship !== 'Extended');
  const [second, ...moreSecond] = relations.filter((each) => each.relationship === 'Extended');
  if (moreFirst.length + moreSecond.length > 0) {
    throw new DrError('E_HYPERVISOR', `${vmName} has relations that cannot be told apart`, {
      context: { relations: relations.map(({ relationship }) => relationship).join(', ') },
      hint: 'Look at its replication in Hyper-V Manager; nothing was done here.',
    });
  }
  if (second === undefined) return first === undefined ? {} : { own: first };
  if (first !== undefined) return { own: first, extension: second };
  return second.mode === 'ExtendedReplica' ? { own: second } : { extension: second };
}

function shown({ name, what }: Step): ReplicaStep {
  return { name, what };
}

function timeOf(text: string, field: string): number {
  const ms = Date.parse(text);
  if (Number.isFinite(ms)) return ms;
  throw new DrError('E_HYPERVISOR', `Hyper-V answered with ${field} that is no time`, {
    context: { field },
  });
}
