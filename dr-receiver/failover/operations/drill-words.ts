// The report of a test, out of what its steps have gathered.

import { ipMapOf } from '../../../shared/network/index.js';
import { type DrillReport, REPORT_FORMAT, REPORT_VERSION } from '../drill/report.js';
import type { TestWork } from './test-work.js';

export function drillReport(work: TestWork, problem: string | undefined): DrillReport {
  const { site, desk, book, point, values } = work;
  const { protection, vmId } = desk.vm;
  const { operationId, instance, startedAtMs, by } = book.session;
  const endedAtMs = site.seams.clock.now();
  const isPassed = problem === undefined && work.isPassed;
  let diskBytes = 0;
  for (const { sizeBytes } of point.disks) diskBytes += sizeBytes;
  return {
    format: REPORT_FORMAT,
    formatVersion: REPORT_VERSION,
    program: site.programVersion,
    kind: 'test',
    verdict: isPassed ? 'passed' : 'failed',
    ...(problem === undefined ? {} : { problem }),
    operationId,
    storeId: site.storeId,
    site: site.host?.name ?? '',
    by,
    vm: {
      id: vmId,
      name: protection.vmName,
      instanceName: instance.vmName,
      diskCount: point.disks.length,
      diskBytes,
    },
    point: {
      id: point.pointId,
      consistentAtMs: point.consistentAtMs,
      isApplicationConsistent: point.isApplicationConsistent,
      ageMs: Math.max(0, startedAtMs - point.consistentAtMs),
    },
    startedAtMs,
    endedAtMs,
    ...(isPassed ? { recoveryTimeMs: endedAtMs - startedAtMs } : {}),
    rpoTargetMs: protection.rpoSeconds * 1000,
    network: { testNetwork: values.test_network ?? 'none', ipMap: ipMapOf(work.network) },
    checks: work.results,
    timeline: work.timeline,
    warnings: [],
  };
}
