// A report as a drill would make it, for tests that sign, show and verify reports.

import type { DrillReport } from '../../dr-receiver/failover/drill/report.js';

export const SAMPLE_REPORT: DrillReport = {
  format: 'hvdr drill report',
  formatVersion: 1,
  program: '0.1.0',
  kind: 'test',
  verdict: 'passed',
  operationId: '11111111-2222-4333-8444-555555555555',
  storeId: 'aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee',
  site: 'dr',
  by: 'alice',
  vm: {
    id: '01234567-89ab-4def-8123-456789abcdef',
    name: 'SQL01',
    instanceName: 'SQL01-test-11111111',
    diskCount: 2,
    diskBytes: 64 * 1024 ** 3,
  },
  point: {
    id: '99999999-8888-4777-8666-555555555555',
    consistentAtMs: Date.UTC(2026, 0, 1, 11, 55),
    isApplicationConsistent: true,
    ageMs: 300_000,
  },
  startedAtMs: Date.UTC(2026, 0, 1, 12),
  endedAtMs: Date.UTC(2026, 0, 1, 12, 2),
  recoveryTimeMs: 61_500,
  rpoTargetMs: 900_000,
  network: { testNetwork: 'Bubble', ipMap: { '10.0.0.5': '10.9.0.5' } },
  checks: [
    {
      check: 'heartbeat',
      outcome: 'passed',
      startedAtMs: Date.UTC(2026, 0, 1, 12, 0, 10),
      durationMs: 31_000,
      deadlineMs: 600_000,
      words: 'the guest is up',
    },
  ],
  timeline: [
    { atMs: Date.UTC(2026, 0, 1, 12), step: 'T1', what: 'point pinned' },
    { atMs: Date.UTC(2026, 0, 1, 12, 2), step: 'T7', what: 'VM and disks removed' },
  ],
  warnings: [],
};
