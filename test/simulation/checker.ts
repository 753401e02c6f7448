// The invariants of docs/design.md over a simulated world, checked against what the machines would
// find if the power went now: the state is taken as a crash would leave it, opened by the real code,
// and compared with the model.
//
//   I2   every listed point reads back, to its manifests and to the bytes of its moment
//   I3   for each chain: confirmed point + dirty set + changes since the reference point cover all;
//        ledger and reference point are one unit, so that no crash costs a compare
//   I4   nothing without our tag was touched
//        and what was acknowledged is there; what was found good or mended reads back; nothing is
//        taken for damaged that did not rot, or for good that did

import { defined } from '../../shared/assert.js';
import type { Guid } from '../../shared/bytes/index.js';
import {
  connectDirectly,
  type ControlService,
  controlService,
  type ReadDiskResponse,
  type ServiceClient,
} from '../../shared/channel/index.js';
import { CELL_BYTES, cellLength } from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import { silentLog } from '../../shared/log.js';
import { controlHandlers, Receiver } from '../../dr-receiver/index.js';
import type { Point } from '../../dr-receiver/store/protection.js';
import type { VmStore } from '../../dr-receiver/store/vm-store.js';
import type { DirtyCells } from '../../source-agent/dirty-cells.js';
import { type Ledger, settle } from '../../source-agent/ledger.js';
import { LedgerStore } from '../../source-agent/ledger-store.js';
import { SURVIVOR_STYLES } from '../support/crash-file.js';
import { FakeClock } from '../support/fake-clock.js';
import type { MemoryFileSystem } from '../support/memory-file.js';
import { SeededRandom } from '../support/seeded-random.js';
import { DEVICE_FAILED } from './disks.js';
import { bytesOf, type FrozenDisk, type GuestDisk } from './guest-disk.js';
import type { Frozen, Host, Vm } from './host.js';
import { Broken } from './promises.js';
import type { Site } from './site.js';
import { expectKnown } from './truth.js';
import { STATE_FOLDER, STORE_FOLDER, type World } from './world.js';

const OPERATOR = {
  principal: 'checker',
  keyId: 'checker',
  role: 'operator',
  vmPattern: '*',
  address: 'simulated',
} as const;

/** Codes with which damaged files are refused. */
const DAMAGE: ReadonlySet<string> = new Set([
  'E_POINT_CORRUPT',
  'E_HALTED',
  'E_DELTA_HASH',
  'E_DELTA_MANIFEST',
  'E_DELTA_VERSION',
  'E_DELTA_COVERAGE',
  'E_VHDX_DAMAGED',
  'E_FILE_VERSION',
  'E_NO_POINT',
]);

/** What readers are told of files that are damaged, or of a point that is not there. */
export function isDamageCode(code: string): boolean {
  return DAMAGE.has(code);
}

export class Checker {
  readonly #world: World;
  /** Points that were read back since the last event that could have changed them. */
  readonly #good = new Set<string>();
  /** Checkpoints that others made, which must stay. */
  readonly #foreign = new Set<string>();
  pointsRead = 0;

  constructor(world: World) {
    this.#world = world;
  }

  /** From now on this object of somebody else is looked after. */
  guard(checkpointId: string): void {
    this.#foreign.add(checkpointId);
  }

  /** What was read back must be read again. */
  forget(): void {
    this.#good.clear();
  }

  /** @throws Broken; whatever the real code throws where it must not */
  async check(random: SeededRandom): Promise<void> {
    const [first] = this.#world.violations;
    if (first !== undefined) throw first;
    this.#checkForeign();
    const seed = random.next();
    const style = random.pick(SURVIVOR_STYLES);
    const source = this.#world.source.volume.survivors(seed, style);
    const ledgers = new Map<Guid, Ledger>();
    for (const vm of this.#world.host.vms) {
      const { ledger, setAside } = await ledgerOf(source, vm);
      ledgers.set(vm.id, ledger);
      if (this.#world.excusedLedgers.has(vm.id)) continue;
      if (setAside !== undefined)
        throw new Broken(`a power cut makes the ledger unusable: ${setAside}`);
      const { reference } = ledger;
      if (reference !== undefined && !this.#world.host.references.has(reference.id)) {
        throw new Broken(
          `after a power cut the ledger of ${vm.name} would name ${reference.id}, which is gone`,
        );
      }
    }
    for (const site of this.#world.sites) {
      for (const { id } of this.#world.host.vms) await expectKnown(site, id);
      const found = site.machine.volume.survivors(seed, style);
      await this.#checkSite(site, found, ledgers);
    }
  }

  /**
   * After a cycle of every chain that ended well: no checkpoint of ours is left, one reference point at
   * most, and no file that nobody names.
   */
  checkTidy(): void {
    const { host, source, sites } = this.#world;
    for (const vm of host.vms) {
      const isOurs = (tag: { readonly protectionId: Guid } | undefined): boolean =>
        tag?.protectionId === vm.id;
      const left = [...host.checkpoints.values()].filter(({ checkpoint }) =>
        isOurs(checkpoint.tag),
      );
      if (left.length > 0)
        throw new Broken(`I4: ${left[0]?.checkpoint.id} of ours was left behind`);
      const points = [...host.references.values()].filter(({ point }) => isOurs(point.tag));
      if (points.length > 1) throw new Broken(`I4: ${points.length} reference points are left`);
      const cells = source.volume.paths.filter(
        (path) => path.includes(vm.id) && path.endsWith('.cells'),
      );
      if (cells.length > 1) throw new Broken(`I4: ${cells.join(' and ')} are left`);
    }
    for (const site of sites) {
      const { machine, name, receiver } = site;
      for (const path of machine.volume.paths) {
        const vm = host.vms.find(({ id }) => path.includes(id));
        if (vm === undefined || this.#world.outcome(site, vm)?.kind !== 'done') continue;
        const store = receiver?.store.vms.find(({ vmId }) => vmId === vm.id);
        if (store === undefined) continue;
        if (/\/(journal(\.\d+)?|protection\.json|scrub\.json)$/.test(path)) continue;
        // the next fold of this base takes it away, whenever that is due
        if (/\/\.base\.manifest\.applying\.[0-9a-f]{8}\.unfinished$/.test(path)) continue;
        const { segments } = store.protection;
        const isNamed = [...segments.cycleIds].some((cycleId) => path.includes(cycleId));
        if (!isNamed || path.endsWith('/progress') || path.endsWith('.unfinished')) {
          throw new Broken(`I4: ${path} is left at ${name}, and nobody names it`);
        }
      }
    }
  }

  #checkForeign(): void {
    for (const id of this.#foreign) {
      if (!this.#world.host.checkpoints.has(id)) {
        throw new Broken(`I4: ${id}, which bears no tag of ours, is gone`);
      }
    }
  }

  async #checkSite(
    site: Site,
    found: MemoryFileSystem,
    ledgers: ReadonlyMap<Guid, Ledger>,
  ): Promise<void> {
    let receiver: Receiver;
    try {
      receiver = await Receiver.open({
        fs: found,
        clock: new FakeClock(site.machine.wallMs),
        random: new SeededRandom(1),
        log: silentLog,
        storeFolder: STORE_FOLDER,
      });
    } catch (error) {
      throw new Broken(`${site.name} could not start after a power cut: ${String(error)}`);
    }
    try {
      for (const vm of this.#world.host.vms) {
        const store = await receiver.store.vm(vm.id);
        this.#checkAcknowledged(site, vm, store);
        if (store === undefined || store.halt !== undefined) continue;
        await this.#checkPoints(site, receiver, store);
        const ledger = ledgers.get(vm.id);
        if (ledger !== undefined)
          this.#checkLedger(site, receiver.store.storeId, store, vm, ledger);
      }
    } finally {
      await receiver.close();
    }
  }

  #checkAcknowledged(site: Site, vm: Vm, store: VmStore | undefined): void {
    const promised = site.promises.acknowledged.get(vm.id) ?? [];
    if (store?.halt !== undefined && site.rotten.get(vm.id) !== 'any') {
      throw new Broken(`${vm.name} would be halted at ${site.name}: ${store.halt.message}`);
    }
    if (store?.halt !== undefined) return;
    const points = store?.protection.listed ?? [];
    const there = new Set(points.map(({ pointId }) => pointId));
    const newest = promised.at(-1);
    const head = points.at(-1)?.pointId;
    const marked = points.find(({ damage }) => damage !== undefined);
    if (marked !== undefined && !site.rotten.has(vm.id) && !site.hasFailed) {
      throw new Broken(`${site.name} marks ${marked.pointId} as damaged, and nothing rotted`);
    }
    // a commit that was not acknowledged may have followed, and retention with it
    if (newest !== undefined && !site.promises.leadsTo(newest, head)) {
      throw new Broken(`${site.name} acknowledged ${newest} of ${vm.name} and would lose it`);
    }
    for (const pointId of site.pinned) {
      if (promised.includes(pointId) && !there.has(pointId)) {
        throw new Broken(`${site.name} forgot ${pointId} of ${vm.name}, which is pinned`);
      }
    }
    for (const pointId of site.guards) {
      if (promised.includes(pointId) && !there.has(pointId)) {
        throw new Broken(`${site.name} forgot ${pointId} for its age after its clock had jumped`);
      }
    }
    const told = head === undefined ? undefined : site.promises.pointCounts.get(head);
    if (head === newest && told !== undefined && told !== points.length) {
      throw new Broken(
        `${vm.name} had ${told} points at ${site.name}, it would have ${points.length}`,
      );
    }
    const bases = new Set<string>();
    for (const { diskId, generation, layers } of store?.protection.segments.all ?? []) {
      const name = `${diskId}.${generation}`;
      if (bases.has(name)) throw new Broken(`${vm.name} has two bases of one generation: ${name}`);
      bases.add(name);
      if (layers.length === 0) throw new Broken(`${name} of ${vm.name} has no layer`);
    }
  }

  async #checkPoints(site: Site, receiver: Receiver, store: VmStore): Promise<void> {
    for (const point of store.protection.listed) {
      const key = `${site.name}/${point.pointId}`;
      if (this.#good.has(key)) continue;
      const offer = site.promises.offers.get(point.pointId);
      if (offer === undefined) throw new Broken(`I2: nobody offered point ${point.pointId}`);
      const moment = defined(
        this.#world.host.moments.get(offer.checkpointId),
        'a point is of a moment',
      );
      await this.#checkPoint(site, receiver, store, point, moment);
      this.#good.add(key);
    }
  }

  async #checkPoint(
    site: Site,
    receiver: Receiver,
    store: VmStore,
    point: Point,
    moment: Frozen,
  ): Promise<void> {
    const control = controlOf(receiver);
    if (point.disks.length !== moment.disks.size) {
      throw new Broken(`I2: point ${point.pointId} has ${point.disks.length} disks`);
    }
    for (const [diskIndex, { diskId, sizeBytes }] of point.disks.entries()) {
      const frozen = moment.disks.get(diskId);
      if (frozen?.sizeBytes !== sizeBytes) {
        throw new Broken(`I2: disk ${diskId} of point ${point.pointId} is of another moment`);
      }
      const parts = control.readDisk({ vm: store.vmId, point: point.pointId, diskIndex });
      try {
        await compare(parts, frozen, point.pointId);
      } catch (error) {
        const isExcused = site.rotten.has(store.vmId) && !site.proven.has(point.pointId);
        if (error instanceof DrError && DAMAGE.has(error.code) && isExcused) {
          this.#world.counts.add('rot refused');
          return;
        }
        if (error instanceof Broken) throw error;
        // A verification met a device that did not answer, and marked the point until the next one;
        // and so are those that came on top of it.
        if (error instanceof DrError && error.message.includes(DEVICE_FAILED)) return;
        if (site.hasFailed && point.damage !== undefined) return;
        throw new Broken(`I2: point ${point.pointId} does not read back: ${String(error)}`);
      }
    }
    this.pointsRead++;
  }

  #checkLedger(site: Site, storeId: Guid, store: VmStore, vm: Vm, ledger: Ledger): void {
    const head = store.protection.head;
    const chain = ledger.chains.get(`dr:${storeId}`);
    if (head === undefined || chain === undefined) return;
    const settled = settle(chain, head.pointId);
    if (settled.confirmed?.pointId !== head.pointId) return;
    const offer = site.promises.offers.get(head.pointId);
    const moment = offer && this.#world.host.moments.get(offer.checkpointId);
    if (moment === undefined) return;
    for (const disk of vm.disks) {
      const debt = settled.disks.get(disk.diskId);
      const atHead = head.disks.find(({ diskId }) => diskId === disk.diskId);
      const before = moment.disks.get(disk.diskId);
      if (debt === undefined || atHead?.generation !== debt.generation) continue;
      if (before?.sizeBytes !== disk.sizeBytes || atHead.sizeBytes !== disk.sizeBytes) continue;
      if (debt.pending === 'all') continue;
      const changed = changedSince(this.#world.host, ledger, disk);
      if (changed === 'all') continue;
      const missed = firstMissed(before, disk, debt.pending, changed);
      if (missed === undefined) continue;
      throw new Broken(
        `I3: the change of cell ${missed} of disk ${disk.diskId} of ${vm.name} would never reach ${site.name}`,
      );
    }
  }
}

/** The ledger as an agent would find it. */
async function ledgerOf(
  fs: MemoryFileSystem,
  vm: Vm,
): Promise<{ ledger: Ledger; setAside: string | undefined }> {
  await fs.makeFolder(STATE_FOLDER);
  const seams = { fs, random: new SeededRandom(1), now: () => 0 };
  const { ledger, setAside } = await LedgerStore.open(STATE_FOLDER, vm.id, vm.name, seams);
  return { ledger, setAside: setAside?.error.message };
}

/** Cells written since the ledger's reference point; 'all' when the host could not tell. */
function changedSince(host: Host, ledger: Ledger, disk: GuestDisk): ReadonlySet<number> | 'all' {
  const { reference } = ledger;
  const tracked = reference?.disks.find(({ diskId }) => diskId === disk.diskId);
  const since = reference === undefined ? undefined : host.references.get(reference.id)?.frozen;
  if (tracked === undefined || since === undefined) return 'all';
  if (tracked.geometry.sizeBytes !== disk.sizeBytes) return 'all';
  if (since.trackingEpochs.get(disk.diskId) !== disk.trackingEpoch) return 'all';
  const changed = new Set<number>();
  for (const [cell, at] of disk.writtenAt.entries()) if (at > since.atTime) changed.add(cell);
  return changed;
}

function firstMissed(
  before: FrozenDisk,
  disk: GuestDisk,
  pending: Exclude<DirtyCells, 'all'>,
  changed: ReadonlySet<number>,
): number | undefined {
  const owed = new Set(changed);
  for (const { start, end } of pending.ranges()) for (let c = start; c < end; c++) owed.add(c);
  for (const [cell, content] of disk.cells.entries()) {
    const old = before.cells[cell];
    if (old === content || owed.has(cell)) continue;
    const length = cellLength(cell, disk.sizeBytes);
    if (!bytesOf(old, length).equals(bytesOf(content, length))) return cell;
  }
  return undefined;
}

/** All bytes that a point gives out, against the moment. */
async function compare(
  parts: AsyncIterable<ReadDiskResponse>,
  frozen: FrozenDisk,
  pointId: Guid,
): Promise<void> {
  const seen = new Set<number>();
  for await (const { part } of parts) {
    if (part?.$case !== 'bytes') continue;
    const { offset, data } = part.value;
    for (let at = 0; at < data.length; at += CELL_BYTES) {
      const cell = (Number(offset) + at) / CELL_BYTES;
      const length = cellLength(cell, frozen.sizeBytes);
      seen.add(cell);
      const wanted = bytesOf(frozen.cells[cell], length);
      if (data.subarray(at, at + length).equals(wanted)) continue;
      throw new Broken(`I2: point ${pointId}, cell ${cell}: the bytes are of another moment`);
    }
  }
  for (const [cell, content] of frozen.cells.entries()) {
    if (content === undefined || seen.has(cell)) continue;
    if (content.every((byte) => byte === 0)) continue;
    throw new Broken(`I2: point ${pointId}, cell ${cell}: the bytes are missing`);
  }
}

function controlOf(receiver: Receiver): ServiceClient<ControlService> {
  return connectDirectly(controlService, controlHandlers(receiver), OPERATOR);
}
