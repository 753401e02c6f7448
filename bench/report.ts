// Words a result: a JSON line for programs, a table for a terminal, Markdown for the docs. The
// Markdown is made from the JSON lines alone, so that docs/performance.md can be made again from a
// kept record. Pure.

import type { Bench } from './bench.js';
import type { Machine, Revision } from './machine.js';
import type { ContenderResult, GoalResult } from './rounds.js';
import { cpuSecondsPerGigabyte, megabytesPerSecond, spread } from './statistics.js';
import { type Column, markdownTable, textTable } from './table.js';

export interface BenchRecord {
  readonly format: 'hvdr-bench';
  readonly version: 1;
  readonly bench: Bench['name'];
  readonly question: string;
  /** ISO 8601, when the bench ended. */
  readonly time: string;
  readonly machine: Machine;
  readonly revision: Revision;
  readonly settings: Readonly<Record<string, string | number>>;
  readonly contenders: readonly ContenderResult[];
  readonly goals: readonly GoalResult[];
}

const SERVER_COLUMNS = ['of it server', 'server RSS MiB'] as const;
const COLUMNS: readonly Column[] = [
  { title: 'contender', align: 'left' },
  { title: 'wall s', align: 'right' },
  { title: '±', align: 'right' },
  { title: 'MB/s', align: 'right' },
  { title: 'CPU s', align: 'right' },
  { title: SERVER_COLUMNS[0], align: 'right' },
  { title: 'CPU s/GB', align: 'right' },
  { title: 'peak RSS MiB', align: 'right' },
  { title: SERVER_COLUMNS[1], align: 'right' },
];

/** Columns and rows of a record; without those of servers when there were none. */
function tableOf({ contenders }: BenchRecord): readonly [readonly Column[], string[][]] {
  const rows = contenders.map(contenderRow);
  if (contenders.some(({ median }) => median.services !== undefined)) return [COLUMNS, rows];
  const isKept = (index: number): boolean =>
    !SERVER_COLUMNS.some((title) => title === COLUMNS[index]?.title);
  return [
    COLUMNS.filter((_, index) => isKept(index)),
    rows.map((row) => row.filter((_, index) => isKept(index))),
  ];
}

function contenderRow({ name, role, payloadBytes, rounds, median }: ContenderResult): string[] {
  const { wallSeconds, cpuSeconds, peakRssBytes, services } = median;
  const hasPayload = payloadBytes > 0;
  return [
    role === 'ours' ? name : `${name} (${role})`,
    wallSeconds.toFixed(wallSeconds < 10 ? 3 : 1),
    `${(spread(rounds.map((round) => round.wallSeconds)) * 100).toFixed(0)} %`,
    hasPayload ? megabytesPerSecond(payloadBytes, wallSeconds).toFixed(0) : '',
    cpuSeconds.toFixed(2),
    services?.cpuSeconds.toFixed(2) ?? '',
    hasPayload ? cpuSecondsPerGigabyte(cpuSeconds, payloadBytes).toFixed(2) : '',
    (peakRssBytes / 2 ** 20).toFixed(0),
    services === undefined ? '' : (services.peakRssBytes / 2 ** 20).toFixed(0),
  ];
}

/** `met 1.25x (at least 1.00x): speed against qemu-img convert` */
export function goalLine({ text, unit, bound, value, figure, isMet }: GoalResult): string {
  const amount = (number: number): string =>
    unit === 'MiB' || unit === 'MB/s' || unit === 'cycles'
      ? `${number.toFixed(0)} ${unit}`
      : `${number.toFixed(2)}${unit === 'x' ? '' : ' '}${unit}`;
  return `${isMet ? 'met' : 'MISSED'}: ${text} ${amount(figure)} (wanted ${bound} ${amount(value)})`;
}

function settingsLine(settings: BenchRecord['settings']): string {
  return Object.entries(settings)
    .map(([name, value]) => `${name} ${value}`)
    .join(', ');
}

/** One line, to be kept. */
export function jsonLine(record: BenchRecord): string {
  return JSON.stringify(record);
}

/**
 * A record of jsonLine(), or undefined when the line says that it is none of this version. Beyond
 * that the line is trusted: records are our own files, kept beside the docs.
 */
export function parseRecord(line: string): BenchRecord | undefined {
  const record = JSON.parse(line) as Partial<BenchRecord>;
  return isRecord(record) ? record : undefined;
}

function isRecord(record: Partial<BenchRecord>): record is BenchRecord {
  const { format, version } = record;
  return format === 'hvdr-bench' && version === 1;
}

/** For a terminal. */
export function textReport(record: BenchRecord): string {
  return [
    `${record.bench}: ${record.question}`,
    `  ${settingsLine(record.settings)}`,
    ...textTable(...tableOf(record)).map((line) => `  ${line}`),
    ...record.goals.map((goal) => `  ${goalLine(goal)}`),
  ].join('\n');
}

/** A section of docs/performance.md. */
export function markdownReport(record: BenchRecord): string {
  const { revision } = record;
  const commit = `${revision.commit}${revision.isModified ? ' with local changes' : ''}`;
  return [
    `### ${record.bench}`,
    '',
    record.question,
    '',
    `Commit ${commit}, ${record.time.slice(0, 10)}; ${settingsLine(record.settings)}.`,
    '',
    ...markdownTable(...tableOf(record)),
    '',
    ...record.goals.map((goal) => `- ${goalLine(goal)}`),
    '',
  ].join('\n');
}

/** One line for the page's overview. */
export function machineLine(machine: Machine): string {
  const { processor, cores, memoryBytes, kernel, node, fileSystem } = machine;
  const memory = `${Math.round(memoryBytes / 2 ** 30)} GiB`;
  return `${processor}, ${cores} cores, ${memory}, Linux ${kernel}, ${fileSystem}, Node ${node}`;
}
