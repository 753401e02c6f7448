// Two labs, a receiver, a daemon, and jobs of the file daemon at either site.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { type BackendJob, beginBackendJob, type RunningBackendJob } from './backend-process.js';
import { FailoverSite } from './failover-site.js';

const MODES = [
  ...['replication-status', 'failover-planned', 'failover-unplanned', 'failover-test'],
  ...['failover-undo', 'failover-permanent', 'failback', 'reprotect'],
];

export class ModeSite extends FailoverSite {
  /** Writes the backend.conf of a site, and keys of all roles into the key folder. */
  async prepareJobs(): Promise<void> {
    for (const role of ['drill', 'viewer']) {
      await this.site.hvdr(
        ...['psk', 'generate', '--out', `keys/${role}.psk`, '--principal', role, '--role', role],
      );
    }
    // the receiver, which runs, looks into the folder every few seconds; the newest key is the last that it sees
    const ways = ['--dr-host', '127.0.0.1', '--dr-port', String(this.site.port)];
    await this.until('a receiver that takes the keys', async () => {
      const run = await this.site.try('status', ...ways, '--psk-file', 'keys/viewer.psk');
      return !run.stderr.includes('E_AUTH');
    });
    this.configure('dr', MODES);
  }

  /** Starts the daemon of the primary; each of the VMs has a point then. */
  async replicate(vms: readonly string[]): Promise<void> {
    this.startDaemon();
    for (const vm of vms) {
      await this.until(`a point of ${vm}`, async () => {
        const run = await this.site.try('points', vm, ...this.operator, '--json');
        return run.code === 0 && run.stdout.toString().includes('"id"');
      });
    }
  }

  /** What the administrator of the file daemon's machine allows. */
  configure(host: 'lab' | 'dr', modes: readonly string[] = MODES): void {
    const { folder } = this.site;
    const lines = [
      `host=lab:${join(folder, host)}`,
      `state_dir=${join(folder, `state-jobs-${host}`)}`,
      `key_folder=${join(folder, 'keys')}`,
      'receivers=127.0.0.1',
      `modes=${modes.join(',')}`,
    ];
    writeFileSync(this.confOf(host), `${lines.join('\n')}\n`, { mode: 0o600 });
  }

  confOf(host: 'lab' | 'dr'): string {
    return join(this.site.folder, `backend-${host}.conf`);
  }

  /** A job with this mode and these words of the Plugin line, while it runs. */
  beginJob(mode: string, ...words: readonly string[]): RunningBackendJob {
    const given = ['dr_host=127.0.0.1', `dr_port=${this.site.port}`, 'dr_psk_file=operator.psk'];
    const isOther = (word: string): boolean => {
      const [key = ''] = word.split('=');
      return !words.some((each) => each.startsWith(`${key}=`));
    };
    const line = [`mode=${mode}`, ...given.filter(isOther), ...words];
    return beginBackendJob(this.confOf('dr'), line);
  }

  /** To its end, whatever that is. */
  async job(mode: string, ...words: readonly string[]): Promise<BackendJob> {
    const ended = await this.beginJob(mode, ...words).ended;
    expect(ended.stderr).to.equal('');
    return ended;
  }

  /** One that must not be red and must say no error. */
  async green(mode: string, ...words: readonly string[]): Promise<BackendJob> {
    const ended = await this.job(mode, ...words);
    const said = [...ended.messages, ended.failure].join('\n');
    expect(ended, said).to.include({ colour: 'green', exitCode: 0 });
    return ended;
  }

  /** The hash that a job with `plan=yes` prints. */
  async hashOf(mode: string, ...words: readonly string[]): Promise<string> {
    const { messages } = await this.green(mode, 'plan=yes', ...words);
    const hash = /hash ([0-9a-f]{64})/.exec(messages.join('\n'))?.[1];
    if (hash === undefined) throw new Error(`no hash in ${messages.join('\n')}`);
    return hash;
  }
}

/** The JSON of the one file of a job whose name fits. */
export function documentOf({ files }: BackendJob, name: RegExp): Record<string, unknown> {
  const found = files.filter((file) => name.test(file.name));
  const [first] = found;
  if (first === undefined || found.length > 1 || first.isCutShort) {
    const names = files.map((file) => file.name).join(' ');
    throw new Error(`${found.length} whole files like ${String(name)} in ${names}`);
  }
  return JSON.parse(first.content.toString()) as Record<string, unknown>;
}
