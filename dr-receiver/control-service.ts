// ControlService as handlers: what operators and monitoring ask of a receiver, and what commands ask
// of a store in the same process.

import { type Guid, guidToWire } from '../shared/bytes/index.js';
import {
  type Caller,
  type CompactedVm,
  type CompactResponse,
  type ControlService,
  type Handlers,
  type ListPointsResponse,
  type PointPagesResponse,
  ProtectionStatus,
  type ReadDiskRequest,
  type ReadDiskResponse,
  RestorePoint,
  type StatusPagesResponse,
  type StatusResponse,
} from '../shared/channel/index.js';
import { CELL_BYTES, readUnion } from '../shared/delta/index.js';
import { defined } from '../shared/assert.js';
import { DrError } from '../shared/errors.js';
import { actorOf } from './actor.js';
import { findPoint } from './find-point.js';
import { findVm, findVms } from './find-vm.js';
import { forecast } from './forecast.js';
import { collectGarbage } from './garbage.js';
import { healthOf } from './health.js';
import { importDelta } from './import-delta.js';
import type { VmDesk } from './ingest/vm-desk.js';
import { rebind, unhalt } from './operator-acts.js';
import { explainNetwork } from './failover/explain-network.js';
import { operate } from './failover/operate.js';
import type { Receiver } from './receiver.js';
import { pagesOf } from './pages.js';
import { removePoint } from './remove-point.js';
import { stageSeed } from './seed/stage-seed.js';
import { isDamage } from './store/damage.js';
import { verdictsOf } from './store/forget.js';
import type { DiskKey } from './store/layout.js';
import {
  layersOf,
  listedPoint,
  type ReadSeams,
  segmentOf,
  withLayers,
} from './store/point-sources.js';
import type { Point } from './store/protection.js';
import type { VmStore } from './store/vm-store.js';
import { goodPoints, verifyCall } from './verify-call.js';
import { isDoubtful } from './warning/last-clean.js';
import { failoverWords } from './failover/health-words.js';
import { requireAnswer } from './failover/refusals.js';
import { warningWords } from './warning/words.js';
import {
  alarmToWire,
  failoverToWire,
  geometryToWire,
  pointToWire,
  standingOf,
  stateOf,
  warningToWire,
} from './wire.js';

const UINT32_MAX = 2 ** 32 - 1;
const LOOK: readonly Caller['role'][] = ['viewer', 'drill', 'operator'];
const ACT: readonly Caller['role'][] = ['operator'];

export function controlHandlers(receiver: Receiver): Handlers<ControlService> {
  const { clock } = receiver.seams;
  return {
    status: async ({ vm }, { caller }) => {
      receiver.requireRole(caller, LOOK);
      const protections: ProtectionStatus[] = [];
      for await (const each of statusesOf(receiver, vm)) protections.push(each);
      return { ...(await storeStatus(receiver)), protections };
    },

    statusPages: ({ vm }, { caller }) => {
      receiver.requireRole(caller, LOOK);
      return statusPages(receiver, vm);
    },

    listPoints: async ({ vm }, { caller }) => {
      receiver.requireRole(caller, LOOK);
      return listPoints(receiver, vm);
    },

    pointPages: ({ vm }, { caller }) => {
      receiver.requireRole(caller, LOOK);
      return pointPages(receiver, vm);
    },

    explainNetwork: async (request, { caller }) => {
      receiver.requireRole(caller, LOOK);
      return explainNetwork(receiver, request);
    },

    pinPoint: async ({ vm: name, point: pointName, isPinned }, { caller }) => {
      receiver.requireRole(caller, ACT);
      const desk = await findVm(receiver, name);
      const { vm } = desk;
      return vm.change(async () => {
        vm.requireSound();
        const point = findPoint(desk, pointName);
        // an automatic pin becomes the operator's own when he pins as well
        const isOwn = point.pinReason !== undefined && !point.isPinAutomatic;
        if (isPinned ? !isOwn : point.pinReason !== undefined) {
          const { pointId } = point;
          const atMs = clock.now();
          await vm.append({ kind: 'pin', atMs, pointId, isPinned, ...actorOf(caller) });
        }
        return { point: pointToWire(point, '') };
      });
    },

    removePoint: async (request, { caller }) => {
      receiver.requireRole(caller, ACT);
      return removePoint(receiver, request, caller);
    },

    verify: (request, { caller }) => {
      receiver.requireRole(caller, ACT);
      return verifyCall(receiver, request);
    },

    readDisk: (request, { caller }) => {
      receiver.requireRole(caller, ACT);
      return readDisk(receiver, request);
    },

    seed: (request, { caller }) => {
      receiver.requireRole(caller, ACT);
      return stageSeed(receiver, request, caller);
    },

    importDelta: (requests, { caller }) => {
      receiver.requireRole(caller, ACT);
      return importDelta(receiver, requests, caller);
    },

    pause: async ({ vm: name, isPaused }, { caller }) => {
      receiver.requireRole(caller, ACT);
      const desk = await findVm(receiver, name);
      const { vm } = desk;
      await vm.change(async () => {
        vm.requireSound();
        if (vm.protection.isPaused === isPaused) return;
        const isBegun = vm.protection.head === undefined && (await desk.hasUnfinished());
        requireAnswer(standingOf(desk, isBegun), isPaused ? 'pause' : 'unpause');
        await vm.append({ kind: 'pause', atMs: clock.now(), isPaused, ...actorOf(caller) });
      });
      return {};
    },

    collectGarbage: (request, { caller }) => {
      receiver.requireRole(caller, ACT);
      return collectGarbage(receiver, request);
    },

    rebind: (request, { caller }) => {
      receiver.requireRole(caller, ACT);
      return rebind(receiver, request, caller);
    },

    unhalt: (request, { caller }) => {
      receiver.requireRole(caller, ACT);
      return unhalt(receiver, request, caller);
    },

    clearAlarm: async ({ vm: name, alarm: wanted }, { caller }) => {
      receiver.requireRole(caller, ACT);
      const { vm } = await findVm(receiver, name);
      return vm.change(async () => {
        vm.requireSound();
        const { vmName, warning } = vm.protection;
        const { alarm } = warning;
        if (alarm === undefined || wanted === '' || !alarm.pointId.startsWith(wanted.toLowerCase()))
          throw new DrError('E_STATE', `${vmName} has no open alarm ${wanted}`, {
            hint:
              alarm === undefined
                ? '`hvdr status` lists the open alarms; this VM has none.'
                : `The open one is ${alarm.pointId}.`,
          });
        const { pointId } = alarm;
        const atMs = clock.now();
        await vm.append({ kind: 'clear-alarm', atMs, pointId, ...actorOf(caller) });
        const by = caller.principal;
        receiver.log.warn('alarm.cleared', { vmId: vm.vmId, vmName, pointId, by });
        return { cleared: alarmToWire(alarm) };
      });
    },

    operate: (request, { caller, signal }) => {
      receiver.requireRole(caller, request.command === 'test' ? ['drill', 'operator'] : ACT);
      return operate(receiver, request, caller, signal);
    },
    compact: ({ vm: pattern }, { caller }) => {
      receiver.requireRole(caller, ACT);
      return compact(receiver, pattern);
    },
  };
}

async function storeStatus(receiver: Receiver): Promise<Omit<StatusResponse, 'protections'>> {
  const { fs, clock } = receiver.seams;
  const freeBytes = await fs.freeBytes(receiver.store.layout.folder);
  return {
    storeId: guidToWire(receiver.store.storeId),
    nowMs: BigInt(clock.now()),
    // 0: the system does not tell
    storeFreeBytes: BigInt(freeBytes ?? 0),
  };
}

async function* statusesOf(receiver: Receiver, pattern: string): AsyncGenerator<ProtectionStatus> {
  for (const desk of await findVms(receiver, pattern)) yield await statusOf(receiver, desk);
}

async function* statusPages(
  receiver: Receiver,
  pattern: string,
): AsyncGenerator<StatusPagesResponse> {
  const sizeOf = (each: ProtectionStatus): number => ProtectionStatus.encode(each).finish().length;
  const head = await storeStatus(receiver);
  for await (const protections of pagesOf(statusesOf(receiver, pattern), sizeOf)) {
    yield { page: { ...head, protections } };
  }
}

async function listPoints(receiver: Receiver, name: string): Promise<ListPointsResponse> {
  const desk = await findVm(receiver, name);
  const { vm } = desk;
  if (vm.protection.head === undefined) vm.requireSound();
  const points = pointsOf(receiver, desk);
  return { vmId: guidToWire(vm.vmId), vmName: vm.protection.vmName, points };
}

async function* pointPages(receiver: Receiver, name: string): AsyncGenerator<PointPagesResponse> {
  const sizeOf = (each: RestorePoint): number => RestorePoint.encode(each).finish().length;
  const { points: all, ...head } = await listPoints(receiver, name);
  for await (const points of pagesOf(all, sizeOf)) yield { page: { ...head, points } };
}

async function* compact(receiver: Receiver, pattern: string): AsyncGenerator<CompactResponse> {
  for (const desk of await findVms(receiver, pattern)) {
    const value = yield* compactVm(receiver, desk);
    yield { step: { $case: 'done', value } };
  }
}

/** A VM that is halted stays as it is, and others are not concerned. */
async function* compactVm(
  { maintenance }: Receiver,
  desk: VmDesk,
): AsyncGenerator<CompactResponse, CompactedVm> {
  const { vm } = desk;
  const { vmName, storedBytes } = vm.protection;
  const ids = { vmId: guidToWire(vm.vmId), vmName };
  if (vm.halt !== undefined) {
    const bytes = BigInt(storedBytes);
    return { ...ids, bytesBefore: bytes, bytesAfter: bytes, waiting: [vm.halt.message] };
  }
  const undecided = await decideRetention(desk);
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
      waiting: [...undecided, ...waiting],
    };
  }
}

/** What was unpinned a moment ago is forgotten now. What hinders that hinders nothing else. */
async function decideRetention(desk: VmDesk): Promise<readonly string[]> {
  try {
    await desk.vm.change(() => desk.applyRetention());
    return [];
  } catch (error) {
    if (!(error instanceof DrError)) throw error;
    return [`retention: ${error.message}`];
  }
}

/** The listed points of a VM, the oldest first, each with the reason why it is kept. */
function pointsOf(receiver: Receiver, { vm }: VmDesk): RestorePoint[] {
  const { listed, warning } = vm.protection;
  const verdicts = verdictsOf(vm.protection, {
    policy: receiver.policy.retention,
    nowMs: receiver.seams.clock.now(),
    isClockTrusted: receiver.isClockTrusted(),
  });
  return listed.map((point, index) => {
    const verdict = defined(verdicts[index], 'there is a verdict for each point');
    return pointToWire(point, verdict.isKept ? verdict.because : '', {
      isDoubtful: isDoubtful(vm.protection, point),
      hasRaisedAlarm: warning.alarm?.pointId === point.pointId,
    });
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
    damaged: listed.flatMap(({ damage }) => (damage === undefined ? [] : [damage])),
    unknownCount: vm.unknownCycleIds.length,
    forecast: ahead,
    reclaimFailure: reclaim.failure,
    failover: failoverWords(protection, nowMs, receiver.failovers.isRetiredRunning(vm.vmId)),
    ...warningWords(protection),
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
    direction: protection.failover.activeSite === 'source' ? 'A → B' : 'B → A',
    scrubbedAtMs: BigInt(vm.scrub.scrubbedAtMs),
    damagedCellCount: BigInt(vm.scrub.damagedCellCount),
    unknown: [...vm.unknownCycleIds],
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
    isSourceAttached: receiver.sources.find(vm.vmId, protection.owner) !== undefined,
    ...failoverToWire(desk, isBegun),
    ...warningToWire(protection),
  };
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
