// Hostile records: replayed, moved, shortened, bloated (spec channel.md § 8, cases 6 to 8 and 14).

import { gzipSync } from 'node:zlib';
import { connect as connectTcp } from 'node:net';
import { expect } from 'chai';
import { RecordSealer } from '../../shared/channel/records.js';
import { boundMemory } from '../support/bounded-memory.js';
import { each, echoService, type Loopback, loopback } from '../support/channel.js';
import {
  callHeaders,
  type Ending,
  endOf,
  framed,
  identityOf,
  openAll,
  RawClient,
  RecordingProxy,
  type RawSession,
  statusOf,
  unaryRecords,
  until,
  whole,
} from '../support/raw-peer.js';

const UNARY = echoService.unary.path;
const COLLECT = echoService.collect.path;

describe('hostile: records', () => {
  boundMemory();
  let loop: Loopback;
  let raw: RawClient;
  let session: RawSession;

  beforeEach(async () => {
    loop = await loopback();
    raw = new RawClient(loop.listener.port);
    session = await raw.shakeHands(loop.key);
  });

  afterEach(async () => {
    raw.close();
    await loop.close();
  });

  const send = (
    records: readonly Buffer[],
    { path = UNARY, callId = 1n, sessionId = session.sessionId } = {},
  ): Promise<Ending> =>
    raw.exchange(
      path,
      Buffer.concat(records.map((record) => framed(record))),
      callHeaders(sessionId, callId),
    );

  async function expectSessionOver(): Promise<void> {
    await raw.closed();
    await until(() => loop.listener.status().connections === 0, 'the end of the connection');
    expect(loop.listener.status()).to.include({ sessions: 0, pendingSessions: 0, windowBytes: 0 });
    expect(loop.server.seen).to.deep.equal([]);
  }

  it('an honest call by hand is answered, so that the refusals below mean something', async () => {
    const identity = identityOf(session, UNARY, 1n);
    const { body } = await send(unaryRecords(identity, Buffer.from('hello')));
    const answers = openAll(identity, body);
    expect(answers.map(({ kind }) => kind)).to.deep.equal(['message', 'final']);
    expect(answers[0]?.bytes.toString()).to.equal('hello');
    expect(loop.listener.status()).to.include({ sessions: 1, waiting: 0 });
  });

  it('case 6: a call replayed on its connection is refused before it is read', async () => {
    const records = unaryRecords(identityOf(session, UNARY, 1n), Buffer.from('x'));
    await send(records);
    const again = await send(records);
    expect(statusOf(again)).to.equal('16');
    expect(again.body).to.have.length(0);
    expect(loop.server.seen).to.deep.equal(['unary']);
  });

  it('case 6: a call replayed on another connection finds no session', async () => {
    const records = unaryRecords(identityOf(session, UNARY, 1n), Buffer.from('x'));
    await send(records);
    const other = new RawClient(loop.listener.port);
    const body = Buffer.concat(records.map((record) => framed(record)));
    const stolen = await other.exchange(UNARY, body, callHeaders(session.sessionId, 2n));
    expect(statusOf(stolen)).to.equal('16');
    // nor does the session of an own handshake take another one's records
    const own = await other.shakeHands(loop.key);
    await other.exchange(UNARY, body, callHeaders(own.sessionId, 1n));
    await other.closed();
    expect(loop.server.seen).to.deep.equal(['unary']);
    expect(loop.listener.status().sessions).to.equal(1);
  });

  it('case 6: a whole connection replayed byte for byte calls nothing', async () => {
    const proxy = new RecordingProxy();
    const port = await proxy.listen(loop.listener.port);
    const channel = await loop.connect({ port });
    await channel.client(echoService).unary(Buffer.from('pay 100'));
    await channel.close();
    expect(loop.server.committed).to.deep.equal(['unary']);
    const socket = connectTcp(loop.listener.port, '127.0.0.1');
    socket.on('error', () => undefined);
    socket.write(Buffer.concat(proxy.toReceiver));
    await until(() => loop.listener.status().pendingSessions === 1 + 1, 'the replayed handshake');
    socket.destroy();
    await until(() => loop.listener.status().connections === 1, 'the end of the replay');
    proxy.close();
    expect(loop.server.committed).to.deep.equal(['unary']);
  });

  it('case 6: ids far behind the newest are refused', async () => {
    const call = (callId: bigint): Promise<Ending> =>
      send(unaryRecords(identityOf(session, UNARY, callId), Buffer.alloc(1)), { callId });
    await call(5000n);
    expect(statusOf(await call(5000n - 1024n))).to.equal('16');
    expect(statusOf(await call(5000n - 1023n))).to.equal('0');
    expect(loop.server.seen).to.have.length(2);
  });

  it('case 7: a record moved to another call does not open', async () => {
    await send(unaryRecords(identityOf(session, UNARY, 1n), Buffer.from('x')), { callId: 2n });
    await expectSessionOver();
  });

  it('case 7: a record moved to another method does not open', async () => {
    await send(unaryRecords(identityOf(session, UNARY, 1n), Buffer.from('x')), { path: COLLECT });
    await expectSessionOver();
  });

  it('case 7: a record of the other direction does not open', async () => {
    const identity = identityOf(session, UNARY, 1n);
    const answers = new RecordSealer(identity, Buffer.alloc(16, 1));
    await send([whole(answers.seal('open', Buffer.alloc(5)))]);
    await expectSessionOver();
  });

  it('case 7: a record of another session does not open', async () => {
    const other = new RawClient(loop.listener.port);
    const otherSession = await other.shakeHands(loop.key);
    other.close();
    await send(unaryRecords(identityOf(otherSession, UNARY, 1n), Buffer.from('x')));
    await expectSessionOver();
  });

  const damages: readonly [string, (records: Buffer[]) => Buffer[]][] = [
    ['records that changed places', ([a, b, c]) => [a, c, b] as Buffer[]],
    ['a record twice', ([a, b, c]) => [a, b, b, c] as Buffer[]],
    ['a record left out', ([a, , c]) => [a, c] as Buffer[]],
    ['OPEN left out', ([, b, c]) => [b, c] as Buffer[]],
    ['a flipped bit of the flags', ([a, b, c]) => [a, flip(b, 0), c] as Buffer[]],
    ['a flipped bit of the text', ([a, b, c]) => [a, flip(b, 1), c] as Buffer[]],
    ['a flipped bit of the tag', ([a, b, c]) => [a, flip(b, -1), c] as Buffer[]],
    ['a message made to a FINAL', ([a, b]) => [a, made(b, 1)] as Buffer[]],
    ['a record of nothing', ([a]) => [a, Buffer.alloc(0)] as Buffer[]],
  ];
  for (const [what, damage] of damages) {
    it(`case 7: ${what} ends the session before a handler sees the call`, async () => {
      const records = unaryRecords(identityOf(session, UNARY, 1n), Buffer.from('hello'));
      await send(damage(records));
      await expectSessionOver();
    });
  }

  it('case 8: a tag cut to four bytes does not open', async () => {
    const [open = Buffer.alloc(0), message = Buffer.alloc(0)] = unaryRecords(
      identityOf(session, UNARY, 1n),
      Buffer.from('hello'),
    );
    await send([open, message.subarray(0, message.length - 12)]);
    await expectSessionOver();
  });

  it('a FINAL with a wrong count of records does not end a call well', async () => {
    const sealer = new RecordSealer(identityOf(session, COLLECT, 1n));
    const count = Buffer.alloc(8);
    count.writeBigUInt64BE(7n);
    await send([whole(sealer.seal('open', Buffer.alloc(5))), whole(sealer.seal('final', count))], {
      path: COLLECT,
    });
    await raw.closed();
    expect(loop.server.committed).to.deep.equal([]);
  });

  it('what follows FINAL reaches no handler', async () => {
    const identity = identityOf(session, COLLECT, 1n);
    const { body } = await send(
      [...unaryRecords(identity, Buffer.from('a')), Buffer.alloc(40, 7)],
      { path: COLLECT },
    );
    expect(openAll(identity, body)[0]?.bytes.toString()).to.equal('a');
    expect(loop.server.committed).to.deep.equal(['collect']);
  });

  it('case 14: a lying length is refused by the prefix alone', async () => {
    const stream = raw.open(UNARY, callHeaders(session.sessionId, 1n));
    const ending = endOf(stream);
    const before = process.memoryUsage().rss;
    stream.write(framed(Buffer.alloc(0), 0, 0xfffffff0));
    await ending;
    expect(process.memoryUsage().rss - before).to.be.below(32 << 20);
    expect(loop.server.seen).to.deep.equal([]);
  });

  it('case 14: a message one byte too long is refused, the longest is taken', async () => {
    const limit = (1 << 20) + (64 << 10);
    const identity = identityOf(session, UNARY, 1n);
    const { body } = await send(unaryRecords(identity, Buffer.alloc(limit, 1)));
    expect(openAll(identity, body)[0]?.bytes).to.have.length(limit);
    const stream = raw.open(UNARY, callHeaders(session.sessionId, 2n));
    const ending = endOf(stream);
    stream.write(framed(Buffer.alloc(0), 0, limit + 34));
    await ending;
    expect(loop.server.seen).to.deep.equal(['unary']);
  });

  it('case 14: compressed messages are refused, whether said in front or only done', async () => {
    const bomb = gzipSync(Buffer.alloc(64 << 20));
    const said = await raw.exchange(UNARY, framed(bomb, 1), {
      ...callHeaders(session.sessionId, 1n),
      'grpc-encoding': 'gzip',
    });
    expect(statusOf(said)).to.equal('12');
    const before = process.memoryUsage().rss;
    await raw.exchange(UNARY, framed(bomb, 1), callHeaders(session.sessionId, 2n));
    expect(process.memoryUsage().rss - before).to.be.below(32 << 20);
    expect(loop.server.seen).to.deep.equal([]);
  });

  it('case 23: no key and nonce seal twice, whatever is repeated', async () => {
    // a replayed call is answered under another salt, so under another key
    const identity = identityOf(session, UNARY, 1n);
    const a = new RecordSealer(identity, Buffer.alloc(16, 1)).seal('message', Buffer.alloc(64));
    const b = new RecordSealer(identity, Buffer.alloc(16, 2)).seal('message', Buffer.alloc(64));
    expect(a.ciphertext.equals(b.ciphertext)).to.equal(false);
    const channel = await loop.connect();
    await channel.client(echoService).collect(each(Buffer.from('x')));
    expect(loop.server.committed).to.deep.equal(['collect']);
  });
});

function flip(bytes: Buffer | undefined, index: number): Buffer {
  const out = Buffer.from(bytes ?? []);
  const at = index < 0 ? out.length + index : index;
  out.writeUInt8(out.readUInt8(at) ^ 4, at);
  return out;
}

function made(bytes: Buffer | undefined, flags: number): Buffer {
  const out = Buffer.from(bytes ?? []);
  out.writeUInt8(flags, 0);
  return out;
}
