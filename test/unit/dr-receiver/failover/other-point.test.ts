// A failover to another point: what serves goes on until the other point was read to its end.

import { expect } from 'chai';
import type { Guid } from '../../../../shared/bytes/index.js';
import { refusal } from '../../../support/refusal.js';
import { FailoverBench, failoverVolume, type FailoverVolume } from './failover-double.js';
import { FakeSource } from './fake-source.js';

describe('failover to another point', function () {
  this.timeout(60_000);
  let made: FailoverVolume;
  let bench: FailoverBench;
  let servingId: Guid;

  beforeEach(async () => {
    made = await failoverVolume();
    bench = await FailoverBench.open(made.volume);
    await bench.operate('unplanned', {
      ...{ point: made.plans[0]?.pointId ?? '', commit_policy: 'commit', commit_after: '600' },
    });
    servingId = (await bench.lab.findVm('VM1')).id;
    await bench.lab.guestWrite(servingId, 0, 100, Buffer.alloc(700, 0xcd));
  });

  afterEach(async () => {
    await bench.close();
  });

  const toNewest = (): Promise<unknown> =>
    bench.operate('unplanned', { point: made.plans[2]?.pointId ?? '' });

  const expectUntouched = async (): Promise<void> => {
    const { vm } = await bench.desk();
    const { failover } = vm.protection;
    expect(failover.phase).to.equal('failed-over');
    expect(failover.instance?.vmId).to.equal(servingId);
    expect(failover.commit?.policy).to.equal('commit');
    expect(failover.operation).to.equal(undefined);
    const [serving] = await bench.lab.listVms();
    expect(serving).to.include({ id: servingId, powerState: 'running' });
    const [view] = await bench.view(servingId);
    expect(view?.subarray(100, 800).equals(Buffer.alloc(700, 0xcd))).to.equal(true);
    const files = made.volume.paths.filter((path) => path.endsWith('.protective.vhdx'));
    expect(files).to.have.length(2);
    expect(files.every((path) => path.includes(failover.instance?.operationId ?? ''))).to.equal(
      true,
    );
    expect(vm.protection.epoch).to.equal(2n);
  };

  const damageNewest = async (): Promise<void> => {
    const { vm } = await bench.desk();
    const [segment] = vm.protection.segments.all;
    const layer = segment?.layers.at(-1);
    if (segment === undefined || layer === undefined) throw new Error('there are layers');
    const { data } = vm.layout.files(segment, layer.cycleId, 'delta');
    const bytes = made.volume.content(data) ?? Buffer.alloc(0);
    bytes.writeUInt8(bytes.readUInt8(7) ^ 1, 7);
    made.volume.put(data, bytes);
  };

  it('that does not read back: what serves goes on as if nobody had asked', async () => {
    await damageNewest();
    expect((await refusal(toNewest)).code).to.equal('E_POINT_CORRUPT');
    await expectUntouched();
  });

  it('for which there is no room: what serves goes on as if nobody had asked', async () => {
    const { failovers } = bench.site.receiver;
    const begin = failovers.begin.bind(failovers);
    // there was room when the plan was made
    failovers.begin = (...args) => {
      made.volume.freeBytes = () => Promise.resolve(1);
      return begin(...args);
    };
    expect((await refusal(toNewest)).code).to.equal('E_CAPACITY');
    await expectUntouched();
  });

  it('holds the bases of both from its beginning on, also over a restart', async () => {
    const { vm } = await bench.desk();
    const bases: boolean[] = [];
    const append = vm.append.bind(vm);
    vm.append = async (record) => {
      await append(record);
      const { failover } = vm.protection;
      if (failover.operation?.kind !== 'unplanned' || failover.instance !== undefined) return;
      // what served is gone, and the other is not entered yet
      const held = failover.replacement?.disks ?? [];
      bases.push(held.length === 2);
    };
    await toNewest();
    expect(bases).to.not.deep.equal([]);
    expect(bases.every(Boolean)).to.equal(true);
    const { failover } = vm.protection;
    expect(failover.replacement).to.equal(undefined);
    const views = await bench.guest('VM1');
    for (const [disk, view] of views.entries()) {
      expect(view.equals(made.plans[2]?.images[disk] ?? Buffer.alloc(0))).to.equal(true);
    }
  });

  it('that is cut off anywhere comes to its end, or what serves goes on', async () => {
    await bench.close();
    for (let n = 1; ; n++) {
      const copy = made.volume.clone();
      const isKilled = await killedAfter(copy, n);
      bench = await FailoverBench.open(copy, { seed: 100 + n });
      const { failovers } = bench.site.receiver;
      await failovers.resumeAll();
      await failovers.runOf(await bench.desk())?.result();
      const { failover } = (await bench.desk()).vm.protection;
      expect(failover.phase, `after record ${n}`).to.equal('failed-over');
      expect(failover.replacement, `after record ${n}`).to.equal(undefined);
      const { id, powerState } = await bench.lab.findVm('VM1');
      expect(powerState).to.equal('running');
      expect(failover.instance?.vmId).to.equal(id);
      const files = copy.paths.filter((path) => path.endsWith('.protective.vhdx'));
      expect(files, `after record ${n}`).to.have.length(2);
      if (!isKilled) break;
      await bench.close();
    }
  });

  const killedAfter = async (volume: FailoverVolume['volume'], n: number): Promise<boolean> => {
    const killed = await FailoverBench.open(volume, { seed: 50 });
    const { vm } = await killed.desk();
    const append = vm.append.bind(vm);
    let count = 0;
    let isDead = false;
    vm.append = async (record) => {
      if (isDead) throw new Error('killed');
      await append(record);
      isDead = ++count === n;
      if (isDead) throw new Error('killed');
    };
    const point = made.plans[2]?.pointId ?? '';
    await killed.operate('unplanned', { point }).catch((error: unknown) => {
      if (!isDead) throw error;
    });
    await killed.close();
    return isDead;
  };

  it('that is aborted before anything was changed leaves what serves', async () => {
    const source = new FakeSource();
    source.powerState = 'off';
    bench.site.receiver.sources.find = () => source;
    let isAsked = false;
    let answer = (): void => undefined;
    const asked = new Promise<void>((resolve) => {
      const describe = source.describe.bind(source);
      source.describe = async () => {
        const { operation } = (await bench.desk()).vm.protection.failover;
        if (operation !== undefined && !isAsked) {
          isAsked = true;
          await new Promise<void>((go) => {
            answer = go;
            resolve();
          });
        }
        return describe();
      };
    });
    const running = refusal(toNewest);
    await asked;
    const by = { by: 'operator', keyId: undefined, parameters: {} };
    const aborting = bench.site.receiver.failovers.takeBack(await bench.desk(), 'abort', by);
    answer();
    await (await aborting).result();
    expect((await running).code).to.equal('E_LOCKED');
    await expectUntouched();
  });
});
