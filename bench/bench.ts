// What a bench is: one question, answered by running contenders in turns. The files in benches/
// describe them; rounds.ts runs them; report.ts words the result.

import type { Clock } from '../shared/clock.js';
import type { Measurement, Step } from './measure.js';
import type { Product } from './product.js';
import type { Services } from './services.js';

export interface Contender {
  /** Unique within the bench. */
  readonly name: string;
  /** `limit` is what the machine can do at best, without the work in question. */
  readonly role: 'ours' | 'peer' | 'limit';
  /** Bytes that the work is about, for MB/s and CPU s/GB. 0: neither is shown. */
  readonly payloadBytes: number;
  /** Read once before each round, so that every contender finds its input in the page cache. */
  readonly inputs?: readonly string[];
  /** Puts the files back to where they were before the work. Not measured. Rounds count from 0. */
  prepare?(round: number): Promise<void>;
  /** Starts the programs that run beside the work; the runner stops them. Not measured. */
  serve?(services: Services, round: number): Promise<void>;
  /** The work, measured as one. Ends durable. */
  commands(round: number): readonly Step[];
  /** Judges the result of round 0, its services stopped; throws when it is wrong. Not measured. */
  verify?(): Promise<void>;
}

/** The median of one contender's rounds, by name. */
export type MedianOf = (contender: string) => Measurement;

export interface Goal {
  readonly text: string;
  readonly unit: 'x' | 'MiB' | 'MB/s' | 's' | 'cores' | 'cycles';
  readonly bound: 'at least' | 'at most';
  readonly value: number;
  figure(medianOf: MedianOf): number;
}

export interface BenchContext {
  /** Folder for this bench alone; it is removed afterwards. */
  readonly folder: string;
  readonly product: Product;
  readonly clock: Clock;
  /** Size of the data: the bench's own, or another for a try. 0 when the bench names none. */
  readonly sizeBytes: number;
  /** A bench that goes on for a fixed time makes that short; its figures are no result. */
  readonly isQuick: boolean;
}

export interface PreparedBench {
  readonly contenders: readonly Contender[];
  readonly goals: readonly Goal[];
  /** Sizes and choices, for the record. */
  readonly settings: Readonly<Record<string, string | number>>;
  /** Ends what runs through all rounds. */
  close?(): Promise<void>;
}

export interface Bench {
  readonly name: string;
  /** One sentence: what is done and what it is compared with. */
  readonly question: string;
  /** Disk space that the work folder takes at most, with data of its own size. */
  readonly spaceBytes: number;
  /** Size of the data; only a bench that names one can be tried with another. */
  readonly sizeBytes?: number;
  /** Programs of others that must be installed. */
  readonly programs: readonly string[];
  /** Rounds when the command line names no number; default 5. */
  readonly rounds?: number;
  prepare(context: BenchContext): Promise<PreparedBench>;
}

/** Disk space for data of `sizeBytes`. */
export function spaceFor({ spaceBytes, sizeBytes: ownBytes }: Bench, sizeBytes: number): number {
  return ownBytes === undefined ? spaceBytes : Math.ceil((spaceBytes / ownBytes) * sizeBytes);
}

export const KIB = 1024;
export const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;
export const TIB = 1024 * GIB;

/** How many times faster `ours` is than `other`, by wall time. */
export function speedRatio(medianOf: MedianOf, ours: string, other: string): number {
  return medianOf(other).wallSeconds / medianOf(ours).wallSeconds;
}

/** The goal "`ours` takes at most `value` times the CPU time of `peer`". */
export function cpuGoal(ours: string, peer: string, value: number): Goal {
  return {
    text: `CPU time against ${peer}`,
    unit: 'x',
    bound: 'at most',
    value,
    figure: (medianOf) => medianOf(ours).cpuSeconds / medianOf(peer).cpuSeconds,
  };
}

/** The goal "`ours` is at least `value` times as fast as `peer`". */
export function speedGoal(ours: string, peer: string, value: number): Goal {
  return {
    text: `speed against ${peer}`,
    unit: 'x',
    bound: 'at least',
    value,
    figure: (medianOf) => speedRatio(medianOf, ours, peer),
  };
}
