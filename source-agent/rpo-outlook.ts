// Whether the RPO can hold at the pace that was measured: a pure function of what ordinary cycles
// took. Seeds and compares are not in it: they pass.

/** One VM of one job. */
export interface MeasuredPace {
  readonly key: string;
  readonly vmName: string;
  readonly rpoSeconds: number;
  /** Of each of its last ordinary cycles, the oldest first. */
  readonly durationsMs: readonly number[];
}

export interface Outlook {
  /** The same for the same trouble. */
  readonly key: string;
  /** Above 1 it cannot hold. */
  readonly share: number;
  readonly text: string;
}

/** Cycles that are looked at. */
export const MEASURED_CYCLES = 8;
/** Of a VM, before anything is said. */
const CYCLES_MIN = 3;
/** Of a cycle's time the RPO is at least: a cycle under way, and the point before it. */
const CYCLES_PER_RPO = 2;

/** One entry for each VM that was measured, and one for all together. */
export function rpoOutlook(paces: readonly MeasuredPace[], parallelMax: number): Outlook[] {
  const outlooks: Outlook[] = [];
  let places = 0;
  let totalMs = 0;
  for (const { key, vmName, rpoSeconds, durationsMs } of paces) {
    if (durationsMs.length < CYCLES_MIN) continue;
    const cycleMs = median(durationsMs);
    const rpoMs = rpoSeconds * 1000;
    const seconds = (cycleMs / 1000).toFixed(1);
    outlooks.push({
      key,
      share: (cycleMs * CYCLES_PER_RPO) / rpoMs,
      text: `rpo_seconds=${rpoSeconds} of ${vmName} is less than two of its cycles, which take ${seconds} s`,
    });
    totalMs += cycleMs;
    // a cycle has to begin so early that it ends within the RPO of the one before
    places += cycleMs < rpoMs ? cycleMs / (rpoMs - cycleMs) : parallelMax;
  }
  const total = (totalMs / 1000).toFixed(1);
  outlooks.push({
    key: '',
    share: places / parallelMax,
    text: `the cycles of ${outlooks.length} VMs take ${total} s together, ${parallelMax} at a time: their RPO cannot hold`,
  });
  return outlooks;
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((one, other) => one - other);
  return sorted[Math.floor((sorted.length - 1) / 2)] ?? 0;
}

/** Remembers what was said: each trouble once, until it has passed. */
export class OutlookMemory {
  readonly #told = new Set<string>();

  /** Those that are new. */
  news(outlooks: readonly Outlook[]): Outlook[] {
    const keys = new Set(outlooks.map(({ key }) => key));
    for (const key of this.#told) if (!keys.has(key)) this.#told.delete(key);
    return outlooks.filter(({ key, share }) => {
      if (share < PASSED) this.#told.delete(key);
      if (share <= 1 || this.#told.has(key)) return false;
      this.#told.add(key);
      return true;
    });
  }
}

/** Below it a trouble has passed; above, it may come and go with every cycle. */
const PASSED = 0.8;
