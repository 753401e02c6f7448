// `hvdr receiver`: the DR site's service, in the foreground until SIGTERM.

import path from 'node:path';
import type { Command } from 'commander';
import {
  DEFAULT_POLICY,
  DEFAULT_SCRUB,
  Receiver,
  type ScrubOptions,
  serveReceiver,
} from '../dr-receiver/index.js';
import {
  loadKeyRing,
  loadTls,
  loopbackAddress,
  type TlsMaterial,
} from '../shared/channel/index.js';
import { DrError } from '../shared/errors.js';
import { type GridRule, parseRetentionGrid } from '../shared/params/index.js';
import type { CliContext } from './context.js';
import { DEFAULT_PORT, parsePort } from './receiver-connection.js';
import { productVersion } from './product-version.js';
import { openSiteHost } from './site-host.js';
import { parseSize } from './sizes.js';

interface Flags {
  readonly store: string;
  readonly host?: string;
  readonly listen: string;
  readonly pskFile: readonly string[];
  readonly adminListen?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly tlsClientCa?: string;
  readonly operatorFrom?: readonly string[];
  readonly minRestorePoints: string;
  readonly retentionGrid?: string;
  readonly quota?: string;
  readonly quotaVms?: string;
  readonly scrubRate?: string;
  readonly scrubPeriod?: string;
  readonly seedDir?: string;
  readonly scriptDir?: string;
}

const DAY_MS = 24 * 60 * 60 * 1000;

const many = (value: string, all: readonly string[] | undefined): string[] => [
  ...(all ?? []),
  value,
];

export function registerReceiver(program: Command, context: CliContext): void {
  program
    .command('receiver')
    .summary('take the cycles of sources and keep their restore points')
    .description(
      'Takes the cycles of source agents into a store, in the foreground, until SIGTERM; then it ends\n' +
        'at a safe point. Prints "listening ADDR:PORT" on stdout when it is ready, and with\n' +
        '--admin-listen a second line "admin ADDR:PORT". The store is made when the folder is empty\n' +
        'or not there. One receiver works on a store at a time.',
    )
    .requiredOption('--store <dir>', 'folder of the store')
    .option('--host <host>', 'hypervisor of this site: lab:DIR or hyperv')
    .option(
      '--listen <addr:port>',
      'address to listen on; port 0 takes a free one',
      `0.0.0.0:${DEFAULT_PORT}`,
    )
    .requiredOption(
      '--psk-file <file>',
      'key file, folder of key files, or env:NAME; may be repeated',
      many,
    )
    .option('--tls-cert <file>', 'TLS below the seal: PEM file of the certificate, chain after it')
    .option('--tls-key <file>', 'PEM file of its private key')
    .option('--tls-client-ca <file>', 'authority of the certificates that peers must show (mTLS)')
    .option('--operator-from <network>', 'network (CIDR) operators may come from; repeated', many)
    .option('--admin-listen <addr:port>', 'health and gRPC reflection, on loopback, in clear')
    .option('--min-restore-points <n>', 'points kept even when a source asks for fewer', '1')
    .option('--retention-grid <grid>', 'points kept whatever a source asks for, as 24h/1h,7d/1d')
    .option('--quota <size>', 'bytes that one principal may store')
    .option('--quota-vms <n>', 'VMs that one principal may protect')
    .option('--scrub-rate <size>', 'read the store back at most so fast; 0: not at all', '32M/s')
    .option('--scrub-period <days>', 'read each byte once in so many days', '30')
    .option('--script-dir <dir>', 'folder of the scripts that checks may run')
    .option('--seed-dir <dir>', 'folder that seeds may be read from; without it none are')
    .addHelpText(
      'after',
      '\nExample:\n  hvdr receiver --store /srv/dr --listen 0.0.0.0:9847 --psk-file site-a.psk --psk-file operator.psk\n',
    )
    .action((flags: Flags) => serve(context, flags));
}

/** `ADDR:PORT`, an IPv6 address in brackets. @throws DrError E_USAGE */
function parseAddress(text: string, what: string): { host: string; port: number } {
  const match = /^(?:\[([0-9a-fA-F:.%]+)\]|([^[\]:]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = match?.[3];
  if (host === undefined || port === undefined) {
    throw new DrError('E_USAGE', `${what} "${text}" is not ADDR:PORT`, {
      hint: 'For example 0.0.0.0:9847, or [::]:9847 for IPv6.',
    });
  }
  return { host, port: parsePort(port, what) };
}

/** An IPv6 address as it stands before a port. */
function inBrackets(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}

function parseCount(text: string, what: string, max: number): number {
  const value = Number(text);
  if (/^\d{1,7}$/.test(text) && value >= 1 && value <= max) return value;
  throw new DrError('E_USAGE', `${what} "${text}" is not a number from 1 to ${max}`);
}

/** undefined: off. @throws DrError E_USAGE */
function parseScrub({ scrubRate, scrubPeriod }: Flags): ScrubOptions | undefined {
  const { rateBytes, periodMs } = DEFAULT_SCRUB;
  const rate =
    scrubRate === undefined
      ? rateBytes
      : parseSize(scrubRate.replace(/\/s$/, ''), '--scrub-rate', { min: 0, max: 2 ** 40 });
  const days =
    scrubPeriod === undefined ? periodMs / DAY_MS : parseCount(scrubPeriod, '--scrub-period', 3650);
  return rate === 0 ? undefined : { rateBytes: rate, periodMs: days * DAY_MS };
}

function parseGrid(text: string | undefined): readonly GridRule[] {
  if (text === undefined) return [];
  const rules = parseRetentionGrid(text);
  if (!('wrong' in rules)) return rules;
  throw new DrError('E_USAGE', `--retention-grid "${text}" ${rules.wrong}`, {
    hint: 'Give parts SPAN/STEP separated by commas, each a number with h, d or w: 24h/1h,7d/1d,4w/1w.',
  });
}

/** @throws DrError E_USAGE, E_NOT_FOUND, E_KEY_FILE, E_TLS */
async function serverTls(
  { tlsCert, tlsKey, tlsClientCa }: Flags,
  { files, folder }: CliContext,
): Promise<TlsMaterial | undefined> {
  if (tlsCert === undefined && tlsKey === undefined && tlsClientCa === undefined) return undefined;
  if (tlsCert === undefined || tlsKey === undefined) {
    throw new DrError('E_USAGE', 'TLS needs a certificate and its key', {
      hint: 'Give --tls-cert FILE and --tls-key FILE; --tls-client-ca FILE as well for mTLS.',
    });
  }
  return loadTls(
    {
      certificate: path.resolve(folder, tlsCert),
      privateKey: path.resolve(folder, tlsKey),
      certificateAuthority:
        tlsClientCa === undefined ? undefined : path.resolve(folder, tlsClientCa),
    },
    files,
  );
}

/** @throws DrError E_NOT_FOUND */
async function requireFolder({ files }: CliContext, name: string | undefined): Promise<void> {
  if (name === undefined || (await files.status(name))?.kind === 'folder') return;
  throw new DrError('E_NOT_FOUND', `--seed-dir ${name} is no folder`, { context: { path: name } });
}

async function serve(context: CliContext, flags: Flags): Promise<void> {
  const { files: fs, clock, environment, folder, output, random } = context;
  const { host, port } = parseAddress(flags.listen, '--listen');
  const admin =
    flags.adminListen === undefined ? undefined : parseAddress(flags.adminListen, '--admin-listen');
  if (admin !== undefined) loopbackAddress(admin.host);
  const { retention, maxProtections, maxStoredBytes } = DEFAULT_POLICY;
  const minimum = parseCount(flags.minRestorePoints, '--min-restore-points', 1000);
  const policy = {
    retention: { ...retention, minRestorePoints: minimum, grid: parseGrid(flags.retentionGrid) },
    maxProtections:
      flags.quotaVms === undefined
        ? maxProtections
        : parseCount(flags.quotaVms, '--quota-vms', 1_000_000),
    maxStoredBytes:
      flags.quota === undefined
        ? maxStoredBytes
        : parseSize(flags.quota, '--quota', { min: 1, max: Number.MAX_SAFE_INTEGER }),
  };
  const scrub = parseScrub(flags);
  const signal = context.stopSignal();
  const log = await context.log();
  const paths = flags.pskFile.map((file) =>
    file.startsWith('env:') ? file : path.resolve(folder, file.replace(/^file:/, '')),
  );
  await context.keepSecrets();
  const keys = await loadKeyRing(paths, { fs, environment, log });
  const tls = await serverTls(flags, context);
  const storeFolder = path.resolve(folder, flags.store);
  const seedAccess =
    flags.seedDir === undefined ? undefined : { folder: path.resolve(folder, flags.seedDir), keys };
  await requireFolder(context, seedAccess?.folder);
  const seams = { fs, clock, random, log };
  const scriptFolder =
    flags.scriptDir === undefined ? undefined : path.resolve(folder, flags.scriptDir);
  const failover =
    flags.host === undefined
      ? undefined
      : { host: await openSiteHost(flags.host, context), scriptFolder };
  const receiver = await Receiver.open({
    ...seams,
    ...{ storeFolder, policy, seedAccess, failover, programVersion: productVersion() },
  });
  let served: Awaited<ReturnType<typeof serveReceiver>>;
  try {
    const operatorNetworks = flags.operatorFrom;
    const options = { host, port, keys, tls, operatorNetworks, admin, scrub };
    served = await serveReceiver(receiver, options);
  } catch (error) {
    await receiver.close();
    throw error;
  }
  receiver.maintenance.start();
  output.event(
    { event: 'listening', host: served.host, port: served.port, admin: served.admin },
    () =>
      [
        `listening ${inBrackets(served.host)}:${served.port}`,
        ...(served.admin === undefined
          ? []
          : [`admin ${inBrackets(served.admin.host)}:${served.admin.port}`]),
      ].join('\n'),
  );
  if (!signal.aborted) {
    await new Promise<void>((resolve) => {
      signal.addEventListener(
        'abort',
        () => {
          resolve();
        },
        { once: true },
      );
    });
  }
  await served.close();
}
