// Floods before authentication (spec channel.md § 8, cases 12 and 13): bounded in number, time and
// memory, and an honest peer is served meanwhile.

import { connect as connectTcp, type Socket } from 'node:net';
import { expect } from 'chai';
import { Admission } from '../../shared/channel/admission.js';
import { HANDSHAKE_PATH } from '../../shared/channel/handshake.js';
import { peerGroup } from '../../shared/channel/networks.js';
import { skipBecause } from '../support/need.js';
import { boundMemory } from '../support/bounded-memory.js';
import { echoService, type Loopback, loopback, testKey } from '../support/channel.js';
import { FakeClock } from '../support/fake-clock.js';
import { endOf, framed, RawClient, statusOf, until } from '../support/raw-peer.js';
import { refusal } from '../support/refusal.js';

describe('hostile: floods', () => {
  boundMemory();
  let clock: FakeClock;
  let loop: Loopback;
  const sockets: Socket[] = [];
  const clients: RawClient[] = [];

  beforeEach(async () => {
    clock = new FakeClock();
    loop = await loopback({ clock });
  });

  afterEach(async () => {
    for (const socket of sockets.splice(0)) socket.destroy();
    for (const client of clients.splice(0)) client.close();
    await loop.close();
  });

  /** A connection from 127.0.0.x that says nothing; settles when it is open or was refused. */
  function idle(localAddress = '127.0.0.1'): Promise<Socket> {
    const socket = connectTcp({ host: '127.0.0.1', port: loop.listener.port, localAddress });
    sockets.push(socket);
    socket.on('error', () => undefined);
    socket.resume();
    return new Promise((resolve) => {
      socket.once('connect', () => {
        resolve(socket);
      });
      socket.once('close', () => {
        resolve(socket);
      });
    });
  }

  const client = (): RawClient => {
    const made = new RawClient(loop.listener.port);
    clients.push(made);
    return made;
  };

  it('case 12: of 1,000 idle connections from one address eight are kept, for ten seconds', async () => {
    await Promise.all(Array.from({ length: 1000 }, () => idle()));
    await until(
      () => sockets.filter((socket) => !socket.closed).length === 8,
      'the end of 992 connections',
    );
    expect(loop.listener.status()).to.include({ waiting: 8, connections: 8, sessions: 0 });
    await clock.advance(10_000);
    await until(() => loop.listener.status().connections === 0, 'the end of the rest');
    expect(sockets.filter((socket) => !socket.closed)).to.have.length(0);
  });

  it('case 12: from many addresses 64 are kept, and authenticated peers are not counted', async function () {
    if (process.platform !== 'linux')
      skipBecause(this, 'many loopback addresses are there on Linux only');
    const early = (await loop.connect()).client(echoService);
    await early.unary(Buffer.from('a'));
    const addresses = Array.from({ length: 200 }, (_, index) => `127.0.1.${index + 1}`);
    await Promise.all(addresses.map(idle));
    await until(() => loop.listener.status().waiting === 64, 'sixty-four that wait');
    expect(loop.listener.status()).to.include({ waiting: 64, connections: 65, sessions: 1 });
    expect((await early.unary(Buffer.from('b'))).toString()).to.equal('b');
    expect((await refusal(() => loop.connect())).code).to.equal('E_SOURCE_UNREACHABLE');
    await clock.advance(10_000);
    await until(() => loop.listener.status().waiting === 0, 'the end of those that waited');
    const late = (await loop.connect()).client(echoService);
    expect((await late.unary(Buffer.from('c'))).toString()).to.equal('c');
  });

  it("a principal has 256 connections, and takes nobody's place with more", async () => {
    const ring = { keys: [loop.key, testKey({ keyId: 'k2', principal: 'host-b' })] };
    const other = await loopback({ key: loop.key, keys: ring, clock });
    for (let count = 0; count < 256; count++) {
      await (await other.connect()).client(echoService).unary(Buffer.from('a'));
    }
    const more = (await other.connect()).client(echoService);
    expect((await refusal(() => more.unary(Buffer.from('b')))).code).to.equal('E_CHANNEL');
    await until(() => other.listener.status().sessions === 256, 'the end of the last one');
    const host = (await other.connect({ key: ring.keys[1] ?? loop.key })).client(echoService);
    expect((await host.unary(Buffer.from('c'))).toString()).to.equal('c');
    expect(other.server.seen.length).to.equal(257);
    await other.close();
  });

  it('case 13: more than 32 headers are refused on the stream', async () => {
    const raw = client();
    const headers = Object.fromEntries(
      Array.from({ length: 200 }, (_, index) => [`x-${index}`, 'y']),
    );
    const stream = raw.open(HANDSHAKE_PATH, headers);
    const { rstCode, body } = await endOf(stream);
    expect(rstCode).not.to.equal(0);
    expect(body).to.have.length(0);
    expect(loop.listener.status()).to.include({ sessions: 0, pendingSessions: 0 });
  });

  it('case 13: headers of more than 8 KiB are refused', async () => {
    const raw = client();
    await until(() => raw.http2.remoteSettings.maxHeaderListSize === 8192, 'the settings');
    const stream = raw.open(HANDSHAKE_PATH, { 'x-long': 'y'.repeat(20_000) });
    const { body, headers } = await endOf(stream);
    expect(body).to.have.length(0);
    expect(headers[':status']).not.to.equal(200);
    expect(loop.server.seen).to.deep.equal([]);
  });

  it('case 13: a first message without end is refused at its prefix', async () => {
    const raw = client();
    const stream = raw.open(HANDSHAKE_PATH);
    const before = process.memoryUsage().rss;
    stream.write(framed(Buffer.alloc(16_000), 0, 0x7fffffff));
    await raw.closed();
    expect(process.memoryUsage().rss - before).to.be.below(32 << 20);
    expect(loop.listener.status()).to.include({ sessions: 0, pendingSessions: 0 });
  });

  it('case 13: a first message of drops ends with the time', async () => {
    const raw = client();
    const stream = raw.open(HANDSHAKE_PATH);
    stream.write(Buffer.from([0, 0, 0]));
    await until(() => loop.listener.status().connections === 1, 'the connection');
    await clock.advance(10_000);
    await raw.closed();
    expect(loop.listener.status()).to.include({ sessions: 0, pendingSessions: 0 });
  });

  it('gives an unauthenticated connection 64 KiB of window and four streams', async () => {
    const raw = client();
    await until(() => raw.http2.remoteSettings.maxHeaderListSize === 8192, 'the settings');
    expect(raw.http2.remoteSettings).to.include({
      maxConcurrentStreams: 4,
      initialWindowSize: 65_535,
      maxHeaderListSize: 8192,
    });
    expect(raw.http2.state.remoteWindowSize).to.equal(65_535);
  });

  it('after ten failed handshakes an address waits for the rest of a minute', async () => {
    for (let i = 0; i < 10; i++) {
      const raw = client();
      expect(
        (
          await raw.shakeHandsWith({
            version: 1,
            supported: undefined,
            suite: 1,
            keyId: 'x',
            principal: 'y',
            noiseMessage: Buffer.alloc(48),
          })
        )?.outcome?.$case,
      ).to.equal('refused');
      raw.close();
    }
    expect((await refusal(() => loop.connect())).code).to.equal('E_SOURCE_UNREACHABLE');
    await clock.advance(60_000);
    const channel = await loop.connect();
    expect(await channel.client(echoService).unary(Buffer.from('x'))).to.have.length(1);
  });

  it('takes one handshake a connection', async () => {
    const raw = client();
    await raw.shakeHands(loop.key);
    const again = await raw.exchange(HANDSHAKE_PATH, framed(Buffer.alloc(10)));
    expect(statusOf(again)).to.equal('8');
  });

  it('remembers a bounded number of addresses', () => {
    const admission = new Admission(clock);
    for (let i = 0; i < 10_000; i++) admission.failed(`10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`);
    expect(admission.addressCount).to.equal(4096);
    for (let i = 0; i < 10; i++) admission.failed('10.9.9.9');
    expect(admission.isBlocked('10.9.9.9')).to.equal(true);
    expect(admission.isBlocked('10.9.9.8')).to.equal(false);
  });

  it('counts a /64 of IPv6 as one peer', () => {
    expect(peerGroup('2001:db8:1:2:3:4:5:6')).to.equal(peerGroup('2001:db8:1:2::1'));
    expect(peerGroup('2001:db8:1:2::1')).not.to.equal(peerGroup('2001:db8:1:3::1'));
    expect(peerGroup('2001:0db8:0001:0002::1')).to.equal(peerGroup('2001:db8:1:2::'));
    expect(peerGroup('::ffff:192.0.2.7')).to.equal('192.0.2.7');
  });
});
