// What `hvdr doctor` says of Hyper-V Replica: the relations of this host, and whether a replica server can be reached.

import { DrError } from '../shared/errors.js';
import type { SourceHypervisor } from '../shared/hypervisor/index.js';
import { replicaLine, replicaStatus, type ReplicaVerdict } from '../shared/operator/replica.js';
import type { ConnectTcp } from '../shared/probe/index.js';
import { fail, type Finding, ok, warn } from './finding.js';

const CHECK = 'Hyper-V Replica';
const REMEDIES: Readonly<Record<Exclude<ReplicaVerdict, 'ok'>, string>> = {
  warn: 'docs/async-hvr.md tells the states; `hvdr replica resume` sends again what was paused',
  critical:
    'look at the VM at both hosts with `hvdr replica status`; then `hvdr replica resume` or `resync`',
};

/** A finding for each VM that Hyper-V replicates; none where the host has no replication of its own. */
export async function examineReplicas(
  host: Pick<SourceHypervisor, 'replica' | 'listVms' | 'listReferencePoints'>,
  wish: { readonly rpoSeconds: number; readonly nowMs: number },
): Promise<Finding[]> {
  const { replica } = host;
  if (replica === undefined) return [];
  const findings: Finding[] = [];
  for (const { id, name } of await host.listVms()) {
    const check = `${CHECK} of ${name}`;
    try {
      const view = await replica.view(id);
      if (view.relation === undefined && view.extension === undefined) continue;
      const status = replicaStatus(view, wish);
      const line = replicaLine(status);
      if (status.verdict === 'ok') findings.push(ok(check, line));
      else if (status.verdict === 'warn') findings.push(warn(check, line, REMEDIES.warn));
      else findings.push(fail(check, line, REMEDIES.critical));
      if ((await host.listReferencePoints(id)).length > 0) {
        findings.push(
          warn(
            check,
            `${name} has reference points of this product as well: both track its disks, and each costs`,
            'protect it by one of the two: `hvdr replica remove`, or take it out of the pushes',
          ),
        );
      }
    } catch (error) {
      if (!(error instanceof DrError)) throw error;
      findings.push(fail(check, `${error.code}: ${error.message}`, error.hint));
    }
  }
  return findings.length > 0 ? findings : [ok(CHECK, 'this host replicates no VM by itself')];
}

/** Whether a replica server takes a connection. Whether it takes replicas of this host only Hyper-V can tell. */
export async function examineReplicaServer(
  address: { readonly host: string; readonly port: number },
  connect: ConnectTcp,
  signal: AbortSignal,
): Promise<Finding> {
  const check = 'replica server';
  const place = `${address.host}:${address.port}`;
  try {
    await connect(address, signal);
    return ok(check, `${place} takes a connection; \`hvdr replica enable\` tries what it allows`);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return fail(
      check,
      `${place} takes no connection: ${why}`,
      'there: Set-VMReplicationServer -ReplicationEnabled $true, and the firewall rule "Hyper-V Replica HTTP ' +
        'Listener" (HTTPS with certificates); here: hvr_port and hvr_authentication have to be those of the server',
    );
  }
}
