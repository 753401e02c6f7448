// What the operations of a failover work with: the hypervisor of this site, the agents of the primary,
// the disks of a point, and the way into the journal.

import type { Guid } from '../../shared/bytes/index.js';
import type { VmDefinition } from '../../shared/hypervisor/index.js';
import { DrError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import type { ConnectTcp, RunScript } from '../../shared/probe/index.js';
import type { IngestSeams } from '../ingest/incoming-cycle.js';
import type { StoreLayout } from '../store/layout.js';
import type { Point } from '../store/point.js';
import type { VmStore } from '../store/vm-store.js';
import type { InstanceDisk } from './model.js';
import type { AdapterPlan, NetworkWish } from './network.js';
import type { SourceSites, TargetHost } from './ports.js';

/** The disks of a point as a VM can use them (design.md § 7). */
export interface PointDisks {
  /** Names the files, one for each disk of the point in its order; makes nothing. In a change of the VM. */
  plan(vm: VmStore, point: Point, operationId: Guid): readonly InstanceDisk[];
  /**
   * Makes those that are not there; durable and whole on return.
   * @throws DrError E_POINT_CORRUPT, E_CAPACITY, E_IO; the signal's reason
   */
  make(
    vm: VmStore,
    point: Point,
    disks: readonly InstanceDisk[],
    signal: AbortSignal,
  ): Promise<void>;
  /** Absolute paths of the protective disks. */
  paths(vm: VmStore, disks: readonly InstanceDisk[]): readonly string[];
  /** Removes all files of an operation that nobody uses any more. No error when they are gone. */
  remove(vm: VmStore, operationId: Guid, disks: readonly InstanceDisk[]): Promise<void>;
  /** What the protective disks have taken of the volume, with what stands above them. */
  usedBytes(vm: VmStore, disks: readonly InstanceDisk[]): Promise<number>;
  /** Writes each disk as it is, standing alone, under `name` into the folder of the VM. */
  keep(vm: VmStore, disks: readonly InstanceDisk[], name: string): Promise<void>;
}

export interface FailoverSite {
  /** undefined: this receiver was not told its hypervisor. */
  readonly host: TargetHost | undefined;
  readonly sources: SourceSites;
  readonly disks: PointDisks;
  /** @throws DrError E_NET_UNMAPPED, E_NOT_ISOLATED, E_REIP_… */
  readonly planNetwork: (definition: VmDefinition, wish: NetworkWish) => Promise<AdapterPlan[]>;
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
