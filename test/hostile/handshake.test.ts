// Hostile clients and receivers at the handshake (spec channel.md § 8, cases 1 to 5). Refused, no
// handler called, nothing kept.

import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect } from 'chai';
import { systemRandom } from '../../shared/clock.js';
import type {
  HandshakeRequest,
  HandshakeResponse,
} from '../../shared/channel/gen/podheitor/dr/v1/handshake.js';
import { answerHandshake, initiateHandshake } from '../../shared/channel/handshake.js';
import { boundMemory } from '../support/bounded-memory.js';
import { type Loopback, echoService, loopback, testKey } from '../support/channel.js';
import { FakeClock } from '../support/fake-clock.js';
import { RawClient, RawReceiver, until } from '../support/raw-peer.js';
import { refusal } from '../support/refusal.js';

const REPLAYS = process.env['SLOW'] === '1' ? 100_000 : 3000;

describe('hostile: handshake', () => {
  boundMemory();
  let loop: Loopback;
  const clients: RawClient[] = [];

  beforeEach(async () => {
    loop = await loopback();
  });

  afterEach(async () => {
    for (const client of clients.splice(0)) client.close();
    await loop.close();
  });

  const client = (port = loop.listener.port): RawClient => {
    const made = new RawClient(port);
    clients.push(made);
    return made;
  };

  function expectNothingHappened(): void {
    expect(loop.server.seen).to.deep.equal([]);
    expect(loop.listener.status().sessions).to.equal(0);
  }

  it(`case 1: message 1 replayed ${REPLAYS} times leaves nothing behind`, async function () {
    this.timeout(600_000);
    const { request } = initiateHandshake(loop.key, 'aes-256-gcm', systemRandom);
    let accepted = 0;
    let done = 0;
    const before = liveBytes();
    const worker = async (): Promise<void> => {
      while (done < REPLAYS) {
        done++;
        const raw = new RawClient(loop.listener.port);
        const answer = await Promise.race([
          raw.shakeHandsWith(request).catch(() => undefined),
          raw.closed().then(() => undefined),
        ]);
        if (answer?.outcome?.$case === 'accepted') accepted++;
        raw.close();
        expect(loop.listener.status().waiting).to.be.at.most(8);
      }
    };
    await Promise.all(Array.from({ length: 16 }, worker));
    await until(() => loop.listener.status().connections === 0, 'the end of all connections');
    // after ten that came to nothing the address is not listened to for the rest of a minute
    expect(accepted).to.be.within(1, 10 * (1 + Math.ceil(REPLAYS / 1000)) + 16);
    expectNothingHappened();
    expect(loop.listener.status()).to.include({ pendingSessions: 0, waiting: 0, windowBytes: 0 });
    expect(loop.listener.status().addresses).to.equal(1);
    expect(liveBytes() - before).to.be.below(16 << 20);
  });

  it('case 1: an accepted message 1 holds its place for ten seconds at most', async () => {
    const clock = new FakeClock();
    await loop.close();
    loop = await loopback({ clock });
    const { request } = initiateHandshake(loop.key, 'aes-256-gcm', systemRandom);
    const raw = client();
    expect((await raw.shakeHandsWith(request))?.outcome?.$case).to.equal('accepted');
    expect(loop.listener.status()).to.include({ pendingSessions: 1, waiting: 1, sessions: 0 });
    await clock.advance(9_999);
    expect(raw.isClosed).to.equal(false);
    await clock.advance(1);
    await raw.closed();
    await until(() => loop.listener.status().connections === 0, 'the end of the connection');
    expect(loop.listener.status()).to.include({ pendingSessions: 0, waiting: 0 });
    expectNothingHappened();
  });

  it('case 2: a reflected message is no answer', async () => {
    const receiver = new RawReceiver(
      loop.key,
      () => undefined,
      ({ noiseMessage }) => ({
        outcome: {
          $case: 'accepted',
          value: { noiseMessage: Buffer.from(noiseMessage), sessionId: Buffer.alloc(16) },
        },
      }),
    );
    const port = await receiver.listen();
    const error = await refusal(() => loop.connect({ port }));
    expect(error.code).to.equal('E_AUTH');
    receiver.close();
  });

  it('case 3: the key of one principal is no receiver towards another', async () => {
    const other = testKey({ keyId: 'k2', principal: 'host-b' });
    // it has its own key and claims to be the receiver of host-a
    const receiver = new RawReceiver(
      other,
      () => undefined,
      (request): HandshakeResponse => {
        const { request: own } = initiateHandshake(other, 'aes-256-gcm', systemRandom);
        const outcome = answerHandshake(
          { ...own },
          {
            findKey: () => other,
            suites: ['aes-256-gcm'],
            dummy: other,
            random: systemRandom,
          },
        );
        expect(request.keyId).to.equal(loop.key.keyId);
        if (outcome.kind !== 'accepted') throw new Error('its own key fits');
        const { noiseMessage } = outcome;
        return {
          outcome: { $case: 'accepted', value: { noiseMessage, sessionId: Buffer.alloc(16) } },
        };
      },
    );
    const port = await receiver.listen();
    const error = await refusal(() => loop.connect({ port }));
    expect(error).to.include({ code: 'E_AUTH', done: 'nothing was sent' });
    receiver.close();
  });

  const changes: readonly [string, (request: HandshakeRequest) => HandshakeRequest][] = [
    ['the suite', (request) => ({ ...request, suite: 2 })],
    ['an unknown suite', (request) => ({ ...request, suite: 9 as never })],
    ['the key id', (request) => ({ ...request, keyId: 'k2' })],
    ['the principal', (request) => ({ ...request, principal: 'host-b' })],
    ['an endless principal', (request) => ({ ...request, principal: 'x'.repeat(700) })],
    [
      'a byte of the ephemeral key',
      (request) => ({ ...request, noiseMessage: flipped(request.noiseMessage, 3) }),
    ],
    [
      'a byte of the tag',
      (request) => ({ ...request, noiseMessage: flipped(request.noiseMessage, 47) }),
    ],
    [
      'the length of the message',
      (request) => ({ ...request, noiseMessage: request.noiseMessage.subarray(0, 40) }),
    ],
    ['nothing but zeros', (request) => ({ ...request, noiseMessage: Buffer.alloc(48) })],
  ];

  for (const [what, change] of changes) {
    it(`case 4: ${what} altered is refused like everything else`, async () => {
      const { request } = initiateHandshake(loop.key, 'aes-256-gcm', systemRandom);
      const raw = client();
      const response = await raw.shakeHandsWith(change(request));
      expect(response?.outcome?.$case).to.equal('refused');
      await raw.closed();
      expectNothingHappened();
    });
  }

  it('case 4: another version is refused with both versions named', async () => {
    const { request } = initiateHandshake(loop.key, 'aes-256-gcm', systemRandom);
    const response = await client().shakeHandsWith({ ...request, version: 7 });
    expect(response?.outcome).to.deep.equal({
      $case: 'versionRefused',
      value: { supported: { oldest: 1, newest: 1 } },
    });
    const receiver = new RawReceiver(
      loop.key,
      () => undefined,
      () => ({
        outcome: { $case: 'versionRefused', value: { supported: { oldest: 5, newest: 9 } } },
      }),
    );
    const port = await receiver.listen();
    const error = await refusal(() => loop.connect({ port }));
    expect(error.code).to.equal('E_VERSION');
    expect(error.message).to.contain('5 to 9').and.to.contain('1 to 1');
    receiver.close();
    expectNothingHappened();
  });

  it('case 4: a suite that is not allowed is refused, and no other is tried', async () => {
    await loop.close();
    loop = await loopback({ suites: ['aes-256-gcm'] });
    const error = await refusal(() => loop.connect({ suite: 'chacha20-poly1305' }));
    expect(error.code).to.equal('E_AUTH');
    expectNothingHappened();
  });

  it('case 5: unknown id and wrong key get the same answer', async () => {
    const wrong = testKey({ keyId: loop.key.keyId });
    const unknown = testKey({ keyId: 'nobody' });
    const answers: unknown[] = [];
    for (const key of [wrong, unknown]) {
      const { request } = initiateHandshake(key, 'aes-256-gcm', systemRandom);
      answers.push(await client().shakeHandsWith(request));
    }
    expect(answers[0]).to.deep.equal(answers[1]);
    expectNothingHappened();
  });

  it('case 5: unknown id and wrong key take the same time', () => {
    const dummy = testKey();
    const policy = {
      findKey: (keyId: string) => (keyId === 'k1' ? loop.key : undefined),
      suites: ['aes-256-gcm'] as const,
      dummy,
      random: systemRandom,
    };
    const wrong = initiateHandshake(testKey(), 'aes-256-gcm', systemRandom).request;
    const unknown = initiateHandshake(
      testKey({ keyId: 'nobody' }),
      'aes-256-gcm',
      systemRandom,
    ).request;
    const time = (request: HandshakeRequest): number => {
      const start = performance.now();
      for (let i = 0; i < 50; i++)
        expect(answerHandshake(request, policy).kind).to.equal('refused');
      return performance.now() - start;
    };
    // interleaved, and the fastest of many: what the code takes, not what the machine does beside
    const times = Array.from({ length: 20 }, () => [time(wrong), time(unknown)] as const);
    const fastest = (index: 0 | 1): number => Math.min(...times.map((pair) => pair[index]));
    expect(fastest(0) / fastest(1)).to.be.within(0.7, 1.43);
  });

  it('does not show a pinned key to another receiver', async () => {
    const key = { ...loop.key, receiverAddresses: ['192.0.2.1:9847'] };
    const error = await refusal(() => loop.connect({ key }));
    expect(error.code).to.equal('E_PARAMETER');
    expect(loop.listener.status().connections).to.equal(0);
    const pinned = { ...loop.key, receiverAddresses: [`127.0.0.1:${loop.listener.port}`] };
    const channel = await loop.connect({ key: pinned });
    expect(await channel.client(echoService).unary(Buffer.from('x'))).to.have.length(1);
  });
});

/** What the process holds on to, after a collection. */
function liveBytes(): number {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  collect();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

function flipped(bytes: Buffer, index: number): Buffer {
  const out = Buffer.from(bytes);
  out.writeUInt8(out.readUInt8(index) ^ 1, index);
  return out;
}
