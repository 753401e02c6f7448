// What went wrong between two sides of which one wants TLS, or whose certificates do not fit, in
// words. OpenSSL says "wrong version number" when the other side speaks no TLS at all.

import type { Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { DrError } from '../errors.js';
import type { Clock } from '../clock.js';
import type { ConnectOptions } from './endpoint.js';
import { slept } from './slept.js';

const PROBE_MS = 2000;

const UNTRUSTED: ReadonlySet<string> = new Set([
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'CERT_SIGNATURE_FAILURE',
  'CERT_UNTRUSTED',
  'CERT_REJECTED',
  'INVALID_CA',
  'INVALID_PURPOSE',
]);

type Peer = Pick<ConnectOptions, 'host' | 'port' | 'tls'>;

/** The refusal that a failed TLS handshake means, if it means one. */
export function tlsRefusal(error: unknown, { host, port, tls }: Peer): DrError | undefined {
  if (tls === undefined || !(error instanceof Error)) return undefined;
  const code = 'code' in error ? String(error.code) : '';
  const place = `${host}:${port}`;
  const refusal = (message: string, hint: string): DrError =>
    new DrError('E_TLS', message, {
      context: { host, port, reason: code },
      done: 'nothing was sent',
      hint,
      cause: error,
    });
  if (code === 'ERR_SSL_WRONG_VERSION_NUMBER' || code === 'ERR_SSL_PACKET_LENGTH_TOO_LONG') {
    return refusal(
      `TLS is asked for here only: ${place} speaks none`,
      'Start the receiver with --tls-cert and --tls-key, or leave dr_tls_ca out.',
    );
  }
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    const name = tls.serverName ?? host;
    return refusal(
      `the certificate of ${place} is not for the name ${name}`,
      'Name the host as the certificate does, or give that name as dr_tls_name.',
    );
  }
  if (UNTRUSTED.has(code)) {
    return refusal(
      `the certificate of ${place} is not from the authority that dr_tls_ca names`,
      "Give the authority that signed the receiver's certificate; if it did sign it, somebody else answers there.",
    );
  }
  if (code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID') {
    return refusal(
      `the certificate of ${place} is not valid now: ${error.message}`,
      "Renew the receiver's certificate, or set the clock of this machine.",
    );
  }
  if (/_ALERT_(CERTIFICATE|BAD_CERTIFICATE|UNKNOWN_CA|NO_CERTIFICATE)/.test(code)) {
    return tls.certificate === undefined
      ? refusal(
          `${place} wants a certificate of this side`,
          'Give dr_tls_cert and dr_tls_key, signed by the authority of its --tls-client-ca.',
        )
      : refusal(
          `${place} does not accept the certificate of this side`,
          'Give dr_tls_cert and dr_tls_key, signed by the authority of its --tls-client-ca.',
        );
  }
  return undefined;
}

/** What closing without a word means when it comes right after a TLS handshake. */
export function closedAfterTls({ tls }: Peer): string {
  return tls?.certificate === undefined
    ? 'the other side closed the connection'
    : 'the other side closed the connection; it may not accept the certificate of dr_tls_cert (its log says)';
}

/**
 * A peer that closes without a word when it is spoken to in clear may want TLS: asks it, with a TLS
 * hello and nothing else.
 */
export async function tlsMissing(
  { host, port }: Peer,
  clock: Clock,
  signal: AbortSignal,
): Promise<DrError | undefined> {
  if (!(await speaksTls(host, port, clock, signal))) return undefined;
  return new DrError('E_TLS', `TLS is asked for there only: ${host}:${port} speaks nothing else`, {
    context: { host, port },
    done: 'nothing was sent',
    hint: "Give the authority of the receiver's certificate as dr_tls_ca.",
  });
}

async function speaksTls(
  host: string,
  port: number,
  clock: Clock,
  signal: AbortSignal,
): Promise<boolean> {
  const over = new AbortController();
  // nothing is sent over it, so it does not matter whose certificate it is
  const socket: Socket = connectTls({ host, port, rejectUnauthorized: false });
  const late = slept(clock, PROBE_MS, AbortSignal.any([over.signal, signal])).then(() => {
    socket.destroy();
  });
  const answer = await new Promise<boolean>((resolve) => {
    socket.once('secureConnect', () => {
      resolve(true);
    });
    socket.on('error', (error) => {
      // an alert is TLS as well
      resolve('code' in error && /^ERR_SSL_.*_ALERT_/.test(String(error.code)));
    });
    socket.once('close', () => {
      resolve(false);
    });
  });
  over.abort();
  await late;
  return answer;
}
