// Sessions over time: windows, deadlines, renewal, the end of calls and of listeners.

import { expect } from 'chai';
import type { ConnectOptions } from '../../../shared/channel/index.js';
import { CALL_AGE_MAX_MS, SESSION_AGE_MAX_MS } from '../../../shared/channel/limits.js';
import { WindowBudget } from '../../../shared/channel/window-budget.js';
import { CallWindow } from '../../../shared/channel/call-window.js';
import { DrError } from '../../../shared/errors.js';
import {
  all,
  each,
  type EchoService,
  echoService,
  type Loopback,
  loopback,
} from '../../support/channel.js';
import type { ServiceClient } from '../../../shared/channel/index.js';
import { FakeClock } from '../../support/fake-clock.js';
import { RawClient, RawReceiver, until } from '../../support/raw-peer.js';
import { refusal } from '../../support/refusal.js';

describe('channel: sessions', () => {
  let clock: FakeClock;
  let loop: Loopback;

  beforeEach(async () => {
    clock = new FakeClock();
    loop = await loopback({ clock });
  });

  afterEach(async () => {
    await loop.close();
  });

  const client = async (
    changes: Partial<ConnectOptions> = {},
  ): Promise<ServiceClient<EchoService>> =>
    (await loop.connect({ clock, ...changes })).client(echoService);

  it('get a receive window of 32 MiB once a record has opened, 16 MiB a stream', async () => {
    const raw = new RawClient(loop.listener.port);
    await raw.shakeHands(loop.key);
    expect(raw.http2.state.remoteWindowSize ?? 0).to.be.below(65_536);
    raw.close();
    const calls = await client();
    await calls.unary(Buffer.alloc(0));
    const [window = 0] = loop.listener.status().localWindows;
    expect(window).to.be.at.least(32 << 20);
    expect(loop.listener.status().windowBytes).to.equal(32 << 20);
  });

  it('made for one call that streams down leave no handshake unused behind', async () => {
    for (let round = 0; round < 12; round++) {
      const connection = await loop.connect({ isLazy: true });
      const answers = await all(connection.client(echoService).spread(Buffer.from('ab')));
      expect(answers.length).to.equal(2);
      await connection.close();
    }
    expect((await (await client()).unary(Buffer.from('c'))).toString()).to.equal('c');
    expect(loop.listener.status().addresses).to.equal(0);
  });

  it('give the receiver a wide window for what is downloaded, and 64 KiB for anything else', async () => {
    const windows: unknown[] = [];
    const receiver = new RawReceiver(loop.key, (stream) => {
      const { session } = stream;
      windows.push([
        session?.remoteSettings.initialWindowSize,
        (session?.state.remoteWindowSize ?? 0) > 31 << 20,
      ]);
      stream.close();
    });
    const calls = await client({ port: await receiver.listen() });
    await refusal(() => calls.unary(Buffer.alloc(0)));
    await refusal(() => all(calls.spread(Buffer.alloc(0))));
    expect(windows).to.deep.equal([
      [65_535, false],
      [16 << 20, true],
    ]);
    receiver.close();
  });

  it('let a sender have more than 64 KiB on the way to a handler that does not read', async () => {
    await loop.close();
    let release: () => void = () => undefined;
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    let received = 0;
    loop = await loopback({
      clock,
      handlers: {
        collect: async (requests) => {
          await released;
          for await (const request of requests) received += request.length;
          return Buffer.alloc(0);
        },
      },
    });
    const calls = await client();
    await calls.unary(Buffer.alloc(0));
    let produced = 0;
    async function* chunks(): AsyncGenerator<Buffer> {
      for (let i = 0; i < 40; i++) {
        await Promise.resolve();
        yield Buffer.alloc(1 << 20, i);
        produced++;
      }
    }
    const done = calls.collect(chunks());
    // the window and what waits at the sender, and no more: memory is bounded
    await until(() => produced >= 12, 'twelve messages on the way');
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(produced).to.be.below(32);
    release();
    await done;
    expect(received).to.equal(40 << 20);
  });

  it('go on beside a call whose handler does not read', async () => {
    await loop.close();
    let release: () => void = () => undefined;
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    loop = await loopback({
      clock,
      handlers: {
        both: async function* (requests) {
          await released;
          for await (const request of requests) yield Buffer.of(request.length & 1);
        },
        collect: async (requests) => {
          let bytes = 0;
          for await (const request of requests) bytes += request.length;
          return Buffer.from(String(bytes));
        },
      },
    });
    async function* many(): AsyncGenerator<Buffer> {
      for (let i = 0; i < 40; i++) {
        await Promise.resolve();
        yield Buffer.alloc(1 << 20, i);
      }
    }
    const calls = await client();
    await calls.unary(Buffer.alloc(0));
    const stuck = all(calls.both(many()));
    await until(() => loop.listener.status().calls === 1, 'the call that is stuck');
    expect((await calls.collect(many())).toString()).to.equal(String(40 << 20));
    expect((await calls.unary(Buffer.from('x'))).toString()).to.equal('x');
    release();
    expect(await stuck).to.have.length(40);
  });

  it('carry bulk both ways at once, in one call and in two', async () => {
    await loop.close();
    const large = Buffer.alloc(1 << 20, 9);
    async function* many(): AsyncGenerator<Buffer> {
      for (let i = 0; i < 64; i++) {
        await Promise.resolve();
        yield large;
      }
    }
    const count = async (values: AsyncIterable<Buffer>): Promise<number> => {
      let bytes = 0;
      for await (const value of values) bytes += value.length;
      return bytes;
    };
    loop = await loopback({
      clock,
      handlers: {
        spread: many,
        collect: async (requests) => Buffer.from(String(await count(requests))),
      },
    });
    const calls = await client();
    // wider windows than socket buffers in both directions of one connection would end in silence
    expect(await count(calls.both(many()))).to.equal(64 << 20);
    const [down, up] = await Promise.all([
      count(calls.spread(Buffer.alloc(0))),
      calls.collect(many()),
    ]);
    expect(down).to.equal(64 << 20);
    expect(up.toString()).to.equal(String(64 << 20));
  });

  it('share one budget of windows', () => {
    const budget = new WindowBudget();
    const grants = Array.from({ length: 300 }, () => budget.grant());
    expect(grants[0]).to.equal(32 << 20);
    expect(grants.at(-1)).to.be.at.least(65_535);
    expect(budget.grantedBytes).to.be.at.most((512 << 20) + 300 * 65_535);
    for (const bytes of grants) budget.giveBack(bytes);
    expect(budget.grantedBytes).to.equal(0);
  });

  it('end a call at its sealed deadline, with the word of the receiver', async () => {
    await loop.close();
    const ended: unknown[] = [];
    loop = await loopback({
      clock,
      handlers: {
        unary: (_request, { signal }) =>
          new Promise((_resolve, reject) => {
            signal.addEventListener('abort', () => {
              ended.push(signal.reason);
              reject(signal.reason as Error);
            });
          }),
      },
    });
    const calls = await client();
    const answer = refusal(() => calls.unary(Buffer.alloc(0), { deadlineMs: 3000 }));
    await until(() => loop.listener.status().calls === 1, 'the call');
    await clock.advance(2999);
    expect(ended).to.have.length(0);
    await clock.advance(1);
    const error = await answer;
    expect(error).to.include({ code: 'E_STALLED', done: 'the receiver ended it' });
    expect(ended[0]).to.be.instanceOf(DrError);
  });

  it('end a call whose receiver is silent beyond the deadline', async () => {
    await loop.close();
    loop = await loopback({
      handlers: { unary: () => new Promise(() => undefined) },
    });
    const calls = await client();
    const answer = refusal(() => calls.unary(Buffer.alloc(0), { deadlineMs: 3000 }));
    await until(() => loop.listener.status().calls === 1, 'the call');
    await clock.advance(8000);
    expect((await answer).code).to.equal('E_STALLED');
  });

  it('are renewed for new calls before they are an hour old, while calls of the old one go on', async () => {
    const calls = await client();
    let release: () => void = () => undefined;
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    async function* slow(): AsyncGenerator<Buffer> {
      yield Buffer.from('a');
      await released;
      yield Buffer.from('b');
    }
    const long = calls.collect(slow());
    await until(() => loop.server.seen.length === 1, 'the long call');
    await clock.advance(SESSION_AGE_MAX_MS + 1000);
    expect((await calls.unary(Buffer.from('x'))).toString()).to.equal('x');
    expect(loop.listener.status().sessions).to.equal(2);
    release();
    expect((await long).toString()).to.equal('ab');
    await until(() => loop.listener.status().sessions === 1, 'the end of the old session');
    expect((await calls.unary(Buffer.from('y'))).toString()).to.equal('y');
  });

  it('take no call after an hour, and none runs for more than a day', async () => {
    const calls = await client();
    async function* endless(): AsyncGenerator<Buffer> {
      yield Buffer.from('a');
      await new Promise(() => undefined);
    }
    const long = refusal(() => calls.collect(endless()));
    await until(() => loop.server.seen.length === 1, 'the call');
    await clock.advance(CALL_AGE_MAX_MS);
    expect((await long).code).to.equal('E_CHANNEL');
    await until(() => loop.listener.status().sessions === 0, 'the end of the session');
  });

  it('end with their listener: calls under way have the grace, new ones are refused', async () => {
    const calls = await client();
    let release: () => void = () => undefined;
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    async function* slow(): AsyncGenerator<Buffer> {
      yield Buffer.from('a');
      await released;
    }
    const long = calls.collect(slow());
    await until(() => loop.server.seen.length === 1, 'the call');
    const closed = loop.listener.close(10_000);
    expect((await refusal(() => calls.unary(Buffer.alloc(0)))).retry).to.equal('reconnect');
    release();
    expect((await long).toString()).to.equal('a');
    await closed;
    expect(loop.listener.status().connections).to.equal(0);
  });

  it('cut calls when the grace of a closing listener is over', async () => {
    const calls = await client();
    async function* endless(): AsyncGenerator<Buffer> {
      yield Buffer.from('a');
      await new Promise(() => undefined);
    }
    const long = refusal(() => calls.collect(endless()));
    await until(() => loop.server.seen.length === 1, 'the call');
    const closed = loop.listener.close(5000);
    await clock.advance(5000);
    await closed;
    expect((await long).code).to.equal('E_CHANNEL');
    expect(loop.server.committed).to.deep.equal([]);
  });

  it('carry thirty calls at once', async () => {
    const calls = await client();
    const answers = await Promise.all(
      Array.from({ length: 100 }, async (_, i) => (await calls.unary(Buffer.of(i)))[0]),
    );
    expect(answers).to.deep.equal(Array.from({ length: 100 }, (_, i) => i));
    const streams = await Promise.all(
      Array.from({ length: 30 }, (_, i) => all(calls.both(each(Buffer.of(i), Buffer.of(i + 1))))),
    );
    expect(streams.map(([first]) => first?.[0])).to.deep.equal(
      Array.from({ length: 30 }, (_, i) => i),
    );
    await until(() => loop.listener.status().calls === 0, 'the end of all calls');
  });

  it('end a stream that its reader leaves early, on both sides', async () => {
    const calls = await client();
    for await (const value of calls.both(each(Buffer.from('a'), Buffer.from('b')))) {
      expect(value.toString()).to.equal('a');
      break;
    }
    await until(() => loop.listener.status().calls === 0, 'the end of the call');
    expect((await calls.unary(Buffer.from('x'))).toString()).to.equal('x');
  });

  it('shake hands again when the first one was given up', async () => {
    const calls = await client();
    await clock.advance(10_000);
    await until(() => loop.listener.status().connections === 0, 'the end of the first');
    expect((await calls.unary(Buffer.from('late'))).toString()).to.equal('late');
  });

  it('cannot be listened for where somebody else listens', async () => {
    const error = await refusal(() => loopback({ port: loop.listener.port }));
    expect(error.code).to.equal('E_IO');
    expect(error.message).to.contain(`127.0.0.1:${loop.listener.port}`);
  });

  it('say where nobody listens', async () => {
    const port = loop.listener.port;
    await loop.listener.close(0);
    const error = await refusal(() => loop.connect({ port }));
    expect(error).to.include({ code: 'E_SOURCE_UNREACHABLE', retry: 'reconnect' });
    expect(error.message).to.contain(`127.0.0.1:${port}`);
  });

  it('remember each call id once, in a window of 1,024', () => {
    const window = new CallWindow();
    expect(window.accept(0n)).to.equal(true);
    expect(window.accept(0n)).to.equal(false);
    for (let id = 1n; id < 5000n; id++) {
      expect(window.accept(id)).to.equal(true);
      expect(window.size).to.be.at.most(1024);
    }
    expect(window.accept(3975n)).to.equal(false);
    expect(window.accept(3976n)).to.equal(false);
    expect(window.accept(2n ** 64n - 1n)).to.equal(true);
    expect(window.accept(4999n)).to.equal(false);
    expect(window.size).to.equal(1);
  });
});
