// A service for tests of the channel, keys, and both ends on loopback.

import { createSecretKey } from 'node:crypto';
import { systemClock, systemRandom } from '../../shared/clock.js';
import type {
  CallContext,
  ChannelConnection,
  ChannelListener,
  ConnectOptions,
  Handlers,
  KeyRing,
  ListenOptions,
  MethodDefinition,
  PreSharedKey,
  Role,
} from '../../shared/channel/index.js';
import { connect, listen } from '../../shared/channel/index.js';
import { silentLog } from '../../shared/log.js';

const bytes = (value: Buffer): Buffer => value;

function method<const Q extends boolean, const S extends boolean>(
  name: string,
  requestStream: Q,
  responseStream: S,
): MethodDefinition & {
  readonly requestStream: Q;
  readonly responseStream: S;
  readonly requestSerialize: (value: Buffer) => Buffer;
  readonly requestDeserialize: (value: Buffer) => Buffer;
  readonly responseSerialize: (value: Buffer) => Buffer;
  readonly responseDeserialize: (value: Buffer) => Buffer;
} {
  return {
    path: `/hvdr.test.Echo/${name}`,
    requestStream,
    responseStream,
    requestSerialize: bytes,
    requestDeserialize: bytes,
    responseSerialize: bytes,
    responseDeserialize: bytes,
  };
}

export const echoService = {
  unary: method('Unary', false, false),
  collect: method('Collect', true, false),
  spread: method('Spread', false, true),
  both: method('Both', true, true),
} as const;
export type EchoService = typeof echoService;

/** What the handlers saw. */
export class EchoServer {
  /** Calls that reached a handler, by method. */
  readonly seen: string[] = [];
  /** Calls whose request side came to its sealed end. */
  readonly committed: string[] = [];
  readonly failures: unknown[] = [];
  readonly contexts: CallContext[] = [];

  readonly handlers: Handlers<EchoService> = {
    unary: (request, context) => {
      this.#note('unary', context);
      this.committed.push('unary');
      return Promise.resolve(request);
    },
    collect: async (requests, context) => {
      this.#note('collect', context);
      const parts: Buffer[] = [];
      await this.#each(requests, (part) => parts.push(part));
      this.committed.push('collect');
      return Buffer.concat(parts);
    },
    spread: (request, context) => {
      this.#note('spread', context);
      return spread(request);
    },
    both: (requests, context) => {
      this.#note('both', context);
      return this.#both(requests);
    },
  };

  async *#both(requests: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    try {
      for await (const request of requests) yield request;
      this.committed.push('both');
    } catch (error) {
      this.failures.push(error);
      throw error;
    }
  }

  async #each(requests: AsyncIterable<Buffer>, take: (part: Buffer) => void): Promise<void> {
    try {
      for await (const request of requests) take(request);
    } catch (error) {
      this.failures.push(error);
      throw error;
    }
  }

  #note(name: string, context: CallContext): void {
    this.seen.push(name);
    this.contexts.push(context);
  }
}

/** Each byte of the request on its own. */
async function* spread(request: Buffer): AsyncGenerator<Buffer> {
  for (const byte of request) {
    await Promise.resolve();
    yield Buffer.of(byte);
  }
}

const EVERYBODY: readonly Role[] = ['source', 'viewer', 'drill', 'operator'];
export const ECHO_ROLES = {
  unary: EVERYBODY,
  collect: EVERYBODY,
  spread: EVERYBODY,
  both: EVERYBODY,
} as const;

export function testKey(changes: Partial<PreSharedKey> = {}): PreSharedKey {
  return {
    keyId: 'k1',
    principal: 'host-a',
    role: 'source',
    vmPattern: '*',
    createdAtMs: 0,
    secret: createSecretKey(systemRandom.fill(Buffer.alloc(32))),
    ...changes,
  };
}

export interface Loopback {
  readonly listener: ChannelListener;
  readonly server: EchoServer;
  readonly key: PreSharedKey;
  connect(changes?: Partial<ConnectOptions>): Promise<ChannelConnection>;
  close(): Promise<void>;
}

export interface LoopbackOptions extends Partial<ListenOptions> {
  /** In place of the echo server's own. */
  readonly handlers?: Partial<Handlers<EchoService>>;
  readonly key?: PreSharedKey;
}

/** A listener with the echo service, and connections to it that are closed with it. */
export async function loopback(options: LoopbackOptions = {}): Promise<Loopback> {
  const { key = testKey(), handlers = {}, ...listenOptions } = options;
  const server = new EchoServer();
  const served: Handlers<EchoService> = { ...server.handlers, ...handlers };
  const keys: KeyRing = { keys: [key] };
  const listener = await listen({
    host: '127.0.0.1',
    port: 0,
    keys,
    services: [
      {
        definition: echoService,
        handlers: served,
        roles: ECHO_ROLES,
      },
    ],
    clock: systemClock,
    random: systemRandom,
    log: silentLog,
    ...listenOptions,
  });
  const connections: ChannelConnection[] = [];
  return {
    listener,
    server,
    key,
    connect: async (changes = {}) => {
      const connection = await connect({
        host: '127.0.0.1',
        port: listener.port,
        key,
        clock: systemClock,
        random: systemRandom,
        log: silentLog,
        ...changes,
      });
      connections.push(connection);
      return connection;
    },
    close: async () => {
      await Promise.all(connections.map((connection) => connection.close()));
      await listener.close(0);
    },
  };
}

export async function* each<T>(...values: readonly T[]): AsyncGenerator<T> {
  for (const value of values) {
    await Promise.resolve();
    yield value;
  }
}

export async function all<T>(values: AsyncIterable<T>): Promise<T[]> {
  const out: T[] = [];
  for await (const value of values) out.push(value);
  return out;
}
