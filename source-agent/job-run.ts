// Runs jobs that are given by their parameters: makes their ports, runs the agent over them, closes them.
// The command line and the jobs of Bacula begin here.

import type { SourceHypervisor } from '../shared/hypervisor/index.js';
import type { Surroundings } from '../shared/surroundings.js';
import { Agent, type AgentSeams } from './agent.js';
import { Attachments } from './attachments.js';
import { type JobParameters, Ports } from './job-ports.js';
import type { RunReport } from './run-report.js';

/** Takes over other jobs in place of those that run. @throws DrError, and then nothing has changed */
export type ReplaceJobs = (jobs: readonly JobParameters[]) => Promise<void>;

/** Runs beside the jobs of a daemon and may replace them, until the signal aborts. */
export type WatchJobs = (replace: ReplaceJobs, signal: AbortSignal) => Promise<void>;

export interface JobRunSeams extends Pick<
  AgentSeams,
  'signal' | 'closing' | 'onOutcome' | 'onSent'
> {
  /** Of a daemon: its VMs stay attached to their receivers all the time. */
  readonly watch?: WatchJobs | undefined;
  /** In place of the one that the jobs name; stays open. */
  readonly hypervisor?: SourceHypervisor | undefined;
}

/** @throws DrError what making the ports throws, and then no cycle has begun; as Agent.run() */
export async function runJobs(
  jobs: readonly JobParameters[],
  surroundings: Surroundings,
  { watch, hypervisor, ...seams }: JobRunSeams,
): Promise<RunReport> {
  const { files: fs, clock, random } = surroundings;
  const log = await surroundings.log();
  const ports = new Ports(surroundings, hypervisor);
  const ended = new AbortController();
  const attachments = new Attachments({ fs, clock, random, log });
  try {
    const made = await ports.jobs(jobs);
    const agent = new Agent(made, { fs, clock, random, log, ...seams });
    const replace: ReplaceJobs = async (others) => {
      const ready = await ports.jobs(others);
      attachments.use(ready);
      void ports.closeUnusedAfter(agent.replaceJobs(ready)).catch((error: unknown) => {
        // nothing depends on it any more
        log.warn('cycle.warning', { what: 'a port of former jobs was not closed well', error });
      });
    };
    if (watch !== undefined) attachments.use(made);
    const watching = watch?.(replace, ended.signal);
    try {
      return await agent.run();
    } finally {
      ended.abort();
      await watching;
    }
  } finally {
    await attachments.close();
    await ports.close();
  }
}
