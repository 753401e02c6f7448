// Stages a seed: its cells become an unfinished cycle of the VM (docs/seeding.md). That is all there is
// to it: the source's first cycle finds the unfinished cycle, compares hashes, and names the cells that
// are the same instead of sending them. What is staged is never a point and is never trusted, so it
// does not matter whether the files are old, changed while they were read, or of another VM.
//
// A VM that the store does not know begins here, with an owner that the operator or the sealed medium
// names. One seed a VM; it goes on after a crash, is removed by `--discard`, and with the first point.

import { guidFromWire, guidToWire, type Guid, randomGuid } from '../../shared/bytes/index.js';
import {
  type Caller,
  DiskTransfer,
  OpenRequest,
  type SeedRequest,
  type SeedResponse,
} from '../../shared/channel/index.js';
import { CELL_BYTES } from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import { matchesPattern } from '../../shared/params/index.js';
import type { Acknowledgement, UnfinishedCycle } from '../ingest/incoming-cycle.js';
import { type CycleRequest, parseOpenRequest } from '../ingest/open-request.js';
import type { VmDesk } from '../ingest/vm-desk.js';
import type { Receiver } from '../receiver.js';
import type { DiskGeometry } from '../store/records.js';
import { geometryToWire } from '../wire.js';
import { ConfinedFiles } from './confined-files.js';
import { openSeedBackup } from './seed-backup.js';
import { openSeedFiles } from './seed-files.js';
import { openSeedHost } from './seed-host.js';
import { openSeedMedium } from './seed-medium.js';
import type { SeedContent, SeedSeams, SeedStart } from './seed-content.js';

/** Carries a `SeedRequest` out. @throws DrError E_SEED_PATH, E_SEED_MEDIUM, E_EXISTS, E_USAGE, … */
export async function* stageSeed(
  receiver: Receiver,
  request: SeedRequest,
  caller: Caller,
): AsyncGenerator<SeedResponse> {
  if (request.from?.$case === 'discard') {
    yield await discard(receiver, request);
    return;
  }
  const content = await openContent(receiver, request);
  try {
    if (request.from?.$case === 'host' && request.from.value.isPlan) {
      yield await planned(receiver, request, content);
      return;
    }
    const desk = await deskFor(receiver, request, content);
    yield* stage(receiver, desk, content, request.isRestart, caller);
  } finally {
    await content.close();
  }
}

async function seamsOf({ seams, seedAccess }: Receiver): Promise<SeedSeams> {
  const { fs, random } = seams;
  if (seedAccess === undefined) {
    throw new DrError('E_SEED_PATH', 'this receiver takes no seeds from files', {
      hint: 'Start it with --seed-dir DIR, or stop it and give --store DIR here.',
    });
  }
  const { folder, keys } = seedAccess;
  if (folder === undefined) return { files: fs, random, keys, resolve: (name) => name };
  const files = await ConfinedFiles.of(fs, folder);
  return { files, random, keys, resolve: (name) => files.resolve(name) };
}

async function openContent(
  receiver: Receiver,
  { from, vm, vmId }: SeedRequest,
): Promise<SeedContent> {
  if (from?.$case === 'host') return openSeedHost(receiver.failovers.site, from.value);
  const seams = await seamsOf(receiver);
  switch (from?.$case) {
    case 'files':
      if (from.value.files.length === 0) throw new DrError('E_USAGE', 'a seed has no disk');
      return openSeedFiles(seams, from.value.files);
    case 'medium':
      return openSeedMedium(seams, from.value, guidFromWire(vmId));
    case 'backup':
      return openSeedBackup(seams, from.value, vm);
    case 'discard':
    case undefined:
      throw new DrError('E_PROTOCOL', 'the request does not say what the seed is made of');
  }
}

/** What would be staged; a VM that has points is refused as it will be. @throws DrError E_EXISTS */
async function planned(
  receiver: Receiver,
  { vm: name, vmId: wireId }: SeedRequest,
  { disks, vmId: told }: SeedContent,
): Promise<SeedResponse> {
  const vmId = wireId.length === 0 ? (told ?? (await idOf(receiver, name))) : guidFromWire(wireId);
  const desk = vmId === undefined ? undefined : await receiver.desk(vmId);
  if (desk !== undefined) await desk.vm.change(() => earlierSeed(desk));
  const value = {
    vmId: vmId === undefined ? wireId : guidToWire(vmId),
    vmName: name,
    owner: desk?.vm.protection.owner ?? '',
    disks: disks.map(geometryToWire),
    stagedBytes: 0n,
  };
  return { step: { $case: 'done', value } };
}

/** The desk of the VM, made when the store does not know it. */
async function deskFor(
  receiver: Receiver,
  { vm: name, vmId: wireId, principal }: SeedRequest,
  content: SeedContent,
): Promise<VmDesk> {
  const given = wireId.length === 0 ? undefined : guidFromWire(wireId);
  const { vmId: told, vmName: toldName, sealedBy } = content;
  if (given !== undefined && told !== undefined && given !== told) {
    throw new DrError('E_DISK_MISMATCH', `the seed is of VM ${told}, not of ${given}`, {
      context: { field: 'vm', vmId: told },
    });
  }
  const vmName = name === '' ? (toldName ?? '') : name;
  const vmId = given ?? told ?? (await idOf(receiver, vmName));
  if (vmId === undefined) {
    throw new DrError('E_USAGE', `nothing says which VM ${vmName} is`, {
      hint: 'Give --vm-id ID; `hvdr seed --vm NAME --host HOST` at the source prints it.',
    });
  }
  if (vmName === '')
    throw new DrError('E_USAGE', 'the VM has no name', { hint: 'Give --vm NAME.' });
  // an operator's key says who wrote the medium, and nothing of who will push
  const sealer = sealedBy?.role === 'source' ? sealedBy : undefined;
  const wanted = principal === '' ? sealer?.principal : principal;
  const desk = await receiver.desk(vmId);
  if (desk !== undefined) {
    const { owner } = desk.vm.protection;
    if (wanted !== undefined && owner !== '' && owner !== wanted) {
      throw new DrError('E_USAGE', `${vmName} belongs to ${owner} here, not to ${wanted}`, {
        context: { vmId, owner },
      });
    }
    return desk;
  }
  // an operator may name anybody; a key alone admits new VMs by its pattern of names
  const vmPattern = principal === '' ? (sealer?.vmPattern ?? '*') : '*';
  const owner = wanted ?? onlyPrincipal(receiver, vmName);
  return receiver.protectFor({ vmId, vmName }, { principal: owner, vmPattern });
}

async function idOf(receiver: Receiver, vmName: string): Promise<Guid | undefined> {
  const same = (await receiver.allDesks()).filter(
    ({ vm }) => vm.protection.vmName.toLowerCase() === vmName.toLowerCase(),
  );
  return same.length === 1 ? same[0]?.vm.vmId : undefined;
}

/** The one principal whose key admits a VM of this name. @throws DrError E_USAGE */
function onlyPrincipal({ seedAccess }: Receiver, vmName: string): string {
  const admitted = (seedAccess?.keys?.keys ?? [])
    .filter(({ role, vmPattern }) => role === 'source' && matchesPattern(vmPattern, vmName))
    .map(({ principal }) => principal);
  const [only, ...others] = [...new Set(admitted)];
  if (only !== undefined && others.length === 0) return only;
  throw new DrError('E_USAGE', `nothing says who owns ${vmName}, which is not known here yet`, {
    hint: 'Give --principal NAME: the principal of the key that the source will push with.',
  });
}

function isSameSeed({ request }: UnfinishedCycle, content: SeedContent): boolean {
  const { disks, seededFrom } = request;
  const same = (a: DiskGeometry, b: DiskGeometry | undefined): boolean =>
    a.diskId === b?.diskId && a.sizeBytes === b.sizeBytes;
  return (
    seededFrom === content.from &&
    disks.length === content.disks.length &&
    disks.every((disk, index) => same(disk, content.disks[index]))
  );
}

/** Refuses a VM that needs no seed; returns the seed that is there already. In a change of the VM. */
async function earlierSeed(desk: VmDesk): Promise<UnfinishedCycle | undefined> {
  const { vm } = desk;
  vm.requireSound();
  const { head, vmName } = vm.protection;
  if (head !== undefined) {
    throw new DrError('E_EXISTS', `${vmName} has restore points already`, {
      context: { vmId: vm.vmId, head: head.pointId },
      done: 'nothing was staged',
      hint: 'Nothing to do: a push compares hashes with the newest point and sends what differs.',
    });
  }
  return (await desk.unfinished()).find(({ request }) => request.seededFrom !== '');
}

/** In a change of the VM. @throws DrError E_LOCKED when a source's cycle may be taking from it */
async function discardSeed(desk: VmDesk, { request: { cycleId } }: UnfinishedCycle): Promise<void> {
  const running = desk.isStreaming ? desk.activeRequest : undefined;
  if (running !== undefined && running.cycleId !== cycleId) {
    throw new DrError(
      'E_LOCKED',
      `cycle ${running.cycleId} of ${running.vmName} is under way and may take from the seed`,
      { context: { cycleId: running.cycleId }, done: 'the seed was left as it is' },
    );
  }
  await desk.discard(cycleId);
}

function seedRequest(
  receiver: Receiver,
  { vm: { vmId, protection } }: VmDesk,
  { disks, from }: SeedContent,
): CycleRequest {
  const { clock, random } = receiver.seams;
  return parseOpenRequest({
    ...OpenRequest.fromPartial({}),
    vmId: guidToWire(vmId),
    vmName: protection.vmName,
    cycleId: guidToWire(randomGuid(random)),
    pointId: guidToWire(randomGuid(random)),
    epoch: protection.epoch,
    kind: 'seed',
    disks: disks.map((disk) => ({
      geometry: geometryToWire(disk),
      transfer: DiskTransfer.DISK_TRANSFER_BASE,
    })),
    consistentAtMs: BigInt(Math.max(0, Math.round(clock.now()))),
    checkpointId: 'seed',
    seededFrom: from,
  });
}

async function* stage(
  receiver: Receiver,
  desk: VmDesk,
  content: SeedContent,
  isRestart: boolean,
  { principal }: Caller,
): AsyncGenerator<SeedResponse> {
  const { vm } = desk;
  const { request, starts } = await vm.change(async () => {
    const earlier = await earlierSeed(desk);
    const isSame = earlier !== undefined && !isRestart && isSameSeed(earlier, content);
    if (earlier !== undefined && !isSame) await discardSeed(desk, earlier);
    let wanted = isSame ? earlier.request : seedRequest(receiver, desk, content);
    const outcome = await desk.open(wanted, principal).catch(async (error: unknown) => {
      // a volume that failed once is not trusted with the rest of the same cycle
      if (!isSame || !(error instanceof DrError) || error.code !== 'E_IO') throw error;
      await discardSeed(desk, earlier);
      wanted = seedRequest(receiver, desk, content);
      return desk.open(wanted, principal);
    });
    if (outcome.kind !== 'accepted') throw new DrError('E_STATE', 'the seed was taken already');
    const found = outcome.positions.map(({ nextCell, isComplete }): SeedStart =>
      isComplete ? 'complete' : nextCell,
    );
    return { request: wanted, starts: found };
  });
  const { cycleId } = request;
  const log = receiver.log.child({ component: 'seed', vmId: vm.vmId, cycleId });
  log.info('seed.began', { vmName: vm.protection.vmName, from: content.from });
  const totalBytes = content.disks.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const doneOf = content.disks.map(({ sizeBytes }, index) => {
    const start = starts[index];
    return start === 'complete' ? sizeBytes : Math.min(sizeBytes, (start ?? 0) * CELL_BYTES);
  });
  const queue = new Progress();
  const onDurable = ({ diskIndex, durableCell }: Acknowledgement): void => {
    const sizeBytes = content.disks[diskIndex]?.sizeBytes ?? 0;
    doneOf[diskIndex] = Math.min(sizeBytes, durableCell * CELL_BYTES);
    queue.wake();
  };
  const messages = content.messages(starts);
  const pushing = desk.push(cycleId, messages, onDurable).finally(() => {
    queue.end();
  });
  pushing.catch(() => undefined); // awaited below
  try {
    while (await queue.next()) {
      const doneBytes = doneOf.reduce((sum, bytes) => sum + bytes, 0);
      const value = { doneBytes: BigInt(doneBytes), totalBytes: BigInt(totalBytes) };
      yield { step: { $case: 'progress', value } };
    }
    await pushing;
  } finally {
    // whoever stops listening stops the seed: the message under way is the last one
    await messages.return(undefined).catch(() => undefined);
    await pushing.catch(() => undefined);
    await vm.change(() => desk.abandon(cycleId));
  }
  const staged = (await vm.change(() => desk.unfinished())).find(
    (each) => each.request.cycleId === cycleId,
  );
  let stagedBytes = 0;
  for (const { dataBytes } of staged?.progress.values() ?? []) stagedBytes += dataBytes;
  log.info('seed.staged', { vmName: vm.protection.vmName, from: content.from, stagedBytes });
  yield doneStep(desk, content.disks, stagedBytes);
}

function doneStep(
  { vm }: VmDesk,
  disks: readonly DiskGeometry[],
  stagedBytes: number,
): SeedResponse {
  const value = {
    vmId: guidToWire(vm.vmId),
    vmName: vm.protection.vmName,
    owner: vm.protection.owner,
    disks: disks.map(geometryToWire),
    stagedBytes: BigInt(stagedBytes),
  };
  return { step: { $case: 'done', value } };
}

async function discard(
  receiver: Receiver,
  { vm: name, vmId: wireId }: SeedRequest,
): Promise<SeedResponse> {
  const vmId = wireId.length === 0 ? await idOf(receiver, name) : guidFromWire(wireId);
  const desk = vmId === undefined ? undefined : await receiver.desk(vmId);
  const found =
    desk &&
    (await desk.vm.change(async () => {
      desk.vm.requireSound();
      const seeds = (await desk.unfinished()).filter(({ request }) => request.seededFrom !== '');
      for (const seed of seeds) await discardSeed(desk, seed);
      return seeds.length > 0;
    }));
  if (desk !== undefined && found === true) return doneStep(desk, [], 0);
  throw new DrError('E_NOT_FOUND', `no seed of ${name} is staged here`, {
    context: { vm: name },
  });
}

/** Wakes whoever waits for news; news that nobody waited for are told once. */
class Progress {
  #hasNews = false;
  #isEnded = false;
  #wake: () => void = () => undefined;

  wake(): void {
    this.#hasNews = true;
    this.#wake();
  }

  end(): void {
    this.#isEnded = true;
    this.#wake();
  }

  /** False: no more will come. */
  async next(): Promise<boolean> {
    while (!this.#hasNews && !this.#isEnded) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const hasNews = this.#hasNews;
    this.#hasNews = false;
    return hasNews;
  }
}
