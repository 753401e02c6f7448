// What work on a VM leaves in a job that saves no disk: `<VM>/.meta/push-<seq>.json` for each cycle towards a
// receiver, `verify-<seq>.json` for each comparison (docs/bacula-push.md). Cycles end side by side and
// files go one after the other, so they queue.

import { CatalogNames, vmFolder } from '../../shared/catalog/index.js';
import type { Clock } from '../../shared/clock.js';
import { DrError } from '../../shared/errors.js';
import type { SourceHypervisor, VmSummary } from '../../shared/hypervisor/index.js';
import type { JsonObject } from '../../shared/json.js';
import type { FileSink } from '../../source-agent/index.js';
import { sendText } from './job-file.js';

/** Reports that wait while Bacula takes none; further ones are counted. */
const WAITING_MAX = 1000;

export interface ReportPorts {
  readonly hypervisor: SourceHypervisor;
  readonly clock: Clock;
}

export class VmReports {
  readonly #about: 'push' | 'verify';
  readonly #sink: FileSink;
  readonly #ports: ReportPorts;
  #vms: readonly VmSummary[] = [];
  #queue: Promise<void> = Promise.resolve();
  #waiting = 0;
  #leftOut = 0;
  #seq = 0;

  constructor(about: 'push' | 'verify', sink: FileSink, ports: ReportPorts) {
    this.#about = about;
    this.#sink = sink;
    this.#ports = ports;
  }

  /** Not waited for: it goes out when Bacula takes it. What goes wrong is told by ended(). */
  add(vm: VmSummary, document: JsonObject): void {
    if (this.#waiting >= WAITING_MAX) {
      this.#leftOut++;
      return;
    }
    this.#waiting++;
    const now = this.#ports.clock.now();
    this.#seq = Math.max(now, this.#seq + 1);
    const seq = this.#seq;
    const text = `${JSON.stringify({ format: 1, seq, ...document })}\n`;
    this.#queue = this.#queue.then(async () => {
      await this.#send(vm, seq, text);
      this.#waiting--;
    });
    // the same failure is thrown by ended()
    this.#queue.catch(() => undefined);
  }

  /** All reports are with Bacula. @throws DrError when one could not be sent */
  async ended(): Promise<void> {
    await this.#queue;
    if (this.#leftOut === 0) return;
    this.#sink.say('warning', `${this.#leftOut} reports were left out: Bacula took none for long`);
  }

  async #send(vm: VmSummary, seq: number, text: string): Promise<void> {
    this.#sink.signal.throwIfAborted();
    const names = new CatalogNames(vmFolder(vm, await this.#namesakes(vm)));
    await sendText(this.#sink, names.report(this.#about, seq), text, seq);
  }

  /** Hosts are slow to list their VMs, so it is done for one that is new only. */
  async #namesakes({ id, name }: VmSummary): Promise<readonly VmSummary[]> {
    if (this.#vms.some((known) => known.id === id && known.name === name)) return this.#vms;
    try {
      this.#vms = await this.#ports.hypervisor.listVms();
    } catch (error) {
      // a report of a host in trouble is wanted all the more
      if (!(error instanceof DrError)) throw error;
    }
    return this.#vms;
  }
}
