// Restores by the real backend process at a lab host, driven as Bacula's metaplugin does it.

import { readdirSync, writeFileSync } from 'node:fs';
import { expect } from 'chai';
import { defined } from '../../shared/assert.js';
import { systemClock, systemRandom } from '../../shared/clock.js';
import { nodeFileSystem } from '../../shared/files/index.js';
import { Lab } from '../../shared/hypervisor/lab/index.js';
import type { VmAdapter } from '../../shared/hypervisor/index.js';
import { startBackend, type BackendProcess } from './backend-process.js';
import type { BackedUpVm, JobFile } from './backup-job.js';
import type { WorkFolder } from './work-folder.js';

const SEAMS = { fs: nodeFileSystem, clock: systemClock, random: systemRandom };

export interface RestoringJob {
  readonly jobId: number;
  /** Unique. */
  readonly name: string;
  /** Of the Plugin line. */
  readonly parameters?: readonly string[];
}

/** What a job said that was no OK, in order. */
type Refusals = readonly string[];

export interface RestoringEnd {
  readonly refusals: Refusals;
  readonly signal: string | null;
  /** Lines of the job's log: `W text`. */
  readonly messages: readonly string[];
}

interface FoundVm {
  readonly isMarked: boolean;
  readonly adapters: readonly VmAdapter[];
  readonly disks: readonly Buffer[];
}

export class RestoringBackend {
  readonly #folder: WorkFolder;
  readonly #vm: BackedUpVm;

  private constructor(folder: WorkFolder, vm: BackedUpVm) {
    this.#folder = folder;
    this.#vm = vm;
  }

  static async make(folder: WorkFolder, vm: BackedUpVm): Promise<RestoringBackend> {
    const site = new RestoringBackend(folder, vm);
    const lab = await Lab.create(folder.file('lab'), SEAMS);
    await lab.createVm({ name: 'other', adapters: [{ switchName: 'LAN' }] });
    await lab.close();
    const lines = [`host=lab:${folder.file('lab')}`, `state_dir=${folder.file('state')}`];
    writeFileSync(folder.file('backend.conf'), `${lines.join('\n')}\n`, { mode: 0o600 });
    return site;
  }

  get where(): string {
    return this.#folder.file('restored');
  }

  start(environment: Readonly<Record<string, string>> = {}): BackendProcess {
    return startBackend(this.#folder.file('backend.conf'), environment);
  }

  /** Up to the loop. */
  async begin({ peer }: BackendProcess, job: RestoringJob): Promise<void> {
    const lines = [
      ...[`Name=${job.name}`, `JobID=${String(job.jobId)}`, 'Type=R'],
      ...[`Where=${this.where}`, 'Replace=a', 'Namespace=@hyperv'],
    ];
    await peer.begin(lines, job.parameters ?? []);
    await peer.start('RestoreStart');
  }

  /** One file; what was refused of it. */
  async deliver({ peer }: BackendProcess, { path, bytes }: JobFile): Promise<Refusals> {
    const announced = await peer.announce(`${this.where}/@hyperv/${path}`, 'F', bytes.length);
    if (announced === 'C SKIP') return [];
    if (announced !== 'C OK') return [announced];
    const taken = await peer.data(inPackets(bytes));
    return taken === 'C OK' ? [] : [taken];
  }

  /** A whole job in a backend of its own; ends with the process, killed or not. */
  async run(
    job: RestoringJob,
    files: readonly JobFile[],
    environment: Readonly<Record<string, string>> = {},
  ): Promise<RestoringEnd> {
    const backend = this.start(environment);
    const refusals: string[] = [];
    await this.#drive(backend, job, files, refusals).catch((error: unknown) => {
      // the pipe of a process that is dead
      if (!/EPIPE|the end/.test(error instanceof Error ? error.message : '')) throw error;
    });
    const [, signal] = await backend.exit;
    expect(backend.stderr()).to.equal('');
    return { refusals, signal, messages: backend.peer.messages };
  }

  async #drive(
    backend: BackendProcess,
    job: RestoringJob,
    files: readonly JobFile[],
    refusals: string[],
  ): Promise<void> {
    const { peer } = backend;
    await this.begin(backend, job);
    for (const file of files) refusals.push(...(await this.deliver(backend, file)));
    await peer.command('FINISH');
    const answer = await peer.answer();
    if (answer !== 'F') refusals.push(answer);
    await peer.end();
    peer.close();
    await peer.untilEnd();
  }

  /** The VM as its owner would find it; `marked`: it is no one's yet. Fails when a byte of it is wrong. */
  async vm(): Promise<'absent' | 'marked' | 'whole'> {
    const found = await this.#find();
    if (found?.isMarked !== false) return found === undefined ? 'absent' : 'marked';
    for (const [index, bytes] of this.#vm.disks.entries()) {
      expect(found.disks[index]?.equals(bytes), `disk ${String(index)}`).to.equal(true);
    }
    return 'whole';
  }

  /** Of the VM; it must be there. */
  async adapters(): Promise<readonly VmAdapter[]> {
    return defined(await this.#find(), 'the VM is there').adapters;
  }

  async #find(): Promise<FoundVm | undefined> {
    const lab = await Lab.open(this.#folder.file('lab'), SEAMS);
    try {
      const all = (await lab.listVms()).filter(({ name }) => name === 'SQL01');
      expect(all.length).to.be.lessThan(2);
      const [vm] = all;
      if (vm === undefined) return undefined;
      const isMarked = (await lab.tagOf(vm.id)) !== undefined;
      const { adapters } = await lab.describeVm(vm.id);
      const disks: Buffer[] = [];
      for (const [index, { length }] of this.#vm.disks.entries()) {
        disks.push(await lab.guestRead(vm.id, index, 0, length));
      }
      return { isMarked, adapters, disks };
    } finally {
      await lab.close();
    }
  }

  /** Hidden files at the destination, and sessions. */
  leftOver(): string[] {
    const hidden = readdirSync(this.where, { recursive: true, encoding: 'utf8' }).filter((name) =>
      /\.restoring-|\.applying$/.test(name),
    );
    const state = readdirSync(this.#folder.file('state')).filter((name) =>
      name.startsWith('restore-'),
    );
    return [...hidden, ...state];
  }
}

/** As the file daemon cuts what it reads. */
export function inPackets(bytes: Buffer): Buffer[] {
  const packets: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += 65_536) packets.push(bytes.subarray(at, at + 65_536));
  return packets;
}
