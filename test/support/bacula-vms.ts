// VMs of a lab host in a real Bacula with our plugin and backend: what a test of the main job begins
// with. Guests write, jobs run, restores go to another host, and their disks are compared to the byte
// with what the guest saw.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { expect } from 'chai';
import { directorString, pluginCommand } from '../../plugin-bridge/plugin-string.js';
import { AdapterRig } from './adapter-rig.js';
import { SITE_NAMES } from './bacula-config.js';
import { BaculaSite, type JobResult, needBacula, type RestoreWish } from './bacula-site.js';
import { checkoutFolder } from './checkout.js';
import { runHvdr } from './cli.js';
import { needTool } from './need.js';
import { WorkFolder } from './work-folder.js';

const DISK_SIZE = '16M';
const ASK_AGAIN_MS = 50;

export type HostName = 'lab' | 'other';

/** What `hvdr lab show --json` says, as far as tests look. */
export interface ShownVm {
  readonly id: string;
  readonly name: string;
  readonly powerState: string;
  readonly disks: readonly { readonly diskId: string }[];
  readonly adapters: readonly { readonly mac: string; readonly switchName?: string }[];
  readonly files: readonly string[];
  /** What a backup reads from; gone when it ends. */
  readonly recoveryCheckpoints: readonly { readonly id: string }[];
}

/** Jobs by name, and the parameters of the Plugin line of each. */
export type JobLines = Readonly<Record<string, Readonly<Record<string, string>>>>;

function resourcesOf(name: string, parameters: Readonly<Record<string, string>>): string {
  const given = Object.entries(parameters).map(([key, value]) => ({ key, value }));
  const plugin = directorString(pluginCommand('podheitor-hyperv', given));
  const { client, storage, pool } = SITE_NAMES;
  return `FileSet { Name = ${name}; Include { Plugin = ${plugin} } }
Job {
  Name = ${name}; Type = Backup; Level = Incremental; Client = ${client}; FileSet = ${name}
  Storage = ${storage}; Pool = ${pool}; Messages = Standard
}
`;
}

export function expectWell(result: JobResult): void {
  expect(result, result.log).to.include({ status: 'T', errors: 0 });
}

/** Until it is so: what another process does by itself tells nobody. */
export async function until(isSo: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await isSo())) await pause(ASK_AGAIN_MS);
}

export class BaculaVms {
  readonly site: BaculaSite;
  readonly #work: WorkFolder;
  readonly #rig: AdapterRig;
  /** Disks of a VM as its guest saw them, by job and name. */
  readonly #guests = new Map<string, readonly Buffer[]>();
  #seed = 0;

  private constructor(work: WorkFolder, site: BaculaSite, rig: AdapterRig) {
    this.#work = work;
    this.site = site;
    this.#rig = rig;
  }

  /** Skips the suite when a part of it is not installed. */
  static need(context: Mocha.Context): void {
    needBacula(context);
    needTool(context, 'gcc');
  }

  /** A site that runs, SQL01 with two disks at a host, and an empty host beside it. */
  static async create(jobs: JobLines): Promise<BaculaVms> {
    const work = new WorkFolder('bacula-vms');
    let site: BaculaSite | undefined;
    let rig: AdapterRig | undefined;
    try {
      site = await BaculaSite.create({
        resources: Object.entries(jobs)
          .map(([name, line]) => resourcesOf(name, line))
          .join(''),
        environment: {
          HVDR_BACKEND: join(checkoutFolder, 'bin', 'podheitor-hyperv-backend'),
          HVDR_BACKEND_CONF: work.file('backend.conf'),
        },
      });
      rig = await AdapterRig.build('linux');
      await rig.release(site.pluginFolder);
      const vms = new BaculaVms(work, site, rig);
      mkdirSync(work.file('configs'));
      for (const host of ['lab', 'other']) await vms.lab('init', host);
      await vms.createVm('SQL01');
      vms.backendAt('lab');
      await site.start();
      return vms;
    } catch (error) {
      await site?.close();
      rig?.dispose();
      work.dispose();
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.site.close();
    this.#rig.dispose();
    this.#work.dispose();
  }

  /** The absolute path of `name` in the folder of the test. */
  file(name: string): string {
    return this.#work.file(name);
  }

  /** Runs `hvdr lab …` in the folder of the test. */
  async lab(...args: readonly string[]): Promise<Buffer> {
    const run = await runHvdr(['lab', ...args], { folder: this.#work.path });
    expect(run.code, run.stderr).to.equal(0);
    return run.stdout;
  }

  /** One with two disks and an adapter, running. */
  async createVm(name: string): Promise<void> {
    const disks = ['--disk', DISK_SIZE, '--disk', DISK_SIZE];
    await this.lab('create-vm', 'lab', name, ...disks, '--switch', 'lan');
    await this.lab('start', 'lab', name);
  }

  async list(host: HostName): Promise<readonly { readonly id: string; readonly name: string }[]> {
    const text = (await this.lab('list', host, '--json')).toString();
    return (JSON.parse(text) as { vms: { id: string; name: string }[] }).vms;
  }

  async show(vm = 'SQL01', host: HostName = 'lab'): Promise<ShownVm> {
    return JSON.parse((await this.lab('show', host, vm, '--json')).toString()) as ShownVm;
  }

  /** Bytes of both disks. */
  async guestOf(vm: string, host: HostName = 'lab'): Promise<Buffer[]> {
    const all: Buffer[] = [];
    for (const disk of ['0', '1']) all.push(await this.lab('read', host, vm, '--disk', disk));
    return all;
  }

  /** Random bytes into so many blocks of 64 KiB of each disk. */
  async write(vm = 'SQL01', blocks = 5): Promise<void> {
    for (const disk of ['0', '1']) {
      const where = ['--disk', disk, '--random', `${blocks}`, '--block', '64K'];
      await this.lab('write', 'lab', vm, ...where, '--seed', `${++this.#seed}`);
    }
  }

  /** Notes what the guest sees as that of the job. */
  async keep(jobId: number, vm = 'SQL01'): Promise<void> {
    this.#guests.set(`${jobId} ${vm}`, await this.guestOf(vm));
  }

  /** Writes, runs the job, and keeps what the guests saw. */
  async backUp(job: string, level: string, vms: readonly string[] = ['SQL01']): Promise<JobResult> {
    for (const vm of vms) await this.write(vm);
    const result = await this.site.run(job, `level=${level}`);
    for (const vm of vms) await this.keep(result.jobId, vm);
    return result;
  }

  /** Whose VMs the backend works with. */
  backendAt(host: HostName): void {
    const lines = [
      `host=lab:${this.file(host)}`,
      `state_dir=${this.stateFolder(host)}`,
      'modes=backup,rct-push',
      `restore_roots=${this.#work.path}`,
      `config_folder=${this.file('configs')}`,
    ];
    writeFileSync(this.file('backend.conf'), `${lines.join('\n')}\n`, { mode: 0o600 });
  }

  stateFolder(host: HostName): string {
    return this.file(`state-${host}`);
  }

  /** All that the backends of the host have logged. */
  backendLog(host: HostName = 'lab'): string {
    return readFileSync(join(this.stateFolder(host), 'backend.log'), 'utf8');
  }

  /** What `config_file=NAME` of a Plugin line reads. */
  configFile(name: string, ...lines: readonly string[]): void {
    writeFileSync(join(this.file('configs'), name), `${lines.join('\n')}\n`, { mode: 0o600 });
  }

  /** A restore to the other host. */
  async restoreElsewhere(wish: RestoreWish): Promise<JobResult> {
    this.backendAt('other');
    try {
      return await this.site.restore(wish);
    } finally {
      this.backendAt('lab');
    }
  }

  /** Disks of a VM as its guest saw them at the job. */
  guestAt(jobId: number, vm = 'SQL01'): readonly Buffer[] {
    const kept = this.#guests.get(`${jobId} ${vm}`);
    if (kept === undefined) throw new Error(`nothing was kept of ${vm} at job ${jobId}`);
    return kept;
  }

  /** The VM at the other host is what `vm` was at the job. */
  async expectGuest(found: string, jobId: number, vm = 'SQL01'): Promise<void> {
    const wanted = this.guestAt(jobId, vm);
    const bytes = await this.guestOf(found, 'other');
    for (const [disk, { length }] of bytes.entries()) expect(length, `disk ${disk}`).to.be.above(0);
    for (const [disk, content] of wanted.entries()) {
      const isEqual = bytes[disk]?.equals(content);
      expect(isEqual, `disk ${disk} of ${vm} after job ${jobId}`).to.equal(true);
    }
  }

  async removeElsewhere(vm: string): Promise<void> {
    await this.lab('remove', 'other', vm, '--yes');
  }

  /** Restores to the other host and compares the VM there with what `vm` was at that job. */
  async expectRestored(wish: RestoreWish, jobId: number, vm = 'SQL01'): Promise<void> {
    expectWell(await this.restoreElsewhere(wish));
    const [restored, ...others] = await this.list('other');
    expect(others).to.deep.equal([]);
    await this.expectGuest(restored?.id ?? '', jobId, vm);
    await this.removeElsewhere(restored?.id ?? '');
  }
}
