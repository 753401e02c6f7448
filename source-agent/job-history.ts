// Which job built on which, per Bacula job: `bacula.<16 hex digits>.json` in the state folder. A job
// that brought no point of some VM is skipped for that VM by asking on what it was built itself.

import { hash } from 'node:crypto';
import path from 'node:path';
import type { Random } from '../shared/clock.js';
import { DrError } from '../shared/errors.js';
import {
  type FileSystem,
  type JsonFields,
  type JsonFormat,
  readJson,
  writeJsonDurably,
} from '../shared/files/index.js';
import { jobOf } from './ledger-jobs.js';

const FORMAT: JsonFormat = { name: 'job history', version: 1, limitBytes: 256 * 1024 };
const JOBS_MAX = 256;
const NAME_MAX = 256;

/** A job, and the one on which it builds; a Full builds on none. */
export interface BuiltJob {
  readonly name: string;
  readonly builtOn: string | undefined;
}

/** The file of a history. */
export function isJobHistory(name: string): boolean {
  return /^bacula\.[0-9a-f]{16}\.json$/.test(name);
}

/**
 * Notes the job durably, before it makes a point, and returns the names on which it is built: the newest
 * first. A history that cannot be read is begun anew: what it would have told is not known then.
 * @throws DrError E_IO, E_CAPACITY
 */
export async function noteJob(
  { fs, random, stateFolder }: { fs: FileSystem; random: Random; stateFolder: string },
  job: BuiltJob,
): Promise<readonly string[]> {
  const digest = hash('sha256', jobOf(job.name), 'hex').slice(0, 16);
  const file = path.join(stateFolder, `bacula.${digest}.json`);
  const known = await read(fs, file);
  const others = known.filter(({ name }) => name !== job.name);
  const jobs = [...others, job].slice(-JOBS_MAX);
  const fields = { jobs: jobs.map(({ name, builtOn }) => [name, builtOn ?? '']) };
  await writeJsonDurably(fs, file, FORMAT, fields, random);
  return buildOrder(jobs, job.builtOn);
}

/** `first`, the job on which it was built, and so on. */
function buildOrder(jobs: readonly BuiltJob[], first: string | undefined): readonly string[] {
  const order: string[] = [];
  for (let name = first; name !== undefined && !order.includes(name);) {
    order.push(name);
    const current: string = name;
    name = jobs.find((job) => job.name === current)?.builtOn;
  }
  return order;
}

async function read(fs: FileSystem, file: string): Promise<readonly BuiltJob[]> {
  try {
    const fields = await readJson(fs, file, FORMAT);
    return fields === undefined ? [] : jobsIn(fields);
  } catch (error) {
    const isUnusable =
      error instanceof DrError && ['E_FILE_DAMAGED', 'E_FILE_VERSION'].includes(error.code);
    if (isUnusable) return [];
    throw error;
  }
}

function jobsIn({ jobs }: JsonFields): readonly BuiltJob[] {
  if (!Array.isArray(jobs)) return [];
  return jobs.slice(-JOBS_MAX).flatMap((item: unknown): BuiltJob[] => {
    if (!Array.isArray(item)) return [];
    const [name, builtOn] = item as readonly unknown[];
    if (!isName(name) || !isName(builtOn)) return [];
    return [{ name, builtOn: builtOn === '' ? undefined : builtOn }];
  });
}

function isName(value: unknown): value is string {
  return typeof value === 'string' && value.length <= NAME_MAX;
}
