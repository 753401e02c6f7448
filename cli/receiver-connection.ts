// How a command reaches a store: through the receiver that runs on it (--dr-host, --dr-port,
// --psk-file), or directly when none does (--store). Either way the command sees the same service.

import path from 'node:path';
import type { Command } from 'commander';
import { Receiver } from '../dr-receiver/index.js';
import { controlHandlers, replicationHandlers } from '../dr-receiver/index.js';
import {
  type Caller,
  connect,
  connectDirectly,
  type ControlService,
  controlService,
  type KeyRing,
  loadKey,
  loadKeyRing,
  type ReplicationService,
  replicationService,
  type ServiceClient,
} from '../shared/channel/index.js';
import { DrError } from '../shared/errors.js';
import { silentLog } from '../shared/log.js';
import type { CliContext } from './context.js';
import { productVersion } from './product-version.js';
import { openSiteHost } from './site-host.js';
import { clientTlsOfFlags, type TlsFlags, withTlsOptions } from './tls.js';

export const DEFAULT_PORT = 9847;

export interface AccessFlags extends TlsFlags {
  readonly drHost?: string;
  readonly drPort?: string;
  readonly pskFile?: string;
  readonly store?: string | undefined;
  /** With `store`: the hypervisor of the DR site, for commands that bring up a VM there. */
  readonly siteHost?: string | undefined;
}

export interface ReceiverAccess {
  readonly control: ServiceClient<ControlService>;
  /** What a source may ask, as an operator: for any VM. */
  readonly replication: ServiceClient<ReplicationService>;
  /** For error messages: the store's folder or the receiver's address. */
  readonly place: string;
  close(): Promise<void>;
}

/** Adds the options by which a command is told where the store is. */
export function withAccessOptions(command: Command): Command {
  command
    .option('--dr-host <host>', 'the receiver to ask')
    .option('--dr-port <port>', `its port (default: ${DEFAULT_PORT})`)
    .option('--psk-file <file>', 'key for it: a file, or env:NAME');
  return withTlsOptions(command).option(
    '--store <dir>',
    'work on the store itself, while no receiver runs on it',
  );
}

/** Whoever can open the store's files is its operator. */
const LOCAL: Caller = {
  principal: 'local operator',
  keyId: 'none',
  role: 'operator',
  vmPattern: '',
  address: 'local',
};

/** @throws DrError E_USAGE */
export function parsePort(text: string, what: string): number {
  const port = Number(text);
  if (/^\d{1,5}$/.test(text) && port <= 65_535) return port;
  throw new DrError('E_USAGE', `${what} "${text}" is not a port`, {
    hint: 'Ports are numbers from 0 to 65535.',
  });
}

/**
 * Opens the way to the store. `use` says whether a command changes anything in it: those that do not
 * can work on one store at the same time.
 * @throws DrError E_USAGE, E_LOCKED, E_SOURCE_UNREACHABLE, E_AUTH, E_TLS, …
 */
export async function openAccess(
  context: CliContext,
  flags: AccessFlags,
  use: 'read' | 'write',
): Promise<ReceiverAccess> {
  const { drHost, drPort, pskFile, store, siteHost } = flags;
  if (store !== undefined) {
    if (drHost !== undefined || drPort !== undefined) {
      throw new DrError('E_USAGE', 'either --store or --dr-host says where the store is, not both');
    }
    return openLocally(context, store, use, { pskFile, siteHost });
  }
  if (drHost === undefined || pskFile === undefined) {
    throw new DrError('E_USAGE', 'the command is not told where the store is', {
      hint: 'Give --dr-host HOST --psk-file FILE, or --store DIR when no receiver runs on it.',
    });
  }
  const { files: fs, clock, environment, folder, random } = context;
  const log = await context.log();
  await context.keepSecrets();
  const reference = /^(env|file):/.test(pskFile) ? pskFile : path.resolve(folder, pskFile);
  const key = await loadKey(reference, { fs, environment, log });
  const port = parsePort(drPort ?? String(DEFAULT_PORT), '--dr-port');
  const tls = await clientTlsOfFlags(flags, context);
  const connection = await connect({
    ...{ host: drHost, port, key, tls, clock, random, log, isLazy: true },
  });
  return {
    control: connection.client(controlService),
    replication: connection.client(replicationService),
    place: `${drHost}:${port}`,
    close: () => connection.close(),
  };
}

async function openLocally(
  context: CliContext,
  store: string,
  use: 'read' | 'write',
  { pskFile, siteHost }: { pskFile: string | undefined; siteHost: string | undefined },
): Promise<ReceiverAccess> {
  const { files: fs, clock, folder, random } = context;
  const storeFolder = path.resolve(folder, store);
  if ((await fs.status(path.join(storeFolder, 'lock'))) === undefined) {
    throw new DrError('E_NOT_FOUND', `${store} is no store`, {
      context: { path: storeFolder },
      hint: 'Name the folder that `hvdr receiver --store` works on.',
    });
  }
  const seedAccess = { folder: undefined, keys: await localKeys(context, pskFile) };
  const seams = { fs, clock, random, log: silentLog };
  const failover =
    siteHost === undefined ? undefined : { host: await openSiteHost(siteHost, context) };
  const programVersion = productVersion();
  const options = { ...seams, storeFolder, use, seedAccess, failover, programVersion };
  const receiver = await Receiver.open(options);
  return {
    control: connectDirectly(controlService, controlHandlers(receiver), LOCAL),
    replication: connectDirectly(replicationService, replicationHandlers(receiver), LOCAL),
    place: store,
    close: () => receiver.close(),
  };
}

/** Keys that a medium may be sealed with; the store itself asks for none. */
async function localKeys(
  context: CliContext,
  pskFile: string | undefined,
): Promise<KeyRing | undefined> {
  if (pskFile === undefined) return undefined;
  const { files: fs, environment, folder } = context;
  await context.keepSecrets();
  const reference = /^(env|file):/.test(pskFile) ? pskFile : path.resolve(folder, pskFile);
  return loadKeyRing([reference], { fs, environment, log: await context.log() });
}

/** Runs `work` with the way open, and closes it. */
export async function withAccess<T>(
  context: CliContext,
  flags: AccessFlags,
  use: 'read' | 'write',
  work: (access: ReceiverAccess) => Promise<T>,
): Promise<T> {
  const access = await openAccess(context, flags, use);
  try {
    return await work(access);
  } finally {
    await access.close();
  }
}

/**
 * An answer that comes in pages, together: what the last page says, and the items of all.
 * @throws DrError E_PROTOCOL when a page is missing
 */
export async function allPages<R, P, T>(
  responses: AsyncIterable<R>,
  pageOf: (response: R) => P | undefined,
  itemsOf: (page: P) => readonly T[],
): Promise<{ readonly page: P; readonly items: readonly T[] }> {
  let last: P | undefined;
  const items: T[] = [];
  for await (const response of responses) {
    last = pageOf(response);
    if (last === undefined) break;
    items.push(...itemsOf(last));
  }
  if (last !== undefined) return { page: last, items };
  throw new DrError('E_PROTOCOL', 'the receiver answered without a page');
}
