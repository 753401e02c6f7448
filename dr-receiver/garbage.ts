// What lies in a store and is of no use, and what lies there and is not ours. Only what says of itself
// that it is ours and unfinished is removed (ingest/leftover-cycles.ts); everything else is named.

import { basename, join } from 'node:path';
import { type Guid, guidToWire } from '../shared/bytes/index.js';
import type {
  CollectGarbageRequest,
  CollectGarbageResponse,
  GarbageItem,
} from '../shared/channel/index.js';
import { DrError } from '../shared/errors.js';
import { type FileSystem, isLeftoverOf, removeLeftovers } from '../shared/files/index.js';
import { leftoverInstanceFiles, removeFiles } from './failover/instance-files.js';
import { operationsInUse } from './failover/instance-users.js';
import { leftoverCycles, type LeftoverKind, removeCycles } from './ingest/leftover-cycles.js';
import type { CycleRequest } from './ingest/open-request.js';
import type { VmDesk } from './ingest/vm-desk.js';
import type { Receiver } from './receiver.js';
import { isArchive } from './store/journal-archive.js';
import type { StoreLayout } from './store/layout.js';
import { vmIdOf, type VmStore } from './store/vm-store.js';

/** Names that an answer holds at most; the next run tells the rest. */
const ITEMS_MAX = 2000;

interface Found {
  readonly vmId: Guid | undefined;
  readonly kind: string;
  /** Absolute. */
  readonly path: string;
  readonly sizeBytes: number;
  /** undefined: it is never removed. */
  readonly remove: (() => Promise<void>) | undefined;
  readonly because: string;
}

/** @throws DrError E_IO */
export async function collectGarbage(
  receiver: Receiver,
  { isPlan, olderThanMs }: CollectGarbageRequest,
): Promise<CollectGarbageResponse> {
  const { folder } = receiver.store.layout;
  const items: GarbageItem[] = [];
  const take = async (found: readonly Found[]): Promise<void> => {
    for (const { vmId, kind, path, sizeBytes, remove, because } of found) {
      if (items.length >= ITEMS_MAX) return;
      const isRemoved = !isPlan && remove !== undefined && !receiver.store.isReadOnly;
      if (isRemoved) await remove();
      items.push({
        vmId: vmId === undefined ? Buffer.alloc(0) : guidToWire(vmId),
        kind,
        path: path.slice(folder.length + 1).replaceAll('\\', '/'),
        sizeBytes: BigInt(sizeBytes),
        isRemovable: remove !== undefined,
        isRemoved,
        because,
      });
    }
  };
  await take(await storeItems(receiver));
  let users: Users | undefined;
  for (const desk of await receiver.allDesks()) {
    // what a journal says that nobody can read decides about nothing
    if (desk.vm.halt !== undefined) continue;
    // the hypervisor is asked only when there is something to ask about, and holds up no cycle
    const isAnyLeft = (await leftoverInstanceFiles(receiver.seams.fs, desk.vm)).length > 0;
    if (isAnyLeft) users ??= await usersOf(receiver);
    await desk.vm.change(async () => {
      await take(await vmItems(receiver, desk, Number(olderThanMs), users ?? NOT_ASKED));
    });
  }
  return { items };
}

/** Which VMs use disks of ours, by the operation of the disks; or why nobody can say. */
type Users = ReadonlyMap<Guid, string> | string;

const NOT_ASKED = 'the hypervisor was not asked yet';

async function usersOf({ failovers }: Receiver): Promise<Users> {
  const { host } = failovers.site;
  if (host === undefined) return 'this receiver was not told the hypervisor of its site';
  try {
    return await operationsInUse(host);
  } catch (error) {
    if (error instanceof DrError) return `the hypervisor did not say: ${error.message}`;
    throw error;
  }
}

async function storeItems({ seams, store }: Receiver): Promise<Found[]> {
  const { fs } = seams;
  const { layout } = store;
  const found = await filesIn(fs, undefined, layout.folder, {
    known: [
      ...layout.descriptions.map((path) => basename(path)),
      ...['lock', 'vms', 'drill.key', 'reports', 'machines', 'forgotten', 'lost+found'],
    ],
    targets: [...layout.descriptions, layout.drillKey],
  });
  found.push(...(await reportItems(fs, layout)));
  for (const name of await fs.list(layout.vms)) {
    const path = join(layout.vms, name);
    if (vmIdOf(name) === undefined) found.push(await foreign(fs, undefined, path));
  }
  return found;
}

/** Reports of drills are nobody's garbage; what a power cut left of writing one is. */
async function reportItems(fs: FileSystem, layout: StoreLayout): Promise<Found[]> {
  if ((await fs.status(layout.reports)) === undefined) return [];
  const reports = new Set<string>();
  for (const name of await fs.list(layout.reports)) {
    const [, id, form] = /^\.?([0-9a-f-]{36})\.(json|html)/.exec(name) ?? [];
    const operationId = vmIdOf(id ?? '');
    if (operationId === undefined) continue;
    reports.add(layout.report(operationId, form === 'html' ? 'html' : 'json'));
  }
  const known = [...reports].map((path) => basename(path));
  return filesIn(fs, undefined, layout.reports, { known, targets: [...reports] });
}

async function vmItems(
  { seams }: Receiver,
  desk: VmDesk,
  olderThanMs: number,
  users: Users,
): Promise<Found[]> {
  const { fs, clock } = seams;
  const { vm } = desk;
  const { layout, vmId } = vm;
  const found = await filesIn(fs, vmId, layout.folder, {
    known: ['journal', 'protection.json', 'scrub.json', 'disks', 'cycles', 'kept'],
    targets: [layout.journal, layout.snapshot, layout.scrub],
    isOurs: (name) => isArchive(layout.journal, name),
  });
  for (const name of await fs.list(layout.cycles)) {
    if (vmIdOf(name) === undefined) {
      found.push(await foreign(fs, vmId, join(layout.cycles, name)));
    }
  }
  found.push(...(await leftoverDisks(fs, vm, clock.now() - olderThanMs, users)));
  const unfinished = new Map(
    (await desk.unfinished()).map((cycle) => [cycle.request.cycleId, cycle]),
  );
  for (const { cycleId, kind } of await leftoverCycles(fs, vm)) {
    // what is under way may be using cells of the others
    if (desk.activeRequest !== undefined) continue;
    const begun = unfinished.get(cycleId);
    const untilMs = clock.now() - olderThanMs;
    const isOld = begun === undefined || (await isUseless(fs, vm, begun.request, untilMs));
    const sizeBytes = await sizeOf(fs, layout.cycle(cycleId));
    const remove = async (): Promise<void> => {
      await removeCycles(fs, layout, [cycleId]);
      desk.forgetUnfinished();
    };
    found.push({
      vmId,
      kind: KINDS[kind],
      path: layout.cycle(cycleId),
      sizeBytes,
      remove: kind === 'unknown' || !isOld ? undefined : remove,
      because: because(kind, isOld, begun !== undefined),
    });
  }
  return found;
}

/**
 * Disks of failovers and tests that the journal does not know of any more: those of an operation stay or
 * go together, and stay as long as the hypervisor has a VM on them.
 */
async function leftoverDisks(
  fs: FileSystem,
  vm: VmStore,
  untilMs: number,
  users: Users,
): Promise<Found[]> {
  const files = await Promise.all(
    (await leftoverInstanceFiles(fs, vm)).map(async (file) => {
      const path = join(file.folder, file.name);
      return { ...file, path, status: await fs.status(path) };
    }),
  );
  return files.map((file) => {
    const { operationId, path, status } = file;
    const own = files.filter((each) => each.operationId === operationId);
    const isOld = own.every((each) => (each.status?.modifiedAtMs ?? untilMs) <= untilMs);
    const reason = whyUsed(users, operationId);
    const remove = async (): Promise<void> => {
      await removeFiles(fs, [file]);
      if (file === own.at(-1)) vm.baseHolds.release(operationId);
    };
    return {
      vmId: vm.vmId,
      kind: 'instance-disk',
      path,
      sizeBytes: status?.sizeBytes ?? 0,
      remove: isOld && reason === undefined ? remove : undefined,
      because: isOld
        ? `operation ${operationId}, which made it, is over${reason === undefined ? '' : `; ${reason}`}`
        : `operation ${operationId} is over, but somebody wrote to its disks of late`,
    };
  });
}

function whyUsed(users: Users, operationId: Guid): string | undefined {
  if (typeof users === 'string') return `a VM may run on it: ${users}`;
  const name = users.get(operationId);
  return name === undefined ? undefined : `the VM ${name} stands on it`;
}

/**
 * Nobody has written to it since `untilMs`. A staged seed waits until it is used or discarded. Where the
 * volume does not tell, the beginning of the cycle counts, and an import, which has none, as long as it
 * follows the newest point.
 */
async function isUseless(
  fs: FileSystem,
  { layout, protection }: VmStore,
  { cycleId, consistentAtMs, parentPointId, seededFrom }: CycleRequest,
  untilMs: number,
): Promise<boolean> {
  if (seededFrom !== '') return false;
  const { modifiedAtMs } = (await fs.status(layout.progress(cycleId))) ?? {};
  if (modifiedAtMs === undefined && consistentAtMs === 0) {
    return parentPointId !== protection.head?.pointId;
  }
  return (modifiedAtMs ?? consistentAtMs) <= untilMs;
}

const KINDS: Readonly<Record<LeftoverKind, string>> = {
  unfinished: 'unfinished-cycle',
  removing: 'removal',
  empty: 'removal',
  unknown: 'unknown-cycle',
};

function because(kind: LeftoverKind, isOld: boolean, isUsable: boolean): string {
  switch (kind) {
    case 'unfinished':
      if (!isOld) return 'a cycle may go on with it, or use its cells again';
      return isUsable ? 'no cycle has used it for long' : 'nothing of it can be used';
    case 'removing':
      return 'its removal was interrupted';
    case 'empty':
      return 'a cycle that had just begun';
    case 'unknown':
      return 'the journal does not know it and may be an older copy; it is never removed';
  }
}

/** Leftovers of writes to `targets`, and what is not ours, in one folder. */
async function filesIn(
  fs: FileSystem,
  vmId: Guid | undefined,
  folder: string,
  {
    known,
    targets,
    isOurs = () => false,
  }: {
    readonly known: readonly string[];
    readonly targets: readonly string[];
    readonly isOurs?: (name: string) => boolean;
  },
): Promise<Found[]> {
  const found: Found[] = [];
  for (const name of await fs.list(folder)) {
    if (known.includes(name) || isOurs(name)) continue;
    const path = join(folder, name);
    const target = targets.find((each) => isLeftoverOf(basename(each), name));
    if (target === undefined) {
      found.push(await foreign(fs, vmId, path));
      continue;
    }
    found.push({
      vmId,
      kind: 'temporary-file',
      path,
      sizeBytes: (await fs.status(path))?.sizeBytes ?? 0,
      // whoever still writes it has it locked, and keeps it
      remove: async () => {
        await removeLeftovers(fs, target);
      },
      because: 'a write that never finished',
    });
  }
  return found;
}

async function foreign(fs: FileSystem, vmId: Guid | undefined, path: string): Promise<Found> {
  const status = await fs.status(path);
  return {
    vmId,
    kind: 'foreign-file',
    path,
    sizeBytes: status?.sizeBytes ?? 0,
    remove: undefined,
    because: 'it is not ours; it is never touched',
  };
}

/** Bytes of the files in a folder. */
async function sizeOf(fs: FileSystem, folder: string): Promise<number> {
  if ((await fs.status(folder)) === undefined) return 0;
  let sum = 0;
  for (const name of await fs.list(folder)) {
    sum += (await fs.status(join(folder, name)))?.sizeBytes ?? 0;
  }
  return sum;
}
