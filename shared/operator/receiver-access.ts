// A receiver as an operator talks to it: who only looks, gives orders, or lets a VM come home.

import {
  connect,
  type ControlService,
  controlService,
  type PreSharedKey,
  type ReplicationService,
  replicationService,
  type ServiceClient,
  type TlsMaterial,
} from '../channel/index.js';
import { DrError } from '../errors.js';
import type { Surroundings } from '../surroundings.js';

export interface ReceiverWish {
  /** Name or address; IPv6 without brackets. */
  readonly host: string;
  readonly port: number;
  readonly key: PreSharedKey;
  readonly tls: TlsMaterial | undefined;
}

export interface OperatorAccess {
  readonly control: ServiceClient<ControlService>;
  /** What a source may ask, as an operator: for any VM. */
  readonly replication: ServiceClient<ReplicationService>;
  /** For error messages: the store's folder or the receiver's address. */
  readonly place: string;
  close(): Promise<void>;
}

/** The connection is made at the first call. @throws DrError E_PARAMETER (a pinned key) */
export async function connectOperator(
  { host, port, key, tls }: ReceiverWish,
  surroundings: Pick<Surroundings, 'clock' | 'random' | 'log'>,
): Promise<OperatorAccess> {
  const { clock, random } = surroundings;
  const seams = { clock, random, log: await surroundings.log() };
  const connection = await connect({ host, port, key, tls, ...seams, isLazy: true });
  return {
    control: connection.client(controlService),
    replication: connection.client(replicationService),
    place: `${host}:${port}`,
    close: () => connection.close(),
  };
}

/**
 * An answer that comes in pages, together: what the last page says, and the items of all.
 * @throws DrError E_PROTOCOL when a page is missing
 */
export async function allPages<R, P, T>(
  responses: AsyncIterable<R>,
  pageOf: (response: R) => P | undefined,
  itemsOf: (page: P) => readonly T[],
): Promise<{ readonly page: P; readonly items: readonly T[] }> {
  let last: P | undefined;
  const items: T[] = [];
  for await (const response of responses) {
    last = pageOf(response);
    if (last === undefined) break;
    items.push(...itemsOf(last));
  }
  if (last !== undefined) return { page: last, items };
  throw new DrError('E_PROTOCOL', 'the receiver answered without a page');
}
