// A TCP proxy on the loopback address, with real sockets, for what happens between two sites: it
// keeps what passes, holds it back, stalls and cuts. Tests stand it between agent and receiver;
// bench/delay-proxy.ts runs one as a process of its own.
//
// Each chunk is forwarded `delayMs` after it was read, whatever the number of chunks under way: the
// line is long, not narrow. A reader is paused only while more bytes wait than a long fat line holds.

import {
  type AddressInfo,
  createConnection,
  createServer,
  type Server,
  type Socket,
} from 'node:net';
import { assert } from '../../shared/assert.js';

export type Direction = 'to-server' | 'to-client';

export interface TcpProxyOptions {
  readonly target: { readonly host: string; readonly port: number };
  /** Each way. Default 0. */
  readonly delayMs?: number;
  /** Keeps all bytes in memory, up to 1 GiB each way. Default true. */
  readonly isRecording?: boolean;
}

const LOOPBACK = '127.0.0.1';
const RECORD_MAX_BYTES = 1024 ** 3;
/** What may wait in one direction of a connection: 1 GB/s for 60 ms. */
const WAITING_MAX_BYTES = 64 * 1024 ** 2;

export class TcpProxy {
  readonly #options: TcpProxyOptions;
  readonly #server: Server;
  readonly #links = new Set<Link>();
  readonly #record: Record<Direction, Buffer[]> = { 'to-server': [], 'to-client': [] };
  readonly #passed: Record<Direction, number> = { 'to-server': 0, 'to-client': 0 };
  readonly #cutAfter: Partial<Record<Direction, number>> = {};
  #connectionCount = 0;
  #isRefusing = false;
  #isCutForLong = false;
  readonly #waiting: (() => void)[] = [];
  #isStalled = false;
  #delayMs: number;

  private constructor(options: TcpProxyOptions) {
    this.#options = options;
    this.#delayMs = options.delayMs ?? 0;
    // half-open is passed on as such: the other direction goes on
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (client) =>
      this.#accept(client),
    );
  }

  /** Listens on a free port, or on `port`. */
  static start(options: TcpProxyOptions, port = 0): Promise<TcpProxy> {
    const proxy = new TcpProxy(options);
    return new Promise((resolve, reject) => {
      proxy.#server.once('error', reject);
      proxy.#server.listen(port, LOOPBACK, () => resolve(proxy));
    });
  }

  get host(): string {
    return LOOPBACK;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Connections accepted so far. */
  get connectionCount(): number {
    return this.#connectionCount;
  }

  get openConnectionCount(): number {
    return this.#links.size;
  }

  /** Bytes that were read from one side so far, those that a cut kept from the other included. */
  passedBytes(direction: Direction): number {
    return this.#passed[direction];
  }

  /** Everything that was read in a direction, in the order of its coming. */
  recorded(direction: Direction): Buffer {
    assert(this.#options.isRecording !== false, 'the proxy records');
    return Buffer.concat(this.#record[direction]);
  }

  /** Whether `bytes` have passed in one piece, in either direction. */
  hasSeen(bytes: Buffer): boolean {
    return (['to-server', 'to-client'] as const).some((direction) =>
      this.recorded(direction).includes(bytes),
    );
  }

  /** For all chunks that are read from now on. */
  setDelay(delayMs: number): void {
    this.#delayMs = delayMs;
  }

  /** Silence, as of a line that was unplugged: connections stay open and nothing passes. */
  stall(): void {
    this.#isStalled = true;
  }

  /** What waited meanwhile passes. */
  resume(): void {
    this.#isStalled = false;
    for (const link of this.#links) link.forward();
  }

  /** Resets all connections, both sides; what was under way is lost. New ones are accepted. */
  cut(): void {
    for (const link of this.#links) link.reset();
  }

  /**
   * Cuts all connections as soon as `bytes` more have been read in a direction. `isForLong`: the line stays
   * away then, until refuse(false).
   */
  cutAfter(direction: Direction, bytes: number, isForLong = false): void {
    this.#cutAfter[direction] = this.#passed[direction] + bytes;
    this.#isCutForLong = isForLong;
  }

  /** Resolves as soon as cutAfter() has cut. */
  nextCut(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Whether new connections are reset at once. */
  refuse(isRefusing: boolean): void {
    this.#isRefusing = isRefusing;
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
  }

  #accept(client: Socket): void {
    this.#connectionCount += 1;
    if (this.#isRefusing) {
      client.on('error', () => undefined);
      client.resetAndDestroy();
      return;
    }
    const { host, port } = this.#options.target;
    const server = createConnection({ host, port, allowHalfOpen: true, noDelay: true });
    const link = new Link(client, server, {
      onBytes: (direction, chunk) => this.#take(direction, chunk),
      delayMs: () => this.#delayMs,
      isStalled: () => this.#isStalled,
      onEnd: () => this.#links.delete(link),
    });
    this.#links.add(link);
  }

  #take(direction: Direction, chunk: Buffer): void {
    this.#passed[direction] += chunk.length;
    if (this.#options.isRecording !== false) {
      assert(this.#passed[direction] <= RECORD_MAX_BYTES, 'the record fits into memory');
      this.#record[direction].push(chunk);
    }
    const limit = this.#cutAfter[direction];
    if (limit !== undefined && this.#passed[direction] >= limit) {
      // the exactness is of the reading: the whole chunk counts, and none of it is forwarded
      this.#cutAfter[direction] = Number.POSITIVE_INFINITY;
      if (this.#isCutForLong) this.#isRefusing = true;
      this.cut();
      for (const tell of this.#waiting.splice(0)) tell();
    }
  }
}

interface LinkRules {
  readonly onBytes: (direction: Direction, chunk: Buffer) => void;
  readonly delayMs: () => number;
  readonly isStalled: () => boolean;
  readonly onEnd: () => void;
}

/** One connection through the proxy: two sockets and a pipe each way. */
class Link {
  readonly #sockets: readonly [Socket, Socket];
  readonly #pipes: readonly [Pipe, Pipe];
  #openCount = 2;

  constructor(client: Socket, server: Socket, rules: LinkRules) {
    this.#sockets = [client, server];
    this.#pipes = [
      new Pipe(client, server, 'to-server', rules),
      new Pipe(server, client, 'to-client', rules),
    ];
    for (const socket of this.#sockets) {
      // a reset of one side reaches the other as a reset
      socket.on('error', () => this.reset());
      socket.on('close', () => {
        this.#openCount -= 1;
        if (this.#openCount === 0) rules.onEnd();
      });
    }
  }

  forward(): void {
    for (const pipe of this.#pipes) pipe.forward();
  }

  reset(): void {
    for (const pipe of this.#pipes) pipe.drop();
    for (const socket of this.#sockets) {
      // a socket that is not connected yet cannot be reset, only given up
      if (socket.connecting) socket.destroy();
      else socket.resetAndDestroy();
    }
  }
}

/** One direction of a connection. */
class Pipe {
  readonly #source: Socket;
  readonly #target: Socket;
  readonly #rules: LinkRules;
  /** undefined stands for the end of the stream. */
  readonly #waiting: { readonly dueMs: number; readonly chunk: Buffer | undefined }[] = [];
  #waitingBytes = 0;
  #timer: NodeJS.Timeout | undefined;
  #isDropped = false;

  constructor(source: Socket, target: Socket, direction: Direction, rules: LinkRules) {
    this.#source = source;
    this.#target = target;
    this.#rules = rules;
    source.on('data', (chunk: Buffer) => {
      rules.onBytes(direction, chunk);
      this.#take(chunk);
    });
    source.on('end', () => this.#take(undefined));
    target.on('drain', () => this.#keepFlowing());
  }

  /** Forwards what is due. */
  forward(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#isDropped || this.#rules.isStalled()) return;
    const nowMs = performance.now();
    for (let head = this.#waiting[0]; head !== undefined; head = this.#waiting[0]) {
      if (head.dueMs > nowMs) {
        this.#timer = setTimeout(() => this.forward(), Math.ceil(head.dueMs - nowMs));
        break;
      }
      this.#waiting.shift();
      this.#waitingBytes -= head.chunk?.length ?? 0;
      if (head.chunk === undefined) this.#target.end();
      else this.#target.write(head.chunk);
    }
    this.#keepFlowing();
  }

  drop(): void {
    this.#isDropped = true;
    clearTimeout(this.#timer);
    this.#waiting.length = 0;
    this.#waitingBytes = 0;
  }

  #take(chunk: Buffer | undefined): void {
    if (this.#isDropped) return;
    this.#waiting.push({ dueMs: performance.now() + this.#rules.delayMs(), chunk });
    this.#waitingBytes += chunk?.length ?? 0;
    if (this.#timer === undefined) this.forward();
    else this.#keepFlowing();
  }

  #keepFlowing(): void {
    const isFull = this.#waitingBytes + this.#target.writableLength > WAITING_MAX_BYTES;
    if (isFull) this.#source.pause();
    else if (this.#source.isPaused()) this.#source.resume();
  }
}
