// The wire format, judged by a second reader: @grpc/proto-loader reads the .proto files on its own
// and must understand what our generated code writes, and the other way round.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  Client,
  type MethodDefinition,
  Server,
  ServerCredentials,
  credentials,
} from '@grpc/grpc-js';
import { type PackageDefinition, loadSync } from '@grpc/proto-loader';
import { expect } from 'chai';
import {
  CipherSuite,
  HandshakeRequest,
  HandshakeResponse,
  HandshakeServiceService,
} from '../../shared/channel/gen/podheitor/dr/v1/handshake.js';
import { defined } from '../../shared/assert.js';
import { checkoutFolder } from '../support/checkout.js';

const GENERATED = 'podheitor/dr/v1/handshake.ts';

/** Plain values as the second reader sees them, with the field names of the .proto files. */
type Loose = Readonly<Record<string, unknown>>;

function secondReader(): MethodDefinition<Loose, Loose> {
  const loaded: PackageDefinition = loadSync('podheitor/dr/v1/handshake.proto', {
    includeDirs: [join(checkoutFolder, 'proto')],
    keepCase: true,
    longs: String,
    enums: String,
    defaults: true,
    oneofs: true,
  });
  const service = defined(loaded['podheitor.dr.v1.HandshakeService'], 'the service is in the file');
  if ('format' in service) throw new Error('HandshakeService is not a service');
  // a service definition maps names to methods; the loader types the messages as plain objects
  return defined(
    (service as Readonly<Record<string, MethodDefinition<Loose, Loose>>>)['Handshake'],
    'the method is in the service',
  );
}

const REQUEST: HandshakeRequest = {
  version: 1,
  supported: { oldest: 1, newest: 65_535 },
  suite: CipherSuite.CIPHER_SUITE_CHACHA20_POLY1305,
  keyId: 'k-2026',
  principal: 'hyperv-köln-01',
  noiseMessage: Buffer.from(Array.from({ length: 48 }, (_, index) => index)),
};

const LOOSE_REQUEST: Loose = {
  version: 1,
  supported: { oldest: 1, newest: 65_535 },
  suite: 'CIPHER_SUITE_CHACHA20_POLY1305',
  key_id: 'k-2026',
  principal: 'hyperv-köln-01',
  noise_message: REQUEST.noiseMessage,
};

const ANSWERS: readonly { name: string; generated: HandshakeResponse; loose: Loose }[] = [
  {
    name: 'accepted',
    generated: {
      outcome: {
        $case: 'accepted',
        value: { noiseMessage: Buffer.alloc(48, 7), sessionId: Buffer.alloc(8, 9) },
      },
    },
    loose: { noise_message: Buffer.alloc(48, 7), session_id: Buffer.alloc(8, 9) },
  },
  {
    name: 'version_refused',
    generated: {
      outcome: { $case: 'versionRefused', value: { supported: { oldest: 2, newest: 3 } } },
    },
    loose: { supported: { oldest: 2, newest: 3 } },
  },
  { name: 'refused', generated: { outcome: { $case: 'refused', value: {} } }, loose: {} },
];

describe('protocol messages', () => {
  const reader = secondReader();

  it('are generated from the .proto files as they are now', function () {
    if (process.platform !== 'linux') this.skip();
    const folder = mkdtempSync(join(tmpdir(), 'hvdr-proto-'));
    try {
      const run = spawnSync(process.execPath, ['bin/bootstrap.mjs', 'proto', '--out', folder], {
        cwd: checkoutFolder,
        encoding: 'utf8',
      });
      expect(run.status, run.stderr).to.equal(0);
      expect(
        readFileSync(join(folder, GENERATED), 'utf8'),
        'run `npm run proto` and commit the result',
      ).to.equal(readFileSync(join(checkoutFolder, 'shared/channel/gen', GENERATED), 'utf8'));
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('of the generated writer are understood by the second reader', () => {
    const bytes = Buffer.from(HandshakeRequest.encode(REQUEST).finish());
    expect(reader.requestDeserialize(bytes)).to.deep.equal(LOOSE_REQUEST);
  });

  it('of the second writer are understood by the generated reader', () => {
    const bytes = reader.requestSerialize(LOOSE_REQUEST);
    expect(HandshakeRequest.decode(bytes)).to.deep.equal(REQUEST);
  });

  for (const { name, generated, loose } of ANSWERS) {
    it(`carry the outcome "${name}" both ways`, () => {
      const bytes = Buffer.from(HandshakeResponse.encode(generated).finish());
      expect(reader.responseDeserialize(bytes)).to.deep.equal({ outcome: name, [name]: loose });
      const back = HandshakeResponse.decode(reader.responseSerialize({ [name]: loose }));
      expect(back).to.deep.equal(generated);
    });
  }

  it('reach a generated server from a client that knows the .proto files only', async () => {
    const server = new Server();
    server.addService(HandshakeServiceService, {
      handshake(
        call: { request: HandshakeRequest },
        answer: (error: null, response: HandshakeResponse) => void,
      ) {
        answer(null, {
          outcome: {
            $case: 'accepted',
            value: { noiseMessage: call.request.noiseMessage, sessionId: Buffer.alloc(8, 1) },
          },
        });
      },
    });
    const port = await new Promise<number>((resolve, reject) => {
      server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) => {
        if (error === null) resolve(bound);
        else reject(error);
      });
    });
    const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
    try {
      const response = await new Promise<Loose | undefined>((resolve, reject) => {
        client.makeUnaryRequest(
          reader.path,
          reader.requestSerialize,
          reader.responseDeserialize,
          LOOSE_REQUEST,
          (error, value) => {
            if (error === null) resolve(value);
            else reject(error);
          },
        );
      });
      expect(response).to.deep.equal({
        outcome: 'accepted',
        accepted: { noise_message: REQUEST.noiseMessage, session_id: Buffer.alloc(8, 1) },
      });
    } finally {
      client.close();
      server.forceShutdown();
    }
  });
});
