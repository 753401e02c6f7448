// TLS below the seal, as the commands that reach a receiver are told of it (dr_tls_*).

import path from 'node:path';
import type { Command } from 'commander';
import { loadTls, type TlsMaterial } from '../shared/channel/index.js';
import { checkTls, type TlsParameters } from '../shared/params/index.js';
import { addParameterOptions } from './agent-options.js';
import type { CliContext } from './context.js';

export const TLS_PARAMETERS = ['dr_tls_ca', 'dr_tls_cert', 'dr_tls_key', 'dr_tls_name'] as const;

/** The flags as commander hands them over. */
export interface TlsFlags {
  readonly drTlsCa?: string;
  readonly drTlsCert?: string;
  readonly drTlsKey?: string;
  readonly drTlsName?: string;
}

export function withTlsOptions(command: Command): Command {
  return addParameterOptions(command, TLS_PARAMETERS);
}

/** @throws DrError E_PARAMETER, E_NOT_FOUND, E_KEY_FILE, E_TLS */
export async function clientTlsOfFlags(
  { drTlsCa, drTlsCert, drTlsKey, drTlsName }: TlsFlags,
  context: CliContext,
): Promise<TlsMaterial | undefined> {
  const wanted: TlsParameters = {
    dr_tls_ca: drTlsCa,
    dr_tls_cert: drTlsCert,
    dr_tls_key: drTlsKey,
    dr_tls_name: drTlsName,
  };
  checkTls(wanted);
  return clientTls(wanted, context);
}

/**
 * What to connect with; undefined: no TLS.
 * @throws DrError E_NOT_FOUND, E_KEY_FILE, E_TLS
 */
export async function clientTls(
  wanted: TlsParameters,
  { files, folder }: CliContext,
): Promise<TlsMaterial | undefined> {
  const { dr_tls_ca: authority, dr_tls_cert: certificate, dr_tls_key: privateKey } = wanted;
  if (authority === undefined) return undefined;
  const absolute = (file: string | undefined): string | undefined =>
    file === undefined ? undefined : path.resolve(folder, file);
  return loadTls(
    {
      certificateAuthority: absolute(authority),
      certificate: absolute(certificate),
      privateKey: absolute(privateKey),
      serverName: wanted.dr_tls_name,
    },
    files,
  );
}
