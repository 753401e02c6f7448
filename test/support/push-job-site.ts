// Two sites whose primary is driven by jobs of Bacula: the lab host, the keys and the receiver of Site,
// and the backend with a backend.conf between them.

import { cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { systemClock } from '../../shared/clock.js';
import { type BackendJob, type BackendJobWishes, beginBackendJob } from './backend-process.js';
import type { TakenFile } from './ptcomm-peer.js';
import { Site } from './site.js';

/** `…/.meta/push-<seq>.json`, as far as tests look into it. */
export interface PushReport {
  readonly format: number;
  readonly seq: number;
  readonly job: string;
  readonly vm: string;
  readonly kind: string;
  readonly point?: string;
  readonly error?: { readonly code: string };
}

export class PushJobSite extends Site {
  readonly conf: string;
  /** Folder of the lab whose VMs jobs work with. */
  backendLab = 'lab';
  #jobs = 0;

  constructor(folder: string) {
    super(folder);
    this.conf = join(folder, 'backend.conf');
  }

  /** The keys of jobs are in a folder of their own; the receiver knows source and viewer only. */
  override async prepare(): Promise<void> {
    await super.prepare();
    mkdirSync(join(this.folder, 'job-keys'));
    cpSync(join(this.folder, 'keys', 'source.psk'), join(this.folder, 'job-keys', 'source.psk'));
    const generate = (file: string, ...more: string[]) =>
      this.hvdr('psk', 'generate', '--out', file, ...more);
    await generate('keys/viewer.psk', '--principal', 'viewer', '--role', 'viewer');
    cpSync(join(this.folder, 'keys', 'viewer.psk'), join(this.folder, 'job-keys', 'viewer.psk'));
    await generate('job-keys/stranger.psk', '--principal', 'primary');
  }

  /** What the administrator lets jobs do. */
  allow(modes: string, ...more: readonly string[]): void {
    const lines = [
      `host=lab:${join(this.folder, this.backendLab)}`,
      `state_dir=${join(this.folder, this.backendLab === 'lab' ? 'state' : 'state-other')}`,
      `key_folder=${join(this.folder, 'job-keys')}`,
      `modes=${modes}`,
      'receivers=127.0.0.1',
      ...more,
    ];
    writeFileSync(this.conf, `${lines.join('\n')}\n`, { mode: 0o600 });
  }

  /** How a Plugin line names the receiver. */
  line(key = 'source.psk'): string[] {
    const port = String(this.pushPort ?? this.port);
    const receiver = ['dr_host=127.0.0.1', `dr_port=${port}`, `dr_psk_file=${key}`];
    return [...receiver, 'quiesce=no', 'max_restore_points=20'];
  }

  job(parameters: readonly string[], wishes: BackendJobWishes = {}): Promise<BackendJob> {
    const name = `direct.2026-11-26_20.00.00_${String(++this.#jobs).padStart(2, '0')}`;
    return beginBackendJob(this.conf, parameters, { name, ...wishes }).ended;
  }

  /** A job of `mode=rct-push push_apply_remote=yes`. */
  directJob(
    vm: string,
    more: readonly string[] = [],
    wishes: BackendJobWishes = {},
  ): Promise<BackendJob> {
    const parameters = [`vm=${vm}`, 'mode=rct-push', 'push_apply_remote=yes', ...this.line()];
    return this.job([...parameters, ...more], wishes);
  }

  async write(vm: string, seed: number, disk = 0): Promise<void> {
    const random = ['--random', '3', '--block', '64K', '--seed', String(seed)];
    await this.hvdr('lab', 'write', 'lab', vm, '--disk', String(disk), ...random);
  }

  /** The newest point at the receiver is what the guest sees now. */
  async expectHead(vm: string, diskCount: number): Promise<void> {
    const points = await this.points(vm);
    const head = points.at(-1) ?? 'none';
    expect(await this.pointHashes(vm, head, diskCount)).to.deep.equal(
      await this.guestHashes(vm, diskCount),
    );
  }
}

/** The reports among the files of a job, each checked for its name. */
export function reportsOf(files: readonly TakenFile[]): PushReport[] {
  return files.map(({ name, content }) => {
    // the format of docs/bacula-push.md
    const report = JSON.parse(content.toString()) as PushReport;
    expect(name).to.equal(`/@hyperv/${report.vm}/.meta/push-${report.seq}.json`);
    expect(report.format).to.equal(1);
    return report;
  });
}

/** Resolves when `isSo` says so; looks again and again, because nothing tells it. */
export async function until(isSo: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await isSo())) await systemClock.sleep(20);
}
