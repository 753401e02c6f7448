// The early warning of one VM, as its journal tells it: what its last cycles were like, how high the
// score is, whether an alarm is open. A part of the fold of protection.ts. Memory is bounded, and a
// verdict is never made again: it stands in the record of its commit.

import type { Guid } from '../../shared/bytes/index.js';
import type {
  ClearAlarmRecord,
  CommitRecord,
  CommitWarning,
  DiskRecord,
} from '../store/records.js';
import {
  ALARM,
  type CycleFeatures,
  featuresOf,
  nextScore,
  pressureOf,
  SUSPICION,
  usualOf,
} from './score.js';
import type { WarningRecord } from './warning-record.js';

/** Cycles of which the usual is made. */
const HISTORY_CYCLES = 32;

export interface Alarm {
  /** The point that raised it, by which it is named. */
  readonly pointId: Guid;
  readonly atMs: number;
  /** Undefined: the alarm came with the first points. */
  readonly cleanPointId: Guid | undefined;
  readonly reasons: readonly string[];
}

export class WarningState {
  #history: CycleFeatures[] = [];
  /** Cycles since the score began to rise: they become usual when it was nothing, and not before. */
  #setAside: CycleFeatures[] = [];
  #score = 0;
  #cleanPointId: Guid | undefined;
  #alarm: Alarm | undefined;

  /** Open until an operator clears it. */
  get alarm(): Alarm | undefined {
    return this.#alarm;
  }

  /** Thousandths of an alarm. */
  get score(): number {
    return this.#score;
  }

  /** Nothing points to encryption, not even a little. */
  get isQuiet(): boolean {
    return this.#alarm === undefined && this.#score === 0;
  }

  /** Points that came since are looked at with doubt, though there may be no alarm. */
  get isSuspicious(): boolean {
    return this.#alarm !== undefined || this.#score >= SUSPICION;
  }

  /**
   * The last point before the score began to rise; kept by retention as long as it has not fallen
   * to 0, or an alarm is open. Undefined: there is no such point.
   */
  get cleanPointId(): Guid | undefined {
    return this.#alarm === undefined ? this.#cleanPointId : this.#alarm.cleanPointId;
  }

  /** What a commit after `head` means. Undefined: nothing. */
  judge(disks: readonly DiskRecord[], head: Guid | undefined): CommitWarning | undefined {
    const features = featuresOf(disks);
    const { pressure, reasons } =
      features === undefined
        ? { pressure: 0, reasons: [] }
        : pressureOf(features, usualOf(this.#history));
    const score = nextScore(this.#score, pressure);
    if (score === 0) return undefined;
    const clean = this.#score === 0 ? head : this.#cleanPointId;
    const isAlarm = score >= ALARM && this.#alarm === undefined;
    return { pressure, score, cleanPointId: clean ?? null, isAlarm, reasons };
  }

  commit({ warning, disks, pointId, atMs }: CommitRecord): void {
    this.#score = warning?.score ?? 0;
    this.#cleanPointId = warning?.cleanPointId ?? undefined;
    if (warning?.isAlarm === true) {
      this.#alarm ??= {
        pointId,
        atMs,
        cleanPointId: this.#cleanPointId,
        reasons: warning.reasons,
      };
    }
    const features = featuresOf(disks);
    if (features !== undefined) this.#setAside.push(features);
    if (this.#score === 0) this.#learn();
    else if (this.#setAside.length > HISTORY_CYCLES) this.#setAside.shift();
  }

  #learn(): void {
    this.#history = [...this.#history, ...this.#setAside].slice(-HISTORY_CYCLES);
    this.#setAside = [];
  }

  /** All of it, for a journal that is written anew. */
  get record(): WarningRecord {
    return {
      score: this.#score,
      cleanPointId: this.#cleanPointId ?? null,
      alarm:
        this.#alarm === undefined
          ? null
          : { ...this.#alarm, cleanPointId: this.#alarm.cleanPointId ?? null },
      history: [...this.#history],
      setAside: [...this.#setAside],
    };
  }

  restore({ score, cleanPointId, alarm, history, setAside }: WarningRecord): void {
    this.#score = score;
    this.#cleanPointId = cleanPointId ?? undefined;
    this.#alarm =
      alarm === null ? undefined : { ...alarm, cleanPointId: alarm.cleanPointId ?? undefined };
    this.#history = history.slice(-HISTORY_CYCLES);
    this.#setAside = setAside.slice(-HISTORY_CYCLES);
  }

  /** Returns why there is nothing to clear, or undefined. */
  clear({ pointId }: ClearAlarmRecord): string | undefined {
    if (this.#alarm?.pointId !== pointId) return `point ${pointId} has raised no open alarm`;
    this.#alarm = undefined;
    this.#score = 0;
    this.#cleanPointId = undefined;
    this.#learn();
    return undefined;
  }
}
