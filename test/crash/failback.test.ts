// Power loss during every operation of the file system that a failback, its commit and its way back make, at
// the receiver and its lab host. After a restart each goes on, or was taken back; one VM runs, at one site,
// with every byte that was written; points read back, and nothing is left over.

import { expect } from 'chai';
import type { FileSystem } from '../../shared/files/index.js';
import { crashEverywhere, type CrashPlace } from '../support/crash-everywhere.js';
import type { MemoryFileSystem } from '../support/memory-file.js';
import {
  FailoverBench,
  failoverVolume,
  type FailoverVolume,
} from '../unit/dr-receiver/failover/failover-double.js';
import { failedOver, type Primary } from '../unit/dr-receiver/failover/primary-double.js';
import { readPoint } from '../unit/dr-receiver/source-double.js';

/** Of more than a thousand; SLOW=1 tries all. */
const OPERATIONS = process.env['SLOW'] === '1' ? undefined : 16;

describe('crash: failback', function () {
  this.timeout(600_000);

  let made: FailoverVolume;
  let views: readonly Buffer[];
  /** As the primary stands before what is cut off. */
  let before: Primary;
  /** As it stands when the power at the DR site goes. */
  let primary: Primary;

  const prepare = async (commands: readonly string[]): Promise<void> => {
    made = await failoverVolume();
    const bench = await FailoverBench.open(made.volume, { seed: 4 });
    before = await failedOver(bench, made.source);
    views = await bench.guest('VM1');
    for (const command of commands) await bench.operate(command);
    await bench.close();
  };

  const act = async (fs: FileSystem, command: string): Promise<void> => {
    // the power may go before it was asked for anything
    primary = before;
    const bench = await FailoverBench.open(fs, { seed: 5 });
    primary = before.copy(bench);
    try {
      await bench.operate(command);
    } finally {
      await bench.close().catch(() => undefined);
    }
  };

  const expectBytes = (found: Buffer | undefined, disk: number, what: string): void => {
    const wanted = views[disk] ?? Buffer.alloc(0);
    expect(found?.equals(wanted), `${what}, disk ${disk}`).to.equal(true);
  };

  const expectPoints = async (bench: FailoverBench): Promise<void> => {
    for (const { pointId, images } of made.plans) {
      for (const [disk, image] of images.entries()) {
        const read = await readPoint(bench.site, 'VM1', pointId, disk);
        expect(read.equals(image), `point ${pointId}, disk ${disk}`).to.equal(true);
      }
    }
  };

  const check =
    (ends: readonly string[]) =>
    async (volume: MemoryFileSystem, { hasFinished }: CrashPlace): Promise<void> => {
      const bench = await FailoverBench.open(volume, { seed: 6 });
      const there = primary.copy(bench);
      try {
        const { failovers } = bench.site.receiver;
        await failovers.resumeAll();
        await failovers.runOf(await bench.desk())?.result();
        const { failover } = (await bench.desk()).vm.protection;
        expect(failover.operation, 'operation').to.equal(undefined);
        expect(failover.phase).to.be.oneOf(hasFinished ? ends.slice(-1) : [...ends]);
        await expectHome(bench, there, failover.phase);
        await expectPoints(bench);
        const { items } = await bench.site
          .control()
          .collectGarbage({ isPlan: false, olderThanMs: 0n });
        expect(items.filter(({ kind }) => kind.startsWith('foreign'))).to.deep.equal([]);
      } finally {
        await bench.close();
      }
    };

  /** One VM runs, with all that was written here; made permanent, that is a point. */
  const expectHome = async (bench: FailoverBench, there: Primary, phase: string): Promise<void> => {
    const [here] = await bench.lab.listVms();
    const isHere = phase === 'failed-over';
    expect(here?.powerState === 'running', 'it runs here').to.equal(isHere);
    expect(there.powerState, 'at the primary').to.equal(isHere ? 'off' : 'running');
    if (isHere) {
      for (const [disk, view] of (await bench.guest('VM1')).entries())
        expectBytes(view, disk, 'VM');
      return;
    }
    for (const [disk, view] of there.views.entries()) expectBytes(view, disk, 'primary');
    if (phase === 'failed-back') await bench.operate('permanent');
    const { head } = (await bench.desk()).vm.protection;
    expect(there.committed?.pointId).to.equal(head?.pointId);
    for (const disk of views.keys()) {
      const bytes = await readPoint(bench.site, 'VM1', head?.pointId ?? '', disk);
      expectBytes(bytes, disk, 'return point');
    }
    expect(await bench.lab.listVms()).to.deep.equal([]);
  };

  const cut = async (command: string, ends: readonly string[]): Promise<void> => {
    await crashEverywhere({
      volume: made.volume,
      operationsMax: OPERATIONS,
      seedCount: 1,
      run: (fs) => act(fs, command),
      check: check(ends),
    });
  };

  it('failback: from its first record on it comes to its end', async () => {
    await prepare([]);
    await cut('failback', ['failed-over', 'failed-back']);
  });

  it('permanent: the return point is listed once, and the VM here goes behind it', async () => {
    await prepare(['failback']);
    await cut('permanent', ['failed-back', 'ordinary']);
  });

  it('undo: the VM serves here again, with every byte', async () => {
    await prepare(['failback']);
    await cut('undo', ['failed-back', 'failed-over']);
  });
});
