// A session of the plugin protocol in process: the scripted peer on one side, doubles of the jobs on
// the other, two pipes between them that hold as much as the system's.

import { PassThrough } from 'node:stream';
import { type Clock, systemClock } from '../../shared/clock.js';
import { PluginLink } from '../../plugin-bridge/ptcomm/link.js';
import { type OpenedJob, type OpenJob, serve } from '../../plugin-bridge/ptcomm/session.js';
import type { SessionEnd } from '../../plugin-bridge/ptcomm/session.js';
import type {
  RestoreAnswer,
  RestoreEntry,
  RestoreWork,
} from '../../plugin-bridge/restore/index.js';
import { type Chunking, PtcommPeer } from './ptcomm-peer.js';

const PIPE_BYTES = 64 * 1024;

export interface PtcommRig {
  readonly peer: PtcommPeer;
  readonly link: PluginLink;
  readonly ended: Promise<SessionEnd>;
  /** What SIGUSR1 does. */
  cancel(): void;
}

export interface RigOptions {
  readonly chunking?: Chunking;
  readonly clock?: Clock;
  readonly forgetsContent?: boolean;
}

export function ptcommRig(openJob: OpenJob, options: RigOptions = {}): PtcommRig {
  const toBackend = new PassThrough({ highWaterMark: PIPE_BYTES });
  const fromBackend = new PassThrough({ highWaterMark: PIPE_BYTES });
  const cancel = new AbortController();
  const link = new PluginLink({
    input: toBackend,
    output: fromBackend,
    clock: options.clock ?? systemClock,
    cancel: cancel.signal,
  });
  const ended = serve(link, openJob).finally(() => fromBackend.end());
  const peer = new PtcommPeer({ toBackend, fromBackend, ...options });
  return {
    peer,
    link,
    ended,
    cancel: () => {
      cancel.abort();
    },
  };
}

async function* nothing(): AsyncGenerator<never> {
  // no entry
}

/** Does nothing, whatever is asked. */
export function idleJob(parts: Partial<OpenedJob> = {}): OpenedJob {
  return {
    backup: () => Promise.resolve(),
    estimate: nothing,
    listing: nothing,
    query: nothing,
    restore: () => Promise.resolve(new NotedRestore()),
    close: () => Promise.resolve(),
    ...parts,
  };
}

/** Takes what it is told to take, and notes every call. */
export class NotedRestore implements RestoreWork {
  readonly calls: string[] = [];
  readonly contents = new Map<string, Buffer>();
  readonly answers: Readonly<Record<string, RestoreAnswer | Error>>;
  #path = '';

  constructor(answers: Readonly<Record<string, RestoreAnswer | Error>> = {}) {
    this.answers = answers;
  }

  object(name: string, bytes: Buffer): Promise<void> {
    this.calls.push(`object ${name} ${bytes.length}`);
    return Promise.resolve();
  }

  begin(entry: RestoreEntry): Promise<RestoreAnswer> {
    this.calls.push(`begin ${entry.kind} ${entry.namespace} ${entry.path}`);
    this.#path = entry.path;
    const answer = this.answers[entry.path] ?? 'take';
    return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer);
  }

  async data(content: AsyncIterable<Buffer>): Promise<void> {
    const answer = this.answers[`data of ${this.#path}`];
    const parts: Buffer[] = [];
    for await (const piece of content) {
      parts.push(Buffer.from(piece));
      if (answer instanceof Error) throw answer;
      if (answer === 'skip') break;
    }
    this.contents.set(this.#path, Buffer.concat(parts));
    this.calls.push(`data ${this.#path}`);
  }

  endFile(): Promise<void> {
    this.calls.push(`end ${this.#path}`);
    const answer = this.answers[`end of ${this.#path}`];
    return answer instanceof Error ? Promise.reject(answer) : Promise.resolve();
  }

  finish(): Promise<void> {
    this.calls.push('finish');
    const answer = this.answers['finish'];
    return answer instanceof Error ? Promise.reject(answer) : Promise.resolve();
  }

  abandon(): Promise<void> {
    this.calls.push('abandon');
    return Promise.resolve();
  }
}
