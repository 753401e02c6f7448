// TLS below the seal, as the commands that reach a receiver are told of it (dr_tls_*).

import type { Command } from 'commander';
import type { TlsMaterial } from '../shared/channel/index.js';
import { clientTls } from '../shared/operator/client-tls.js';
import { checkTls, TLS_PARAMETERS, type TlsParameters } from '../shared/params/index.js';
import { addParameterOptions } from './agent-options.js';
import type { CliContext } from './context.js';

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
