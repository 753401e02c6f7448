// The agent of a primary site whose VM has disks: what a failback brings it fetches through the round, as
// the real one does, into copies over its old disks.

import { type Guid, guidToWire } from '../../../../shared/bytes/index.js';
import { FailbackCellsRequest, FailbackMode } from '../../../../shared/channel/index.js';
import {
  CELL_BYTES,
  hashCell,
  MANIFEST_RECORD_BYTES,
  parseBatch,
  parseManifestRecord,
} from '../../../../shared/delta/index.js';
import { isAllZero } from '../../../../shared/disk/index.js';
import { DrError } from '../../../../shared/errors.js';
import { failbackCells } from '../../../../dr-receiver/failover/failback/cells-call.js';
import type { FailbackRound, SourceOrder } from '../../../../dr-receiver/failover/ports.js';
import { SeededRandom } from '../../../support/seeded-random.js';
import type { SourceVm } from '../source-double.js';
import type { FailoverBench } from './failover-double.js';
import { FakeSource } from './fake-source.js';

/** What a guest at the DR site writes: a cell and a part of one, zeros over data, and less than a sector. */
export async function writeHere(bench: FailoverBench, seed: number): Promise<void> {
  const { id } = await bench.lab.findVm('VM1');
  const bytes = Buffer.alloc(CELL_BYTES + 512);
  new SeededRandom(seed).fill(bytes);
  await bench.lab.guestWrite(id, 0, 7 * CELL_BYTES, bytes);
  await bench.lab.guestZero(id, 0, CELL_BYTES, CELL_BYTES);
  await bench.lab.guestWrite(id, 1, 512 * seed, bytes.subarray(0, 512));
}

/** Both sites as they stand after a failover, with something written here. */
export async function failedOver(
  bench: FailoverBench,
  vm: SourceVm,
  parameters: Readonly<Record<string, string>> = {},
): Promise<Primary> {
  const primary = new Primary(bench, vm);
  bench.site.receiver.sources.find = () => primary;
  await bench.operate('unplanned', parameters);
  await writeHere(bench, 1);
  primary.calls.length = 0;
  return primary;
}

export class Primary extends FakeSource {
  /** What its VM has stood on since before the failover. */
  readonly disks: Buffer[];
  readonly rounds: FailbackRound[] = [];
  bench: FailoverBench;
  /** Called in a round, when it has fetched. */
  onRound: (round: FailbackRound) => Promise<void> = () => Promise.resolve();
  readonly #vm: SourceVm;
  #protective: Buffer[] | undefined;
  #round: FailbackRound | undefined;

  constructor(bench: FailoverBench, vm: SourceVm) {
    super();
    this.bench = bench;
    this.#vm = vm;
    this.powerState = 'off';
    this.allowed = ['shutdown', 'start', 'failback'];
    this.disks = vm.disks.map(({ bytes }) => Buffer.from(bytes));
  }

  /** As it is now, before another receiver. */
  copy(bench: FailoverBench): Primary {
    const copy = new Primary(bench, this.#vm);
    const { powerState, isFenced, epoch, isActive, isRetired, committed } = this;
    Object.assign(copy, { powerState, isFenced, epoch, isActive, isRetired, committed });
    for (const [disk, bytes] of this.disks.entries()) bytes.copy(copy.disks[disk] ?? bytes);
    copy.#protective = this.#protective?.map((bytes) => Buffer.from(bytes));
    bench.site.receiver.sources.find = () => copy;
    return copy;
  }

  /** What its VM sees. */
  get views(): readonly Buffer[] {
    return this.#protective ?? this.disks;
  }

  override async failbackSync(
    vmId: Guid,
    order: SourceOrder,
    round: FailbackRound,
  ): Promise<number> {
    await super.failbackSync(vmId, order, round);
    this.rounds.push(round);
    this.#round = round;
    const protective = (this.#protective ??= this.disks.map((bytes) => Buffer.from(bytes)));
    let count = 0;
    for (const [index, bytes] of protective.entries()) {
      const given = round.compare === 'full' ? await this.#differing(order, index, bytes) : [];
      const mode = round.compare === 'full' ? 'GIVEN' : 'CHANGED';
      count += await this.#fetch(order, index, bytes, mode, given);
    }
    await this.onRound(round);
    if (!round.isLast) return count;
    for (const [index, bytes] of protective.entries()) {
      const differing = await this.#differing(order, index, bytes);
      if (differing.length === 0) continue;
      throw new DrError('E_DIFFERENT', `disk ${index} differs in cell ${differing[0] ?? ''}`);
    }
    return count;
  }

  override async failbackUndo(vmId: Guid, order: SourceOrder): Promise<void> {
    await super.failbackUndo(vmId, order);
    this.#protective = undefined;
  }

  #request(order: SourceOrder, index: number, mode: FailbackMode, given: readonly number[]) {
    const { vmId, disks } = this.#vm;
    return FailbackCellsRequest.fromPartial({
      vmId: guidToWire(vmId),
      operationId: guidToWire(order.operationId),
      roundId: guidToWire(this.#round?.roundId ?? vmId),
      diskId: guidToWire(disks[index]?.diskId ?? vmId),
      mode,
      given: given.map((cell) => ({ start: BigInt(cell), end: BigInt(cell + 1) })),
    });
  }

  async #differing(order: SourceOrder, index: number, bytes: Buffer): Promise<number[]> {
    const request = this.#request(order, index, FailbackMode.FAILBACK_MODE_HASHES, []);
    const hashes = new Map<number, Buffer>();
    for await (const { part } of failbackCells(this.#rounds, request)) {
      if (part?.$case !== 'records') continue;
      for (let at = 0; at < part.value.length; at += MANIFEST_RECORD_BYTES) {
        const record = parseManifestRecord(part.value, at, at);
        if (record !== 'trailer' && record.kind === 'data') hashes.set(record.cell, record.hash);
      }
    }
    const differing: number[] = [];
    for (let cell = 0; cell * CELL_BYTES < bytes.length; cell++) {
      const part = bytes.subarray(cell * CELL_BYTES, (cell + 1) * CELL_BYTES);
      const wanted = hashes.get(cell);
      const isSame = wanted === undefined ? isAllZero(part) : hashCell(part).equals(wanted);
      if (!isSame) differing.push(cell);
    }
    return differing;
  }

  async #fetch(
    order: SourceOrder,
    index: number,
    bytes: Buffer,
    mode: 'CHANGED' | 'GIVEN',
    given: readonly number[],
  ): Promise<number> {
    const request = this.#request(order, index, FailbackMode[`FAILBACK_MODE_${mode}`], given);
    let count = 0;
    for await (const { part } of failbackCells(this.#rounds, request)) {
      if (part?.$case !== 'batch') continue;
      const message = parseBatch(part.value);
      if (message.kind !== 'cells') continue;
      let at = 0;
      for (const entry of message.entries) {
        const start = entry.cell * CELL_BYTES;
        const cells = entry.kind === 'zero' ? entry.count : 1;
        const end = Math.min(bytes.length, start + cells * CELL_BYTES);
        count += cells;
        if (entry.kind === 'zero') {
          bytes.fill(0, start, end);
        } else {
          message.payload.copy(bytes, start, at, at + end - start);
          at += end - start;
        }
      }
    }
    return count;
  }

  get #rounds() {
    return this.bench.site.receiver.servingRounds;
  }
}
