// The peer of the sealed channel: node:net and the same cipher, AES-256-GCM over messages of 1 MiB,
// with nothing that makes a protocol: one fixed key, no answers, no identities, no limits.
// Usage: transport-plain.js sink        prints "listening ADDRESS:PORT", opens and drops
//        transport-plain.js source PORT BYTES
//
// A message: u32 length of what follows, 16 bytes of tag, the ciphertext.

import { createCipheriv, createDecipheriv } from 'node:crypto';
import { once } from 'node:events';
import { writeSync } from 'node:fs';
import { type AddressInfo, createConnection, createServer, type Socket } from 'node:net';
import { argv } from 'node:process';
import { assert } from '../shared/assert.js';
import { TRANSPORT_MESSAGE_BYTES, transportMessage } from './transport-message.js';

const STDOUT = 1;
const LOOPBACK = '127.0.0.1';
const HEAD_BYTES = 4;
const TAG_BYTES = 16;
const NONCE_BYTES = 12;
const CIPHER = 'aes-256-gcm';
const KEY = Buffer.alloc(32, 7);

function nonceOf(sequence: number): Buffer {
  const nonce = Buffer.alloc(NONCE_BYTES);
  nonce.writeBigUInt64BE(BigInt(sequence), NONCE_BYTES - 8);
  return nonce;
}

function sink(): void {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    open(socket)
      // tells the source how much was opened
      .then((totalBytes) => socket.end(String(totalBytes)))
      .catch(() => socket.destroy());
  });
  server.listen(0, LOOPBACK, () => {
    writeSync(STDOUT, `listening ${LOOPBACK}:${(server.address() as AddressInfo).port}\n`);
  });
}

/** Delivers whole messages, as the channel does: hence the one copy. */
async function open(socket: Socket): Promise<number> {
  let totalBytes = 0;
  let sequence = 0;
  let wantedBytes = HEAD_BYTES;
  let isHead = true;
  let parts: Buffer[] = [];
  let partBytes = 0;
  // the answer goes back over the same socket
  const chunks: AsyncIterable<Buffer> = socket.iterator({ destroyOnReturn: false });
  for await (const chunk of chunks) {
    parts.push(chunk);
    partBytes += chunk.length;
    if (partBytes < wantedBytes) continue;
    let bytes = Buffer.concat(parts);
    while (bytes.length >= wantedBytes) {
      const piece = bytes.subarray(0, wantedBytes);
      bytes = bytes.subarray(wantedBytes);
      if (isHead) {
        wantedBytes = piece.readUInt32LE(0);
        assert(wantedBytes <= TRANSPORT_MESSAGE_BYTES + TAG_BYTES, 'a message has its size');
      } else {
        const decipher = createDecipheriv(CIPHER, KEY, nonceOf(sequence), {
          authTagLength: TAG_BYTES,
        });
        decipher.setAuthTag(piece.subarray(0, TAG_BYTES));
        totalBytes += decipher.update(piece.subarray(TAG_BYTES)).length;
        decipher.final();
        sequence += 1;
        wantedBytes = HEAD_BYTES;
      }
      isHead = !isHead;
    }
    parts = [bytes];
    partBytes = bytes.length;
  }
  return totalBytes;
}

async function source(port: number, totalBytes: number): Promise<void> {
  const socket = createConnection({ host: LOOPBACK, port, allowHalfOpen: true });
  await once(socket, 'connect');
  let answer = '';
  socket.on('data', (chunk: Buffer) => {
    answer += chunk.toString();
  });
  const message = transportMessage();
  for (let sequence = 0; sequence * TRANSPORT_MESSAGE_BYTES < totalBytes; sequence += 1) {
    const cipher = createCipheriv(CIPHER, KEY, nonceOf(sequence), { authTagLength: TAG_BYTES });
    const sealed = cipher.update(message);
    cipher.final();
    const head = Buffer.alloc(HEAD_BYTES);
    head.writeUInt32LE(TAG_BYTES + sealed.length, 0);
    socket.cork();
    socket.write(head);
    socket.write(cipher.getAuthTag());
    const hasRoom = socket.write(sealed);
    socket.uncork();
    if (!hasRoom) await once(socket, 'drain');
  }
  socket.end();
  await once(socket, 'close');
  assert(Number(answer) === totalBytes, 'the sink has opened everything');
}

if (argv[2] === 'sink') sink();
else await source(Number(argv[3]), Number(argv[4]));
