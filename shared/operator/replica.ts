// Hyper-V Replica as a command line and a job of Bacula show it: how a VM stands against its RPO, what an
// order would do, and what the parameters ask for.

import { DrError } from '../errors.js';
import type {
  ReplicaPlan,
  ReplicaRelation,
  ReplicaSettings,
  ReplicaView,
} from '../hypervisor/index.js';
import type { JsonObject } from '../json.js';
import type { ParameterValues } from '../params/index.js';
import { formatSize } from '../sizes.js';

export type ReplicaVerdict = 'ok' | 'warn' | 'critical';

export interface ReplicaStatus {
  readonly view: ReplicaView;
  readonly verdict: ReplicaVerdict;
  /** Why it is no `ok`. */
  readonly reasons: readonly string[];
  /** Seconds since what was replicated last; undefined: nothing was. */
  readonly ageSeconds: number | undefined;
}

/** A share of the RPO from which its age is worth a warning (failover.md § 7). */
const WARN_SHARE = 0.8;
const KERBEROS_PORT = 80;
const CERTIFICATE_PORT = 443;

interface Wish {
  readonly rpoSeconds: number;
  readonly nowMs: number;
}

const RANK: readonly ReplicaVerdict[] = ['ok', 'warn', 'critical'];

/** How a VM is doing, at a third host as well: `nowMs` is the time of this host, whose clock the last replication is of. */
export function replicaStatus(view: ReplicaView, wish: Wish): ReplicaStatus {
  const { relation, extension } = view;
  if (relation === undefined && extension === undefined) {
    const reasons = ['Hyper-V does not replicate it'];
    return { view, verdict: 'critical', reasons, ageSeconds: undefined };
  }
  const own = relation && standingOf(relation, wish);
  const second = extension && standingOf(extension, wish);
  const ranks = [own, second].map((each) => RANK.indexOf(each?.verdict ?? 'ok'));
  const ofSecond = second?.reasons.map((reason) => `extended replica: ${reason}`) ?? [];
  return {
    view,
    verdict: RANK[Math.max(...ranks)] ?? 'critical',
    reasons: [...(own?.reasons ?? []), ...ofSecond],
    ageSeconds: own?.ageSeconds,
  };
}

function standingOf(
  relation: ReplicaRelation,
  { rpoSeconds, nowMs }: Wish,
): Omit<ReplicaStatus, 'view'> {
  const { lastReplicationAtMs: lastMs } = relation;
  const ageSeconds = lastMs === undefined ? undefined : Math.max(0, (nowMs - lastMs) / 1000);
  const critical: string[] = [];
  const warn: string[] = [];
  if (relation.phase === 'HALTED') critical.push(`state ${relation.state}: nobody here knows it`);
  if (relation.health === 'critical') critical.push(`critical: ${detailsOf(relation)}`);
  if (relation.health === 'warn') warn.push(`a warning: ${detailsOf(relation)}`);
  if (relation.isPaused) warn.push(`state ${relation.state}: nothing is sent`);
  if (relation.phase === 'RESYNC' && !relation.isPaused) warn.push('both sides are compared');
  if (relation.test !== undefined) warn.push('a test VM is there');
  // a VM that serves at the replica, or is moving, has no age that an RPO could be about
  if (['SEEDING', 'PROTECTED', 'RESYNC'].includes(relation.phase)) {
    const { text, limit } = ageAgainst(ageSeconds, rpoSeconds);
    if (limit === 'violated') critical.push(text);
    else if (limit === 'near') warn.push(text);
  } else {
    warn.push(`state ${relation.state}: nothing is replicated`);
  }
  const verdict = critical.length > 0 ? 'critical' : warn.length > 0 ? 'warn' : 'ok';
  return { verdict, reasons: [...critical, ...warn], ageSeconds };
}

function ageAgainst(
  ageSeconds: number | undefined,
  rpoSeconds: number,
): { readonly text: string; readonly limit: 'kept' | 'near' | 'violated' } {
  if (ageSeconds === undefined) return { text: 'nothing was replicated yet', limit: 'violated' };
  const text = `replicated ${Math.round(ageSeconds)} s ago, RPO ${rpoSeconds} s`;
  if (ageSeconds > rpoSeconds) return { text, limit: 'violated' };
  return { text, limit: ageSeconds > rpoSeconds * WARN_SHARE ? 'near' : 'kept' };
}

function detailsOf({ healthDetails, errorCount, missedCount }: ReplicaRelation): string {
  const [first] = healthDetails;
  return first ?? `${errorCount} errors, ${missedCount} sendings missed`;
}

export function replicaLine({ view, reasons, ageSeconds }: ReplicaStatus): string {
  const { vmName, relation, extension } = view;
  const further =
    extension === undefined
      ? []
      : [`extended to ${extension.replicaServer}: ${extension.phase} (${extension.state})`];
  if (relation === undefined) return `${vmName}: ${[...further, ...reasons].join('; ')}`;
  const { phase, state, mode, primaryServer, replicaServer, pendingBytes } = relation;
  const age = ageSeconds === undefined ? 'never' : `${Math.round(ageSeconds)} s ago`;
  const head = `${vmName}: ${phase} (${state}), ${mode} of ${primaryServer} → ${replicaServer}, replicated ${age}, ${formatSize(Number(pendingBytes))} pending`;
  return [head, ...further, ...reasons].join('; ');
}

export function replicaDocument({ view, verdict, reasons, ageSeconds }: ReplicaStatus): JsonObject {
  const { vmId, vmName, powerState, relation, extension } = view;
  return {
    ...{ vm: vmName, vmId, powerState, health: verdict, reasons },
    ageSeconds: ageSeconds === undefined ? null : Math.round(ageSeconds),
    relation: relation === undefined ? null : relationDocument(relation),
    extension: extension === undefined ? null : relationDocument(extension),
  };
}

function relationDocument(relation: ReplicaRelation): JsonObject {
  return {
    ...{ phase: relation.phase, state: relation.state, isPaused: relation.isPaused },
    ...{ mode: relation.mode, health: relation.health },
    ...{ primaryServer: relation.primaryServer, replicaServer: relation.replicaServer },
    intervalSeconds: relation.intervalSeconds,
    lastReplicationAt:
      relation.lastReplicationAtMs === undefined
        ? null
        : new Date(relation.lastReplicationAtMs).toISOString(),
    pendingBytes: relation.pendingBytes,
    ...{ errors: relation.errorCount, missed: relation.missedCount },
    healthDetails: relation.healthDetails,
    testVmId: relation.test?.vmId ?? null,
  };
}

export function replicaPlanDocument(plan: ReplicaPlan): JsonObject {
  const { view, verb, steps, refusal, losesAfterMs, hash, isDestructive } = plan;
  return {
    ...{ vm: view.vmName, vmId: view.vmId, verb, state: view.relation?.state ?? null },
    ...{ steps: steps.map((step) => ({ ...step })), isDestructive },
    losesAfter: losesAfterMs === undefined ? null : new Date(losesAfterMs).toISOString(),
    refusal: refusal === undefined ? null : { code: refusal.code, message: refusal.message },
    hash,
  };
}

export function replicaPlanText({
  view,
  verb,
  steps,
  refusal,
  losesAfterMs,
  hash,
}: ReplicaPlan): string {
  const state = view.relation?.state ?? 'not replicated';
  return [
    `${verb} of ${view.vmName} (${state})`,
    ...steps.map(({ name, what }) => `  ${name}: ${what}`),
    ...(steps.length === 0 && refusal === undefined ? ['  nothing is left to do'] : []),
    ...(losesAfterMs === undefined
      ? []
      : [`  lost: what happened after ${new Date(losesAfterMs).toISOString()}`]),
    ...(refusal === undefined ? [] : [`  refused: ${refusal.code}: ${refusal.message}`]),
    `  plan ${hash}`,
  ].join('\n');
}

/** What `hvr_server` and its neighbours ask for. @throws DrError E_PARAMETER */
export function replicaSettings(
  values: Pick<
    ParameterValues,
    | 'hvr_server'
    | 'hvr_port'
    | 'hvr_authentication'
    | 'hvr_certificate'
    | 'hvr_interval'
    | 'hvr_points'
    | 'hvr_vss_hours'
  >,
  excludedDiskPaths: readonly string[] = [],
): ReplicaSettings {
  const { hvr_server: replicaServer, hvr_certificate: certificateThumbprint } = values;
  const isKerberos = values.hvr_authentication === 'kerberos';
  if (replicaServer === undefined) {
    throw wrong('hvr_server', 'nothing says where the replica is', 'Give hvr_server=HOST.');
  }
  if (isKerberos !== (certificateThumbprint === undefined)) {
    throw wrong(
      'hvr_certificate',
      'a thumbprint goes with hvr_authentication=certificate, and that with a thumbprint',
      'Give both, or none of the two.',
    );
  }
  if (certificateThumbprint !== undefined && !/^[0-9a-f]{40}$/i.test(certificateThumbprint)) {
    const hint = 'It has 40 hexadecimal digits, without blanks.';
    throw wrong('hvr_certificate', `"${certificateThumbprint}" is no thumbprint`, hint);
  }
  return {
    replicaServer,
    port: replicaPort(values),
    authentication: isKerberos ? 'Kerberos' : 'Certificate',
    certificateThumbprint,
    intervalSeconds: INTERVALS[values.hvr_interval],
    recoveryPoints: values.hvr_points,
    vssHours: values.hvr_vss_hours,
    excludedDiskPaths,
  };
}

/** The port that is meant when none is given, too. */
export function replicaPort({
  hvr_port: port,
  hvr_authentication: authentication,
}: Pick<ParameterValues, 'hvr_port' | 'hvr_authentication'>): number {
  if (port !== 0) return port;
  return authentication === 'kerberos' ? KERBEROS_PORT : CERTIFICATE_PORT;
}

const INTERVALS = { '30': 30, '300': 300, '900': 900 } as const;

function wrong(parameter: string, why: string, hint: string): DrError {
  return new DrError('E_PARAMETER', `${parameter}: ${why}`, { context: { parameter }, hint });
}
