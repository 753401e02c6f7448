// Puts the services of a receiver on the network. No logic: the channel knows who calls, the handlers
// know what it means.

import {
  type AdminListener,
  type ChannelListener,
  controlService,
  type KeyRing,
  listen,
  listenAdmin,
  type ListenOptions,
  replicationService,
  siteService,
  type TlsMaterial,
} from '../shared/channel/index.js';
import { siteHandlers } from './attach/site-service.js';
import { controlHandlers } from './control-service.js';
import { type ScrubOptions, startScrub } from './maintenance/scrub.js';
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
  /** Reads the store back in the background. Default: not at all. */
  readonly scrub?: ScrubOptions | undefined;
  /** Health and reflection for monitoring, on loopback. Default: none. */
  readonly admin?: { readonly host: string; readonly port: number } | undefined;
}

export interface ServedReceiver {
  readonly host: string;
  readonly port: number;
  /** Where health and reflection are served. */
  readonly admin: { readonly host: string; readonly port: number } | undefined;
  /** Ends at a safe point: calls get a short while, what they brought is durable, nothing is torn. */
  close(): Promise<void>;
}

/** Calls under way get so long when a receiver stops. */
const GRACE_MS = 2000;

/** @throws DrError E_PARAMETER (an admin address beyond loopback), E_IO when the address cannot be listened on */
export async function serveReceiver(
  receiver: Receiver,
  options: ServeOptions,
): Promise<ServedReceiver> {
  const { seams, log, store } = receiver;
  const { admin: adminAddress, scrub: scrubOptions, ...address } = options;
  const admin = adminAddress && (await listenAdmin({ ...adminAddress, log }));
  const listener = await listenOrClose(admin, {
    ...address,
    clock: seams.clock,
    random: seams.random,
    log,
    services: [
      { definition: replicationService, handlers: replicationHandlers(receiver) },
      { definition: controlService, handlers: controlHandlers(receiver) },
      { definition: siteService, handlers: siteHandlers(receiver) },
    ],
  });
  const { host, port } = listener;
  const scrub = scrubOptions && startScrub(receiver, scrubOptions);
  log.info('receiver.listening', { host, port, store: store.layout.folder });
  // while it serves already; whoever needs them all finds out what went wrong
  void receiver.failovers.resumeAll().catch(() => undefined);
  return {
    host,
    port,
    admin: admin && { host: admin.host, port: admin.port },
    close: async () => {
      admin?.setServing(false);
      // their agents would hold them open until the grace is over
      receiver.sources.close();
      await listener.close(GRACE_MS);
      await scrub?.stop();
      await receiver.close();
      await admin?.close();
      log.info('receiver.stopped');
    },
  };
}

async function listenOrClose(
  admin: AdminListener | undefined,
  options: ListenOptions,
): Promise<ChannelListener> {
  try {
    return await listen(options);
  } catch (error) {
    await admin?.close();
    throw error;
  }
}
