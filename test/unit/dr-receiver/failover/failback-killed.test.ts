// The receiver is killed right after each record that a failback, its commit or its way back enters, and
// started again: it comes to its end, or was taken back, and one VM runs, at one site.

import { expect } from 'chai';
import { MemoryFileSystem } from '../../../support/memory-file.js';
import { readPoint, type SourceVm } from '../source-double.js';
import { FailoverBench, failoverVolume } from './failover-double.js';
import { failedOver, type Primary } from './primary-double.js';

interface Case {
  readonly what: string;
  readonly before: readonly string[];
  readonly command: string;
  /** Phases in which it may be found after the restart. */
  readonly ends: readonly string[];
}

const CASES: readonly Case[] = [
  {
    what: 'failback',
    before: [],
    command: 'failback',
    ends: ['failed-over', 'failed-back'],
  },
  {
    what: 'permanent of a failback',
    before: ['failback'],
    command: 'permanent',
    ends: ['failed-back', 'ordinary'],
  },
  {
    what: 'undo of a failback',
    before: ['failback'],
    command: 'undo',
    ends: ['failed-back', 'failed-over'],
  },
];

interface Trial {
  readonly volume: MemoryFileSystem;
  readonly primary: Primary;
  readonly isKilled: boolean;
  readonly views: readonly Buffer[];
}

/** Runs the command until its n-th record is in the journal. */
async function killedAfter(
  from: MemoryFileSystem,
  vm: SourceVm,
  { before, command }: Case,
  n: number,
): Promise<Trial> {
  const volume = from.clone();
  const bench = await FailoverBench.open(volume, { seed: 10 });
  const primary = await failedOver(bench, vm);
  const views = await bench.guest('VM1');
  for (const each of before) await bench.operate(each);
  const { vm: stored } = await bench.desk();
  const append = stored.append.bind(stored);
  let count = 0;
  let isDead = false;
  stored.append = async (record) => {
    if (isDead) throw new Error('killed');
    await append(record);
    isDead = ++count === n;
    if (isDead) throw new Error('killed');
  };
  await bench.operate(command).catch((error: unknown) => {
    if (!isDead) throw error;
  });
  await bench.close();
  return { volume, primary, isKilled: isDead, views };
}

describe('a failback that is killed after each record', function () {
  this.timeout(240_000);

  const expectOneRuns = async (
    bench: FailoverBench,
    primary: Primary,
    phase: string,
  ): Promise<void> => {
    const [here] = await bench.lab.listVms();
    const found = { here: here?.powerState, primary: primary.powerState };
    const wanted = {
      'failed-over': { here: 'running', primary: 'off' },
      'failed-back': { here: 'off', primary: 'running' },
      ordinary: { here: undefined, primary: 'running' },
    }[phase];
    expect(found).to.deep.equal(wanted);
  };

  const viewsOf = async (
    bench: FailoverBench,
    primary: Primary,
    phase: string,
  ): Promise<readonly Buffer[]> => (phase === 'failed-over' ? bench.guest('VM1') : primary.views);

  for (const each of CASES) {
    it(`${each.what} comes to its end, or was taken back`, async () => {
      const { volume, source, plans } = await failoverVolume();
      const found = new Set<string>();
      for (let n = 1; ; n++) {
        const trial = await killedAfter(volume, source, each, n);
        const bench = await FailoverBench.open(trial.volume, { seed: 11 });
        const primary = trial.primary.copy(bench);
        const { failovers } = bench.site.receiver;
        await failovers.resumeAll();
        await failovers.runOf(await bench.desk())?.result();
        const { vm } = await bench.desk();
        const { phase, operation } = vm.protection.failover;
        expect(phase, `after record ${n}`).to.be.oneOf([...each.ends]);
        expect(operation, `after record ${n}`).to.equal(undefined);
        found.add(phase);
        await expectOneRuns(bench, primary, phase);
        for (const [disk, view] of (await viewsOf(bench, primary, phase)).entries()) {
          expect(view.equals(trial.views[disk] ?? Buffer.alloc(0)), `record ${n}`).to.equal(true);
        }
        if (phase === 'ordinary') {
          const points = vm.protection.listed.filter(({ cycleKind }) => cycleKind === 'failback');
          expect(points.map(({ pointId }) => pointId)).to.deep.equal([primary.committed?.pointId]);
          for (const [disk, view] of trial.views.entries()) {
            const bytes = await readPoint(bench.site, 'VM1', points[0]?.pointId ?? '', disk);
            expect(bytes.equals(view), `record ${n}, disk ${disk}`).to.equal(true);
          }
        }
        expect(vm.protection.point(plans[2]?.pointId ?? vm.vmId)).to.not.equal(undefined);
        expect(bench.site.receiver.servingRounds.size).to.equal(0);
        await bench.close();
        if (!trial.isKilled) break;
      }
      expect([...found]).to.include(each.ends.at(-1));
    });
  }
});
