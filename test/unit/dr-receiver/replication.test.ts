// The replication service against a store in memory: cycles, what a source sends, and what is left of
// cycles that broke off. rights.test.ts and verify-points.test.ts have the rest.

import { expect } from 'chai';
import { guidToWire } from '../../../shared/bytes/index.js';
import { ProtectionState, type PushResponse } from '../../../shared/channel/index.js';
import {
  type BatchEntry,
  CELL_BYTES,
  encodeBatch,
  encodeBegin,
  encodeEndOfDisk,
  hashCell,
  MANIFEST_RECORD_BYTES,
} from '../../../shared/delta/index.js';
import { isAllZero } from '../../../shared/disk/index.js';
import { DEFAULT_POLICY } from '../../../dr-receiver/index.js';
import { gridRules } from '../../../dr-receiver/store/forget.js';
import { FaultFileSystem } from '../../support/fault-file.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { refusal } from '../../support/refusal.js';
import {
  caller,
  type CyclePlan,
  expectPoint,
  id,
  openSite,
  pointIds,
  type Site,
  SOURCE,
  SourceVm,
  twoDiskVm,
  journalPath,
} from './source-double.js';

describe('receiver', () => {
  let files: MemoryFileSystem;
  let site: Site;
  let vm: SourceVm;
  let seed: CyclePlan;

  beforeEach(async () => {
    files = new MemoryFileSystem();
    site = await openSite(files);
    ({ vm, seed } = twoDiskVm());
  });

  const describeVm = async (as = SOURCE): ReturnType<typeof describeCall> => describeCall(as);
  const describeCall = (as = SOURCE) =>
    site.replication(as).describe({ vmId: guidToWire(vm.vmId), vmName: vm.name });
  const kinds = async (plan: CyclePlan): Promise<string | undefined> =>
    (await vm.open(site, plan)).outcome?.$case;

  describe('cycles', () => {
    it('takes a seed and deltas, and reads every point back', async () => {
      await vm.replicate(site, seed);
      vm.write(0, 1, 500);
      vm.write(0, 17, 0);
      vm.write(1, 9, 501);
      const second = vm.plan(2, seed.pointId, [[1, 2, 17, 30], [9]]);
      await vm.replicate(site, second);
      vm.write(0, 30, 502);
      const third = vm.plan(3, second.pointId, [[30], []]);
      await vm.replicate(site, third);
      const plans = [seed, second, third];
      expect(await pointIds(site, vm.name)).to.deep.equal(plans.map((plan) => plan.pointId));
      for (const plan of plans) await expectPoint(site, vm, plan);
      const told = await describeVm();
      expect(told.state).to.equal(ProtectionState.PROTECTION_STATE_PROTECTED);
      expect(told.headPointId.equals(guidToWire(third.pointId))).to.equal(true);
      await site.receiver.close();
      const again = await openSite(files);
      for (const plan of plans) await expectPoint(again, vm, plan);
    });

    it('answers the same cycle with the same answer, over a restart as well', async () => {
      const answer = await vm.replicate(site, seed);
      expect(await vm.commit(site, seed)).to.deep.equal(answer);
      expect(await kinds(seed)).to.equal('committed');
      await site.receiver.close();
      site = await openSite(files, { clock: site.clock });
      expect(await vm.commit(site, seed)).to.deep.equal(answer);
      expect((await pointIds(site, vm.name)).length).to.equal(1);
    });

    it('refuses a parent that is not the head, tells what it has, and changes nothing', async () => {
      await vm.replicate(site, seed);
      const before = files.content(journalPath(vm));
      const { outcome } = await vm.open(site, vm.plan(2, id(7), [[], []]));
      if (outcome?.$case !== 'parentRefused') throw new Error(outcome?.$case);
      expect(outcome.value.headPointId.equals(guidToWire(seed.pointId))).to.equal(true);
      expect(outcome.value.disks.length).to.equal(2);
      expect(files.content(journalPath(vm))?.equals(before ?? Buffer.alloc(0))).to.equal(true);
      expect(await kinds(vm.plan(3, undefined, [undefined, undefined]))).to.equal('parentRefused');
    });

    it('takes a new base of one disk beside a delta of another, and a disk less', async () => {
      await vm.replicate(site, seed);
      const grown = vm.disks[1];
      if (grown === undefined) throw new Error('two disks');
      grown.generation = 1;
      grown.bytes = Buffer.concat([grown.bytes, Buffer.alloc(3 * CELL_BYTES)]);
      vm.write(1, 11, 600);
      vm.write(0, 3, 601);
      const mixed = vm.plan(2, seed.pointId, [[3], undefined]);
      await vm.replicate(site, mixed);
      await expectPoint(site, vm, mixed);
      vm.disks.splice(1, 1);
      vm.write(0, 4, 602);
      const less = vm.plan(3, mixed.pointId, [[4]]);
      await vm.replicate(site, less);
      await expectPoint(site, vm, less);
      await expectPoint(site, vm, seed);
      vm.disks.push(grown);
      const back = await refusal(() => vm.open(site, vm.plan(4, less.pointId, [[], []])));
      expect(back.code).to.equal('E_BASE_LOST');
    });

    it('refuses a delta onto a disk of another size', async () => {
      await vm.replicate(site, seed);
      const disk = vm.disks[0];
      if (disk !== undefined) disk.bytes = Buffer.concat([disk.bytes, Buffer.alloc(CELL_BYTES)]);
      const error = await refusal(() => vm.open(site, vm.plan(2, seed.pointId, [[], []])));
      expect(error.code).to.equal('E_DISK_MISMATCH');
    });

    it('commits nothing before every disk has come to its end', async () => {
      await vm.open(site, seed);
      const all = [...vm.messages(seed, [])];
      await vm.push(site, all.slice(0, -1));
      const error = await refusal(() => vm.commit(site, seed));
      expect(error.code).to.equal('E_STATE');
      expect(error.message).to.contain(vm.disks[1]?.diskId);
      expect((await describeVm()).state).to.equal(ProtectionState.PROTECTION_STATE_SEEDING);
    });

    it('commits nothing when the roots differ', async () => {
      await vm.open(site, seed);
      await vm.push(site, vm.messages(seed, []));
      const roots = vm.roots(seed);
      roots[1] = Buffer.alloc(32, 1);
      const ids = { vmId: guidToWire(vm.vmId), cycleId: guidToWire(seed.cycleId) };
      const error = await refusal(() => site.replication().commit({ ...ids, roots }));
      expect(error.code).to.equal('E_DELTA_MANIFEST');
      expect(await pointIds(site, vm.name)).to.deep.equal([]);
      const next = vm.plan(2, undefined, [undefined, undefined]);
      await vm.replicate(site, next);
      await expectPoint(site, vm, next);
    });

    it('keeps the point before a cycle that changes more than a quarter, and says so', async () => {
      await vm.replicate(site, seed);
      const cells = Array.from({ length: 11 }, (_, cell) => cell + 20);
      for (const cell of cells) vm.write(0, cell, 700 + cell);
      const large = vm.plan(2, seed.pointId, [cells, []]);
      const { warnings } = await vm.replicate(site, large);
      expect(warnings.join()).to.contain(seed.pointId).and.to.contain('28 %');
      const { points } = await site.control().listPoints({ vm: vm.name });
      expect(points.map((point) => point.isPinned)).to.deep.equal([true, false]);
    });

    it('keeps the point before a cycle that replaces a disk or leaves it out', async () => {
      await vm.replicate(site, { ...seed, maxRestorePoints: 1 });
      const again = vm.plan(2, seed.pointId, [undefined, []], { maxRestorePoints: 1 });
      expect((await vm.replicate(site, again)).warnings.join()).to.contain(seed.pointId);
      vm.disks.pop();
      const less = vm.plan(3, again.pointId, [[]], { maxRestorePoints: 1 });
      expect((await vm.replicate(site, less)).warnings.join()).to.contain(again.pointId);
      const plans = [seed, again, less];
      expect(await pointIds(site, vm.name)).to.deep.equal(plans.map((plan) => plan.pointId));
    });

    it('keeps what the grids of source and receiver ask for, and lets it go in time', async () => {
      const hour = 3_600_000;
      site.clock.setWall(Date.UTC(2026, 0, 10));
      await site.receiver.close();
      const policy = {
        ...DEFAULT_POLICY,
        retention: { ...DEFAULT_POLICY.retention, grid: gridRules('2d/6h') },
      };
      site = await openSite(files, { clock: site.clock, policy });
      const grid = { maxRestorePoints: 1, retentionGrid: '3h/1h' };
      const bad = await refusal(() => vm.open(site, { ...seed, retentionGrid: '1h/1d' }));
      expect(bad.code).to.equal('E_PROTOCOL');
      await vm.replicate(site, { ...seed, ...grid });
      const plans = [seed];
      for (let n = 1; n <= 20; n++) {
        await site.clock.advance(hour / 2);
        const plan = vm.plan(n + 1, plans.at(-1)?.pointId, [[], []], grid);
        plans.push(plan);
        await vm.replicate(site, plan);
      }
      // half hours 0 to 20: of each quarter of the day the first; of the last four hours theirs
      const kept = [0, 12, 14, 16, 18, 20].map((n) => plans[n]?.pointId);
      expect(await pointIds(site, vm.name)).to.deep.equal(kept);
      const { points } = await site.control().listPoints({ vm: vm.name });
      expect(points[2]?.keptBecause).to.equal('first point of its step, 3h/1h');
      // time goes by without a commit, over a restart
      await site.receiver.close();
      await site.clock.advance(10 * hour);
      site = await openSite(files, { clock: site.clock, policy });
      const desk = site.receiver.desks[0];
      if (desk === undefined) throw new Error('there is a VM');
      const forgotten = await desk.vm.change(() => desk.applyRetention());
      expect(forgotten).to.deep.equal([14, 16, 18].map((n) => plans[n]?.pointId));
      const later = [0, 12, 20].map((n) => plans[n]?.pointId);
      expect(await pointIds(site, vm.name)).to.deep.equal(later);
      expect(await desk.vm.change(() => desk.applyRetention())).to.deep.equal([]);
      await site.receiver.close();
      site = await openSite(files, { clock: site.clock, policy });
      expect(await pointIds(site, vm.name)).to.deep.equal(later);
    });

    it('forgets the oldest point, whose cells stay under the later ones', async () => {
      let parent: CyclePlan = seed;
      await vm.replicate(site, { ...seed, maxRestorePoints: 2 });
      const plans = [seed];
      for (let n = 2; n <= 6; n++) {
        vm.write(0, n, 800 + n);
        parent = vm.plan(n, parent.pointId, [[n], []], { maxRestorePoints: 2 });
        plans.push(parent);
        await vm.replicate(site, parent);
      }
      const kept = [plans[0], plans[4], plans[5]];
      expect(await pointIds(site, vm.name)).to.deep.equal(kept.map((plan) => plan?.pointId));
      for (const plan of kept) if (plan !== undefined) await expectPoint(site, vm, plan);
      const gone = await refusal(() => expectPoint(site, vm, plans[2] ?? seed));
      expect(gone.code).to.equal('E_NO_POINT');
    });
  });

  describe('what a source sends', () => {
    const cell = (seedOf: number): Buffer => {
      const one = new SourceVm(9, [CELL_BYTES]);
      one.write(0, 0, seedOf);
      return one.bytes(0);
    };
    const batch = (entries: BatchEntry[], payload: Buffer, diskIndex = 0): Buffer =>
      encodeBatch({ kind: 'cells', diskIndex, entries, payload });
    const data = (at: number, bytes: Buffer): BatchEntry => ({
      kind: 'data',
      cell: at,
      hash: hashCell(bytes),
    });
    const a = cell(1);
    const b = cell(2);
    const zeros = Buffer.alloc(CELL_BYTES);
    const cases: readonly [what: string, code: string, messages: () => Buffer[]][] = [
      ['another hash', 'E_DELTA_HASH', () => [batch([data(0, b)], a)]],
      [
        'cells that go back',
        'E_PROTOCOL',
        () => [batch([data(3, a), data(2, b)], Buffer.concat([a, b]))],
      ],
      ['a cell twice', 'E_PROTOCOL', () => [batch([data(3, a)], a), batch([data(3, a)], a)]],
      ['a cell behind the disk', 'E_PROTOCOL', () => [batch([data(40, a)], a)]],
      [
        'zeros behind the disk',
        'E_PROTOCOL',
        () => [batch([{ kind: 'zero', cell: 30, count: 11 }], Buffer.alloc(0))],
      ],
      ['zeros as data', 'E_PROTOCOL', () => [batch([data(1, zeros)], zeros)]],
      ['bytes of no cell', 'E_PROTOCOL', () => [batch([data(1, a)], Buffer.concat([a, b]))]],
      ['too few bytes', 'E_PROTOCOL', () => [batch([data(1, a)], a.subarray(1))]],
      ['a disk too many', 'E_PROTOCOL', () => [batch([data(1, a)], a, 2)]],
      ['a second begin', 'E_PROTOCOL', () => [encodeBegin(vm.vmId, seed.cycleId)]],
      ['garbage', 'E_PROTOCOL', () => [Buffer.from('garbage, and more of it')]],
      ['cells behind the end', 'E_PROTOCOL', () => [encodeEndOfDisk(0), batch([data(1, a)], a)]],
      [
        'a cell to use again that nobody has',
        'E_DELTA_HASH',
        () => [batch([{ kind: 'reuse', cell: 1, hash: hashCell(a) }], Buffer.alloc(0))],
      ],
    ];
    for (const [what, code, messages] of cases) {
      it(`is refused: ${what}; the next cycle is taken`, async () => {
        await vm.open(site, seed);
        const stream = [encodeBegin(vm.vmId, seed.cycleId), ...messages()];
        expect((await refusal(() => vm.push(site, stream))).code).to.equal(code);
        expect(await pointIds(site, vm.name)).to.deep.equal([]);
        const next = vm.plan(2, undefined, [undefined, undefined]);
        await vm.replicate(site, next);
        await expectPoint(site, vm, next);
      });
    }

    it('is refused without a begin, and for a cycle that is not open', async () => {
      await vm.open(site, seed);
      const none = await refusal(() => vm.push(site, [encodeEndOfDisk(0)]));
      expect(none.code).to.equal('E_PROTOCOL');
      const other = await refusal(() => vm.push(site, [encodeBegin(vm.vmId, id(99))]));
      expect(other.code).to.equal('E_STATE');
    });

    it('is refused field by field when the request is not legal', async () => {
      const good = vm.openRequest(seed);
      const disk = good.disks[0];
      const geometry = disk?.geometry;
      if (disk === undefined || geometry === undefined) throw new Error('a disk');
      const wrong = [
        { vmId: Buffer.alloc(15) },
        { vmId: Buffer.alloc(16) },
        { cycleId: Buffer.alloc(0) },
        { pointId: Buffer.alloc(3) },
        { parentPointId: Buffer.alloc(1) },
        { vmName: '' },
        { vmName: 'a\u0007b' },
        { vmName: 'a\u202eb' },
        { vmName: 'x'.repeat(256) },
        { kind: 'other' },
        { consistentAtMs: 2n ** 63n },
        { disks: [{ ...disk, transfer: 0 as const }] },
        { disks: [{ ...disk, geometry: undefined }] },
        { disks: [disk, disk] },
        { disks: [{ ...disk, geometry: { ...geometry, sizeBytes: 2n ** 47n } }] },
        { disks: [{ ...disk, geometry: { ...geometry, sizeBytes: 0n } }] },
        { disks: [{ ...disk, geometry: { ...geometry, sizeBytes: 513n } }] },
        { disks: [{ ...disk, geometry: { ...geometry, logicalSectorBytes: 1024 } }] },
        {
          disks: [
            {
              ...disk,
              geometry: { ...geometry, logicalSectorBytes: 4096, physicalSectorBytes: 512 },
            },
          ],
        },
      ];
      for (const change of wrong) {
        const error = await refusal(() => site.replication().open({ ...good, ...change }));
        expect(error.code, JSON.stringify(Object.keys(change))).to.equal('E_PROTOCOL');
      }
      expect(site.receiver.desks.length).to.equal(0);
    });
  });

  describe('a cycle that broke off', () => {
    const cut = function* (messages: Iterable<Buffer>, count: number): Generator<Buffer> {
      let left = count;
      for (const message of messages) {
        if (left-- === 0) throw new Error('the line broke');
        yield message;
      }
    };

    it('goes on where it is durable, with the same checkpoint only', async () => {
      await vm.open(site, seed);
      await vm.push(site, cut(vm.messages(seed, [], { batchCells: 2 }), 6)).catch(() => undefined);
      const other = { ...seed, checkpointId: 'another one' };
      expect((await refusal(() => vm.open(site, other))).code).to.equal('E_STATE');
      const { outcome } = await vm.open(site, seed);
      if (outcome?.$case !== 'accepted') throw new Error(outcome?.$case);
      expect(outcome.value.positions[0]?.nextCell).to.equal(10n);
      await vm.push(site, vm.messages(seed, outcome.value.positions));
      await vm.commit(site, seed);
      await expectPoint(site, vm, seed);
    });

    it('goes on after a restart, and commits what was complete then', async () => {
      await vm.open(site, seed);
      await vm.push(site, vm.messages(seed, []));
      await site.receiver.close();
      site = await openSite(files);
      const { outcome } = await vm.open(site, seed);
      if (outcome?.$case !== 'accepted') throw new Error(outcome?.$case);
      expect(outcome.value.positions.every((position) => position.isComplete)).to.equal(true);
      await site.receiver.close();
      site = await openSite(files);
      await vm.commit(site, seed);
      await expectPoint(site, vm, seed);
    });

    it('lends its cells to a later one, as far as they are the same, and is removed then', async () => {
      await vm.open(site, seed);
      await vm.push(site, cut(vm.messages(seed, [], { batchCells: 2 }), 12)).catch(() => undefined);
      vm.write(0, 1, 900);
      const next = vm.plan(2, undefined, [undefined, undefined]);
      const told = await describeVm();
      expect(told.unfinished?.cycleId.equals(guidToWire(seed.cycleId))).to.equal(true);
      const hashes: string[] = [];
      const request = {
        vmId: guidToWire(vm.vmId),
        diskId: guidToWire(vm.disks[0]?.diskId ?? id(1)),
        generation: 0,
        of: { $case: 'cycleId', value: guidToWire(seed.cycleId) } as const,
      };
      for await (const { records } of site.replication().hashes(request)) {
        for (let at = 0; at < records.length; at += MANIFEST_RECORD_BYTES) {
          hashes.push(`${records.readUIntLE(at, 6)}`);
        }
      }
      expect(hashes).to.deep.equal(['0', '1', '2', '17']);
      const { outcome } = await vm.open(site, next);
      if (outcome?.$case !== 'accepted') throw new Error(outcome?.$case);
      const reuse = new Set(['0:0', '0:2', '0:17']);
      await vm.push(site, vm.messages(next, outcome.value.positions, { reuse }));
      await vm.commit(site, next);
      await expectPoint(site, vm, next);
      expect((await describeVm()).unfinished).to.equal(undefined);
      const left = files.paths.filter((path) => path.includes(seed.cycleId));
      expect(left).to.deep.equal([]);
    });

    it("whose files are damaged or gone is of no use, and in nobody's way", async () => {
      await vm.open(site, seed);
      await vm.push(site, cut(vm.messages(seed, [], { batchCells: 2 }), 12)).catch(() => undefined);
      await site.receiver.close();
      const [one, other] = [vm.disks[0]?.diskId ?? '', 'base.'];
      for (const path of files.paths.filter((each) => each.includes(one) && each.includes(other))) {
        if (path.endsWith('.vhdx')) await files.remove(path);
        else files.put(path, Buffer.from('not a manifest any more'));
      }
      site = await openSite(files);
      const told = await describeVm();
      const ids = { vmId: guidToWire(vm.vmId), diskId: guidToWire(vm.disks[0]?.diskId ?? id(1)) };
      const of = { $case: 'cycleId', value: told.unfinished?.cycleId ?? Buffer.alloc(0) } as const;
      const hashes = site.replication().hashes({ ...ids, generation: 0, of });
      expect((await hashes[Symbol.asyncIterator]().next()).done).to.equal(true);
      const { outcome } = await vm.open(site, seed);
      if (outcome?.$case !== 'accepted') throw new Error(outcome?.$case);
      expect(outcome.value.positions.map(({ nextCell }) => nextCell)).to.deep.equal([0n, 0n]);
      const next = vm.plan(2, undefined, [undefined, undefined]);
      await vm.replicate(site, next);
      await expectPoint(site, vm, next);
    });

    it('given up stays for its cells, and nothing else changes', async () => {
      await vm.open(site, seed);
      await vm.push(site, vm.messages(seed, []));
      const ids = { vmId: guidToWire(vm.vmId), cycleId: guidToWire(seed.cycleId) };
      await site.replication().abandon(ids);
      await site.replication().abandon(ids);
      expect(await pointIds(site, vm.name)).to.deep.equal([]);
      expect((await describeVm()).unfinished).not.to.equal(undefined);
    });

    it('is taken over at once by its own source, whose older stream hangs', async () => {
      await vm.open(site, seed);
      const first = vm.messages(seed, [], { batchCells: 2 })[Symbol.iterator]();
      let release = (): void => undefined;
      const hanging = new Promise<void>((resolve) => {
        release = resolve;
      });
      const stuck = async function* (): AsyncGenerator<Buffer> {
        for (let count = 0; count < 5; count++) yield first.next().value as Buffer;
        await hanging;
        yield first.next().value as Buffer;
      };
      const old = refusal(async () => {
        const acks = site.replication().push(stuck())[Symbol.asyncIterator]();
        while ((await acks.next()).done !== true);
      });
      for (let turn = 0; turn < 100; turn++) await Promise.resolve();
      const { outcome } = await vm.open(site, seed);
      if (outcome?.$case !== 'accepted') throw new Error(outcome?.$case);
      await vm.push(site, vm.messages(seed, outcome.value.positions));
      release();
      expect((await old).code).to.equal('E_LOCKED');
      await vm.commit(site, seed);
      await expectPoint(site, vm, seed);
    });

    it('keeps others out while its stream lives, and not longer', async () => {
      await vm.open(site, seed);
      let release = (): void => undefined;
      const waiting = new Promise<void>((resolve) => {
        release = resolve;
      });
      const first = vm.messages(seed, [])[Symbol.iterator]();
      const slow = async function* (): AsyncGenerator<Buffer> {
        yield first.next().value as Buffer;
        yield first.next().value as Buffer;
        await waiting;
        yield first.next().value as Buffer;
      };
      const acks: PushResponse[] = [];
      const pushing = (async (): Promise<void> => {
        for await (const ack of site.replication().push(slow())) acks.push(ack);
      })();
      const outcome = refusal(() => pushing);
      for (let turn = 0; turn < 50; turn++) await Promise.resolve();
      const next = vm.plan(2, undefined, [undefined, undefined]);
      const locked = await refusal(() => vm.open(site, next));
      expect(locked.code).to.equal('E_LOCKED');
      expect(locked.message).to.contain(seed.cycleId).and.to.contain(SOURCE.principal);
      await site.clock.advance(31_000);
      await vm.replicate(site, next);
      release();
      expect((await outcome).code).to.equal('E_LOCKED');
      await expectPoint(site, vm, next);
    });
  });

  it('tells the hashes of all cells of a point that are not zero', async () => {
    await vm.replicate(site, seed);
    vm.write(0, 2, 0);
    vm.write(0, 30, 7);
    const second = vm.plan(2, seed.pointId, [[2, 30], []]);
    await vm.replicate(site, second);
    for (const plan of [seed, second]) {
      for (const [index, { diskId, generation }] of vm.disks.entries()) {
        const image = plan.images[index] ?? Buffer.alloc(0);
        const expected: string[] = [];
        for (let cell = 0; cell * CELL_BYTES < image.length; cell++) {
          const bytes = image.subarray(cell * CELL_BYTES, (cell + 1) * CELL_BYTES);
          if (!isAllZero(bytes)) expected.push(`${cell} ${hashCell(bytes).toString('hex')}`);
        }
        const found: string[] = [];
        const of = { $case: 'pointId', value: guidToWire(plan.pointId) } as const;
        const ids = { vmId: guidToWire(vm.vmId), diskId: guidToWire(diskId) };
        for await (const { records } of site.replication().hashes({ ...ids, generation, of })) {
          for (let at = 0; at < records.length; at += MANIFEST_RECORD_BYTES) {
            const hash = records.toString('hex', at + 8, at + 40);
            found.push(`${records.readUIntLE(at, 6)} ${hash}`);
          }
        }
        expect(found).to.deep.equal(expected);
      }
    }
  });

  it('takes cycles of many VMs of several sources at once', async () => {
    const lives = Array.from({ length: 9 }, async (_, index) => {
      const as = caller(`site-${index % 3}`);
      const one = new SourceVm(10 + index, [8 * CELL_BYTES, 2 * CELL_BYTES]);
      let parent: CyclePlan | undefined;
      for (let n = 1; n <= 4; n++) {
        one.write(0, n, index * 100 + n);
        const cells = parent === undefined ? [undefined, undefined] : [[n], []];
        const plan = one.plan(index * 10 + n, parent?.pointId, cells);
        const { outcome } = await one.open(site, plan, as);
        if (outcome?.$case !== 'accepted') throw new Error(outcome?.$case);
        await one.push(site, one.messages(plan, outcome.value.positions), undefined, as);
        await one.commit(site, plan, as);
        parent = plan;
      }
      return { one, parent };
    });
    for (const { one, parent } of await Promise.all(lives)) {
      if (parent !== undefined) await expectPoint(site, one, parent);
    }
    expect((await site.control().status({ vm: '' })).protections.length).to.equal(9);
  });

  it('goes on over a journal that is written anew again and again', async () => {
    await site.receiver.close();
    const options = { clock: site.clock, rewriteAboveBytes: 8000 };
    site = await openSite(files, options);
    await vm.replicate(site, { ...seed, maxRestorePoints: 2 });
    const plans = [seed];
    for (let n = 2; n <= 60; n++) {
      vm.write(0, n % 40, 1000 + n);
      const cells = n === 30 ? [undefined, []] : [[n % 40], []];
      const plan = vm.plan(n, plans.at(-1)?.pointId, cells, { maxRestorePoints: 2 });
      plans.push(plan);
      await vm.replicate(site, plan);
      for (let more = 0; more < 10; more++) {
        await site.control().pause({ vm: vm.name, isPaused: more % 2 === 0 });
      }
      if (n % 7 !== 0) continue;
      await site.receiver.close();
      site = await openSite(files, options);
    }
    // the one that its successor replaced as a whole is pinned
    const kept = [plans[0], plans[28], plans[58], plans[59]];
    expect(await pointIds(site, vm.name)).to.deep.equal(kept.map((plan) => plan?.pointId));
    for (const plan of kept) await expectPoint(site, vm, plan ?? seed);
    const archives = files.paths.filter((path) => /\/journal\.\d+$/.test(path));
    expect(archives.length).to.be.greaterThan(0);
    const answered = await vm.commit(site, plans[40] ?? seed);
    expect(answered.pointId.equals(guidToWire(plans[40]?.pointId ?? seed.pointId))).to.equal(true);
  });

  it('remembers the last cycles that failed, however many there were', async () => {
    const broken = new FaultFileSystem(files);
    await site.receiver.close();
    site = await openSite(broken);
    await vm.replicate(site, seed);
    const codeOf = async (plan: CyclePlan): Promise<string> =>
      (await refusal(() => vm.open(site, plan))).code;
    const failed: CyclePlan[] = [];
    for (let n = 0; n < 70; n++) {
      const plan = vm.plan(100 + n, seed.pointId, [[1], []]);
      failed.push(plan);
      await vm.open(site, plan);
      broken.inject({ kind: 'flush', path: /\.delta$/ });
      await refusal(() => vm.push(site, vm.messages(plan, [])));
      broken.mend();
    }
    for (const plan of failed.slice(-10)) expect(await codeOf(plan)).to.equal('E_IO');
    const next = vm.plan(300, seed.pointId, [[1], []]);
    await vm.replicate(site, next);
    await expectPoint(site, vm, next);
  });

  it('lets no guard point go for its age after its clock has jumped', async () => {
    await vm.replicate(site, { ...seed, maxRestorePoints: 1 });
    site.clock.setWall(site.clock.now() + 30 * 24 * 3_600_000);
    let parent = seed.pointId;
    for (let n = 2; n <= 4; n++) {
      const plan = vm.plan(n, parent, [[], []], { maxRestorePoints: 1 });
      const { warnings } = await vm.replicate(site, plan);
      expect(warnings.join()).to.contain('clock');
      parent = plan.pointId;
    }
    expect((await pointIds(site, vm.name))[0]).to.equal(seed.pointId);
  });
});
