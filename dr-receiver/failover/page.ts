// The parts of docs/failover.md that follow from the code: transition table, diagram, steps. Printed by
// `hvdr explain --states`; a test compares page and code.

import { type Answer, type Row, TABLE } from './machine.js';
import { COMMANDS, type StateName } from './model.js';
import { type SteppedKind, STEPS } from './steps.js';

/** What leads from state to state without a command of an operator. */
const EVENTS: readonly (readonly [from: StateName, to: StateName, what: string])[] = [
  ['UNPROTECTED', 'SEEDING', 'first cycle'],
  ['SEEDING', 'PROTECTED', 'first point'],
  ['PROTECTED', 'RESYNC', 'a compare is due'],
  ['RESYNC', 'PROTECTED', 'compared'],
  ['FAILED_OVER', 'SPLIT_BRAIN', 'the old source runs'],
  ['FAILING_OVER', 'HALTED', 'a step can go neither on nor back'],
  ['UNDOING', 'HALTED', 'a step can go neither on nor back'],
  ['FAILING_BACK', 'HALTED', 'a step can go neither on nor back'],
  ['HALTED', 'FAILING_OVER', 'resume, unplanned'],
  ['HALTED', 'UNDOING', 'resume, undo, abort'],
  ['HALTED', 'FAILING_BACK', 'resume, failback'],
];

const KIND_TITLES: Readonly<Record<SteppedKind, string>> = {
  planned: '`failover planned`',
  unplanned: '`failover unplanned`',
  test: '`failover test`',
  undo: '`failover undo` of a failover',
  permanent: '`failover permanent` of a failover',
  failback: '`failback`',
  'failback-commit': '`failover permanent` of a failback',
  'failback-undo': '`failover undo` of a failback',
};

const RECOVERIES = {
  back: 'is taken back',
  either: 'goes on, or is taken back',
  forward: 'goes on',
} as const;

/** A cell of the transition table. */
export function cellText(answer: Answer): string {
  switch (answer.kind) {
    case 'cycle':
      return 'taken';
    case 'start': {
      const way = answer.through === undefined ? '' : `${answer.through} → `;
      const or = answer.or === undefined ? '' : ` or ${answer.or}`;
      return `${way}${answer.to}${or}${answer.wantsPoint === true ? ', wants `--point`' : ''}`;
    }
    case 'resume':
      return 'goes on';
    case 'supersede':
      return `supersedes → ${answer.to}`;
    case 'takeBack':
      return `back → ${answer.through === undefined ? '' : `${answer.through} → `}${answer.to}`;
    case 'otherPoint':
      return `other point → ${answer.to}`;
    case 'session':
      return 'session';
    case 'note':
      return `noted → ${answer.to}`;
    case 'done':
      return 'done';
    case 'asHalted':
      return 'as halted';
    case 'refuse':
      return answer.code === 'E_STATE' ? '-' : answer.code;
  }
}

export function failoverPage(): string {
  return [transitions(), diagram(), ...steps()].join('\n\n');
}

/** Commands of the first of two tables, for the width of a page. */
const MAIN_COUNT = 10;

const ROWS = Object.keys(TABLE) as Row[];

function table(heads: readonly string[], rows: readonly (readonly string[])[]): string {
  return [heads, heads.map(() => '---'), ...rows]
    .map((cells) => `| ${cells.join(' | ')} |`)
    .join('\n');
}

function transitions(): string {
  const tables = [COMMANDS.slice(0, MAIN_COUNT), COMMANDS.slice(MAIN_COUNT)].map((commands) => {
    const rows = ROWS.map((row) => [
      row,
      ...commands.map((command) => cellText(TABLE[row][command])),
    ]);
    return table(['state', ...commands], rows);
  });
  return ['## Transitions', ...tables].join('\n\n');
}

function stateOfRow(row: Row): StateName {
  if (row.startsWith('FAILING_OVER')) return 'FAILING_OVER';
  return row.startsWith('FAILING_BACK') ? 'FAILING_BACK' : (row as StateName);
}

function diagram(): string {
  // the commands of each arrow; one arrow for each pair of states
  const arrows = new Map<string, string[]>();
  const draw = (from: StateName, to: StateName, what: string): void => {
    const arrow = `${from} --> ${to}`;
    const named = arrows.get(arrow) ?? [];
    if (what !== '' && !named.includes(what)) named.push(what);
    arrows.set(arrow, named);
  };
  for (const [from, to, what] of EVENTS) draw(from, to, what);
  for (const row of ROWS) {
    const from = stateOfRow(row);
    for (const command of COMMANDS) {
      const answer = TABLE[row][command];
      if (!('to' in answer) || (answer.kind === 'note' && answer.to === from)) continue;
      const through = 'through' in answer ? answer.through : undefined;
      draw(from, through ?? answer.to, command);
      if (through !== undefined) draw(through, answer.to, '');
      if (answer.kind === 'start' && answer.or !== undefined) draw(from, answer.or, command);
    }
  }
  const lines = [...arrows].map(([arrow, named]) =>
    named.length === 0 ? `  ${arrow}` : `  ${arrow} : ${named.join(', ')}`,
  );
  return ['## Diagram', '', '```mermaid', 'stateDiagram-v2', ...lines, '```'].join('\n');
}

function steps(): string[] {
  const tables = (Object.keys(STEPS) as SteppedKind[]).map((kind) => {
    const rows = STEPS[kind].map(({ name, what, recovery }) => [name, what, RECOVERIES[recovery]]);
    const heads = ['step', 'what', 'broken off, it'];
    return `### ${KIND_TITLES[kind]}\n\n${table(heads, rows)}`;
  });
  return ['## Steps', ...tables];
}
