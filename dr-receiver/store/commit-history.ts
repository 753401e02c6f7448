// What the commits of a VM tell of its RPO: the pauses between them, and for how long the newest point
// was older than was asked for. Fed record by record; its size does not grow with their number.

const DAY_MS = 24 * 60 * 60 * 1000;
const INTERVALS_KEPT = 8;
const DAYS_KEPT = 7;

export interface ViolatedDay {
  /** Days since 1970-01-01, UTC. */
  readonly day: number;
  readonly violatedMs: number;
}

/** A history as values, for a journal that is written anew. */
export interface HistoryState {
  readonly intervalsMs: readonly number[];
  readonly violatedDays: readonly ViolatedDay[];
  readonly lastAtMs: number;
  readonly rpoMs: number;
}

export class CommitHistory {
  readonly #intervalsMs: number[] = [];
  readonly #violatedMs = new Map<number, number>();
  #lastAtMs: number | undefined;
  #rpoMs = 0;

  /** undefined before the first commit. */
  get state(): HistoryState | undefined {
    if (this.#lastAtMs === undefined) return undefined;
    return {
      intervalsMs: [...this.#intervalsMs],
      violatedDays: [...this.#violatedMs].map(([day, violatedMs]) => ({ day, violatedMs })),
      lastAtMs: this.#lastAtMs,
      rpoMs: this.#rpoMs,
    };
  }

  /** Goes on from where another history was. */
  restore({ intervalsMs, violatedDays, lastAtMs, rpoMs }: HistoryState): void {
    this.#intervalsMs.push(...intervalsMs.slice(-INTERVALS_KEPT));
    for (const { day, violatedMs } of violatedDays) this.#violatedMs.set(day, violatedMs);
    this.#lastAtMs = lastAtMs;
    this.#rpoMs = rpoMs;
  }

  /** The last pauses between two commits, the oldest first. */
  get intervalsMs(): readonly number[] {
    return this.#intervalsMs;
  }

  /** `rpoSeconds` holds from this commit on; 0: none was asked for. */
  commit(atMs: number, rpoSeconds: number): void {
    if (this.#lastAtMs !== undefined) {
      this.#intervalsMs.push(Math.max(0, atMs - this.#lastAtMs));
      if (this.#intervalsMs.length > INTERVALS_KEPT) this.#intervalsMs.shift();
      addViolation(this.#violatedMs, this.#lastAtMs, this.#rpoMs, atMs);
    }
    this.#lastAtMs = atMs;
    this.#rpoMs = rpoSeconds * 1000;
    for (const day of this.#violatedMs.keys()) {
      if (day <= Math.floor(atMs / DAY_MS) - DAYS_KEPT) this.#violatedMs.delete(day);
    }
  }

  /** The days of the last week with a violation, the oldest first; the present one up to now. */
  violatedDays(nowMs: number): ViolatedDay[] {
    const days = new Map(this.#violatedMs);
    if (this.#lastAtMs !== undefined) addViolation(days, this.#lastAtMs, this.#rpoMs, nowMs);
    const today = Math.floor(nowMs / DAY_MS);
    return [...days]
      .filter(([day]) => day > today - DAYS_KEPT && day <= today)
      .map(([day, violatedMs]) => ({ day, violatedMs }))
      .sort((one, other) => one.day - other.day);
  }
}

/** Enters the time after a commit in which its point was too old, until the next one came. */
function addViolation(
  days: Map<number, number>,
  commitMs: number,
  rpoMs: number,
  untilMs: number,
): void {
  if (rpoMs === 0) return;
  // what is longer ago than is kept need not be looked at
  let atMs = Math.max(commitMs + rpoMs, untilMs - (DAYS_KEPT + 1) * DAY_MS);
  while (atMs < untilMs) {
    const day = Math.floor(atMs / DAY_MS);
    const endMs = Math.min(untilMs, (day + 1) * DAY_MS);
    days.set(day, (days.get(day) ?? 0) + (endMs - atMs));
    atMs = endMs;
  }
}
