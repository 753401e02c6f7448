// ControlService as handlers: what operators and monitoring ask of a receiver, and what commands ask
// of a store in the same process.

import { guidToWire } from '../shared/bytes/index.js';
import type {
  Caller,
  ControlService,
  Handlers,
  ProtectionStatus,
  ReadDiskRequest,
  ReadDiskResponse,
  RestorePoint,
} from '../shared/channel/index.js';
import { CELL_BYTES, forEachBatch } from '../shared/delta/index.js';
import { defined } from '../shared/assert.js';
import { DrError } from '../shared/errors.js';
import { findPoint, findVm, findVms } from './find-vm.js';
import { collectGarbage } from './garbage.js';
import { healthOf } from './health.js';
import { unknownCycles } from './ingest/leftover-cycles.js';
import type { VmDesk } from './ingest/vm-desk.js';
import type { Receiver } from './receiver.js';
import { isDamage } from './store/damage.js';
import { layersOf, withLayers } from './store/point-sources.js';
import type { Point } from './store/protection.js';
import { decideRetention } from './store/retention.js';
import { goodPoints, verifyCall } from './verify-call.js';
import { geometryToWire, pointToWire, stateOf } from './wire.js';

const LOOK: readonly Caller['role'][] = ['viewer', 'drill', 'operator'];
const ACT: readonly Caller['role'][] = ['operator'];

export function controlHandlers(receiver: Receiver): Handlers<ControlService> {
  const { clock } = receiver.seams;
  return {
    status: async ({ vm }, { caller }) => {
      receiver.requireRole(caller, LOOK);
      const protections: ProtectionStatus[] = [];
      for (const desk of findVms(receiver, vm)) protections.push(await statusOf(receiver, desk));
      const freeBytes = await receiver.seams.fs.freeBytes(receiver.store.layout.folder);
      return {
        storeId: guidToWire(receiver.store.storeId),
        protections,
        nowMs: BigInt(clock.now()),
        // 0: the system does not tell
        storeFreeBytes: BigInt(freeBytes ?? 0),
      };
    },

    listPoints: ({ vm: name }, { caller }) => {
      receiver.requireRole(caller, LOOK);
      const desk = findVm(receiver, name);
      const { vm } = desk;
      if (vm.protection.points.length === 0) vm.requireSound();
      return Promise.resolve({
        vmId: guidToWire(vm.vmId),
        vmName: vm.protection.vmName,
        points: pointsOf(receiver, desk),
      });
    },

    pinPoint: async ({ vm: name, point: pointName, isPinned }, { caller }) => {
      receiver.requireRole(caller, ACT);
      const desk = findVm(receiver, name);
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
      return verifyCall(receiver, request);
    },

    readDisk: (request, { caller }) => {
      receiver.requireRole(caller, ACT);
      return readDisk(receiver, request);
    },

    pause: async ({ vm: name, isPaused }, { caller }) => {
      receiver.requireRole(caller, ACT);
      const { vm } = findVm(receiver, name);
      await vm.change(async () => {
        vm.requireSound();
        if (vm.protection.isPaused === isPaused) return;
        await vm.append({ kind: 'pause', atMs: clock.now(), isPaused, by: caller.principal });
      });
      return {};
    },

    collectGarbage: (request, { caller }) => {
      receiver.requireRole(caller, ACT);
      return collectGarbage(receiver, request);
    },
  };
}

/** The listed points of a VM, the oldest first, each with the reason why it is kept. */
function pointsOf(receiver: Receiver, { vm }: VmDesk): RestorePoint[] {
  const { listed, maxRestorePoints } = vm.protection;
  const verdicts = decideRetention({
    points: listed.map((point) => ({
      pointId: point.pointId,
      committedAtMs: point.committedAtMs,
      isPinned: point.pinReason !== undefined,
      verifiedAtMs: point.verifiedAtMs,
      isDamaged: point.damage !== undefined,
    })),
    requestedPoints: maxRestorePoints,
    policy: receiver.policy.retention,
    nowMs: receiver.seams.clock.now(),
    isClockTrusted: receiver.isClockTrusted(),
  });
  return listed.map((point, index) => {
    const verdict = defined(verdicts[index], 'there is a verdict for each point');
    return pointToWire(point, verdict.isKept ? verdict.because : '');
  });
}

async function statusOf(receiver: Receiver, desk: VmDesk): Promise<ProtectionStatus> {
  const { vm } = desk;
  const { protection } = vm;
  const points = pointsOf(receiver, desk);
  const newest = points.at(-1);
  // of a journal that is halted nothing follows
  const unknown =
    vm.halt === undefined ? await unknownCycles(receiver.seams.fs, vm.layout, protection) : [];
  const { health, reasons } = healthOf({
    nowMs: receiver.seams.clock.now(),
    newestPointAtMs: newest === undefined ? undefined : Number(newest.committedAtMs),
    rpoSeconds: protection.rpoSeconds,
    isPaused: protection.isPaused,
    haltReason: vm.halt?.message,
    damaged: points.filter((point) => point.isDamaged).map(({ damage }) => damage),
    unknownCount: unknown.length,
  });
  const unfinished = vm.halt === undefined ? await vm.change(() => desk.unfinished()) : [];
  const active = desk.activeRequest;
  return {
    vmId: guidToWire(vm.vmId),
    // a journal that cannot be read at all does not tell the name
    vmName: protection.vmName === '' ? vm.vmId : protection.vmName,
    state: stateOf(desk, unfinished.length > 0),
    epoch: protection.epoch,
    owner: protection.owner,
    pointCount: points.length,
    pinnedCount: points.filter((point) => point.isPinned).length,
    newest,
    rpoSeconds: protection.rpoSeconds,
    health,
    reasons,
    running: active === undefined ? '' : `cycle ${active.cycleId} (${active.kind})`,
    storedBytes: BigInt(protection.storedBytes),
    direction: 'A → B',
    scrubbedAtMs: BigInt(vm.scrub.scrubbedAtMs),
    damagedCellCount: BigInt(vm.scrub.damagedCellCount),
    unknown,
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
  const desk = findVm(receiver, name);
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
  yield { part: { $case: 'geometry', value: geometryToWire(disk) } };
  const parts = new Handover<{ offset: number; data: Buffer }>();
  const reading = withLayers(receiver.seams, layersOf(vm, point, disk), (layers) =>
    forEachBatch(
      layers.map(({ source }) => source),
      (entries, bytes) => {
        const cell = defined(entries[0], 'a batch has a cell').cell;
        return parts.put({ offset: cell * CELL_BYTES, data: Buffer.from(bytes) });
      },
      () => Promise.resolve(),
    ),
  ).then(
    () => {
      parts.end();
    },
    (error: unknown) => {
      parts.end(error);
    },
  );
  try {
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
