// Finds the point that an operator names: by id, the beginning of one, a time, `latest`, or `last-clean`.

import { DrError } from '../shared/errors.js';
import type { Point } from './store/protection.js';
import type { VmStore } from './store/vm-store.js';
import { lastCleanPoint } from './warning/last-clean.js';

/** Points that a message names. */
const POINTS_NAMED = 5;

/** A listed point. @throws DrError E_NO_POINT */
export function findPoint({ vm }: { readonly vm: VmStore }, name: string): Point {
  const { listed, vmName } = vm.protection;
  if (name === 'latest') {
    const newest = listed.at(-1);
    if (newest !== undefined) return newest;
    throw new DrError('E_NO_POINT', `${vmName} has no restore point yet`);
  }
  if (name === 'last-clean') {
    const clean = lastCleanPoint(vm.protection);
    if (clean !== undefined) return clean;
    throw new DrError('E_NO_POINT', `${vmName} has no point from before the alarm`, {
      context: { vmId: vm.vmId },
      hint: 'Look at the oldest points one by one; `hvdr points VM` lists them.',
    });
  }
  const atMs = timeOf(name);
  if (atMs !== undefined) return pointAt(vm, atMs, name);
  const wanted = name.toLowerCase();
  const found = listed.filter(({ pointId }) => wanted !== '' && pointId.startsWith(wanted));
  const [only] = found;
  if (only !== undefined && found.length === 1) return only;
  const what = only === undefined ? 'no point' : `${found.length} points that begin with`;
  const newest = listed.slice(-POINTS_NAMED).map(({ pointId }) => pointId);
  throw new DrError('E_NO_POINT', `${vmName} has ${what} ${name}`, {
    context: { vmId: vm.vmId, points: newest.join(' ') },
    ...(newest.length === 0 ? {} : { hint: `The newest points are ${newest.join(', ')}.` }),
  });
}

/** Milliseconds since 1970 of an ISO 8601 time; undefined: the text is none. */
function timeOf(name: string): number | undefined {
  if (!/^\d{4}-\d\d-\d\d([T ]\d\d:\d\d|$)/.test(name)) return undefined;
  const atMs = Date.parse(name.replace(' ', 'T'));
  return Number.isNaN(atMs) ? undefined : atMs;
}

/** The newest point whose content is not younger than that time. */
function pointAt(vm: VmStore, atMs: number, name: string): Point {
  const { listed, vmName } = vm.protection;
  const found = listed.findLast(({ consistentAtMs }) => consistentAtMs <= atMs);
  if (found !== undefined) return found;
  const [oldest] = listed;
  throw new DrError('E_NO_POINT', `${vmName} has no point as old as ${name}`, {
    context: { vmId: vm.vmId },
    ...(oldest === undefined
      ? {}
      : {
          hint: `The oldest one is ${oldest.pointId}, of ${new Date(oldest.consistentAtMs).toISOString()}.`,
        }),
  });
}
