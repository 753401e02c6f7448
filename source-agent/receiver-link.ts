// The agent's way to one receiver: one connection for all VMs, made when it is first needed and
// again after it broke. How it is made is the caller's to say, so that tests connect directly.

import type { Guid } from '../shared/bytes/index.js';
import type { ReplicationService, ServiceClient, SiteService } from '../shared/channel/index.js';
import type { Clock, Random } from '../shared/clock.js';
import { DrError } from '../shared/errors.js';

export interface ReceiverConnection {
  readonly client: ServiceClient<ReplicationService>;
  /** undefined: no orders come this way. */
  readonly site?: ServiceClient<SiteService> | undefined;
  /** The store that the key is for; undefined: it does not say. */
  readonly pinnedStoreId?: Guid | undefined;
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
    return (await this.connection()).client;
  }

  /** The live connection, or a new one. The link closes it. @throws as client() */
  async connection(): Promise<ReceiverConnection> {
    this.#current ??= this.#connect();
    const mine = this.#current;
    try {
      return await mine;
    } catch (error) {
      if (this.#current === mine) this.#current = undefined;
      throw error;
    }
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
