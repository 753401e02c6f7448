// `24h/1h,7d/1d,4w/1w`: for so long back, one point for each step of time. Pure.

/** One part of a grid. Milliseconds; the step is not longer than the span. */
export interface GridRule {
  readonly spanMs: number;
  readonly stepMs: number;
  /** As it was written, for people. */
  readonly text: string;
}

const HOUR_MS = 3_600_000;
const UNITS: Readonly<Record<string, number>> = {
  h: HOUR_MS,
  d: 24 * HOUR_MS,
  w: 7 * 24 * HOUR_MS,
};
const RULES_MAX = 8;
const SPAN_MAX_MS = 3660 * 24 * HOUR_MS;
/** Points that all rules together can ask for. */
const STEPS_MAX = 1000;

/** The rules of a grid, or what is wrong with it; `wrong` continues the sentence "the value …". */
export function parseRetentionGrid(text: string): readonly GridRule[] | { readonly wrong: string } {
  const parts = text.split(',').map((part) => part.trim());
  if (parts.length > RULES_MAX) return { wrong: `has more than ${RULES_MAX} parts` };
  const rules: GridRule[] = [];
  let stepCount = 0;
  for (const part of parts) {
    const match = /^(\d{1,6})([hdw])\/(\d{1,6})([hdw])$/.exec(part);
    if (match === null) return { wrong: 'holds a part that is not SPAN/STEP' };
    const [, span, spanUnit = '', step, stepUnit = ''] = match;
    const spanMs = Number(span) * (UNITS[spanUnit] ?? Number.NaN);
    const stepMs = Number(step) * (UNITS[stepUnit] ?? Number.NaN);
    if (stepMs === 0) return { wrong: 'holds a step of no time' };
    if (stepMs > spanMs) return { wrong: 'holds a step that is longer than its span' };
    if (spanMs > SPAN_MAX_MS) return { wrong: 'reaches back more than ten years' };
    stepCount += Math.ceil(spanMs / stepMs);
    rules.push({ spanMs, stepMs, text: part });
  }
  if (stepCount > STEPS_MAX) return { wrong: `asks for ${stepCount} points` };
  return rules;
}
