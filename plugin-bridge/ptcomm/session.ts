// The life of one backend, the same for all kinds of jobs (ptcomm.md § 3): greeting, job, parameters,
// start, the loop, END and T. What makes a job red is told as `A`; whoever is gone is told nothing.

import { DrError } from '../../shared/errors.js';
import { Redactor } from '../../shared/log-redaction.js';
import type { JobInfo } from '../job-info.js';
import type { RestoreWork } from '../restore/index.js';
import { type Attributes, attributeLines } from './attributes.js';
import { BackupItems, featuresOf } from './backup-items.js';
import {
  type Greeting,
  type ParameterBlock,
  parseGreeting,
  parseJob,
  parseParameterBlock,
} from './job-block.js';
import { JobGone, lineOf, messageText, type PluginLink } from './link.js';
import { RestoreLoop } from './restore-loop.js';

/** Lines of a block; Bacula sends a dozen. */
const BLOCK_LINES_MAX = 1000;

export type StartKind = 'backup' | 'estimate' | 'listing' | 'query' | 'restore';

const STARTS: Readonly<Record<string, StartKind>> = {
  BackupStart: 'backup',
  EstimateStart: 'estimate',
  ListingStart: 'listing',
  QueryStart: 'query',
  RestoreStart: 'restore',
};

/** What a backend does for the one job that it serves. */
export interface OpenedJob {
  backup(sink: BackupItems): Promise<void>;
  /** Names as they stand in the catalog. */
  estimate(): AsyncIterable<Attributes>;
  /** One level below `path`. */
  listing(path: string): AsyncIterable<Attributes>;
  /** `key=value` pairs, a line each time. */
  query(question: string): AsyncIterable<readonly (readonly [key: string, value: string])[]>;
  restore(): Promise<RestoreWork>;
  close(): Promise<void>;
}

export interface JobRequest {
  readonly greeting: Greeting;
  readonly job: JobInfo;
  readonly parameters: ParameterBlock;
  readonly signal: AbortSignal;
  /** A line for the job's log. */
  say(kind: 'info' | 'warning' | 'error', text: string): void;
}

/** Made when the parameters are known. @throws DrError: the job is red before it begins */
export type OpenJob = (request: JobRequest) => Promise<OpenedJob>;

/**
 * `ended`: T was said. `gone`: cancelled, or the pipe was closed. `failed`: the job was made red.
 * `broken`: so was it, and the conversation cannot go on.
 */
export interface SessionEnd {
  readonly how: 'ended' | 'gone' | 'failed' | 'broken';
  /** Why the job is red. */
  readonly error?: unknown;
}

/** Never throws. */
export async function serve(link: PluginLink, openJob: OpenJob): Promise<SessionEnd> {
  try {
    await converse(link, openJob);
    link.close();
    return { how: 'ended' };
  } catch (error) {
    if (error instanceof JobGone || link.signal.aborted) return { how: 'gone', error };
    return tellFailure(link, error);
  }
}

/** What stands in an `A`: any error that is none of the world is a bug of ours. */
export function failureText(error: unknown): string {
  if (error instanceof DrError) return messageText(error.line);
  // a message that nobody foresaw may quote anything
  const said = error instanceof Error ? new Redactor().text(error.message) : 'unknown';
  const internal = new DrError('E_INTERNAL', said);
  return messageText(internal.line);
}

async function tellFailure(link: PluginLink, error: unknown): Promise<SessionEnd> {
  const isBroken = error instanceof DrError && error.code === 'E_PROTOCOL';
  try {
    await link.sendLine('A', failureText(error));
    if (!isBroken) {
      await untilTerminated(link, true);
      link.close();
    }
  } catch {
    // there is nobody left who reads
  }
  return { how: isBroken ? 'broken' : 'failed', error };
}

async function converse(link: PluginLink, openJob: OpenJob): Promise<void> {
  const greeting = parseGreeting(await command(link));
  await link.sendLine('C', 'Hello Bacula');

  if ((await command(link)) !== 'Job') throw unexpected('where the job was expected');
  const jobLines = await block(link);
  parseJob(jobLines, false);
  await link.send('F');

  if ((await command(link)) !== 'Params') throw unexpected('where parameters were expected');
  const parameterLines = await block(link);
  const isRestore = parseJob(jobLines, false).type === 'R';
  const parameters = parseParameterBlock(parameterLines, isRestore);
  const job = parseJob(jobLines, parameters.isAccurate);
  const opened = await link.working('the start of the job', () =>
    openJob({
      greeting,
      job,
      parameters,
      signal: link.signal,
      say: (kind, text) => {
        link.say(kind, text);
      },
    }),
  );
  try {
    await link.send('F');
    await work(link, opened, { greeting, job, parameters });
  } finally {
    await opened.close();
  }
}

async function command(link: PluginLink): Promise<string> {
  return lineOf(await link.read());
}

async function block(link: PluginLink): Promise<string[]> {
  const lines: string[] = [];
  for (;;) {
    const line = await link.readLine();
    if (line === undefined) return lines;
    if (lines.length >= BLOCK_LINES_MAX) throw unexpected('a block without end');
    lines.push(line);
  }
}

function unexpected(what: string): DrError {
  return new DrError('E_PROTOCOL', `the plugin sent what was not expected: ${what}`);
}

interface Context {
  readonly greeting: Greeting;
  readonly job: JobInfo;
  readonly parameters: ParameterBlock;
}

async function work(link: PluginLink, opened: OpenedJob, context: Context): Promise<void> {
  const packet = await link.read();
  if (packet.letter === 'T') return;
  const word = lineOf(packet);
  if (word === 'END') {
    await link.send('F');
    return untilTerminated(link, false);
  }
  const start = Object.hasOwn(STARTS, word) ? STARTS[word] : undefined;
  if (start === undefined) throw unexpected(`${JSON.stringify(word.slice(0, 32))} as a start`);
  await loop(link, opened, start, context);
  await untilTerminated(link, false);
}

async function loop(
  link: PluginLink,
  opened: OpenedJob,
  start: StartKind,
  { greeting, job, parameters }: Context,
): Promise<void> {
  checkKind(job, start);
  switch (start) {
    case 'backup': {
      await link.send('F');
      const features = featuresOf(greeting, job.workingFolder);
      const sink = new BackupItems(link, greeting.namespace, features);
      await link.working('the job', () => opened.backup(sink));
      link.signal.throwIfAborted();
      return sink.finish();
    }
    case 'estimate':
      await link.send('F');
      return sendEntries(link, opened.estimate());
    case 'listing':
      await link.send('F');
      return sendEntries(link, opened.listing(parameters.listing ?? '/'));
    case 'query':
      await link.send('F');
      return sendAnswers(link, opened.query(parameters.query ?? ''));
    case 'restore': {
      const restore = await link.working('the start of the restore', () => opened.restore());
      await link.send('F');
      await new RestoreLoop(link, restore, job.where).run();
      return link.send('F');
    }
  }
}

function checkKind(job: JobInfo, start: StartKind): void {
  const wanted = start === 'backup' ? 'B' : start === 'restore' ? 'R' : 'E';
  if (job.type !== wanted) throw unexpected(`the start of a ${start} in a job of type ${job.type}`);
  if (start === 'backup' && job.level === undefined) throw unexpected('a backup without a level');
}

async function sendEntries(link: PluginLink, entries: AsyncIterable<Attributes>): Promise<void> {
  await link.working('the list', async () => {
    for await (const entry of entries) {
      link.signal.throwIfAborted();
      for (const line of attributeLines(entry)) await link.sendLine('C', line);
      await link.send('F');
    }
  });
  await link.send('F');
}

async function sendAnswers(
  link: PluginLink,
  answers: AsyncIterable<readonly (readonly [key: string, value: string])[]>,
): Promise<void> {
  await link.working('the answer', async () => {
    for await (const pairs of answers) {
      // a comma begins the next pair for whoever reads it
      const text = pairs.map(([key, value]) => `${key}=${messageText(value).replaceAll(',', ';')}`);
      await link.sendLine('C', text.join(','));
    }
  });
  await link.send('F');
}

/** END is acknowledged, T ends; after a failure FINISH and what was under way may still come. */
async function untilTerminated(link: PluginLink, hasFailed: boolean): Promise<void> {
  for (;;) {
    const packet = await link.read();
    if (packet.letter === 'T') return;
    const word = packet.letter === 'C' ? lineOf(packet) : undefined;
    if (word === 'END' || (hasFailed && word === 'FINISH')) await link.send('F');
    else if (!hasFailed) throw unexpected('after the end of the loop');
  }
}
