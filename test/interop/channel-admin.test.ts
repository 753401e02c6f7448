// Health and reflection, asked by a client that knows nothing but what reflection tells it:
// @grpc/proto-loader builds its services from the descriptors.

import { join } from 'node:path';
import { type Client, credentials, loadPackageDefinition, type ServiceError } from '@grpc/grpc-js';
import {
  loadFileDescriptorSetFromBuffer,
  loadSync,
  type PackageDefinition,
} from '@grpc/proto-loader';
import { expect } from 'chai';
import { type AdminListener, listenAdmin } from '../../shared/channel/index.js';
import { PROTO_FILES } from '../../shared/channel/gen/descriptors.js';
import { silentLog } from '../../shared/log.js';
import { checkoutFolder } from '../support/checkout.js';
import { until } from '../support/raw-peer.js';
import { refusal } from '../support/refusal.js';

const NAMES = PROTO_FILES.map(({ name }) => name);

interface Stream {
  on(event: 'data', take: (value: unknown) => void): void;
  on(event: 'error', take: (error: Error) => void): void;
  on(event: 'end', take: () => void): void;
  write(value: unknown): void;
  end(): void;
  cancel(): void;
}

type Unary = (
  request: unknown,
  answer: (error: ServiceError | null, value: unknown) => void,
) => void;

/** A client of a service by its full name. */
function dynamicClient(loaded: PackageDefinition, service: string, port: number): Client {
  let node: unknown = loadPackageDefinition(loaded);
  for (const part of service.split('.')) node = (node as Readonly<Record<string, unknown>>)[part];
  const Constructor = node as new (address: string, creds: unknown) => Client;
  return new Constructor(`127.0.0.1:${port}`, credentials.createInsecure());
}

function fromProtoFiles(): PackageDefinition {
  return loadSync(NAMES, { includeDirs: [join(checkoutFolder, 'proto')], keepCase: true });
}

/** Field 1 of a FileDescriptorSet for each file. */
function descriptorSet(files: readonly Buffer[]): Buffer {
  return Buffer.concat(
    files.flatMap((file) => {
      const length: number[] = [];
      for (let rest = file.length; ; rest >>>= 7) {
        length.push(rest > 127 ? (rest & 127) | 128 : rest);
        if (rest <= 127) break;
      }
      return [Buffer.from([10, ...length]), file];
    }),
  );
}

describe('interop: health and reflection', () => {
  let admin: AdminListener;
  const clients: Client[] = [];

  beforeEach(async () => {
    admin = await listenAdmin({ host: '127.0.0.1', port: 0, log: silentLog });
  });

  afterEach(async () => {
    for (const client of clients.splice(0)) client.close();
    await admin.close();
  });

  function client(loaded: PackageDefinition, service: string): Client {
    const made = dynamicClient(loaded, service, admin.port);
    clients.push(made);
    return made;
  }

  function ask(questions: readonly object[]): Promise<unknown[]> {
    const reflection = client(fromProtoFiles(), 'grpc.reflection.v1.ServerReflection');
    const stream = (
      reflection as unknown as { ServerReflectionInfo(): Stream }
    ).ServerReflectionInfo();
    return new Promise((resolve, reject) => {
      const answers: unknown[] = [];
      stream.on('data', (answer) => answers.push(answer));
      stream.on('error', reject);
      stream.on('end', () => {
        resolve(answers);
      });
      for (const question of questions) stream.write(question);
      stream.end();
    });
  }

  it('reflection lists every service', async () => {
    const [answer] = await ask([{ list_services: '' }]);
    const { service } = (answer as { list_services_response: { service: { name: string }[] } })
      .list_services_response;
    expect(service.map(({ name }) => name).sort()).to.deep.equal([
      'grpc.health.v1.Health',
      'grpc.reflection.v1.ServerReflection',
      'podheitor.dr.v1.ControlService',
      'podheitor.dr.v1.HandshakeService',
      'podheitor.dr.v1.ReplicationService',
      'podheitor.dr.v1.SiteService',
    ]);
  });

  it('a client made of reflection alone checks and watches the health', async () => {
    const [answer] = await ask([{ file_containing_symbol: 'grpc.health.v1.Health.Check' }]);
    const { file_descriptor_proto: files } = (
      answer as { file_descriptor_response: { file_descriptor_proto: Buffer[] } }
    ).file_descriptor_response;
    const loaded = loadFileDescriptorSetFromBuffer(descriptorSet(files), { enums: String });
    const health = client(loaded, 'grpc.health.v1.Health');
    const check = (service: string): Promise<unknown> =>
      new Promise((resolve, reject) => {
        (health as unknown as { Check: Unary }).Check({ service }, (error, value) => {
          if (error === null) resolve(value);
          else reject(error);
        });
      });
    expect(await check('')).to.deep.include({ status: 'SERVING' });
    expect(await check('podheitor.dr.v1.ReplicationService')).to.deep.include({
      status: 'SERVING',
    });
    let code: number | undefined;
    await check('no.Such').catch((error: unknown) => {
      code = (error as ServiceError).code;
    });
    expect(code).to.equal(5);
    const seen: unknown[] = [];
    const watch = (health as unknown as { Watch(request: unknown): Stream }).Watch({
      service: '',
    });
    watch.on('error', () => undefined);
    watch.on('data', (value) => seen.push((value as { status: unknown }).status));
    await until(() => seen.length === 1, 'the first state');
    admin.setServing(false);
    await until(() => seen.length === 2, 'the second state');
    expect(seen).to.deep.equal(['SERVING', 'NOT_SERVING']);
    expect(await check('')).to.deep.include({ status: 'NOT_SERVING' });
    watch.cancel();
  });

  it('a file comes with all that it imports, an unknown one is not found', async () => {
    const answers = await ask([
      { file_by_filename: 'podheitor/dr/v1/control.proto' },
      { file_containing_symbol: 'podheitor.dr.v1.DiskGeometry' },
      { file_by_filename: '../../etc/passwd' },
      { file_containing_symbol: 'no.Such' },
      { file_containing_extension: { containing_type: 'x', extension_number: 1 } },
      {},
    ]);
    const counts = answers.map((answer) => {
      const { file_descriptor_response: files, error_response: error } = answer as {
        file_descriptor_response?: { file_descriptor_proto: Buffer[] };
        error_response?: { error_code: number };
      };
      return files?.file_descriptor_proto.length ?? -(error?.error_code ?? 0);
    });
    expect(counts).to.deep.equal([2, 1, -5, -5, -5, -5]);
  });

  it('the descriptors are those of the .proto files as they are now', () => {
    const files = PROTO_FILES.map(({ base64 }) => Buffer.from(base64, 'base64'));
    const compiled = loadFileDescriptorSetFromBuffer(descriptorSet(files), { keepCase: true });
    const read = fromProtoFiles();
    const shapes = (loaded: PackageDefinition): unknown =>
      Object.fromEntries(
        Object.entries(loaded)
          .filter(([, value]) => !('type' in value) || !('format' in value))
          .map(([name, value]) => [
            name,
            Object.entries(value as Readonly<Record<string, object>>).map(([method, definition]) =>
              JSON.stringify([method, fieldsOf(definition)]),
            ),
          ]),
      );
    expect(shapes(compiled)).to.deep.equal(shapes(read));
    expect(Object.keys(shapes(read) as object)).to.have.length(6);
  });

  it('listens on loopback and nowhere else', async () => {
    for (const host of ['0.0.0.0', '::', '192.0.2.1', 'example.com', '']) {
      const error = await refusal(() => listenAdmin({ host, port: 0, log: silentLog }));
      expect(error.code, host).to.equal('E_PARAMETER');
    }
    for (const host of ['localhost', '127.0.0.9']) {
      await (await listenAdmin({ host, port: 0, log: silentLog })).close();
    }
    const taken = await refusal(() =>
      listenAdmin({ host: '127.0.0.1', port: admin.port, log: silentLog }),
    );
    expect(taken.code).to.equal('E_IO');
  });
});

/** Path, streaming and the fields of both messages, however the loader numbers its objects. */
function fieldsOf(definition: object): unknown {
  const { path, requestStream, responseStream, requestType, responseType } = definition as Readonly<
    Record<string, unknown>
  >;
  const fields = (type: unknown): unknown =>
    (
      type as { type: { field: { name: string; number: number; type: string; label: string }[] } }
    ).type.field
      .map(({ name, number, type: kind, label }) => [name, number, kind, label])
      .sort((a, b) => Number(a[1]) - Number(b[1]));
  return [path, requestStream, responseStream, fields(requestType), fields(responseType)];
}
