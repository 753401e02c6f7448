// `network_map` (failover.md § 7): which switch of the DR site stands for which one of the primary.
// Names are compared whatever the case, trimmed, and may be quoted.

import { DrError } from '../errors.js';
import { splitOutsideQuotes } from '../params/index.js';

export type Unmapped = 'refuse' | 'disconnect' | 'same-name';

export interface NetworkMap {
  /** By source name in lower case; undefined: disconnected. */
  readonly pairs: ReadonlyMap<
    string,
    { readonly source: string; readonly target: string | undefined }
  >;
  /** Of `*=dst`. `{ target: undefined }` disconnects; undefined: there is none. */
  readonly rest: { readonly target: string | undefined } | undefined;
}

export const NO_MAP: NetworkMap = { pairs: new Map(), rest: undefined };

/** @throws DrError E_PARAMETER that names the pair */
export function parseNetworkMap(text: string): NetworkMap {
  const pairs = new Map<string, { source: string; target: string | undefined }>();
  let rest: NetworkMap['rest'];
  for (const [index, part] of splitOutsideQuotes(text, ',').entries()) {
    const [left, right, ...more] = splitOutsideQuotes(part, '=');
    if (left === undefined || right === undefined || more.length > 0) {
      throw wrong(index, part, 'is no pair source=target');
    }
    const source = unquoted(left);
    const target = unquoted(right);
    if (source === '') throw wrong(index, part, 'has no source');
    const connection = target === '' ? undefined : target;
    if (source === '*') {
      if (rest !== undefined) throw wrong(index, part, 'gives the default twice');
      rest = { target: connection };
      continue;
    }
    const key = source.toLowerCase();
    if (pairs.has(key)) throw wrong(index, part, 'names its source for the second time');
    pairs.set(key, { source, target: connection });
  }
  return { pairs, rest };
}

function wrong(index: number, part: string, why: string): DrError {
  return new DrError('E_PARAMETER', `network_map: pair ${index + 1}, "${part.trim()}", ${why}`, {
    context: { parameter: 'network_map', pair: index + 1 },
    hint: 'Pairs are source=target separated by commas; source= leaves it disconnected, *=target is the default.',
  });
}

/** Where a source switch leads, and by which pair; 'unmapped' when nothing says so. */
export function targetOf(
  { pairs, rest }: NetworkMap,
  source: string,
): { readonly target: string | undefined; readonly by: string } | 'unmapped' {
  const pair = pairs.get(source.trim().toLowerCase());
  if (pair !== undefined) return { target: pair.target, by: `${pair.source}=${pair.target ?? ''}` };
  return rest === undefined ? 'unmapped' : { target: rest.target, by: `*=${rest.target ?? ''}` };
}

/**
 * The map for the way back. @throws DrError E_NET_UNMAPPED when it does not lead back to one switch
 */
export function invertMap({ pairs, rest }: NetworkMap): NetworkMap {
  const back = new Map<string, { source: string; target: string | undefined }>();
  const sources = new Map<string, string>();
  for (const { source, target } of pairs.values()) {
    if (target === undefined) continue;
    const key = target.toLowerCase();
    const other = sources.get(key);
    if (other !== undefined || rest?.target?.toLowerCase() === key) {
      const others = other ?? 'all others';
      throw new DrError(
        'E_NET_UNMAPPED',
        `the network map leads from ${others} and from ${source} to ${target}, so it has no way back`,
        { hint: 'Name the map for the way back: `network_map`.' },
      );
    }
    sources.set(key, source);
    back.set(key, { source: target, target: source });
  }
  if (rest?.target !== undefined) {
    throw new DrError('E_NET_UNMAPPED', `the network map has a default, so it has no way back`, {
      hint: 'Name the map for the way back: `network_map`.',
    });
  }
  return { pairs: back, rest: undefined };
}

export function formatNetworkMap({ pairs, rest }: NetworkMap): string {
  const quoted = (name: string): string =>
    /[,="]/.test(name) ? `"${name.replaceAll('"', '""')}"` : name;
  const parts = [...pairs.values()].map(
    ({ source, target }) => `${quoted(source)}=${target === undefined ? '' : quoted(target)}`,
  );
  if (rest !== undefined) parts.push(`*=${rest.target === undefined ? '' : quoted(rest.target)}`);
  return parts.join(',');
}

function unquoted(text: string): string {
  const trimmed = text.trim();
  const [, inside] = /^"(.*)"$/s.exec(trimmed) ?? [];
  return inside === undefined ? trimmed : inside.replaceAll('""', '"').trim();
}
