// How a command reaches a store: through the receiver that runs on it (--dr-host, --dr-port,
// --psk-file), or directly when none does (--store). Either way the command sees the same service.

import path from 'node:path';
import type { Command } from 'commander';
import { Receiver } from '../dr-receiver/index.js';
import { controlHandlers, replicationHandlers } from '../dr-receiver/index.js';
import {
  type Caller,
  connectDirectly,
  controlService,
  type KeyRing,
  loadKey,
  loadKeyRing,
  replicationService,
} from '../shared/channel/index.js';
import { DrError } from '../shared/errors.js';
import { silentLog } from '../shared/log.js';
import { connectOperator, type OperatorAccess } from '../shared/operator/receiver-access.js';
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

export type ReceiverAccess = OperatorAccess;

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
  const { files: fs, environment, folder } = context;
  await context.keepSecrets();
  const reference = /^(env|file):/.test(pskFile) ? pskFile : path.resolve(folder, pskFile);
  const key = await loadKey(reference, { fs, environment, log: await context.log() });
  const port = parsePort(drPort ?? String(DEFAULT_PORT), '--dr-port');
  const tls = await clientTlsOfFlags(flags, context);
  return connectOperator({ host: drHost, port, key, tls }, context);
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
