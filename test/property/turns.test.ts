// Law: whoever is due and past its deadline begins after each of the others has had at most one turn,
// whatever they do - fail, hang, take long, come often. And the places are kept.

import { expect } from 'chai';
import fc from 'fast-check';
import {
  deadlineMs,
  dueAtMs,
  isDone,
  isRunning,
  nextLookMs,
  nextTurn,
  PARALLEL_MAX,
  STALL_MS,
  STALLED_MAX,
  type Turn,
} from '../../source-agent/turns.js';
import { testGuid } from '../support/fake-source-hypervisor.js';

const SLOW = process.env['SLOW'] === '1';
const LONGEST_S = 120;
const RUN_MS = 3_600_000;

interface Behaviour {
  readonly intervalSeconds: number;
  readonly rpoSeconds: number;
  readonly cycleSeconds: number;
  readonly isFailing: boolean;
  /** Moves all the time, or never before it ends. */
  readonly isMoving: boolean;
}

const behaviours = fc.array(
  fc.record({
    intervalSeconds: fc.integer({ min: 1, max: 300 }),
    rpoSeconds: fc.integer({ min: 1, max: 3600 }),
    cycleSeconds: fc.integer({ min: 0, max: LONGEST_S }),
    isFailing: fc.boolean(),
    isMoving: fc.boolean(),
  }),
  { minLength: 1, maxLength: 24 },
);

interface Simulated extends Turn {
  readonly behaves: Behaviour;
  endsAtMs: number;
}

function turnOf(behaves: Behaviour, index: number): Simulated {
  const { intervalSeconds, rpoSeconds } = behaves;
  return {
    behaves,
    endsAtMs: 0,
    job: {
      hypervisor: HOST,
      intervalMs: intervalSeconds * 1000,
      cycleCount: 0,
      cycle: { rpoSeconds },
      bandwidth: { isBusy: false },
    },
    vm: { id: testGuid(index), name: `vm${index}`, powerState: 'running' },
    seenAtMs: 0,
    startedCount: 0,
    startedAtMs: undefined,
    jitter: 1,
    hasPoint: false,
    isSuspect: false,
    movedAtMs: undefined,
    isRetired: false,
  };
}

const HOST = {};

/** Lets the VMs have their turns for an hour; returns the longest wait past due and deadline. */
function simulate(turns: readonly Simulated[]): number {
  let longestMs = 0;
  for (let nowMs = 0; nowMs < RUN_MS;) {
    for (const turn of turns) {
      if (!isRunning(turn)) continue;
      if (turn.behaves.isMoving) turn.movedAtMs = nowMs;
      if (turn.endsAtMs > nowMs) continue;
      const { isFailing } = turn.behaves;
      turn.hasPoint = !isFailing;
      turn.isSuspect = isFailing && nowMs - (turn.startedAtMs ?? 0) >= STALL_MS;
      turn.movedAtMs = undefined;
    }
    for (let next = nextTurn(turns, nowMs); next !== undefined; next = nextTurn(turns, nowMs)) {
      expect(isRunning(next) || isDone(next) || dueAtMs(next) > nowMs).to.equal(false);
      longestMs = Math.max(longestMs, nowMs - Math.max(dueAtMs(next), deadlineMs(next)));
      next.startedAtMs = nowMs;
      next.movedAtMs = nowMs;
      next.startedCount++;
      next.endsAtMs = nowMs + next.behaves.cycleSeconds * 1000;
    }
    const running = turns.filter(isRunning);
    const stalled = running.filter(({ movedAtMs = 0 }) => nowMs - movedAtMs >= STALL_MS);
    expect(running.length - stalled.length).to.be.at.most(PARALLEL_MAX);
    expect(stalled.length).to.be.at.most(STALLED_MAX + PARALLEL_MAX);
    const ends = running.map(({ endsAtMs }) => endsAtMs);
    nowMs = Math.max(nowMs + 1, Math.min(nextLookMs(turns, nowMs), nowMs + 10_000, ...ends));
  }
  return longestMs;
}

describe('turns', () => {
  it('nobody waits longer than for one turn of each of the others', function () {
    this.timeout(SLOW ? 600_000 : 60_000);
    fc.assert(
      fc.property(behaviours, (all) => {
        const turns = all.map(turnOf);
        const longestMs = simulate(turns);
        expect(longestMs).to.be.at.most((all.length + 1) * LONGEST_S * 1000);
        for (const { startedCount } of turns) expect(startedCount).to.be.at.least(1);
      }),
      { numRuns: SLOW ? 2000 : 40 },
    );
  });

  it('VMs that hang leave the others their pace', () => {
    const good = { intervalSeconds: 60, rpoSeconds: 120, cycleSeconds: 2, isFailing: false };
    const hanging = { ...good, cycleSeconds: 1800, isFailing: true, isMoving: false };
    const turns = [
      ...Array.from({ length: 10 }, () => hanging),
      ...Array.from({ length: 10 }, () => ({ ...good, isMoving: true })),
    ].map(turnOf);
    simulate(turns);
    for (const { behaves, startedCount } of turns) {
      if (!behaves.isFailing) expect(startedCount).to.be.at.least(55);
    }
  });
});
