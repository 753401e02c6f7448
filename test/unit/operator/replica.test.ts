// What the parameters of Hyper-V Replica ask for, and how a VM stands against its RPO.

import { expect } from 'chai';
import type { ReplicaRelation, ReplicaView } from '../../../shared/hypervisor/index.js';
import {
  replicaLine,
  replicaSettings,
  replicaStatus,
  type ReplicaVerdict,
} from '../../../shared/operator/replica.js';
import { parsePluginString, resolveParameters } from '../../../shared/params/index.js';
import { DrError } from '../../../shared/errors.js';
import { VM } from '../../support/replica/pair.js';

const NOW = Date.UTC(2026, 0, 1);

const settingsOf = (words: string) =>
  replicaSettings(resolveParameters(parsePluginString(`podheitor-hyperv: ${words}`).given).values);

function view(changes: Partial<ReplicaRelation>): ReplicaView {
  return {
    ...{ vmId: VM, vmName: 'SQL01', powerState: 'running' },
    relation: {
      relationship: 'Simple',
      ...{ phase: 'PROTECTED', state: 'Replicating', isPaused: false, health: 'ok' },
      ...{ mode: 'primary', primaryServer: 'hv1', replicaServer: 'hv2', intervalSeconds: 300 },
      ...{ lastReplicationAtMs: NOW - 60_000, isLastPlanned: false, pendingBytes: 4096n },
      ...{ errorCount: 0, missedCount: 0, healthDetails: [], test: undefined },
      ...changes,
    },
    extension: undefined,
  };
}

describe('Hyper-V Replica of the parameters', () => {
  it('goes to the port of its authentication unless another one is given', () => {
    expect(settingsOf('hvr_server=hv2')).to.deep.equal({
      ...{ replicaServer: 'hv2', port: 80, authentication: 'Kerberos' },
      ...{ certificateThumbprint: undefined, intervalSeconds: 300, recoveryPoints: 4, vssHours: 0 },
      excludedDiskPaths: [],
    });
    const print = 'AB'.repeat(20);
    const words = `hvr_server=hv2 hvr_authentication=certificate hvr_certificate=${print}`;
    expect(settingsOf(words)).to.include({ port: 443, certificateThumbprint: print });
    expect(settingsOf(`${words} hvr_port=8443 hvr_interval=30`)).to.include({
      ...{ port: 8443, intervalSeconds: 30 },
    });
  });

  for (const words of [
    '',
    'hvr_server=hv2 hvr_authentication=certificate',
    `hvr_server=hv2 hvr_certificate=${'AB'.repeat(20)}`,
    'hvr_server=hv2 hvr_authentication=certificate hvr_certificate=12',
  ]) {
    it(`is refused as "${words}"`, () => {
      expect(() => settingsOf(words))
        .to.throw(DrError)
        .with.property('code', 'E_PARAMETER');
    });
  }

  const table: readonly (readonly [string, Partial<ReplicaRelation>, ReplicaVerdict, RegExp])[] = [
    ['young', {}, 'ok', /^$/],
    ['near the RPO', { lastReplicationAtMs: NOW - 730_000 }, 'warn', /RPO 900 s/],
    ['older than the RPO', { lastReplicationAtMs: NOW - 901_000 }, 'critical', /901 s ago/],
    ['never replicated', { lastReplicationAtMs: undefined }, 'critical', /nothing was replicated/],
    ['ahead of our clock', { lastReplicationAtMs: NOW + 5000 }, 'ok', /^$/],
    ['paused', { state: 'Suspended', isPaused: true }, 'warn', /nothing is sent/],
    ['critical', { health: 'critical', errorCount: 3 }, 'critical', /3 errors/],
    ['unhealthy', { health: 'warn', healthDetails: ['no space'] }, 'warn', /no space/],
    ['halted', { phase: 'HALTED', state: 'unknown(22)' }, 'critical', /unknown\(22\)/],
    ['failed over', { phase: 'FAILED_OVER', lastReplicationAtMs: 0 }, 'warn', /nothing is repl/],
    ['compared', { phase: 'RESYNC' }, 'warn', /are compared/],
    ['tested', { test: { vmId: VM, powerState: 'running' } }, 'warn', /test VM/],
  ];
  for (const [what, changes, verdict, reason] of table) {
    it(`says ${verdict} of a VM that is ${what}`, () => {
      const status = replicaStatus(view(changes), { rpoSeconds: 900, nowMs: NOW });
      expect(status.verdict).to.equal(verdict);
      expect(status.reasons.join('; ')).to.match(reason);
      expect(replicaLine(status)).to.match(/^SQL01: /);
    });
  }
});
