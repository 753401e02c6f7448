// One session on the initiator's side: one connection, one handshake, and the calls on it. When the
// connection is gone, so is the session; connect.ts makes the next one.

import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect as connectHttp2,
} from 'node:http2';
import { connect as connectTcp, isIP, type Socket } from 'node:net';
import { connect as connectTls, TLSSocket } from 'node:tls';
import type { Clock } from '../clock.js';
import { DrError } from '../errors.js';
import type { Suite } from './aead.js';
import type { ConnectOptions } from './endpoint.js';
import { HandshakeRequest, HandshakeResponse } from './gen/podheitor/dr/v1/handshake.js';
import { MessageReader, MessageWriter, transportFailed } from './grpc-wire.js';
import {
  CALL_HEADER,
  HANDSHAKE_PATH,
  initiateHandshake,
  SESSION_HEADER,
  SESSION_ID_BYTES,
} from './handshake.js';
import { keepAlive } from './keep-alive.js';
import {
  AUTHENTICATED,
  HANDSHAKE_BYTES_MAX,
  HTTP2_SESSION_MEGABYTES,
  PROTOCOL_NEWEST,
  PROTOCOL_OLDEST,
  SESSION_AGE_MAX_MS,
  SESSION_RENEWAL_MS,
  UNAUTHENTICATED,
} from './limits.js';
import type { NoiseSecrets } from './noise.js';
import type { CallIdentity } from './records.js';
import type { Bulk } from './sealed-stream.js';
import { slept } from './slept.js';
import { closedAfterTls, tlsMissing, tlsRefusal } from './tls-failure.js';

const DEFAULT_TIMEOUT_MS = 10_000;
const CANCEL = 8;

/** A call's stream and what its keys are derived from. */
export interface StartedCall {
  readonly stream: ClientHttp2Stream;
  readonly identity: CallIdentity;
}

export class ClientSession {
  /** Which direction of the connection has the wide window. */
  readonly bulk: Bulk;
  readonly #http2: ClientHttp2Session;
  readonly #clock: Clock;
  readonly #secrets: NoiseSecrets;
  readonly #suite: Suite;
  readonly #sessionId: Buffer;
  readonly #madeAtMs: number;
  readonly #over = new AbortController();
  readonly #calls = new Set<ClientHttp2Stream>();
  #nextCall = 1n;
  #isRetired = false;

  private constructor(
    http2: ClientHttp2Session,
    clock: Clock,
    bulk: Bulk,
    facts: { secrets: NoiseSecrets; suite: Suite; sessionId: Buffer },
  ) {
    this.#http2 = http2;
    this.#clock = clock;
    this.bulk = bulk;
    this.#secrets = facts.secrets;
    this.#suite = facts.suite;
    this.#sessionId = facts.sessionId;
    this.#madeAtMs = clock.monotonic();
    http2.on('close', () => {
      this.#over.abort();
    });
    void keepAlive(http2, clock, this.#over.signal, () => {
      this.end();
    });
  }

  /**
   * Connects and shakes hands.
   * @throws DrError E_SOURCE_UNREACHABLE, E_AUTH, E_VERSION, E_TLS
   */
  static async open(
    options: ConnectOptions,
    bulk: Bulk,
    signal: AbortSignal,
  ): Promise<ClientSession> {
    const { clock, host, port } = options;
    const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    const done = new AbortController();
    const stop = AbortSignal.any([done.signal, signal]);
    let socket: Socket | undefined;
    const lateness = { isLate: false };
    const late = slept(clock, timeoutMs, stop).then((isOver) => {
      lateness.isLate = isOver;
      if (isOver || signal.aborted) socket?.destroy();
    });
    try {
      socket = openSocket(options);
      const http2 = await openHttp2(socket, options, bulk);
      try {
        return await shakeHands(
          http2,
          options,
          (facts) => new ClientSession(http2, clock, bulk, facts),
        );
      } catch (error) {
        http2.destroy();
        throw error;
      }
    } catch (error) {
      socket?.destroy();
      if (error instanceof DrError && error.code !== 'E_CHANNEL') throw error;
      const isSilent = options.tls === undefined && error instanceof ClosedEarly;
      const refused =
        isSilent && socket?.bytesRead === 0 && !stop.aborted
          ? await tlsMissing(options, clock, stop)
          : tlsRefusal(error, options);
      if (refused !== undefined) throw refused;
      const why = lateness.isLate
        ? `there was no answer within ${timeoutMs} ms`
        : error instanceof Error
          ? error.message
          : String(error);
      throw new DrError('E_SOURCE_UNREACHABLE', `${host}:${port} cannot be reached: ${why}`, {
        context: { host, port },
        done: 'nothing was sent',
        cause: error,
      });
    } finally {
      done.abort();
      await late;
    }
  }

  /** Good for new calls. */
  get isUsable(): boolean {
    const age = this.#clock.monotonic() - this.#madeAtMs;
    return (
      !this.#isRetired &&
      !this.#http2.closed &&
      !this.#http2.destroyed &&
      age < SESSION_AGE_MAX_MS - SESSION_RENEWAL_MS
    );
  }

  /** The connection has gone. */
  get isOver(): boolean {
    return this.#http2.destroyed;
  }

  /** As HTTP/2 has it now: how much the receiver may send. */
  get localWindowBytes(): number {
    return this.#http2.state.effectiveLocalWindowSize ?? 0;
  }

  /** Opens the stream of a new call under an id that was never used. */
  startCall(method: string): StartedCall {
    const callId = this.#nextCall++;
    const callBytes = Buffer.alloc(8);
    callBytes.writeBigUInt64BE(callId);
    let stream: ClientHttp2Stream;
    try {
      stream = this.#http2.request({
        ':method': 'POST',
        ':path': method,
        'content-type': 'application/grpc',
        te: 'trailers',
        [SESSION_HEADER]: this.#sessionId.toString('base64'),
        [CALL_HEADER]: callBytes.toString('base64'),
      });
    } catch (error) {
      throw transportFailed('the connection has gone', error);
    }
    this.#calls.add(stream);
    stream.on('close', () => {
      this.#calls.delete(stream);
      if (this.#isRetired && this.#calls.size === 0) this.#http2.close();
    });
    return {
      stream,
      identity: {
        secrets: this.#secrets,
        version: PROTOCOL_NEWEST,
        suite: this.#suite,
        sessionId: this.#sessionId,
        method,
        callId,
      },
    };
  }

  /** Takes no new calls; ends with the last one. */
  retire(): void {
    this.#isRetired = true;
    if (this.#calls.size === 0) this.#http2.close();
  }

  /** Ends all calls and the connection. */
  end(): void {
    this.#isRetired = true;
    this.#over.abort();
    for (const stream of this.#calls) stream.close(CANCEL);
    this.#http2.destroy();
  }
}

/** Before the receiver had said anything of HTTP/2. */
class ClosedEarly extends Error {}

/** How a close looks to the side that was still writing. */
function isReset(error: Error): boolean {
  return 'code' in error && (error.code === 'ECONNRESET' || error.code === 'EPIPE');
}

function openSocket(options: ConnectOptions): Socket {
  const { host, port, tls } = options;
  if (tls === undefined) return connectTcp({ host, port, noDelay: true });
  const name = tls.serverName ?? (isIP(host) === 0 ? host : undefined);
  return connectTls({
    host,
    port,
    ca: tls.certificateAuthority,
    cert: tls.certificate,
    key: tls.privateKey,
    ...(name === undefined ? {} : { servername: name }),
    minVersion: 'TLSv1.3',
    ALPNProtocols: ['h2'],
  });
}

async function openHttp2(
  socket: Socket,
  options: ConnectOptions,
  bulk: Bulk,
): Promise<ClientHttp2Session> {
  const { tls } = options;
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject);
    socket.once('close', () => {
      reject(new Error('the connection was closed'));
    });
    socket.once(tls === undefined ? 'connect' : 'secureConnect', resolve);
  });
  socket.removeAllListeners('error');
  socket.removeAllListeners('close');
  // a TLS alert after the handshake is an error that leaves the socket open
  let alert: Error | undefined;
  socket.on('error', (error) => {
    alert ??= error;
    socket.destroy();
  });
  if (socket instanceof TLSSocket && socket.alpnProtocol !== 'h2') {
    throw new Error('the other side speaks no HTTP/2 over TLS');
  }
  const [windowBytes, streamWindowBytes] =
    bulk === 'down'
      ? [AUTHENTICATED.windowBytes, AUTHENTICATED.streamWindowBytes]
      : [UNAUTHENTICATED.windowBytes, UNAUTHENTICATED.windowBytes];
  // the name stands in :authority and nowhere else
  const http2 = connectHttp2(tls === undefined ? 'http://hvdr' : 'https://hvdr', {
    createConnection: () => socket,
    maxSessionMemory: HTTP2_SESSION_MEGABYTES,
    settings: { initialWindowSize: streamWindowBytes, enablePush: false },
  });
  http2.on('error', () => undefined);
  await new Promise<void>((resolve, reject) => {
    http2.once('remoteSettings', () => {
      resolve();
    });
    // the socket may have gone before HTTP/2 took it over
    const gone = (): void => {
      if (alert === undefined || isReset(alert)) {
        reject(new ClosedEarly(closedAfterTls(options), { cause: alert }));
      } else {
        reject(alert);
      }
    };
    for (const end of [http2, socket]) end.once('close', gone);
    socket.once('error', gone);
    if (socket.destroyed) gone();
  });
  http2.setLocalWindowSize(windowBytes);
  return http2;
}

async function shakeHands<T>(
  http2: ClientHttp2Session,
  options: ConnectOptions,
  make: (facts: { secrets: NoiseSecrets; suite: Suite; sessionId: Buffer }) => T,
): Promise<T> {
  const { key, host, port, random } = options;
  const suite = options.suite ?? 'aes-256-gcm';
  const handshake = initiateHandshake(key, suite, random);
  const stream = http2.request({
    ':method': 'POST',
    ':path': HANDSHAKE_PATH,
    'content-type': 'application/grpc',
    te: 'trailers',
  });
  const reader = new MessageReader(stream, HANDSHAKE_BYTES_MAX);
  const request = HandshakeRequest.encode(handshake.request).finish();
  await new MessageWriter(stream).write([Buffer.from(request)]);
  stream.end();
  const bytes = await reader.next();
  if (bytes === undefined) throw transportFailed('the other side gave no handshake');
  const response = decodeResponse(bytes);
  stream.close();
  const context = { host, port, keyId: key.keyId, principal: key.principal };
  switch (response.outcome?.$case) {
    case 'versionRefused': {
      const theirs = response.outcome.value.supported;
      throw new DrError(
        'E_VERSION',
        `${host}:${port} speaks protocol versions ${theirs?.oldest ?? 0} to ${theirs?.newest ?? 0}, this side ${PROTOCOL_OLDEST} to ${PROTOCOL_NEWEST}`,
        { context },
      );
    }
    case 'accepted': {
      const { noiseMessage, sessionId } = response.outcome.value;
      const secrets = handshake.finish(noiseMessage);
      if (secrets === undefined || sessionId.length !== SESSION_ID_BYTES) {
        throw new DrError('E_AUTH', `${host}:${port} does not have the key ${key.keyId}`, {
          context,
          done: 'nothing was sent',
          hint: 'Somebody else answers there, or the key was replaced: compare `hvdr psk inspect FILE` on both sides.',
        });
      }
      return make({ secrets, suite, sessionId: Buffer.from(sessionId) });
    }
    case 'refused':
    case undefined:
      throw new DrError(
        'E_AUTH',
        `${host}:${port} did not accept the key ${key.keyId} of ${key.principal}`,
        {
          context,
          done: 'nothing was sent',
          hint: 'Compare `hvdr psk inspect FILE` on both sides; operators are accepted from the receiver itself or from --operator-from. The log of the receiver says more.',
        },
      );
  }
}

function decodeResponse(bytes: Buffer): HandshakeResponse {
  try {
    return HandshakeResponse.decode(bytes);
  } catch (error) {
    throw new DrError('E_PROTOCOL', 'the answer to the handshake cannot be read', {
      cause: error,
    });
  }
}
