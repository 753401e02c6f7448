// The initiator's end of a channel.

import { DrError } from '../errors.js';
import { type ClientCallOptions, streamResponses, unaryResponse } from './client-call.js';
import { ClientSession } from './client-session.js';
import type { ChannelConnection, ConnectOptions } from './endpoint.js';
import { transportFailed } from './grpc-wire.js';
import type { CallOptions, MethodDefinition, ServiceClient, ServiceDefinition } from './service.js';

/** @throws DrError E_SOURCE_UNREACHABLE, E_AUTH, E_VERSION, E_PARAMETER (a pinned key) */
export async function connect(options: ConnectOptions): Promise<ChannelConnection> {
  refuseOtherReceivers(options);
  const connection = new Connection(options);
  await connection.session();
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
  #current: ClientSession | undefined;
  #opening: Promise<ClientSession> | undefined;
  /** Older ones with calls under way. */
  readonly #retired = new Set<ClientSession>();

  constructor(options: ConnectOptions) {
    this.#options = options;
  }

  client<D extends ServiceDefinition>(definition: D): ServiceClient<D> {
    const calls = Object.entries(definition).map(([name, method]) => [name, this.#method(method)]);
    // built from the same keys as the definition
    return Object.fromEntries(calls) as ServiceClient<D>;
  }

  close(): Promise<void> {
    this.#closed.abort();
    for (const session of [this.#current, ...this.#retired]) session?.end();
    return Promise.resolve();
  }

  /** The session for a new call: the one there is, or the next. */
  async session(): Promise<ClientSession> {
    if (this.#closed.signal.aborted) throw transportFailed('the channel was closed');
    if (this.#current?.isUsable === true) return this.#current;
    this.#opening ??= this.#open();
    try {
      return await this.#opening;
    } finally {
      this.#opening = undefined;
    }
  }

  async #open(): Promise<ClientSession> {
    const session = await ClientSession.open(this.#options, this.#closed.signal);
    const old = this.#current;
    this.#current = session;
    if (old !== undefined) {
      for (const retired of this.#retired) if (retired.isOver) this.#retired.delete(retired);
      this.#retired.add(old);
      old.retire();
    }
    return session;
  }

  #method(method: MethodDefinition): (argument: unknown, options?: CallOptions) => unknown {
    return (argument, options = {}) => {
      const call: ClientCallOptions = {
        method,
        argument,
        options,
        clock: this.#options.clock,
        session: () => this.session(),
        onForged: (session) => {
          session.end();
        },
      };
      return method.responseStream ? streamResponses(call) : unaryResponse(call);
    };
  }
}
