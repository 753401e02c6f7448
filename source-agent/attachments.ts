// The control connections of a run: one for each receiver that its jobs name, held open beside the
// cycles and over the same line.

import { DrError } from '../shared/errors.js';
import type { ParameterValues } from '../shared/params/index.js';
import type { Job } from './agent.js';
import type { ReceiverLink } from './receiver-link.js';
import { AttachedAgent } from './remote/attached-agent.js';
import { REMOTE_ACTIONS, type RemoteAction } from './remote/remote-actions.js';
import type { AttachSeams } from './remote/seams.js';

interface Held {
  readonly agent: AttachedAgent;
  readonly stop: AbortController;
  readonly running: Promise<void>;
}

export class Attachments {
  readonly #seams: Omit<AttachSeams, 'signal'>;
  readonly #held = new Map<ReceiverLink, Held>();

  constructor(seams: Omit<AttachSeams, 'signal'>) {
    this.#seams = seams;
  }

  /** From now on these are the jobs. */
  use(jobs: readonly Job[]): void {
    const byLink = new Map<ReceiverLink, Job[]>();
    for (const job of jobs) byLink.set(job.link, [...(byLink.get(job.link) ?? []), job]);
    for (const [link, { stop }] of this.#held) {
      if (byLink.has(link)) continue;
      stop.abort();
      this.#held.delete(link);
    }
    for (const [link, own] of byLink) {
      const known = this.#held.get(link);
      if (known !== undefined) known.agent.replaceJobs(own);
      else this.#held.set(link, this.#hold(link, own));
    }
  }

  #hold(link: ReceiverLink, jobs: readonly Job[]): Held {
    const stop = new AbortController();
    const agent = new AttachedAgent({ link, jobs }, { ...this.#seams, signal: stop.signal });
    return { agent, stop, running: agent.run() };
  }

  /** Orders under way end at their next safe point. */
  async close(): Promise<void> {
    const held = [...this.#held.values()];
    this.#held.clear();
    for (const { stop } of held) stop.abort();
    await Promise.all(held.map(({ running }) => running));
  }
}

/** @throws DrError E_PARAMETER */
export function wantedRemoteActions({
  remote_actions: named,
}: Pick<ParameterValues, 'remote_actions'>): RemoteAction[] {
  return named.map((name) => {
    const action = REMOTE_ACTIONS.find((each) => each === name.toLowerCase());
    if (action !== undefined) return action;
    throw new DrError('E_PARAMETER', `remote_actions: "${name}" is none`, {
      context: { parameter: 'remote_actions' },
      hint: `It takes ${REMOTE_ACTIONS.join(', ')}; leave it out to allow nothing.`,
    });
  });
}
