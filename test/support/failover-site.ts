// Real processes of a failover: a receiver over the lab `dr`, a daemon over the lab `lab`, the commands of an
// operator. What both labs hold is looked at directly.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../../shared/clock.js';
import { nodeFileSystem } from '../../shared/files/index.js';
import { Lab } from '../../shared/hypervisor/lab/index.js';
import type { CliRun } from './cli.js';
import { HvdrProcess } from './hvdr-process.js';
import { labSeams, viewsOf } from './lab-model.js';
import { Site } from './site.js';

/** What `hvdr status --json` says of a VM. */
export interface VmStatus {
  readonly state: string;
  readonly operation: string | null;
  readonly instance: string | null;
  readonly epoch: string;
  readonly validCommands: readonly string[];
  readonly tests: readonly { readonly phase: string }[];
}

/** Looks at what is not there yet are that far apart; the count is far beyond what any of it takes. */
const LOOK_MS = 100;
const LOOKS_MAX = 600;

export class FailoverSite {
  readonly site: Site;
  #daemon: HvdrProcess | undefined;

  constructor(folder: string) {
    this.site = new Site(folder);
    this.site.drHost = 'lab:dr';
  }

  /** Two labs, a receiver, and VMs that run at the primary. */
  async prepare(vms: readonly string[]): Promise<void> {
    await this.site.prepare();
    await this.site.hvdr('lab', 'init', 'dr');
    for (const vm of vms) {
      await this.site.hvdr('lab', 'create-vm', 'lab', vm, '--disk', '4M', '--disk', '1M');
      await this.site.hvdr('lab', 'start', 'lab', vm);
      await this.write(vm, 1);
    }
    await this.site.startReceiver();
  }

  /** The daemon of the primary; `port`: where it finds the receiver. */
  startDaemon(port = this.site.port): HvdrProcess {
    const { folder } = this.site;
    const config = join(folder, 'daemon.conf');
    const lines = [
      `host=lab:${join(folder, 'lab')}`,
      'dr_host=127.0.0.1',
      `dr_port=${port}`,
      `dr_psk_file=${join(folder, 'keys/source.psk')}`,
      `state_dir=${join(folder, 'state')}`,
      'push_interval=3600',
      'remote_actions=shutdown,start,failback',
      'vm=*',
    ];
    writeFileSync(config, `${lines.join('\n')}\n`);
    this.#daemon = new HvdrProcess(['daemon', '--config', config, '--json']);
    return this.#daemon;
  }

  async stopDaemon(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    await this.#daemon?.stop(signal);
    this.#daemon = undefined;
  }

  /** A command of the failover state machine, as the operator gives it, while it runs. */
  begin(command: readonly string[], vm: string, ...more: readonly string[]): HvdrProcess {
    return new HvdrProcess([...command, vm, ...more, ...this.operator, '--json']);
  }

  /** The same, whatever comes of it. */
  run(command: readonly string[], vm: string, ...more: readonly string[]): Promise<CliRun> {
    return this.site.try(...command, vm, ...more, ...this.operator, '--json');
  }

  /** For processes of any folder. */
  get operator(): string[] {
    const key = join(this.site.folder, 'keys/operator.psk');
    return ['--dr-host', '127.0.0.1', '--dr-port', String(this.site.port), '--psk-file', key];
  }

  async killReceiver(): Promise<void> {
    await this.site.stopReceiver('SIGKILL');
  }

  async status(vm: string): Promise<VmStatus> {
    const run = await this.site.try('status', '--vm', vm, ...this.operator, '--json');
    // the contract of `hvdr status --json`
    const { protections } = JSON.parse(run.stdout.toString()) as { protections: VmStatus[] };
    const [found] = protections;
    if (found === undefined) throw new Error(`no protection of ${vm}: ${run.stderr}`);
    return found;
  }

  /** Looks until it is so. */
  async until(what: string, isSo: () => Promise<boolean>): Promise<void> {
    for (let look = 0; look < LOOKS_MAX; look++) {
      if (await isSo()) return;
      await systemClock.sleep(LOOK_MS);
    }
    throw new Error(`it never came: ${what}`);
  }

  /** Runs `work` over one of the labs. */
  async inLab<T>(name: 'lab' | 'dr', work: (lab: Lab) => Promise<T>): Promise<T> {
    const lab = await Lab.open(join(this.site.folder, name), labSeams(nodeFileSystem));
    try {
      return await work(lab);
    } finally {
      await lab.close();
    }
  }

  /** The guest writes, at the primary when nothing else is said. */
  write(vm: string, seed: number, at: 'lab' | 'dr' = 'lab'): Promise<void> {
    return this.inLab(at, async (lab) => {
      const { id } = await lab.findVm(vm);
      for (let n = 0; n < 3; n++) {
        const bytes = Buffer.alloc(4096, (seed * 7 + n) & 0xff);
        await lab.guestWrite(id, n % 2, ((seed * 5 + n * 3) % 16) * 65_536, bytes);
      }
    });
  }

  views(name: 'lab' | 'dr', vm: string): Promise<Buffer[]> {
    return this.inLab(name, async (lab) => viewsOf(lab, (await lab.findVm(vm)).id));
  }

  /** undefined: there is no such VM. */
  powerOf(name: 'lab' | 'dr', vm: string): Promise<string | undefined> {
    return this.inLab(
      name,
      async (lab) => (await lab.listVms()).find((each) => each.name === vm)?.powerState,
    );
  }

  isFenced(vm: string): Promise<boolean> {
    return this.inLab('lab', async (lab) => {
      const { id } = await lab.findVm(vm);
      return (await lab.fenceOf(id)) !== undefined;
    });
  }

  async dispose(): Promise<void> {
    await this.stopDaemon('SIGKILL');
    await this.site.stopReceiver('SIGKILL');
  }
}
