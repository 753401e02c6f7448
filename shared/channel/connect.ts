// The initiator's end of a channel.

import { DrError } from '../errors.js';
import { type ClientCallOptions, streamResponses, unaryResponse } from './client-call.js';
import { ClientSession } from './client-session.js';
import type { ChannelConnection, ConnectOptions } from './endpoint.js';
import { transportFailed } from './grpc-wire.js';
import type { Bulk } from './sealed-stream.js';
import type { CallOptions, MethodDefinition, ServiceClient, ServiceDefinition } from './service.js';

/** @throws DrError E_SOURCE_UNREACHABLE, E_AUTH, E_VERSION, E_PARAMETER (a pinned key) */
export async function connect(options: ConnectOptions): Promise<ChannelConnection> {
  refuseOtherReceivers(options);
  const connection = new Connection(options);
  if (options.opensAtFirstCall !== true) await connection.open();
  return connection;
}

/** A key that names its receiver's addresses is shown to nobody else. */
function refuseOtherReceivers({ key, host, port }: ConnectOptions): void {
  const pinned = key.receiverAddresses ?? [];
  if (pinned.length === 0) return;
  const names = [host, `${host}:${port}`, `[${host}]:${port}`];
  if (pinned.some((address) => names.includes(address))) return;
  throw new DrError(
    'E_PARAMETER',
    `the key ${key.keyId} is for the receiver at ${pinned.join(', ')}, not for ${host}:${port}`,
    { context: { keyId: key.keyId, host, port } },
  );
}

class Connection implements ChannelConnection {
  readonly #options: ConnectOptions;
  readonly #closed = new AbortController();
  readonly #links: Readonly<Record<Bulk, Link>>;

  constructor(options: ConnectOptions) {
    this.#options = options;
    this.#links = {
      up: new Link(options, 'up', this.#closed.signal),
      down: new Link(options, 'down', this.#closed.signal),
    };
  }

  /** Makes sure that the receiver is there and has the key. */
  async open(): Promise<void> {
    await this.#links.up.session();
  }

  client<D extends ServiceDefinition>(definition: D): ServiceClient<D> {
    const calls = Object.entries(definition).map(([name, method]) => [name, this.#method(method)]);
    // built from the same keys as the definition
    return Object.fromEntries(calls) as ServiceClient<D>;
  }

  close(): Promise<void> {
    this.#closed.abort();
    for (const link of Object.values(this.#links)) link.end();
    return Promise.resolve();
  }

  #method(method: MethodDefinition): (argument: unknown, options?: CallOptions) => unknown {
    const link = this.#links[method.responseStream && !method.requestStream ? 'down' : 'up'];
    return (argument, options = {}) => {
      const call: ClientCallOptions = {
        method,
        argument,
        options,
        clock: this.#options.clock,
        session: () => link.session(),
        onForged: (session) => {
          session.end();
        },
      };
      return method.responseStream ? streamResponses(call) : unaryResponse(call);
    };
  }
}

/** The sessions of one direction of bulk: the current one, and older ones with calls under way. */
class Link {
  readonly #options: ConnectOptions;
  readonly #bulk: Bulk;
  readonly #closed: AbortSignal;
  readonly #retired = new Set<ClientSession>();
  #current: ClientSession | undefined;
  #opening: Promise<ClientSession> | undefined;

  constructor(options: ConnectOptions, bulk: Bulk, closed: AbortSignal) {
    this.#options = options;
    this.#bulk = bulk;
    this.#closed = closed;
  }

  /** The session for a new call: the one there is, or the next. */
  async session(): Promise<ClientSession> {
    if (this.#closed.aborted) throw transportFailed('the channel was closed');
    if (this.#current?.isUsable === true) return this.#current;
    this.#opening ??= this.#open();
    try {
      return await this.#opening;
    } finally {
      this.#opening = undefined;
    }
  }

  end(): void {
    for (const session of [this.#current, ...this.#retired]) session?.end();
  }

  async #open(): Promise<ClientSession> {
    const session = await ClientSession.open(this.#options, this.#bulk, this.#closed);
    if (this.#closed.aborted) {
      session.end();
      throw transportFailed('the channel was closed');
    }
    const old = this.#current;
    this.#current = session;
    if (old !== undefined) {
      for (const retired of this.#retired) if (retired.isOver) this.#retired.delete(retired);
      this.#retired.add(old);
      old.retire();
    }
    return session;
  }
}
