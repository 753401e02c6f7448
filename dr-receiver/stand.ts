// A receiver from its keys to its end: what `hvdr receiver` is, and a job of Bacula that is one.

import path from 'node:path';
import { loadKeyRing, loadTls, type TlsMaterial } from '../shared/channel/index.js';
import { DrError } from '../shared/errors.js';
import type { Surroundings } from '../shared/surroundings.js';
import { type FailoverOptions, Receiver } from './receiver.js';
import type { ReceiverSettings } from './receiver-settings.js';
import { serveReceiver, type ServedReceiver } from './server.js';

/** Where a receiver finds things; relative paths start at the folder of the surroundings. */
export interface ReceiverPlaces {
  readonly store: string;
  /** Files, folders of files, `env:NAME`. */
  readonly keys: readonly string[];
  readonly operatorNetworks?: readonly string[] | undefined;
  readonly tlsCertificate?: string | undefined;
  readonly tlsKey?: string | undefined;
  /** Of the certificates that peers must show. */
  readonly tlsClientAuthority?: string | undefined;
  readonly seedFolder?: string | undefined;
  readonly scriptFolder?: string | undefined;
}

export interface StandSeams {
  readonly signal: AbortSignal;
  readonly programVersion: string;
  /** Opens the hypervisor of this site, which is closed with the receiver. Default: there is none. */
  readonly openHost?: (() => Promise<FailoverOptions['host']>) | undefined;
  readonly onListening: (served: ServedReceiver) => void;
}

/**
 * Serves until the signal aborts, then ends at a safe point: what was acknowledged is durable.
 * @throws DrError E_USAGE, E_NOT_FOUND, E_KEY_FILE, E_TLS, E_LOCKED, E_IO, …, before it serves
 */
export async function standReceiver(
  settings: ReceiverSettings,
  places: ReceiverPlaces,
  surroundings: Surroundings,
  { signal, programVersion, openHost, onListening }: StandSeams,
): Promise<void> {
  const { files: fs, clock, environment, folder, random } = surroundings;
  const { host, port, admin, policy, scrub } = settings;
  const log = await surroundings.log();
  const resolved = (name: string | undefined): string | undefined =>
    name === undefined ? undefined : path.resolve(folder, name);
  await surroundings.keepSecrets();
  const files = places.keys.map((file) =>
    file.startsWith('env:') ? file : path.resolve(folder, file.replace(/^file:/, '')),
  );
  const keys = await loadKeyRing(files, { fs, environment, log });
  const tls = await serverTls(places, surroundings);
  const seedFolder = resolved(places.seedFolder);
  const seedAccess = seedFolder === undefined ? undefined : { folder: seedFolder, keys };
  await requireFolder(surroundings, seedFolder);
  const scriptFolder = resolved(places.scriptFolder);
  const failover = openHost === undefined ? undefined : { host: await openHost(), scriptFolder };
  const storeFolder = path.resolve(folder, places.store);
  const seams = { fs, clock, random, log };
  let receiver: Receiver;
  try {
    receiver = await Receiver.open({
      ...seams,
      ...{ storeFolder, policy, seedAccess, failover, programVersion },
    });
  } catch (error) {
    await failover?.host.close();
    throw error;
  }
  let served: ServedReceiver;
  try {
    const { operatorNetworks } = places;
    const options = { host, port, keys, tls, operatorNetworks, admin, scrub };
    served = await serveReceiver(receiver, options);
  } catch (error) {
    await receiver.close();
    throw error;
  }
  receiver.maintenance.start();
  onListening(served);
  await aborted(signal);
  await served.close();
}

/** @throws DrError E_USAGE, E_NOT_FOUND, E_KEY_FILE, E_TLS */
async function serverTls(
  { tlsCertificate, tlsKey, tlsClientAuthority }: ReceiverPlaces,
  { files, folder }: Surroundings,
): Promise<TlsMaterial | undefined> {
  if (tlsCertificate === undefined && tlsKey === undefined && tlsClientAuthority === undefined) {
    return undefined;
  }
  if (tlsCertificate === undefined || tlsKey === undefined) {
    throw new DrError('E_USAGE', 'TLS needs a certificate and its key', {
      hint:
        'Give --tls-cert FILE and --tls-key FILE; --tls-client-ca FILE as well for mTLS. In backend.conf ' +
        'they are receiver_tls_cert, receiver_tls_key and receiver_tls_client_ca.',
    });
  }
  return loadTls(
    {
      certificate: path.resolve(folder, tlsCertificate),
      privateKey: path.resolve(folder, tlsKey),
      certificateAuthority:
        tlsClientAuthority === undefined ? undefined : path.resolve(folder, tlsClientAuthority),
    },
    files,
  );
}

/** @throws DrError E_NOT_FOUND */
async function requireFolder({ files }: Surroundings, name: string | undefined): Promise<void> {
  if (name === undefined || (await files.status(name))?.kind === 'folder') return;
  throw new DrError('E_NOT_FOUND', `the folder of seeds ${name} is none`, {
    context: { path: name },
  });
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => {
    const done = (): void => {
      resolve();
    };
    signal.addEventListener('abort', done, { once: true });
  });
}

/** `HOST:PORT`, an IPv6 address in brackets. */
export function addressText({ host, port }: { host: string; port: number }): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}
