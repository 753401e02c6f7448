// Whether a TCP port takes a connection. The connection is closed at once; nothing is sent.

import { isIPv6, Socket } from 'node:net';
import { DrError } from '../errors.js';

export interface TcpAddress {
  /** Name or address, IPv6 without brackets. */
  readonly host: string;
  readonly port: number;
}

/**
 * Resolves when the port took the connection, and rejects with the system's error when it did not, or
 * with the signal's reason. The seam for tests.
 */
export type ConnectTcp = (address: TcpAddress, signal: AbortSignal) => Promise<void>;

export const connectTcp: ConnectTcp = ({ host, port }, signal) =>
  new Promise((resolve, reject) => {
    const socket = new Socket();
    const end = (error?: Error): void => {
      signal.removeEventListener('abort', abort);
      socket.destroy();
      if (error === undefined) resolve();
      else reject(error);
    };
    const abort = (): void => {
      const reason: unknown = signal.reason;
      end(reason instanceof Error ? reason : new Error(String(reason)));
    };
    socket.once('error', end);
    socket.once('connect', () => {
      end();
    });
    if (signal.aborted) {
      abort();
      return;
    }
    signal.addEventListener('abort', abort, { once: true });
    socket.connect({ host, port });
  });

/**
 * `HOST:PORT`, `[IPV6]:PORT`, or `PORT` alone with an undefined host.
 * @throws DrError E_PARAMETER; `what` names the text in the message
 */
export function parseTcpAddress(
  text: string,
  what: string,
): { readonly host: string | undefined; readonly port: number } {
  const match = /^(?:(?:\[([^\]]*)\]|([^:[\]\s]+)):)?(\d{1,5})$/.exec(text);
  const [, bracketed, bare, portText] = match ?? [];
  const port = Number(portText);
  const isLegal =
    match !== null &&
    port >= 1 &&
    port <= 65_535 &&
    (bracketed === undefined || isIPv6(bracketed)) &&
    (bare === undefined || (bare.length <= 253 && /^[A-Za-z0-9][A-Za-z0-9.-]*$/.test(bare)));
  if (!isLegal) {
    throw new DrError('E_PARAMETER', `${what} names no TCP port: "${text}"`, {
      hint: 'Write PORT, HOST:PORT or [IPV6]:PORT, with a port from 1 to 65535.',
    });
  }
  return { host: bracketed ?? bare, port };
}
