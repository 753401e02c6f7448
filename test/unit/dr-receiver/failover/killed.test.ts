// The receiver is killed right after each record that a command enters, and started again: the command
// comes to its end, or was taken back, and nothing was known from memory alone.

import { expect } from 'chai';
import type { MemoryFileSystem } from '../../../support/memory-file.js';
import { FailoverBench, failoverVolume } from './failover-double.js';

interface Case {
  readonly command: string;
  /** Commands before it. */
  readonly before: readonly string[];
  /** Phases in which it may be found after the restart. */
  readonly ends: readonly string[];
}

const CASES: readonly Case[] = [
  { command: 'unplanned', before: [], ends: ['ordinary', 'failed-over'] },
  { command: 'undo', before: ['unplanned'], ends: ['ordinary'] },
  { command: 'permanent', before: ['unplanned'], ends: ['failed-over', 'committed'] },
  { command: 'test', before: [], ends: ['ordinary'] },
];

/** Runs the command until its n-th record is in the journal. False: it came to its end before. */
async function killedAfter(volume: MemoryFileSystem, command: string, n: number): Promise<boolean> {
  const bench = await FailoverBench.open(volume, { seed: 10 });
  const { vm } = await bench.desk();
  const append = vm.append.bind(vm);
  let count = 0;
  let isDead = false;
  vm.append = async (record) => {
    if (isDead) throw new Error('killed');
    await append(record);
    isDead = ++count === n;
    if (isDead) throw new Error('killed');
  };
  await bench.operate(command).catch((error: unknown) => {
    if (!isDead) throw error;
  });
  await bench.close();
  return isDead;
}

describe('killed after each record', function () {
  this.timeout(120_000);

  for (const { command, before, ends } of CASES) {
    it(`${command} comes to its end, or was taken back`, async () => {
      const { volume } = await failoverVolume();
      const first = await FailoverBench.open(volume, { seed: 9 });
      for (const each of before) await first.operate(each);
      await first.close();
      for (let n = 1; ; n++) {
        const copy = volume.clone();
        const isKilled = await killedAfter(copy, command, n);
        const bench = await FailoverBench.open(copy, { seed: 11 });
        const { failovers } = bench.site.receiver;
        await failovers.resumeAll();
        await failovers.runOf(await bench.desk())?.result();
        const { failover, tests } = (await bench.desk()).vm.protection;
        expect(failover.phase, `after record ${n}`).to.be.oneOf([...ends]);
        expect(failover.operation, `after record ${n}`).to.equal(undefined);
        expect(tests.size).to.equal(0);
        const names = (await bench.lab.listVms()).map(({ name }) => name);
        expect(names).to.deep.equal(failover.instance === undefined ? [] : ['VM1']);
        await bench.close();
        if (!isKilled) break;
      }
    });
  }
});
