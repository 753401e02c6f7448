// How a cycle and a run are told: a line for people, a document for programs. The command line and the
// jobs of Bacula say the same.

import type { Guid } from '../shared/bytes/index.js';
import { errorDocument, type JsonObject } from '../shared/json.js';
import { formatSize } from '../shared/sizes.js';
import type { CycleResult } from './cycle-result.js';
import type { CycleOutcome, RunReport, VmReport } from './run-report.js';

/** `SQL01 delta 42 MiB, 2 disks, app-consistent, RPO 412/600 s, point 1f3a` */
export function outcomeLine(vmName: string, outcome: CycleOutcome, rpoSeconds: number): string {
  switch (outcome.kind) {
    case 'done':
      return doneLine(vmName, outcome.result, rpoSeconds);
    case 'failed':
      return `${vmName} failed, ${outcome.error.line}`;
    case 'skipped':
      return `${vmName} skipped: ${outcome.text}`;
    case 'stopped':
      return `${vmName} stopped; what changed stays owed to the receiver`;
  }
}

function doneLine(vmName: string, result: CycleResult, rpoSeconds: number): string {
  const { kind, bytesSent, disks, consistency, ageSeconds, pointId } = result;
  const repeated = disks.reduce((sum, { repeatedBytes }) => sum + repeatedBytes, 0);
  const reused = disks.reduce((sum, { reusedBytes }) => sum + reusedBytes, 0);
  const parts = [
    `${vmName} ${kind} ${formatSize(bytesSent)}`,
    `${disks.length} ${disks.length === 1 ? 'disk' : 'disks'}`,
    consistency === 'application' ? 'app-consistent' : 'crash-consistent',
    `RPO ${ageSeconds}/${rpoSeconds} s`,
    `point ${pointId.slice(0, 4)}`,
  ];
  if (repeated > 0) parts.push(`${formatSize(repeated)} sent again after a break`);
  if (reused > 0) parts.push(`${formatSize(reused)} taken from what the receiver had`);
  const said = [...result.warnings.map(({ code, text }) => `${code} ${text}`), ...result.notes];
  return [parts.join(', '), ...said.map((text) => `  ${text}`)].join('\n');
}

export function outcomeDocument(
  vm: { readonly id: Guid; readonly name: string },
  outcome: CycleOutcome,
  rpoSeconds: number,
): JsonObject {
  const who = { vm: vm.name, vmId: vm.id };
  switch (outcome.kind) {
    case 'done': {
      const { result } = outcome;
      return {
        ...who,
        kind: result.kind,
        bytesSent: result.bytesSent,
        point: result.pointId,
        cycle: result.cycleId,
        consistency: result.consistency,
        consistentAt: new Date(result.consistentAtMs).toISOString(),
        ageSeconds: result.ageSeconds,
        rpoSeconds,
        durationMs: result.durationMs,
        disks: result.disks.map((disk) => ({ ...disk })),
        warnings: result.warnings.map((warning) => ({ ...warning })),
        notes: result.notes,
      };
    }
    case 'failed':
      return { ...who, kind: 'failed', bytesSent: 0, ...errorDocument(outcome.error) };
    case 'skipped': {
      const { reason, text, isCovered } = outcome;
      return { ...who, kind: 'skipped', bytesSent: 0, reason, text, isCovered };
    }
    case 'stopped':
      return { ...who, kind: 'stopped', bytesSent: 0 };
  }
}

/** One VM at the end of a run: its last cycle, with the counts over all. */
export function vmDocument(report: VmReport): JsonObject {
  const { vmId, vmName, last, rpoSeconds, cycleCount, failureCount, bytesSent } = report;
  return {
    ...outcomeDocument({ id: vmId, name: vmName }, last, rpoSeconds),
    bytesSent,
    cycles: cycleCount,
    failures: failureCount,
  };
}

/** `3 VMs: 2 done, 1 failed; 42 MiB sent, 1.2 s` */
export function totalsLine({ vms, warnings }: RunReport, durationMs: number): string {
  const count = (kind: CycleOutcome['kind']): number =>
    vms.filter(({ last }) => last.kind === kind).length;
  const parts = (['done', 'failed', 'skipped', 'stopped'] as const)
    .map((kind) => [kind, count(kind)] as const)
    .filter(([, number]) => number > 0)
    .map(([kind, number]) => `${number} ${kind}`);
  const bytes = vms.reduce((sum, { bytesSent }) => sum + bytesSent, 0);
  const seconds = (durationMs / 1000).toFixed(1);
  const line = `${vms.length} ${vms.length === 1 ? 'VM' : 'VMs'}: ${parts.join(', ')}; ${formatSize(bytes)} sent, ${seconds} s`;
  return [line, ...warnings].join('\n');
}
