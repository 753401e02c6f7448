// The handshake's state machine against vectors that others made (test/golden/noise).

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { NoiseInitiator, NoiseResponder, splitSecrets } from '../../../shared/channel/noise.js';
import { keyPairOf, sharedSecret } from '../../../shared/channel/x25519.js';
import type { Suite } from '../../../shared/channel/aead.js';
import { checkoutFolder } from '../../support/checkout.js';

interface Vector {
  readonly protocol_name: string;
  readonly init_prologue: string;
  readonly init_psks: readonly string[];
  readonly init_ephemeral: string;
  readonly resp_ephemeral: string;
  readonly handshake_hash: string;
  readonly messages: readonly { readonly payload: string; readonly ciphertext: string }[];
}

// our own checked-in file
const { vectors } = JSON.parse(
  readFileSync(join(checkoutFolder, 'test/golden/noise/nnpsk0.json'), 'utf8'),
) as { readonly vectors: readonly Vector[] };

const hex = (text: string | undefined): Buffer => Buffer.from(text ?? '', 'hex');
const EMPTY = Buffer.alloc(0);

function pairOf(vector: Vector): { initiator: NoiseInitiator; responder: NoiseResponder } {
  const suite: Suite = vector.protocol_name.includes('AESGCM')
    ? 'aes-256-gcm'
    : 'chacha20-poly1305';
  const options = { suite, prologue: hex(vector.init_prologue), psk: hex(vector.init_psks[0]) };
  return {
    initiator: new NoiseInitiator(options, keyPairOf(hex(vector.init_ephemeral))),
    responder: new NoiseResponder(options),
  };
}

describe('noise: NNpsk0', () => {
  it('has vectors of both ciphers', () => {
    expect(vectors.map((vector) => vector.protocol_name)).to.deep.equal([
      'Noise_NNpsk0_25519_AESGCM_SHA256',
      'Noise_NNpsk0_25519_ChaChaPoly_SHA256',
    ]);
  });

  for (const vector of vectors) {
    it(`gives and takes every message of ${vector.protocol_name}`, () => {
      const { initiator, responder } = pairOf(vector);
      const [first, second, ...transport] = vector.messages;
      const message1 = initiator.writeMessage1(hex(first?.payload));
      expect(message1.toString('hex')).to.equal(first?.ciphertext);
      expect(responder.readMessage1(message1)?.toString('hex')).to.equal(first?.payload);
      const ephemeral = keyPairOf(hex(vector.resp_ephemeral));
      const message2 = responder.writeMessage2(hex(second?.payload), ephemeral);
      expect(message2?.toString('hex')).to.equal(second?.ciphertext);
      expect(initiator.readMessage2(message2 ?? EMPTY)?.toString('hex')).to.equal(second?.payload);
      for (const side of [initiator, responder]) {
        expect(side.secrets.handshakeHash.toString('hex')).to.equal(vector.handshake_hash);
      }
      const suite: Suite = vector.protocol_name.includes('AESGCM')
        ? 'aes-256-gcm'
        : 'chacha20-poly1305';
      const sending = splitSecrets(suite, initiator.secrets);
      const receiving = splitSecrets(suite, responder.secrets);
      expect(transport).to.have.length(4);
      transport.forEach(({ payload, ciphertext }, index) => {
        const direction = index % 2 === 0 ? 0 : 1;
        const sealed = sending[direction].encrypt(EMPTY, hex(payload));
        expect(sealed.toString('hex')).to.equal(ciphertext);
        expect(receiving[direction].decrypt(EMPTY, sealed)?.toString('hex')).to.equal(payload);
      });
    });

    it(`refuses every altered byte of message 1 and 2 of ${vector.protocol_name}`, () => {
      const [first, second] = vector.messages;
      const good1 = hex(first?.ciphertext);
      for (let index = 0; index < good1.length; index++) {
        const bad = Buffer.from(good1);
        bad.writeUInt8(bad.readUInt8(index) ^ 1, index);
        expect(pairOf(vector).responder.readMessage1(bad), `byte ${index}`).to.equal(undefined);
      }
      const good2 = hex(second?.ciphertext);
      for (let index = 0; index < good2.length; index++) {
        // the top bit of a curve point is not looked at, but it is hashed
        const bad = Buffer.from(good2);
        bad.writeUInt8(bad.readUInt8(index) ^ 128, index);
        const { initiator } = pairOf(vector);
        initiator.writeMessage1(hex(first?.payload));
        expect(initiator.readMessage2(bad), `byte ${index}`).to.equal(undefined);
      }
    });

    it(`refuses messages that are too short or come back, ${vector.protocol_name}`, () => {
      for (const length of [0, 1, 31, 32, 47]) {
        const bytes = Buffer.alloc(length);
        expect(pairOf(vector).responder.readMessage1(bytes)).to.equal(undefined);
        const { initiator } = pairOf(vector);
        const own = initiator.writeMessage1(EMPTY);
        expect(initiator.readMessage2(bytes)).to.equal(undefined);
        expect(initiator.readMessage2(own), 'reflected').to.equal(undefined);
      }
    });
  }

  it('gives no secret with points of small order', () => {
    const own = keyPairOf(Buffer.alloc(32, 7));
    for (const point of ['00'.repeat(32), `01${'00'.repeat(31)}`]) {
      expect(sharedSecret(own, hex(point))).to.equal(undefined);
    }
  });
});
