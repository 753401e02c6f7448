// How old the newest point of a VM will be when the next one takes its place: a pure function of how
// its cycles came so far and of the one under way. Monitoring is told before the RPO is missed.

export interface ActiveCycle {
  /** Since it was opened, or opened again. */
  readonly elapsedMs: number;
  /** Bytes of the cells that came since then. */
  readonly cameBytes: number;
  /** Bytes of all cells that it named so far. */
  readonly namedBytes: number;
  /** What the source expects to name; 0: it does not know. */
  readonly expectedBytes: number;
}

export interface ForecastInput {
  readonly nowMs: number;
  readonly newestPointAtMs: number | undefined;
  /** 0: none was asked for. */
  readonly rpoSeconds: number;
  /** Between the last commits. */
  readonly intervalsMs: readonly number[];
  readonly active: ActiveCycle | undefined;
}

export interface Forecast {
  readonly newestAgeSeconds: number;
  /** False also when it is missed already. */
  readonly willMissRpo: boolean;
  readonly because: string;
}

/** A rhythm is known from so many intervals on. */
const INTERVALS_MIN = 3;
/** A cycle is judged by its rate after so long. */
const RATE_AFTER_MS = 1000;

/** undefined: there is nothing to go by. */
export function forecast(input: ForecastInput): Forecast | undefined {
  const { nowMs, newestPointAtMs, rpoSeconds } = input;
  if (newestPointAtMs === undefined) return undefined;
  const expected = byRate(input) ?? byRhythm(input, newestPointAtMs);
  if (expected === undefined) return undefined;
  const { nextAtMs, because } = expected;
  const rpoMs = rpoSeconds * 1000;
  const ageMs = nextAtMs - newestPointAtMs;
  const isMissed = nowMs - newestPointAtMs >= rpoMs;
  return {
    newestAgeSeconds: Math.round(ageMs / 1000),
    willMissRpo: rpoMs > 0 && !isMissed && ageMs >= rpoMs,
    because,
  };
}

interface Expected {
  readonly nextAtMs: number;
  readonly because: string;
}

/** By what the cycle under way has brought; undefined: that tells nothing. */
function byRate({ nowMs, active }: ForecastInput): Expected | undefined {
  if (active === undefined) return undefined;
  const { elapsedMs, cameBytes, namedBytes, expectedBytes } = active;
  if (expectedBytes === 0 || cameBytes === 0 || elapsedMs < RATE_AFTER_MS) return undefined;
  const leftBytes = Math.max(0, expectedBytes - namedBytes);
  const leftMs = (leftBytes * elapsedMs) / cameBytes;
  const share = Math.min(100, Math.floor((namedBytes * 100) / expectedBytes));
  const seconds = Math.round(elapsedMs / 1000);
  return {
    nextAtMs: nowMs + leftMs,
    because: `the cycle under way brought ${share} % in ${seconds} s`,
  };
}

/** By how the points came so far. */
function byRhythm(
  { nowMs, intervalsMs }: ForecastInput,
  newestPointAtMs: number,
): Expected | undefined {
  if (intervalsMs.length < INTERVALS_MIN) return undefined;
  const sorted = intervalsMs.toSorted((one, other) => one - other);
  const intervalMs = sorted[Math.floor((sorted.length - 1) / 2)] ?? 0;
  const seconds = Math.round(intervalMs / 1000);
  const nextAtMs = newestPointAtMs + intervalMs;
  if (nextAtMs >= nowMs) return { nextAtMs, because: `points came every ${seconds} s` };
  const ageSeconds = Math.round((nowMs - newestPointAtMs) / 1000);
  return {
    nextAtMs: nowMs,
    because: `points came every ${seconds} s, and none has come for ${ageSeconds} s`,
  };
}
