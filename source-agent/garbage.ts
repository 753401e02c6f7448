// What runs that were killed left at the source: on the host by our tag, in the state folder by name.
// What bears no tag of ours, or has another name, is named and never touched; so is whatever a live
// operation may still use. Without a ledger in this folder nobody can tell whether another folder's
// agent protects the VM: then its reference points and checkpoints go only when that is insisted on.

import path from 'node:path';
import { type Guid, parseGuid, randomGuid } from '../shared/bytes/index.js';
import type { Clock, Random } from '../shared/clock.js';
import { DrError } from '../shared/errors.js';
import { type FileSystem, removeLeftovers, TEMPORARY_SUFFIX } from '../shared/files/index.js';
import type { OwnerTag, SourceHypervisor, VmSummary } from '../shared/hypervisor/index.js';
import { type OpenFailback, openFailback, protectiveFiles } from './failback/leftovers.js';
import { returnFileName } from './failback/return-record.js';
import { isJobHistory } from './job-history.js';
import { ledgerNames } from './ledger-store.js';
import { leaseState, takeVmLease } from './vm-lease.js';

export interface SourceGarbageOptions {
  readonly hypervisor: SourceHypervisor;
  readonly fs: FileSystem;
  readonly clock: Clock;
  readonly random: Random;
  /** One that is not there is empty; only a plan may name such a one. */
  readonly stateFolder: string;
  readonly signal: AbortSignal;
  /** Only say what would go. */
  readonly isPlan: boolean;
  /** Ledgers of VMs that are gone go as well, and marks of VMs without a ledger. */
  readonly isForgetting: boolean;
}

export type SourceGarbageKind =
  | 'checkpoint'
  | 'reference-point'
  | 'temporary-file'
  | 'protective-file'
  | 'failback-record'
  | 'ledger'
  | 'foreign-checkpoint'
  | 'foreign-reference-point'
  | 'foreign-file';

export interface SourceGarbage {
  readonly kind: SourceGarbageKind;
  readonly vmName: string;
  /** Id at the hypervisor, or name in the state folder. */
  readonly what: string;
  readonly isRemovable: boolean;
  readonly isRemoved: boolean;
  readonly because: string;
}

type Found = Omit<SourceGarbage, 'isRemoved'> & { readonly remove: () => Promise<void> };

/** @throws DrError E_HYPERVISOR, E_IO */
export async function collectSourceGarbage(
  options: SourceGarbageOptions,
): Promise<SourceGarbage[]> {
  const { hypervisor, fs, stateFolder, isPlan } = options;
  const vms = await hypervisor.listVms();
  const items: SourceGarbage[] = [];
  const take = async (found: readonly Found[]): Promise<void> => {
    for (const { remove, ...item } of found) {
      const isRemoved = item.isRemovable && !isPlan;
      if (isRemoved) await remove();
      items.push({ ...item, isRemoved });
    }
  };
  for (const vm of vms) await collectOf(vm, options, take);
  const known = new Set<string>(vms.map(({ id }) => id));
  // one after the other: each looks whether somebody holds the lease
  const isFolder = (await fs.status(stateFolder)) !== undefined;
  for (const name of isFolder ? await fs.list(stateFolder) : []) {
    const found = await fileOf(name, known, options);
    if (found !== undefined) await take([found]);
  }
  return items;
}

/** Removes under the lease of the VM, so that no cycle begins meanwhile. */
async function collectOf(
  vm: VmSummary,
  options: SourceGarbageOptions,
  take: (found: readonly Found[]) => Promise<void>,
): Promise<void> {
  const { fs, clock, random, stateFolder, signal, isPlan } = options;
  const state = await leaseState(stateFolder, vm.id, fs);
  if (state === 'held') return;
  const found = await marksOf(vm, options);
  if (isPlan || !found.some(({ isRemovable }) => isRemovable)) {
    await take(found);
    return;
  }
  const lease = await takeVmLease(
    stateFolder,
    {
      vmId: vm.id,
      vmName: vm.name,
      operationId: randomGuid(random),
      holder: `process ${process.pid}`,
      waitMs: 0,
      signal,
    },
    { fs, clock },
  ).catch((error: unknown) => {
    // a cycle began just now, and looks for leftovers itself
    if (error instanceof DrError && error.code === 'E_LOCKED') return undefined;
    throw error;
  });
  if (lease === undefined) return;
  try {
    // A ledger that was read may have taken its name a moment before a kill, and reference points that
    // only the former one names are removed next: its name first.
    await fs.flushFolder(stateFolder);
    // what was there a moment ago may be in use, or gone
    await take(await marksOf(vm, options));
  } finally {
    await lease.release();
  }
}

/** Checkpoints and reference points of a VM that nobody works on. */
async function marksOf(vm: VmSummary, options: SourceGarbageOptions): Promise<Found[]> {
  const { hypervisor, fs, random, stateFolder, isForgetting } = options;
  const names = await ledgerNames(fs, stateFolder, vm.id);
  const failback = await openFailback(vm.id, stateFolder, { fs, random });
  const mark = (
    kind: 'checkpoint' | 'reference-point',
    { id, tag }: { readonly id: string; readonly tag: OwnerTag | undefined },
    remove: () => Promise<void>,
    isKnown: boolean,
    because: string,
  ): Found => {
    const isOurs = tag?.protectionId === vm.id;
    return {
      kind: isOurs ? kind : `foreign-${kind}`,
      vmName: vm.name,
      what: id,
      isRemovable: isOurs && isKnown,
      because: isOurs ? because : 'it is not ours; it is never touched',
      remove,
    };
  };
  const found: Found[] = [];
  for (const checkpoint of await hypervisor.listCheckpoints(vm.id)) {
    if (isInUse(checkpoint, failback)) continue;
    // a lease alone does not tell: looking at a VM from another folder leaves one
    const isKnown = names !== 'none' || isForgetting;
    const remove = (): Promise<void> => hypervisor.removeCheckpoint(vm.id, checkpoint.id);
    const why = isKnown ? 'the cycle that made it has ended' : NOT_KNOWN;
    found.push(mark('checkpoint', checkpoint, remove, isKnown, why));
  }
  for (const point of await hypervisor.listReferencePoints(vm.id)) {
    if (typeof names === 'object' && names.referenceId === point.id) continue;
    if (isInUse(point, failback)) continue;
    const isKnown = typeof names === 'object' || isForgetting;
    const remove = (): Promise<void> => hypervisor.removeReferencePoint(vm.id, point.id);
    const why = isKnown ? 'no ledger names it' : names === 'unusable' ? UNUSABLE : NOT_KNOWN;
    found.push(mark('reference-point', point, remove, isKnown, why));
  }
  if (failback !== undefined) {
    const because = `a failback is open; its DR site ends it, or where that is gone: hvdr end-failback ${vm.name}`;
    const remove = (): Promise<void> => Promise.resolve();
    const what = returnFileName(vm.id);
    const record = { kind: 'failback-record', vmName: vm.name, what, isRemovable: false } as const;
    return [...found, { ...record, because, remove }];
  }
  for (const { file, isStoodOn } of await protectiveFiles(vm.id, hypervisor, { fs, random })) {
    if (isStoodOn === 'yes') continue;
    const isKnown = names !== 'none' || isForgetting;
    const isRemovable = isKnown && isStoodOn === 'no';
    const why = isKnown ? 'the failback that made it is over' : NOT_KNOWN;
    const because = isStoodOn === 'unknown' ? UNREAD : why;
    const remove = async (): Promise<void> => {
      await fs.remove(file);
      await fs.flushFolder(path.dirname(file));
    };
    found.push({
      ...{ kind: 'protective-file', vmName: vm.name, what: file },
      ...{ isRemovable, because, remove },
    });
  }
  return found;
}

/** Marks of a failback under way; all of ours when its record cannot be read. */
function isInUse(
  { tag }: { readonly tag: OwnerTag | undefined },
  failback: OpenFailback | undefined,
): boolean {
  if (failback === undefined || tag === undefined) return false;
  return failback === 'unreadable' || tag.operationId === failback.operationId;
}

const UNREAD =
  'the disks of a VM of this host cannot be read, so nobody knows whether one stands on it';

const UNUSABLE = 'the ledger cannot be read, so nobody knows whether it names it';
const NOT_KNOWN =
  'there is no ledger of the VM in this state folder; another one may have it (--forget insists)';

/** What a file of the state folder is; undefined: it is in use, or a lease, which always stays. */
async function fileOf(
  name: string,
  known: ReadonlySet<string>,
  { fs, stateFolder, isForgetting }: SourceGarbageOptions,
): Promise<Found | undefined> {
  const file = path.join(stateFolder, name);
  const remove = async (): Promise<void> => {
    await fs.remove(file);
    await fs.flushFolder(stateFolder);
  };
  const make = (kind: SourceGarbageKind, isRemovable: boolean, because: string): Found => ({
    kind,
    vmName: '',
    what: name,
    isRemovable,
    because,
    remove,
  });
  const target = /^\.(.+)\.[0-9a-f]{8}$/.exec(name.replace(TEMPORARY_SUFFIX, ''))?.[1];
  if (name.endsWith(TEMPORARY_SUFFIX) && target !== undefined && isTarget(target)) {
    return {
      ...make('temporary-file', true, 'a write that never finished'),
      // whoever still writes it has it locked, and keeps it
      remove: async () => {
        await removeLeftovers(fs, path.join(stateFolder, target));
      },
    };
  }
  if (isJobHistory(name)) return undefined;
  const vmId = parseGuid(name.slice(0, 36));
  const rest = name.slice(36);
  if (vmId === undefined || !name.startsWith(vmId) || !isOurName(rest)) {
    return make('foreign-file', false, 'it is not ours; it is never touched');
  }
  // Whoever opened it before it was removed would lock a file without a name, and the next one a new
  // file: both would hold the lease of one VM.
  if (rest === '.lock') return undefined;
  const isThere = known.has(vmId);
  const state = await leaseState(stateFolder, vmId, fs);
  if (state === 'held') return undefined;
  if (rest.startsWith('.unusable-')) {
    return make('ledger', isForgetting, 'a ledger that could not be used; for people');
  }
  if (isThere && ['.json', '.failback.json', '.stopped.json'].includes(rest)) return undefined;
  if (isThere) return strayCells(name, vmId, make);
  return make('ledger', isForgetting, 'its VM is not on this host (--forget removes it)');

  async function strayCells(
    cells: string,
    of: Guid,
    making: typeof make,
  ): Promise<Found | undefined> {
    const names = await ledgerNames(fs, stateFolder, of);
    if (names === 'unusable') return undefined;
    if (names !== 'none' && names.cellsName === cells) return undefined;
    return making('temporary-file', true, 'sets that no ledger names');
  }
}

/** What stands behind the VM's id in a name of ours. */
function isOurName(rest: string): boolean {
  return /^\.(json|failback\.json|stopped\.json|lock|[0-9]{1,16}\.cells|unusable-[0-9TZ-]{1,40}\.json)$/.test(
    rest,
  );
}

/** A file that we write under a temporary name. */
function isTarget(name: string): boolean {
  return (
    name === 'probe' ||
    isJobHistory(name) ||
    (parseGuid(name.slice(0, 36)) !== undefined && /\.(json|manifest)$/.test(name))
  );
}
