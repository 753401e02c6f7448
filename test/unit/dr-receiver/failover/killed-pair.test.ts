// The receiver is killed right after each record of a command in which the source takes part, and started
// again. What is in the journal then leads to the very end that the command has without a kill, or to where
// it began: nothing that decides was in memory alone.

import { expect } from 'chai';
import { expectInvariants } from '../../../support/failover-invariants.js';
import { FailoverPair, type History, pairVolumes } from '../../../support/failover-pair.js';
import type { MemoryFileSystem } from '../../../support/memory-file.js';

interface Case {
  readonly title: string;
  readonly before: (pair: FailoverPair) => Promise<unknown>;
  readonly command: string;
  readonly parameters?: Readonly<Record<string, string>>;
}

const CASES: readonly Case[] = [
  { title: 'planned', before: (pair) => pair.guestWrites(3, 4), command: 'planned' },
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
];

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

/** Where both sites stand: all that differs between two ends but names and times. */
async function standingOf(pair: FailoverPair): Promise<object> {
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
  };
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
      await first.close();
      const whole = copyOf(base);
      const unkilled = await FailoverPair.open(whole);
      await unkilled.operate(each.command, each.parameters);
      await unkilled.settle();
      const ended = await standingOf(unkilled);
      await unkilled.close();
      for (let n = 1; ; n++) {
        const volumes = copyOf(base);
        const isKilled = await killedAfter(volumes, each, n);
        const pair = await FailoverPair.open(volumes);
        await pair.learnPoints();
        await expectInvariants(pair, { isSettled: false, primary: volumes.primary });
        await pair.settle();
        await pair.learnPoints();
        const found = await standingOf(pair);
        const isBack = JSON.stringify(found) === JSON.stringify(began);
        if (!isBack || !isKilled) expect(found, `after record ${n}`).to.deep.equal(ended);
        await expectInvariants(pair, { isSettled: true, primary: volumes.primary });
        await pair.close();
        if (!isKilled) break;
      }
    });
  }
});
