// The proxy between two sites, with real sockets. Delays are compared with lower bounds only: a busy
// machine makes them longer, nothing makes them shorter.

import { expect } from 'chai';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { TcpProxy, type TcpProxyOptions } from '../../support/tcp-proxy.js';

/** Unlike once() it is not upset by an error on the way. */
function closeOf(socket: Socket): Promise<void> {
  return new Promise((resolve) => socket.on('close', () => resolve()));
}

/** A connection through the proxy to an echo: writes and reads whole counts of bytes. */
class Client {
  readonly socket: Socket;
  readonly #waiting: { count: number; take: (bytes: Buffer) => void }[] = [];
  #bytes = Buffer.alloc(0);
  /** Error code, or 'end' after an orderly end. */
  readonly closed: Promise<string>;

  constructor(port: number) {
    this.socket = connect({ port, host: '127.0.0.1', noDelay: true });
    let reason = 'end';
    this.socket.on('error', (error: NodeJS.ErrnoException) => {
      reason = error.code ?? error.message;
    });
    this.closed = closeOf(this.socket).then(() => reason);
    this.socket.on('data', (chunk: Buffer) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
      this.#serve();
    });
  }

  read(count: number): Promise<Buffer> {
    return new Promise((take) => {
      this.#waiting.push({ count, take });
      this.#serve();
    });
  }

  async echo(text: string): Promise<string> {
    this.socket.write(text);
    return (await this.read(text.length)).toString();
  }

  #serve(): void {
    for (let head = this.#waiting[0]; head !== undefined; head = this.#waiting[0]) {
      if (this.#bytes.length < head.count) return;
      this.#waiting.shift();
      head.take(this.#bytes.subarray(0, head.count));
      this.#bytes = this.#bytes.subarray(head.count);
    }
  }
}

describe('tcp proxy of the tests', () => {
  let server: Server;
  let serverSockets: Socket[];
  let proxy: TcpProxy;
  let clients: Client[];

  beforeEach(async () => {
    serverSockets = [];
    clients = [];
    server = createServer({ noDelay: true }, (socket) => {
      serverSockets.push(socket);
      socket.on('error', () => undefined);
      socket.pipe(socket);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
  });

  afterEach(async () => {
    for (const { socket } of clients) socket.destroy();
    await proxy.close();
    server.close();
  });

  async function start(options: Omit<TcpProxyOptions, 'target'> = {}): Promise<void> {
    const { port } = server.address() as AddressInfo;
    proxy = await TcpProxy.start({ target: { host: '127.0.0.1', port }, ...options });
  }

  function client(): Client {
    const made = new Client(proxy.port);
    clients.push(made);
    return made;
  }

  it('passes bytes both ways and keeps them', async () => {
    await start();
    expect(await client().echo('hello')).to.equal('hello');
    expect(proxy.recorded('to-server').toString()).to.equal('hello');
    expect(proxy.recorded('to-client').toString()).to.equal('hello');
    expect(proxy.hasSeen(Buffer.from('ell'))).to.equal(true);
    expect(proxy.hasSeen(Buffer.from('elk'))).to.equal(false);
    expect(proxy.passedBytes('to-server')).to.equal(5);
    expect(proxy.connectionCount).to.equal(1);
  });

  it('finds what was divided over several chunks', async () => {
    await start();
    const one = client();
    await one.echo('gue');
    await one.echo('st');
    expect(proxy.hasSeen(Buffer.from('guest'))).to.equal(true);
  });

  it('passes an orderly end on, and what was written before it', async () => {
    await start({ delayMs: 20 });
    const one = client();
    one.socket.end('last');
    expect((await one.read(4)).toString()).to.equal('last');
    expect(await one.closed).to.equal('end');
  });

  it('carries many bytes unchanged, with and without a delay', async () => {
    for (const delayMs of [0, 5]) {
      await start({ delayMs, isRecording: false });
      const sent = Buffer.alloc(8 * 1024 ** 2, 0);
      for (let index = 0; index < sent.length; index += 4) sent.writeUInt32LE(index, index);
      const one = client();
      one.socket.write(sent);
      expect((await one.read(sent.length)).equals(sent)).to.equal(true);
      expect(proxy.passedBytes('to-client')).to.equal(sent.length);
      await proxy.close();
    }
  });

  it('delays each way', async () => {
    await start({ delayMs: 50 });
    const one = client();
    const startMs = performance.now();
    await one.echo('x');
    expect(performance.now() - startMs).to.be.at.least(100);
    proxy.setDelay(0);
    expect(await one.echo('y')).to.equal('y');
  });

  it('delays without narrowing: many chunks are under way at a time', async () => {
    await start({ delayMs: 100 });
    const one = client();
    const startMs = performance.now();
    const echoes = [];
    for (let index = 0; index < 20; index += 1) {
      echoes.push(one.echo('x'));
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await Promise.all(echoes);
    // one after the other they would take 20 times 200 ms
    expect(performance.now() - startMs).to.be.below(2000);
  });

  it('stalls in silence and loses nothing', async () => {
    await start();
    const one = client();
    await one.echo('before');
    proxy.stall();
    let hasAnswer = false;
    const answer = one.echo('during').then((text) => {
      hasAnswer = true;
      return text;
    });
    while (proxy.passedBytes('to-server') < 12)
      await new Promise((resolve) => setImmediate(resolve));
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(hasAnswer).to.equal(false);
    expect(proxy.openConnectionCount).to.equal(1);
    proxy.resume();
    expect(await answer).to.equal('during');
  });

  it('cuts all connections with a reset on both sides and takes new ones', async () => {
    await start();
    const one = client();
    await one.echo('x');
    const serverSide = closeOf(serverSockets[0] ?? expect.fail('the server has a socket'));
    proxy.cut();
    expect(await one.closed).to.equal('ECONNRESET');
    await serverSide;
    expect(proxy.openConnectionCount).to.equal(0);
    expect(await client().echo('again')).to.equal('again');
    expect(proxy.connectionCount).to.equal(2);
  });

  it('cuts by itself after so many bytes, once', async () => {
    await start();
    const one = client();
    await one.echo('12345');
    proxy.cutAfter('to-server', 3);
    one.socket.write('678');
    expect(await one.closed).to.equal('ECONNRESET');
    expect(proxy.recorded('to-client').toString()).to.equal('12345');
    expect(await client().echo('a long text')).to.equal('a long text');
  });

  it('refuses connections on command', async () => {
    await start();
    proxy.refuse(true);
    const refused = client();
    refused.socket.write('x');
    expect(['ECONNRESET', 'EPIPE']).to.include(await refused.closed);
    proxy.refuse(false);
    expect(await client().echo('x')).to.equal('x');
  });

  it('resets the client when the server does not answer', async () => {
    await start();
    await new Promise((resolve) => server.close(resolve));
    expect(await client().closed).to.equal('ECONNRESET');
  });

  it('passes a reset of the server on', async () => {
    await start();
    const one = client();
    await one.echo('x');
    serverSockets[0]?.resetAndDestroy();
    expect(await one.closed).to.equal('ECONNRESET');
  });
});
