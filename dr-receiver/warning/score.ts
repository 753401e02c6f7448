// From what a cycle brought to how much it looks like encryption: pure functions of numbers.
//
//   pressure   what one cycle adds: cells of content that turned into encrypted-looking ones, against
//              what is usual for this VM, and against all that the cycle brought
//   score      pressures summed up, less a little for each cycle. From ALARM on it is an alarm
//
// Both in thousandths. A sum finds the fast attack in its first cycle and the slow one in later ones;
// it also knows when it began to rise, which is where the last clean point is.

import { cellCount } from '../../shared/delta/index.js';
import type { DiskRecord } from '../store/records.js';

/** A score of one. */
export const ALARM = 1000;
/** From here on people are told. */
export const SUSPICION = 300;
/** A score does not rise beyond, so that it falls again in a bounded time. */
const SCORE_MAX = 4000;

/** So many turned cells make a pressure of one when none is usual: 4 MiB. */
const TURNED_FLOOR = 64;
/** And so many times what is usual. */
const TURNED_FACTOR = 8;
/** Up to so many times the usual, turned cells are nothing. */
const USUAL_MARGIN = 2;
/**
 * From this share of a cycle's data on, turned cells count in full. Whoever encrypts writes little
 * else; an update that brings compressed files among others has a share of a few per cent.
 */
const FULL_SHARE = 0.2;
/** What the score loses with each cycle: three cells a cycle are nothing. */
const DRIFT = 50;

/** More than this times the usual is told as a reason. */
const UNUSUAL_FACTOR = 4;
const MIN_CYCLES_FOR_USUAL = 3;
const MOSTLY = 0.9;
const CELLS_PER_MIB = 16;

/** What a cycle brought, over all disks that came as deltas. Whole numbers. */
export interface CycleFeatures {
  readonly dataCells: number;
  /** Of the disks. */
  readonly diskCells: number;
  /** Cells with a block that looks random. */
  readonly random: number;
  /** Of these, cells of content that looks encrypted now; estimated. */
  readonly turned: number;
  /** Of these, cells where nothing was before; estimated. */
  readonly fresh: number;
  /** A sample of the other cells, and those of it that replaced data. */
  readonly others: number;
  readonly rewritten: number;
}

/** Undefined when nothing was compared: a seed, or cells that nobody looked at. */
export function featuresOf(disks: readonly DiskRecord[]): CycleFeatures | undefined {
  let dataCells = 0;
  let diskCells = 0;
  let random = 0;
  let turned = 0;
  let fresh = 0;
  let others = 0;
  let rewritten = 0;
  let isKnown = false;
  for (const { transfer, signs, dataCellCount, sizeBytes } of disks) {
    if (transfer === 'base' || signs === undefined) continue;
    isKnown = true;
    dataCells += dataCellCount;
    diskCells += cellCount(sizeBytes);
    random += signs.random;
    others += signs.others;
    rewritten += signs.rewritten;
    if (signs.compared === 0) continue;
    const each = signs.random / signs.compared;
    // one cell of a sample says nothing about a hundred others
    const sure = signs.random > signs.compared ? Math.max(0, signs.turned - 1) : signs.turned;
    turned += sure * each;
    fresh += signs.fresh * each;
  }
  if (!isKnown) return undefined;
  turned = Math.round(turned);
  fresh = Math.round(fresh);
  return { dataCells, diskCells, random, turned, fresh, others, rewritten };
}

/** What is usual for a VM: medians over its last cycles. */
export interface Usual {
  readonly cycles: number;
  readonly dataCells: number;
  readonly randomShare: number;
  readonly turned: number;
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}

export function usualOf(history: readonly CycleFeatures[]): Usual {
  const withData = history.filter(({ dataCells }) => dataCells > 0);
  return {
    cycles: withData.length,
    dataCells: median(withData.map(({ dataCells }) => dataCells)),
    randomShare: median(withData.map(({ dataCells, random }) => random / dataCells)),
    turned: median(withData.map(({ turned }) => turned)),
  };
}

export interface Pressure {
  readonly pressure: number;
  /** The first one is about the turned cells; the others tell what else is unusual. */
  readonly reasons: readonly string[];
}

export function pressureOf(features: CycleFeatures, usual: Usual): Pressure {
  const { dataCells, diskCells, random, turned, others, rewritten } = features;
  const excess = turned - USUAL_MARGIN * usual.turned;
  if (dataCells === 0 || excess <= 0) return { pressure: 0, reasons: [] };
  const weight = Math.min(1, excess / dataCells / FULL_SHARE);
  const scale = Math.max(TURNED_FLOOR, TURNED_FACTOR * usual.turned);
  const pressure = Math.round(Math.min(SCORE_MAX, (1000 * weight * excess) / scale));
  if (pressure === 0) return { pressure, reasons: [] };
  const mib = (cells: number): string => `${Math.max(1, Math.round(cells / CELLS_PER_MIB))} MiB`;
  const percent = (share: number): string => `${Math.round(100 * Math.min(1, share))} %`;
  const reasons = [
    `in about ${turned} cells (${percent(turned / dataCells)} of what came) content ` +
      'gave way to bytes that look encrypted',
  ];
  if (usual.cycles >= MIN_CYCLES_FOR_USUAL) {
    const randomShare = random / dataCells;
    if (randomShare > 0.5 && randomShare > UNUSUAL_FACTOR * usual.randomShare) {
      reasons.push(`${percent(randomShare)} looks random, usually ${percent(usual.randomShare)}`);
    }
    if (dataCells > UNUSUAL_FACTOR * usual.dataCells) {
      const share = percent(dataCells / diskCells);
      reasons.push(`${mib(dataCells)} changed (${share}), usually ${mib(usual.dataCells)}`);
    }
  }
  if (others > 0 && rewritten / others > MOSTLY) {
    reasons.push(`${percent(rewritten / others)} of the other cells replaced data as well`);
  }
  return { pressure, reasons };
}

/** The score after a cycle with this pressure. */
export function nextScore(score: number, pressure: number): number {
  return Math.min(SCORE_MAX, Math.max(0, score + pressure - DRIFT));
}
