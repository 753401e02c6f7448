// What the operations of a failover work with: the hypervisor of this site, the agents of the primary,
// and what of the surroundings a drill asks.

import type { Guid } from '../../shared/bytes/index.js';
import type { VmDefinition } from '../../shared/hypervisor/index.js';
import { DrError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import type { ConnectTcp, RunScript } from '../../shared/probe/index.js';
import type { AdapterPlan, NetworkPlan } from '../../shared/network/index.js';
import type { IngestSeams } from '../ingest/incoming-cycle.js';
import type { StoreLayout } from '../store/layout.js';
import type { NetworkWish } from './network.js';
import type { ServingDisks } from './failback/serving-disks.js';
import type { SourceSites, TargetHost } from './ports.js';

export interface FailoverSite {
  /** undefined: this receiver was not told its hypervisor. */
  readonly host: TargetHost | undefined;
  readonly sources: SourceSites;
  /** Serving VMs that are frozen for a failback, by operation: there the primary fetches from. */
  readonly rounds: Map<Guid, ServingDisks>;
  /** @throws DrError E_NET_UNMAPPED, E_NOT_ISOLATED, E_REIP_… */
  readonly planNetwork: (
    definition: VmDefinition,
    wish: NetworkWish,
  ) => Promise<readonly AdapterPlan[]>;
  /** The same plan with all that speaks against it. @throws DrError E_PARAMETER */
  readonly explainNetwork: (definition: VmDefinition, wish: NetworkWish) => Promise<NetworkPlan>;
  readonly seams: IngestSeams;
  readonly layout: StoreLayout;
  readonly storeId: Guid;
  readonly log: Log;
  readonly connect: ConnectTcp;
  readonly runScript: RunScript;
  /** Where the scripts of this side stand; undefined: it has none. */
  readonly scriptFolder: string | undefined;
  readonly programVersion: string;
}

/** @throws DrError E_STATE when this receiver has no hypervisor */
export function requireHost({ host }: Pick<FailoverSite, 'host'>): TargetHost {
  if (host !== undefined) return host;
  throw new DrError('E_STATE', 'this receiver was not told the hypervisor of its site', {
    hint: 'Start it with `hvdr receiver --host lab:DIR` or `--host hyperv`; the same with `--store`.',
  });
}
