// How calls end when the transport lies (spec channel.md § 8, cases 9 and 11): without a sealed
// FINAL nothing has been decided, whatever gRPC and HTTP/2 say.

import { expect } from 'chai';
import type { ServerHttp2Stream } from 'node:http2';
import { CALL_HEADER } from '../../shared/channel/handshake.js';
import { RecordSealer } from '../../shared/channel/records.js';
import { DrError } from '../../shared/errors.js';
import { boundMemory } from '../support/bounded-memory.js';
import { all, each, echoService, type Loopback, loopback } from '../support/channel.js';
import {
  callHeaders,
  endOf,
  framed,
  identityOf,
  RawClient,
  type RawHandler,
  RawReceiver,
  RecordingProxy,
  until,
  whole,
} from '../support/raw-peer.js';
import { refusal } from '../support/refusal.js';

const COLLECT = echoService.collect.path;

describe('hostile: the end of a call', () => {
  boundMemory();
  let loop: Loopback;
  let receiver: RawReceiver | undefined;

  beforeEach(async () => {
    loop = await loopback();
  });

  afterEach(async () => {
    receiver?.close();
    await loop.close();
  });

  async function against(handler: RawHandler): ReturnType<Loopback['connect']> {
    receiver = new RawReceiver(loop.key, handler);
    return loop.connect({ port: await receiver.listen() });
  }

  /** Answers with the records that `make` seals, and good trailers. */
  function answering(make: (sealer: RecordSealer) => Buffer[]): RawHandler {
    return (stream, headers, session) => {
      const callId = Buffer.from(String(headers[CALL_HEADER]), 'base64').readBigUInt64BE(0);
      const identity = identityOf(session, headers[':path'] ?? '', callId);
      const records = make(new RecordSealer(identity, Buffer.alloc(16, 5)));
      goodTrailers(stream);
      stream.end(Buffer.concat(records.map((record) => framed(record))));
    };
  }

  function goodTrailers(stream: ServerHttp2Stream): void {
    stream.respond(
      { ':status': 200, 'content-type': 'application/grpc' },
      { waitForTrailers: true },
    );
    stream.on('wantTrailers', () => {
      stream.sendTrailers({ 'grpc-status': '0' });
    });
    stream.resume();
  }

  const count = (value: bigint): Buffer => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64BE(value);
    return bytes;
  };

  it('case 9: OK trailers without FINAL are a failed transport', async () => {
    const channel = await against(
      answering((sealer) => [whole(sealer.seal('message', count(1n)))]),
    );
    const client = channel.client(echoService);
    expect((await refusal(() => client.unary(Buffer.alloc(0)))).code).to.equal('E_CHANNEL');
    expect((await refusal(() => all(client.spread(Buffer.alloc(0))))).code).to.equal('E_CHANNEL');
  });

  it('case 9: OK trailers and nothing else are a failed transport', async () => {
    const channel = await against(answering(() => []));
    const client = channel.client(echoService);
    expect((await refusal(() => client.unary(Buffer.alloc(0)))).code).to.equal('E_CHANNEL');
  });

  it('case 9: a FINAL of another count is refused and ends the session', async () => {
    const channel = await against(
      answering((sealer) => [
        whole(sealer.seal('message', count(1n))),
        whole(sealer.seal('final', count(2n))),
      ]),
    );
    const client = channel.client(echoService);
    expect((await refusal(() => client.unary(Buffer.alloc(0)))).code).to.equal('E_REPLAY');
    await refusal(() => client.unary(Buffer.alloc(0)));
    expect(receiver?.handshakes, 'the next call shakes hands again').to.equal(2);
  });

  it('case 9: an answer that others sealed is refused', async () => {
    const channel = await against((stream) => {
      goodTrailers(stream);
      stream.end(framed(Buffer.alloc(64, 0x80)));
    });
    const client = channel.client(echoService);
    const error = await refusal(() => client.unary(Buffer.alloc(0)));
    expect(error).to.include({ code: 'E_REPLAY' });
  });

  it('case 10 at the channel: a forged refusal in clear is a failed transport, no decision', async () => {
    const channel = await against((stream) => {
      stream.respond(
        {
          ':status': 200,
          'content-type': 'application/grpc',
          'grpc-status': '9',
          'grpc-message': 'E_STALE_EPOCH',
        },
        { endStream: true },
      );
    });
    const error = await refusal(() => channel.client(echoService).unary(Buffer.alloc(0)));
    expect(error.code).to.equal('E_CHANNEL');
  });

  it('a unary answer of two messages is refused', async () => {
    const channel = await against(
      answering((sealer) => [
        whole(sealer.seal('message', count(1n))),
        whole(sealer.seal('message', count(1n))),
        whole(sealer.seal('final', count(2n))),
      ]),
    );
    const error = await refusal(() => channel.client(echoService).unary(Buffer.alloc(0)));
    expect(error.code).to.equal('E_PROTOCOL');
  });

  describe('case 11: before the sealed end', () => {
    let raw: RawClient;

    beforeEach(() => {
      raw = new RawClient(loop.listener.port);
    });

    afterEach(() => {
      raw.close();
    });

    async function started(): Promise<ReturnType<RawClient['open']>> {
      const session = await raw.shakeHands(loop.key);
      const sealer = new RecordSealer(identityOf(session, COLLECT, 1n));
      const stream = raw.open(COLLECT, callHeaders(session.sessionId, 1n));
      stream.write(framed(whole(sealer.seal('open', Buffer.alloc(5)))));
      stream.write(framed(whole(sealer.seal('message', Buffer.from('data')))));
      await until(() => loop.server.seen.length === 1, 'the handler');
      return stream;
    }

    async function expectNotCommitted(): Promise<void> {
      await until(() => loop.server.failures.length === 1, 'the end of the request stream');
      const [failure] = loop.server.failures;
      expect(failure).to.be.instanceOf(DrError);
      expect((failure as DrError).code).to.equal('E_CHANNEL');
      expect(loop.server.committed).to.deep.equal([]);
      await until(() => loop.listener.status().calls === 0, 'the end of the call');
    }

    it('a half-close commits nothing', async () => {
      const stream = await started();
      const ending = endOf(stream);
      stream.end();
      await expectNotCommitted();
      await ending;
    });

    it('a reset commits nothing', async () => {
      const stream = await started();
      stream.close(8);
      await expectNotCommitted();
    });

    it('a cut connection commits nothing', async () => {
      await started();
      raw.close();
      await expectNotCommitted();
    });

    it('a cut inside a record commits nothing', async () => {
      const stream = await started();
      stream.end(Buffer.from([0, 0, 0, 1, 0, 1, 2, 3]));
      await expectNotCommitted();
    });
  });

  it('case 11: a cancel of the caller commits nothing and says so', async () => {
    const stop = new AbortController();
    const channel = await loop.connect();
    const client = channel.client(echoService);
    async function* endless(): AsyncGenerator<Buffer> {
      yield Buffer.from('a');
      await until(() => loop.server.seen.length === 1, 'the handler');
      stop.abort();
      yield Buffer.from('b');
    }
    const error = await refusal(() => client.collect(endless(), { signal: stop.signal }));
    expect(error.code).to.equal('E_CHANNEL');
    await until(() => loop.server.failures.length === 1, 'the failure of the handler');
    await until(() => loop.server.contexts[0]?.signal.aborted === true, 'the signal of the call');
    expect(loop.server.committed).to.deep.equal([]);
  });

  it('case 11: requests that fail at the source are no end of the stream', async () => {
    const client = (await loop.connect()).client(echoService);
    async function* failing(): AsyncGenerator<Buffer> {
      yield* each(Buffer.from('a'));
      throw new DrError('E_IO', 'the disk went away');
    }
    const error = await refusal(() => client.collect(failing()));
    expect(error.message).to.equal('the disk went away');
    await until(() => loop.server.failures.length === 1, 'the failure of the handler');
    expect(loop.server.committed).to.deep.equal([]);
  });

  it('case 11: a connection cut under a running call fails it, the next call makes a new one', async () => {
    const proxy = new RecordingProxy();
    const port = await proxy.listen(loop.listener.port);
    const client = (await loop.connect({ port })).client(echoService);
    async function* cutting(): AsyncGenerator<Buffer> {
      yield Buffer.from('a');
      await until(() => loop.server.seen.length === 1, 'the handler');
      proxy.cut();
      yield Buffer.from('b');
    }
    const error = await refusal(() => client.collect(cutting()));
    expect(error.code).to.equal('E_CHANNEL');
    expect((await client.unary(Buffer.from('again'))).toString()).to.equal('again');
    expect(loop.server.committed).to.deep.equal(['unary']);
    proxy.close();
  });
});
