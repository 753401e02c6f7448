// Holds the control connection to one receiver open: tells its VMs, and again whenever something of them
// changes, and carries out what the receiver asks for. A call that breaks off is made again; orders that
// run meanwhile go on, and the receiver asks for them again.

import { type Guid, guidFromWire, randomGuid } from '../../shared/bytes/index.js';
import {
  type AttachRequest,
  AttachedVms,
  type AttachResponse,
  type Order,
  Outbox,
} from '../../shared/channel/index.js';
import { DrError } from '../../shared/errors.js';
import type { Job } from '../agent.js';
import { Backoff, isBroken, type ReceiverLink } from '../receiver-link.js';
import { protocolError } from '../receiver-view.js';
import { chainKey } from '../ledger.js';
import { toldEpoch } from '../ledger-store.js';
import { blockStart } from '../start-block.js';
import { attendedVms, describeAttended } from './attended-vms.js';
import { OrderDesk } from './order-desk.js';
import { REMOTE_ACTIONS } from './remote-actions.js';
import type { AttachSeams } from './seams.js';
import { keepWord } from './told.js';
import { failedOrder, receivedOrder } from './wire.js';

export interface AttachOptions {
  readonly link: ReceiverLink;
  /** Whose VMs it brings; all of them go over the link. */
  readonly jobs: readonly Job[];
  /** Somebody here runs one command with these VMs: whatever it asks for is allowed. Default: no. */
  readonly isAtCommand?: boolean | undefined;
  /** How often the VMs are looked at. */
  readonly lookEveryMs?: number | undefined;
}

const LOOK_EVERY_MS = 10_000;
/** An order that gets on says so not more often. */
const PROGRESS_EVERY_MS = 5000;

export class AttachedAgent {
  readonly #seams: AttachSeams;
  readonly #options: AttachOptions;
  readonly #desk: OrderDesk;
  readonly #first: Promise<void>;
  #jobs: readonly Job[];
  #accept: () => void = () => undefined;
  #refuse: (error: DrError) => void = () => undefined;
  #look = new AbortController();
  /** Of the receiver that was attached to last. */
  #storeId: Guid | undefined;
  #lastFailure = '';

  constructor(options: AttachOptions, seams: AttachSeams) {
    this.#options = options;
    this.#jobs = options.jobs;
    this.#seams = { ...seams, log: seams.log.child({ component: 'attach' }) };
    this.#desk = new OrderDesk(this.#seams);
    this.#first = new Promise((resolve, reject) => {
      this.#accept = resolve;
      this.#refuse = reject;
    });
    // a daemon need not wait for it
    this.#first.catch(() => undefined);
  }

  /**
   * Settles when a receiver has taken the VMs for the first time. For one command it rejects with what the
   * receiver refuses them for, unless that may pass by itself; a daemon goes on trying.
   */
  get attached(): Promise<void> {
    return this.#first;
  }

  /** From now on these are its VMs. */
  replaceJobs(jobs: readonly Job[]): void {
    this.#jobs = jobs;
    this.#look.abort();
  }

  /** Runs until the signal aborts; orders under way have ended then. */
  async run(): Promise<void> {
    const { clock, random, signal } = this.#seams;
    const backoff = new Backoff(clock, random);
    while (!isAborted(signal)) {
      try {
        await this.#attachOnce(() => {
          backoff.reset();
        });
      } catch (error) {
        if (isAborted(signal)) break;
        this.#tellFailure(error);
      }
      try {
        await backoff.pause(signal);
      } catch {
        break;
      }
    }
    await this.#desk.idle();
  }

  /** The same failure again says nothing new. */
  #tellFailure(error: unknown): void {
    if (this.#options.isAtCommand === true && error instanceof DrError && !isBroken(error)) {
      this.#refuse(error);
    }
    const text = error instanceof Error ? error.message : String(error);
    const isNews = text !== this.#lastFailure;
    this.#lastFailure = text;
    this.#seams.log[isNews ? 'warn' : 'debug']('attach.failed', { error });
  }

  async #attachOnce(onAccepted: () => void): Promise<void> {
    const { link } = this.#options;
    const { signal } = this.#seams;
    const connection = await unlessAborted(link.connection(), signal);
    const { site, client, pinnedStoreId } = connection;
    if (site === undefined) throw new DrError('E_STATE', 'no orders come over this connection');
    const outbox = new Outbox<AttachRequest>();
    const ended = new AbortController();
    let watching: Promise<void> | undefined;
    // the call ends in peace: the receiver hears that nothing more comes
    const stop = (): void => {
      outbox.close();
    };
    signal.addEventListener('abort', stop, { once: true });
    try {
      let told = await this.#tellVms(outbox, '');
      for await (const response of site.attach(outbox)) {
        const storeId = this.#take(response, outbox);
        if (storeId === undefined) continue;
        if (pinnedStoreId !== undefined && storeId !== pinnedStoreId) {
          throw new DrError('E_AUTH', `the key is for the store ${pinnedStoreId}, not ${storeId}`, {
            done: 'no order was taken from it',
          });
        }
        this.#storeId = storeId;
        onAccepted();
        this.#lastFailure = '';
        await this.#heed(response);
        // the epochs that this store told are known only now
        told = await this.#tellVms(outbox, told);
        watching ??= this.#watch(outbox, told, ended.signal);
        this.#seams.log.info('attach.began', { storeId });
        this.#accept();
      }
    } catch (error) {
      // the connection makes new sessions by itself, and cycles use it; a key may have been replaced
      if (error instanceof DrError && error.code === 'E_AUTH') await link.drop(client);
      throw error;
    } finally {
      signal.removeEventListener('abort', stop);
      ended.abort();
      outbox.close();
      await watching;
    }
  }

  /** Returns the store's id when the receiver has taken the VMs. */
  #take({ part }: AttachResponse, outbox: Outbox<AttachRequest>): Guid | undefined {
    if (part === undefined) throw protocolError('a message that says nothing');
    if (part.$case === 'accepted') {
      const storeId = guidFromWire(part.value.storeId);
      if (storeId === undefined) throw protocolError('a store is named that is none');
      return storeId;
    }
    const storeId = this.#storeId;
    if (storeId === undefined) throw protocolError('an order comes before anything else');
    void this.#answer(part.value, storeId, outbox);
    return undefined;
  }

  /** VMs that serve at the DR site, as it says: those that are off stay off. */
  async #heed({ part }: AttachResponse): Promise<void> {
    if (part?.$case !== 'accepted') return;
    const attended = await attendedVms(this.#jobs);
    const storeId = this.#storeId;
    for (const { vmId, epoch } of part.value.takenOver) {
      const id = guidFromWire(vmId);
      const mine = id === undefined ? undefined : attended.get(id);
      if (mine === undefined || storeId === undefined) continue;
      const { hypervisor, stateFolder } = mine.job;
      const known = await toldEpoch(this.#seams.fs, stateFolder, mine.vm.id, chainKey(storeId));
      if (epoch <= (known?.epoch ?? 0n)) continue;
      const operationId = randomGuid(this.#seams.random);
      const { log } = this.#seams;
      if (!(await blockStart(mine.vm, { epoch, operationId }, hypervisor, log))) continue;
      // so that no other store's word lifts the fence
      const isRetired = known?.standing.isRetired ?? false;
      const word = { operationId, epoch, activeSite: 'target', isRetired } as const;
      try {
        await keepWord(mine.vm, storeId, word, stateFolder, this.#seams);
      } catch (error) {
        // its fence stands; the next cycle towards this store, or the next attachment, keeps the word
        if (!(error instanceof DrError) || error.code !== 'E_LOCKED') throw error;
        log.warn('attach.failed', { what: 'the VM is being worked on', vmId: mine.vm.id, error });
      }
    }
  }

  async #answer(order: Order, storeId: Guid, outbox: Outbox<AttachRequest>): Promise<void> {
    const { clock, log } = this.#seams;
    const { isAtCommand = false } = this.#options;
    const { number } = order;
    let saidAtMs = clock.monotonic();
    const onProgress = (): void => {
      if (clock.monotonic() - saidAtMs < PROGRESS_EVERY_MS) return;
      saidAtMs = clock.monotonic();
      const outcome = { $case: 'progress', value: { doneBytes: 0n, totalBytes: 0n } } as const;
      outbox.put({ part: { $case: 'answer', value: { number, outcome } } });
    };
    const what = order.action?.$case ?? 'unknown';
    try {
      const received = receivedOrder(order);
      const scope = { storeId, jobs: this.#jobs, isAtCommand };
      const { vmId, operationId, epoch } = received;
      const value = await this.#desk.carryOut(received, scope, onProgress);
      log.info('order.done', { what, vmId, operationId, epoch });
      outbox.put({
        part: { $case: 'answer', value: { number, outcome: { $case: 'done', value } } },
      });
    } catch (error) {
      log.error('order.failed', { what, error });
      const value = failedOrder(error);
      const outcome = { $case: 'failed', value } as const;
      outbox.put({ part: { $case: 'answer', value: { number, outcome } } });
    }
    this.#look.abort();
  }

  /** Tells the VMs when that is another text than `before`. Returns what is known to be told. */
  async #tellVms(outbox: Outbox<AttachRequest>, before: string): Promise<string> {
    const { isAtCommand = false } = this.#options;
    const vms: AttachedVms['vms'] = [];
    for (const attended of (await attendedVms(this.#jobs)).values()) {
      const told = await describeAttended(attended, this.#storeId, this.#seams.fs);
      vms.push(isAtCommand ? { ...told, remoteActions: [...REMOTE_ACTIONS] } : told);
    }
    const value = AttachedVms.fromPartial({ vms, isAtCommand });
    const text = Buffer.from(AttachedVms.encode(value).finish()).toString('base64');
    if (text !== before) outbox.put({ part: { $case: 'vms', value } });
    return text;
  }

  async #watch(
    outbox: Outbox<AttachRequest>,
    toldBefore: string,
    ended: AbortSignal,
  ): Promise<void> {
    const { clock, log } = this.#seams;
    const { lookEveryMs = LOOK_EVERY_MS } = this.#options;
    let told = toldBefore;
    while (!isAborted(ended)) {
      this.#look = new AbortController();
      const wake = AbortSignal.any([this.#look.signal, ended]);
      await clock.sleep(lookEveryMs, wake).catch(() => undefined);
      if (isAborted(ended)) return;
      try {
        told = await this.#tellVms(outbox, told);
      } catch (error) {
        // a host that does not answer is asked again at the next look
        log.debug('attach.failed', { what: 'the VMs could not be looked at', error });
      }
    }
  }
}

/** Read anew each time: it changes while others run. */
function isAborted(signal: AbortSignal): boolean {
  return signal.aborted;
}

/** Does not wait for a site that does not answer once a stop came. */
async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const stopped = new AbortController();
  const aborted = new Promise<never>((_resolve, reject) => {
    const end = (): void => {
      reject(new DrError('E_CHANNEL', 'the attachment was stopped'));
    };
    signal.addEventListener('abort', end, { signal: stopped.signal });
    if (signal.aborted) end();
  });
  aborted.catch(() => undefined);
  try {
    return await Promise.race([work, aborted]);
  } finally {
    stopped.abort();
  }
}
