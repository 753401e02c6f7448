// One connection on the receiver's side, from the first byte to the end: HTTP/2 with narrow limits,
// one handshake, then – after the first record has opened – the calls of one session under wide
// limits. Everything that is refused is refused on the HTTP/2 stream, before a byte of it is kept.

import {
  constants,
  type Http2Session,
  type IncomingHttpHeaders,
  performServerHandshake,
  type ServerHttp2Stream,
} from 'node:http2';
import type { Duplex } from 'node:stream';
import type { Clock, Random } from '../clock.js';
import { DrError } from '../errors.js';
import type { Log } from '../log.js';
import type { Admission } from './admission.js';
import { HandshakeRequest, HandshakeResponse } from './gen/podheitor/dr/v1/handshake.js';
import { MessageReader, MessageWriter, transportFailed } from './grpc-wire.js';
import {
  answerHandshake,
  CALL_HEADER,
  HANDSHAKE_PATH,
  type HandshakeOutcome,
  type ResponderPolicy,
  SESSION_HEADER,
  SESSION_ID_BYTES,
} from './handshake.js';
import { keepAlive } from './keep-alive.js';
import {
  AUTHENTICATED,
  HANDSHAKE_BYTES_MAX,
  HTTP2_SESSION_MEGABYTES,
  PENDING_SESSIONS_MAX,
  PROTOCOL_NEWEST,
  PROTOCOL_OLDEST,
  UNAUTHENTICATED,
} from './limits.js';
import { ReceiverSession } from './receiver-session.js';
import { type ServedMethod, serveCall } from './server-call.js';
import type { Bulk } from './sealed-stream.js';
import { slept } from './slept.js';
import type { WindowBudget } from './window-budget.js';

/** gRPC's numbers: good for people and proxies, never a reason for anything. */
const STATUS = {
  unauthenticated: 16,
  unimplemented: 12,
  unavailable: 14,
  exhausted: 8,
  internal: 13,
};

/** What all connections of a listener have in common. */
export interface ListenerCore {
  readonly methods: ReadonlyMap<string, ServedMethod>;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly admission: Admission;
  readonly windows: WindowBudget;
  policyFor(address: string): ResponderPolicy;
  readonly pendingCount: number;
  /** Authenticated ones of a principal, whichever of its keys they use. */
  connectionsOf(principal: string): number;
  readonly isClosing: boolean;
}

export class ReceiverConnection {
  readonly address: string;
  readonly #core: ListenerCore;
  readonly #socket: Duplex;
  readonly #http2: Http2Session;
  readonly #gone = new AbortController();
  readonly #onClosed: () => void;
  #session: ReceiverSession | undefined;
  #hasShakenHands = false;
  #isWaiting = true;
  #windowBytes = 0;

  /** The connection has been counted by the admission already. */
  constructor(socket: Duplex, address: string, core: ListenerCore, onClosed: () => void) {
    this.address = address;
    this.#core = core;
    this.#socket = socket;
    this.#onClosed = onClosed;
    this.#http2 = performServerHandshake(socket, {
      maxHeaderListPairs: UNAUTHENTICATED.headerPairs,
      maxSessionMemory: HTTP2_SESSION_MEGABYTES,
      maxSessionInvalidFrames: 16,
      maxSessionRejectedStreams: 16,
      settings: {
        initialWindowSize: UNAUTHENTICATED.windowBytes,
        maxConcurrentStreams: UNAUTHENTICATED.streams,
        maxHeaderListSize: UNAUTHENTICATED.headerBytes,
        enablePush: false,
      },
    });
    this.#http2.on('stream', (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => {
      this.#onStream(stream, headers);
    });
    this.#http2.on('error', () => undefined);
    // an error of TLS leaves the socket open otherwise
    socket.on('error', () => {
      socket.destroy();
    });
    const closed = (): void => {
      this.#closed();
    };
    this.#http2.on('close', closed);
    socket.on('close', closed);
    void this.#limitWaiting();
  }

  get session(): ReceiverSession | undefined {
    return this.#session;
  }

  /** A handshake was accepted and no record has opened yet. */
  get isPending(): boolean {
    return this.#session !== undefined && !this.#session.isConfirmed;
  }

  /** As HTTP/2 has it now: how much the peer may send. */
  get localWindowBytes(): number {
    return this.#http2.state.effectiveLocalWindowSize ?? 0;
  }

  /** Ends the session, if there is one, and the connection. */
  end(reason: DrError): void {
    const session = this.#session;
    if (session?.isConfirmed === true && session.ended === undefined) {
      const { keyId, principal } = session.facts.key;
      this.#core.log.info('channel.session-ended', {
        keyId,
        principal,
        address: this.address,
        reason: reason.message,
      });
    }
    session?.end(reason);
    this.#http2.destroy();
    this.#socket.destroy();
  }

  /** Takes no new calls; ends at once when there are none. */
  drain(): void {
    if ((this.#session?.callCount ?? 0) === 0) this.end(closing());
  }

  /** Ends a session that is too old for new calls and has none under way. */
  endExpired(): void {
    if (this.#session?.isExpired === true && this.#session.callCount === 0) this.end(closing());
  }

  #closed(): void {
    if (this.#gone.signal.aborted) return;
    this.#gone.abort();
    if (this.#isWaiting) {
      this.#core.admission.leave(this.address);
      // a replayed message 1 gets an answer and then has nothing to say
      if (this.isPending) this.#core.admission.failed(this.address);
    }
    if (this.#windowBytes > 0) this.#core.windows.giveBack(this.#windowBytes);
    this.end(transportFailed('the connection was closed'));
    this.#onClosed();
  }

  async #limitWaiting(): Promise<void> {
    if (!(await slept(this.#core.clock, UNAUTHENTICATED.timeMs, this.#gone.signal))) return;
    if (!this.#isWaiting) return;
    this.#core.log.debug('channel.connection-refused', {
      address: this.address,
      reason: 'it did not authenticate itself in time',
    });
    this.end(transportFailed('the connection was not authenticated in time'));
  }

  #onStream(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
    stream.on('error', () => undefined);
    const isGrpc =
      headers[':method'] === 'POST' &&
      headers['content-type']?.startsWith('application/grpc') === true;
    if (!isGrpc) return refuse(stream, STATUS.unimplemented, 'gRPC only');
    if ((headers['grpc-encoding'] ?? 'identity') !== 'identity') {
      return refuse(stream, STATUS.unimplemented, 'no compression');
    }
    if (headers[':path'] === HANDSHAKE_PATH) {
      void this.#shakeHands(stream);
      return;
    }
    this.#startCall(stream, headers);
  }

  async #shakeHands(stream: ServerHttp2Stream): Promise<void> {
    const { admission, log, clock } = this.#core;
    if (this.#hasShakenHands) {
      return refuse(stream, STATUS.exhausted, 'one handshake a connection');
    }
    this.#hasShakenHands = true;
    try {
      const reader = new MessageReader(stream, HANDSHAKE_BYTES_MAX);
      const bytes = await reader.next();
      if (bytes === undefined) throw transportFailed('there was no message');
      const request = HandshakeRequest.decode(bytes);
      const isBusy =
        this.#core.isClosing ||
        this.#core.pendingCount >= PENDING_SESSIONS_MAX ||
        admission.isBlocked(this.address);
      const outcome: HandshakeOutcome = isBusy
        ? { kind: 'refused' }
        : answerHandshake(request, this.#core.policyFor(this.address));
      if (outcome.kind !== 'accepted') {
        admission.failed(this.address);
        log.warn('channel.handshake-refused', {
          address: this.address,
          keyId: request.keyId.slice(0, 64),
          principal: request.principal.slice(0, 256),
          reason: isBusy ? 'too much is going on' : outcome.kind,
        });
      }
      const response = this.#answer(outcome);
      stream.respond(
        { ':status': 200, 'content-type': 'application/grpc' },
        { waitForTrailers: true },
      );
      stream.on('wantTrailers', () => {
        stream.sendTrailers({ 'grpc-status': '0' });
      });
      await new MessageWriter(stream).write([
        HandshakeResponse.encode(response).finish() as Buffer,
      ]);
      stream.end();
      if (outcome.kind === 'accepted') return;
      // the answer goes out first
      stream.on('close', () => {
        this.#http2.close();
      });
      await slept(clock, 1000, this.#gone.signal);
      this.end(transportFailed('the handshake was refused'));
    } catch (error) {
      admission.failed(this.address);
      log.warn('channel.handshake-refused', { address: this.address, error });
      this.end(transportFailed('the handshake was not legal'));
    }
  }

  #answer(outcome: HandshakeOutcome): HandshakeResponse {
    switch (outcome.kind) {
      case 'version-refused':
        return {
          outcome: {
            $case: 'versionRefused',
            value: { supported: { oldest: PROTOCOL_OLDEST, newest: PROTOCOL_NEWEST } },
          },
        };
      case 'refused':
        return { outcome: { $case: 'refused', value: {} } };
      case 'accepted': {
        const { key, suite, version, secrets, noiseMessage } = outcome;
        const sessionId = this.#core.random.fill(Buffer.alloc(SESSION_ID_BYTES));
        const { keyId, principal, role, vmPattern } = key;
        const caller = { keyId, principal, role, vmPattern, address: this.address };
        this.#session = new ReceiverSession(
          { id: sessionId, secrets, suite, version, key, caller },
          this.#core.clock,
          () => {
            this.#idle();
          },
        );
        return { outcome: { $case: 'accepted', value: { noiseMessage, sessionId } } };
      }
    }
  }

  #startCall(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
    const session = this.#session;
    const sessionId = binary(headers[SESSION_HEADER], SESSION_ID_BYTES);
    const callId = binary(headers[CALL_HEADER], 8)?.readBigUInt64BE(0);
    const isKnown =
      session?.ended === undefined &&
      sessionId !== undefined &&
      session?.facts.id.equals(sessionId) === true;
    if (!isKnown || callId === undefined) {
      return refuse(stream, STATUS.unauthenticated, 'no such session');
    }
    if (this.#core.isClosing || session.isExpired) {
      return refuse(stream, STATUS.unavailable, 'the session takes no more calls');
    }
    const method = this.#core.methods.get(headers[':path'] ?? '');
    if (method === undefined) return refuse(stream, STATUS.unimplemented, 'no such method');
    if (!session.window.accept(callId)) {
      return refuse(stream, STATUS.unauthenticated, 'no such session');
    }
    const { clock, random, log } = this.#core;
    void serveCall({
      stream,
      session,
      method,
      callId,
      clock,
      random,
      log,
      onOpened: (bulk) => {
        this.#authenticated(session, bulk);
      },
      onForged: (error) => {
        this.end(error);
      },
    });
  }

  #authenticated(session: ReceiverSession, bulk: Bulk): void {
    if (session.isConfirmed) return;
    session.confirm();
    this.#isWaiting = false;
    this.#core.admission.leave(this.address);
    const { keyId, principal, role } = session.facts.key;
    if (this.#core.connectionsOf(principal) > AUTHENTICATED.connectionsOfPrincipal) {
      this.end(
        new DrError(
          'E_LIMIT',
          `${principal} has ${AUTHENTICATED.connectionsOfPrincipal} connections`,
        ),
      );
      return;
    }
    if (bulk === 'up') {
      this.#windowBytes = this.#core.windows.grant();
      // this alone would widen the connection only, the settings its streams
      this.#http2.setLocalWindowSize(this.#windowBytes);
    }
    const streamWindowBytes = Math.max(UNAUTHENTICATED.windowBytes, this.#windowBytes >>> 1);
    this.#http2.settings({
      ...(bulk === 'up' ? { initialWindowSize: streamWindowBytes } : {}),
      maxConcurrentStreams: AUTHENTICATED.streams,
    });
    void keepAlive(this.#http2, this.#core.clock, this.#gone.signal, () => {
      this.end(transportFailed('the other side does not answer any more'));
    });
    this.#core.log.info('channel.session-opened', {
      keyId,
      principal,
      role,
      address: this.address,
    });
  }

  /** The last call ended. */
  #idle(): void {
    const isOver = this.#core.isClosing || this.#session?.isExpired === true;
    if (!isOver) return;
    // what was written last goes out first
    this.#http2.close(() => {
      this.end(closing());
    });
  }
}

function closing(): DrError {
  return transportFailed('the receiver takes no more calls');
}

/** Refuses a call that has no seal yet; what the peer still sends of it is not kept. */
function refuse(stream: ServerHttp2Stream, status: number, message: string): void {
  if (stream.destroyed) return;
  stream.respond(
    {
      ':status': 200,
      'content-type': 'application/grpc',
      'grpc-status': String(status),
      'grpc-message': message,
    },
    { endStream: true },
  );
  stream.close(constants.NGHTTP2_NO_ERROR);
}

function binary(value: string | string[] | undefined, lengthBytes: number): Buffer | undefined {
  if (typeof value !== 'string' || value.length > 64) return undefined;
  const bytes = Buffer.from(value, 'base64');
  return bytes.length === lengthBytes ? bytes : undefined;
}
