// The fake host for programs: what fake-powershell.ts asks it comes over a loopback connection, one JSON text a line. Each
// program has a connection; the host, its VMs and its troubles are one, as on a real machine.

import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { DrError } from '../../../shared/errors.js';
import type { Arguments } from '../../../shared/hypervisor/hyperv/powershell/operation.js';
import type { FakeHyperVHost } from './host.js';

/** What an ErrorRecord of the scripts holds (host.ps1). */
interface Failure {
  readonly message: string;
  readonly category: string;
  readonly fqid: string;
  readonly hresult: number;
}

/** What comes back for one operation. `end`: the program ends instead of answering. */
export type ServiceAnswer =
  | { readonly result: Readonly<Record<string, unknown>> }
  | { readonly failure: Failure }
  | { readonly end: true };

/** COR_E_INVALIDOPERATION */
const INVALID_OPERATION = 0x8013_1509;

export class HostService {
  readonly port: number;
  /** Of the fake itself: it was asked what it cannot do, or answered in a shape that is not recorded. */
  readonly mistakes: string[] = [];
  readonly #fake: FakeHyperVHost;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(fake: FakeHyperVHost, server: Server) {
    this.#fake = fake;
    this.#server = server;
    this.port = (server.address() as AddressInfo).port;
    server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
      socket.on('error', () => undefined);
      void this.#serve(socket);
    });
  }

  static async start(fake: FakeHyperVHost): Promise<HostService> {
    const server = createServer();
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(0, '127.0.0.1', resolve);
    });
    return new HostService(fake, server);
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #serve(socket: Socket): Promise<void> {
    for await (const line of createInterface({ input: socket })) {
      // our own program
      const { op, args } = JSON.parse(line) as { readonly op: string; readonly args: Arguments };
      socket.write(`${JSON.stringify(await this.#answer(op, args))}\n`);
    }
  }

  async #answer(op: string, args: Arguments): Promise<ServiceAnswer> {
    if (op === 'host.ping') return { result: { done: 'yes' } };
    const { hostDies } = this.#fake.trouble;
    const when = hostDies.get(op);
    hostDies.delete(op);
    if (when === 'before') return { end: true };
    try {
      const result = await this.#fake.answer(op, args);
      return when === 'after' ? { end: true } : { result };
    } catch (error) {
      if (!(error instanceof DrError)) this.mistakes.push(`${op}: ${String(error)}`);
      return { failure: failureOf(error) };
    }
  }
}

/** As the scripts shape it: what is missing by its category, everything else as a cmdlet refuses. */
function failureOf(error: unknown): Failure {
  const message = error instanceof Error ? error.message : String(error);
  const isMissing = error instanceof DrError && error.code === 'E_NOT_FOUND';
  return {
    message,
    category: isMissing ? 'ObjectNotFound' : 'InvalidOperation',
    fqid: isMissing ? 'HvdrNotFound' : 'InvalidState,Microsoft.HyperV.PowerShell.Commands',
    hresult: INVALID_OPERATION,
  };
}
