// The receiver that a job gives orders to, with the key that its Plugin line names.

import { loadKey, type PreSharedKey } from '../../shared/channel/index.js';
import { clientTls } from '../../shared/operator/client-tls.js';
import { connectOperator, type OperatorAccess } from '../../shared/operator/receiver-access.js';
import type { ParameterValues } from '../../shared/params/index.js';
import { keyOfParameters } from '../../source-agent/index.js';
import type { JobPorts } from '../backend.js';
import { missing, requireReceiver } from './require-receiver.js';
import { surroundingsOf } from './surroundings.js';

/** Runs `work` with the line to `dr_host` open. @throws DrError E_PARAMETER, of the key, of `work` */
export async function withReceiver<T>(
  values: ParameterValues,
  ports: JobPorts,
  work: (access: OperatorAccess) => Promise<T>,
): Promise<T> {
  requireReceiver(values);
  const { dr_host: host = '', dr_port: port } = values;
  const surroundings = surroundingsOf(ports);
  const key = await keyOfParameters(values, surroundings);
  const tls = await clientTls(values, surroundings);
  const access = await connectOperator(
    { host: withoutBrackets(host), port, key, tls },
    surroundings,
  );
  return closing(access, work);
}

/** The same with the receiver of this site that has a retired protection. */
export async function withRetired<T>(
  values: ParameterValues,
  ports: JobPorts,
  work: (access: OperatorAccess) => Promise<T>,
): Promise<T> {
  const { retired_host: host, retired_port: port, retired_psk_file: file } = values;
  if (host === undefined) {
    const why = 'nothing says where the retired protection is';
    throw missing('retired_host', why, 'Give retired_host=HOST.');
  }
  if (file === undefined) {
    const hint = 'Give retired_psk_file=NAME, a key of the key folder.';
    throw missing('retired_psk_file', 'nothing says which key to use there', hint);
  }
  const { files: fs, environment, log } = ports;
  const key = await loadKey(file, { fs, environment, log });
  const wish = { host: withoutBrackets(host), port, key, tls: undefined };
  return closing(await connectOperator(wish, surroundingsOf(ports)), work);
}

/** The key for `dr_host`. @throws DrError E_PARAMETER, E_NOT_FOUND, E_KEY_FILE, E_KEY_WEAK */
export function keyOf(values: ParameterValues, ports: JobPorts): Promise<PreSharedKey> {
  requireReceiver(values);
  return keyOfParameters(values, surroundingsOf(ports));
}

async function closing<T>(
  access: OperatorAccess,
  work: (access: OperatorAccess) => Promise<T>,
): Promise<T> {
  try {
    return await work(access);
  } finally {
    await access.close();
  }
}

function withoutBrackets(host: string): string {
  return host.replace(/^\[(.*)\]$/, '$1');
}
