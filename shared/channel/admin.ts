// The listener for monitoring (admin-server.ts), loaded when somebody asks for one: no other command
// needs @grpc/grpc-js, which takes a third of the time in which a command starts.

import type { AdminListener, AdminOptions } from './admin-address.js';

/** @throws DrError E_PARAMETER (not loopback), E_IO */
export async function listenAdmin(options: AdminOptions): Promise<AdminListener> {
  const { startAdmin } = await import('./admin-server.js');
  return startAdmin(options);
}
