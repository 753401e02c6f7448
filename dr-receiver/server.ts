// Puts the services of a receiver on the network. No logic: the channel knows who calls, the handlers
// know what it means.

import {
  controlService,
  type KeyRing,
  listen,
  replicationService,
  type TlsMaterial,
} from '../shared/channel/index.js';
import { controlHandlers } from './control-service.js';
import type { Receiver } from './receiver.js';
import { replicationHandlers } from './replication-service.js';

export interface ServeOptions {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  readonly keys: KeyRing;
  readonly tls?: TlsMaterial | undefined;
  /** Networks (CIDR) from which operator keys are accepted besides loopback. */
  readonly operatorNetworks?: readonly string[] | undefined;
}

export interface ServedReceiver {
  readonly host: string;
  readonly port: number;
  /** Ends at a safe point: calls get a short while, what they brought is durable, nothing is torn. */
  close(): Promise<void>;
}

/** Calls under way get so long when a receiver stops. */
const GRACE_MS = 2000;

/** @throws DrError E_IO when the address cannot be listened on */
export async function serveReceiver(
  receiver: Receiver,
  options: ServeOptions,
): Promise<ServedReceiver> {
  const { seams, log, store } = receiver;
  const listener = await listen({
    ...options,
    clock: seams.clock,
    random: seams.random,
    log,
    services: [
      { definition: replicationService, handlers: replicationHandlers(receiver) },
      { definition: controlService, handlers: controlHandlers(receiver) },
    ],
  });
  const { host, port } = listener;
  log.info('receiver.listening', { host, port, store: store.layout.folder });
  return {
    host,
    port,
    close: async () => {
      await listener.close(GRACE_MS);
      await receiver.close();
      log.info('receiver.stopped');
    },
  };
}
