// The report of a drill as one page for people who do not know the product: no script, nothing loaded
// from anywhere, every value escaped. The signed JSON stands in it, and the page follows from that
// alone, so that a page can be verified by making it again.

import { createHash } from 'node:crypto';
import { DrError } from '../../../shared/errors.js';
import {
  type DrillReport,
  REPORT_BYTES_MAX,
  reportText,
  type SignedReport,
  verifyReport,
  withoutSteering,
} from './report.js';

const STYLE = `
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #1a1a1a; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.verdict { padding: .8rem 1rem; font-size: 1.2rem; font-weight: 600; border-left: .5rem solid; }
.passed { border-color: #1a7f37; background: #e6f4ea; } .failed { border-color: #b3261e; background: #fce8e6; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; vertical-align: top; padding: .3rem .6rem; border-bottom: 1px solid #ddd; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.5rem; } dt { color: #555; } dd { margin: 0; overflow-wrap: anywhere; }
td { overflow-wrap: anywhere; white-space: pre-wrap; } pre { overflow-x: auto; font-size: .75rem; background: #f6f6f6; padding: 1rem; }
footer { margin-top: 2rem; color: #555; font-size: .85rem; }
@media print { details { display: none; } }
`;
const STYLE_HASH = createHash('sha256').update(STYLE).digest('base64');

const DATA_START = '<pre id="signed-report">';
const DATA_END = '</pre>';

const ESCAPES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};
const UNESCAPES = new Map(Object.entries(ESCAPES).map(([text, escape]) => [escape, text]));
function escape(text: string): string {
  return text.replace(/[&<>"']/g, (character) => ESCAPES[character] ?? '');
}

function unescape(text: string): string {
  return text.replace(/&(?:amp|lt|gt|quot|#39);/g, (found) => UNESCAPES.get(found) ?? found);
}

/** Escaped, and what steers a display is shown as what it is. */
function shown(text: string): string {
  return escape(withoutSteering(text));
}

function time(atMs: number): string {
  const isKnown = Math.abs(atMs) <= 8.64e15;
  return isKnown ? `${new Date(atMs).toISOString().slice(0, 19).replace('T', ' ')} UTC` : 'unknown';
}

/** `3.2 s`, `4 min 05 s`, `2 h 10 min`, `3 d 4 h` */
function duration(durationMs: number): string {
  const tenths = Math.round(Math.max(0, durationMs) / 100);
  if (tenths < 600) return `${(tenths / 10).toFixed(1)} s`;
  const seconds = Math.round(tenths / 10);
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  const two = (value: number): string => String(value).padStart(2, '0');
  if (minutes < 60) return `${minutes} min ${two(seconds % 60)} s`;
  if (hours < 48) return `${hours} h ${two(minutes % 60)} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

function verdictWords({ verdict, vm, recoveryTimeMs, problem, checks }: DrillReport): string {
  if (verdict === 'passed') {
    const proof = checks.length === 0 ? 'It was started; no check was asked for.' : '';
    const took = recoveryTimeMs === undefined ? '' : ` in ${duration(recoveryTimeMs)}`;
    return `PASSED – ${vm.name} was recovered${took}. ${proof}`.trim();
  }
  const failed = checks.filter(({ outcome }) => outcome === 'failed').map(({ check }) => check);
  const why = problem ?? `failed checks: ${failed.join(', ')}`;
  return `FAILED – ${vm.name} was not proven to recover: ${why}`;
}

function facts(report: DrillReport): readonly (readonly [name: string, value: string])[] {
  const { vm, point, network } = report;
  const addresses = Object.entries(network.ipMap).map(([from, to]) => `${from} → ${to}`);
  const recovery =
    report.recoveryTimeMs === undefined ? 'not reached' : duration(report.recoveryTimeMs);
  const isWithin = point.ageMs <= report.rpoTargetMs;
  const target = `${isWithin ? 'within' : 'beyond'} the target of ${duration(report.rpoTargetMs)}`;
  return [
    [
      'Virtual machine',
      `${vm.name} (${vm.diskCount} disks, ${(vm.diskBytes / 1024 ** 3).toFixed(1)} GiB)`,
    ],
    ['Kind', report.kind === 'test' ? 'test in isolation' : `${report.kind} failover`],
    ['Began', time(report.startedAtMs)],
    ['Ended', time(report.endedAtMs)],
    ['Time to recover (RTO)', recovery],
    ['Data that would have been lost (RPO)', `${duration(point.ageMs)}, ${target}`],
    [
      'Restore point',
      `${time(point.consistentAtMs)}, ${point.isApplicationConsistent ? 'application' : 'crash'}-consistent, ${point.id}`,
    ],
    ['Started as', vm.instanceName],
    ['Network', network.testNetwork],
    ['Addresses', addresses.length === 0 ? 'as they were' : addresses.join(', ')],
    ['Site', `${report.site}, store ${report.storeId}`],
    ['Asked for by', report.by],
    ['Operation', report.operationId],
  ];
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const row = (tag: string, cells: readonly string[]): string =>
    `<tr>${cells.map((cell) => `<${tag}>${shown(cell)}</${tag}>`).join('')}</tr>`;
  const body = rows.map((cells) => row('td', cells)).join('\n');
  return `<table>\n${row('th', head)}\n${body}\n</table>`;
}

/** The page of a signed report, complete in one text. */
export function reportPage(signed: SignedReport): string {
  const { report, signature } = signed;
  const title = `Recovery drill of ${report.vm.name}: ${report.verdict}`;
  const list = facts(report).map(
    ([name, value]) => `<dt>${shown(name)}</dt><dd>${shown(value)}</dd>`,
  );
  const checks = report.checks.map(({ check, outcome, durationMs, words }) => [
    ...[check, outcome, duration(durationMs), words],
  ]);
  const steps = report.timeline.map(({ atMs, step, what }) => [
    ...[time(atMs), `+${duration(atMs - report.startedAtMs)}`, step, what],
  ]);
  const warnings = report.warnings.map((warning) => `<li>${shown(warning)}</li>`);
  return [
    '<!DOCTYPE html>',
    '<html lang="en">',
    '<head>',
    '<meta charset="utf-8">',
    `<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'sha256-${STYLE_HASH}'">`,
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    `<title>${shown(title)}</title>`,
    `<style>${STYLE}</style>`,
    '</head>',
    '<body>',
    `<h1>Recovery drill of ${shown(report.vm.name)}</h1>`,
    `<p class="verdict ${report.verdict === 'passed' ? 'passed' : 'failed'}">${shown(verdictWords(report))}</p>`,
    `<dl>\n${list.join('\n')}\n</dl>`,
    ...(warnings.length === 0 ? [] : [`<h2>Warnings</h2>\n<ul>\n${warnings.join('\n')}\n</ul>`]),
    '<h2>Checks</h2>',
    checks.length === 0
      ? '<p>None was asked for.</p>'
      : table(['Check', 'Result', 'Took', 'What was found'], checks),
    '<h2>Timeline</h2>',
    table(['Time', 'After', 'Step', 'What'], steps),
    '<footer>',
    `<p>Made by hvdr ${shown(report.program)}, signed with key ${shown(signature.keyId)} (Ed25519). <code>hvdr drill verify-report FILE --public-key KEY</code> shows whether this page is as it was signed.</p>`,
    '</footer>',
    `<details><summary>Signed data</summary>\n${DATA_START}${escape(reportText(signed))}${DATA_END}</details>`,
    '</body>',
    '</html>',
    '',
  ].join('\n');
}

/**
 * The report of a page, whose signature fits, and of which the page shows every value as it was signed.
 * @throws DrError E_FILE_DAMAGED, E_FILE_VERSION, E_DIFFERENT (the data are good, the page shows
 * something else)
 */
export function verifyPage(page: string, where: string): SignedReport {
  const start = page.lastIndexOf(DATA_START);
  const end = page.indexOf(DATA_END, start);
  if (start === -1 || end === -1 || page.length > 4 * REPORT_BYTES_MAX) {
    throw new DrError('E_FILE_DAMAGED', `${where} holds no signed report`, {
      context: { path: where },
    });
  }
  const signed = verifyReport(unescape(page.slice(start + DATA_START.length, end)), where);
  if (reportPage(signed) === page) return signed;
  throw new DrError(
    'E_DIFFERENT',
    `${where} carries a good report of ${signed.report.vm.name} and shows something else`,
    {
      context: { path: where },
      done: 'nothing of it was believed',
      hint: 'It was changed, or another release made it; verify the JSON of the same operation.',
    },
  );
}
