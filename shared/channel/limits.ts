// Every bound of the channel (channel.md § 3, 4).

export const PROTOCOL_OLDEST = 1;
export const PROTOCOL_NEWEST = 1;

/** Plaintext of one record. */
export const MESSAGE_BYTES_MAX = (1 << 20) + (64 << 10);
/** Flags, salt and tag around it. */
export const RECORD_OVERHEAD_MAX = 1 + 16 + 16;
export const HANDSHAKE_BYTES_MAX = 1024;
export const KEY_ID_BYTES_MAX = 64;
export const PRINCIPAL_BYTES_MAX = 256;

/** Before the first record of a connection was opened. */
export const UNAUTHENTICATED = {
  connections: 64,
  connectionsOfAddress: 8,
  windowBytes: 65_535,
  streams: 4,
  headerPairs: 32,
  headerBytes: 8192,
  timeMs: 10_000,
} as const;

export const FAILED_HANDSHAKES_A_MINUTE = 10;
export const ADDRESS_TABLE_MAX = 4096;
export const PENDING_SESSIONS_MAX = 256;

/**
 * After it. The wide window is for one direction of a connection only: node:http2 reads nothing
 * while a write of its own waits for the socket, so bulk in both directions at once, with windows
 * wider than the socket buffers, would stop both sides for ever (docs/protocol.md, "Two
 * connections").
 */
export const AUTHENTICATED = {
  /** Of the connection. */
  windowBytes: 32 << 20,
  /** Of a stream: a half, so that a call whose handler is slow does not stop the others. */
  streamWindowBytes: 16 << 20,
  streams: 32,
  /** So that one key cannot take the place of everybody else. */
  connectionsOfPrincipal: 256,
  windowBytesOfAll: 512 << 20,
} as const;

export const SESSION_AGE_MAX_MS = 3_600_000;
export const CALL_AGE_MAX_MS = 24 * 3_600_000;
/** A new session is made for new calls this long before the old one takes none. */
export const SESSION_RENEWAL_MS = 5 * 60_000;

/** How often the ring is read again; a removed key ends its sessions within 5 s. */
export const KEY_CHECK_MS = 2000;

/** A key is replaced by its successor after so much. */
export const RATCHET_RECORDS = 2 ** 24;
export const RATCHET_BYTES = 64 * 2 ** 30;

/** Sealed bytes that wait for the socket; a sender is held back beyond it. */
export const SEND_BUFFER_BYTES = 4 << 20;

/** Node's own bound on what one HTTP/2 session keeps, in MB. */
export const HTTP2_SESSION_MEGABYTES = 64;
