// What a key lets its owner do (spec channel.md § 8, cases 15, 16, 18, 19, 20, 22, 23 as far as the
// channel goes; ownership of VMs is the receiver's, in its own tests).

import crypto, { createSecretKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import {
  type CallContext,
  controlService,
  type KeyRing,
  METHOD_ROLES,
  type MethodDefinition,
  type PreSharedKey,
  replicationService,
  siteService,
  type Role,
  type ServiceDefinition,
} from '../../shared/channel/index.js';
import { encodeKey } from '../../shared/channel/index.js';
import { HandshakeServiceService } from '../../shared/channel/gen/podheitor/dr/v1/handshake.js';
import { systemClock, systemRandom } from '../../shared/clock.js';
import { DrError } from '../../shared/errors.js';
import { openLog } from '../../shared/log.js';
import { skipBecause } from '../support/need.js';
import { boundMemory } from '../support/bounded-memory.js';
import { all, each, echoService, loopback, testKey } from '../support/channel.js';
import { checkoutFolder } from '../support/checkout.js';
import { FakeClock } from '../support/fake-clock.js';
import { RecordingProxy, until } from '../support/raw-peer.js';
import { refusal } from '../support/refusal.js';
import { connect, listen } from '../../shared/channel/index.js';
import { silentLog } from '../../shared/log.js';

const ROLES: readonly Role[] = ['source', 'viewer', 'drill', 'operator'];
const SERVICES: readonly ServiceDefinition[] = [replicationService, controlService, siteService];

/** All methods of a service, with handlers that note who came through. */
function notingHandlers(
  definition: ServiceDefinition,
  seen: string[],
): Readonly<Record<string, unknown>> {
  return Object.fromEntries(
    Object.entries(definition).map(([name, method]) => [
      name,
      (_argument: unknown, { caller }: CallContext) => {
        seen.push(`${caller.role} ${method.path}`);
        return method.responseStream ? each() : Promise.reject(new DrError('E_STATE', 'reached'));
      },
    ]),
  );
}

async function callOnce(client: unknown, name: string, method: MethodDefinition): Promise<DrError> {
  const call = (client as Readonly<Record<string, (argument: unknown) => unknown>>)[name];
  // an empty message is legal for every request type
  const argument = method.requestStream ? each() : method.requestDeserialize(Buffer.alloc(0));
  return refusal(async () => {
    const answer = call?.(argument);
    if (method.responseStream) {
      await all(answer as AsyncIterable<unknown>);
      throw new DrError('E_STATE', 'reached');
    }
    await answer;
  });
}

describe('hostile: authority', () => {
  boundMemory();
  it('case 18: the table of roles names every method of every service, and no other', () => {
    const paths = SERVICES.flatMap((service) => Object.values(service).map(({ path }) => path));
    expect([...METHOD_ROLES.keys()].sort()).to.deep.equal(paths.sort());
    for (const roles of METHOD_ROLES.values()) {
      expect(roles).to.include('operator');
      expect(roles.length).to.be.greaterThan(0);
    }
    // the handshake is nobody's: it comes before there is a role
    const handshake = Object.values(HandshakeServiceService).map(({ path }) => path);
    expect(handshake.filter((path) => METHOD_ROLES.has(path))).to.deep.equal([]);
  });

  it('case 18: the table says what the .proto files say', () => {
    const text = readFileSync(join(checkoutFolder, 'proto/podheitor/dr/v1/control.proto'), 'utf8');
    const body = /service ControlService \{([\s\S]*?)\n\}/.exec(text)?.[1] ?? '';
    let roles: string[] = [];
    let checked = 0;
    for (const line of body.split('\n')) {
      const said = /Roles: ([a-z, ]+)\./.exec(line)?.[1];
      if (said !== undefined) roles = said.split(', ');
      const method = /rpc (\w+)\(/.exec(line)?.[1];
      if (method === undefined) continue;
      const path = `/podheitor.dr.v1.ControlService/${method}`;
      expect(METHOD_ROLES.get(path), method).to.deep.equal(roles);
      checked++;
    }
    expect(checked).to.equal(Object.keys(controlService).length);
  });

  describe('case 18: over the wire', () => {
    for (const role of ROLES) {
      it(`a key of the role ${role} reaches what the table says and no other handler`, async () => {
        const seen: string[] = [];
        const key = testKey({ role });
        const listener = await listen({
          host: '127.0.0.1',
          port: 0,
          keys: { keys: [key] },
          services: SERVICES.map((definition) => ({
            definition,
            handlers: notingHandlers(definition, seen) as never,
          })),
          clock: systemClock,
          random: systemRandom,
          log: silentLog,
        });
        const channel = await connect({
          host: '127.0.0.1',
          port: listener.port,
          key,
          clock: systemClock,
          random: systemRandom,
          log: silentLog,
        });
        const expected: string[] = [];
        for (const definition of SERVICES) {
          const client: unknown = channel.client(definition);
          for (const [name, method] of Object.entries(definition)) {
            const mayCall = METHOD_ROLES.get(method.path)?.includes(role) === true;
            if (mayCall) expected.push(`${role} ${method.path}`);
            const error = await callOnce(client, name, method);
            expect(error.code, method.path).to.equal(mayCall ? 'E_STATE' : 'E_AUTH');
          }
        }
        expect(seen).to.deep.equal(expected);
        if (role === 'source') {
          expect(seen.filter((entry) => entry.includes('ControlService'))).to.deep.equal([]);
        }
        await channel.close();
        await listener.close(0);
      });
    }
  });

  it("case 15: who calls is what the receiver's copy of the key says, not the peer's", async () => {
    const secret = createSecretKey(systemRandom.fill(Buffer.alloc(32)));
    const receiverCopy = testKey({ secret, role: 'viewer', vmPattern: 'SQL*' });
    const forged = testKey({ secret, role: 'operator', vmPattern: '*' });
    const loop = await loopback({ key: receiverCopy });
    const channel = await loop.connect({ key: forged });
    await channel.client(echoService).unary(Buffer.alloc(0));
    expect(loop.server.contexts[0]?.caller).to.deep.equal({
      keyId: 'k1',
      principal: 'host-a',
      role: 'viewer',
      vmPattern: 'SQL*',
      address: '127.0.0.1',
    });
    await loop.close();
  });

  it('case 16: two principals on one listener keep their own names', async () => {
    const a = testKey();
    const b = testKey({ keyId: 'k2', principal: 'host-b' });
    const loop = await loopback({ key: a, keys: { keys: [a, b] } });
    for (const key of [a, b]) {
      await (await loop.connect({ key })).client(echoService).unary(Buffer.alloc(0));
    }
    expect(loop.server.contexts.map(({ caller }) => caller.principal)).to.deep.equal([
      'host-a',
      'host-b',
    ]);
    // the key of one under the name of the other
    const error = await refusal(() => loop.connect({ key: { ...b, principal: 'host-a' } }));
    expect(error.code).to.equal('E_AUTH');
    await loop.close();
  });

  it('an operator is taken from loopback, from elsewhere only when its network is named', async function () {
    const outside = Object.values(networkInterfaces())
      .flat()
      .find((entry) => entry?.internal === false && entry.family === 'IPv4')?.address;
    if (outside === undefined) skipBecause(this, 'this machine has no address but loopback');
    const key = testKey({ role: 'operator' });
    const loop = await loopback({ key, host: '0.0.0.0' });
    expect((await refusal(() => loop.connect({ host: outside }))).code).to.equal('E_AUTH');
    await (await loop.connect()).client(echoService).unary(Buffer.alloc(0));
    await loop.close();
    const open = await loopback({ key, host: '0.0.0.0', operatorNetworks: [`${outside}/32`] });
    await (await open.connect({ host: outside })).client(echoService).unary(Buffer.alloc(0));
    expect(open.server.contexts[0]?.caller.address).to.equal(outside);
    await open.close();
  });

  describe('case 19: rotation', () => {
    it('both keys of a principal work, and a removed one ends its calls within five seconds', async () => {
      const clock = new FakeClock();
      const old = testKey();
      const next = testKey({ keyId: 'k2' });
      const ring: { keys: readonly PreSharedKey[] } = { keys: [old, next] };
      const loop = await loopback({ key: old, keys: ring satisfies KeyRing, clock });
      const first = (await loop.connect()).client(echoService);
      const second = (await loop.connect({ key: next })).client(echoService);
      await second.unary(Buffer.from('b'));
      async function* removing(): AsyncGenerator<Buffer> {
        yield Buffer.from('a');
        await until(() => loop.server.seen.length === 2, 'the handler');
        ring.keys = [next];
        await clock.advance(5000);
        yield Buffer.from('b');
      }
      const error = await refusal(() => first.collect(removing()));
      expect(error.code).to.equal('E_CHANNEL');
      await until(() => loop.server.failures.length === 1, 'the end in the handler');
      expect(loop.server.committed).to.deep.equal(['unary']);
      expect(loop.server.contexts[1]?.signal.aborted).to.equal(true);
      expect((await second.unary(Buffer.from('c'))).toString()).to.equal('c');
      expect((await refusal(() => first.unary(Buffer.alloc(0)))).code).to.equal('E_AUTH');
      await until(() => loop.listener.status().sessions === 1, 'one session');
      await loop.close();
    });

    it('a key that was replaced under its id ends the sessions of the old one', async () => {
      const clock = new FakeClock();
      const ring: { keys: readonly PreSharedKey[] } = { keys: [testKey()] };
      const loop = await loopback({ key: ring.keys[0] ?? testKey(), keys: ring, clock });
      const client = (await loop.connect()).client(echoService);
      await client.unary(Buffer.alloc(0));
      ring.keys = [testKey()];
      await clock.advance(5000);
      await until(() => loop.listener.status().sessions === 0, 'the end of the session');
      expect((await refusal(() => client.unary(Buffer.alloc(0)))).code).to.equal('E_AUTH');
      await loop.close();
    });
  });

  it('case 20: no control character of a peer reaches an error or a log line', async () => {
    const lines: string[] = [];
    const log = await openLog({
      destination: { write: (line) => lines.push(line) },
      level: 'debug',
      clock: systemClock,
    });
    const nasty = ['..\\', 'CON', 'a:b', 'x\nSTAT: ok', '\u001b[2J', '<script>', '$(x)', "';"];
    const failure = new DrError('E_NO_MATCH', nasty.join(' '), {
      done: nasty.join(' '),
      hint: nasty.join(' '),
      context: { vm: nasty.join(' ') },
    });
    const loop = await loopback({ log, handlers: { unary: () => Promise.reject(failure) } });
    const error = await refusal(async () =>
      (await loop.connect()).client(echoService).unary(Buffer.alloc(0)),
    );
    const all_ = [error.message, error.done, error.hint, String(error.context['vm'])];
    for (const text of all_) {
      expect(/[\u0000-\u001f\u007f-\u009f]/.test(text), text).to.equal(false);
      expect(text).to.contain('<script>').and.to.contain('$(x)');
    }
    await refusal(() => loop.connect({ key: testKey({ keyId: 'x\n\u001b[2J' }) }));
    expect(lines.length).to.be.greaterThan(0);
    for (const line of lines) {
      expect(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/.test(line)).to.equal(false);
      expect(line.trimEnd()).not.to.contain('\n');
    }
    await loop.close();
  });

  it('case 22: a canary key is in no log, no error, no argument and on no wire', async () => {
    const lines: string[] = [];
    const log = await openLog({
      destination: { write: (line) => lines.push(line) },
      level: 'debug',
      clock: systemClock,
    });
    const canary = Buffer.from('CANARY-CANARY-CANARY-CANARY-1234');
    const key = testKey({ secret: createSecretKey(canary) });
    const loop = await loopback({ key, log });
    const proxy = new RecordingProxy();
    const port = await proxy.listen(loop.listener.port);
    const guest = Buffer.from('GUEST-BYTES-GUEST-BYTES-GUEST-BYTES');
    const client = (await loop.connect({ port, log })).client(echoService);
    await client.collect(each(guest, guest));
    const errors = [
      await refusal(() => loop.connect({ log, key: { ...key, principal: 'other' } })),
      await refusal(() => loop.connect({ log, key: testKey() })),
    ];
    const file = encodeKey(key).toString().trim();
    const places = [
      ...lines,
      ...errors.map((error) => JSON.stringify([error.line, error.context])),
      ...process.argv,
      ...[...proxy.toReceiver, ...proxy.toSource].map((chunk) => chunk.toString('latin1')),
    ].join('\n');
    for (const form of [
      canary.toString(),
      canary.toString('hex'),
      canary.toString('base64').slice(0, 40),
      canary.toString('base64url').slice(0, 40),
      file.slice(0, 40),
    ]) {
      expect(places.includes(form), form).to.equal(false);
    }
    expect(places).not.to.contain('GUEST-BYTES');
    expect(lines.join('')).to.contain('k1');
    proxy.close();
    await loop.close();
  });

  it('case 23: a ledger of all sealings shows no key with a nonce twice', async () => {
    const ledger: string[] = [];
    const original = crypto.createCipheriv;
    const noting = ((algorithm: string, key: Uint8Array, nonce: Uint8Array, options: object) => {
      ledger.push(`${Buffer.from(key).toString('hex')} ${Buffer.from(nonce).toString('hex')}`);
      return original(algorithm as 'aes-256-gcm', key, nonce, options as never);
    }) as typeof original;
    crypto.createCipheriv = noting;
    syncBuiltinESMExports();
    try {
      const loop = await loopback();
      const proxy = new RecordingProxy();
      const port = await proxy.listen(loop.listener.port);
      const client = (await loop.connect({ port })).client(echoService);
      for (let round = 0; round < 5; round++) {
        await Promise.all([
          client.unary(Buffer.from('same bytes')),
          client.collect(each(Buffer.from('same bytes'), Buffer.from('same bytes'))),
          all(client.both(each(Buffer.from('same bytes')))),
        ]);
        // every second round over a new connection, a call in flight dying with the old one
        const dying = client.unary(Buffer.from('same bytes')).catch(() => undefined);
        if (round % 2 === 0) proxy.cut();
        await dying;
      }
      proxy.close();
      await loop.close();
    } finally {
      crypto.createCipheriv = original;
      syncBuiltinESMExports();
    }
    expect(ledger.length).to.be.greaterThan(100);
    expect(new Set(ledger).size).to.equal(ledger.length);
  });
});
