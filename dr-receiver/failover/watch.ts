// What acts by itself while the receiver runs: deadlines and sizes of tests, the commit timer, what a
// source is owed, and the sight of a second VM that runs.

import type { Guid } from '../../shared/bytes/index.js';
import type { VmDesk } from '../ingest/vm-desk.js';
import { BackOff } from './back-off.js';
import { seeSecondVm } from './failback/second-vm.js';
import { appendFailover } from './failover-book.js';
import { requireStoppable } from './failback/way-back.js';
import { payDebts } from './operations/debts.js';
import { isAlive, probeSource } from './operations/probe.js';
import type { CommitPolicy } from './model.js';
import type { Asked } from './operations/work.js';
import type { SourceVm } from './ports.js';
import type { FailoverSite } from './site.js';
import type { Tests } from './tests.js';

/** How often deadlines and sizes are looked at. */
const TICK_MS = 5000;
const BY_ITSELF = { by: 'receiver' };

export interface WatchOptions {
  readonly desks: { allDesks(): Promise<readonly VmDesk[]> };
  readonly tests: Tests;
  /** What the commit policy says. @throws DrError when the state is another one by now */
  readonly begin: (desk: VmDesk, command: 'permanent' | 'undo', asked: Asked) => Promise<unknown>;
}

export class Watch {
  readonly #site: FailoverSite;
  readonly #options: WatchOptions;
  readonly #deadlineTries: BackOff;
  readonly #debtTries: BackOff;
  /** What was overdue when the receiver started is asked about, not done. */
  readonly #startedAtMs: number;
  /** VMs whose retired original was running when its agent was asked last. */
  readonly #retiredRunning = new Set<Guid>();
  /** Deadlines that are acted on: one for each VM, and none waits for another. */
  readonly #acting = new Map<Guid, Promise<void>>();
  #looking: Promise<void> | undefined;

  constructor(site: FailoverSite, options: WatchOptions) {
    this.#site = site;
    this.#options = options;
    this.#deadlineTries = new BackOff(site.seams.clock);
    this.#debtTries = new BackOff(site.seams.clock);
    this.#startedAtMs = site.seams.clock.now();
  }

  /** Deadlines, sizes, debts: looked at again and again until the receiver ends, and not behind that. */
  async run(signal: AbortSignal): Promise<void> {
    let settling: Promise<void> | undefined;
    while (!signal.aborted) {
      await this.#lookAtTime().catch(() => undefined);
      // a deadline does not wait for a source that does not answer
      settling ??= this.#settle()
        .catch(() => undefined)
        .then(() => {
          settling = undefined;
        });
      await this.#site.seams.clock.sleep(TICK_MS, signal).catch(() => undefined);
    }
    await settling;
    await this.#deadlines();
  }

  /** One look at what acts by itself, to its end. */
  async tick(): Promise<void> {
    await this.#lookAtTime();
    await this.#deadlines();
    await this.#settle();
  }

  async #soundDesks(): Promise<readonly VmDesk[]> {
    return (await this.#options.desks.allDesks()).filter(({ vm }) => vm.halt === undefined);
  }

  /** One look after the other. */
  async #lookAtTime(): Promise<void> {
    const before = this.#looking ?? Promise.resolve();
    const mine = before.catch(() => undefined).then(() => this.#lookAtTimeOnce());
    this.#looking = mine;
    await mine;
  }

  async #lookAtTimeOnce(): Promise<void> {
    for (const desk of await this.#soundDesks()) {
      await this.#look(desk, () => this.#options.tests.tick(desk));
      await this.#look(desk, () => seeSecondVm(this.#site, desk));
      this.#startDeadline(desk);
    }
  }

  /** An agent may hang while it is asked, and the other VMs have deadlines as well. */
  #startDeadline(desk: VmDesk): void {
    const { vmId } = desk.vm;
    if (this.#acting.has(vmId)) return;
    const acting = this.#look(desk, () => this.#actOnDeadline(desk)).finally(() => {
      this.#acting.delete(vmId);
    });
    this.#acting.set(vmId, acting);
  }

  async #deadlines(): Promise<void> {
    await Promise.all(this.#acting.values());
  }

  /** A source that does not answer keeps no other VM waiting. */
  async #settle(): Promise<void> {
    const desks = await this.#soundDesks();
    await Promise.all(
      desks.map((desk) => this.#look(desk, () => this.settleWithSource(desk, false))),
    );
  }

  /** What is wrong with one VM is none of the others' matter. */
  async #look(desk: VmDesk, look: () => Promise<void>): Promise<void> {
    try {
      await look();
    } catch (error) {
      const { vmId, protection } = desk.vm;
      const fields = { vmId, vmName: protection.vmName, step: 'watch', reason: String(error) };
      this.#site.log.info('failover.step-failed', fields);
    }
  }

  /**
   * While nothing is under way: the source learns what it is owed, and a second active VM is seen.
   * `isNews`: the source has just said something, so what it refused before is asked at once.
   */
  async settleWithSource(desk: VmDesk, isNews = true): Promise<void> {
    const { vm } = desk;
    const { owed, operation, phase } = vm.protection.failover;
    if (operation !== undefined) return;
    if (phase === 'failed-over' && isAlive(await this.#describeSource(desk))) {
      await vm.change(async () => {
        const { failover } = vm.protection;
        if (failover.operation !== undefined || failover.phase !== 'failed-over') return;
        const record = { ...failover, phase: 'split-brain' as const };
        await appendFailover(vm, this.#site.seams.clock, record, vm.protection.epoch, BY_ITSELF);
      });
      const { vmName } = vm.protection;
      this.#site.log.error('failover.split-brain', { vmId: vm.vmId, vmName });
      return;
    }
    if (owed.length > 0) await this.#payDebts(desk, isNews);
    await this.#lookAtRetired(desk);
  }

  /** A source that refuses what it is owed is asked again after longer and longer times. */
  async #payDebts(desk: VmDesk, isNews: boolean): Promise<void> {
    const { vmId, protection } = desk.vm;
    // what is owed besides by now is asked for at once
    const debts = protection.failover.owed.map(({ kind, operationId }) => `${kind} ${operationId}`);
    const key = [vmId, ...debts].join(' ');
    if (!isNews && !this.#debtTries.isDue(key)) return;
    this.#debtTries.tried(key);
    if (await payDebts(this.#site, desk)) this.#debtTries.forget(key);
  }

  /** The VM at the primary runs although the one here is it for good; nobody but people may stop either. */
  isRetiredRunning(vmId: Guid): boolean {
    return this.#retiredRunning.has(vmId);
  }

  async #lookAtRetired(desk: VmDesk): Promise<void> {
    const { vmId, protection } = desk.vm;
    const { failover, vmName } = protection;
    if (failover.phase !== 'committed') {
      this.#retiredRunning.delete(vmId);
      return;
    }
    const found = await this.#describeSource(desk);
    // one that does not answer may run as it did
    if (found === undefined) return;
    const wasRunning = this.#retiredRunning.has(vmId);
    if (!isAlive(found)) {
      this.#retiredRunning.delete(vmId);
      return;
    }
    this.#retiredRunning.add(vmId);
    if (!wasRunning) this.#site.log.error('failover.retired-runs', { vmId, vmName });
  }

  async #describeSource({ vm }: VmDesk): Promise<SourceVm | undefined> {
    const source = this.#site.sources.find(vm.vmId, vm.protection.owner);
    return probeSource({ source, vm });
  }

  async #actOnDeadline(desk: VmDesk): Promise<void> {
    const { commit, phase, operation, instance } = desk.vm.protection.failover;
    if (commit === undefined || operation !== undefined) return;
    // two have run: whose data count is for people to say
    if (instance?.ranBesideAtMs !== undefined) return;
    if (phase !== 'failed-over' && phase !== 'failed-back') return;
    const { policy, deadlineMs } = commit;
    if (policy === 'none' || deadlineMs > this.#site.seams.clock.now()) return;
    // people may have counted on it while nobody was here to do it: it asks
    if (policy === 'rollback' && deadlineMs < this.#startedAtMs) return;
    const key = `${desk.vm.vmId} ${deadlineMs}`;
    if (!this.#deadlineTries.isDue(key)) return;
    const source = phase === 'failed-back' ? await this.#describeSource(desk) : undefined;
    if (phase === 'failed-back' && !canEnd(source, policy)) return;
    this.#deadlineTries.tried(key);
    // refused: it is logged, and looked at again later
    if (source !== undefined && policy === 'rollback') {
      requireStoppable(source, desk.vm.protection.vmName);
    }
    const asked = { by: 'commit timer', keyId: undefined, parameters: {} };
    const command = policy === 'commit' ? 'permanent' : 'undo';
    await this.#options.begin(desk, command, asked);
  }
}

/** A failback ends by itself when the primary answers, and by a commit only when its guest is well. */
function canEnd(found: SourceVm | undefined, policy: CommitPolicy): boolean {
  if (found === undefined) return false;
  return policy === 'rollback' || (isAlive(found) && found.heartbeat === 'ok');
}
