// Runs a prepared bench: all contenders in turns, round after round, so that whatever else the
// machine does falls on all of them alike; the order turns round in every second round. Before each
// measurement the files are put back, the file system is synced, free memory is touched and the
// inputs are read once.

import { defined } from '../shared/assert.js';
import type { Clock } from '../shared/clock.js';
import { type Contender, GIB, type Goal, type MedianOf, type PreparedBench } from './bench.js';
import { measure, type Measurement, perform } from './measure.js';
import { touchFreeMemory } from './memory-touch.js';
import { cat, syncFileSystem } from './peers.js';
import { Services } from './services.js';
import { median, orderOfRound } from './statistics.js';

export interface ContenderResult {
  readonly name: string;
  readonly role: Contender['role'];
  readonly payloadBytes: number;
  readonly rounds: readonly Measurement[];
  readonly median: Measurement;
}

export interface GoalResult {
  readonly text: string;
  readonly unit: Goal['unit'];
  readonly bound: Goal['bound'];
  readonly value: number;
  readonly figure: number;
  readonly isMet: boolean;
}

export interface RoundsOptions {
  readonly folder: string;
  readonly rounds: number;
  readonly clock: Clock;
  /** Told before each measurement. */
  readonly onStep: (text: string) => void;
}

/** @throws DrError when a command fails or the judge of a result finds it wrong */
export async function runRounds(
  { contenders, goals }: PreparedBench,
  options: RoundsOptions,
): Promise<{ contenders: ContenderResult[]; goals: GoalResult[] }> {
  const rounds = new Map<string, Measurement[]>(contenders.map(({ name }) => [name, []]));
  for (let round = 0; round < options.rounds; round += 1) {
    for (const index of orderOfRound(contenders.length, round)) {
      const contender = defined(contenders[index], 'the order holds places of contenders');
      options.onStep(`round ${round + 1} of ${options.rounds}: ${contender.name}`);
      const measured = await runOnce(contender, round, options);
      defined(rounds.get(contender.name), 'every contender has rounds').push(measured);
    }
  }
  const results = contenders.map(({ name, role, payloadBytes }) => {
    const measured = defined(rounds.get(name), 'every contender has rounds');
    return { name, role, payloadBytes, rounds: measured, median: medianMeasurement(measured) };
  });
  const medianOf: MedianOf = (name) =>
    defined(
      results.find((result) => result.name === name),
      'a goal names a contender',
    ).median;
  return { contenders: results, goals: goals.map((goal) => judge(goal, medianOf)) };
}

async function runOnce(
  contender: Contender,
  round: number,
  { folder, clock }: RoundsOptions,
): Promise<Measurement> {
  await contender.prepare?.(round);
  const services = new Services(clock);
  let measured: Measurement;
  try {
    await contender.serve?.(services, round);
    await perform(syncFileSystem(folder));
    if (contender.payloadBytes > 0) {
      await touchFreeMemory(folder, 2 * contender.payloadBytes + GIB);
    }
    if (contender.inputs !== undefined) await perform(cat(...contender.inputs));
    measured = await measure(contender.commands(round), clock, services);
  } finally {
    await services.stopAll();
  }
  if (round === 0) await contender.verify?.();
  return measured;
}

/** Each figure's own median: they need not come from one round. */
function medianMeasurement(rounds: readonly Measurement[]): Measurement {
  const shares = rounds.flatMap(({ services }) => services ?? []);
  return {
    wallSeconds: median(rounds.map(({ wallSeconds }) => wallSeconds)),
    cpuSeconds: median(rounds.map(({ cpuSeconds }) => cpuSeconds)),
    peakRssBytes: median(rounds.map(({ peakRssBytes }) => peakRssBytes)),
    ...(shares.length > 0 && {
      services: {
        cpuSeconds: median(shares.map(({ cpuSeconds }) => cpuSeconds)),
        peakRssBytes: median(shares.map(({ peakRssBytes }) => peakRssBytes)),
      },
    }),
  };
}

function judge(goal: Goal, medianOf: MedianOf): GoalResult {
  const { text, unit, bound, value } = goal;
  const figure = goal.figure(medianOf);
  const isMet = bound === 'at least' ? figure >= value : figure <= value;
  return { text, unit, bound, value, figure, isMet };
}
