// What operators and monitoring are told: in time whatever a VM is at, and before an RPO is missed.

import { expect } from 'chai';
import { ProtectionState, type ProtectionStatus } from '../../../shared/channel/index.js';
import { CELL_BYTES } from '../../../shared/delta/index.js';
import { FakeClock } from '../../support/fake-clock.js';
import { HookedFileSystem } from '../../support/hooked-file.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { type CyclePlan, openSite, type Site, SourceVm } from './source-double.js';

describe('status', () => {
  let clock: FakeClock;
  let files: MemoryFileSystem;
  let site: Site;
  let vm: SourceVm;
  let last: CyclePlan;

  beforeEach(async () => {
    clock = new FakeClock();
    files = new MemoryFileSystem();
    site = await openSite(files, { clock });
    vm = new SourceVm(1, [4 * CELL_BYTES], 'SQL01');
    last = vm.plan(1, undefined, [undefined]);
    await vm.replicate(site, last);
  });

  async function point(afterMs: number): Promise<void> {
    await clock.advance(afterMs);
    const number = Number.parseInt(last.pointId.slice(-4), 16) + 1;
    vm.write(0, 1, number);
    last = vm.plan(number, last.pointId, [[1]]);
    await vm.replicate(site, last);
  }

  async function asked(of = site): Promise<ProtectionStatus> {
    const { protections } = await of.control().status({ vm: 'SQL01' });
    const [only] = protections;
    if (only === undefined) throw new Error('the VM is there');
    return only;
  }

  it('forecasts from the rhythm of the points, also after the receiver began anew', async () => {
    expect(await asked()).to.include({ forecastBecause: '', willMissRpo: false, health: 'ok' });
    for (let i = 0; i < 3; i++) await point(700_000);
    const told = {
      forecastNewestAgeSeconds: 700,
      willMissRpo: true,
      forecastBecause: 'points came every 700 s',
      health: 'warn',
    };
    expect(await asked()).to.include(told);
    const day = Math.floor(clock.now() / 86_400_000);
    expect((await asked()).rpoDays).to.deep.equal([{ day, violatedSeconds: 300 }]);
    await site.receiver.close();
    const again = await openSite(files, { clock });
    expect(await asked(again)).to.include(told);
    expect((await asked(again)).rpoDays).to.deep.equal([{ day, violatedSeconds: 300 }]);
  });

  it('forecasts from the cycle under way', async () => {
    await clock.advance(100_000);
    const plan = vm.plan(500, last.pointId, [[0, 1]]);
    const expectedBytes = BigInt(100 * CELL_BYTES);
    await site.replication().open({ ...vm.openRequest(plan), expectedBytes });
    const messages = [...vm.messages(plan, [{ nextCell: 0n, isComplete: false }])];
    let isOver = (): void => undefined;
    const stream = (async function* (): AsyncGenerator<Buffer> {
      for (const message of messages.slice(0, -1)) yield await Promise.resolve(message);
      await new Promise<void>((resolve) => {
        isOver = resolve;
      });
    })();
    const pushing = (async (): Promise<void> => {
      for await (const ack of site.replication().push(stream)) expect(ack.diskIndex).to.equal(0);
    })();
    await clock.advance(10_000);
    const { forecastNewestAgeSeconds, willMissRpo, forecastBecause, reasons } = await asked();
    // two of a hundred cells in ten seconds: 490 s to go
    expect(forecastBecause).to.equal('the cycle under way brought 2 % in 10 s');
    expect(forecastNewestAgeSeconds).to.equal(600);
    expect(willMissRpo).to.equal(true);
    expect(reasons).to.have.length(1);
    isOver();
    await pushing.catch(() => undefined);
  });

  it('does not wait for a VM that hangs in a change', async () => {
    const desk = site.receiver.desks[0];
    let end = (): void => undefined;
    let hanging: Promise<void> | undefined;
    await new Promise<void>((hasBegun) => {
      hanging = desk?.vm.change(
        () =>
          new Promise<void>((resolve) => {
            end = resolve;
            hasBegun();
          }),
      );
    });
    expect(await asked()).to.include({ vmName: 'SQL01', pointCount: 1 });
    end();
    await hanging;
  });

  it('tells a begun seed from a VM that has nothing, whether it runs or not', async () => {
    const other = new SourceVm(2, [CELL_BYTES], 'web');
    const plan = other.plan(900, undefined, [undefined]);
    await other.open(site, plan);
    const stateOf = async (of: Site): Promise<number | undefined> =>
      (await of.control().status({ vm: 'web' })).protections[0]?.state;
    expect(await stateOf(site)).to.equal(ProtectionState.PROTECTION_STATE_SEEDING);
    await site.receiver.close();
    const again = await openSite(files, { clock });
    expect(await stateOf(again)).to.equal(ProtectionState.PROTECTION_STATE_SEEDING);
  });

  it('looks at no file of a VM that has a point', async () => {
    await site.receiver.close();
    const calls: string[] = [];
    const watched = new HookedFileSystem(files, ({ kind, path }, run) => {
      if (kind !== 'freeBytes') calls.push(`${kind} ${path}`);
      return run();
    });
    const again = await openSite(watched, { clock });
    for (let n = 10; n < 40; n++) {
      const many = new SourceVm(n, [512], `vm${n}`);
      await many.replicate(again, many.plan(n * 100, undefined, [undefined]));
    }
    // what was begun in the background
    await clock.advance(1000);
    calls.length = 0;
    const { protections } = await again.control().status({ vm: '' });
    expect(protections).to.have.length(31);
    expect(calls).to.deep.equal([]);
  });
});
