// Pages of the documentation as scripts: the fenced blocks that begin with ```sh are run, from top to
// bottom, in one folder; what a ```text block behind them shows must be printed. In such a block a
// line `…` stands for any lines, and `…` inside a line for any text.
//
//   ```sh              commands; all must succeed
//   ```sh exit=0,3     the last of them ends with one of these codes
//   ```sh service      runs on in the background from when it prints "listening"; when a ```text block
//                      follows, from when it has printed that
//   ```sh stop-service ends the newest service; its text is for people
//
// A block may begin with the comment `# at the primary` or `# at the DR site`: it is typed there.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { mainProgram, checkoutFolder } from './checkout.js';
import { freePort } from './free-port.js';
const FENCE = /^( *)```(\w*)(?: (\S+))?\n([\s\S]*?)^ *```$/gm;
const HEADING = /^## (.*)$/gm;
const SITES = { '# at the primary': 'primary', '# at the DR site': 'dr' } as const;
/** The ports that pages name; they may be taken on this machine. */
const PAGE_PORTS = ['9847', '9848'];

export interface PageStep {
  readonly script: string;
  readonly kind: 'commands' | 'service' | 'stop-service';
  /** Where it is typed; undefined: anywhere. */
  readonly site: 'primary' | 'dr' | undefined;
  /** The heading of the second level that it stands under. */
  readonly heading: string;
  readonly exitCodes: readonly number[];
  /** Lines that the output must have, in this order; undefined: nothing is promised. */
  readonly shown: readonly string[] | undefined;
}

/** The steps of a page; `page` is a path below docs. */
export function readPage(page: string): PageStep[] {
  const text = readFileSync(join(checkoutFolder, 'docs', page), 'utf8');
  const headings = [...text.matchAll(HEADING)];
  const steps: PageStep[] = [];
  for (const match of text.matchAll(FENCE)) {
    const [, indent = '', language, option, indented = ''] = match;
    const body = indented.replace(new RegExp(`^${indent}`, 'gm'), '');
    const last = steps.at(-1);
    if (language === 'sh') {
      const exitCodes = /^exit=([\d,]+)$/.exec(option ?? '')?.[1] ?? '0';
      steps.push({
        script: body,
        kind: option === 'service' || option === 'stop-service' ? option : 'commands',
        site: siteOf(body),
        heading: headings.findLast((each) => each.index < match.index)?.[1] ?? '',
        exitCodes: exitCodes.split(',').map(Number),
        shown: undefined,
      });
    } else if (language === 'text' && last !== undefined) {
      steps[steps.length - 1] = { ...last, shown: body.trimEnd().split('\n') };
    }
  }
  return steps;
}

function siteOf(script: string): PageStep['site'] {
  const [first = ''] = script.split('\n');
  return Object.entries(SITES).find(([comment]) => first.startsWith(comment))?.[1];
}

/** What a page calls things, as they are called in the folder of the test. */
export type Naming = (script: string, site: PageStep['site']) => string;

/** What a test lends a page. */
export interface PageAids {
  readonly named?: Naming;
  /** Shell scripts by the name under which the page calls them. */
  readonly programs?: Readonly<Record<string, string>>;
  /** Does a step in place of the shell; undefined: the shell does it. */
  readonly instead?: (script: string) => Promise<void> | undefined;
}

/** Runs a page in `folder`. Ends the services that it began. */
export async function runPage(page: string, folder: string, aids: PageAids = {}): Promise<void> {
  await runSteps(readPage(page), folder, aids);
}

/** The same with some steps of a page. */
export async function runSteps(
  steps: readonly PageStep[],
  folder: string,
  { named = (script) => script, programs = {}, instead }: PageAids = {},
): Promise<void> {
  const bin = join(folder, '.bin');
  mkdirSync(bin);
  const lent = { hvdr: `exec '${process.execPath}' '${mainProgram}' "$@"`, ...programs };
  for (const [name, script] of Object.entries(lent)) {
    writeFileSync(join(bin, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  }
  const ports: (readonly [page: string, own: string])[] = [];
  for (const page of PAGE_PORTS) ports.push([page, String(await freePort())]);
  const asOnPage = (output: string): string =>
    ports.reduce((text, [page, own]) => text.replaceAll(own, page), output);
  const services: Run[] = [];
  // what one block sets, the next ones know
  let before = '';
  try {
    for (const step of steps) {
      let script = named(step.script, step.site);
      for (const [page, own] of ports) script = script.replaceAll(page, own);
      const done = instead?.(script);
      if (done !== undefined) {
        await done;
        continue;
      }
      if (step.kind === 'stop-service') {
        await stop(services.pop());
        continue;
      }
      const isService = step.kind === 'service';
      const run = start(folder, bin, `${before}${isService ? asService(script) : script}`);
      if (isService) {
        services.push(run);
        await untilReady(run, step.shown, asOnPage);
      } else {
        await once(run.child, 'close');
        expect(run.child.exitCode, `${script}\n${run.text()}`).to.be.oneOf(step.exitCodes);
      }
      if (step.shown !== undefined) {
        const output = asOnPage(run.text());
        const missing = firstMissing(step.shown, output);
        expect(missing, `not in the output of\n${script}\n${output}`).to.equal(undefined);
      }
      for (const line of script.split('\n')) if (/^[A-Z]+="/.test(line)) before += `${line}\n`;
    }
  } catch (error) {
    for (const { text } of services) process.stderr.write(`a service said:\n${text()}\n`);
    throw error;
  } finally {
    for (const service of services.reverse()) await stop(service);
  }
}

async function stop(service: Run | undefined): Promise<void> {
  const child = service?.child;
  if (child?.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGTERM');
  await once(child, 'close');
}

/** The shell becomes the service, so a signal reaches it. */
function asService(script: string): string {
  return script.replace(/^hvdr /m, 'exec hvdr ');
}

interface Run {
  readonly child: ChildProcess;
  readonly text: () => string;
}

function start(folder: string, bin: string, script: string): Run {
  const child = spawn('bash', ['-e', '-o', 'pipefail', '-c', script], {
    cwd: folder,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, PATH: `${bin}:${process.env['PATH'] ?? ''}`, HOME: folder },
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  return { child, text: () => output };
}

async function untilReady(
  { child, text }: Run,
  shown: PageStep['shown'],
  asOnPage: (output: string) => string,
): Promise<void> {
  const isReady = (): boolean =>
    shown === undefined
      ? /^listening /m.test(text())
      : firstMissing(shown, asOnPage(text())) === undefined;
  while (!isReady()) {
    if (child.exitCode !== null) throw new Error(`the service ended: ${text()}`);
    await Promise.race([once(child.stdout ?? child, 'data'), once(child, 'close')]);
  }
}

/** The first shown line that is not in the output behind the one before it. */
function firstMissing(shown: readonly string[], output: string): string | undefined {
  // logs go to the same terminal, and are not what a page shows
  const lines = output.split('\n').filter((line) => line !== '' && !line.startsWith('{"level"'));
  let at = 0;
  for (const wanted of shown) {
    if (wanted.trim() === '…' || wanted.trim() === '') continue;
    const pattern = new RegExp(`^${wanted.split('…').map(escaped).join('.*')}$`);
    const found = lines.findIndex((line, index) => index >= at && pattern.test(line));
    if (found < 0) return wanted;
    at = found + 1;
  }
  return undefined;
}

function escaped(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}
