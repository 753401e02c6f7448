// Power loss of either site during every operation of its file system that a failover of both sites makes:
// planned, its undo, permanent, both ways out of a split brain, failback, its commit and its ways back. After the restart of both sites what was
// begun is finished or was taken back, I1 to I5 hold, the bytes are those of the guest, and the next cycle
// of whoever is the active site is an ordinary one.

import { expect } from 'chai';
import type { FileSystem } from '../../shared/files/index.js';
import { crashEverywhere, type CrashPlace } from '../support/crash-everywhere.js';
import { CrashFileSystem, SURVIVOR_STYLES } from '../support/crash-file.js';
import { expectInvariants } from '../support/failover-invariants.js';
import { FailoverPair, type History, pairVolumes } from '../support/failover-pair.js';
import { expectViews } from '../support/lab-model.js';
import type { MemoryFileSystem } from '../support/memory-file.js';

const SLOW = process.env['SLOW'] === '1';
/** Of some hundred of each command at each site; SLOW=1 tries all. */
const OPERATIONS = SLOW ? undefined : 3;
const STYLES = SLOW ? SURVIVOR_STYLES : (['none', 'random', 'all'] as const);

type Loser = 'dr' | 'primary';

interface Case {
  readonly title: string;
  readonly prepare: (pair: FailoverPair) => Promise<unknown>;
  readonly act: (pair: FailoverPair) => Promise<unknown>;
  /** Phases when it had not finished, and when it had. */
  readonly ends: readonly string[];
  readonly finished: string;
}

const CASES: readonly Case[] = [
  {
    title: 'planned: nothing is lost, or nothing happened',
    prepare: (pair) => pair.guestWrites(11, 4),
    act: (pair) => pair.operate('planned'),
    ends: ['ordinary', 'failed-over'],
    finished: 'failed-over',
  },
  {
    title: 'unplanned that stops the source: the source goes on when it is given up',
    prepare: () => Promise.resolve(),
    act: (pair) => pair.operate('unplanned', { fence_source: 'yes' }),
    ends: ['ordinary', 'failed-over'],
    finished: 'failed-over',
  },
  {
    title: 'undo of a planned failover: the source has the VM again',
    prepare: (pair) => pair.operate('planned'),
    act: (pair) => pair.operate('undo'),
    ends: ['ordinary', 'failed-over'],
    finished: 'ordinary',
  },
  {
    title: 'permanent: the VM here keeps its disks',
    prepare: (pair) => pair.operate('planned'),
    act: (pair) => pair.operate('permanent'),
    ends: ['failed-over', 'committed'],
    finished: 'committed',
  },
  {
    title: 'resolve for the source: it goes on with a compare',
    prepare: splitBrain,
    act: (pair) => pair.operate('resolve', { side: 'source' }),
    ends: ['split-brain', 'ordinary'],
    finished: 'ordinary',
  },
  {
    title: 'resolve for the replica: the source is fenced',
    prepare: splitBrain,
    act: (pair) => pair.operate('resolve', { side: 'replica' }),
    ends: ['split-brain', 'failed-over'],
    finished: 'failed-over',
  },
  {
    title: 'failback: what was written at the DR site is home, or is served there',
    prepare: failedOver,
    act: (pair) => pair.operate('failback'),
    ends: ['failed-over', 'failed-back'],
    finished: 'failed-back',
  },
  {
    title: 'abort of a failback whose VM serves: it serves on',
    prepare: levelled,
    act: (pair) => pair.operate('abort'),
    ends: ['failing-back', 'failed-over'],
    finished: 'failed-over',
  },
  {
    title: 'abort of a failback whose VM is off at both sites: it serves again',
    prepare: switchedOff,
    act: (pair) => pair.operate('abort'),
    ends: ['failed-back', 'failed-over'],
    finished: 'failed-over',
  },
  {
    title: 'permanent of a failback: the next cycle goes on from what came home',
    prepare: failedBack,
    act: (pair) => pair.operate('permanent'),
    ends: ['failed-back', 'ordinary'],
    finished: 'ordinary',
  },
  {
    title: 'undo of a failback: the VM here has what it had',
    prepare: failedBack,
    act: (pair) => pair.operate('undo'),
    ends: ['failed-back', 'failed-over'],
    finished: 'failed-over',
  },
];

/** The VM runs at both sites, and each has written what the other has not. */
async function splitBrain(pair: FailoverPair): Promise<void> {
  await pair.detach();
  await pair.operate('unplanned');
  await pair.guestWrites(21, 3);
  await pair.attach();
  await pair.site.receiver.failovers.tick();
  expect(await pair.phase()).to.equal('split-brain');
}

async function failedOver(pair: FailoverPair): Promise<void> {
  await pair.operate('planned');
  await pair.targetWrites(41, 4);
}

async function levelled(pair: FailoverPair): Promise<void> {
  await failedOver(pair);
  await pair.operate('failback', { stage: 'sync' });
  await pair.targetWrites(42, 2);
}

async function switchedOff(pair: FailoverPair): Promise<void> {
  await levelled(pair);
  pair.isLastRoundBroken = true;
  await pair.operate('failback').catch(() => undefined);
  pair.isLastRoundBroken = false;
  expect((await pair.desk()).vm.protection.failover.operation?.step).to.equal('F2');
}

/** It has written at the primary since. */
async function failedBack(pair: FailoverPair): Promise<void> {
  await failedOver(pair);
  await pair.operate('failback');
  await pair.guestWrites(43, 3);
}

interface Prepared {
  readonly primary: MemoryFileSystem;
  readonly dr: MemoryFileSystem;
  readonly history: History;
  /** What the VM sees at the DR site, when it runs there. */
  readonly views: readonly Buffer[];
  /** The same at the primary, when it ran there last. */
  readonly viewsHome: readonly Buffer[] | undefined;
}

async function prepared({ prepare }: Case): Promise<Prepared> {
  const { primary, dr, history } = await pairVolumes();
  const pair = await FailoverPair.open({ primary, dr, history });
  await prepare(pair);
  const phase = await pair.phase();
  const views = phase === 'ordinary' ? await pair.sourceViews() : await pair.targetViews();
  const viewsHome = phase === 'failed-back' ? await pair.sourceViews() : undefined;
  await pair.close();
  return { primary, dr, history, views, viewsHome };
}

/** Both sites come back, and what is under way comes to its end. */
async function restarted(volumes: {
  readonly primary: MemoryFileSystem;
  readonly dr: MemoryFileSystem;
  readonly history: History;
  readonly returned: readonly Buffer[];
}): Promise<FailoverPair> {
  const pair = await FailoverPair.open({ ...volumes, history: new Map(volumes.history) });
  await pair.learnPoints();
  await expectInvariants(pair, { isSettled: false, primary: volumes.primary });
  await pair.settle();
  await pair.learnPoints();
  return pair;
}

/** Back at the source whatever happened, and one more cycle: it brings the guest as it is. */
async function expectGoesOn(pair: FailoverPair, primary: MemoryFileSystem): Promise<void> {
  if ((await pair.phase()) === 'split-brain') await pair.operate('resolve', { side: 'source' });
  if ((await pair.phase()) === 'failing-back') await pair.operate('abort');
  if ((await pair.phase()) === 'failed-back') await pair.operate('permanent');
  if ((await pair.phase()) === 'failed-over') await pair.operate('undo');
  if ((await pair.phase()) === 'committed') return;
  await pair.site.receiver.failovers.tick();
  expect(await pair.phase()).to.equal('ordinary');
  expect((await pair.source.findVm('VM1')).powerState).to.equal('running');
  await pair.guestWrites(31, 2);
  await pair.cycle();
  await expectInvariants(pair, { isSettled: true, primary });
}

describe('crash: failovers of two sites', function () {
  this.timeout(SLOW ? 7_200_000 : 240_000);

  for (const each of CASES) {
    for (const loser of ['dr', 'primary'] as const) {
      it(`${each.title}; the ${loser === 'dr' ? 'DR' : 'primary'} site loses power`, () =>
        tryEverywhere(each, loser));
    }
  }
});

async function tryEverywhere(each: Case, loser: Loser): Promise<void> {
  const base = await prepared(each);
  /** As the site that kept its power was left. */
  let other: MemoryFileSystem;
  const run = async (fs: FileSystem): Promise<void> => {
    other = base[loser === 'dr' ? 'primary' : 'dr'].clone();
    const isDead = (): boolean => fs instanceof CrashFileSystem && fs.hasCrashed;
    const sites =
      loser === 'dr'
        ? { dr: fs, primary: other, isDrDead: isDead }
        : { primary: fs, dr: other, isPrimaryDead: isDead };
    const pair = await FailoverPair.open({ ...sites, history: new Map(base.history), seed: 5 });
    try {
      await each.act(pair);
    } finally {
      await pair.close().catch(() => undefined);
    }
  };
  const check = async (found: MemoryFileSystem, { hasFinished }: CrashPlace): Promise<void> => {
    const left = other.clone();
    const sites = loser === 'dr' ? { dr: found, primary: left } : { primary: found, dr: left };
    const pair = await restarted({ ...sites, history: base.history, returned: base.views });
    try {
      const phase = await pair.phase();
      // a source that died before it was stopped comes back running
      const isSeenRunning = loser === 'primary' && phase === 'split-brain';
      if (!isSeenRunning) {
        expect(phase).to.be.oneOf(hasFinished ? [each.finished] : [...each.ends]);
      }
      await expectInvariants(pair, { isSettled: true, primary: sites.primary });
      if (phase !== 'ordinary') {
        expectViews(await pair.targetViews(), base.views, 'the VM at the DR site');
      }
      const isHome = phase === 'failed-back' || (phase === 'ordinary' && base.viewsHome);
      if (isHome) {
        expectViews(
          await pair.sourceViews(),
          base.viewsHome ?? base.views,
          'the VM at the primary',
        );
      }
      await expectGoesOn(pair, sites.primary);
    } finally {
      await pair.close();
    }
  };
  await crashEverywhere({
    volume: base[loser],
    operationsMax: OPERATIONS,
    styles: STYLES,
    seedCount: 1,
    run,
    check,
  });
}
