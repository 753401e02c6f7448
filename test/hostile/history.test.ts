// What a source with a key may do to its own history: nothing but add to it (spec channel.md § 5 and § 8,
// cases 17 and 25). Real clients of the channel, a real listener, a store in memory; the receiver's
// clock is a test's.

import { expect } from 'chai';
import {
  controlHandlers,
  DEFAULT_POLICY,
  Receiver,
  replicationHandlers,
} from '../../dr-receiver/index.js';
import { type Guid, guidFromWire, ZERO_GUID } from '../../shared/bytes/index.js';
import {
  type ChannelConnection,
  connect,
  controlService,
  listen,
  type PreSharedKey,
  replicationService,
} from '../../shared/channel/index.js';
import { systemClock, systemRandom } from '../../shared/clock.js';
import { CELL_BYTES } from '../../shared/delta/index.js';
import { silentLog } from '../../shared/log.js';
import { boundMemory } from '../support/bounded-memory.js';
import { testKey } from '../support/channel.js';
import { FakeClock } from '../support/fake-clock.js';
import { MemoryFileSystem } from '../support/memory-file.js';
import { refusal } from '../support/refusal.js';
import { SeededRandom } from '../support/seeded-random.js';
import {
  type CyclePlan,
  pointIds,
  readPoint,
  type Services,
  SourceVm,
  STORE,
} from '../unit/dr-receiver/source-double.js';

const CELLS = 8;
const HOUR_MS = 3_600_000;
const YEAR_MS = 365 * 24 * HOUR_MS;
/** Pins that a receiver makes by itself (docs/decisions/007-automatic-pins.md). */
const AUTOMATIC_PINS = 8;

class HostileSite implements Services {
  readonly files = new MemoryFileSystem();
  readonly clock = new FakeClock();
  readonly vm = new SourceVm(1, [CELLS * CELL_BYTES]);
  readonly plans: CyclePlan[] = [];
  readonly #keys: readonly PreSharedKey[] = [
    testKey(),
    testKey({ keyId: 'k2', principal: 'operator', role: 'operator' }),
  ];
  #source: ChannelConnection | undefined;
  #operator: ChannelConnection | undefined;
  #closeReceiver: (() => Promise<void>) | undefined;
  maxStoredBytes = DEFAULT_POLICY.maxStoredBytes;

  async start(): Promise<void> {
    const receiver = await Receiver.open({
      fs: this.files,
      clock: this.clock,
      random: systemRandom,
      log: silentLog,
      storeFolder: STORE,
      policy: { ...DEFAULT_POLICY, maxStoredBytes: this.maxStoredBytes },
    });
    const keys = this.#keys;
    // days pass for the receiver, and not for the sessions
    const listener = await listen({
      host: '127.0.0.1',
      port: 0,
      keys: { keys },
      clock: systemClock,
      random: systemRandom,
      log: silentLog,
      services: [
        { definition: replicationService, handlers: replicationHandlers(receiver) },
        { definition: controlService, handlers: controlHandlers(receiver) },
      ],
    });
    this.#closeReceiver = async () => {
      await listener.close(0);
      await receiver.close();
    };
    const open = (key: PreSharedKey | undefined): Promise<ChannelConnection> =>
      connect({
        host: '127.0.0.1',
        port: listener.port,
        key: key ?? testKey(),
        clock: systemClock,
        random: systemRandom,
        log: silentLog,
      });
    this.#source = await open(keys[0]);
    this.#operator = await open(keys[1]);
  }

  async stop(): Promise<void> {
    await this.#source?.close();
    await this.#operator?.close();
    await this.#closeReceiver?.();
  }

  replication(): ReturnType<Services['replication']> {
    if (this.#source === undefined) throw new Error('the site is not started');
    return this.#source.client(replicationService);
  }

  control(): ReturnType<Services['control']> {
    if (this.#operator === undefined) throw new Error('the site is not started');
    return this.#operator.client(controlService);
  }

  /** The connection of the source, for calls that are not its own. */
  get sourceChannel(): ChannelConnection {
    if (this.#source === undefined) throw new Error('the site is not started');
    return this.#source;
  }

  get head(): Guid | undefined {
    return this.plans.at(-1)?.pointId;
  }

  /** A cycle that asks for one point to be kept, and no more. */
  async cycle(cells: readonly number[] | undefined, isJunk = false): Promise<readonly string[]> {
    const plan = this.vm.plan(this.plans.length, this.head, [cells], { maxRestorePoints: 1 });
    const { warnings } = await this.vm.replicate(this, plan);
    // the bytes of junk are nobody's to look at
    this.plans.push(isJunk ? { ...plan, images: [] } : plan);
    return warnings;
  }

  /** Overwrites so many cells with junk. */
  async junk(count: number, seed: number): Promise<readonly string[]> {
    const cells = Array.from({ length: count }, (_, cell) => cell);
    for (const cell of cells) this.vm.write(0, cell, 1000 + seed * CELLS + cell);
    return this.cycle(cells, true);
  }

  writeText(): void {
    for (let cell = 0; cell < CELLS; cell++) {
      const text = `row ${cell} of a table that somebody will want to have back\n`.repeat(2000);
      this.vm.bytes(0).write(text.slice(0, CELL_BYTES), cell * CELL_BYTES, 'latin1');
    }
  }

  async expectRestorable(plan: CyclePlan): Promise<void> {
    const bytes = await readPoint(this, this.vm.name, plan.pointId, 0);
    expect(plan.images[0]?.equals(bytes), `point ${plan.pointId}`).to.equal(true);
  }
}

describe('hostile: history', function () {
  boundMemory();
  this.timeout(60_000);
  let site: HostileSite;

  beforeEach(async () => {
    site = new HostileSite();
    await site.start();
    site.writeText();
    await site.cycle(undefined);
  });

  afterEach(async () => {
    await site.stop();
  });

  const first = (): CyclePlan => {
    const [seed] = site.plans;
    if (seed === undefined) throw new Error('there is a seed');
    return seed;
  };

  it('case 17: 100 junk cycles and max_restore_points=1: guard points survive, and so does the last good one', async () => {
    // four good days, then junk every hour
    const good: CyclePlan[] = [];
    for (let day = 1; day <= 4; day++) {
      await site.clock.advance(24 * HOUR_MS);
      site.vm.bytes(0).write(`day ${day}`, 7 * CELL_BYTES, 'latin1');
      await site.cycle([7]);
      const plan = site.plans.at(-1);
      if (plan !== undefined) good.push(plan);
    }
    for (let n = 0; n < 100; n++) {
      await site.clock.advance(60_000);
      await site.junk(CELLS, n);
    }
    const listed = await pointIds(site, site.vm.name);
    for (const plan of [first(), ...good]) {
      expect(listed).to.include(plan.pointId);
      await site.expectRestorable(plan);
    }
    // and the store is not filled with pins: guards, the pins there may be, the newest
    expect(listed.length).to.be.at.most(1 + good.length + AUTOMATIC_PINS + 1);
  });

  it('case 17: the same, spread over days beyond the guards: the pins of the first ones stay', async () => {
    for (let n = 0; n < 100; n++) {
      await site.clock.advance(12 * HOUR_MS);
      await site.junk(CELLS, n);
    }
    const { points } = await site.control().listPoints({ vm: site.vm.name });
    const pinned = points.filter(({ isPinned }) => isPinned);
    expect(pinned.length).to.equal(AUTOMATIC_PINS);
    expect(guidFromWire(pinned[0]?.pointId ?? Buffer.alloc(0))).to.equal(first().pointId);
    expect(points.length).to.be.at.most(AUTOMATIC_PINS + 7 + 1);
    await site.expectRestorable(first());
    const { protections } = await site.control().status({ vm: site.vm.name });
    expect(protections[0]?.reasons.join()).to.contain('wait for a look');
  });

  it('junk that alternates with quiet cycles makes no more pins, and pushes none out', async () => {
    for (let n = 0; n < 30; n++) {
      await site.clock.advance(24 * HOUR_MS);
      await site.junk(n % 2 === 0 ? CELLS : 1, n);
    }
    const { points } = await site.control().listPoints({ vm: site.vm.name });
    expect(points.filter(({ isPinned }) => isPinned).length).to.equal(AUTOMATIC_PINS);
    await site.expectRestorable(first());
  });

  it('no key of a source clears an alarm, pins, unpins or removes', async () => {
    const channel = site.sourceChannel.client(controlService);
    for (const call of [
      () => channel.clearAlarm({ vm: site.vm.name, alarm: first().pointId }),
      () => channel.pinPoint({ vm: site.vm.name, point: 'latest', isPinned: false }),
      () => channel.removePoint({ vm: site.vm.name, point: first().pointId, isPlan: false }),
      () => channel.status({ vm: '' }),
    ]) {
      expect((await refusal(call)).code).to.equal('E_AUTH');
    }
  });

  it('a full quota is refused, and makes no room by forgetting', async () => {
    await site.stop();
    site.maxStoredBytes = 3 * CELLS * CELL_BYTES;
    await site.start();
    await site.junk(CELLS, 1);
    const before = await pointIds(site, site.vm.name);
    const cells = Array.from({ length: CELLS }, (_, cell) => cell);
    let refused = 0;
    for (let n = 0; n < 5; n++) {
      for (const cell of cells) site.vm.write(0, cell, 9000 + n * CELLS + cell);
      const plan = site.vm.plan(500 + n, site.head, [cells], { maxRestorePoints: 1 });
      try {
        await site.vm.replicate(site, plan);
        site.plans.push(plan);
      } catch {
        refused++;
      }
    }
    expect(refused).to.be.at.least(4);
    const after = await pointIds(site, site.vm.name);
    for (const point of before) expect(after).to.include(point);
    await site.expectRestorable(first());
  });

  for (const years of [10, -10]) {
    it(`case 25: the receiver's clock ${years} years away: nothing is pruned for its age`, async () => {
      const guards: Guid[] = [first().pointId];
      for (let day = 1; day <= 3; day++) {
        await site.clock.advance(24 * HOUR_MS);
        await site.cycle([day]);
        guards.push(site.head ?? ZERO_GUID);
      }
      site.clock.setWall(site.clock.now() + years * YEAR_MS);
      for (let n = 0; n < 5; n++) {
        const warnings = await site.cycle([n]);
        expect(warnings.join()).to.contain('clock');
        await site.clock.advance(60_000);
      }
      let listed = await pointIds(site, site.vm.name);
      for (const point of guards) expect(listed).to.include(point);
      // and when it comes back to the right time
      site.clock.setWall(site.clock.now() - years * YEAR_MS);
      await site.cycle([6]);
      listed = await pointIds(site, site.vm.name);
      for (const point of guards) expect(listed).to.include(point);
      await site.expectRestorable(first());
    });
  }

  it("case 25: the source's clock is worth nothing: points of the past and of the future are alike", async () => {
    const random = new SeededRandom(25);
    for (let n = 0; n < 6; n++) {
      const plan = site.vm.plan(n + 1, site.head, [[n]], { maxRestorePoints: 1 });
      const request = site.vm.openRequest(plan);
      const shiftMs = BigInt(10 * YEAR_MS);
      const consistentAtMs = random.chance(0.5)
        ? request.consistentAtMs + shiftMs
        : request.consistentAtMs - shiftMs;
      const { outcome } = await site.replication().open({ ...request, consistentAtMs });
      expect(outcome?.$case).to.equal('accepted');
      await site.vm.push(site, site.vm.messages(plan, []));
      await site.vm.commit(site, plan);
      site.plans.push(plan);
    }
    expect(await pointIds(site, site.vm.name)).to.include(first().pointId);
  });
});
