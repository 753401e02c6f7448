// Laws of runs of plans, on random plans with random failures and crashes: nothing begins before what it
// depends on was done; every VM is worked on once; 200 VMs take about their share of the time.

import { expect } from 'chai';
import fc from 'fast-check';
import type { PlanKind } from '../../shared/plan/index.js';
import { Crash, PlanWorld } from '../support/plan-world.js';
import { SeededRandom } from '../support/seeded-random.js';

interface RandomPlan {
  readonly text: string;
  /** Dependants → what they depend on. */
  readonly needs: ReadonlyMap<string, readonly string[]>;
}

/** VMs `V0` …, each of which may depend on earlier ones; groups of some that stand together. */
const randomPlan: fc.Arbitrary<RandomPlan> = fc
  .record({
    count: fc.integer({ min: 1, max: 9 }),
    isSequence: fc.boolean(),
    concurrency: fc.integer({ min: 1, max: 4 }),
    picks: fc.array(fc.nat(1000), { minLength: 60, maxLength: 60 }),
  })
  .map(({ count, isSequence, concurrency, picks }) => {
    let next = 0;
    const pick = (below: number): number => (picks[next++ % picks.length] ?? 0) % below;
    const needs = new Map<string, string[]>();
    const lines: string[] = [];
    let groupIndex = 0;
    for (let i = 0; i < count;) {
      const size = Math.min(1 + pick(3), count - i);
      const member = (index: number): string => {
        const own = Array.from({ length: pick(3) }, () => pick(Math.max(1, i)))
          .filter((other) => other < i)
          .map((other) => `V${other}`);
        needs.set(`V${index}`, [...new Set(own)]);
        return `{vm: V${index}, depends_on: [${[...new Set(own)].join(', ')}]}`;
      };
      const members = Array.from({ length: size }, (_, offset) => member(i + offset));
      lines.push(`  - group: G${groupIndex++}\n    steps: [${members.join(', ')}]`);
      i += size;
    }
    const head = `version: 1\nname: P\non_error: continue\nconcurrency: ${concurrency}\n`;
    const order = isSequence ? 'sequence' : 'parallel';
    return { text: `${head}order: ${order}\nsteps:\n${lines.join('\n')}\n`, needs };
  });

const UP: Readonly<Record<string, string>> = { unplanned: 'unplanned', planned: 'planned up' };

/** Fails when an effect came before one that it depends on, or twice, or in spite of a failure. */
function expectOrder(world: PlanWorld, plan: RandomPlan, kind: PlanKind): void {
  const what = UP[kind] ?? kind;
  const { commands } = world;
  for (const [vm, needs] of plan.needs) {
    const [upAt, ...again] = commands.timesOf(vm, what);
    expect(again, `${vm} again`).to.deep.equal([]);
    if (upAt === undefined) continue;
    for (const need of needs) {
      const [needAt] = commands.timesOf(need, what);
      expect(needAt, `${need}, on which ${vm} depends`).to.be.a('number');
      expect(needAt).to.be.at.most(upAt - commands.vm(vm).durationMs / 3);
    }
  }
}

describe('runs of random plans', function () {
  const numRuns = Number(process.env['SLOW'] ?? 0) > 0 ? 400 : 60;

  it('never begin a step before what it depends on was done, and leave out nothing else', async () => {
    await fc.assert(
      fc.asyncProperty(
        randomPlan,
        fc.constantFrom<PlanKind>('unplanned', 'planned'),
        fc.array(fc.boolean(), { minLength: 9, maxLength: 9 }),
        fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 9, maxLength: 9 }),
        async (plan, kind, fails, durations) => {
          const world = new PlanWorld(plan.text);
          const failing = new Set<string>();
          [...plan.needs.keys()].forEach((vm, index) => {
            if (fails[index] !== true) return;
            failing.add(vm);
            world.commands.vm(vm).failsAt = kind;
          });
          durations.forEach((seconds, index) => {
            const vm = world.commands.vms.get(`V${index}`);
            if (vm !== undefined) vm.durationMs = 3000 * seconds;
          });
          const { record } = await world.begin(kind);
          expectOrder(world, plan, kind);
          const expected = new Map<string, boolean>();
          for (const [vm, needs] of plan.needs) {
            const isUp = !failing.has(vm) && needs.every((need) => expected.get(need) === true);
            expected.set(vm, isUp);
            const state = isUp ? 'FAILED_OVER' : 'PROTECTED';
            expect(world.commands.vm(vm).state, vm).to.equal(state);
          }
          const isWhole = [...expected.values()].every(Boolean);
          expect(record.outcome).to.equal(isWhole ? 'done' : 'with-errors');
        },
      ),
      { numRuns },
    );
  });

  it('power off in the reverse of the order in which they start', async () => {
    await fc.assert(
      fc.asyncProperty(randomPlan, async (plan) => {
        const world = new PlanWorld(plan.text);
        await world.begin('planned');
        for (const [vm, needs] of plan.needs) {
          const [offAt = Infinity] = world.commands.timesOf(vm, 'planned off');
          for (const need of needs) {
            const [needOffAt = -1] = world.commands.timesOf(need, 'planned off');
            expect(offAt, `${vm} before ${need}`).to.be.at.most(needOffAt);
          }
        }
      }),
      { numRuns },
    );
  });

  for (const kind of ['unplanned', 'planned', 'undo', 'test'] as const) {
    it(`come to their end after a crash at any write of their record: ${kind}`, async () => {
      const plan = `version: 1\nname: P\nconcurrency: 2\nsteps:\n  - group: g\n    steps: [{vm: A}, {vm: B}, {vm: C}]\n  - {vm: D, depends_on: A}\n`;
      const fresh = (): PlanWorld => {
        const world = new PlanWorld(plan);
        for (const vm of world.commands.vms.values()) {
          if (kind === 'undo') vm.state = 'FAILED_OVER';
        }
        return world;
      };
      const rehearsal = fresh();
      await rehearsal.begin(kind);
      const { writeCount } = rehearsal;
      expect(writeCount).to.be.greaterThan(8);
      for (let write = 1; write <= writeCount; write++) {
        for (const side of ['before', 'after'] as const) {
          for (const isSecond of [false, true]) {
            const world = fresh();
            await crashed(world.begin(kind, { crash: { write, side } }));
            await world.clock.advance(isSecond ? 60_000 : 0);
            if (isSecond) {
              const again = { write: world.writeCount + 2, side };
              await crashed(world.resume('retry', { crash: again }));
            }
            const place = `${side} write ${write}${isSecond ? ', twice' : ''}`;
            const record = await finish(world, kind);
            expect(record.outcome, place).to.equal('done');
            for (const vm of ['A', 'B', 'C', 'D']) {
              const what = UP[kind] ?? kind;
              expect(world.commands.timesOf(vm, what), `${vm} ${place}`).to.have.length(1);
              expect(world.commands.vm(vm).tests.size, place).to.equal(0);
            }
            const [a = Infinity] = world.commands.timesOf('A', UP[kind] ?? kind);
            const [d = 0] = world.commands.timesOf('D', UP[kind] ?? kind);
            expect(kind === 'undo' ? d < a : a < d, place).to.equal(true);
          }
        }
      }
    }).timeout(240_000);
  }

  it('take 200 VMs, 20 at a time, within twice their own times divided by 20', async () => {
    const random = new SeededRandom(7);
    const names = Array.from({ length: 200 }, (_, i) => `V${i}`);
    const groups = Array.from({ length: 4 }, (_, g) =>
      names.slice(g * 50, g * 50 + 50).map((vm) => `{vm: ${vm}}`),
    );
    const lines = groups.map((own, g) => `  - group: G${g}\n    steps: [${own.join(', ')}]`);
    const text = `version: 1\nname: P\nconcurrency: 20\nsteps:\n${lines.join('\n')}\n`;
    for (const kind of ['unplanned', 'planned'] as const) {
      const world = new PlanWorld(text);
      let sumMs = 0;
      for (const vm of world.commands.vms.values()) {
        vm.durationMs = 3000 * (1 + random.int(20));
        sumMs += vm.durationMs;
      }
      const startedAt = world.clock.monotonic();
      const { record } = await world.begin(kind);
      expect(record.outcome).to.equal('done');
      expect(world.commands.busyMax).to.equal(20);
      expect(world.clock.monotonic() - startedAt).to.be.at.most((2 * sumMs) / 20);
    }
  }).timeout(240_000);
});

async function crashed(run: Promise<unknown>): Promise<void> {
  try {
    await run;
  } catch (error) {
    if (!(error instanceof Crash)) {
      // a run whose first record was lost, or that was given up at its check
      if (!(error instanceof Error) || !/resumed|given up/.test(error.message)) throw error;
    }
  }
}

/** Does what an operator does: resumes what is there, begins anew what is not. */
async function finish(
  world: PlanWorld,
  kind: PlanKind,
): Promise<{ readonly outcome: string | undefined }> {
  for (let attempt = 0; attempt < 4; attempt++) {
    const record = await world.record();
    if (record?.outcome === 'done') return record;
    const isOpen = record !== undefined && record.outcome === undefined;
    await crashed(isOpen ? world.resume() : world.begin(kind));
  }
  throw new Error('the run does not come to its end');
}
