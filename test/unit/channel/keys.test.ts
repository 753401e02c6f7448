// Key files, rings and passphrases: what is taken, what is refused, and that no secret is shown.

import { createSecretKey } from 'node:crypto';
import { chmodSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { expect } from 'chai';
import fc from 'fast-check';
import {
  encodeKey,
  estimateBits,
  keyFromPassphrase,
  type KeyEnvironment,
  loadKey,
  loadKeyRing,
  loadSecret,
  parseKey,
  type PreSharedKey,
} from '../../../shared/channel/index.js';
import { systemClock } from '../../../shared/clock.js';
import { DrError } from '../../../shared/errors.js';
import { type FileSystem, nodeFileSystem } from '../../../shared/files/index.js';
import { openLog } from '../../../shared/log.js';
import { skipBecause } from '../../support/need.js';
import { testKey } from '../../support/channel.js';
import { refusal } from '../../support/refusal.js';
import { WorkFolder } from '../../support/work-folder.js';

const CANARY = Buffer.from('CANARY-CANARY-CANARY-CANARY-1234');
const STRONG = 'able zebra moon quick tree lamp fork seven';

function facts(key: PreSharedKey): unknown {
  const { secret, ...rest } = key;
  return { ...rest, secret: secret.export().toString('hex') };
}

describe('channel: key files', () => {
  const folder = new WorkFolder('keys');
  const environment: KeyEnvironment = { fs: nodeFileSystem, environment: {} };

  after(() => {
    folder.dispose();
  });

  function write(name: string, bytes: Uint8Array | string, mode = 0o600): string {
    const path = folder.file(name);
    writeFileSync(path, bytes, { mode });
    chmodSync(path, mode);
    return path;
  }

  it('give back what was written', () => {
    fc.assert(
      fc.property(
        fc.record({
          keyId: fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/),
          principal: fc.stringMatching(/^[a-zé界][a-z é界]{0,40}[a-z]$/),
          role: fc.constantFrom('source', 'viewer', 'drill', 'operator'),
          vmPattern: fc.stringMatching(/^[A-Z*?]{1,20}$/),
          createdAtMs: fc.integer({ min: 0, max: 2 ** 47 }),
          secret: fc.uint8Array({ minLength: 32, maxLength: 32 }),
          receiverAddresses: fc.array(fc.domain(), { minLength: 1, maxLength: 16 }),
        }),
        ({ secret, ...rest }) => {
          const key = { ...rest, secret: createSecretKey(secret), receiverId: 'store-1' } as const;
          expect(facts(parseKey(encodeKey(key), 'x'))).to.deep.equal(facts(key));
        },
      ),
    );
  });

  it('may carry comments, blank lines, line ends of Windows and a byte order mark', () => {
    const line = encodeKey(testKey()).toString().trim();
    for (const text of [line, `${line}\n`, `\ufeff# a\r\n\r\n  ${line}  \r\n# b\r\n`]) {
      expect(parseKey(Buffer.from(text), 'x').keyId).to.equal('k1');
    }
  });

  it('are refused when a single character differs or is missing', () => {
    const line = encodeKey(testKey()).toString().trim();
    for (let i = 0; i < line.length; i++) {
      const other = line[i] === 'A' ? 'B' : 'A';
      for (const bad of [line.slice(0, i) + other + line.slice(i + 1), line.slice(0, i)]) {
        // the last character holds bits that belong to no byte
        if (i === line.length - 1 && bad.length === line.length) continue;
        expect(() => parseKey(Buffer.from(bad), 'x'), bad)
          .to.throw(DrError)
          .with.property('code', 'E_KEY_FILE');
      }
    }
  });

  it('are read from any bytes without surprise', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
        const text = Buffer.concat([Buffer.from('hvdrpsk1:'), Buffer.from(bytes)]);
        for (const file of [Buffer.from(bytes), text]) {
          expect(() => parseKey(file, 'x')).to.throw(DrError);
        }
      }),
    );
  });

  it('are refused when others may read or change them', async function () {
    if (process.platform === 'win32') skipBecause(this, 'Windows has no modes of files');
    const bytes = encodeKey(testKey());
    for (const mode of [0o640, 0o604, 0o620, 0o602, 0o644]) {
      const error = await refusal(() => loadKey(write('open.psk', bytes, mode), environment));
      expect(error.code).to.equal('E_KEY_FILE');
      expect(error.hint).to.contain('chmod 600');
    }
    // a link does not hide it
    write('open.psk', bytes, 0o644);
    symlinkSync(folder.file('open.psk'), folder.file('link.psk'));
    expect((await refusal(() => loadKey(folder.file('link.psk'), environment))).code).to.equal(
      'E_KEY_FILE',
    );
    for (const mode of [0o600, 0o400]) {
      expect((await loadKey(write('mine.psk', bytes, mode), environment)).keyId).to.equal('k1');
      rmSync(folder.file('mine.psk'));
    }
  });

  it('are named as path, file: or env:', async () => {
    const key = testKey();
    const path = write('a.psk', encodeKey(key));
    const values = { HVDR_KEY: encodeKey(key).toString() };
    for (const reference of [path, `file:${path}`, 'env:HVDR_KEY']) {
      const loaded = await loadKey(reference, { fs: nodeFileSystem, environment: values });
      expect(facts(loaded)).to.deep.equal(facts(key));
    }
    expect((await refusal(() => loadKey('env:NOTHING', environment))).code).to.equal('E_KEY_FILE');
    expect((await refusal(() => loadKey(folder.file('no'), environment))).code).to.equal(
      'E_NOT_FOUND',
    );
    const huge = write('huge.psk', Buffer.alloc(1 << 20));
    expect((await refusal(() => loadKey(huge, environment))).code).to.equal('E_KEY_FILE');
  });

  it('in clear in a parameter work, with a warning and without a trace', async () => {
    const lines: string[] = [];
    const log = await openLog({
      destination: { write: (line) => lines.push(line) },
      level: 'debug',
      clock: systemClock,
    });
    const text = encodeKey(testKey({ secret: createSecretKey(CANARY) }))
      .toString()
      .trim();
    const key = await loadSecret(text, undefined, { ...environment, log });
    expect(key.keyId).to.equal('k1');
    expect(lines.join('')).to.contain('channel.key-in-clear');
    log.info('run.started', { text, CANARY: CANARY.toString(), hex: CANARY.toString('hex') });
    const all = lines.join('');
    for (const form of [text, text.slice(9), CANARY.toString(), CANARY.toString('hex')]) {
      expect(all.includes(form)).to.equal(false);
    }
  });

  describe('in rings', () => {
    function ringFolder(name: string): string {
      const path = folder.file(name);
      mkdirSync(path);
      return path;
    }

    it('are taken from files and folders, hidden files and folders inside left out', async () => {
      const path = ringFolder('ring');
      write('ring/a.psk', encodeKey(testKey({ keyId: 'a' })));
      write('ring/b', encodeKey(testKey({ keyId: 'b' })));
      write('ring/.hidden', 'x');
      mkdirSync(folder.file('ring/sub'));
      const single = write('c.psk', encodeKey(testKey({ keyId: 'c' })));
      const ring = await loadKeyRing([path, single, single], environment);
      expect(ring.keys.map(({ keyId }) => keyId)).to.deep.equal(['a', 'b', 'c']);
    });

    it('are taken from the environment, and read again from there', async () => {
      const values = { SITE_A: encodeKey(testKey({ keyId: 'a' })).toString() };
      const ring = await loadKeyRing(['env:SITE_A'], { ...environment, environment: values });
      await ring.reload?.();
      expect(ring.keys.map(({ keyId }) => keyId)).to.deep.equal(['a']);
      const none = await refusal(() => loadKeyRing(['env:SITE_B'], environment));
      expect(none.code).to.equal('E_KEY_FILE');
      expect(none.message).to.contain('SITE_B');
    });

    it('are refused when two principals have the same key or two keys the same id', async () => {
      const path = ringFolder('twice');
      const key = testKey({ keyId: 'a' });
      write('twice/a', encodeKey(key));
      write('twice/b', encodeKey({ ...key, keyId: 'b', principal: 'other' }));
      const same = await refusal(() => loadKeyRing([path], environment));
      expect(same.code).to.equal('E_KEY_FILE');
      expect(same.message).to.contain('other').and.to.contain('host-a');
      write('twice/b', encodeKey(testKey({ keyId: 'a' })));
      expect((await refusal(() => loadKeyRing([path], environment))).message).to.contain(
        'two keys have the id a',
      );
    });

    it('are refused when there is none, or one cannot be read', async () => {
      const path = ringFolder('bad');
      expect((await refusal(() => loadKeyRing([path], environment))).code).to.equal('E_KEY_FILE');
      write('bad/a', 'no key');
      expect((await refusal(() => loadKeyRing([path], environment))).code).to.equal('E_KEY_FILE');
    });

    it('are read again: added, removed and broken files', async () => {
      const path = ringFolder('live');
      write('live/a', encodeKey(testKey({ keyId: 'a' })));
      const ring = await loadKeyRing([path], environment);
      const ids = async (): Promise<string[]> => {
        await ring.reload?.();
        return ring.keys.map(({ keyId }) => keyId);
      };
      write('live/b', encodeKey(testKey({ keyId: 'b' })));
      expect(await ids()).to.deep.equal(['a', 'b']);
      write('live/a', 'damaged');
      expect(await ids()).to.deep.equal(['b']);
      folder.remove('live/a');
      folder.remove('live/b');
      expect(await ids()).to.deep.equal([]);
    });

    it('keep their keys while the device cannot be read', async () => {
      const path = ringFolder('failing');
      write('failing/a', encodeKey(testKey({ keyId: 'a' })));
      let isFailing = false;
      const fs: FileSystem = {
        ...nodeFileSystem,
        open: (name, options) =>
          isFailing
            ? Promise.reject(new DrError('E_IO', 'too many open files'))
            : nodeFileSystem.open(name, options),
      };
      const ring = await loadKeyRing([path], { ...environment, fs });
      isFailing = true;
      await ring.reload?.();
      await ring.reload?.();
      expect(ring.keys.map(({ keyId }) => keyId)).to.deep.equal(['a']);
      folder.remove('failing/a');
      await ring.reload?.();
      expect(ring.keys).to.deep.equal([]);
    });

    it('let nobody new in while it is unclear who is who', async () => {
      const path = ringFolder('unclear');
      const a = testKey({ keyId: 'a' });
      write('unclear/a', encodeKey(a));
      const ring = await loadKeyRing([path], environment);
      write('unclear/b', encodeKey({ ...a, keyId: 'b', principal: 'thief' }));
      await ring.reload?.();
      expect(ring.keys.map(({ principal }) => principal)).to.deep.equal(['host-a']);
    });
  });
});

describe('channel: passphrases', () => {
  it('are worth what a guesser has to find, counted low', () => {
    for (const weak of [
      '',
      'password',
      'correct horse battery staple',
      'a'.repeat(200),
      '12345678901234567890123456789012',
      'abcdefghijklmnopqrstuvwxyz',
      'word word word word word word word word word',
      'Passw0rd!2024',
    ]) {
      expect(estimateBits(weak), weak).to.be.below(80);
    }
    for (const strong of [STRONG, '7f3k-9w2q-x8m4-1c6v-5t0b-2z9d', 'q8#Vt2!mZ6&pL1@xR9%kW4^n']) {
      expect(estimateBits(strong), strong).to.be.at.least(80);
    }
  });

  it('are refused when they are weak or have no id, before anything is stretched', async () => {
    const weak = await refusal(() => keyFromPassphrase(Buffer.from('secret'), 'branch', 0));
    expect(weak.code).to.equal('E_KEY_WEAK');
    expect(weak.line).to.contain('hvdr psk generate').and.not.to.contain('secret of');
    const nameless = await refusal(() => keyFromPassphrase(Buffer.from(STRONG), undefined, 0));
    expect(nameless.hint).to.contain('dr_psk_id');
    expect((await refusal(() => keyFromPassphrase(Buffer.from(STRONG), 'a b', 0))).code).to.equal(
      'E_KEY_FILE',
    );
  });

  it('are stretched by Argon2id with a salt of the id, the same on both sides', async function () {
    this.timeout(60_000);
    const key = await keyFromPassphrase(Buffer.from(STRONG), 'branch', 0);
    // as it was in the first release: a passphrase must give the same key in every later one
    expect(key.secret.export().toString('hex')).to.equal(
      '2f12633a6b2c9f0838aca9296a66d82eaf9a0eb56dc1d9e322fd36f49f63bbd5',
    );
    expect(key).to.include({ keyId: 'branch', principal: 'branch', role: 'source' });
    const lines: string[] = [];
    const log = await openLog({
      destination: { write: (line) => lines.push(line) },
      level: 'debug',
      clock: systemClock,
    });
    const environment = { fs: nodeFileSystem, environment: { P: STRONG }, log };
    const again = await loadSecret('env:P', 'branch', environment);
    expect(again.secret.equals(key.secret)).to.equal(true);
    log.info('run.started', { said: `it was ${STRONG}` });
    expect(lines.join('')).not.to.contain(STRONG);
  });
});
