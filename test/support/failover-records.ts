// Failover records for tests: whole values, of which a test changes what it is about.

import type {
  FailoverRecord,
  Instance,
  Operation,
  TestSession,
} from '../../dr-receiver/failover/model.js';
import type { Guid } from '../../shared/bytes/index.js';
import { cycleId, diskId, numbered, pointId } from './protection-records.js';

export const operationId = (n: number): Guid => numbered(6, n);

export function anOperation(fields: Partial<Operation> = {}): Operation {
  return {
    operationId: operationId(1),
    kind: 'planned',
    step: 'P1',
    startedAtMs: 5000,
    by: 'ops',
    keyId: 'k1',
    parameters: { network_map: 'a=b' },
    pointId: pointId(2),
    facts: { wasRunning: 'yes' },
    ...fields,
  };
}

export function anInstance(fields: Partial<Instance> = {}): Instance {
  return {
    operationId: operationId(1),
    pointId: pointId(2),
    vmName: 'SQL01',
    vmId: numbered(1, 77),
    disks: [
      {
        diskId: diskId(1),
        generation: 0,
        baseCycleId: cycleId(1),
        materialised: 'op-1.vhdx',
        protective: 'op-1.p.vhdx',
        servedRoot: 'ab'.repeat(32),
      },
    ],
    poweredOnAtMs: 6000,
    checks: 'passed',
    isPlanned: false,
    servedUntilMs: 0,
    ranBesideAtMs: 6500,
    network: { network_map: 'a=b', reip_rules: 'SQL01:10.9.0.5/24' },
    ...fields,
  };
}

export function aTest(n: number, fields: Partial<TestSession> = {}): TestSession {
  return {
    operationId: operationId(n),
    phase: 'running',
    step: 'T5',
    startedAtMs: 7000,
    deadlineMs: 90_000,
    by: 'drills',
    isKept: true,
    parameters: { test_network: 'bubble' },
    instance: anInstance({ operationId: operationId(n), vmName: `SQL01-test-${n}` }),
    cause: undefined,
    ...fields,
  };
}

/** Every field is there. */
export function aFailover(fields: Partial<FailoverRecord> = {}): FailoverRecord {
  return {
    phase: 'failed-over',
    activeSite: 'target',
    operation: anOperation(),
    instance: anInstance(),
    replacement: anInstance({ operationId: operationId(2) }),
    commit: { policy: 'rollback', deadlineMs: 60_000 },
    halted: { phase: 'failing-over', step: 'P7', cause: 'full', allowed: ['undo', 'resume'] },
    isSourceStopped: true,
    orphanEpoch: '7',
    owed: [
      { kind: 'fence', operationId: operationId(1) },
      {
        kind: 'commitFailback',
        operationId: operationId(2),
        point: { pointId: pointId(3), consistentAtMs: 5000 },
      },
    ],
    ...fields,
  };
}
