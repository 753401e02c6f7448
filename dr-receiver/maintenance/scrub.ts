// The scrub: reads every byte of the store back against the manifests, once in each period, at most at
// a given rate, and less while cycles come in. It goes on where an earlier process stopped.
//
// One call of slice() does a bounded piece of work and keeps no file open behind it. A bad cell is told
// in the log with VM, disk and offset, and the points that show it are marked in the journal. At the end
// of a round the points of which all layers were read are marked as verified, and a mark of damage that
// does not hold any more, because the cells were mended, is taken away.

import type { Guid } from '../../shared/bytes/index.js';
import { CELL_BYTES } from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import type { VmDesk } from '../ingest/vm-desk.js';
import type { Receiver } from '../receiver.js';
import { checkPart, isDeviceFailure } from '../store/check-layer.js';
import { isDamage } from '../store/damage.js';
import {
  asPointFinding,
  exposed,
  holdPoints,
  knownFindings,
  type PointFinding,
} from '../store/exposure.js';
import { markPoints } from '../store/mark.js';
import { type Layer, layersOf, openLayer } from '../store/point-sources.js';
import { listedLayers } from '../store/repair.js';
import { CELLS_MAX, LAYER_START, type ScrubRound } from '../store/scrub-state.js';

export interface ScrubOptions {
  /** Bytes in a second. */
  readonly rateBytes: number;
  /** From the start of one round to the start of the next. */
  readonly periodMs: number;
}

export const DEFAULT_SCRUB: ScrubOptions = {
  rateBytes: 32 * 1024 * 1024,
  periodMs: 30 * 24 * 60 * 60 * 1000,
};

/** What is read in one slice. */
const SLICE_BYTES = 8 * 1024 * 1024;
/** While cycles come in, so little is left to the scrub. */
const BUSY_DIVISOR = 8;
/** Where it came to is put down this often, and when something was found. */
const SAVE_MS = 30_000;
const IDLE_MS = 60_000;
/** The first round of a VM begins when its first point is so old. */
const FIRST_MS = 24 * 60 * 60 * 1000;
/** Between two rounds that are made because of marks. */
const RECHECK_MS = 10 * 60 * 1000;
/** A VM whose files a device would not give is left alone for so long. */
const FAILED_MS = 60 * 60 * 1000;
/** At so many failures in a row a layer waits for the end of the round, so that the others are read. */
const PUT_OFF_AT = 2;
/** When nothing of it could be read any time, this round is over for it. */
const GIVEN_UP_AT = 3;
/** Other layers that are asked whether the device reads at all. */
const PROBES_MAX = 4;
/** Findings of a slice that are logged one by one. */
const LOGGED_MAX = 20;

export class Scrub {
  readonly #receiver: Receiver;
  readonly #options: ScrubOptions;
  readonly #log: Log;
  /** When the state of a VM was put down, by the monotonic clock. */
  readonly #savedAt = new Map<Guid, number>();
  readonly #notBefore = new Map<Guid, number>();
  /** Bad cells of the layers that this process has read from their beginning. */
  readonly #passes = new Map<string, Set<number>>();
  /** How often in a row the device failed in a layer, by VM and layer. */
  readonly #failures = new Map<Guid, Map<string, number>>();

  constructor(receiver: Receiver, options: ScrubOptions) {
    this.#receiver = receiver;
    this.#options = options;
    this.#log = receiver.log.child({ component: 'scrub' });
  }

  /**
   * One piece of work. Returns the bytes that were read; undefined: nothing is due.
   * @throws DrError never for what is wrong with one VM, which is logged
   */
  async slice(): Promise<number | undefined> {
    const desk = this.#next();
    if (desk === undefined) return undefined;
    const { vm } = desk;
    try {
      return await this.#sliceOf(desk);
    } catch (error) {
      if (!(error instanceof DrError)) throw error;
      this.#notBefore.set(vm.vmId, this.#receiver.seams.clock.monotonic() + FAILED_MS);
      this.#tellFailure(desk, error);
      return 0;
    }
  }

  #tellFailure({ vm }: VmDesk, error: DrError): void {
    const { vmName } = vm.protection;
    this.#log.error('scrub.failed', { vmId: vm.vmId, vmName, error });
  }

  /** How long to pause after a slice that read so many bytes. */
  pauseMs(readBytes: number | undefined): number {
    if (readBytes === undefined) return IDLE_MS;
    const isBusy = this.#receiver.desks.some((desk) => desk.isStreaming);
    const rate = this.#options.rateBytes / (isBusy ? BUSY_DIVISOR : 1);
    return Math.ceil((readBytes / rate) * 1000);
  }

  /** The VM whose round is under way, or is due for the longest time. */
  #next(): VmDesk | undefined {
    const { clock } = this.#receiver.seams;
    const due = this.#receiver.desks.filter(({ vm }) => {
      if (vm.halt !== undefined || vm.protection.listed.length === 0) return false;
      if (clock.monotonic() < (this.#notBefore.get(vm.vmId) ?? 0)) return false;
      return vm.scrub.round !== undefined || this.#isDue(vm);
    });
    due.sort((a, b) => startOf(a) - startOf(b));
    return due[0];
  }

  #isDue({ scrub, protection }: VmDesk['vm']): boolean {
    const { listed } = protection;
    const { periodMs } = this.#options;
    const nowMs = this.#receiver.seams.clock.now();
    const isFirst = scrub.scrubbedAtMs === 0;
    // what has just come was checked when it came
    const since = isFirst ? (listed[0]?.committedAtMs ?? nowMs) : scrub.scrubbedAtMs;
    // a clock that went back must not stop the scrub
    const ageMs = Math.abs(nowMs - since);
    if (ageMs >= (isFirst ? Math.min(periodMs, FIRST_MS) : periodMs)) return true;
    if (ageMs < RECHECK_MS) return false;
    // marked points that were mended, or of which nobody knows what is wrong with them
    if (listed.some(({ pointId }) => scrub.repaired.has(pointId))) return true;
    return scrub.damage.size === 0 && listed.some(({ damage }) => damage !== undefined);
  }

  async #sliceOf(desk: VmDesk): Promise<number> {
    const { vm } = desk;
    const lease = await holdPoints(vm, vm.protection.listed);
    try {
      return await this.#heldSlice(desk);
    } finally {
      lease.release();
    }
  }

  /** With all points of the VM held, so that no file goes away meanwhile. */
  async #heldSlice(desk: VmDesk): Promise<number> {
    const { vm } = desk;
    const { scrub } = vm;
    const layers = listedLayers(vm);
    const round = scrub.round ?? this.#begin(desk, layers);
    const failures = this.#failures.get(vm.vmId) ?? new Map<string, number>();
    this.#failures.set(vm.vmId, failures);
    const open = openKeys(layers, round, failures);
    const key = open.find((each) => each === round.layer) ?? open[0];
    const layer = key === undefined ? undefined : layers.get(key);
    if (key === undefined || layer === undefined) {
      await vm.change(() => this.#endRound(desk, round));
      return 0;
    }
    const isDeviceSound = failures.has(key) && (await this.#readsAnother(layers, key, failures));
    const part = await this.#read(layer, round.layer === key ? round : undefined, isDeviceSound);
    const { failure } = part;
    countFailure(failures, key, part, isDeviceSound);
    const isPutOff =
      (failures.get(key) ?? 0) >= PUT_OFF_AT &&
      open.some((other) => (failures.get(other) ?? 0) < PUT_OFF_AT);
    await vm.change(async () => {
      if (vm.halt !== undefined) return;
      scrub.round = nextRound(scrub.round ?? round, key, part, failure !== undefined && isPutOff);
      const isNews = (part.isEnd || part.position !== undefined) && this.#note(vm, key, part);
      await this.#save(desk, isNews);
      if (isNews) await this.#markExposed(desk, part, key);
    });
    if (failure === undefined) return part.readBytes;
    if (!isPutOff) throw failure;
    this.#tellFailure(desk, failure);
    return part.readBytes;
  }

  #begin({ vm }: VmDesk, layers: ReadonlyMap<string, Layer>): ScrubRound {
    vm.scrub.keepOnly(new Set(layers.keys()));
    const startedAtMs = this.#receiver.seams.clock.now();
    return { startedAtMs, done: [], ...NO_LAYER };
  }

  /**
   * Reads on in a layer, or begins it: always so when its manifest is another one than before. What
   * cannot be used at all is told as such, and so is what a sound device cannot read.
   * @throws DrError E_LOCKED, …
   */
  async #read(
    layer: Layer,
    before: ScrubRound | undefined,
    isDeviceSound: boolean,
  ): Promise<ReadPart> {
    try {
      const open = await openLayer(this.#receiver.seams, layer);
      try {
        const root = open.manifest.trailer.root.toString('hex');
        // a base that is being changed is read whole
        const goesOn = before?.root === root && open.announced === undefined;
        const from = goesOn ? before.position : LAYER_START;
        if (!goesOn) await open.manifest.verify();
        const part = await checkPart(open, from, SLICE_BYTES, isDeviceSound);
        const { position, checkedBytes, bad, failure } = part;
        if (failure !== undefined && isDeviceSound) throw failure;
        return {
          ...{ position, readBytes: checkedBytes, cells: bad.map(({ cell }) => cell), root },
          ...{ isStart: !goesOn, isEnd: position === undefined, lost: undefined, failure },
        };
      } finally {
        await open.close();
      }
    } catch (error) {
      if (isDamage(error) || (isDeviceSound && isDeviceFailure(error))) {
        return { ...NOTHING_READ, isEnd: true, lost: error.message };
      }
      if (!isDeviceFailure(error)) throw error;
      return { ...NOTHING_READ, failure: error };
    }
  }

  /** Whether the device still reads what is elsewhere: then it is not the device that fails. */
  async #readsAnother(
    layers: ReadonlyMap<string, Layer>,
    key: string,
    failures: ReadonlyMap<string, number>,
  ): Promise<boolean> {
    const others = [...layers].filter(
      ([other, { disk, folding }]) =>
        other !== key && !failures.has(other) && folding === undefined && disk.dataBytes > 0,
    );
    others.sort(([, a], [, b]) => a.disk.dataBytes - b.disk.dataBytes);
    for (const [, layer] of others.slice(0, PROBES_MAX)) {
      try {
        const open = await openLayer(this.#receiver.seams, layer);
        try {
          const { failure, bad } = await checkPart(open, LAYER_START, 1);
          if (failure === undefined && bad.length === 0) return true;
        } finally {
          await open.close();
        }
      } catch (error) {
        if (!(error instanceof DrError)) throw error;
      }
    }
    return false;
  }

  /** Takes over what a part showed; true when something is known now that was not. */
  #note({ scrub }: VmDesk['vm'], key: string, part: ReadPart): boolean {
    const known = scrub.damage.get(key);
    const because = 'found by the scrub';
    if (part.lost !== undefined) {
      scrub.setDamage(key, { cells: 'all', because: part.lost });
      return known?.cells !== 'all';
    }
    // What is bad no more is told by a pass over the whole layer in one process. A pass that went on
    // after a restart can only add to what is known.
    const pass = part.isStart ? new Set<number>() : this.#passes.get(key);
    if (pass === undefined) {
      scrub.addDamage(key, part.cells, because);
    } else {
      for (const cell of part.cells) if (pass.size <= CELLS_MAX) pass.add(cell);
      this.#passes.set(key, pass);
      if (part.position === undefined) {
        this.#passes.delete(key);
        scrub.addDamage(key, part.cells, because);
        // what was mended since this pass has read it is not known as bad any more
        const now = scrub.damage.get(key)?.cells ?? [];
        const left = [...pass].filter(
          (cell) => known?.cells === 'all' || now === 'all' || now.includes(cell),
        );
        scrub.setDamage(key, { cells: left.sort((a, b) => a - b), because });
      } else {
        scrub.addDamage(key, part.cells, because);
      }
    }
    const before = new Set(known?.cells === 'all' ? [] : known?.cells);
    return part.cells.some((cell) => !before.has(cell));
  }

  async #save({ vm }: VmDesk, isNow: boolean): Promise<void> {
    const now = this.#receiver.seams.clock.monotonic();
    const savedAt = this.#savedAt.get(vm.vmId) ?? 0;
    if (!isNow && now - savedAt < SAVE_MS) return;
    this.#savedAt.set(vm.vmId, now);
    await vm.scrub.save();
  }

  /** Marks the points that show what was found, and tells it. Inside a change of the VM. */
  async #markExposed({ vm }: VmDesk, part: ReadPart, key: string): Promise<void> {
    const first = await this.#firstFindings(vm);
    const { listed, vmName } = vm.protection;
    const news = listed.filter(({ pointId, damage }) => damage === undefined && first.has(pointId));
    if (news.length > 0) {
      await markPoints(vm, this.#receiver.seams.clock.now(), news, first);
    }
    const points = news.map(({ pointId }) => pointId).slice(0, LOGGED_MAX);
    const fields = { vmId: vm.vmId, vmName, file: key, points };
    const [diskId] = (key.split('/')[1] ?? '').split('.');
    const { lost, cells } = part;
    if (lost !== undefined) this.#log.error('scrub.finding', { ...fields, because: lost });
    for (const cell of cells.slice(0, LOGGED_MAX)) {
      this.#log.error('scrub.finding', { ...fields, diskId, offset: cell * CELL_BYTES });
    }
  }

  async #firstFindings(vm: VmDesk['vm']): Promise<Map<Guid, PointFinding>> {
    const first = new Map<Guid, PointFinding>();
    if (vm.scrub.damage.size === 0) return first;
    const { listed } = vm.protection;
    for await (const found of exposed(this.#receiver.seams, vm, listed, knownFindings(vm))) {
      const { pointId } = found.point;
      if (!first.has(pointId)) first.set(pointId, asPointFinding(found));
    }
    return first;
  }

  /** Inside a change of the VM. */
  async #endRound({ vm }: VmDesk, round: ScrubRound): Promise<void> {
    const { clock } = this.#receiver.seams;
    const { scrub, protection } = vm;
    const done = new Set(round.done);
    const whole = protection.listed.filter((point) =>
      point.disks.every((disk) =>
        layersOf(vm, point, disk).every(({ files }) => done.has(vm.layout.keyOf(files))),
      ),
    );
    const first = await this.#firstFindings(vm);
    await markPoints(vm, clock.now(), whole, first);
    scrub.told.clear();
    this.#failures.delete(vm.vmId);
    scrub.round = undefined;
    scrub.scrubbedAtMs = clock.now();
    await scrub.save();
    const { vmName } = protection;
    const damagedCount = whole.filter(({ pointId }) => first.has(pointId)).length;
    const startedAt = new Date(round.startedAtMs).toISOString();
    this.#log.info('scrub.round-ended', {
      vmId: vm.vmId,
      vmName,
      startedAt,
      pointCount: whole.length,
      damagedCount,
    });
  }
}

interface ReadPart {
  readonly position: typeof LAYER_START | undefined;
  readonly readBytes: number;
  readonly cells: readonly number[];
  /** Of the manifest, hex. */
  readonly root: string | undefined;
  /** It begins at the start of the layer. */
  readonly isStart: boolean;
  /** There is no more to read in the layer. */
  readonly isEnd: boolean;
  /** Why the layer cannot be used at all. */
  readonly lost: string | undefined;
  /** The device failed: at `position`, or before anything was read. */
  readonly failure: DrError | undefined;
}

const NO_LAYER = { layer: undefined, root: undefined, position: LAYER_START };

const NOTHING_READ: ReadPart = {
  position: undefined,
  readBytes: 0,
  cells: [],
  root: undefined,
  isStart: false,
  isEnd: false,
  lost: undefined,
  failure: undefined,
};

function startOf({ vm }: VmDesk): number {
  return vm.scrub.round?.startedAtMs ?? vm.scrub.scrubbedAtMs;
}

/** Layers that this round has still to read: those that failed last, else by name. */
function openKeys(
  layers: ReadonlyMap<string, Layer>,
  round: ScrubRound,
  failures: ReadonlyMap<string, number>,
): string[] {
  const done = new Set(round.done);
  const countOf = (key: string): number => failures.get(key) ?? 0;
  const open = [...layers].flatMap(([key, { folding }]) => {
    // a base that is being changed waits for the next round
    const isOpen = folding === undefined || key === round.layer;
    return isOpen && !done.has(key) && countOf(key) < GIVEN_UP_AT ? [key] : [];
  });
  const isLate = (key: string): number => (countOf(key) >= PUT_OFF_AT ? 1 : 0);
  return open.sort().sort((a, b) => isLate(a) - isLate(b));
}

function nextRound(
  round: ScrubRound,
  key: string,
  { isEnd, position, root }: ReadPart,
  isPutOff: boolean,
): ScrubRound {
  if (isEnd) return { ...round, done: [...round.done, key], ...NO_LAYER };
  if (isPutOff) return { ...round, ...NO_LAYER };
  return position === undefined ? round : { ...round, layer: key, root, position };
}

function countFailure(
  failures: Map<string, number>,
  key: string,
  { failure, position, cells }: ReadPart,
  isDeviceSound: boolean,
): void {
  const count = failures.get(key) ?? 0;
  if (failure !== undefined) {
    // while it gets on, however slowly, it is not given up
    failures.set(key, position === undefined ? count + 1 : Math.min(count + 1, PUT_OFF_AT));
  } else if (!isDeviceSound || cells.length === 0) {
    // the bad region may go on behind this part
    failures.delete(key);
  }
}

export interface RunningScrub {
  /** Ends after the slice that is under way. */
  stop(): Promise<void>;
}

/** Runs slices until it is stopped. */
export function startScrub(receiver: Receiver, options: ScrubOptions): RunningScrub {
  const { clock } = receiver.seams;
  const scrub = new Scrub(receiver, options);
  const ended = new AbortController();
  const run = async (): Promise<void> => {
    // a VM that cannot be opened now is there later
    await receiver.allDesks().catch(() => undefined);
    while (!ended.signal.aborted) {
      const readBytes = await scrub.slice();
      await clock.sleep(scrub.pauseMs(readBytes), ended.signal).catch(() => undefined);
    }
  };
  const running = run().catch((error: unknown) => {
    receiver.log.error('scrub.failed', { error });
  });
  return {
    stop: async () => {
      ended.abort();
      await running;
    },
  };
}
