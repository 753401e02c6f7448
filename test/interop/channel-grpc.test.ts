// The wire of the channel is gRPC's: @grpc/grpc-js as client of our listener and as server of our
// client. The seal is ours on both sides; the HTTP/2, the frames and the trailers are theirs.

import {
  Client,
  credentials,
  Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  status,
  type StatusObject,
} from '@grpc/grpc-js';
import { expect } from 'chai';
import type {
  HandshakeRequest,
  HandshakeResponse,
} from '../../shared/channel/gen/podheitor/dr/v1/handshake.js';
import {
  HandshakeServiceService,
  type HandshakeServiceServer,
} from '../../shared/channel/gen/podheitor/dr/v1/handshake.js';
import {
  answerHandshake,
  CALL_HEADER,
  initiateHandshake,
  SESSION_HEADER,
} from '../../shared/channel/handshake.js';
import { RecordOpener, RecordSealer } from '../../shared/channel/records.js';
import { encodeFinal } from '../../shared/channel/final.js';
import { systemRandom } from '../../shared/clock.js';
import { echoService, loopback, testKey } from '../support/channel.js';
import {
  identityOf,
  openAll,
  type RawSession,
  unaryRecords,
  whole,
  framed,
} from '../support/raw-peer.js';

const asIs = (bytes: Buffer): Buffer => bytes;
const PATH = echoService.unary.path;

describe('interop: the channel and grpc-js', () => {
  it('a client of grpc-js shakes hands with our listener and makes a sealed call', async () => {
    const loop = await loopback();
    const address = `127.0.0.1:${loop.listener.port}`;
    const options = { 'grpc.use_local_subchannel_pool': 1, 'grpc.enable_retries': 0 };
    const client = new Client(address, credentials.createInsecure(), options);
    const handshake = initiateHandshake(loop.key, 'aes-256-gcm', systemRandom);
    const response = await new Promise<HandshakeResponse>((resolve, reject) => {
      const { path, requestSerialize, responseDeserialize } = HandshakeServiceService.handshake;
      client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        handshake.request,
        (error, value) => {
          if (error === null && value !== undefined) resolve(value);
          else reject(error ?? new Error('no answer'));
        },
      );
    });
    if (response.outcome?.$case !== 'accepted') throw new Error('refused');
    const { noiseMessage, sessionId } = response.outcome.value;
    const secrets = handshake.finish(noiseMessage);
    if (secrets === undefined) throw new Error('the receiver has not the key');
    const session: RawSession = { sessionId, secrets };
    const identity = identityOf(session, PATH, 1n);
    const metadata = new Metadata();
    metadata.set(SESSION_HEADER, sessionId);
    metadata.set(CALL_HEADER, Buffer.from([0, 0, 0, 0, 0, 0, 0, 1]));
    // the same connection: the session is bound to it
    const call = client.makeBidiStreamRequest(PATH, asIs, asIs, metadata);
    const answers: Buffer[] = [];
    call.on('data', (bytes: Buffer) => answers.push(bytes));
    const ended = new Promise<StatusObject>((resolve) => {
      call.on('status', resolve);
    });
    for (const record of unaryRecords(identity, Buffer.alloc(300_000, 5))) call.write(record);
    call.end();
    expect((await ended).code).to.equal(status.OK);
    const opened = openAll(identity, Buffer.concat(answers.map((bytes) => framed(bytes))));
    expect(opened.map(({ kind }) => kind)).to.deep.equal(['message', 'final']);
    expect(opened[0]?.bytes.equals(Buffer.alloc(300_000, 5))).to.equal(true);
    client.close();
    await loop.close();
  });

  it('our client is served by a server of grpc-js that knows the key', async () => {
    const key = testKey();
    const loop = await loopback({ key });
    const server = new Server();
    let session: RawSession | undefined;
    const handshakes: HandshakeServiceServer = {
      handshake: (call: { request: HandshakeRequest }, callback) => {
        const outcome = answerHandshake(call.request, {
          findKey: () => key,
          suites: ['aes-256-gcm'],
          dummy: key,
          random: systemRandom,
        });
        if (outcome.kind !== 'accepted') throw new Error('refused');
        const sessionId = systemRandom.fill(Buffer.alloc(16));
        session = { sessionId, secrets: outcome.secrets };
        const { noiseMessage } = outcome;
        callback(null, { outcome: { $case: 'accepted', value: { noiseMessage, sessionId } } });
      },
    };
    server.addService(HandshakeServiceService, handshakes);
    server.register(
      PATH,
      (call: ServerDuplexStream<Buffer, Buffer>) => {
        const [callId] = call.metadata.get(CALL_HEADER);
        if (session === undefined || !Buffer.isBuffer(callId)) throw new Error('no session');
        const identity = identityOf(session, PATH, callId.readBigUInt64BE(0));
        const opener = new RecordOpener(identity, 'c2s');
        const sealer = new RecordSealer(identity, Buffer.alloc(16, 9));
        call.on('data', (record: Buffer) => {
          const { kind, plaintext } = opener.open(record);
          if (kind === 'message') call.write(whole(sealer.seal('message', plaintext)));
          if (kind === 'final') call.write(whole(sealer.seal('final', encodeFinal(1, undefined))));
        });
        call.on('end', () => {
          call.end();
        });
      },
      asIs,
      asIs,
      'bidi',
    );
    const port = await new Promise<number>((resolve, reject) => {
      server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) => {
        if (error === null) resolve(bound);
        else reject(error);
      });
    });
    const client = (await loop.connect({ port })).client(echoService);
    expect((await client.unary(Buffer.from('over grpc-js'))).toString()).to.equal('over grpc-js');
    const large = Buffer.alloc(1 << 20, 3);
    expect((await client.unary(large)).equals(large)).to.equal(true);
    server.forceShutdown();
    await loop.close();
  });
});
