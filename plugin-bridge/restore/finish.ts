// The end of a restore: every disk is led as far as what has come leads it, compared cell by cell with its
// manifest, and given its name; a VM whose disks are all there and right is registered. One VM's failure
// is not the others'.

import { dirname, join } from 'node:path';
import type { Guid } from '../../shared/bytes/index.js';
import {
  parseRctState,
  parseVmConfig,
  RECORD_BYTES_MAX,
  type RctState,
} from '../../shared/catalog/index.js';
import { fileChunks, publishFile } from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import { readSmall } from '../../shared/files/index.js';
import type { VmDefinition } from '../../shared/hypervisor/index.js';
import type { ArrivedDisk } from './arrival-check.js';
import {
  type Arrived,
  arrivedOf,
  type BaseDisk,
  baselessDelta,
  chainError,
  missingFor,
  nextDelta,
  strayDelta,
} from './chain.js';
import {
  applyNext,
  giveName,
  isAsBackedUp,
  stampOf,
  positionOf,
  rootAt,
  verifyDisk,
  type DiskSeams,
} from './disks.js';
import type { Item } from './items.js';
import { siblingOf } from './names.js';
import { mayWrite } from './place.js';
import { registerRestored } from './register.js';
import type { RestoreJob, RestorePorts, RestoreValues } from './ports.js';
import type { RestoreSession } from './session.js';

export interface FinishWork extends Pick<RestorePorts, 'fs' | 'clock' | 'random' | 'say' | 'host'> {
  readonly job: RestoreJob;
  readonly values: RestoreValues;
  /** What came to this process of the bases, by the stamps of their files (stampOf). */
  readonly arrivedDisks: ReadonlyMap<string, ArrivedDisk>;
}

/** Applies every delta whose turn has come. @throws DrError E_RESTORE_CORRUPT, E_IO, E_CAPACITY */
export async function settle(seams: DiskSeams, arrived: Arrived): Promise<void> {
  for (const disk of arrived.bases) {
    if (disk.base.status === 'placed') continue;
    for (;;) {
      const next = nextDelta(disk, await positionOf(seams, disk), arrived);
      if (next === undefined) break;
      await applyNext(seams, disk, next, disk.base.file.name.folder);
    }
  }
}

/** A record of the job, and the file that it came in. */
interface Found<T> {
  readonly item: Item;
  readonly value: T;
}

/** One VM of the job. */
interface VmFiles {
  readonly vmId: Guid;
  readonly vmName: string;
  readonly state: RctState | undefined;
  readonly definition: VmDefinition | undefined;
  readonly disks: readonly BaseDisk[];
}

/** What went wrong; empty: all is well. In turn. */
export async function finishRestore(work: FinishWork, session: RestoreSession): Promise<unknown[]> {
  const errors: unknown[] = [];
  const attempt = async (action: () => Promise<void>): Promise<boolean> => {
    try {
      await action();
      return true;
    } catch (error) {
      errors.push(error);
      return false;
    }
  };
  const records = await readRecords(work, session, errors);
  const arrived = arrivedOf(session.items);
  for (const vm of vmsOf(arrived, records)) {
    await finishVm({ work, session, arrived, attempt }, vm, errors);
  }
  await finishLonely({ work, session, arrived, attempt }, errors);
  const hasDisks = [...session.items.values()].some(({ file }) => file.name.kind === 'base');
  for (const { item } of [...records.states, ...records.definitions]) {
    // it tells of files that became a disk
    if (item.file.name.kind === 'state' && hasDisks) continue;
    await attempt(() => copyRecord(work, item));
  }
  return errors;
}

interface Records {
  readonly states: readonly Found<RctState>[];
  readonly definitions: readonly Found<VmDefinition>[];
}

async function readRecords(
  { fs }: FinishWork,
  session: RestoreSession,
  errors: unknown[],
): Promise<Records> {
  const states: Found<RctState>[] = [];
  const definitions: Found<VmDefinition>[] = [];
  for (const item of session.items.values()) {
    const { path, name } = item.file;
    if (item.status !== 'arrived' || (name.kind !== 'state' && name.kind !== 'config')) continue;
    try {
      const bytes = (await readSmall(fs, item.staged, RECORD_BYTES_MAX)) ?? Buffer.alloc(0);
      if (name.kind === 'state') states.push({ item, value: parseRctState(bytes, path) });
      else definitions.push({ item, value: parseVmConfig(bytes, path) });
    } catch (error) {
      errors.push(error);
    }
  }
  return { states, definitions };
}

/** By the ids in the files: a VM that was renamed has two folders and is one. */
function vmsOf(arrived: Arrived, { states, definitions }: Records): VmFiles[] {
  const ids = new Set<Guid>([
    ...states.map(({ value }) => value.vmId),
    ...arrived.bases.map(({ facts }) => facts.vmId),
    ...arrived.manifests.map(({ facts }) => facts.vmId),
  ]);
  return [...ids].map((vmId): VmFiles => {
    const [newest] = states
      .filter(({ value }) => value.vmId === vmId)
      .sort((one, other) => other.value.seq - one.value.seq);
    const own = definitions.filter(({ value }) => value.id === vmId);
    const beside = own.find(({ item }) => item.file.name.folder === newest?.item.file.name.folder);
    const definition = newest === undefined ? undefined : beside?.value;
    const disks = arrived.bases.filter(({ facts }) => facts.vmId === vmId);
    const folder = disks[0]?.base.file.name.folder ?? vmId;
    const vmName = newest?.value.vmName ?? own[0]?.value.name ?? folder;
    return { vmId, vmName, state: newest?.value, definition, disks };
  });
}

interface Finishing {
  readonly work: FinishWork;
  readonly session: RestoreSession;
  readonly arrived: Arrived;
  readonly attempt: (action: () => Promise<void>) => Promise<boolean>;
}

async function finishVm(finishing: Finishing, vm: VmFiles, errors: unknown[]): Promise<void> {
  const { work, session, arrived, attempt } = finishing;
  const { state, disks } = vm;
  const errorsBefore = errors.length;
  const placed = new Map<Guid, string>();
  for (const disk of disks) {
    const isDone = await attempt(() => finishDisk(finishing, vm, disk));
    if (isDone) placed.set(disk.facts.diskId, disk.base.final);
  }
  const skipped = skippedDisks(session);
  const withBase = new Set(disks.map(({ facts }) => facts.diskId));
  const isVmWanted = vm.definition !== undefined && work.values.restore_to === 'vm';
  for (const diskId of diskIdsOf(vm, arrived)) {
    if (withBase.has(diskId) || skipped.has(diskId)) continue;
    const hasFiles = arrived.manifests.some(
      ({ facts }) => facts.vmId === vm.vmId && facts.diskId === diskId,
    );
    if (!isVmWanted && !hasFiles) continue;
    const missing =
      state === undefined
        ? baselessDelta(vm.vmName, vm.vmId, diskId, arrived)
        : (missingFor(state, diskId, undefined, undefined, arrived) ??
          baselessDelta(vm.vmName, vm.vmId, diskId, arrived));
    if (missing !== undefined) errors.push(missing);
  }
  if (!isVmWanted || state === undefined || errors.length > errorsBefore) return;
  if (!state.disks.every(({ diskId }) => placed.has(diskId))) {
    work.say(
      'warning',
      `${vm.vmName} is not registered: a file that was there stayed in place of a disk`,
    );
    return;
  }
  await attempt(() => registerVm(finishing, vm, state, placed));
}

function diskIdsOf({ vmId, state }: VmFiles, arrived: Arrived): Set<Guid> {
  return new Set([
    ...(state?.disks ?? []).map(({ diskId }) => diskId),
    ...arrived.manifests
      .filter(({ facts }) => facts.vmId === vmId)
      .map(({ facts }) => facts.diskId),
  ]);
}

function skippedDisks(session: RestoreSession): Set<Guid> {
  const ids = [...session.items.values()].flatMap(({ status, file: { name } }) =>
    status === 'skipped' && name.kind === 'base' ? [name.diskId] : [],
  );
  return new Set(ids);
}

/** @throws DrError E_RESTORE_CHAIN, E_RESTORE_CORRUPT, E_IO, E_CAPACITY */
async function finishDisk(
  { work, session, arrived }: Finishing,
  { vmName, state }: VmFiles,
  disk: BaseDisk,
): Promise<void> {
  const { diskId } = disk.facts;
  if (disk.base.status !== 'placed') {
    await settle(work, { ...arrived, bases: [disk] });
    const { point, applying } = await positionOf(work, disk);
    const wanted = state?.disks.find((each) => each.diskId === diskId);
    if (state !== undefined && wanted === undefined) {
      work.say(
        'warning',
        `${vmName} had no disk ${diskId} any more at its point; the file is restored`,
      );
    }
    const missing =
      state === undefined
        ? strayDelta(vmName, disk, point, arrived)
        : missingFor(state, diskId, disk, point, arrived);
    if (missing !== undefined) throw missing;
    if (wanted !== undefined && rootAt(disk, point, arrived.manifests) !== wanted.root) {
      throw new DrError(
        'E_RESTORE_CORRUPT',
        `${vmName}, disk ${diskId}: the manifest has not the root that rct-state.json states`,
        { context: { vmName, diskId }, done: 'the disk is not restored' },
      );
    }
    const isUntouched = point === disk.facts.point && applying === undefined;
    const stamp = isUntouched ? await stampOf(work, disk.base.staged) : undefined;
    const asArrived = stamp === undefined ? undefined : work.arrivedDisks.get(stamp);
    if (asArrived === undefined || !(await isAsBackedUp(work, disk, asArrived))) {
      await verifyDisk(work, disk, vmName);
    }
    // checked: from here on a crash may have given it its name
    await session.put({ ...disk.base, status: 'placed' });
  }
  await giveName(work.fs, disk.base.staged, disk.base.final);
  await copyManifest(work, disk);
}

/** The manifest of the point at which the disk stands. */
async function copyManifest(work: FinishWork, { manifest, base }: BaseDisk): Promise<void> {
  const final = join(dirname(dirname(base.final)), '.meta', `${nameOf(base.final)}.manifest`);
  await work.fs.makeFolder(dirname(final));
  await copyFile(work, manifest.staged, final);
}

function nameOf(file: string): string {
  return file.slice(dirname(file).length + 1);
}

async function copyRecord(work: FinishWork, { staged, final, modifiedAtMs }: Item): Promise<void> {
  if (!(await mayWrite(work.fs, final, work.job.replace, modifiedAtMs))) return;
  await copyFile(work, staged, final);
}

async function copyFile({ fs, random }: FinishWork, from: string, to: string): Promise<void> {
  const source = await fs.open(from, { mode: 'read' });
  try {
    await publishFile({ fs, random }, to, { isReplacing: true }, async (sink) => {
      for await (const chunk of fileChunks(source)) await sink(chunk);
    });
  } finally {
    await source.close();
  }
}

async function registerVm(
  { work, session }: Finishing,
  { vmId, vmName, definition, ...vm }: VmFiles,
  state: RctState,
  placed: ReadonlyMap<Guid, string>,
): Promise<void> {
  if (definition === undefined) return;
  const disks = definition.disks.filter(({ diskId }) =>
    state.disks.some((each) => each.diskId === diskId),
  );
  for (const disk of definition.disks) {
    if (disks.includes(disk)) continue;
    work.say(
      'warning',
      `${vmName} is registered without disk ${disk.diskId}, which the backup does not hold`,
    );
  }
  const { new_vm_name: newVmName, replace_vm: mayReplace } = work.values;
  try {
    await registerRestored({
      host: await work.host(),
      session,
      definition: { ...definition, disks },
      diskPaths: disks.map(({ diskId }) => placed.get(diskId) ?? ''),
      wish: { vmId, vmName: definition.name, newVmName, mayReplace },
      network: work.values,
      say: work.say,
    });
  } catch (error) {
    const folders = new Set(vm.disks.map(({ base }) => dirname(base.final)));
    work.say('info', `the disks of ${vmName} are whole and stay in ${[...folders].join(', ')}`);
    throw error;
  }
}

/** Files of disks whose manifest did not come. */
async function finishLonely(
  { work, session, arrived, attempt }: Finishing,
  errors: unknown[],
): Promise<void> {
  const done = new Set(
    [...session.items.values()].flatMap(({ status, file: { name } }) =>
      name.kind === 'base' && (status === 'placed' || status === 'skipped') ? [name.diskId] : [],
    ),
  );
  for (const { file } of arrived.lonelyDeltas) {
    const { name } = file;
    if (name.kind !== 'delta' || done.has(name.diskId)) continue;
    const message = `${file.path} is here without its manifest`;
    errors.push(chainError(name.folder, name.diskId, message, [siblingOf(file)]));
  }
  for (const item of arrived.lonelyBases) {
    const { file, staged, final } = item;
    const isNeeded = arrived.lonelyDeltas.some(
      ({ file: { name } }) => name.kind === 'delta' && name.folder === file.name.folder,
    );
    if (isNeeded || errors.some((error) => isAbout(error, file.name))) continue;
    await attempt(async () => {
      await session.put({ ...item, status: 'placed' });
      await giveName(work.fs, staged, final);
      work.say(
        'warning',
        `${final} is restored and not verified: select ${siblingOf(file)} as well`,
      );
    });
  }
}

function isAbout(error: unknown, name: Item['file']['name']): boolean {
  return (
    error instanceof DrError && name.kind === 'base' && error.context['diskId'] === name.diskId
  );
}
