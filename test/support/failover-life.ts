// A life of a protected VM at two sites beside its model: what the guest must see at either site, and what is
// so after every command that is given.

import { expect } from 'chai';
import type fc from 'fast-check';
import type { Guid } from '../../shared/bytes/index.js';
import { DrError } from '../../shared/errors.js';
import type { Instance } from '../../dr-receiver/failover/model.js';
import { expectInvariants } from './failover-invariants.js';
import type { FailoverModel, Outcome } from './failover-model.js';
import { type FailoverPair, type GuestWrite, type History } from './failover-pair.js';
import { expectViews } from './lab-model.js';
import type { MemoryFileSystem } from './memory-file.js';

/** Both sites, and the bytes that the guest has to see at each. */
export class World {
  readonly primary: MemoryFileSystem;
  readonly dr: MemoryFileSystem;
  readonly history: History;
  /** Points before anything was done. */
  readonly atBegin: ReadonlySet<Guid>;
  pair: FailoverPair;
  /** At the DR site, by whom: the operation that brought the VM up there. */
  serving: Buffer[] = [];
  #servingFor: Guid | undefined;
  /** At the primary. */
  home: Buffer[] = [];
  /** What stands below a failback that is not committed. */
  #homeBefore: Buffer[] | undefined;

  private constructor(
    volumes: { primary: MemoryFileSystem; dr: MemoryFileSystem; history: History },
    pair: FailoverPair,
  ) {
    this.primary = volumes.primary;
    this.dr = volumes.dr;
    this.history = volumes.history;
    this.atBegin = new Set(volumes.history.keys());
    this.pair = pair;
  }

  static async begin(
    volumes: { primary: MemoryFileSystem; dr: MemoryFileSystem; history: History },
    pair: FailoverPair,
  ): Promise<World> {
    const world = new World(volumes, pair);
    world.home = await pair.sourceViews();
    return world;
  }

  /** How the command ended. */
  async ended(work: () => Promise<unknown>): Promise<Outcome> {
    try {
      await work();
      return undefined;
    } catch (error) {
      if (error instanceof DrError) return error.code;
      throw error;
    }
  }

  async instance(): Promise<Instance | undefined> {
    return (await this.pair.desk()).vm.protection.failover.instance;
  }

  /** Whose bytes are where now. */
  async note(model: Readonly<FailoverModel>): Promise<void> {
    const instance = await this.instance();
    if (serves(model) && instance !== undefined && instance.operationId !== this.#servingFor) {
      this.#servingFor = instance.operationId;
      this.serving = copyOf(this.history.get(instance.pointId) ?? []);
    }
    if (model.state === 'FAILED_BACK' && this.#homeBefore === undefined) {
      this.#homeBefore = this.home;
      this.home = copyOf(this.serving);
    }
    if (model.state === 'FAILED_OVER' && this.#homeBefore !== undefined) {
      this.home = this.#homeBefore;
      this.#homeBefore = undefined;
    }
    if (model.state === 'ordinary') this.#homeBefore = undefined;
  }
}

function copyOf(views: readonly Buffer[]): Buffer[] {
  return views.map((view) => Buffer.from(view));
}

/** The same on the plain copies of the disks. */
export function applyWrites(views: readonly Buffer[], writes: readonly GuestWrite[]): void {
  for (const { disk, at, bytes } of writes) bytes.copy(views[disk] ?? bytes, at);
}

export type Act = fc.AsyncCommand<FailoverModel, World>;

/** A command that is predicted by `foretell` and then given. */
export function act(
  label: string,
  foretell: (model: FailoverModel) => Outcome,
  give: (world: World, model: FailoverModel) => Promise<unknown>,
  isPossible: (model: Readonly<FailoverModel>) => boolean = () => true,
): Act {
  return {
    check: isPossible,
    run: async (model, world) => {
      const wanted = foretell(model);
      expect(await world.ended(() => give(world, model)), label).to.equal(wanted);
      model.contact();
      const { pair } = world;
      await pair.site.receiver.failovers.tick();
      await pair.site.receiver.failovers.tick();
      expect(await pair.stateName(), `state after ${label}`).to.equal(model.stateName);
      await world.note(model);
      await expectAsForetold(model, world);
    },
    toString: () => label,
  };
}

/** The guest runs at the DR site. */
export function serves({ state, standing }: Readonly<FailoverModel>): boolean {
  // a failback that stands there has not shut it down
  if (state === 'FAILING_BACK') return standing?.step === 'F1';
  return state === 'FAILED_OVER' || state === 'COMMITTED' || state === 'SPLIT_BRAIN';
}

async function expectAsForetold(model: FailoverModel, world: World): Promise<void> {
  const { pair, primary } = world;
  await expectInvariants(pair, { isSettled: true, primary });
  const { powerState } = await pair.source.findVm('VM1');
  expect(powerState, 'the VM at the primary').to.equal(model.isSourceRunning ? 'running' : 'off');
  const fence = await pair.source.fenceOf(pair.vmId);
  if (model.isAttached && model.state === 'FAILED_OVER') {
    expect(fence, 'the fence of a failover').not.to.equal(undefined);
  }
  if (model.isAttached && (model.state === 'ordinary' || model.state === 'FAILED_BACK')) {
    expect(fence, 'the fence of a source that is active').to.equal(undefined);
  }
  if (serves(model) || model.state === 'FAILED_BACK') {
    expectViews(await pair.targetViews(), world.serving, 'at the DR site');
  }
  // on its way its disks are neither
  if (model.state !== 'FAILING_BACK') {
    expectViews(await pair.sourceViews(), world.home, 'at the primary');
  }
  const { tests, listed } = (await pair.desk()).vm.protection;
  const since = listed.filter(({ pointId }) => !world.atBegin.has(pointId));
  const kinds = since.map(({ cycleKind }) => cycleKind);
  expect(kinds, 'cycles that began anew').not.to.include('seed');
  expect([...tests.keys()], 'tests').to.have.members(model.tests);
}
