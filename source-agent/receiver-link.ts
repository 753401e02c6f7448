// The agent's way to one receiver: one connection for all VMs, made when it is first needed and
// again after it broke. How it is made is the caller's to say, so that tests connect directly.

import { type Guid, parseGuid } from '../shared/bytes/index.js';
import type { ReplicationService, ServiceClient } from '../shared/channel/index.js';
import type { Clock, Random } from '../shared/clock.js';
import { DrError } from '../shared/errors.js';

export interface ReceiverConnection {
  readonly client: ServiceClient<ReplicationService>;
  /** The key is for this store only; undefined: for any. */
  readonly onlyStoreId?: string | undefined;
  close(): Promise<void>;
}

export type ConnectReceiver = () => Promise<ReceiverConnection>;

const BACKOFF_FIRST_MS = 500;
const BACKOFF_MAX_MS = 30_000;

/** True when a new connection may help. */
export function isBroken(error: unknown): error is DrError {
  return (
    error instanceof DrError &&
    (error.code === 'E_CHANNEL' || error.code === 'E_SOURCE_UNREACHABLE')
  );
}

export class ReceiverLink {
  readonly #connect: ConnectReceiver;
  #current: Promise<ReceiverConnection> | undefined;

  constructor(connect: ConnectReceiver) {
    this.#connect = connect;
  }

  /** The live connection's client, or that of a new one. @throws DrError E_SOURCE_UNREACHABLE, E_AUTH, E_VERSION */
  async client(): Promise<ServiceClient<ReplicationService>> {
    this.#current ??= this.#connect();
    const mine = this.#current;
    try {
      return (await mine).client;
    } catch (error) {
      if (this.#current === mine) this.#current = undefined;
      throw error;
    }
  }

  /** The data of the source may go to this store. @throws DrError E_PARAMETER */
  async requireStore(storeId: Guid): Promise<void> {
    const connection = await this.#current;
    const only = connection?.onlyStoreId;
    if (only === undefined || parseGuid(only) === storeId) return;
    throw new DrError('E_PARAMETER', `the key is for the store ${only}, not for ${storeId}`, {
      context: { parameter: 'dr_psk_file', storeId },
      done: 'nothing of the VM was sent',
    });
  }

  /** Says that calls of `client` failed: the next one gets a new connection. */
  async drop(client: ServiceClient<ReplicationService> | undefined): Promise<void> {
    const mine = this.#current;
    if (mine === undefined || client === undefined) return;
    const connection = await mine.catch(() => undefined);
    if (connection?.client !== client || this.#current !== mine) return;
    this.#current = undefined;
    // It is broken already; that closing it fails as well says nothing new.
    await connection.close().catch(() => undefined);
  }

  async close(): Promise<void> {
    const mine = this.#current;
    this.#current = undefined;
    const connection = await mine?.catch(() => undefined);
    await connection?.close();
  }
}

/** Pauses between attempts: doubling, at most half a minute, spread by chance. */
export class Backoff {
  readonly #clock: Clock;
  readonly #random: Random;
  #nextMs = BACKOFF_FIRST_MS;

  constructor(clock: Clock, random: Random) {
    this.#clock = clock;
    this.#random = random;
  }

  reset(): void {
    this.#nextMs = BACKOFF_FIRST_MS;
  }

  async pause(signal: AbortSignal): Promise<void> {
    const share = 0.5 + chance(this.#random) / 2;
    const durationMs = this.#nextMs * share;
    this.#nextMs = Math.min(BACKOFF_MAX_MS, this.#nextMs * 2);
    await this.#clock.sleep(durationMs, signal);
  }
}

/** A number in [0, 1). */
export function chance(random: Random): number {
  return random.fill(Buffer.alloc(4)).readUInt32LE(0) / 2 ** 32;
}
