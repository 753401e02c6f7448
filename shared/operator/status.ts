// How the protections of a store are doing, as a document and as lines for people.

import { guidFromWire } from '../bytes/index.js';
import {
  type CallOptions,
  type ControlService,
  ProtectionState,
  type ProtectionStatus,
  type ServiceClient,
} from '../channel/index.js';
import type { JsonObject } from '../json.js';
import { formatSize } from '../sizes.js';
import { allPages } from './receiver-access.js';
import { failoverDocument, failoverLines } from './status-failover.js';

const DAY_MS = 24 * 60 * 60 * 1000;

const STATE_NAMES: Readonly<Record<number, string>> = {
  [ProtectionState.PROTECTION_STATE_UNPROTECTED]: 'UNPROTECTED',
  [ProtectionState.PROTECTION_STATE_SEEDING]: 'SEEDING',
  [ProtectionState.PROTECTION_STATE_PROTECTED]: 'PROTECTED',
  [ProtectionState.PROTECTION_STATE_RESYNC]: 'RESYNC',
  [ProtectionState.PROTECTION_STATE_PAUSED]: 'PAUSED',
  [ProtectionState.PROTECTION_STATE_FAILED_OVER]: 'FAILED_OVER',
  [ProtectionState.PROTECTION_STATE_COMMITTED]: 'COMMITTED',
  [ProtectionState.PROTECTION_STATE_HALTED]: 'HALTED',
  [ProtectionState.PROTECTION_STATE_SPLIT_BRAIN]: 'SPLIT_BRAIN',
  [ProtectionState.PROTECTION_STATE_RETURNING]: 'RETURNING',
};

export interface StoreStatus {
  readonly document: JsonObject;
  readonly protections: readonly ProtectionStatus[];
  /** By the receiver's clock. */
  readonly nowMs: number;
  /** 0: the receiver does not know. */
  readonly freeBytes: number;
}

export interface StatusWish extends CallOptions {
  readonly isLeftOut?: (vmName: string) => boolean;
}

/**
 * What the receiver says of the VMs that `vm` means, a name, id or pattern; empty: all of them.
 * @throws DrError E_NO_MATCH, of reaching the receiver
 */
export async function statusOf(
  control: Pick<ServiceClient<ControlService>, 'statusPages'>,
  vm: string,
  { isLeftOut = () => false, ...options }: StatusWish = {},
): Promise<StoreStatus> {
  const { page: answer, items } = await allPages(
    control.statusPages({ vm }, options),
    ({ page }) => page,
    (page) => page.protections,
  );
  const protections = items.filter(({ vmName }) => !isLeftOut(vmName));
  const nowMs = Number(answer.nowMs);
  const freeBytes = Number(answer.storeFreeBytes);
  const document = {
    storeId: guidFromWire(answer.storeId) ?? '',
    now: new Date(nowMs).toISOString(),
    ...(freeBytes === 0 ? {} : { freeBytes }),
    protections: protections.map((each) => protectionDocument(each, nowMs)),
  };
  return { document, protections, nowMs, freeBytes };
}

function protectionDocument(each: ProtectionStatus, nowMs: number): JsonObject {
  return {
    vm: each.vmName,
    vmId: guidFromWire(each.vmId) ?? '',
    state: stateText(each),
    health: each.health,
    reasons: each.reasons,
    direction: each.direction,
    epoch: each.epoch,
    owner: each.owner,
    points: each.pointCount,
    pinned: each.pinnedCount,
    newest:
      each.newest === undefined
        ? null
        : {
            id: guidFromWire(each.newest.pointId) ?? '',
            createdAt: new Date(Number(each.newest.committedAtMs)).toISOString(),
            ageSeconds: ageSeconds(nowMs, each),
          },
    rpoSeconds: each.rpoSeconds,
    forecast: forecastDocument(each),
    rpoViolations: each.rpoDays.map(({ day, violatedSeconds }) => ({
      day: dayText(day),
      seconds: violatedSeconds,
    })),
    running: each.running,
    ...failoverDocument(each),
    storedBytes: Number(each.storedBytes),
    scrubbedAt: each.scrubbedAtMs === 0n ? null : new Date(Number(each.scrubbedAtMs)).toISOString(),
    damagedCells: Number(each.damagedCellCount),
    unknownCycles: each.unknown,
    reclaimableBytes: Number(each.reclaimableBytes),
    reclaiming: each.reclaiming,
    reclaimWaiting: each.reclaimWaiting,
    alarm: alarmDocument(each),
    warningScore: each.warningScore / 1000,
    lastClean: idOrNull(each.lastCleanPointId),
  };
}

function idOrNull(bytes: Buffer): string | null {
  return guidFromWire(bytes) ?? null;
}

function alarmDocument({ alarm }: ProtectionStatus): JsonObject | null {
  if (alarm === undefined) return null;
  return {
    id: idOrNull(alarm.pointId),
    raisedAt: new Date(Number(alarm.atMs)).toISOString(),
    lastCleanBefore: idOrNull(alarm.cleanPointId),
    reasons: alarm.reasons,
  };
}

/** A pause stands beside the state; receivers of former releases name no state of failover. */
function stateText({ state, failoverState }: ProtectionStatus): string {
  const plain = STATE_NAMES[state] ?? 'UNKNOWN';
  return failoverState === '' || state === ProtectionState.PROTECTION_STATE_PAUSED
    ? plain
    : failoverState;
}

function ageSeconds(nowMs: number, { newest }: ProtectionStatus): number | undefined {
  if (newest === undefined) return undefined;
  return Math.max(0, Math.round((nowMs - Number(newest.committedAtMs)) / 1000));
}

function forecastDocument(each: ProtectionStatus): JsonObject | null {
  const { forecastBecause: because, forecastNewestAgeSeconds, willMissRpo } = each;
  if (because === '') return null;
  return { newestAgeSeconds: forecastNewestAgeSeconds, willMissRpo, because };
}

function dayText(day: number): string {
  return new Date(day * DAY_MS).toISOString().slice(0, 10);
}

/** `the RPO was not held for 95 s today, 4000 s in seven days (UTC)` */
function violationLines({ rpoDays }: ProtectionStatus, nowMs: number): string[] {
  const sum = rpoDays.reduce((seconds, { violatedSeconds }) => seconds + violatedSeconds, 0);
  if (sum === 0) return [];
  const today = Math.floor(nowMs / DAY_MS);
  const now = rpoDays.find(({ day }) => day === today)?.violatedSeconds ?? 0;
  return [`    the RPO was not held for ${now} s today, ${sum} s in seven days (UTC)`];
}

/** Of one VM among those that are shown: a line, and what belongs below it. */
export function protectionLines(
  each: ProtectionStatus,
  { protections, nowMs }: Pick<StoreStatus, 'protections' | 'nowMs'>,
): string[] {
  const age = ageSeconds(nowMs, each);
  const rpo = each.rpoSeconds === 0 ? '' : `/${each.rpoSeconds} s`;
  const newest = age === undefined ? 'no point' : `RPO ${age}${rpo === '' ? ' s' : rpo}`;
  const counts = `${each.pointCount} points${each.pinnedCount === 0 ? '' : ` (${each.pinnedCount} pinned)`}`;
  const state = stateText(each);
  const running = [each.operation, each.running]
    .filter((what) => what !== '')
    .map((what) => `, ${what} under way`)
    .join('');
  const reclaimable =
    each.reclaimableBytes === 0n
      ? ''
      : ` (${formatSize(Number(each.reclaimableBytes))} reclaimable)`;
  return [
    `${nameAmong(protections, each)}  ${state} ${each.health}  ${counts}, ${newest}, ` +
      `${formatSize(Number(each.storedBytes))}${reclaimable}, epoch ${each.epoch}, ${each.direction}${running}`,
    ...each.reasons.map((reason) => `    ${reason}`),
    ...failoverLines(each, nowMs),
    ...violationLines(each, nowMs),
    ...each.reclaimWaiting.map((what) => `    not reclaimed: ${what}`),
  ];
}

/** The name of a VM, with its id where another one has the name as well. */
function nameAmong(all: readonly ProtectionStatus[], { vmName, vmId }: ProtectionStatus): string {
  const isOnly = all.filter((each) => each.vmName === vmName).length === 1;
  return isOnly ? vmName : `${vmName} (${guidFromWire(vmId) ?? ''})`;
}
