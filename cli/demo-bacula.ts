// `hvdr demo --bacula`, the body of `npm run demo:bacula`: the same VMs by the way of Bacula. A real Director, Storage
// Daemon and File Daemon with our plugin back a VM of the lab up and restore it at another host.

import path from 'node:path';
import { formatSize } from '../shared/sizes.js';
import type { CliContext } from './context.js';
import { DemoBacula, type DemoJob, SITE_FOLDER } from './demo-bacula-jobs.js';
import { IMAGE_BYTES, makeImage } from './demo-image.js';
import { DemoReport } from './demo-proof.js';
import { DR_LAB, DemoSites, KEYS, type KeptBytes, LAB, STORE } from './demo-sites.js';

const VM = 'SQL01';
const DISKS = 2;
const IMAGE = 'monday.img';
const NIGHTLY = 'Nightly';
const CYCLES = 'Cycles';
const NOBODY = 'Nobody';
const DIRECT = 'Direct';
const DRILL = 'Drill';
const DRILL_KEY = 'drill.psk';

/** The jobs, for a receiver that listens at this port. */
function jobsFor(port: number): readonly DemoJob[] {
  const receiver = { dr_host: '127.0.0.1', dr_port: String(port) };
  const cycle = { vm: 'SQL*', mode: 'rct-push', push_cycles: '1', rpo_seconds: '600' };
  const direct = { ...cycle, push_apply_remote: 'yes', ...receiver, dr_psk_file: 'primary.psk' };
  const drill = { vm: 'SQL*', mode: 'failover-test', ...receiver, dr_psk_file: DRILL_KEY };
  return [
    { name: NIGHTLY, parameters: { vm: 'SQL*' } },
    { name: CYCLES, parameters: cycle },
    { name: DIRECT, parameters: direct },
    { name: DRILL, parameters: drill },
    { name: NOBODY, parameters: { vm: 'Missing*' } },
  ];
}

/** What the guest held when a job ran. */
interface Kept {
  readonly jobId: number;
  readonly title: string;
  readonly disks: readonly KeptBytes[];
}

export class DemoBaculaStory {
  readonly #context: CliContext;
  readonly #folder: string;
  readonly #report: DemoReport;
  readonly #sites: DemoSites;
  #seed = 0;
  #restores = 0;

  constructor(context: CliContext, folder: string) {
    this.#context = context;
    this.#folder = folder;
    this.#report = new DemoReport(context);
    this.#sites = new DemoSites(context, folder, this.#report);
  }

  async run(): Promise<void> {
    const shown = path.relative(this.#context.folder, this.#folder) || '.';
    this.#report.say('start', `folder ${shown}`);
    try {
      await this.#prepare();
      const bacula = await DemoBacula.start(this.#sites, jobsFor(this.#sites.drPort));
      try {
        await this.#jobs(bacula, shown);
      } finally {
        await bacula.stop();
      }
    } finally {
      await this.#sites.stopReceivers();
    }
    this.#report.finish(this.#folder, shown, [
      `sqlite3 ${path.join(shown, SITE_FOLDER, 'dir', 'bacula.db')} 'SELECT JobId, Name, Level, JobStatus FROM Job'`,
      `less ${path.join(shown, SITE_FOLDER, 'messages')}`,
      `hvdr points ${VM} --store ${path.join(shown, STORE)}`,
      'hvdr bacula fileset --help',
    ]);
  }

  async #jobs(bacula: DemoBacula, shown: string): Promise<void> {
    bacula.workWith(LAB);
    const nightly = await this.#nights(bacula);
    this.#report.requireEqual(shown);
    await this.#restored(bacula, nightly);
    this.#report.requireEqual(shown);
    await this.#cycles(bacula);
    await this.#direct(bacula);
    this.#report.requireEqual(shown);
    await this.#drill(bacula);
    await this.#red(bacula);
  }

  async #prepare(): Promise<void> {
    const kind = await makeImage(this.#context, this.#folder, IMAGE, 1);
    this.#report.say('made', `a guest disk with ${kind}, ${formatSize(IMAGE_BYTES)}`);
    await this.#sites.hvdr('lab', 'init', LAB);
    await this.#sites.hvdr('lab', 'init', DR_LAB);
    await this.#sites.hvdr('lab', 'create-vm', LAB, VM, '--import', IMAGE, '--disk', '32M');
    await this.#sites.hvdr('lab', 'start', LAB, VM);
    this.#report.mark('primary', `${VM} runs, two disks`);
    await this.#sites.makeKeys();
    await this.#sites.hvdr(
      ...['psk', 'generate', '--out', `${KEYS}/${DRILL_KEY}`],
      ...['--principal', 'drill', '--role', 'drill'],
    );
    await this.#sites.startReceiver();
  }

  /** A Full, and two Incrementals over what the guest wrote. */
  async #nights(bacula: DemoBacula): Promise<Kept[]> {
    this.#report.say('chapter', 'a Full and Incrementals');
    const kept = [await this.#backUp(bacula, NIGHTLY, 'Full')];
    for (const cells of [12, 7]) {
      await this.#writes(cells);
      kept.push(await this.#backUp(bacula, NIGHTLY, 'Incremental'));
    }
    return kept;
  }

  /** The newest point and one before it, at a host that never saw the VM. */
  async #restored(bacula: DemoBacula, [full, first, newest]: readonly Kept[]): Promise<void> {
    this.#report.say('chapter', 'restores at another host');
    if (full === undefined || first === undefined || newest === undefined) return;
    await this.#prove(bacula, newest, { of: 'current', fileSet: NIGHTLY });
    await this.#prove(bacula, first, { of: { jobIds: [full.jobId, first.jobId] } });
  }

  /** Cycles onto the Storage Daemon's volumes, and the nightly job beside them: neither misses a change. */
  async #cycles(bacula: DemoBacula): Promise<void> {
    this.#report.say('chapter', 'rct-push onto volumes, beside the nightly job');
    await this.#backUp(bacula, CYCLES, 'Full');
    await this.#writes(5);
    await this.#backUp(bacula, CYCLES, 'Incremental');
    await this.#writes(5);
    const nightly = await this.#backUp(bacula, NIGHTLY, 'Incremental');
    await this.#writes(5);
    const cycle = await this.#backUp(bacula, CYCLES, 'Incremental');
    await this.#prove(bacula, cycle, { of: 'current', fileSet: CYCLES });
    await this.#prove(bacula, nightly, { of: 'current', fileSet: NIGHTLY });
  }

  /** The same cycle straight to the receiver; a point of it is what the guest had. */
  async #direct(bacula: DemoBacula): Promise<void> {
    this.#report.say('chapter', 'rct-push straight to the receiver');
    for (const cells of [0, 9]) {
      if (cells > 0) await this.#writes(cells);
      const hashes = await this.#sites.guestHashes(VM, DISKS);
      const { jobId } = await bacula.backUp(DIRECT, 'Incremental');
      const title = `the point of job ${jobId} (${DIRECT})`;
      this.#report.mark('dr', `point of job ${jobId}`);
      await this.#sites.provePoint(VM, { point: 'latest', title, hashes }, `point${jobId}`);
    }
  }

  /** A test failover from the newest point, whose report lies in the catalog. */
  async #drill(bacula: DemoBacula): Promise<void> {
    this.#report.say('chapter', 'a drill');
    const { jobId } = await bacula.backUp(DRILL, 'Full');
    this.#report.mark('dr', `${VM} was started and removed`);
    const names = await bacula.filesOf(jobId);
    this.#report.judge({
      what: `job ${jobId} brought the report of the drill`,
      command: bacula.catalogCommand(
        `SELECT Name FROM File JOIN Filename USING (FilenameId) WHERE JobId = ${jobId}`,
      ),
      isEqual: names.some((name) => /\/drill-\d+\.html$/.test(name)),
    });
    this.#report.judge({
      what: 'the drill left nothing behind',
      command: `hvdr lab list ${DR_LAB}`,
      isEqual: !(await this.#sites.hasVm(DR_LAB, VM)),
    });
  }

  /** What cannot succeed is red in the catalog. */
  async #red(bacula: DemoBacula): Promise<void> {
    this.#report.say('chapter', 'a job that protects nothing is red');
    const { log, jobId } = await bacula.failing(NOBODY);
    this.#report.judge({
      what: `job ${jobId} says why`,
      command: `grep E_NO_MATCH ${SITE_FOLDER}/messages`,
      isEqual: log.includes('E_NO_MATCH'),
    });
  }

  async #writes(cells: number): Promise<void> {
    for (let disk = 0; disk < DISKS; disk++) {
      await this.#sites.quiet(
        ...['lab', 'write', LAB, VM, '--disk', String(disk), '--random', String(cells)],
        ...['--block', '64K', '--seed', String(++this.#seed)],
      );
    }
    const written = formatSize(DISKS * cells * 65_536);
    this.#report.say('guest', `writes ${written}`);
    this.#report.mark('primary', `guest writes ${written}`);
  }

  async #backUp(bacula: DemoBacula, job: string, level: 'Full' | 'Incremental'): Promise<Kept> {
    const { jobId } = await bacula.backUp(job, level);
    const title = `job ${jobId} (${job}, ${level})`;
    return { jobId, title, disks: await this.#keep(LAB, `job${jobId}`) };
  }

  async #keep(lab: string, name: string): Promise<KeptBytes[]> {
    const disks: KeptBytes[] = [];
    for (let disk = 0; disk < DISKS; disk++) {
      disks.push(await this.#sites.keepBytes({ lab, vm: VM }, `${name}-disk${disk}`, disk));
    }
    return disks;
  }

  /** Restores the VM at the other host, starts it there and compares what its guest sees. */
  async #prove(
    bacula: DemoBacula,
    { title, disks }: Kept,
    wish: Pick<Parameters<DemoBacula['restore']>[0], 'of' | 'fileSet'>,
  ): Promise<void> {
    const where = `restore${++this.#restores}`;
    bacula.workWith(DR_LAB);
    await bacula.restore({ ...wish, where });
    bacula.workWith(LAB);
    await this.#sites.hvdr('lab', 'start', DR_LAB, VM);
    this.#report.mark('dr', `${VM} runs from Bacula`);
    const found = await this.#keep(DR_LAB, where);
    for (const [disk, expected] of disks.entries()) {
      const other = found[disk];
      if (other === undefined) continue;
      this.#sites.judgeSame(
        `${VM} at the other host is that of ${title}, disk ${disk}`,
        expected,
        other,
      );
    }
    await this.#sites.quiet('lab', 'stop', DR_LAB, VM);
    await this.#sites.quiet('lab', 'remove', DR_LAB, VM, '--yes');
  }
}
