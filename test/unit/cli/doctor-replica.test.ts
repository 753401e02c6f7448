// What `hvdr doctor` says of Hyper-V Replica, against the model of two hosts.

import { createServer } from 'node:net';
import { once } from 'node:events';
import { expect } from 'chai';
import { examineReplicas } from '../../../cli/doctor-replica.js';
import { freePort } from '../../support/free-port.js';
import { runInProcess } from '../../support/cli.js';
import { relationOf, ReplicaPair, VM } from '../../support/replica/pair.js';

const REPLICATED_AT = Date.parse('2026-01-01T00:00:00Z');

describe('hvdr doctor about Hyper-V Replica', () => {
  type Examined = Parameters<typeof examineReplicas>[0];

  /** At the primary, so many seconds after what was replicated last. */
  async function examined(pair: ReplicaPair, ageSeconds: number, points = 0) {
    const host: Examined = {
      replica: pair.primary.host(),
      listVms: () => Promise.resolve([{ id: VM, name: 'SQL01', powerState: 'running' }]),
      listReferencePoints: () =>
        Promise.resolve(
          Array.from({ length: points }, () => ({}) as never), // only how many there are is looked at
        ),
    };
    const wish = { rpoSeconds: 900, nowMs: REPLICATED_AT + 1000 * ageSeconds };
    return examineReplicas(host, wish);
  }

  it('tells state, servers and age of a relation that is well', async () => {
    const [finding, ...more] = await examined(ReplicaPair.replicating(), 60);
    expect(more).to.deep.equal([]);
    expect(finding).to.include({ verdict: 'ok', check: 'Hyper-V Replica of SQL01' });
    expect(finding?.detail).to.contain('PROTECTED (Replicating)').and.contain('60 s ago');
  });

  it('fails when the RPO does not hold, and warns of what is paused', async () => {
    const [late] = await examined(ReplicaPair.replicating(), 1000);
    expect(late).to.include({ verdict: 'fail' });
    expect(late?.detail).to.contain('RPO 900 s');
    expect(late?.remedy).to.contain('hvdr replica resume');
    const paused = ReplicaPair.replicating();
    Object.assign(paused.primary.relation ?? {}, { state: 'Suspended' });
    const [finding] = await examined(paused, 60);
    expect(finding).to.include({ verdict: 'warn' });
    expect(finding?.detail).to.contain('nothing is sent');
  });

  it('tells of the extended replica at a third host, which has a state and a health of its own', async () => {
    const pair = ReplicaPair.replicating();
    pair.primary.extension = relationOf('Replicating', 'Replica');
    const [well] = await examined(pair, 60);
    expect(well).to.include({ verdict: 'ok' });
    expect(well?.detail).to.contain('extended to hv3.example: PROTECTED (Replicating)');
    pair.primary.extension = { ...relationOf('Replicating', 'Replica'), health: 'Critical' };
    const [bad] = await examined(pair, 60);
    expect(bad).to.include({ verdict: 'fail' });
    expect(bad?.detail).to.contain('extended replica: critical');
    pair.primary.relation = undefined;
    const [left] = await examined(pair, 60);
    expect(left?.detail).to.contain('hv3.example');
  });

  it('warns of a VM that this product protects as well', async () => {
    const [, both] = await examined(ReplicaPair.replicating(), 60, 1);
    expect(both).to.include({ verdict: 'warn' });
    expect(both?.remedy).to.contain('by one of the two');
  });

  it('says so when no VM is replicated, and nothing at a host that has none of it', async () => {
    const [none, ...more] = await examined(new ReplicaPair(), 0);
    expect(more).to.deep.equal([]);
    expect(none?.detail).to.equal('this host replicates no VM by itself');
    const lab: Examined = {
      listVms: () => Promise.resolve([]),
      listReferencePoints: () => Promise.resolve([]),
    };
    expect(await examineReplicas(lab, { rpoSeconds: 900, nowMs: 0 })).to.deep.equal([]);
  });

  it('tries the port of a replica server', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    const open = typeof address === 'object' ? (address?.port ?? 0) : 0;
    try {
      for (const [port, verdict] of [
        [open, 'ok'],
        [await freePort(), 'fail'],
      ] as const) {
        const at = ['--hvr-server', '127.0.0.1', '--hvr-port', String(port)];
        const run = await runInProcess(['doctor', ...at]);
        expect(run.stdout).to.match(
          new RegExp(`^${verdict} +replica server: 127\\.0\\.0\\.1:${port} takes`, 'm'),
        );
        expect(run.code === 1).to.equal(verdict === 'fail');
      }
    } finally {
      server.close();
    }
  });
});
