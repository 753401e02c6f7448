// A VM by the way of Bacula: our plugin and backend in the real File Daemon, against the daemon's own backup and
// restore of the same bytes as a plain file. One Bacula serves all rounds, each job on a volume of its own; a
// restore reads a backup that was made before the rounds. CPU and memory are those of the three daemons and of all
// that they start.

import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  BACKEND_PROGRAM,
  BaculaSite,
  DAEMONS,
  DIRECTOR_FILES,
  type JobResult,
  SITE_NAMES,
} from '../../cli/bacula-site/index.js';
import { fileSetText, pluginCommand } from '../../plugin-bridge/plugin-string.js';
import { defined } from '../../shared/assert.js';
import { DrError } from '../../shared/errors.js';
import {
  type Bench,
  type BenchContext,
  type Contender,
  GIB,
  type Goal,
  MIB,
  speedGoal,
} from '../bench.js';
import { writeRandomFile } from '../data.js';
import { perform, type Step } from '../measure.js';
import { expectSameFile, syncFileSystem } from '../peers.js';
import type { Services } from '../services.js';

const OUR_BACKUP = 'VM through plugin and backend, backup';
const OUR_RESTORE = 'VM through plugin and backend, restore';
const PLAIN_BACKUP = 'plain file, backup';
const PLAIN_RESTORE = 'plain file, restore';
const VM = 'SQL01';
const RATIO_MIN = 0.9;
const BACKEND_MIB_MAX = 250;
/** One each ten minutes. */
const CYCLES_A_DAY = 144;

const memoryGoal = (name: string): Goal => ({
  text: `largest process of: ${name}`,
  unit: 'MiB',
  bound: 'at most',
  value: BACKEND_MIB_MAX,
  figure: (medianOf) => medianOf(name).peakRssBytes / MIB,
});

export const bacula: Bench = {
  name: 'bacula',
  question:
    "A VM with a disk of 1 GiB of random data goes through Bacula's File Daemon onto a volume and back, durable; against the same bytes as a plain file.",
  sizeBytes: GIB,
  spaceBytes: 9 * GIB,
  programs: ['bacula-dir', 'bacula-sd', 'bacula-fd', 'bconsole', 'sqlite3', 'gcc', 'setpriv'],
  async prepare(context) {
    const jobs = await BaculaJobs.start(context);
    const rows = await jobs.rowsOfCycle();
    const perDay = [...rows.values()].reduce((sum, count) => sum + count, 0) * CYCLES_A_DAY;
    return {
      settings: {
        'disk MiB': context.sizeBytes / MIB,
        data: 'random',
        'catalog rows of one rct-push cycle': [...rows]
          .map(([table, count]) => `${table} ${count}`)
          .join(' + '),
        'a day of them, one each ten minutes': perDay,
      },
      contenders: [
        jobs.backup(OUR_BACKUP, 'ours', 'VM'),
        jobs.backup(PLAIN_BACKUP, 'peer', 'Plain'),
        jobs.restore(OUR_RESTORE, 'ours', 'VM'),
        jobs.restore(PLAIN_RESTORE, 'peer', 'Plain'),
      ],
      goals: [
        speedGoal(OUR_BACKUP, PLAIN_BACKUP, RATIO_MIN),
        speedGoal(OUR_RESTORE, PLAIN_RESTORE, RATIO_MIN),
        memoryGoal(OUR_BACKUP),
        memoryGoal(OUR_RESTORE),
      ],
      close: () => jobs.close(),
    };
  },
};

class BaculaJobs {
  readonly #context: BenchContext;
  readonly #site: BaculaSite;
  /** Volumes that restores read. */
  #kept: ReadonlySet<string> = new Set();
  readonly #fulls = new Map<string, number>();

  private constructor(context: BenchContext, site: BaculaSite) {
    this.#context = context;
    this.#site = site;
  }

  /** Makes the disk and the VM, starts Bacula, and runs the backups that the restores read. */
  static async start(context: BenchContext): Promise<BaculaJobs> {
    const { folder, clock } = context;
    mkdirSync(join(folder, 'bacula'));
    const site = await BaculaSite.create({
      folder: join(folder, 'bacula'),
      resources: resourcesFor(join(folder, 'disk.raw')),
      environment: {
        HVDR_BACKEND: BACKEND_PROGRAM,
        HVDR_BACKEND_CONF: join(folder, 'backend.conf'),
      },
      clock,
    });
    const jobs = new BaculaJobs(context, site);
    try {
      await jobs.#makeVm();
      await site.buildPlugin();
      await site.start();
      for (const job of ['VM', 'Plain']) {
        jobs.#fulls.set(job, wellEnded(await site.run(job, 'level=Full')).jobId);
      }
      jobs.#kept = new Set(jobs.#volumes());
      return jobs;
    } catch (error) {
      await jobs.close();
      throw error;
    }
  }

  close(): Promise<void> {
    return this.#site.close();
  }

  /** How many rows each table of the catalog gains by one cycle of deploy/bacula/rct-push.conf. */
  async rowsOfCycle(): Promise<ReadonlyMap<string, number>> {
    wellEnded(await this.#site.run('HyperV-Rct', 'level=Full'));
    // the first delta brings names that the later ones find there
    await this.#cycle();
    const before = await this.#countRows();
    await this.#cycle();
    const after = await this.#countRows();
    this.#dropVolumes();
    const gained = [...after].map(([table, count]) => [table, count - (before.get(table) ?? 0)]);
    return new Map(gained.filter(([, count]) => count !== 0) as [string, number][]);
  }

  async #cycle(): Promise<void> {
    const { product, folder } = this.#context;
    const where = ['lab', 'write', join(folder, 'lab'), VM, '--disk', '0', '--random', '16'];
    await perform(product.hvdr(...where, '--block', '64K', '--seed', '1'));
    wellEnded(await this.#site.run('HyperV-Rct', 'level=Incremental'));
  }

  async #countRows(): Promise<Map<string, number>> {
    const { catalog } = this.#site;
    const tables = await catalog.query("SELECT name FROM sqlite_master WHERE type = 'table'");
    const names = tables.map(({ name }) => String(name)).filter((name) => /^[A-Z]/.test(name));
    const counts = await catalog.query(
      names
        .map((name) => `SELECT '${name}' AS name, count(*) AS rows FROM ${name}`)
        .join(' UNION '),
    );
    return new Map(counts.map(({ name, rows }) => [String(name), Number(rows)]));
  }

  async #makeVm(): Promise<void> {
    const { folder, product, sizeBytes } = this.#context;
    const [lab, image] = [join(folder, 'lab'), join(folder, 'disk.raw')];
    writeRandomFile(image, sizeBytes, 'bacula');
    await perform(product.hvdr('lab', 'init', lab));
    await perform(product.hvdr('lab', 'create-vm', lab, VM, '--import', image));
    await perform(product.hvdr('lab', 'start', lab, VM));
    this.#workWith('lab');
  }

  #workWith(lab: string): void {
    const { folder } = this.#context;
    const lines = [
      `host=lab:${join(folder, lab)}`,
      `state_dir=${join(folder, `state-${lab}`)}`,
      `restore_roots=${folder}`,
    ];
    writeFileSync(join(folder, 'backend.conf'), `${lines.join('\n')}\n`, { mode: 0o600 });
  }

  #volumes(): string[] {
    return readdirSync(join(this.#site.folder, 'volumes'));
  }

  /** A job never writes to a volume of another one, so the catalog may go on naming them. */
  #dropVolumes(): void {
    for (const name of this.#volumes()) {
      if (!this.#kept.has(name)) rmSync(join(this.#site.folder, 'volumes', name));
    }
  }

  #serve(services: Services): void {
    for (const name of DAEMONS) {
      services.adopt(defined(this.#site.daemons[name].processId, 'the daemons run'));
    }
  }

  /** The volumes and the disks are durable when the step is over. */
  #steps(act: string, run: () => Promise<JobResult>): Step[] {
    const job = async (): Promise<undefined> => {
      wellEnded(await run());
    };
    return [{ act, run: job }, syncFileSystem(this.#context.folder)];
  }

  backup(name: string, role: Contender['role'], job: 'VM' | 'Plain'): Contender {
    const { folder, sizeBytes } = this.#context;
    return {
      name,
      role,
      payloadBytes: sizeBytes,
      inputs: [job === 'VM' ? labDisk(join(folder, 'lab')) : join(folder, 'disk.raw')],
      prepare: async () => {
        this.#workWith('lab');
        this.#dropVolumes();
        await Promise.resolve();
      },
      serve: (services) => {
        this.#serve(services);
        return Promise.resolve();
      },
      commands: () => this.#steps(`run job=${job}`, () => this.#site.run(job, 'level=Full')),
    };
  }

  restore(name: string, role: Contender['role'], job: 'VM' | 'Plain'): Contender {
    const { folder, product, sizeBytes } = this.#context;
    const [lab, where] = [join(folder, 'other'), join(folder, 'restored')];
    const jobId = defined(this.#fulls.get(job), 'the job was run before');
    return {
      name,
      role,
      payloadBytes: sizeBytes,
      inputs: [...this.#kept].map((volume) => join(this.#site.folder, 'volumes', volume)),
      prepare: async () => {
        for (const old of [lab, where, join(folder, 'state-other')]) {
          rmSync(old, { recursive: true, force: true });
        }
        await perform(product.hvdr('lab', 'init', lab));
        this.#workWith('other');
        this.#dropVolumes();
      },
      serve: (services) => {
        this.#serve(services);
        return Promise.resolve();
      },
      commands: () =>
        this.#steps('restore', () => this.#site.restore({ of: { jobIds: [jobId] }, where })),
      verify: async () => {
        const image = join(folder, 'disk.raw');
        if (job === 'Plain') return expectSameFile(image, join(where, image));
        const found = join(folder, 'found.raw');
        await perform({
          ...product.hvdr('lab', 'read', lab, VM, '--disk', '0'),
          output: found,
        });
        await expectSameFile(image, found);
        rmSync(found);
      },
    };
  }
}

/** The file of the only disk of a lab. */
function labDisk(lab: string): string {
  const files = readdirSync(lab, { recursive: true, encoding: 'utf8' });
  return join(
    lab,
    defined(
      files.find((file) => file.endsWith('.vhdx')),
      'the lab has a disk',
    ),
  );
}

/** Both jobs with the checksum of a file that our examples ask for. */
function resourcesFor(image: string): string {
  const { client, storage, pool } = SITE_NAMES;
  const commands = [pluginCommand('podheitor-hyperv', [{ key: 'vm', value: VM }])];
  const job = (name: string): string => `Job {
  Name = ${name}; Type = Backup; Level = Full; Client = ${client}; FileSet = ${name}
  Storage = ${storage}; Pool = ${pool}; Messages = Standard
}`;
  return [
    fileSetText({ name: 'VM', commands }),
    `FileSet { Name = Plain; Include { Options { Signature = SHA1 }\n File = "${image}" } }`,
    job('VM'),
    job('Plain'),
    `@${DIRECTOR_FILES}/defaults.conf`,
    `@${DIRECTOR_FILES}/rct-push.conf`,
  ].join('\n');
}

function wellEnded(result: JobResult): JobResult {
  if (result.status === 'T' && result.errors === 0) return result;
  throw new DrError('E_TOOL_FAILED', `job ${result.jobId} of Bacula ended badly:\n${result.log}`, {
    done: 'the bench was stopped; its figures do not count',
  });
}
