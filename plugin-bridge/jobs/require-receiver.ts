// What the parameters of a job have to say of a receiver, in the words of a Plugin line.

import { DrError } from '../../shared/errors.js';
import type { ParameterName, ParameterValues } from '../../shared/params/index.js';

/** What a Plugin line or a file lacks, in their own words. @throws DrError E_PARAMETER */
export function requireReceiver(values: ParameterValues): void {
  const { dr_host: host, dr_psk_file: file, dr_psk: secret } = values;
  if (host === undefined) {
    throw missing('dr_host', 'nothing says where the receiver is', 'Give dr_host=HOST.');
  }
  if (file === undefined && secret === undefined) {
    const hint = 'Give dr_psk_file=NAME, a key of the key folder that backend.conf names.';
    throw missing('dr_psk_file', 'nothing says which key to use', hint);
  }
}

export function missing(parameter: ParameterName, why: string, hint: string): DrError {
  return new DrError('E_PARAMETER', `${parameter}: ${why}`, { context: { parameter }, hint });
}
