// The scrub and the repair against a store in memory: bits are turned in its files, and what the
// receiver knows, tells and mends is compared with what was turned.

import { expect } from 'chai';
import { type Guid, guidFromWire, guidToWire } from '../../../shared/bytes/index.js';
import type { WantedCell } from '../../../shared/channel/index.js';
import {
  CELL_BYTES,
  encodeBatch,
  encodeBegin,
  hashCell,
  MANIFEST_RECORD_BYTES,
  parseManifestRecord,
} from '../../../shared/delta/index.js';
import { DrError } from '../../../shared/errors.js';
import { Scrub, type ScrubOptions } from '../../../dr-receiver/index.js';
import { parseRecord } from '../../../dr-receiver/store/records.js';
import { HookedFileSystem } from '../../support/hooked-file.js';
import { MemoryFileSystem, posixName } from '../../support/memory-file.js';
import { refusal } from '../../support/refusal.js';
import {
  caller,
  type CyclePlan,
  expectPoint,
  id,
  openSite,
  type Site,
  SOURCE,
  SourceVm,
} from './source-double.js';

const DAY = 24 * 60 * 60 * 1000;
const OPTIONS: ScrubOptions = { rateBytes: 1024 * 1024, periodMs: 7 * DAY };
/** More than one slice of data. */
const CELLS = 300;

describe('scrub and repair', () => {
  let files: MemoryFileSystem;
  let site: Site;
  let vm: SourceVm;
  let seed: CyclePlan;
  let second: CyclePlan;

  beforeEach(async () => {
    files = new MemoryFileSystem();
    site = await openSite(files);
    vm = new SourceVm(1, [CELLS * CELL_BYTES, 3 * CELL_BYTES + 512]);
    for (let cell = 0; cell < 200; cell++) vm.write(0, cell, cell + 1);
    for (const cell of [0, 3]) vm.write(1, cell, cell + 5001);
    seed = vm.plan(1, undefined, [undefined, undefined]);
    await vm.replicate(site, seed);
    vm.write(0, 10, 6001);
    vm.write(0, 250, 6002);
    second = vm.plan(2, seed.pointId, [[10, 250], []]);
    await vm.replicate(site, second);
  });

  /** Turns a bit of the cell that `plan` brought, and gives the file. */
  function turn(plan: CyclePlan, cell: number, ending: string, disk = 0): string {
    const start = cell * CELL_BYTES;
    const wanted = plan.images[disk]?.subarray(start, start + 256) ?? Buffer.alloc(0);
    for (const path of files.paths.filter((each) => each.endsWith(ending))) {
      const bytes = files.content(path) ?? Buffer.alloc(0);
      const place = bytes.indexOf(wanted);
      if (place < 0) continue;
      bytes.writeUInt8(bytes.readUInt8(place + 70) ^ 1, place + 70);
      files.put(path, bytes);
      return path;
    }
    throw new Error(`no ${ending} has cell ${cell}`);
  }

  const age = (ms: number): void => {
    site.clock.setWall(site.clock.now() + ms);
  };

  /** Slices until nothing is due; gives what each of them read. */
  async function scrubAll(scrub = new Scrub(site.receiver, OPTIONS)): Promise<number[]> {
    const slices: number[] = [];
    for (;;) {
      const bytes = await scrub.slice();
      if (bytes === undefined) return slices;
      slices.push(bytes);
    }
  }

  async function marks(): Promise<Record<string, string>> {
    const { points } = await site.control().listPoints({ vm: vm.name });
    return Object.fromEntries(
      points.map(({ pointId, isDamaged, verifiedAtMs, damage }) => [
        guidFromWire(pointId) ?? '',
        isDamaged ? damage : verifiedAtMs > 0n ? 'verified' : 'not verified',
      ]),
    );
  }

  async function restart(): Promise<void> {
    await site.receiver.close();
    site = await openSite(files, { clock: site.clock });
  }

  async function wanted(as = SOURCE): Promise<WantedCell[]> {
    const all: WantedCell[] = [];
    for await (const { cells } of site.replication(as).wanted({ vmId: guidToWire(vm.vmId) })) {
      all.push(...cells);
    }
    return all;
  }

  function repair(cells: readonly (readonly [disk: number, cell: number, image: Buffer])[]) {
    const messages = async function* () {
      for (const [disk, cell, image] of cells) {
        await Promise.resolve();
        yield {
          vmId: guidToWire(vm.vmId),
          diskId: guidToWire(vm.disks[disk]?.diskId ?? id(0)),
          generation: 0,
          cell: BigInt(cell),
          data: image.subarray(cell * CELL_BYTES, (cell + 1) * CELL_BYTES),
        };
      }
    };
    return site.replication().repair(messages());
  }

  const image = (plan: CyclePlan, disk = 0): Buffer => plan.images[disk] ?? Buffer.alloc(0);

  async function verify(
    isRepair: boolean,
  ): Promise<{ repaired: number; wanted: number; bad: number }> {
    let out = { repaired: -1, wanted: -1, bad: -1 };
    const request = { vm: vm.name, point: 'all', isRepair };
    for await (const { step } of site.control().verify(request)) {
      if (step?.$case !== 'done') continue;
      const { repairedCellCount, wantedCellCount, damagedPointIds } = step.value;
      out = {
        repaired: Number(repairedCellCount),
        wanted: Number(wantedCellCount),
        bad: damagedPointIds.length,
      };
    }
    return out;
  }

  describe('the scrub', () => {
    it('reads nothing that has just come, and each byte once in a period', async () => {
      expect(await scrubAll()).to.deep.equal([]);
      age(DAY);
      const slices = await scrubAll();
      const total = slices.reduce((sum, bytes) => sum + bytes, 0);
      // what the base stores: whole blocks of it are no more than the disk
      const listed = (200 + 2 + 2) * CELL_BYTES - CELL_BYTES + 512;
      expect(total).to.be.within(listed, listed + CELLS * CELL_BYTES);
      // 8 MiB, and what the base stores of a block that it lists no cell of
      expect(Math.max(...slices)).to.be.below(40 * 1024 * 1024);
      expect(slices.length).to.be.above(3);
      expect(await marks()).to.deep.equal({
        [seed.pointId]: 'verified',
        [second.pointId]: 'verified',
      });
      expect(await scrubAll()).to.deep.equal([]);
      age(7 * DAY);
      expect((await scrubAll()).length).to.equal(slices.length);
    });

    it('goes on after a restart with what it has not read yet', async () => {
      age(DAY);
      const whole = await scrubAll();
      const readFiles = new Set<string>();
      age(7 * DAY);
      const first = new Scrub(site.receiver, OPTIONS);
      // to the middle of the base
      let bytes = 0;
      for (let n = 0; bytes < 9 * 1024 * 1024 && n < 20; n++) {
        bytes += (await first.slice()) ?? 0;
        // long enough for the position to be put down
        await site.clock.advance(60_000);
      }
      await site.receiver.close();
      const watching = new HookedFileSystem(files, (call, run) => {
        if (call.kind === 'open' && call.path.endsWith('.delta')) readFiles.add(call.path);
        return run();
      });
      site = await openSite(watching, { clock: site.clock });
      const rest = await scrubAll();
      const sum = (list: readonly number[]): number => list.reduce((a, b) => a + b, 0);
      expect(sum(rest)).to.be.below(sum(whole) - 4 * 1024 * 1024);
      expect(await scrubAll()).to.deep.equal([]);
    });

    it('marks the points that show a bad cell, and no other', async () => {
      turn(seed, 10, 'base.vhdx');
      age(DAY);
      await scrubAll();
      const found = await marks();
      expect(found[second.pointId], 'a newer delta hides it').to.equal('verified');
      expect(found[seed.pointId]).to.contain(`offset ${10 * CELL_BYTES}`);
      const { protections } = await site.control().status({ vm: '' });
      expect(protections[0]?.health).to.equal('critical');
      expect(protections[0]?.damagedCellCount).to.equal(1n);
      expect(protections[0]?.reasons.join()).to.contain(vm.disks[0]?.diskId);
      const error = await refusal(() => expectPoint(site, vm, seed));
      expect(error.code).to.equal('E_POINT_CORRUPT');
      expect(error.hint).to.contain(second.pointId);
      await restart();
      expect(await marks()).to.deep.equal(found);
      expect((await wanted()).length).to.equal(1);
    });

    it('finds bytes in a base that should be zeros, and puts the zeros back', async () => {
      const path = files.paths.find(
        (each) => each.includes(`${vm.disks[0]?.diskId}.0/`) && each.endsWith('base.vhdx'),
      );
      const bytes = files.content(path ?? '') ?? Buffer.alloc(0);
      const last = bytes.indexOf(image(seed).subarray(199 * CELL_BYTES, 199 * CELL_BYTES + 256));
      // the cell behind the last one of the block
      bytes.writeUInt8(7, last + 20 * CELL_BYTES);
      files.put(path ?? '', bytes);
      age(DAY);
      await scrubAll();
      expect((await marks())[second.pointId]).to.contain(`offset ${219 * CELL_BYTES}`);
      expect(await verify(true)).to.deep.equal({ repaired: 1, wanted: 0, bad: 0 });
    });

    it('takes a mark away when all of the point was read once more', async () => {
      turn(seed, 20, 'base.vhdx');
      age(DAY);
      await scrubAll();
      expect(await repair([[0, 20, image(seed)]])).to.include({ repairedCount: 1 });
      expect(await wanted()).to.deep.equal([]);
      expect((await marks())[seed.pointId], 'mended is not yet read').to.contain('offset');
      await site.clock.advance(11 * 60_000);
      await scrubAll();
      expect(await marks()).to.deep.equal({
        [seed.pointId]: 'verified',
        [second.pointId]: 'verified',
      });
      await expectPoint(site, vm, seed);
    });

    it('leaves a VM alone for a while when the device fails, and marks nothing', async () => {
      await site.receiver.close();
      let isFailing = true;
      const failing = new HookedFileSystem(files, (call, run) => {
        if (isFailing && call.kind === 'read' && call.path.endsWith('.vhdx')) {
          throw new DrError('E_IO', 'the device does not answer');
        }
        return run();
      });
      site = await openSite(failing, { clock: site.clock });
      age(DAY);
      const scrub = new Scrub(site.receiver, OPTIONS);
      await scrubAll(scrub);
      expect(Object.values(await marks())).to.deep.equal(['not verified', 'not verified']);
      isFailing = false;
      await site.clock.advance(2 * 60 * 60_000);
      await scrubAll(scrub);
      expect(Object.values(await marks())).to.deep.equal(['verified', 'verified']);
    });

    it('takes a place that the device cannot read for a bad cell', async () => {
      await site.receiver.close();
      const path = files.paths.find((each) => each.endsWith('.delta')) ?? '';
      const failing = new HookedFileSystem(files, (call, run) => {
        // a bad sector: whoever touches it gets an error
        if (call.kind === 'read' && posixName(call.path) === path && call.position === 0) {
          throw new DrError('E_IO', 'unrecovered read error');
        }
        return run();
      });
      site = await openSite(failing, { clock: site.clock });
      age(DAY);
      await scrubAll();
      expect((await marks())[second.pointId]).to.contain(`offset ${10 * CELL_BYTES}`);
      expect((await marks())[seed.pointId]).to.equal('verified');
    });

    it('reads less while a cycle comes in', async () => {
      const scrub = new Scrub(site.receiver, OPTIONS);
      const alone = scrub.pauseMs(1024 * 1024);
      const third = vm.plan(3, second.pointId, [[11], []]);
      await vm.open(site, third);
      let isOpen = true;
      let end = (): void => undefined;
      const ended = new Promise<void>((resolve) => {
        end = resolve;
      });
      const stream = (async function* (): AsyncGenerator<Buffer> {
        yield encodeBegin(vm.vmId, third.cycleId);
        const bytes = image(third).subarray(11 * CELL_BYTES, 12 * CELL_BYTES);
        const entries = [{ kind: 'data' as const, cell: 11, hash: hashCell(bytes) }];
        yield encodeBatch({ kind: 'cells', diskIndex: 0, entries, payload: bytes }, 1);
        await ended;
      })();
      const pushing = vm.pushFrom(site, stream).finally(() => {
        isOpen = false;
      });
      const desk = site.receiver.desks[0];
      while (desk?.isStreaming !== true) await new Promise((resolve) => setImmediate(resolve));
      expect(isOpen).to.equal(true);
      expect(scrub.pauseMs(1024 * 1024)).to.equal(8 * alone);
      end();
      await pushing;
      expect(scrub.pauseMs(1024 * 1024)).to.equal(alone);
    });
  });

  describe('the repair', () => {
    it('takes the very bytes of the manifest and nothing else', async () => {
      const path = turn(second, 250, '.delta');
      await verify(false);
      const before = files.content(path);
      const told = await wanted();
      expect(told.map(({ cell, isInHead }) => [cell, isInHead])).to.deep.equal([[250n, true]]);
      expect(await repair([[0, 250, Buffer.alloc(CELLS * CELL_BYTES, 9)]])).to.deep.equal({
        repairedCount: 0,
        refusedCount: 1,
      });
      expect(files.content(path)?.equals(before ?? Buffer.alloc(0))).to.equal(true);
      expect(await repair(Array(5).fill([0, 7, image(seed)] as const))).to.deep.equal({
        repairedCount: 0,
        refusedCount: 5,
      });
      expect(await repair([[0, 250, image(second)]])).to.include({ repairedCount: 1 });
      expect(await verify(false)).to.deep.equal({ repaired: 0, wanted: 0, bad: 0 });
      await expectPoint(site, vm, second);
    });

    it('asks for cells of older points once, for those of the head in every cycle', async () => {
      turn(seed, 10, 'base.vhdx');
      turn(seed, 20, 'base.vhdx');
      await verify(false);
      const count = async (): Promise<bigint> => {
        const request = { vmId: guidToWire(vm.vmId), vmName: vm.name };
        return (await site.replication().describe(request)).wantedCellCount;
      };
      expect(await count()).to.equal(2n);
      expect((await wanted()).map(({ isInHead }) => isInHead)).to.have.members([false, true]);
      expect(await count()).to.equal(1n);
      expect((await wanted()).length, 'whoever asks is told').to.equal(2);
      await restart();
      expect(await count()).to.equal(2n);
    });

    it('is for the owner of the VM alone', async () => {
      turn(second, 250, '.delta');
      await verify(false);
      const other = caller('site-b');
      const error = await refusal(() => wanted(other));
      expect(error.code).to.equal('E_NOT_PROTECTED');
      const described = await site
        .replication(other)
        .describe({ vmId: guidToWire(vm.vmId), vmName: '' });
      expect(described.wantedCellCount).to.equal(0n);
    });

    it('finds the bytes in another layer of the disk, and in an unfinished cycle', async () => {
      // the same bytes again in a newer delta
      const third = vm.plan(3, second.pointId, [[20], []]);
      await vm.replicate(site, third);
      turn(seed, 20, 'base.vhdx');
      expect(await verify(true)).to.deep.equal({ repaired: 1, wanted: 0, bad: 0 });
      turn(seed, 30, 'base.vhdx');
      const fourth = vm.plan(4, third.pointId, [[30, 31], []]);
      const { outcome } = await vm.open(site, fourth);
      if (outcome?.$case !== 'accepted') throw new Error('not accepted');
      const messages = [...vm.messages(fourth, outcome.value.positions)];
      await vm.push(site, messages.slice(0, -1));
      await site.replication().abandon({
        vmId: guidToWire(vm.vmId),
        cycleId: guidToWire(fourth.cycleId),
      });
      expect(await verify(true)).to.deep.equal({ repaired: 1, wanted: 0, bad: 0 });
      for (const plan of [seed, second, third]) await expectPoint(site, vm, plan);
    });

    it('mends the short cell at the end of a disk', async () => {
      turn(seed, 3, 'base.vhdx', 1);
      await verify(false);
      expect(await repair([[1, 3, image(seed, 1)]])).to.include({ repairedCount: 1 });
      expect(await verify(false)).to.include({ bad: 0 });
    });
  });

  describe('the next point', () => {
    it('is marked when it shows the damage, and good when its cycle brought the cell', async () => {
      turn(seed, 20, 'base.vhdx');
      await verify(false);
      const third = vm.plan(3, second.pointId, [[21], []]);
      await vm.replicate(site, third);
      expect((await marks())[third.pointId]).to.contain(`offset ${20 * CELL_BYTES}`);
      const fourth = vm.plan(4, third.pointId, [[20], []]);
      await vm.replicate(site, fourth);
      expect((await marks())[fourth.pointId]).to.equal('not verified');
      await expectPoint(site, vm, fourth);
    });

    it('is marked when nobody knows what is wrong with the one before it', async () => {
      turn(seed, 20, 'base.vhdx');
      await verify(false);
      await site.receiver.close();
      // as in a store of an earlier release
      const state = files.paths.find((path) => path.endsWith('scrub.json')) ?? '';
      await files.remove(state);
      site = await openSite(files, { clock: site.clock });
      const third = vm.plan(3, second.pointId, [[21], []]);
      await vm.replicate(site, third);
      expect((await marks())[third.pointId]).to.contain('are not known; verify it');
      await site.clock.advance(11 * 60_000);
      await scrubAll();
      expect((await marks())[third.pointId]).to.contain(`offset ${20 * CELL_BYTES}`);
    });

    it('can be told from hashes that no compare takes for equal', async () => {
      turn(seed, 20, 'base.vhdx');
      turn(second, 250, '.delta');
      await verify(false);
      const hashes = async (pointId: Guid): Promise<Map<number, string>> => {
        const found = new Map<number, string>();
        const request = {
          vmId: guidToWire(vm.vmId),
          diskId: guidToWire(vm.disks[0]?.diskId ?? id(0)),
          generation: 0,
          of: { $case: 'pointId' as const, value: guidToWire(pointId) },
        };
        for await (const { records } of site.replication().hashes(request)) {
          for (let at = 0; at < records.length; at += MANIFEST_RECORD_BYTES) {
            const record = parseManifestRecord(records, at, at);
            if (record === 'trailer' || record.kind === 'zero') throw new Error('data only');
            found.set(record.cell, record.hash.toString('hex'));
          }
        }
        return found;
      };
      const none = '00'.repeat(32);
      const atHead = await hashes(second.pointId);
      expect([...atHead].filter(([, hash]) => hash === none).map(([cell]) => cell)).to.deep.equal([
        20, 250,
      ]);
      expect([...atHead.keys()]).to.deep.equal([...atHead.keys()].sort((a, b) => a - b));
      expect(atHead.size).to.equal(201);
      const atSeed = await hashes(seed.pointId);
      expect([...atSeed].filter(([, hash]) => hash === none).map(([cell]) => cell)).to.deep.equal([
        20,
      ]);
    });

    it('needs a base when the files of a disk cannot be read', async () => {
      const path = files.paths.find(
        (each) => each.includes(`${vm.disks[0]?.diskId}.0/`) && each.endsWith('base.manifest'),
      );
      const bytes = files.content(path ?? '') ?? Buffer.alloc(0);
      bytes.writeUInt8(bytes.readUInt8(150) ^ 1, 150);
      files.put(path ?? '', bytes);
      expect(await verify(true)).to.deep.equal({ repaired: 0, wanted: 0, bad: 2 });
      const told = await site
        .replication()
        .describe({ vmId: guidToWire(vm.vmId), vmName: vm.name });
      expect(told.lostDiskIds.map((one) => guidFromWire(one))).to.deep.equal([vm.disks[0]?.diskId]);
      const disk = vm.disks[0];
      if (disk !== undefined) disk.generation = 1;
      const third = vm.plan(3, second.pointId, [undefined, []]);
      await vm.replicate(site, third);
      expect((await marks())[third.pointId]).to.equal('not verified');
      await expectPoint(site, vm, third);
      const after = await site
        .replication()
        .describe({ vmId: guidToWire(vm.vmId), vmName: vm.name });
      expect(after.lostDiskIds).to.deep.equal([]);
    });

    it('counts a layer as lost when more of its cells are bad than are kept one by one', async () => {
      const scrub = site.receiver.desks[0]?.vm.scrub;
      scrub?.addDamage(
        'cycles/a/b.0.delta',
        Array.from({ length: 5000 }, (_, cell) => cell),
        'x',
      );
      expect(scrub?.damage.get('cycles/a/b.0.delta')?.cells).to.equal('all');
      await scrub?.save();
      await restart();
      expect(site.receiver.desks[0]?.vm.scrub.damage.size).to.equal(1);
    });
  });

  it('one record of the journal speaks of many points, and older records still parse', async () => {
    const journal = files.paths.find((path) => path.endsWith('/journal')) ?? '';
    const count = (): number =>
      (files.content(journal)?.toString('latin1') ?? '').split('JREC').length;
    const before = count();
    await verify(false);
    expect(count()).to.equal(before + 1);
    await restart();
    expect(Object.values(await marks())).to.deep.equal(['verified', 'verified']);
    const { pointId } = seed;
    const old = { kind: 'verify', atMs: 5, pointId, isDamaged: true, finding: 'rot' };
    expect(parseRecord(old)).to.deep.equal({
      kind: 'verify',
      atMs: 5,
      points: [{ pointId, isDamaged: true, finding: 'rot' }],
    });
  });

  it('writes nothing to a layer that was folded while the repair was under way', async () => {
    turn(seed, 10, 'base.vhdx');
    await verify(false);
    const desk = await site.receiver.desk(vm.vmId);
    if (desk === undefined) throw new Error('there is a VM');
    const { pointId } = seed;
    await desk.vm.change(() =>
      desk.vm.append({ kind: 'delist', atMs: site.clock.now(), pointIds: [pointId], by: 'a test' }),
    );
    let open = (): void => undefined;
    let goOn = (): void => undefined;
    const isOpen = new Promise<void>((resolve) => (open = resolve));
    const isFolded = new Promise<void>((resolve) => (goOn = resolve));
    const cellOf = (plan: CyclePlan, cell: number) => ({
      vmId: guidToWire(vm.vmId),
      diskId: guidToWire(vm.disks[0]?.diskId ?? id(0)),
      generation: 0,
      cell: BigInt(cell),
      data: image(plan).subarray(cell * CELL_BYTES, (cell + 1) * CELL_BYTES),
    });
    const messages = async function* () {
      yield cellOf(seed, 7);
      open();
      await isFolded;
      yield cellOf(seed, 10);
    };
    const repairing = site.replication().repair(messages());
    await isOpen;
    for await (const bytes of site.receiver.maintenance.compactNow(desk.vm))
      expect(bytes).to.be.a('number');
    goOn();
    expect(await repairing).to.include({ repairedCount: 0, refusedCount: 2 });
    await expectPoint(site, vm, second);
  });
});
