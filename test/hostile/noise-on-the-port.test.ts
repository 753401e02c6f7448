// Anything at all on the port: random bytes, half a preface, torn and invented HTTP/2 frames, frame
// floods. The receiver goes on, keeps nothing, and serves the next honest peer.

import { connect as connectTcp } from 'node:net';
import { expect } from 'chai';
import { boundMemory } from '../support/bounded-memory.js';
import { echoService, type Loopback, loopback } from '../support/channel.js';
import { FakeClock } from '../support/fake-clock.js';
import { RecordSealer } from '../../shared/channel/records.js';
import { callHeaders, framed, identityOf, RawClient, until, whole } from '../support/raw-peer.js';
import { SeededRandom } from '../support/seeded-random.js';

const NOBODY = Buffer.alloc(16);
const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const ROUNDS = process.env['SLOW'] === '1' ? 5000 : 200;

function frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

const SETTINGS = frame(4, 0, 0, Buffer.alloc(0));
const OPEN = Buffer.concat([PREFACE, SETTINGS]);

describe('hostile: noise on the port', () => {
  boundMemory();
  let clock: FakeClock;
  let loop: Loopback;

  beforeEach(async () => {
    clock = new FakeClock();
    loop = await loopback({ clock });
  });

  afterEach(async () => {
    await loop.close();
  });

  /** Sends the bytes, waits until the receiver closes or `patience` turns have gone. */
  function send(bytes: Buffer): Promise<void> {
    return new Promise((resolve) => {
      const socket = connectTcp(loop.listener.port, '127.0.0.1');
      const done = (): void => {
        socket.destroy();
        resolve();
      };
      socket.on('error', done);
      socket.on('close', done);
      socket.resume();
      socket.write(bytes, () => {
        setTimeout(done, 3);
      });
    });
  }

  async function expectServed(): Promise<void> {
    await until(() => loop.listener.status().connections === 0, 'the end of all connections');
    expect(loop.server.seen).to.deep.equal([]);
    expect(loop.listener.status()).to.include({
      waiting: 0,
      pendingSessions: 0,
      sessions: 0,
      windowBytes: 0,
    });
    await clock.advance(60_000);
    const client = (await loop.connect()).client(echoService);
    expect((await client.unary(Buffer.from('x'))).toString()).to.equal('x');
  }

  it(`${ROUNDS} times random bytes and random frames`, async function () {
    this.timeout(300_000);
    const random = new SeededRandom(3);
    for (let i = 0; i < ROUNDS; i++) {
      const bytes = random.bytes(random.between(1, 2000));
      const shapes = [
        bytes,
        Buffer.concat([OPEN, bytes]),
        Buffer.concat([
          OPEN,
          ...Array.from({ length: 5 }, () =>
            frame(random.int(12), random.int(256), random.int(8), random.bytes(random.int(200))),
          ),
        ]),
        PREFACE.subarray(0, random.int(PREFACE.length)),
      ];
      await send(random.pick(shapes));
    }
    await expectServed();
  });

  const floods: readonly [string, Buffer][] = [
    ['pings', Buffer.concat(Array.from({ length: 50_000 }, () => frame(6, 0, 0, Buffer.alloc(8))))],
    ['settings', Buffer.concat(Array.from({ length: 50_000 }, () => SETTINGS))],
    [
      'continuations without end',
      Buffer.concat([
        frame(1, 0, 1, Buffer.from([0x82])),
        ...Array.from({ length: 300 }, () => frame(9, 0, 1, Buffer.alloc(16_000, 0x82))),
      ]),
    ],
    [
      'streams that are opened and reset',
      Buffer.concat(
        Array.from({ length: 20_000 }, (_, index) =>
          Buffer.concat([
            frame(1, 4, 2 * index + 1, Buffer.from([0x83, 0x86, 0x84, 0x41, 0x01, 0x61])),
            frame(3, 0, 2 * index + 1, Buffer.from([0, 0, 0, 8])),
          ]),
        ),
      ),
    ],
    [
      'empty data frames',
      Buffer.concat([
        frame(1, 4, 1, Buffer.from([0x83, 0x86, 0x84, 0x41, 0x01, 0x61])),
        ...Array.from({ length: 50_000 }, () => frame(0, 0, 1, Buffer.alloc(0))),
      ]),
    ],
    [
      'windows that grow beyond all bounds',
      Buffer.concat([frame(8, 0, 0, Buffer.from([0x7f, 255, 255, 255])), SETTINGS, SETTINGS]),
    ],
  ];
  for (const [what, bytes] of floods) {
    it(`a flood of ${what}`, async function () {
      this.timeout(60_000);
      const before = process.memoryUsage().rss;
      await send(Buffer.concat([OPEN, bytes]));
      expect(process.memoryUsage().rss - before).to.be.below(128 << 20);
      await expectServed();
    });
  }

  it('streams without a session, however many, start no call', async () => {
    const raw = new RawClient(loop.listener.port);
    await raw.shakeHands(loop.key);
    for (let i = 0; i < 500; i++) raw.open(echoService.collect.path, callHeaders(NOBODY, 1n)).end();
    await until(() => loop.listener.status().waiting === 1, 'the connection');
    expect(loop.listener.status().calls).to.equal(0);
    raw.close();
    await expectServed();
  });

  it('an authenticated peer has 32 calls at once and no more', async () => {
    const raw = new RawClient(loop.listener.port);
    const session = await raw.shakeHands(loop.key);
    const path = echoService.collect.path;
    const start = (callId: bigint): void => {
      const sealer = new RecordSealer(identityOf(session, path, callId));
      const stream = raw.open(path, callHeaders(session.sessionId, callId));
      stream.write(framed(whole(sealer.seal('open', Buffer.alloc(5)))));
    };
    start(0n);
    await until(() => raw.http2.remoteSettings.maxConcurrentStreams === 32, 'the wide limits');
    for (let callId = 1n; callId < 100n; callId++) start(callId);
    await until(() => loop.listener.status().calls === 32, '32 calls');
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(loop.listener.status().calls).to.equal(32);
    raw.close();
    await until(() => loop.listener.status().connections === 0, 'the end of the connection');
    expect(loop.server.committed).to.deep.equal([]);
  });
});
