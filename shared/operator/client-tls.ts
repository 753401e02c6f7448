// TLS below the seal, from the parameters `dr_tls_*`.

import path from 'node:path';
import { loadTls, type TlsMaterial } from '../channel/index.js';
import type { TlsParameters } from '../params/index.js';
import type { Surroundings } from '../surroundings.js';

/**
 * What to connect with; undefined: no TLS.
 * @throws DrError E_NOT_FOUND, E_KEY_FILE, E_TLS
 */
export async function clientTls(
  wanted: TlsParameters,
  { files, folder }: Pick<Surroundings, 'files' | 'folder'>,
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
