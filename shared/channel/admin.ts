// The listener for monitoring (admin-server.ts), loaded when somebody asks for one: no other command
// needs @grpc/grpc-js, which takes a third of the time in which a command starts.

import type { Log } from '../log.js';

export interface AdminOptions {
  /** An address of loopback, or `localhost`. */
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  readonly log: Log;
}

export interface AdminListener {
  readonly host: string;
  readonly port: number;
  /** What health checks are told from now on. SERVING in the beginning. */
  setServing(isServing: boolean): void;
  close(): Promise<void>;
}

/** @throws DrError E_PARAMETER (not loopback), E_IO */
export async function listenAdmin(options: AdminOptions): Promise<AdminListener> {
  const { startAdmin } = await import('./admin-server.js');
  return startAdmin(options);
}
