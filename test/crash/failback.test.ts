// Power cuts of the primary at every durable step of a failback: whichever of its orders was under way,
// the same order again comes to the same end, and an undo finds the former disks as they were.

import { expect } from 'chai';
import type { FileSystem } from '../../shared/files/index.js';
import { crashEverywhere } from '../support/crash-everywhere.js';
import type { SurvivorStyle } from '../support/crash-file.js';
import { testGuid } from '../support/fake-source-hypervisor.js';
import { expectViews, viewsOf } from '../support/lab-model.js';
import { MemoryFileSystem } from '../support/memory-file.js';
import { FailbackWorld, type PrimarySteps } from '../unit/source-agent/failback-world.js';

const SLOW = process.env['SLOW'] === '1';
const STYLES: readonly SurvivorStyle[] = SLOW
  ? ['none', 'all', 'prefix', 'random', 'names', 'data']
  : ['none', 'all', 'prefix'];
const POINT = { pointId: testGuid(0xf6), consistentAtMs: 1_760_000_000_000 };

type Step = 'sync' | 'last' | 'start' | 'commit' | 'undo';

describe('failback at the primary: power cuts', function () {
  this.timeout(SLOW ? 3_600_000 : 240_000);
  let world: FailbackWorld;
  let volume: MemoryFileSystem;
  let former: readonly Buffer[];
  let wanted: readonly Buffer[];
  let endRound: () => void;
  let inRound: Promise<unknown>;

  beforeEach(async () => {
    volume = new MemoryFileSystem();
    world = await FailbackWorld.planned(volume);
    await world.detach();
    former = await world.views();
    await world.stopServing();
    wanted = await world.servingViews();
    // one frozen moment for all trials: the serving VM is off
    const over = new Promise<void>((resolve) => {
      endRound = resolve;
    });
    await new Promise<void>((begun) => {
      inRound = world.inRound(() => {
        begun();
        return over;
      });
    });
  });
  afterEach(async () => {
    endRound();
    await inRound;
    await world.close();
  });

  const doStep = async (steps: PrimarySteps, step: Step): Promise<void> => {
    if (step === 'sync' || step === 'last') await steps.sync(step === 'last');
    else if (step === 'commit') await steps.commit(POINT);
    else await steps[step]();
  };
  const run = async (fs: FileSystem, ...list: Step[]): Promise<void> => {
    const steps = await world.stepsOn(fs);
    for (const step of list) await doStep(steps, step);
    await steps.lab.close();
  };

  /** Cuts the power everywhere in a step, and does what comes then on what is left. */
  const everywhere = async (
    step: Step,
    check: (found: MemoryFileSystem) => Promise<void>,
  ): Promise<number> =>
    crashEverywhere({
      volume,
      run: (fs) => run(fs, step),
      check,
      styles: STYLES,
      seedCount: 1,
      operationsMax: SLOW ? undefined : 24,
    });

  const expectBack = async (found: MemoryFileSystem): Promise<void> => {
    const { lab } = await world.stepsOn(found);
    expectViews(await viewsOf(lab, world.vm.id), wanted, 'the VM that is back');
    expect((await lab.listVms())[0]?.powerState).to.equal('running');
    expect(await lab.fenceOf(world.vm.id)).to.equal(undefined);
    expect(await lab.listCheckpoints(world.vm.id)).to.deep.equal([]);
    const { length } = await lab.listReferencePoints(world.vm.id);
    expect(length, 'marks').to.be.within(1, 2);
  };

  const expectUndone = async (found: MemoryFileSystem): Promise<void> => {
    const { lab } = await world.stepsOn(found);
    expectViews(await viewsOf(lab, world.vm.id), former, 'the former disks');
    expect((await lab.listVms())[0]?.powerState).to.equal('off');
    expect(await lab.fenceOf(world.vm.id)).not.to.equal(undefined);
    expect(await world.filesOfFailback(found)).to.deep.equal([]);
    expect(await world.stage(found)).to.equal(undefined);
    expect(await lab.listCheckpoints(world.vm.id)).to.deep.equal([]);
  };

  for (const step of ['sync', 'last'] as const) {
    it(`in a ${step === 'last' ? 'last' : 'first'} round: it is repeated, or undone`, async () => {
      if (step === 'last') await run(volume, 'sync');
      let turn = 0;
      const states = await everywhere(step, async (found) => {
        if (++turn % 2 === 0) {
          await run(found, 'undo');
          await expectUndone(found);
          return;
        }
        await run(found, step, 'last', 'start');
        await expectBack(found);
      });
      expect(states).to.be.greaterThan(30);
    });
  }

  it('at the start: the VM comes up on what serves, and its changes are known from there', async () => {
    await run(volume, 'sync', 'last');
    let turn = 0;
    await everywhere('start', async (found) => {
      if (++turn % 3 === 0) {
        await run(found, 'undo');
        await expectUndone(found);
        return;
      }
      await run(found, 'start');
      await expectBack(found);
      await run(found, 'commit');
      await expectCommitted(found);
    });
  });

  const expectCommitted = async (found: MemoryFileSystem): Promise<void> => {
    const { lab } = await world.stepsOn(found);
    const { chains, reference } = await world.ledger(found);
    expect(await world.stage(found)).to.equal(undefined);
    const marks = await lab.listReferencePoints(world.vm.id);
    expect(marks.map(({ id }) => id)).to.deep.equal([reference?.id]);
    const [chain] = chains.values();
    expect(chain?.confirmed).to.deep.equal(POINT);
    const owed = [...(chain?.disks.values() ?? [])].map(({ pending }) =>
      pending === 'all' ? 'all' : pending.count,
    );
    expect(owed).to.deep.equal([0, 0]);
    expect((await lab.listVms())[0]?.powerState).to.equal('running');
  };

  it('at the commit: the ledger is the one before or the one after, and the next try ends it', async () => {
    await run(volume, 'sync', 'last', 'start');
    await everywhere('commit', async (found) => {
      await run(found, 'commit');
      await expectCommitted(found);
      expectViews(
        await viewsOf((await world.stepsOn(found)).lab, world.vm.id),
        wanted,
        'after the commit',
      );
    });
  });

  it('at the undo: the former disks are there, whole, and nothing else is', async () => {
    await run(volume, 'sync', 'last', 'start');
    await everywhere('undo', async (found) => {
      await run(found, 'undo');
      await expectUndone(found);
    });
  });
});
