// The receiver is killed right after each record of a command in which the source takes part, and started
// again. What is in the journal then leads to the very end that the command has without a kill, or to where
// it began: nothing that decides was in memory alone.

import { expect } from 'chai';
import { hashCell } from '../../../../shared/delta/index.js';
import { expectInvariants } from '../../../support/failover-invariants.js';
import { FailoverPair, type History, pairVolumes } from '../../../support/failover-pair.js';
import type { MemoryFileSystem } from '../../../support/memory-file.js';

interface Case {
  readonly title: string;
  readonly before: (pair: FailoverPair) => Promise<unknown>;
  readonly command: string;
  readonly parameters?: Readonly<Record<string, string>>;
  /** What the guest wrote before is all there afterwards. */
  readonly isLossless?: true;
}

const CASES: readonly Case[] = [
  {
    title: 'planned',
    before: (pair) => pair.guestWrites(3, 4),
    command: 'planned',
    isLossless: true,
  },
  {
    title: 'unplanned that stops the source',
    before: (pair) => pair.guestWrites(3, 4),
    command: 'unplanned',
    parameters: { fence_source: 'yes' },
  },
  { title: 'undo', before: (pair) => pair.operate('planned'), command: 'undo' },
  { title: 'permanent', before: (pair) => pair.operate('planned'), command: 'permanent' },
  {
    title: 'resolve for the source',
    before: splitBrain,
    command: 'resolve',
    parameters: { side: 'source' },
  },
  {
    title: 'resolve for the replica',
    before: splitBrain,
    command: 'resolve',
    parameters: { side: 'replica' },
  },
  { title: 'failback', before: failedOver, command: 'failback', isLossless: true },
  {
    title: 'failback of an older point',
    before: async (pair) => {
      const [oldest] = pair.history.keys();
      await pair.operate('unplanned', { fence_source: 'yes', point: oldest ?? '' });
      await pair.targetWrites(6, 4);
    },
    command: 'failback',
    isLossless: true,
  },
  {
    title: 'abort of a failback whose first rounds are over',
    before: levelled,
    command: 'abort',
    isLossless: true,
  },
  {
    title: 'failback that goes on behind its first rounds',
    before: levelled,
    command: 'failback',
    isLossless: true,
  },
  {
    title: 'abort of a failback whose VM is shut down',
    before: switchedOff,
    command: 'abort',
    isLossless: true,
  },
  {
    title: 'resume of a failback whose VM is shut down',
    before: switchedOff,
    command: 'resume',
    isLossless: true,
  },
  { title: 'permanent of a failback', before: failedBack, command: 'permanent', isLossless: true },
  { title: 'undo of a failback', before: failedBack, command: 'undo' },
];

async function failedOver(pair: FailoverPair): Promise<void> {
  await pair.operate('planned');
  await pair.targetWrites(5, 4);
}

async function levelled(pair: FailoverPair): Promise<void> {
  await failedOver(pair);
  await pair.operate('failback', { stage: 'sync' });
  await pair.targetWrites(7, 2);
}

/** The VM is off at both sites, and the last round did not come to its end. */
async function switchedOff(pair: FailoverPair): Promise<void> {
  await levelled(pair);
  pair.isLastRoundBroken = true;
  await pair.operate('failback').catch(() => undefined);
  pair.isLastRoundBroken = false;
  const { operation } = (await pair.desk()).vm.protection.failover;
  expect(operation?.step).to.equal('F2');
}

/** It has run at the primary since. */
async function failedBack(pair: FailoverPair): Promise<void> {
  await failedOver(pair);
  await pair.operate('failback');
  await pair.guestWrites(8, 3);
}

async function splitBrain(pair: FailoverPair): Promise<void> {
  await pair.detach();
  await pair.operate('unplanned');
  await pair.attach();
  await pair.site.receiver.failovers.tick();
  expect(await pair.phase()).to.equal('split-brain');
}

interface Volumes {
  readonly primary: MemoryFileSystem;
  readonly dr: MemoryFileSystem;
  readonly history: History;
}

function copyOf({ primary, dr, history }: Volumes): Volumes {
  return { primary: primary.clone(), dr: dr.clone(), history: new Map(history) };
}

interface Standing {
  readonly bytes: readonly string[];
  readonly [key: string]: unknown;
}

/** Where both sites stand: all that differs between two ends but names and times. */
async function standingOf(pair: FailoverPair): Promise<Standing> {
  const { failover, head, isCompareDue } = (await pair.desk()).vm.protection;
  const { phase, activeSite, operation, instance, isSourceStopped, owed } = failover;
  const { powerState } = await pair.source.findVm('VM1');
  return {
    phase,
    activeSite,
    operation,
    // people decide anew: what was noted for one answer does no harm to the other
    ...(phase === 'split-brain' ? {} : { isSourceStopped, isCompareDue }),
    owed: owed.map(({ kind }) => kind),
    isOnHead: instance?.pointId === head?.pointId,
    vms: (await pair.target.listVms()).map((vm) => `${vm.name} ${vm.powerState}`),
    source: powerState,
    isFenced: (await pair.source.fenceOf(pair.vmId)) !== undefined,
    bytes: (await servedViews(pair)).map((view) => hashCell(view).toString('hex')),
  };
}

/** What the guest sees where it runs, or ran last. */
async function servedViews(pair: FailoverPair): Promise<Buffer[]> {
  const { phase } = (await pair.desk()).vm.protection.failover;
  const isHere = !['ordinary', 'failed-back'].includes(phase);
  return isHere ? pair.targetViews() : pair.sourceViews();
}

/** Runs the command until its n-th record is in the journal. False: it came to its end before. */
async function killedAfter(
  volumes: Volumes,
  { command, parameters = {} }: Case,
  n: number,
): Promise<boolean> {
  let isDead = false;
  let count = 0;
  const pair = await FailoverPair.open({ ...volumes, isDrDead: () => isDead });
  const { vm } = await pair.desk();
  const append = vm.append.bind(vm);
  vm.append = async (record) => {
    if (isDead) throw new Error('killed');
    await append(record);
    isDead = ++count === n;
    if (isDead) throw new Error('killed');
  };
  await pair.operate(command, parameters).catch((error: unknown) => {
    if (!isDead) throw error;
  });
  await pair.close();
  return isDead;
}

describe('killed after each record, with the source', function () {
  this.timeout(240_000);

  for (const each of CASES) {
    it(`${each.title} ends where it ends without a kill, or where it began`, async () => {
      const base = await pairVolumes();
      const first = await FailoverPair.open(base);
      await each.before(first);
      await first.site.receiver.failovers.tick();
      const began = await standingOf(first);
      const isBack = (await first.phase()) === 'failed-back';
      const returned = isBack ? await first.targetViews() : undefined;
      await first.close();
      const whole = copyOf(base);
      const unkilled = await FailoverPair.open(whole);
      await unkilled.operate(each.command, each.parameters);
      await unkilled.settle();
      const ended = await standingOf(unkilled);
      await unkilled.close();
      if (each.isLossless === true) expect(ended.bytes).to.deep.equal(began.bytes);
      for (let n = 1; ; n++) {
        const volumes = copyOf(base);
        const isKilled = await killedAfter(volumes, each, n);
        const pair = await FailoverPair.open({ ...volumes, returned });
        await pair.learnPoints();
        await expectInvariants(pair, { isSettled: false, primary: volumes.primary });
        await pair.settle();
        await pair.learnPoints();
        const found = await standingOf(pair);
        const isAsBefore = JSON.stringify(found) === JSON.stringify(began);
        if (!isAsBefore || !isKilled) expect(found, `after record ${n}`).to.deep.equal(ended);
        await expectInvariants(pair, { isSettled: true, primary: volumes.primary });
        await pair.close();
        if (!isKilled) break;
      }
    });
  }
});
