// The Bacula of the demo: its jobs, run as an operator runs them in the console, each told with the JobStatus
// that the catalog has of it; and the backend.conf that says whose VMs the File Daemon works with.

import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileSetText, pluginCommand } from '../plugin-bridge/plugin-string.js';
import { formatSize } from '../shared/sizes.js';
import {
  BACKEND_PROGRAM,
  BaculaSite,
  type JobResult,
  type RestoreWish,
  SITE_NAMES,
} from './bacula-site/index.js';
import { type DemoSites, KEYS } from './demo-sites.js';

const BACKEND_CONF = 'backend.conf';
export const SITE_FOLDER = 'bacula';

/** A job of the demo and the parameters of its Plugin line. */
export interface DemoJob {
  readonly name: string;
  readonly parameters: Readonly<Record<string, string>>;
}

export class DemoBacula {
  readonly #sites: DemoSites;
  readonly #bacula: BaculaSite;

  private constructor(sites: DemoSites, bacula: BaculaSite) {
    this.#sites = sites;
    this.#bacula = bacula;
  }

  /** Starts Director, Storage Daemon and File Daemon. @throws DrError E_TOOL_FAILED */
  static async start(sites: DemoSites, jobs: readonly DemoJob[]): Promise<DemoBacula> {
    const folder = path.join(sites.folder, SITE_FOLDER);
    mkdirSync(folder);
    const bacula = await BaculaSite.create({
      folder,
      resources: jobs.map(resourcesOf).join('\n'),
      environment: {
        HVDR_BACKEND: BACKEND_PROGRAM,
        HVDR_BACKEND_CONF: path.join(sites.folder, BACKEND_CONF),
      },
      clock: sites.context.clock,
    });
    try {
      await bacula.buildPlugin();
      await bacula.start();
      const [, version = ''] = /Version: (\S+)/.exec(await bacula.console('version')) ?? [];
      sites.report.say('run', `bacula-sd, bacula-fd, bacula-dir ${version} in ${SITE_FOLDER}`);
      return new DemoBacula(sites, bacula);
    } catch (error) {
      await bacula.close();
      throw error;
    }
  }

  stop(): Promise<void> {
    return this.#bacula.close();
  }

  /** Whose VMs the backend works with from the next job on. */
  workWith(lab: string): void {
    const { folder } = this.#sites;
    const lines = [
      `host=lab:${path.join(folder, lab)}`,
      `state_dir=${path.join(folder, `state-${lab}`)}`,
      `restore_roots=${folder}`,
      `key_folder=${path.join(folder, KEYS)}`,
      'receivers=127.0.0.1',
      'modes=backup,rct-push,failover-test',
    ];
    writeFileSync(path.join(folder, BACKEND_CONF), `${lines.join('\n')}\n`, { mode: 0o600 });
  }

  /** `run job=…`, which must end with JobStatus T and no error. */
  async backUp(job: string, level: 'Full' | 'Incremental'): Promise<JobResult> {
    this.#sites.report.say('console', `run job=${job} level=${level}`);
    const result = await this.#bacula.run(job, `level=${level}`);
    this.#judgeStatus(result, 'T');
    const how = `job ${result.jobId}: ${job} ${result.level}`;
    this.#sites.report.mark('wire', `${how}, ${formatSize(result.bytes)}`);
    return result;
  }

  /** Names of the files that the catalog has of a job. */
  async filesOf(jobId: number): Promise<string[]> {
    return (await this.#bacula.catalog.files(jobId)).map(({ name }) => name);
  }

  /** The command that asks the catalog. */
  catalogCommand(sql: string): string {
    return `sqlite3 ${SITE_FOLDER}/dir/bacula.db '${sql}'`;
  }

  /** A job that must end red. */
  async failing(job: string): Promise<JobResult> {
    this.#sites.report.say('console', `run job=${job} level=Full`);
    const result = await this.#bacula.run(job, 'level=Full');
    this.#judgeStatus(result, 'f');
    return result;
  }

  /** Restores to a folder of the demo. */
  async restore(wish: RestoreWish & { readonly where: string }): Promise<JobResult> {
    const point = wish.of === 'current' ? 'current' : JSON.stringify(wish.of);
    this.#sites.report.say('console', `restore where=${wish.where} ${point} …`);
    const where = path.join(this.#sites.folder, wish.where);
    const result = await this.#bacula.restore({ ...wish, where });
    this.#judgeStatus(result, 'T');
    this.#sites.report.mark('wire', `job ${result.jobId}: restore`);
    return result;
  }

  #judgeStatus(
    { jobId, name, level, status, errors, files, bytes }: JobResult,
    wanted: string,
  ): void {
    const isWell = status === wanted && (wanted !== 'T' || errors === 0);
    const size = `${files} files, ${formatSize(bytes)}`;
    this.#sites.report.judge({
      what: `job ${jobId} (${name}, level ${level.trim() === '' ? 'none' : level}) has JobStatus ${status} and ${errors} errors; ${size}`,
      command: this.catalogCommand(`SELECT JobStatus, JobErrors FROM Job WHERE JobId = ${jobId}`),
      isEqual: isWell,
    });
  }
}

function resourcesOf({ name, parameters }: DemoJob): string {
  const { client, storage, pool } = SITE_NAMES;
  const given = Object.entries(parameters).map(([key, value]) => ({ key, value }));
  const commands = [pluginCommand('podheitor-hyperv', given)];
  return `${fileSetText({ name, commands })}
Job {
  Name = "${name}"; Type = Backup; Level = Incremental; Client = ${client}; FileSet = "${name}"
  Storage = ${storage}; Pool = ${pool}; Messages = Standard
}
`;
}
