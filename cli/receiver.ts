// `hvdr receiver`: the DR site's service, in the foreground until SIGTERM.

import type { Command } from 'commander';
import { addressText, receiverSettings, standReceiver } from '../dr-receiver/index.js';
import { DrError } from '../shared/errors.js';
import { readServiceConfig } from './agent-options.js';
import type { CliContext } from './context.js';
import { keyOf, parseReceiverConfig, type ReceiverConfig } from './receiver-config.js';
import { DEFAULT_PORT } from './receiver-connection.js';
import { examples } from './examples.js';
import { productVersion } from './product-version.js';
import { addServiceOptions, runAsService, type ServiceFlags } from './service.js';
import { openSiteHost } from './site-host.js';

interface Flags extends ReceiverConfig, ServiceFlags {
  readonly config?: string;
}

const DEFAULT_LISTEN = `0.0.0.0:${DEFAULT_PORT}`;

const many = (value: string, all: readonly string[] | undefined): string[] => [
  ...(all ?? []),
  value,
];

export function registerReceiver(program: Command, context: CliContext): void {
  const command = program
    .command('receiver')
    .summary('take the cycles of sources and keep their restore points')
    .description(
      'Takes the cycles of source agents into a store, in the foreground, until SIGTERM; then it ends\n' +
        'at a safe point. Prints "listening ADDR:PORT" on stdout when it is ready, and with\n' +
        '--admin-listen a second line "admin ADDR:PORT". The store is made when the folder is empty\n' +
        'or not there. One receiver works on a store at a time.\n' +
        'All of it may stand in a config file, one key=value a line, the keys being the options with\n' +
        '_ in place of -; what is given here as well goes before it.',
    )
    .option('--config <file>', 'config file with these options')
    .option('--store <dir>', 'folder of the store')
    .option('--host <host>', 'hypervisor of this site: lab:DIR or hyperv')
    .option('--listen <addr:port>', 'address to listen on; port 0 takes a free one', DEFAULT_LISTEN)
    .option(
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
      examples(
        'hvdr receiver --store /srv/dr --listen 0.0.0.0:9847 --psk-file site-a.psk --psk-file operator.psk',
        'hvdr receiver --config /etc/podheitor/receiver.conf',
      ),
    );
  addServiceOptions(command).action(() => serve(context, command));
}

/** Options that were given go before the file, and the file goes before what holds by default. */
async function flagsOf(context: CliContext, command: Command): Promise<Flags> {
  const options: Flags = command.opts();
  if (options.config === undefined) return options;
  const text = await readServiceConfig(options.config, context);
  const given = Object.entries(options).filter(
    ([name]) => command.getOptionValueSource(name) === 'cli',
  );
  return { ...options, ...parseReceiverConfig(text, options.config), ...Object.fromEntries(given) };
}

function missing(what: string): DrError {
  return new DrError('E_USAGE', `${what} is not given`, {
    hint: 'Give it, or --config FILE with it; see `hvdr receiver --help`.',
  });
}

async function serve(context: CliContext, command: Command): Promise<void> {
  const { output } = context;
  const flags = await flagsOf(context, command);
  const { host, store, pskFile } = flags;
  if (store === undefined) throw missing('--store');
  if (pskFile === undefined) throw missing('--psk-file');
  const nameOf = (key: keyof ReceiverConfig): string =>
    command.getOptionValueSource(key) === 'cli' || flags.config === undefined
      ? `--${keyOf(key).replaceAll('_', '-')}`
      : `${flags.config}: ${keyOf(key)}`;
  const settings = receiverSettings({ ...flags, listen: flags.listen ?? DEFAULT_LISTEN }, nameOf);
  const places = {
    store,
    keys: pskFile,
    operatorNetworks: flags.operatorFrom,
    tlsCertificate: flags.tlsCert,
    tlsKey: flags.tlsKey,
    tlsClientAuthority: flags.tlsClientCa,
    seedFolder: flags.seedDir,
    scriptFolder: flags.scriptDir,
  };
  await runAsService(context, flags, (voice) =>
    standReceiver(settings, places, context, {
      signal: voice.signal,
      programVersion: productVersion(),
      openHost: host === undefined ? undefined : () => openSiteHost(host, context),
      onListening: (served) => {
        const { host: at, port, admin } = served;
        const lines = [
          `listening ${addressText(served)}`,
          ...(admin === undefined ? [] : [`admin ${addressText(admin)}`]),
        ].join('\n');
        output.event({ event: 'listening', host: at, port, admin }, () => lines);
        voice.ready(lines);
      },
    }),
  );
}
