// The jobs of a daemon: a config file with a section for each of them, which may change while it runs.

import type { Clock } from '../shared/clock.js';
import { DrError } from '../shared/errors.js';
import type { Log } from '../shared/log.js';
import {
  type GivenParameter,
  type ParameterSet,
  type ParameterValues,
  parseConfigSections,
  resolveParameters,
} from '../shared/params/index.js';
import type { JobParameters } from './job-ports.js';
import type { ReplaceJobs } from './job-run.js';

/** How often the file is read. Its times tell nothing: a file system may not have fine ones. */
const LOOK_EVERY_MS = 2000;

export interface ConfigHooks {
  /** For the log. */
  readonly name: string;
  /** What it said when the jobs began. */
  readonly text: string;
  /** @throws DrError */
  read(): Promise<string>;
  /** @throws DrError, and then the former jobs stay */
  jobsOf(text: string): readonly JobParameters[];
  onApplied(jobs: readonly JobParameters[]): void;
  onRefused(error: DrError): void;
}

/**
 * Takes over what the file says when that changes, until the signal aborts. A file that is still being
 * written is waited for: it counts when it says the same twice.
 */
export async function watchConfig(
  hooks: ConfigHooks,
  { clock, log }: { readonly clock: Clock; readonly log: Log },
  replace: ReplaceJobs,
  signal: AbortSignal,
): Promise<void> {
  const { name, text: inForce } = hooks;
  let settled = inForce;
  let last = inForce;
  for (;;) {
    try {
      await clock.sleep(LOOK_EVERY_MS, signal);
    } catch {
      return;
    }
    let text: string;
    let failure: DrError | undefined;
    try {
      text = await hooks.read();
    } catch (error) {
      if (!(error instanceof DrError)) throw error;
      // told once, as a text is
      text = error.message;
      failure = error;
    }
    const isNew = text !== settled && text === last;
    last = text;
    if (!isNew) continue;
    settled = text;
    try {
      if (failure !== undefined) throw failure;
      const jobs = hooks.jobsOf(text);
      await replace(jobs);
      log.info('config.applied', { file: name, jobs: jobs.map((job) => job.name) });
      hooks.onApplied(jobs);
    } catch (error) {
      if (!(error instanceof DrError)) throw error;
      log.error('config.refused', { file: name, error });
      hooks.onRefused(error);
    }
  }
}

/**
 * The jobs of a daemon's file; `flags` override what it says. `valuesOf` may change or refuse what a
 * section asks for.
 * @throws DrError E_PARAMETER
 */
export function jobsIn(
  text: string,
  file: string,
  flags: readonly GivenParameter[] = [],
  valuesOf: (set: ParameterSet) => ParameterValues = ({ values }) => values,
): JobParameters[] {
  const isOverridden = ({ key }: GivenParameter): boolean => flags.some((flag) => flag.key === key);
  const [common, ...sections] = parseConfigSections(text, file);
  const shared = common?.given ?? [];
  const jobs = sections.length === 0 ? [{ name: 'all', given: [] }] : sections;
  return jobs.map(({ name, given }) => {
    const own = [...flags, ...given.filter((each) => !isOverridden(each))];
    const set = resolveParameters(own, shared);
    const values = valuesOf(set);
    if (set.origins.push_cycles !== 'default' && values.push_cycles !== 0) {
      throw new DrError('E_PARAMETER', `push_cycles, job ${name}: a daemon pushes for ever`, {
        context: { parameter: 'push_cycles' },
        hint: 'Leave push_cycles out, or use `hvdr push`.',
      });
    }
    return { name, values: { ...values, push_cycles: 0 } };
  });
}
