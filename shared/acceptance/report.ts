// The report of an acceptance, for a person who decides about a release, and for a program.

import type { JsonObject } from '../json.js';
import type { Verdict } from './bench.js';
import { FACT_IDS, type FactId, factOf } from './facts.js';
import type { Acceptance } from './run.js';

const FORMAT = 1;

export interface About {
  readonly version: string;
  readonly platform: string;
}

export function acceptanceDocument(
  { host, startedAtMs, probes, answers, leftovers, leftBehind }: Acceptance,
  { version, platform }: About,
): JsonObject {
  return {
    ...{ format: FORMAT, host, version, platform },
    startedAt: new Date(startedAtMs).toISOString(),
    counts: countsOf(answers),
    facts: FACT_IDS.map((id) => {
      const { section, says, source, how } = factOf(id);
      const { verdict, evidence } = answerTo(id, answers);
      return { ...{ id, section, says, source, verdict, evidence }, how };
    }),
    probes: probes.map((probe) => ({ ...probe })),
    ...{ leftovers, leftBehind },
  };
}

/** Refuted facts first, then what is open, with what to do. */
export function acceptanceText(acceptance: Acceptance): string {
  const { host, probes, answers, leftovers, leftBehind } = acceptance;
  const counts = countsOf(answers);
  const lines = [
    `${host}: ${counts.confirmed} facts confirmed, ${counts.refuted} refuted, ${counts['not answered']} not answered`,
  ];
  for (const verdict of ['refuted', 'confirmed', 'not answered'] as const) {
    for (const id of FACT_IDS) {
      const answer = answerTo(id, answers);
      if (answer.verdict !== verdict) continue;
      const { section, says, how, source } = factOf(id);
      lines.push(`${MARKS[verdict]} ${id} (§ ${section}): ${says}`, `      ${answer.evidence}`);
      if (verdict === 'refuted' || source === 'hand') lines.push(`      → ${how}`);
    }
  }
  for (const { name, outcome, detail } of probes) {
    if (outcome === 'failed') lines.push(`the probe ${name} failed: ${detail}`);
  }
  if (leftovers.length > 0) lines.push(`of a former run, removed: ${leftovers.join(', ')}`);
  for (const what of leftBehind)
    lines.push(`not removed, and tried again by the next run: ${what}`);
  return lines.join('\n');
}

const MARKS = { confirmed: 'yes  ', refuted: 'NO   ', 'not answered': 'open ' } as const;

function answerTo(
  id: FactId,
  answers: Acceptance['answers'],
): { verdict: Verdict; evidence: string } {
  return answers.get(id) ?? { verdict: 'not answered', evidence: 'not asked' };
}

function countsOf(answers: Acceptance['answers']): Readonly<Record<Verdict, number>> {
  const counts = { confirmed: 0, refuted: 0, 'not answered': 0 };
  for (const id of FACT_IDS) counts[answerTo(id, answers).verdict]++;
  return counts;
}

/** Whether the host can be relied on as far as it was asked. */
export function isAccepted({ answers, probes, leftBehind }: Acceptance): boolean {
  const isRefuted = [...answers.values()].some(({ verdict }) => verdict === 'refuted');
  return (
    !isRefuted && probes.every(({ outcome }) => outcome !== 'failed') && leftBehind.length === 0
  );
}
