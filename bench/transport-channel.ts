// The sealed channel and nothing else: a stream of messages of 1 MiB to a service that drops them.
// Usage: transport-channel.js sink KEY_FILE          prints "listening ADDRESS:PORT"
//        transport-channel.js source KEY_FILE PORT BYTES

import { writeSync } from 'node:fs';
import { argv } from 'node:process';
import { assert, defined } from '../shared/assert.js';
import { releaseMemory } from '../shared/bytes/index.js';
import { connect, type Handlers, listen, loadKey, loadKeyRing } from '../shared/channel/index.js';
import { systemClock, systemRandom } from '../shared/clock.js';
import { nodeFileSystem } from '../shared/files/index.js';
import { openLog } from '../shared/log.js';
import { TRANSPORT_MESSAGE_BYTES, transportMessage } from './transport-message.js';

const STDOUT = 1;
const STDERR = 2;
const LOOPBACK = '127.0.0.1';

const asIs = (bytes: Buffer): Buffer => bytes;

/** Takes bytes, answers how many there were. */
const sinkService = {
  drop: {
    path: '/bench.SinkService/Drop',
    requestStream: true,
    responseStream: false,
    requestSerialize: asIs,
    requestDeserialize: asIs,
    responseSerialize: (count: number) => Buffer.from(String(count)),
    responseDeserialize: (bytes: Buffer) => Number(bytes.toString()),
  },
} as const;

const handlers: Handlers<typeof sinkService> = {
  async drop(messages) {
    let totalBytes = 0;
    for await (const message of messages) {
      totalBytes += message.length;
      // as the receiver does when the bytes of a message are written
      releaseMemory(message);
    }
    return totalBytes;
  },
};

const log = await openLog({
  destination: { write: (line) => writeSync(STDERR, line) },
  level: 'warn',
  clock: systemClock,
});
const environment = { fs: nodeFileSystem, environment: process.env };
const parts = { clock: systemClock, random: systemRandom, log };

async function sink(keyFile: string): Promise<void> {
  const keys = await loadKeyRing([keyFile], environment);
  const roles = { drop: ['source'] } as const;
  const services = [{ definition: sinkService, handlers, roles }];
  const listener = await listen({ host: LOOPBACK, port: 0, keys, services, ...parts });
  writeSync(STDOUT, `listening ${listener.host}:${listener.port}\n`);
}

async function source(keyFile: string, port: number, totalBytes: number): Promise<void> {
  const key = await loadKey(keyFile, environment);
  const connection = await connect({ host: LOOPBACK, port, key, ...parts });
  const dropped = await connection.client(sinkService).drop(messages(totalBytes));
  assert(dropped === totalBytes, 'the sink has opened everything');
  await connection.close();
}

async function* messages(totalBytes: number): AsyncGenerator<Buffer> {
  const message = transportMessage();
  for (let sent = 0; sent < totalBytes; sent += TRANSPORT_MESSAGE_BYTES) {
    yield await Promise.resolve(message);
  }
}

const keyFile = defined(argv[3], 'the second argument is a key file');
if (argv[2] === 'sink') await sink(keyFile);
else await source(keyFile, Number(argv[4]), Number(argv[5]));
