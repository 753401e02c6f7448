// The receiver's end of a channel: a socket of our own in front, so that totals, limits of one
// address and the time to authenticate are enforced before HTTP/2 sees a byte.

import { createSecretKey, type KeyObject } from 'node:crypto';
import { createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, type TLSSocket } from 'node:tls';
import { assert } from '../assert.js';
import type { Clock, Random } from '../clock.js';
import { DrError } from '../errors.js';
import type { Log } from '../log.js';
import { Admission } from './admission.js';
import { KEY_BYTES, type Suite } from './aead.js';
import type { ChannelListener, ListenerStatus, ListenOptions, ServedService } from './endpoint.js';
import { transportFailed } from './grpc-wire.js';
import type { ResponderPolicy } from './handshake.js';
import { checkRing } from './keys.js';
import { KEY_CHECK_MS, UNAUTHENTICATED } from './limits.js';
import { METHOD_ROLES } from './method-roles.js';
import { Networks, plainAddress } from './networks.js';
import type { PreSharedKey } from './psk-format.js';
import { type ListenerCore, ReceiverConnection } from './receiver-connection.js';
import { type LooseHandler, type ServedMethod } from './server-call.js';
import { slept } from './slept.js';
import { WindowBudget } from './window-budget.js';

const SUITES: readonly Suite[] = ['aes-256-gcm', 'chacha20-poly1305'];
/** Connections of all kinds: beyond this nothing is accepted. */
const CONNECTIONS_MAX = 4096;
const TLS_FAILURE_PAUSE_MS = 60_000;

/** @throws DrError E_IO when the address cannot be listened on, E_KEY_FILE, E_PARAMETER */
export async function listen(options: ListenOptions): Promise<ChannelListener> {
  checkRing(options.keys.keys);
  const listener = new Listener(options);
  await listener.start();
  return listener;
}

class Listener implements ChannelListener, ListenerCore {
  readonly methods: ReadonlyMap<string, ServedMethod>;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly admission: Admission;
  readonly windows = new WindowBudget();
  readonly host: string;
  readonly #options: ListenOptions;
  readonly #operators: Networks;
  readonly #dummy: { readonly secret: KeyObject };
  readonly #server: Server;
  readonly #connections = new Set<ReceiverConnection>();
  readonly #stop = new AbortController();
  #indexed: { readonly keys: unknown; readonly byId: ReadonlyMap<string, PreSharedKey> } = {
    keys: undefined,
    byId: new Map(),
  };
  readonly #tlsFailures = new Map<string, number>();
  #port = 0;
  #isClosing = false;
  #onLastGone: (() => void) | undefined;

  constructor(options: ListenOptions) {
    this.#options = options;
    this.clock = options.clock;
    this.random = options.random;
    this.log = options.log.child({ component: 'channel' });
    this.host = options.host;
    this.admission = new Admission(options.clock);
    this.methods = methodTable(options.services);
    this.#operators = new Networks(options.operatorNetworks ?? []);
    const dummy = options.random.fill(Buffer.alloc(KEY_BYTES));
    this.#dummy = { secret: createSecretKey(dummy) };
    dummy.fill(0);
    this.#server = this.#makeServer();
  }

  get port(): number {
    return this.#port;
  }

  get isClosing(): boolean {
    return this.#isClosing;
  }

  get pendingCount(): number {
    return [...this.#connections].filter(({ isPending }) => isPending).length;
  }

  connectionsOf(principal: string): number {
    let count = 0;
    for (const { session } of this.#connections) {
      if (session?.isConfirmed === true && session.facts.key.principal === principal) count++;
    }
    return count;
  }

  status(): ListenerStatus {
    const sessions = [...this.#connections].filter(({ session }) => session?.isConfirmed === true);
    return {
      connections: this.#connections.size,
      waiting: this.admission.waitingCount,
      pendingSessions: this.pendingCount,
      sessions: sessions.length,
      calls: sessions.reduce((sum, { session }) => sum + (session?.callCount ?? 0), 0),
      windowBytes: this.windows.grantedBytes,
      addresses: this.admission.addressCount,
      localWindows: sessions.map(({ localWindowBytes }) => localWindowBytes),
    };
  }

  policyFor(address: string): ResponderPolicy {
    return {
      findKey: (keyId) => {
        const key = this.#keysById().get(keyId);
        if (key?.role !== 'operator' || this.#operators.has(address)) return key;
        this.log.warn('channel.handshake-refused', {
          address,
          keyId,
          reason: 'operators are not accepted from this network (--operator-from)',
        });
        return undefined;
      },
      suites: this.#options.suites ?? SUITES,
      dummy: this.#dummy,
      random: this.random,
    };
  }

  async start(): Promise<void> {
    const { host, port } = this.#options;
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', (error) => {
        reject(
          new DrError('E_IO', `cannot listen on ${host}:${port}: ${error.message}`, {
            context: { host, port },
            hint: 'Name an address of this machine and a port that is free.',
            cause: error,
          }),
        );
      });
      this.#server.listen({ host, port }, resolve);
    });
    this.#server.removeAllListeners('error');
    this.#server.on('error', (error) => {
      this.log.error('channel.connection-refused', { error });
    });
    const bound = this.#server.address();
    assert(bound !== null && typeof bound === 'object', 'a TCP server has an address');
    this.#port = bound.port;
    void this.#watchKeys();
  }

  async close(graceMs: number): Promise<void> {
    if (!this.#isClosing) {
      this.#isClosing = true;
      this.#server.close();
      this.#stop.abort();
    }
    for (const connection of [...this.#connections]) connection.drain();
    const allGone = new Promise<void>((resolve) => {
      this.#onLastGone = resolve;
      if (this.#connections.size === 0) resolve();
    });
    const gone = new AbortController();
    const late = slept(this.clock, graceMs, gone.signal).then((isLate) => {
      if (!isLate) return;
      for (const connection of [...this.#connections]) {
        connection.end(transportFailed('the receiver is closing'));
      }
    });
    await allGone;
    gone.abort();
    await late;
  }

  #makeServer(): Server {
    const { tls } = this.#options;
    if (tls === undefined) {
      const server = createServer({ noDelay: true });
      server.on('connection', (socket) => {
        this.#accept(socket, socket);
      });
      return server;
    }
    const server = createTlsServer({
      key: tls.privateKey,
      cert: tls.certificate,
      ca: tls.certificateAuthority,
      // with an authority of its own the receiver wants certificates from its peers
      requestCert: tls.certificateAuthority !== undefined,
      rejectUnauthorized: tls.certificateAuthority !== undefined,
      minVersion: 'TLSv1.3',
      ALPNProtocols: ['h2'],
      noDelay: true,
    });
    const admitted = new Map<string, string>();
    // counted when the connection comes, not when its handshake is done
    server.prependListener('connection', (socket: Socket) => {
      const address = plainAddress(socket.remoteAddress ?? '');
      if (!this.#mayEnter(socket, address)) return;
      const name = `${socket.remoteAddress ?? ''} ${socket.remotePort ?? 0}`;
      admitted.set(name, address);
      const closed = new AbortController();
      socket.once('close', () => {
        closed.abort();
        if (admitted.delete(name)) this.admission.leave(address);
      });
      void slept(this.clock, UNAUTHENTICATED.timeMs, closed.signal).then((isLate) => {
        if (isLate && admitted.has(name)) socket.destroy();
      });
    });
    server.on('secureConnection', (socket: TLSSocket) => {
      const name = `${socket.remoteAddress ?? ''} ${socket.remotePort ?? 0}`;
      const address = admitted.get(name);
      if (address === undefined) {
        socket.destroy();
        return;
      }
      // from here on the connection counts for itself
      admitted.delete(name);
      this.#serve(socket, address);
    });
    server.on('tlsClientError', (error: Error & { code?: string }, socket) => {
      // the certificate's fault when there is one, else what OpenSSL says; null when there is none
      const fault = socket.authorizationError as unknown;
      this.#tellTlsFailure(typeof fault === 'string' ? fault : (error.code ?? error.name));
      socket.destroy();
    });
    return server;
  }

  /** Once a minute for each reason, of which OpenSSL has a bounded number: anybody can cause them. */
  #tellTlsFailure(reason: string): void {
    if (reason === 'ECONNRESET') return;
    const now = this.clock.monotonic();
    const last = this.#tlsFailures.get(reason);
    if (last !== undefined && now - last < TLS_FAILURE_PAUSE_MS) return;
    this.#tlsFailures.set(reason, now);
    this.log.warn('channel.handshake-refused', { reason: `TLS: ${reason}` });
  }

  #accept(socket: Socket, stream: Socket): void {
    const address = plainAddress(socket.remoteAddress ?? '');
    if (this.#mayEnter(socket, address)) this.#serve(stream, address);
  }

  #mayEnter(socket: Socket, address: string): boolean {
    socket.on('error', () => undefined);
    const isFull = this.#connections.size >= CONNECTIONS_MAX;
    const refusal =
      this.#isClosing || isFull ? ('connections' as const) : this.admission.enter(address);
    if (refusal === undefined) return true;
    this.log.debug('channel.connection-refused', { address, reason: refusal });
    socket.destroy();
    return false;
  }

  #serve(socket: Socket, address: string): void {
    const connection = new ReceiverConnection(socket, address, this, () => {
      this.#connections.delete(connection);
      if (this.#connections.size === 0) this.#onLastGone?.();
    });
    this.#connections.add(connection);
  }

  /** Found in the same time wherever it stands among the keys, and whether it is there or not. */
  #keysById(): ReadonlyMap<string, PreSharedKey> {
    const { keys } = this.#options.keys;
    if (this.#indexed.keys !== keys) {
      this.#indexed = { keys, byId: new Map(keys.map((key) => [key.keyId, key])) };
    }
    return this.#indexed.byId;
  }

  /** Ends the sessions of keys that are not in the ring any more. */
  async #watchKeys(): Promise<void> {
    while (await slept(this.clock, KEY_CHECK_MS, this.#stop.signal)) {
      const { keys } = this.#options;
      try {
        await keys.reload?.();
      } catch (error) {
        this.log.error('channel.keys-unreadable', { error });
      }
      const byId = this.#keysById();
      for (const connection of [...this.#connections]) {
        connection.endExpired();
        const key = connection.session?.facts.key;
        if (key === undefined) continue;
        const current = byId.get(key.keyId);
        const isThere = current !== undefined && isSameKey(current, key);
        if (!isThere) {
          connection.end(
            new DrError('E_AUTH', `the key ${key.keyId} is not accepted any more`, {
              context: { keyId: key.keyId },
            }),
          );
        }
      }
    }
  }
}

/** What its sessions rest on: a changed role, name or pattern ends them as a new secret does. */
function isSameKey(a: PreSharedKey, b: PreSharedKey): boolean {
  return (
    a.role === b.role &&
    a.principal === b.principal &&
    a.vmPattern === b.vmPattern &&
    a.secret.equals(b.secret)
  );
}

function methodTable(services: readonly ServedService[]): ReadonlyMap<string, ServedMethod> {
  const table = new Map<string, ServedMethod>();
  for (const { definition, handlers, roles } of services) {
    for (const [name, method] of Object.entries(definition)) {
      const allowed = METHOD_ROLES.get(method.path) ?? roles?.[name];
      assert(allowed !== undefined, `it is known who may call ${method.path}`);
      assert(!table.has(method.path), `${method.path} is served once`);
      const handler = (handlers as Readonly<Record<string, unknown>>)[name];
      assert(typeof handler === 'function', `${method.path} has a handler`);
      table.set(method.path, {
        definition: method,
        handler: handler as LooseHandler,
        roles: allowed,
      });
    }
  }
  return table;
}
