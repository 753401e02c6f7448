// TLS and mTLS below the seal: optional, and never in its place. The certificates are in
// test/golden/tls.

import { readFileSync } from 'node:fs';
import { connect as connectTcp, type Socket } from 'node:net';
import { join } from 'node:path';
import { createServer as createTlsServer } from 'node:tls';
import { expect } from 'chai';
import type { TlsMaterial } from '../../../shared/channel/index.js';
import { echoService, loopback, testKey } from '../../support/channel.js';
import { checkoutFolder } from '../../support/checkout.js';
import { FakeClock } from '../../support/fake-clock.js';
import { RecordingProxy, until } from '../../support/raw-peer.js';
import { refusal } from '../../support/refusal.js';

const read = (name: string): string =>
  readFileSync(join(checkoutFolder, 'test/golden/tls', name), 'utf8');

const material = (name: string): TlsMaterial => ({
  certificate: read(`${name}.crt`),
  privateKey: read(`${name}.key`),
});

describe('channel: TLS', () => {
  const authority = read('ours.crt');
  const server = material('server');
  const client = material('client');
  const stranger = material('stranger');

  it('carries sealed calls, and nothing of gRPC is to be seen outside', async () => {
    const loop = await loopback({ tls: server });
    const proxy = new RecordingProxy();
    const port = await proxy.listen(loop.listener.port);
    const channel = await loop.connect({ port, tls: { certificateAuthority: authority } });
    const message = Buffer.alloc(300_000, 7);
    expect((await channel.client(echoService).unary(message)).equals(message)).to.equal(true);
    const seen = Buffer.concat([...proxy.toReceiver, ...proxy.toSource]).toString('latin1');
    expect(seen).not.to.contain('PRI * HTTP/2.0');
    expect(loop.listener.status()).to.include({ waiting: 0, sessions: 1 });
    proxy.close();
    await loop.close();
  });

  it('does not replace the key', async () => {
    const loop = await loopback({ tls: { ...server, certificateAuthority: authority } });
    const tls = { ...client, certificateAuthority: authority };
    const error = await refusal(() => loop.connect({ tls, key: testKey() }));
    expect(error.code).to.equal('E_AUTH');
    await (await loop.connect({ tls })).client(echoService).unary(Buffer.alloc(1));
    await loop.close();
  });

  it('refuses certificates of others on either side, and clear text', async () => {
    const loop = await loopback({ tls: { ...server, certificateAuthority: authority } });
    const cases: readonly (readonly [TlsMaterial | undefined, string, RegExp])[] = [
      [{ certificateAuthority: authority }, 'E_TLS', /wants a certificate of this side/],
      [
        { ...stranger, certificateAuthority: authority },
        'E_SOURCE_UNREACHABLE',
        /may not accept the certificate of dr_tls_cert/,
      ],
      [
        { ...client, certificateAuthority: read('theirs.crt') },
        'E_TLS',
        /not from the authority that dr_tls_ca names/,
      ],
      [
        { ...client, certificateAuthority: authority, serverName: 'other.example' },
        'E_TLS',
        /is not for the name other\.example/,
      ],
      [undefined, 'E_TLS', /TLS is asked for there only/],
    ];
    for (const [tls, code, words] of cases) {
      const error = await refusal(() => loop.connect({ tls, timeoutMs: 3000 }));
      expect(error.message).to.match(words);
      expect(error.code).to.equal(code);
    }
    expect(loop.server.seen).to.deep.equal([]);
    await until(() => loop.listener.status().waiting === 0, 'the end of all connections');
    await loop.close();
  });

  it('takes a reset after the handshake for the refusal that it is', async () => {
    const { certificate, privateKey } = server;
    const resetting = createTlsServer({
      cert: certificate,
      key: privateKey,
      ALPNProtocols: ['h2'],
    });
    const raw: Socket[] = [];
    resetting.prependListener('connection', (socket: Socket) => raw.push(socket));
    resetting.on('secureConnection', () => raw.pop()?.resetAndDestroy());
    resetting.listen(0, '127.0.0.1');
    await until(() => resetting.listening, 'the listener');
    const address = resetting.address();
    const port = typeof address === 'object' ? (address?.port ?? 0) : 0;
    const loop = await loopback();
    const tls = { ...client, certificateAuthority: authority };
    for (let round = 0; round < 20; round++) {
      const error = await refusal(() => loop.connect({ port, tls }));
      expect(error.message).to.match(/may not accept the certificate of dr_tls_cert/);
      expect(error.code).to.equal('E_SOURCE_UNREACHABLE');
    }
    resetting.close();
    await loop.close();
  });

  it('says so when only this side asks for it', async () => {
    const loop = await loopback();
    const error = await refusal(() => loop.connect({ tls: { certificateAuthority: authority } }));
    expect(error.code).to.equal('E_TLS');
    expect(error.message).to.match(/TLS is asked for here only: \S+ speaks none/);
    expect(error.hint).to.contain('--tls-cert');
    await loop.close();
  });

  it('counts connections before their TLS handshake, and ends them in time', async () => {
    const clock = new FakeClock();
    const loop = await loopback({ clock, tls: server });
    const sockets = Array.from({ length: 20 }, () => connectTcp(loop.listener.port, '127.0.0.1'));
    for (const socket of sockets) {
      socket.on('error', () => undefined);
      socket.resume();
    }
    await until(() => sockets.filter((socket) => socket.closed).length === 12, 'twelve refused');
    expect(loop.listener.status().waiting).to.equal(8);
    await clock.advance(10_000);
    await until(() => sockets.every((socket) => socket.closed), 'the end of the rest');
    expect(loop.listener.status().waiting).to.equal(0);
    await loop.close();
  });
});
