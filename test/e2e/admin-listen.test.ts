// `hvdr receiver --admin-listen` as monitoring sees it: a client that @grpc/proto-loader makes asks
// a real receiver process for its health and for the shape of its services.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type Client, credentials, loadPackageDefinition } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { expect } from 'chai';
import { checkoutFolder } from '../support/checkout.js';
import { runHvdr } from '../support/cli.js';
import { HvdrProcess } from '../support/hvdr-process.js';
import { WorkFolder } from '../support/work-folder.js';

const HEALTH = 'grpc.health.v1.Health';
const REFLECTION = 'grpc.reflection.v1.ServerReflection';
const READY = /^listening 127\.0\.0\.1:(\d+)\nadmin (127\.0\.0\.1:\d+)\n/;

type Check = (
  request: { readonly service: string },
  answer: (error: Error | null, value: unknown) => void,
) => void;

interface Reflecting {
  ServerReflectionInfo(): {
    on(event: 'data', take: (value: unknown) => void): void;
    on(event: 'error', take: (error: Error) => void): void;
    write(value: object): void;
    end(): void;
  };
}

const loaded = loadPackageDefinition(
  loadSync(['grpc/health/v1/health.proto', 'grpc/reflection/v1/reflection.proto'], {
    includeDirs: [join(checkoutFolder, 'proto')],
    keepCase: true,
    enums: String,
  }),
);

/** A client of the service with this full name. */
function clientOf(service: string, address: string): Client {
  let node: unknown = loaded;
  for (const part of service.split('.')) node = (node as Readonly<Record<string, unknown>>)[part];
  const Made = node as new (address: string, creds: unknown) => Client;
  return new Made(address, credentials.createInsecure());
}

describe('hvdr receiver --admin-listen', () => {
  const work = new WorkFolder('admin-listen');
  const key = work.file('source.psk');
  let receiver: HvdrProcess | undefined;
  const clients: Client[] = [];

  before(async () => {
    const made = await runHvdr(['psk', 'generate', '--out', key, '--principal', 'primary']);
    expect(made.code, made.stderr).to.equal(0);
  });

  after(async () => {
    for (const client of clients) client.close();
    await receiver?.stop('SIGKILL');
    work.dispose();
  });

  const argumentsFor = (store: string, admin: string): string[] => [
    ...['receiver', '--store', work.file(store), '--listen', '127.0.0.1:0'],
    ...['--psk-file', key, '--admin-listen', admin],
  ];

  it('answers health checks and reflection, and ends with the receiver', async () => {
    receiver = new HvdrProcess(argumentsFor('store', '127.0.0.1:0'));
    const address = (await receiver.until(READY))[2] ?? '';
    const health = clientOf(HEALTH, address);
    clients.push(health);
    const status = await new Promise<unknown>((resolve, reject) => {
      (health as unknown as { Check: Check }).Check({ service: '' }, (error, value) => {
        if (error === null) resolve(value);
        else reject(error);
      });
    });
    expect(status).to.deep.include({ status: 'SERVING' });

    const reflection = clientOf(REFLECTION, address);
    clients.push(reflection);
    const stream = (reflection as unknown as Reflecting).ServerReflectionInfo();
    const answer = await new Promise<unknown>((resolve, reject) => {
      stream.on('data', resolve);
      stream.on('error', reject);
      stream.write({ list_services: '' });
    });
    stream.end();
    const { service } = (answer as { list_services_response: { service: { name: string }[] } })
      .list_services_response;
    expect(service.map(({ name }) => name)).to.include.members([
      HEALTH,
      'podheitor.dr.v1.ReplicationService',
      'podheitor.dr.v1.ControlService',
    ]);
    expect((await receiver.stop('SIGTERM')).code).to.equal(143);
  });

  it('refuses an address that others than this machine reach, before it touches the store', async () => {
    for (const address of ['0.0.0.0:0', '[::]:0', '192.0.2.7:9848']) {
      const run = await runHvdr(argumentsFor('untouched', address));
      expect(run.code, address).to.equal(2);
      expect(run.stderr, address).to.match(/^E_PARAMETER: --admin-listen wants a loopback address/);
      expect(run.stderr).to.contain('Use 127.0.0.1:PORT');
      expect(existsSync(work.file('untouched'))).to.equal(false);
    }
  });
});
