// The addresses of a VM before and after, for scripts and reports.

import type { AddressMove } from './readdress.js';

/** Address before → address afterwards, without their prefixes; those that stay lead to themselves. */
export function ipMapOf(
  adapters: readonly { readonly moves: readonly AddressMove[] }[],
): Readonly<Record<string, string>> {
  const bare = (address: string): string => address.replace(/\/.*$/, '');
  return Object.fromEntries(
    adapters.flatMap(({ moves }) => moves.map(({ from, to }) => [bare(from), bare(to)])),
  );
}
