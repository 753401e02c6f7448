// ControlService as handlers: what operators and monitoring ask of a receiver, and what commands ask
// of a store in the same process.

import { guidToWire, type Guid } from '../shared/bytes/index.js';
import type {
  Caller,
  CompactedVm,
  CompactResponse,
  ControlService,
  Handlers,
  ProtectionStatus,
  ReadDiskRequest,
  ReadDiskResponse,
  RestorePoint,
  VerifyRequest,
  VerifyResponse,
} from '../shared/channel/index.js';
import { CELL_BYTES, DeltaError, readUnion } from '../shared/delta/index.js';
import { defined } from '../shared/assert.js';
import { DrError } from '../shared/errors.js';
import { VhdxError } from '../shared/vhdx/index.js';
import { findPoint, findVm, findVms } from './find-vm.js';
import { forecast } from './forecast.js';
import { healthOf } from './health.js';
import type { VmDesk } from './ingest/vm-desk.js';
import type { Receiver } from './receiver.js';
import type { DiskKey } from './store/layout.js';
import {
  layersOf,
  listedPoint,
  type ReadSeams,
  segmentOf,
  withLayers,
} from './store/point-sources.js';
import type { Point } from './store/protection.js';
import { verdictsOf } from './store/forget.js';
import { type PointFinding, verifyPoints } from './store/verify-points.js';
import type { VmStore } from './store/vm-store.js';
import { geometryToWire, pointToWire, stateOf } from './wire.js';

const UINT32_MAX = 2 ** 32 - 1;
const LOOK: readonly Caller['role'][] = ['viewer', 'drill', 'operator'];
const ACT: readonly Caller['role'][] = ['operator'];

export function controlHandlers(receiver: Receiver): Handlers<ControlService> {
  const { clock } = receiver.seams;
  return {
    status: async ({ vm }, { caller }) => {
      receiver.requireRole(caller, LOOK);
      const protections: ProtectionStatus[] = [];
      for (const desk of await findVms(receiver, vm)) {
        protections.push(await statusOf(receiver, desk));
      }
      const freeBytes = await receiver.seams.fs.freeBytes(receiver.store.layout.folder);
      return {
        storeId: guidToWire(receiver.store.storeId),
        protections,
        nowMs: BigInt(clock.now()),
        // 0: the system does not tell
        storeFreeBytes: BigInt(freeBytes ?? 0),
      };
    },

    listPoints: async ({ vm: name }, { caller }) => {
      receiver.requireRole(caller, LOOK);
      const desk = await findVm(receiver, name);
      const { vm } = desk;
      if (vm.protection.head === undefined) vm.requireSound();
      return {
        vmId: guidToWire(vm.vmId),
        vmName: vm.protection.vmName,
        points: pointsOf(receiver, desk),
      };
    },

    pinPoint: async ({ vm: name, point: pointName, isPinned }, { caller }) => {
      receiver.requireRole(caller, ACT);
      const desk = await findVm(receiver, name);
      const { vm } = desk;
      return vm.change(async () => {
        vm.requireSound();
        const point = findPoint(desk, pointName);
        if ((point.pinReason !== undefined) !== isPinned) {
          const { pointId } = point;
          const atMs = clock.now();
          await vm.append({ kind: 'pin', atMs, pointId, isPinned, by: caller.principal });
        }
        return { point: pointToWire(point, '') };
      });
    },

    verify: (request, { caller }) => {
      receiver.requireRole(caller, ACT);
      return verify(receiver, request);
    },

    readDisk: (request, { caller }) => {
      receiver.requireRole(caller, ACT);
      return readDisk(receiver, request);
    },

    pause: async ({ vm: name, isPaused }, { caller }) => {
      receiver.requireRole(caller, ACT);
      const { vm } = await findVm(receiver, name);
      await vm.change(async () => {
        vm.requireSound();
        if (vm.protection.isPaused === isPaused) return;
        await vm.append({ kind: 'pause', atMs: clock.now(), isPaused, by: caller.principal });
      });
      return {};
    },

    compact: ({ vm: pattern }, { caller }) => {
      receiver.requireRole(caller, ACT);
      return compact(receiver, pattern);
    },
  };
}

async function* compact(receiver: Receiver, pattern: string): AsyncGenerator<CompactResponse> {
  for (const { vm } of await findVms(receiver, pattern)) {
    const value = yield* compactVm(receiver, vm);
    yield { step: { $case: 'done', value } };
  }
}

/** A VM that is halted stays as it is, and others are not concerned. */
async function* compactVm(
  { maintenance }: Receiver,
  vm: VmStore,
): AsyncGenerator<CompactResponse, CompactedVm> {
  const { vmName, storedBytes } = vm.protection;
  const ids = { vmId: guidToWire(vm.vmId), vmName };
  if (vm.halt !== undefined) {
    const bytes = BigInt(storedBytes);
    return { ...ids, bytesBefore: bytes, bytesAfter: bytes, waiting: [vm.halt.message] };
  }
  const work = maintenance.compactNow(vm);
  for (;;) {
    const next = await work.next();
    if (next.done !== true) {
      const value = { vmName, storedBytes: BigInt(next.value) };
      yield { step: { $case: 'progress', value } };
      continue;
    }
    const { bytesBefore, bytesAfter, waiting } = next.value;
    return {
      ...ids,
      bytesBefore: BigInt(bytesBefore),
      bytesAfter: BigInt(bytesAfter),
      waiting: [...waiting],
    };
  }
}

/** The listed points of a VM, the oldest first, each with the reason why it is kept. */
function pointsOf(receiver: Receiver, { vm }: VmDesk): RestorePoint[] {
  const { listed } = vm.protection;
  const verdicts = verdictsOf(vm.protection, {
    policy: receiver.policy.retention,
    nowMs: receiver.seams.clock.now(),
    isClockTrusted: receiver.isClockTrusted(),
  });
  return listed.map((point, index) => {
    const verdict = defined(verdicts[index], 'there is a verdict for each point');
    return pointToWire(point, verdict.isKept ? verdict.because : '');
  });
}

/**
 * Waits for nothing that is under way and looks at no file, but for VMs without a point: one that hangs
 * must not hide the others.
 */
async function statusOf(receiver: Receiver, desk: VmDesk): Promise<ProtectionStatus> {
  const { vm, activeRequest } = desk;
  const { protection } = vm;
  const { listed, rpoSeconds, history } = protection;
  const newest = listed.at(-1);
  const nowMs = receiver.seams.clock.now();
  const ahead = forecast({
    nowMs,
    newestPointAtMs: newest?.committedAtMs,
    rpoSeconds,
    intervalsMs: history.intervalsMs,
    active: desk.activeWork,
  });
  const reclaim = receiver.maintenance.statusOf(vm);
  const { health, reasons } = healthOf({
    nowMs,
    newestPointAtMs: newest?.committedAtMs,
    rpoSeconds,
    isPaused: protection.isPaused,
    haltReason: vm.halt?.message,
    damagedCount: listed.filter((point) => point.damage !== undefined).length,
    forecast: ahead,
    reclaimFailure: reclaim.failure,
  });
  const isBegun =
    newest === undefined && activeRequest === undefined && vm.halt === undefined
      ? await desk.hasUnfinished()
      : false;
  return {
    vmId: guidToWire(vm.vmId),
    // a journal that cannot be read at all does not tell the name
    vmName: protection.vmName === '' ? vm.vmId : protection.vmName,
    state: stateOf(desk, isBegun),
    epoch: protection.epoch,
    owner: protection.owner,
    pointCount: listed.length,
    pinnedCount: listed.filter((point) => point.pinReason !== undefined).length,
    // why it is kept need not be said of the newest
    newest: newest === undefined ? undefined : pointToWire(newest, ''),
    rpoSeconds,
    health,
    reasons,
    running:
      activeRequest === undefined ? '' : `cycle ${activeRequest.cycleId} (${activeRequest.kind})`,
    storedBytes: BigInt(protection.storedBytes),
    direction: 'A → B',
    forecastNewestAgeSeconds: Math.min(ahead?.newestAgeSeconds ?? 0, UINT32_MAX),
    willMissRpo: ahead?.willMissRpo ?? false,
    forecastBecause: ahead?.because ?? '',
    rpoDays: history.violatedDays(nowMs).map(({ day, violatedMs }) => ({
      day,
      violatedSeconds: Math.round(violatedMs / 1000),
    })),
    reclaimableBytes: BigInt(reclaim.reclaimableBytes),
    reclaimWaiting: [...reclaim.waiting],
    reclaiming: reclaim.running,
  };
}

async function* verify(
  receiver: Receiver,
  { vm: name, point: pointName }: VerifyRequest,
): AsyncGenerator<VerifyResponse> {
  const { seams } = receiver;
  const desk = await findVm(receiver, name);
  const { vm } = desk;
  vm.requireReadable();
  // when no commit is under way: its files are not anybody's to open yet
  const points = await vm.change(() =>
    Promise.resolve(pointName === 'all' ? vm.protection.listed : [findPoint(desk, pointName)]),
  );
  if (points.length === 0) throw new DrError('E_NO_POINT', `${name} has no restore point yet`);
  const first = new Map<Guid, PointFinding>();
  let checkedBytes = 0;
  for await (const step of verifyPoints(seams, vm, points)) {
    if (step.kind === 'progress') {
      checkedBytes = step.checkedBytes;
      const value = {
        checkedBytes: BigInt(checkedBytes),
        totalBytes: BigInt(step.totalBytes),
      };
      yield { step: { $case: 'progress', value } };
      continue;
    }
    const { pointId, diskId, offset, code, message } = step.finding;
    if (!first.has(pointId)) first.set(pointId, step.finding);
    const value = {
      pointId: guidToWire(pointId),
      diskId: guidToWire(diskId),
      offset: BigInt(offset),
      code,
      message,
    };
    yield { step: { $case: 'finding', value } };
  }
  await vm.change(() => mark(receiver, desk, points, first));
  const isGood = ({ pointId }: Point): boolean => !first.has(pointId);
  const damaged = points.filter((point) => !isGood(point));
  const value = {
    pointCount: points.length,
    goodPointIds: goodPoints(desk)
      .filter(isGood)
      .map(({ pointId }) => guidToWire(pointId)),
    damagedPointIds: damaged.map(({ pointId }) => guidToWire(pointId)),
    checkedBytes: BigInt(checkedBytes),
  };
  yield { step: { $case: 'done', value } };
}

/** Enters in the journal what a verification found; nothing is entered for a VM that is halted. */
async function mark(
  receiver: Receiver,
  { vm }: VmDesk,
  points: readonly Point[],
  findings: ReadonlyMap<Guid, PointFinding>,
): Promise<void> {
  if (vm.halt !== undefined) return;
  for (const { pointId } of points) {
    const found = findings.get(pointId);
    await vm.append({
      kind: 'verify',
      atMs: receiver.seams.clock.now(),
      pointId,
      isDamaged: found !== undefined,
      finding:
        found === undefined ? '' : `disk ${found.diskId}, offset ${found.offset}: ${found.message}`,
    });
  }
}

/** Points that no verification found damaged. */
function goodPoints({ vm }: VmDesk): Point[] {
  return vm.protection.listed.filter((point) => point.damage === undefined);
}

function corrupt(desk: VmDesk, point: Point, what: string, cause?: unknown): DrError {
  const good = goodPoints(desk)
    .filter(({ pointId }) => pointId !== point.pointId)
    .map(({ pointId }) => pointId);
  const { vmName } = desk.vm.protection;
  return new DrError('E_POINT_CORRUPT', `point ${point.pointId} of ${vmName}: ${what}`, {
    context: { pointId: point.pointId, goodPoints: good.join(' ') },
    hint:
      good.length === 0 ? 'No other point is left.' : `Points not known as bad: ${good.join(', ')}`,
    cause,
  });
}

/** Each cell is checked against its hash before it is handed out. */
async function* readDisk(
  receiver: Receiver,
  { vm: name, point: pointName, diskIndex }: ReadDiskRequest,
): AsyncGenerator<ReadDiskResponse> {
  const desk = await findVm(receiver, name);
  const { vm } = desk;
  vm.requireReadable();
  const point = await vm.change(() => Promise.resolve(findPoint(desk, pointName)));
  if (point.damage !== undefined) throw corrupt(desk, point, point.damage);
  const disk = point.disks[diskIndex];
  if (disk === undefined) {
    throw new DrError('E_USAGE', `point ${point.pointId} has ${point.disks.length} disk(s)`, {
      hint: 'Disks count from 0.',
    });
  }
  const parts = new Handover<{ offset: number; data: Buffer }>();
  // begun at once, so that the point is held before anything else can happen to it
  const reading = readInTurns(receiver.seams, vm, point.pointId, disk, parts).then(
    () => {
      parts.end();
    },
    (error: unknown) => {
      parts.end(error);
    },
  );
  try {
    yield { part: { $case: 'geometry', value: geometryToWire(disk) } };
    for await (const { offset, data } of parts) {
      yield { part: { $case: 'bytes', value: { offset: BigInt(offset), data } } };
    }
  } catch (error) {
    if (!isDamage(error)) throw error;
    throw corrupt(desk, point, error.message, error);
  } finally {
    parts.stop();
    await reading;
  }
}

/** What is read before another who waits for the disk gets his turn. */
const TURN_BYTES = 64 * 1024 * 1024;

/** Reads all data cells, and lets go of the disk now and then when somebody waits for it. */
async function readInTurns(
  seams: ReadSeams,
  vm: VmStore,
  pointId: Guid,
  disk: DiskKey,
  parts: Handover<{ offset: number; data: Buffer }>,
): Promise<void> {
  let nextCell = 0;
  let isAtEnd = false;
  while (!isAtEnd) {
    const segment = segmentOf(vm, listedPoint(vm, pointId), disk);
    const lease = await vm.leases.read([segment]);
    try {
      // named anew, as they may be others by now
      const layers = layersOf(vm, listedPoint(vm, pointId), disk);
      isAtEnd = await withLayers(seams, layers, async (open) => {
        let turnBytes = 0;
        for await (const batch of readUnion(
          open.map(({ source }) => source),
          nextCell,
        )) {
          if (batch.kind === 'zero') continue;
          const { cell } = defined(batch.entries[0], 'a batch has a cell');
          await parts.put({ offset: cell * CELL_BYTES, data: Buffer.from(batch.bytes) });
          nextCell = cell + batch.entries.length;
          turnBytes += batch.bytes.length;
          // a point that was forgotten meanwhile would not be found again
          const mayLetGo = turnBytes >= TURN_BYTES && vm.protection.point(pointId) !== undefined;
          if (mayLetGo && vm.leases.isWanted(segment)) return false;
        }
        return true;
      });
    } finally {
      lease.release();
    }
  }
}

/** Whether an error tells of a damaged or missing file, and not of a device that does not answer. */
function isDamage(error: unknown): error is DrError {
  if (error instanceof DeltaError || error instanceof VhdxError) return true;
  return error instanceof DrError && ['E_POINT_CORRUPT', 'E_NOT_FOUND'].includes(error.code);
}

class Stopped extends Error {
  override readonly name = 'Stopped';
}

/** Hands values from a callback to an iterator; a few wait between the two. */
class Handover<T> implements AsyncIterable<T> {
  readonly #values: T[] = [];
  #end: { readonly error?: unknown } | undefined;
  #isStopped = false;
  #wakeReader: () => void = () => undefined;
  #wakeWriter: () => void = () => undefined;

  async put(value: T): Promise<void> {
    this.#values.push(value);
    this.#wakeReader();
    while (this.#values.length > 4 && !this.#isStopped) {
      await new Promise<void>((resolve) => {
        this.#wakeWriter = resolve;
      });
    }
    if (this.#isStopped) throw new Stopped('nobody reads any more');
  }

  end(error?: unknown): void {
    this.#end = error === undefined ? {} : { error };
    this.#wakeReader();
  }

  stop(): void {
    this.#isStopped = true;
    this.#wakeWriter();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T> {
    for (;;) {
      const value = this.#values.shift();
      if (value !== undefined) {
        this.#wakeWriter();
        yield value;
      } else if (this.#end !== undefined) {
        if ('error' in this.#end) throw this.#end.error;
        return;
      } else {
        await new Promise<void>((resolve) => {
          this.#wakeReader = resolve;
        });
      }
    }
  }
}
