// A peer that speaks HTTP/2 and gRPC's frames by hand and keeps to no rule: for hostile clients
// against our listener, and hostile receivers against our client.

import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  createServer as createHttp2Server,
  type Http2Server,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
  type ServerHttp2Stream,
} from 'node:http2';
import { type AddressInfo, createServer, connect as connectTcp, type Socket } from 'node:net';
import { systemRandom } from '../../shared/clock.js';
import type { PreSharedKey, Suite } from '../../shared/channel/index.js';
import {
  HandshakeRequest,
  HandshakeResponse,
} from '../../shared/channel/gen/podheitor/dr/v1/handshake.js';
import {
  answerHandshake,
  CALL_HEADER,
  HANDSHAKE_PATH,
  initiateHandshake,
  SESSION_HEADER,
} from '../../shared/channel/handshake.js';
import type { NoiseSecrets } from '../../shared/channel/noise.js';
import {
  type CallIdentity,
  RecordOpener,
  RecordSealer,
  type SealedRecord,
} from '../../shared/channel/records.js';

/** gRPC's frame around a message. */
export function framed(message: Uint8Array, flag = 0, length = message.length): Buffer {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt8(flag, 0);
  prefix.writeUInt32BE(length, 1);
  return Buffer.concat([prefix, message]);
}

export function whole({ head, ciphertext, tag }: SealedRecord): Buffer {
  return Buffer.concat([head, ciphertext, tag]);
}

/** How a stream ended for the client. */
export interface Ending {
  readonly headers: IncomingHttpHeaders;
  readonly trailers: IncomingHttpHeaders;
  readonly body: Buffer;
  readonly rstCode: number | undefined;
}

/** The gRPC status, wherever it stands. */
export function statusOf({ headers, trailers }: Ending): string | undefined {
  const status = trailers['grpc-status'] ?? headers['grpc-status'];
  return typeof status === 'string' ? status : undefined;
}

export interface RawSession {
  readonly sessionId: Buffer;
  readonly secrets: NoiseSecrets;
}

export class RawClient {
  readonly http2: ClientHttp2Session;
  #isClosed = false;

  constructor(port: number) {
    this.http2 = connect(`http://127.0.0.1:${port}`, {
      settings: { initialWindowSize: 1 << 20 },
    });
    this.http2.on('error', () => undefined);
    this.http2.on('close', () => {
      this.#isClosed = true;
    });
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Resolves when the other side has closed the connection. */
  async closed(): Promise<void> {
    if (this.#isClosed) return;
    await new Promise<void>((resolve) => {
      this.http2.once('close', resolve);
    });
  }

  open(path: string, headers: OutgoingHttpHeaders = {}): ClientHttp2Stream {
    const stream = this.http2.request({
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc',
      te: 'trailers',
      ...headers,
    });
    stream.on('error', () => undefined);
    return stream;
  }

  /** Sends `body` and ends the side, then waits for the end. */
  async exchange(path: string, body: Buffer, headers: OutgoingHttpHeaders = {}): Promise<Ending> {
    const stream = this.open(path, headers);
    const ending = endOf(stream);
    stream.end(body);
    return ending;
  }

  async shakeHandsWith(request: HandshakeRequest): Promise<HandshakeResponse | undefined> {
    const bytes = Buffer.from(HandshakeRequest.encode(request).finish());
    const { body } = await this.exchange(HANDSHAKE_PATH, framed(bytes));
    return body.length < 5 ? undefined : HandshakeResponse.decode(body.subarray(5));
  }

  /** An honest handshake with the key. */
  async shakeHands(key: PreSharedKey, suite: Suite = 'aes-256-gcm'): Promise<RawSession> {
    const handshake = initiateHandshake(key, suite, systemRandom);
    const response = await this.shakeHandsWith(handshake.request);
    if (response?.outcome?.$case !== 'accepted') throw new Error('the handshake was refused');
    const { noiseMessage, sessionId } = response.outcome.value;
    const secrets = handshake.finish(noiseMessage);
    if (secrets === undefined) throw new Error('the receiver has not the key');
    return { sessionId, secrets };
  }

  close(): void {
    this.http2.destroy();
  }
}

export function callHeaders(sessionId: Buffer, callId: bigint): OutgoingHttpHeaders {
  const call = Buffer.alloc(8);
  call.writeBigUInt64BE(callId);
  return {
    [SESSION_HEADER]: sessionId.toString('base64'),
    [CALL_HEADER]: call.toString('base64'),
  };
}

export function identityOf(
  session: RawSession,
  method: string,
  callId: bigint,
  suite: Suite = 'aes-256-gcm',
): CallIdentity {
  return { ...session, version: 1, suite, method, callId };
}

/** The records of a unary call: OPEN, the message, FINAL. */
export function unaryRecords(identity: CallIdentity, message: Buffer): Buffer[] {
  const sealer = new RecordSealer(identity);
  const count = Buffer.alloc(8);
  count.writeBigUInt64BE(2n);
  return [
    whole(sealer.seal('open', Buffer.alloc(5))),
    whole(sealer.seal('message', message)),
    whole(sealer.seal('final', count)),
  ];
}

/** The messages in a body. */
export function messagesOf(body: Buffer): Buffer[] {
  const out: Buffer[] = [];
  let position = 0;
  while (position + 5 <= body.length) {
    const length = body.readUInt32BE(position + 1);
    out.push(body.subarray(position + 5, position + 5 + length));
    position += 5 + length;
  }
  return out;
}

export function openAll(identity: CallIdentity, body: Buffer): { kind: string; bytes: Buffer }[] {
  const opener = new RecordOpener(identity, 's2c');
  return messagesOf(body).map((record) => {
    const { kind, plaintext } = opener.open(record);
    return { kind, bytes: plaintext };
  });
}

export function endOf(stream: ClientHttp2Stream): Promise<Ending> {
  let headers: IncomingHttpHeaders = {};
  let trailers: IncomingHttpHeaders = {};
  const chunks: Buffer[] = [];
  stream.on('response', (received) => {
    headers = received;
  });
  stream.on('trailers', (received: IncomingHttpHeaders) => {
    trailers = received;
  });
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  return new Promise((resolve) => {
    stream.on('close', () => {
      resolve({ headers, trailers, body: Buffer.concat(chunks), rstCode: stream.rstCode });
    });
  });
}

/** What a hostile receiver does with a call. */
export type RawHandler = (
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  session: RawSession,
) => void;

/** A receiver that shakes hands as it should and then does what it likes. */
export class RawReceiver {
  readonly #server: Http2Server;
  #session: RawSession | undefined;
  handshakes = 0;

  constructor(
    key: PreSharedKey,
    onCall: RawHandler,
    answer?: (request: HandshakeRequest) => HandshakeResponse,
  ) {
    this.#server = createHttp2Server();
    this.#server.on('stream', (stream, headers) => {
      stream.on('error', () => undefined);
      if (headers[':path'] !== HANDSHAKE_PATH) {
        if (this.#session !== undefined) onCall(stream, headers, this.#session);
        return;
      }
      this.handshakes++;
      const chunks: Buffer[] = [];
      stream.on('data', (chunk: Buffer) => chunks.push(chunk));
      stream.on('end', () => {
        const request = HandshakeRequest.decode(Buffer.concat(chunks).subarray(5));
        const response = answer?.(request) ?? this.#accept(request, key);
        stream.respond({ ':status': 200, 'content-type': 'application/grpc' });
        stream.end(framed(HandshakeResponse.encode(response).finish()));
      });
    });
  }

  #accept(request: HandshakeRequest, key: PreSharedKey): HandshakeResponse {
    const outcome = answerHandshake(request, {
      findKey: () => key,
      suites: ['aes-256-gcm', 'chacha20-poly1305'],
      dummy: key,
      random: systemRandom,
    });
    if (outcome.kind !== 'accepted') return { outcome: { $case: 'refused', value: {} } };
    const sessionId = systemRandom.fill(Buffer.alloc(16));
    this.#session = { sessionId, secrets: outcome.secrets };
    return {
      outcome: { $case: 'accepted', value: { noiseMessage: outcome.noiseMessage, sessionId } },
    };
  }

  async listen(): Promise<number> {
    await new Promise<void>((resolve) => {
      this.#server.listen(0, '127.0.0.1', resolve);
    });
    return (this.#server.address() as AddressInfo).port;
  }

  close(): void {
    this.#server.close();
  }
}

/** A proxy in between that keeps what it saw and may be told to change or cut it. */
export class RecordingProxy {
  readonly toReceiver: Buffer[] = [];
  readonly toSource: Buffer[] = [];
  readonly #server = createServer();
  readonly #sockets = new Set<Socket>();

  async listen(targetPort: number): Promise<number> {
    this.#server.on('connection', (near) => {
      const far = connectTcp(targetPort, '127.0.0.1');
      const pair: readonly [Socket, Socket, Buffer[]][] = [
        [near, far, this.toReceiver],
        [far, near, this.toSource],
      ];
      for (const [from, to, kept] of pair) {
        this.#sockets.add(from);
        from.on('error', () => undefined);
        from.on('data', (chunk: Buffer) => {
          kept.push(Buffer.from(chunk));
          to.write(chunk);
        });
        from.on('close', () => {
          to.destroy();
          this.#sockets.delete(from);
        });
      }
    });
    await new Promise<void>((resolve) => {
      this.#server.listen(0, '127.0.0.1', resolve);
    });
    return (this.#server.address() as AddressInfo).port;
  }

  /** Breaks all connections. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  close(): void {
    this.cut();
    this.#server.close();
  }
}

/** Turns of the event loop until `condition` holds. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`did not come: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
