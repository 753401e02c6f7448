// A whole Bacula as Debian ships it (9.6, catalog in SQLite), started in a folder of its own with free
// ports of the loopback address, and gone with whoever started it. Nothing of the machine's own Bacula
// is read or written.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type Clock, systemClock, systemRandom } from '../../shared/clock.js';
import { DrError } from '../../shared/errors.js';
import { BaculaCatalog, type JobRow } from './catalog.js';
import { CHECKOUT } from './checkout.js';
import { DAEMONS, type DaemonName, siteFiles } from './config.js';
import { BaculaDaemon } from './daemon.js';
import { freePort } from './free-port.js';
import { outputOf } from './programs.js';
import { restoreLines, type RestoreWish } from './restore-lines.js';

const PROGRAMS: Readonly<Record<DaemonName, string>> = {
  dir: '/usr/sbin/bacula-dir',
  sd: '/usr/sbin/bacula-sd',
  fd: '/usr/sbin/bacula-fd',
};
/** What the plugin starts, for `HVDR_BACKEND`. */
export const BACKEND_PROGRAM = path.join(CHECKOUT, 'bin', 'podheitor-hyperv-backend');
/** The files for a Director that come with the product. */
export const DIRECTOR_FILES = path.join(CHECKOUT, 'deploy', 'bacula');
const LOOK_MS = 20;
/** A change of the catalog that its time stamp does not show is seen so late. */
const LOOK_ANYWAY_MS = 1000;

export interface SiteOptions {
  /** Resources of the Director: Jobs, FileSets, Schedules, Pools. */
  readonly resources: string;
  /** Beyond that of this process, for all daemons. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Absolute, empty; it stays. Default: a temporary one, which goes with the site. */
  readonly folder?: string;
  readonly clock?: Clock;
}

export interface JobResult extends JobRow {
  readonly log: string;
}

export class BaculaSite {
  readonly folder: string;
  readonly pluginFolder: string;
  readonly catalog: BaculaCatalog;
  readonly daemons: Readonly<Record<DaemonName, BaculaDaemon>>;
  readonly #clock: Clock;
  readonly #isKept: boolean;

  private constructor(
    folder: string,
    ports: Readonly<Record<DaemonName, number>>,
    { clock = systemClock, environment = {}, folder: given }: SiteOptions,
  ) {
    this.folder = folder;
    this.pluginFolder = path.join(folder, 'plugins');
    this.catalog = new BaculaCatalog(path.join(folder, 'dir', 'bacula.db'));
    this.#clock = clock;
    this.#isKept = given !== undefined;
    const daemon = (name: DaemonName): BaculaDaemon =>
      new BaculaDaemon({
        program: PROGRAMS[name],
        configFile: path.join(folder, `bacula-${name}.conf`),
        port: ports[name],
        environment,
        clock,
      });
    this.daemons = { dir: daemon('dir'), sd: daemon('sd'), fd: daemon('fd') };
  }

  /** Writes the files of a site and makes its catalog; nothing runs yet, so a plugin can be put into its folder. */
  static async create(options: SiteOptions): Promise<BaculaSite> {
    const folder = options.folder ?? mkdtempSync(path.join(tmpdir(), 'hvdr-bacula-'));
    const ports = { dir: await freePort(), sd: await freePort(), fd: await freePort() };
    const site = new BaculaSite(folder, ports, options);
    try {
      for (const name of [...DAEMONS, 'volumes', 'plugins', 'restored']) {
        mkdirSync(path.join(folder, name));
      }
      const files = siteFiles({
        folder,
        ports,
        password: systemRandom.fill(Buffer.alloc(12)).toString('hex'),
        pluginFolder: site.pluginFolder,
        resources: options.resources,
      });
      // the password is for this user alone
      for (const [name, text] of Object.entries(files)) {
        writeFileSync(path.join(folder, name), text, { mode: 0o600 });
      }
      await site.catalog.create();
      return site;
    } catch (error) {
      await site.close();
      throw error;
    }
  }

  /** Compiles our plugin, as it is shipped, into the folder of plugins. @throws DrError E_TOOL_FAILED */
  async buildPlugin(): Promise<void> {
    await outputOf(process.execPath, [
      path.join(CHECKOUT, 'bin', 'build-adapter.mjs'),
      ...['--platform', 'linux', '--folder', this.pluginFolder, '--plugin', 'podheitor-hyperv'],
    ]);
  }

  /** Starts the three daemons. */
  async start(): Promise<void> {
    await this.daemons.sd.start();
    await this.daemons.fd.start();
    await this.daemons.dir.start();
  }

  /** What the Director says against its own file; empty when it takes it. */
  async check(): Promise<string> {
    const args = ['-t', '-c', path.join(this.folder, 'bacula-dir.conf')];
    return (await outputOf(PROGRAMS.dir, args, { codes: 'any' })).trim();
  }

  /** Ends everything and removes a temporary folder; also right after a failed start. */
  async close(): Promise<void> {
    try {
      for (const name of DAEMONS) await this.daemons[name].dispose();
    } finally {
      if (!this.#isKept) rmSync(this.folder, { recursive: true, force: true });
    }
  }

  /** What the console says to these lines, typed one after the other. @throws DrError E_TOOL_FAILED */
  console(...lines: readonly string[]): Promise<string> {
    const args = ['-n', '-c', path.join(this.folder, 'bconsole.conf')];
    return outputOf('bconsole', args, { input: `${lines.join('\n')}\nquit\n` });
  }

  /** Starts a job and answers with its id, while it runs. `arguments` as bconsole's `run` has them. */
  async begin(job: string, ...words: readonly string[]): Promise<number> {
    return queuedJobId(await this.console(`run job="${job}" ${words.join(' ')} yes`));
  }

  /** Runs a job to its end. */
  async run(job: string, ...words: readonly string[]): Promise<JobResult> {
    return this.end(await this.begin(job, ...words));
  }

  /** Waits for the end of a job, and for all that it has to say. */
  async end(jobId: number): Promise<JobResult> {
    for (;;) {
      const { stamp } = this.catalog;
      const row = await this.job(jobId);
      const log = await this.catalog.log(jobId);
      // the summary is the last that the Director writes of a job
      if (!'CRSFMcjmsdtp'.includes(row.status) && log.includes('Termination:')) {
        return { ...row, log };
      }
      await this.#change(stamp, jobId);
    }
  }

  /** Resolves when the catalog is another one than that of `stamp`. */
  async #change(stamp: string, jobId: number): Promise<void> {
    const latest = this.#clock.monotonic() + LOOK_ANYWAY_MS;
    while (this.catalog.stamp === stamp && this.#clock.monotonic() < latest) {
      if (!this.daemons.dir.isRunning) {
        throw new DrError('E_TOOL_FAILED', `the Director ended before job ${jobId} did`);
      }
      await this.#clock.sleep(LOOK_MS);
    }
  }

  /** The row of a job as it stands now. */
  async job(jobId: number): Promise<JobRow> {
    const row = (await this.catalog.jobs()).find((each) => each.jobId === jobId);
    if (row === undefined) {
      throw new DrError('E_TOOL_FAILED', `the catalog has no job ${jobId}`);
    }
    return row;
  }

  cancel(jobId: number): Promise<string> {
    return this.console(`cancel jobid=${jobId} yes`);
  }

  /** Deletes the rows of a job and of its files. */
  async forget(jobId: number): Promise<void> {
    await this.console(`delete jobid=${jobId}`, 'yes');
    const [left] = (await this.catalog.jobs()).filter((row) => row.jobId === jobId);
    if (left !== undefined) {
      throw new DrError('E_TOOL_FAILED', `job ${jobId} is still in the catalog`);
    }
  }

  async killHard(name: DaemonName): Promise<void> {
    await this.daemons[name].end('SIGKILL');
  }

  restart(name: DaemonName): Promise<void> {
    return this.daemons[name].start();
  }

  /** Restores to the end of the job. */
  async restore(wish: RestoreWish): Promise<JobResult> {
    return this.end(await this.beginRestore(wish));
  }

  /** Starts a restore and answers with its id, while it runs. */
  async beginRestore(wish: RestoreWish): Promise<number> {
    return queuedJobId(await this.console(...restoreLines(this.folder, wish)));
  }
}

function queuedJobId(text: string): number {
  const match = /JobId=(\d+)/.exec(text);
  if (match === null) throw new DrError('E_TOOL_FAILED', `no job was queued:\n${text}`);
  return Number(match[1]);
}
