// The two ends of a channel as their users see them. connect.ts and listen.ts make them.

import type { Clock, Random } from '../clock.js';
import type { Log } from '../log.js';
import type { KeyRing, PreSharedKey } from './keys.js';
import type { Suite } from './aead.js';
import type { Handlers, Role, ServiceClient, ServiceDefinition } from './service.js';

/** PEM texts; TLS below the seal is optional and never a substitute for it. */
export interface TlsMaterial {
  readonly certificateAuthority?: string | undefined;
  readonly certificate?: string | undefined;
  readonly privateKey?: string | undefined;
  /** Name that the peer's certificate must carry when it is not the host's. */
  readonly serverName?: string | undefined;
}

export interface ConnectOptions {
  readonly host: string;
  readonly port: number;
  readonly key: PreSharedKey;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly tls?: TlsMaterial | undefined;
  /** The connection and its handshake are given up after so long. Default 10 s. */
  readonly timeoutMs?: number | undefined;
  /** The initiator's choice; never changed by what the receiver says. Default AES-256-GCM. */
  readonly suite?: Suite | undefined;
  /**
   * Shake hands with the first call instead of at once, and in the direction that it needs: for
   * callers whose first call may be a download. Refusals then come from that call.
   */
  readonly opensAtFirstCall?: boolean | undefined;
}

/**
 * Authenticated sessions with one receiver; new ones are made inside when they are due, calls go on.
 * The receiver gives a session up when no call follows its handshake within 10 s (and counts that as
 * a failed handshake), so connect when there is something to say; a later call shakes hands again.
 */
export interface ChannelConnection {
  /** Typed calls of one service; several may be under way. */
  client<D extends ServiceDefinition>(definition: D): ServiceClient<D>;
  /** Ends all calls. */
  close(): Promise<void>;
}

/** One service with its handlers, as listen() takes it. */
export interface ServedService<D extends ServiceDefinition = ServiceDefinition> {
  readonly definition: D;
  readonly handlers: Handlers<D>;
  /** Who may call what, for methods that are not in METHOD_ROLES. */
  readonly roles?: Readonly<Record<string, readonly Role[]>> | undefined;
}

export interface ListenOptions {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  readonly keys: KeyRing;
  readonly services: readonly ServedService[];
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly tls?: TlsMaterial | undefined;
  /** Networks (CIDR) from which operator keys are accepted besides loopback. */
  readonly operatorNetworks?: readonly string[] | undefined;
  /** The ciphers that are accepted. Default: both. */
  readonly suites?: readonly Suite[] | undefined;
}

/** What a listener holds, for health and tests. */
export interface ListenerStatus {
  readonly connections: number;
  /** Of these, not authenticated yet. */
  readonly waiting: number;
  /** Handshakes that no record has followed yet. */
  readonly pendingSessions: number;
  readonly sessions: number;
  readonly calls: number;
  /** Receive windows granted to all sessions. */
  readonly windowBytes: number;
  /** Addresses of which something is remembered. */
  readonly addresses: number;
  /** The real receive window of each session's connection. */
  readonly localWindows: readonly number[];
}

export interface ChannelListener {
  readonly host: string;
  readonly port: number;
  /** Takes no new calls, lets those under way end for `graceMs`, then ends them. */
  close(graceMs: number): Promise<void>;
  status(): ListenerStatus;
}
