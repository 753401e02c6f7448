// The operation of a protection in its journal: each step is entered before its effect begins, together
// with what the one before found out, and only as long as the operation is still the protection's own.

import type { Guid } from '../../shared/bytes/index.js';
import type { Clock } from '../../shared/clock.js';
import { DrError } from '../../shared/errors.js';
import type { Actor } from '../store/records.js';
import type { VmStore } from '../store/vm-store.js';
import type { Book } from './engine.js';
import type { Command, FailoverRecord, Instance, Operation, SourceDebt } from './model.js';

/** What changes in the record of a protection. */
export interface FailoverPatch {
  readonly change?: Partial<Omit<FailoverRecord, 'operation' | 'owed'>>;
  /** What becomes known of the VM at this site. */
  readonly instance?: Partial<Instance>;
  readonly facts?: Readonly<Record<string, string>>;
  readonly pointId?: Guid;
  /** The former epoch is over from now on. */
  readonly raisesEpoch?: boolean;
  /** What the source has to be told, or was told, of this operation. */
  readonly owes?: readonly SourceDebt['kind'][];
  readonly paid?: readonly SourceDebt['kind'][];
  /** Of the `commitFailback` that is owed. */
  readonly returned?: Pick<SourceDebt, 'point' | 'failbackId'>;
  /** What a debt of dropFailback says beside its kind. */
  readonly dropped?: Pick<SourceDebt, 'failbackId' | 'mayHaveRun'>;
}

/** Fact of an operation whose step failed: why, for people. */
export const FAILURE = 'failure';

type Changed = { -readonly [K in keyof FailoverRecord]: FailoverRecord[K] };

export class FailoverBook implements Book<FailoverPatch> {
  readonly #vm: VmStore;
  readonly #clock: Clock;
  readonly #operationId: Guid;
  readonly #actor: Actor;

  constructor(vm: VmStore, clock: Clock, operationId: Guid, actor: Actor) {
    this.#vm = vm;
    this.#clock = clock;
    this.#operationId = operationId;
    this.#actor = actor;
  }

  /** What the journal says of the operation. @throws DrError E_LOCKED when it is not the VM's any more */
  get operation(): Operation {
    const { operation } = this.#vm.protection.failover;
    if (operation?.operationId === this.#operationId) return operation;
    const { vmName } = this.#vm.protection;
    throw new DrError('E_LOCKED', `${vmName}: operation ${this.#operationId} was given up`, {
      context: { operationId: this.#operationId, by: operation?.operationId ?? '' },
      done: 'nothing more was done for it',
    });
  }

  async enter(
    step: string,
    found: readonly FailoverPatch[],
    intent?: () => FailoverPatch,
  ): Promise<void> {
    await this.#vm.change(async () => {
      const patches = intent === undefined ? found : [...found, intent()];
      const { operation, ...rest } = this.#patched(patches);
      const past = Object.entries(operation.facts);
      const facts = Object.fromEntries(past.filter(([name]) => name !== FAILURE));
      await this.#append({ ...rest, operation: { ...operation, step, facts } }, patches);
    });
  }

  /** The operation is over. */
  async end(patches: readonly FailoverPatch[]): Promise<void> {
    await this.#vm.change(async () => {
      await this.#append({ ...this.#patched(patches), operation: undefined }, patches);
    });
  }

  /** Within a step: what has to be durable before the next part of its effect begins. */
  async note(patch: FailoverPatch): Promise<void> {
    await this.#vm.change(async () => {
      await this.#append(this.#patched([patch]), [patch]);
    });
  }

  /** The operation stands at its step until somebody goes on or back. */
  async noteFailure(message: string): Promise<void> {
    await this.note({ facts: { [FAILURE]: message.slice(0, 4000) } });
  }

  /** Neither forward nor back is safe alone. */
  async halt(cause: string, allowed: readonly Command[]): Promise<void> {
    await this.#vm.change(async () => {
      const { phase } = this.#vm.protection.failover;
      const { step } = this.operation;
      const halted = { phase, step, cause: cause.slice(0, 4000), allowed };
      const patches: FailoverPatch[] = [{ change: { phase: 'halted', halted } }];
      await this.#append(this.#patched(patches), patches);
    });
  }

  #patched(patches: readonly FailoverPatch[]): FailoverRecord & { readonly operation: Operation } {
    const { operation } = this;
    const record: Changed = { ...this.#vm.protection.failover };
    let { facts, pointId } = operation;
    for (const patch of patches) {
      Object.assign(record, patch.change);
      if (record.instance !== undefined) {
        record.instance = { ...record.instance, ...patch.instance };
      }
      facts = { ...facts, ...patch.facts };
      pointId = patch.pointId ?? pointId;
      record.owed = owedAfter(record.owed, patch, this.#operationId);
    }
    return { ...record, operation: { ...operation, facts, pointId } };
  }

  async #append(failover: FailoverRecord, patches: readonly FailoverPatch[]): Promise<void> {
    const { epoch } = this.#vm.protection;
    const next = patches.some(({ raisesEpoch }) => raisesEpoch === true) ? epoch + 1n : epoch;
    await appendFailover(this.#vm, this.#clock, failover, next, this.#actor);
  }
}

/** The newest word about a matter counts: what fences takes back what unfences, and the other way round. */
export function owedAfter(
  owed: readonly SourceDebt[],
  {
    owes = [],
    paid = [],
    dropped,
    returned,
  }: Pick<FailoverPatch, 'owes' | 'paid' | 'dropped' | 'returned'>,
  operationId: Guid,
): readonly SourceDebt[] {
  const opposite: Readonly<Record<SourceDebt['kind'], readonly SourceDebt['kind'][]>> = {
    fence: ['fence', 'unfence', 'start'],
    retire: ['retire', 'fence', 'unfence', 'start'],
    // it ends whatever failback is open at the source
    unfence: ['unfence', 'fence', 'retire', 'dropFailback'],
    start: ['start', 'fence', 'retire'],
    // each is of another failback
    dropFailback: [],
    commitFailback: ['commitFailback'],
  };
  const gone = new Set([...paid, ...owes.flatMap((kind) => opposite[kind])]);
  return [
    ...newestDrops(owed.filter(({ kind }) => !gone.has(kind))),
    ...owes.map((kind) => ({
      ...{ kind, operationId },
      ...(kind === 'dropFailback' ? dropped : {}),
      ...(kind === 'commitFailback' ? returned : {}),
    })),
  ];
}

const DROPS_MAX = 16;

/** What was begun at the source and not started, the next failback there replaces in any case. */
function newestDrops(owed: readonly SourceDebt[]): readonly SourceDebt[] {
  const drops = owed.filter(({ kind, mayHaveRun }) => kind === 'dropFailback' && !mayHaveRun);
  const old = new Set(drops.slice(0, Math.max(0, drops.length - DROPS_MAX)));
  return owed.filter((debt) => !old.has(debt));
}

/** To be called in a change of the VM. */
export async function appendFailover(
  vm: VmStore,
  clock: Clock,
  failover: FailoverRecord,
  epoch: bigint,
  { by, keyId }: Actor,
): Promise<void> {
  await vm.append({
    kind: 'failover',
    atMs: clock.now(),
    epoch: epoch.toString(),
    failover,
    by,
    keyId,
  });
}
