// Power loss during every operation of the file system that unplanned failover, to the newest point or from
// one to another, undo and test make, at the receiver and its lab host. After a restart each is finished,
// goes on, or was taken back; the state says which, nothing is left over, and a cycle goes on from there.

import { expect } from 'chai';
import type { FileSystem } from '../../shared/files/index.js';
import { crashEverywhere } from '../support/crash-everywhere.js';
import type { MemoryFileSystem } from '../support/memory-file.js';
import {
  FailoverBench,
  failoverVolume,
  type FailoverVolume,
} from '../unit/dr-receiver/failover/failover-double.js';
import { readPoint } from '../unit/dr-receiver/source-double.js';

/** Of several hundred; SLOW=1 tries all. */
const OPERATIONS = process.env['SLOW'] === '1' ? undefined : 40;
/** Of a command in which one VM goes and another comes. */
const LONG_OPERATIONS = process.env['SLOW'] === '1' ? undefined : 12;

describe('crash: operations of the failover state machine', function () {
  this.timeout(600_000);

  const act = async (
    fs: FileSystem,
    command: string,
    parameters: Readonly<Record<string, string>> = {},
  ): Promise<void> => {
    const bench = await FailoverBench.open(fs, { seed: 5 });
    try {
      await bench.operate(command, parameters);
    } finally {
      await bench.close().catch(() => undefined);
    }
  };

  /** Restarts the receiver, lets what was under way come to its end, and gives the bench. */
  const restart = async (found: MemoryFileSystem): Promise<FailoverBench> => {
    const bench = await FailoverBench.open(found, { seed: 6 });
    const { failovers } = bench.site.receiver;
    await failovers.resumeAll();
    await failovers.runOf(await bench.desk())?.result();
    return bench;
  };

  const expectSound = async (
    bench: FailoverBench,
    { source, plans }: FailoverVolume,
  ): Promise<void> => {
    for (const plan of plans) {
      for (const [disk, image] of plan.images.entries()) {
        const read = await readPoint(bench.site, 'VM1', plan.pointId, disk);
        expect(read.equals(image), `point ${plan.pointId}, disk ${disk}`).to.equal(true);
      }
    }
    const { vm } = await bench.desk();
    expect(vm.protection.failover.operation, 'operation').to.equal(undefined);
    expect(vm.protection.tests.size, 'tests').to.equal(0);
    if (vm.protection.failover.phase === 'failed-over') await bench.operate('undo');
    expect(await bench.phase()).to.equal('ordinary');
    expect(await bench.lab.listVms()).to.deep.equal([]);
    const { epoch } = vm.protection;
    source.write(0, 9, 4321);
    const head = vm.protection.head?.pointId;
    await source.replicate(bench.site, source.plan(9, head, [[9], []], { epoch }));
    const { items } = await bench.site.control().collectGarbage({ isPlan: false, olderThanMs: 0n });
    expect(items.filter(({ kind }) => kind.startsWith('foreign'))).to.deep.equal([]);
  };

  const expectView = async (
    bench: FailoverBench,
    { plans }: FailoverVolume,
    pointId = plans[2]?.pointId,
  ): Promise<void> => {
    const images = plans.find((plan) => plan.pointId === pointId)?.images;
    const views = await bench.guest('VM1');
    for (const [disk, view] of views.entries()) {
      expect(view.equals(images?.[disk] ?? Buffer.alloc(0)), `disk ${disk}`).to.equal(true);
    }
  };

  it('unplanned: before U2 nothing happened, from then on it comes up', async () => {
    const made = await failoverVolume();
    await crashEverywhere({
      volume: made.volume,
      operationsMax: OPERATIONS,
      seedCount: 1,
      run: (fs) => act(fs, 'unplanned'),
      check: async (found, { hasFinished }) => {
        const bench = await restart(found);
        try {
          const phase = await bench.phase();
          expect(phase).to.be.oneOf(hasFinished ? ['failed-over'] : ['ordinary', 'failed-over']);
          if (phase === 'failed-over') await expectView(bench, made);
          await expectSound(bench, made);
        } finally {
          await bench.close();
        }
      },
    });
  });

  it('to another point: one of both runs, whole', async () => {
    const made = await failoverVolume();
    await act(made.volume, 'unplanned');
    const [first, , newest] = made.plans.map(({ pointId }) => pointId);
    await crashEverywhere({
      volume: made.volume,
      operationsMax: LONG_OPERATIONS,
      seedCount: 1,
      run: (fs) => act(fs, 'unplanned', { point: first ?? '' }),
      check: async (found, { hasFinished }) => {
        const bench = await restart(found);
        try {
          expect(await bench.phase()).to.equal('failed-over');
          const pointId = (await bench.desk()).vm.protection.failover.instance?.pointId;
          expect(pointId).to.be.oneOf(hasFinished ? [first] : [first, newest]);
          await expectView(bench, made, pointId);
          await expectSound(bench, made);
        } finally {
          await bench.close();
        }
      },
    });
  });

  it('undo: from its first record on it comes to its end', async () => {
    const made = await failoverVolume();
    await act(made.volume, 'unplanned');
    await crashEverywhere({
      volume: made.volume,
      operationsMax: OPERATIONS,
      seedCount: 1,
      run: (fs) => act(fs, 'undo'),
      check: async (found, { hasFinished }) => {
        const bench = await restart(found);
        try {
          const phase = await bench.phase();
          expect(phase).to.be.oneOf(hasFinished ? ['ordinary'] : ['ordinary', 'failed-over']);
          if (phase === 'failed-over') await expectView(bench, made);
          await expectSound(bench, made);
        } finally {
          await bench.close();
        }
      },
    });
  });

  it('test: nothing of it is left, whenever the power went', async () => {
    const made = await failoverVolume();
    await crashEverywhere({
      volume: made.volume,
      operationsMax: OPERATIONS,
      seedCount: 1,
      run: (fs) => act(fs, 'test'),
      check: async (found) => {
        const bench = await restart(found);
        try {
          expect(await bench.phase()).to.equal('ordinary');
          await expectSound(bench, made);
        } finally {
          await bench.close();
        }
      },
    });
  });
});
