// Records as bytes: ratchet, both suites, salts, and FINAL.

import { expect } from 'chai';
import fc from 'fast-check';
import { encodeFinal, parseFinal } from '../../../shared/channel/final.js';
import {
  type CallIdentity,
  RecordOpener,
  RecordSealer,
  UnopenedRecord,
} from '../../../shared/channel/records.js';
import type { Suite } from '../../../shared/channel/aead.js';
import { DrError } from '../../../shared/errors.js';
import { whole } from '../../support/raw-peer.js';

const SUITES: readonly Suite[] = ['aes-256-gcm', 'chacha20-poly1305'];

function identity(suite: Suite): CallIdentity {
  return {
    secrets: { chainingKey: Buffer.alloc(32, 1), handshakeHash: Buffer.alloc(32, 2) },
    version: 1,
    suite,
    sessionId: Buffer.alloc(16, 3),
    method: '/a.B/C',
    callId: 9n,
  };
}

describe('channel: records', () => {
  for (const suite of SUITES) {
    it(`open in the order in which they were sealed, both ways, ${suite}`, () => {
      for (const salt of [undefined, Buffer.alloc(16, 4)]) {
        const sealer = new RecordSealer(identity(suite), salt);
        const opener = new RecordOpener(identity(suite), salt === undefined ? 'c2s' : 's2c');
        for (let i = 0; i < 5; i++) {
          const { kind, plaintext } = opener.open(
            whole(sealer.seal(i === 4 ? 'final' : 'message', Buffer.alloc(i * 100, i))),
          );
          expect(kind).to.equal(i === 4 ? 'final' : 'message');
          expect(plaintext.equals(Buffer.alloc(i * 100, i))).to.equal(true);
        }
        expect(opener.recordCount).to.equal(5);
      }
    });

    it(`change their key after so many records and so many bytes, on both sides alike, ${suite}`, () => {
      for (const ratchet of [
        { records: 3, bytes: 1e9 },
        { records: 1e9, bytes: 250 },
      ]) {
        const sealer = new RecordSealer(identity(suite), undefined, ratchet);
        const plain = new RecordSealer(identity(suite));
        const opener = new RecordOpener(identity(suite), 'c2s', ratchet);
        const same: boolean[] = [];
        for (let i = 0; i < 10; i++) {
          const record = sealer.seal('message', Buffer.alloc(100, i));
          same.push(whole(record).equals(whole(plain.seal('message', Buffer.alloc(100, i)))));
          expect(opener.open(whole(record)).plaintext[0]).to.equal(i);
        }
        expect(same).to.deep.equal([true, true, true, ...Array.from({ length: 7 }, () => false)]);
      }
    });

    it(`do not open when a single bit differs, ${suite}`, () => {
      const salt = Buffer.alloc(16, 4);
      const record = whole(
        new RecordSealer(identity(suite), salt).seal('message', Buffer.alloc(9)),
      );
      for (let bit = 0; bit < record.length * 8; bit++) {
        const bad = Buffer.from(record);
        bad.writeUInt8(bad.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
        const opener = new RecordOpener(identity(suite), 's2c');
        expect(() => opener.open(bad), `bit ${bit}`).to.throw(UnopenedRecord);
      }
      expect(new RecordOpener(identity(suite), 's2c').open(record).plaintext).to.have.length(9);
    });
  }

  it('refuse any bytes with one error', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.boolean(), (bytes, isAnswer) => {
        const opener = new RecordOpener(identity('aes-256-gcm'), isAnswer ? 's2c' : 'c2s');
        expect(() => opener.open(bytes)).to.throw(UnopenedRecord);
      }),
    );
  });
});

describe('channel: FINAL', () => {
  it('says how many records came and that all went well', () => {
    expect(parseFinal(encodeFinal(7, undefined))).to.deep.equal({
      recordCount: 7,
      error: undefined,
    });
  });

  it('carries an error whole, whatever its texts are', () => {
    fc.assert(
      fc.property(
        fc.string({ maxLength: 100 }),
        fc.dictionary(
          fc.string({ maxLength: 20, unit: 'grapheme-ascii' }),
          fc.oneof(fc.bigInt({ min: -(2n ** 100n), max: 2n ** 100n }), fc.boolean(), fc.integer()),
          { maxKeys: 10, noNullPrototype: true },
        ),
        (text, context) => {
          fc.pre(!Object.hasOwn(context, '__proto__'));
          const error = new DrError('E_STATE', text, { done: text, hint: text, context });
          const back = parseFinal(encodeFinal(3, error))?.error;
          expect(back?.code).to.equal('E_STATE');
          expect(back?.message).to.equal(back?.hint);
          expect(back?.context).to.deep.equal(context);
        },
      ),
    );
  });

  it('says nothing of an error of ours but that it was one', () => {
    const back = parseFinal(encodeFinal(0, new Error('secret detail')))?.error;
    expect(back?.code).to.equal('E_INTERNAL');
    expect(JSON.stringify([back?.line, back?.context])).not.to.contain('secret detail');
  });

  it('keeps the words of an error that this release does not know', () => {
    const bytes = encodeFinal(0, new DrError('E_STATE', 'moved'));
    const changed = Buffer.from(bytes.toString('latin1').replace('E_STATE', 'E_FUTUR'), 'latin1');
    const back = parseFinal(changed)?.error;
    expect(back).to.include({ code: 'E_PROTOCOL', message: 'E_FUTUR: moved' });
  });

  it('is read from any bytes without surprise', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        const parsed = parseFinal(Buffer.from(bytes));
        if (parsed !== undefined) expect(parsed.recordCount).to.be.at.least(0);
      }),
    );
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const bytes = Buffer.concat([Buffer.alloc(8), Buffer.from(JSON.stringify(value))]);
        expect(parseFinal(bytes)).to.equal(undefined);
      }),
    );
  });

  it('carries numbers that JSON has no words for as text', () => {
    const context = { nan: NaN, far: Infinity, wide: 10n ** 50n };
    const back = parseFinal(encodeFinal(1, new DrError('E_STATE', 'x', { context })))?.error;
    expect(back?.context).to.deep.equal({
      nan: 'NaN',
      far: 'Infinity',
      wide: (10n ** 50n).toString(),
    });
  });

  it('is small, however long the error is', () => {
    const long = 'x'.repeat(1 << 20);
    const error = new DrError('E_STATE', long, { done: long, hint: long, context: { long } });
    expect(encodeFinal(1, error)).to.have.length.below(64 << 10);
    expect(parseFinal(encodeFinal(1, error))?.error?.code).to.equal('E_STATE');
  });
});
