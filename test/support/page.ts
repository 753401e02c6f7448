// Pages of the documentation as scripts: the fenced blocks that begin with ```sh are run, from top to
// bottom, in one folder; what a ```text block behind them shows must be printed. In such a block a
// line `…` stands for any lines, and `…` inside a line for any text.
//
//   ```sh              commands; all must succeed
//   ```sh exit=0,3     the last of them ends with one of these codes
//   ```sh service      runs on in the background from when it prints "listening"
//   ```sh stop-service ends the newest service; its text is for people

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { expect } from 'chai';
import { builtFolder, checkoutFolder } from './checkout.js';

const MAIN = join(builtFolder, 'cli', 'main.js');
const FENCE = /^( *)```(\w*)(?: (\S+))?\n([\s\S]*?)^ *```$/gm;
/** The port that pages name; it may be taken on this machine. */
const PAGE_PORT = '9847';

export interface PageStep {
  readonly script: string;
  readonly kind: 'commands' | 'service' | 'stop-service';
  readonly exitCodes: readonly number[];
  /** Lines that the output must have, in this order; undefined: nothing is promised. */
  readonly shown: readonly string[] | undefined;
}

/** The steps of a page; `page` is a path below docs. */
export function readPage(page: string): PageStep[] {
  const text = readFileSync(join(checkoutFolder, 'docs', page), 'utf8');
  const steps: PageStep[] = [];
  for (const [, indent = '', language, option, indented = ''] of text.matchAll(FENCE)) {
    const body = indented.replace(new RegExp(`^${indent}`, 'gm'), '');
    const last = steps.at(-1);
    if (language === 'sh') {
      const exitCodes = /^exit=([\d,]+)$/.exec(option ?? '')?.[1] ?? '0';
      steps.push({
        script: body,
        kind: option === 'service' || option === 'stop-service' ? option : 'commands',
        exitCodes: exitCodes.split(',').map(Number),
        shown: undefined,
      });
    } else if (language === 'text' && last !== undefined) {
      steps[steps.length - 1] = { ...last, shown: body.trimEnd().split('\n') };
    }
  }
  return steps;
}

/** Runs a page in `folder`. Ends the services that it began. */
export async function runPage(page: string, folder: string): Promise<void> {
  const bin = join(folder, '.bin');
  mkdirSync(bin);
  writeFileSync(join(bin, 'hvdr'), `#!/bin/sh\nexec '${process.execPath}' '${MAIN}' "$@"\n`);
  chmodSync(join(bin, 'hvdr'), 0o755);
  const port = await freePort();
  const services: ChildProcess[] = [];
  // what one block sets, the next ones know
  let before = '';
  try {
    for (const step of readPage(page)) {
      const script = step.script.replaceAll(PAGE_PORT, String(port));
      if (step.kind === 'stop-service') {
        await stop(services.pop());
        continue;
      }
      const isService = step.kind === 'service';
      const run = start(folder, bin, `${before}${isService ? `exec ${script}` : script}`);
      const output = isService ? await untilListening(run) : await untilEnd(run);
      if (isService) services.push(run.child);
      else expect(run.child.exitCode, `${script}\n${run.text()}`).to.be.oneOf(step.exitCodes);
      if (step.shown !== undefined) {
        expectShown(step.shown, output.replaceAll(String(port), PAGE_PORT), script);
      }
      for (const line of script.split('\n')) if (/^[A-Z]+="/.test(line)) before += `${line}\n`;
    }
  } finally {
    for (const service of services) await stop(service);
  }
}

async function stop(service: ChildProcess | undefined): Promise<void> {
  if (service?.exitCode !== null || service.signalCode !== null) return;
  service.kill('SIGTERM');
  await once(service, 'close');
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

async function untilEnd({ child, text }: Run): Promise<string> {
  await once(child, 'close');
  return text();
}

async function untilListening({ child, text }: Run): Promise<string> {
  while (!/^listening /m.test(text())) {
    if (child.exitCode !== null) throw new Error(`the service ended: ${text()}`);
    await Promise.race([once(child.stdout ?? child, 'data'), once(child, 'close')]);
  }
  return text();
}

/** Each shown line is in the output, one behind the other; between `…` lines they are neighbours. */
function expectShown(shown: readonly string[], output: string, script: string): void {
  // logs go to the same terminal, and are not what a page shows
  const lines = output.split('\n').filter((line) => line !== '' && !line.startsWith('{"level"'));
  let at = 0;
  for (const wanted of shown) {
    if (wanted.trim() === '…' || wanted.trim() === '') continue;
    const pattern = new RegExp(`^${wanted.split('…').map(escaped).join('.*')}$`);
    const found = lines.findIndex((line, index) => index >= at && pattern.test(line));
    expect(
      found,
      `"${wanted}" is not in the output of\n${script}\n${lines.join('\n')}`,
    ).to.be.at.least(0);
    at = found + 1;
  }
}

function escaped(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('a listener has a port');
  return address.port;
}
