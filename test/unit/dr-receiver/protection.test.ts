// What a journal's records say together: every contradiction is refused and named, what is forgotten
// leaves memory, a state stands for the records that led to it, and journals of former releases read as
// they were meant.

import { expect } from 'chai';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Guid, guid } from '../../../shared/bytes/index.js';
import { VmLayout } from '../../../dr-receiver/store/layout.js';
import { layersOf } from '../../../dr-receiver/store/point-sources.js';
import { Protection } from '../../../dr-receiver/store/protection.js';
import { type JournalRecord, parseRecord } from '../../../dr-receiver/store/records.js';
import {
  encodeState,
  parseStateRecord,
  type StateRecord,
} from '../../../dr-receiver/store/state-record.js';
import { VmStore } from '../../../dr-receiver/store/vm-store.js';
import { builtFolder } from '../../support/checkout.js';
import { CountingFileSystem } from '../../support/counting-file.js';
import { MemoryFileSystem, posixName } from '../../support/memory-file.js';
import {
  commitRecord,
  compactRecord,
  cycleId,
  diskId,
  diskRecord,
  FIRST_SEGMENT,
  foldBeginRecord,
  numbered,
  pointId,
  protectRecord,
  rootOf,
  STORE_ID,
  VM_ID,
} from '../../support/protection-records.js';
import { SeededRandom } from '../../support/seeded-random.js';

const BEFORE = { sequence: 41, chain: rootOf(41) };

function protectionOf(...records: readonly JournalRecord[]): Protection {
  const protection = new Protection(VM_ID);
  for (const record of [protectRecord(), ...records]) {
    expect(protection.apply(record), record.kind).to.equal(undefined);
  }
  return protection;
}

function commits(count: number, delisted: Readonly<Record<number, readonly number[]>> = {}) {
  return Array.from({ length: count }, (_, index) =>
    commitRecord(index + 1, { delisted: (delisted[index + 1] ?? []).map(pointId) }),
  );
}

function layersIn(protection: Protection): readonly Guid[] {
  return protection.segments.all.flatMap(({ layers }) => layers.map(({ cycleId: id }) => id));
}

function foldEnd(point: number): JournalRecord {
  return { kind: 'fold-end', atMs: 1, ...FIRST_SEGMENT, pointId: pointId(point) };
}

/** As it comes out of a file. */
function reread(records: readonly StateRecord[]): Protection {
  const protection = new Protection(VM_ID);
  for (const record of records) {
    const parsed = parseStateRecord(JSON.parse(JSON.stringify(record)));
    if (parsed === undefined || 'wrong' in parsed) throw new Error(parsed?.wrong ?? 'no state');
    expect(protection.apply(parsed)).to.equal(undefined);
  }
  expect(protection.unfinished()).to.equal(undefined);
  return protection;
}

describe('protection', () => {
  it('forgets points and keeps what they brought', () => {
    const protection = protectionOf(...commits(6, { 4: [1, 2], 6: [3] }));
    expect(protection.listed.map((point) => point.pointId)).to.deep.equal([4, 5, 6].map(pointId));
    expect([1, 2, 3].map((n) => protection.point(pointId(n)))).to.deep.equal(
      [1, 2, 3].map(() => undefined),
    );
    expect(layersIn(protection)).to.deep.equal([1, 2, 3, 4, 5, 6].map(cycleId));
    expect(protection.storedBytes).to.equal(6 * 65_536);
    const delist = { kind: 'delist', atMs: 1, pointIds: [4, 5].map(pointId), by: 'me' } as const;
    expect(protection.apply(delist)).to.equal(undefined);
    expect(protection.listed.map((point) => point.pointId)).to.deep.equal([pointId(6)]);
  });

  it('keeps one definition in memory for all points that have it', () => {
    const text = 'ZGVm'.repeat(20_000);
    const plain = Array.from({ length: 200 }, (_, index) =>
      // each its own text, as it comes out of a file of a former release
      commitRecord(index + 1, { definition: Buffer.from(text, 'latin1').toString('latin1') }),
    );
    const protection = protectionOf(...plain, commitRecord(201, { definition: 'b3RoZXI=' }));
    const definitions = new Set(protection.listed.map(({ definition }) => definition));
    expect(definitions.size).to.equal(2);
    expect(protection.head?.definition).to.equal('b3RoZXI=');
    const bytes = JSON.stringify(encodeState(protection.state, 1, BEFORE)).length;
    expect(bytes).to.be.lessThan(text.length + 200 * 1500);
  });

  it('compacts, folds and drops', () => {
    const protection = protectionOf(...commits(6, { 6: [1, 2, 3] }));
    expect(protection.apply(compactRecord(1, 3, 4))).to.equal(undefined);
    expect(layersIn(protection)).to.deep.equal([1, 2, 10_001, 5, 6].map(cycleId));
    expect(protection.apply(foldBeginRecord(2))).to.equal(undefined);
    // told again after a crash
    expect(protection.apply(foldBeginRecord(2))).to.equal(undefined);
    expect(protection.segments.all[0]?.folding?.pointId).to.equal(pointId(2));
    expect(protection.apply(foldEnd(2))).to.equal(undefined);
    expect(layersIn(protection)).to.deep.equal([1, 10_001, 5, 6].map(cycleId));
    expect(protection.segments.all[0]?.layers[0]?.pointId).to.equal(pointId(2));
    expect(protection.storedBytes).to.equal(2 * 131_072 + 2 * 65_536);
    const again = commitRecord(7, {
      disks: [diskRecord(7, { transfer: 'base' })],
      delisted: [4, 5, 6].map(pointId),
    });
    expect(protection.apply(again)).to.equal(undefined);
    expect(protection.apply({ kind: 'drop', atMs: 1, ...FIRST_SEGMENT })).to.equal(undefined);
    expect(layersIn(protection)).to.deep.equal([cycleId(7)]);
    expect(protection.storedBytes).to.equal(65_536);
  });

  const wrong: readonly [what: string, records: JournalRecord[], message: RegExp][] = [
    ['a second beginning', [protectRecord()], /begins twice/],
    ['a point twice', [...commits(2), commitRecord(2, { parentPointId: pointId(2) })], /twice/],
    ['another parent', [...commits(2), commitRecord(4)], /does not follow the head/],
    ['no parent', [...commits(2), commitRecord(3, { parentPointId: null })], /does not follow/],
    ['the head forgotten', [...commits(2), commitRecord(3, { delisted: [pointId(3)] })], /head/],
    ['an unknown point forgotten', commits(3, { 3: [9] }), /no point/],
    ['a point forgotten twice', commits(4, { 3: [1], 4: [1] }), /no point/],
    [
      'a forgotten point pinned',
      [
        ...commits(3, { 3: [1] }),
        { kind: 'pin', atMs: 1, pointId: pointId(1), isPinned: true, by: 'me' },
      ],
      /no point/,
    ],
    [
      'an unknown point pinned by a commit',
      [...commits(2), commitRecord(3, { pinned: [{ pointId: pointId(8), reason: 'large' }] })],
      /no point/,
    ],
    ['a delta without base', [commitRecord(1, { disks: [diskRecord(2)] })], /has no base/],
    [
      'a delta on a disk that was left out',
      [...commits(1), commitRecord(2, { disks: [] }), commitRecord(3)],
      /has no base/,
    ],
    [
      'a delta of another generation',
      [...commits(1), commitRecord(2, { disks: [diskRecord(2, { generation: 1 })] })],
      /has no base/,
    ],
    ['a compact of one part', [...commits(4, { 4: [2] }), compactRecord(1, 2)], /in a row/],
    ['a compact with a gap', [...commits(5, { 5: [2, 3] }), compactRecord(1, 2, 4)], /in a row/],
    ['a compact with the base', [...commits(4, { 4: [1] }), compactRecord(1, 1, 2)], /in a row/],
    ['a compact of unknown points', [...commits(4), compactRecord(1, 8, 9)], /in a row/],
    ['a compact beyond the end', [...commits(4, { 4: [3] }), compactRecord(1, 4, 5)], /in a row/],
    ['a compact over a listed point', [...commits(4), compactRecord(1, 2, 3)], /is listed/],
    [
      'a compact that hides the end of a fold',
      [...commits(5, { 5: [1, 2, 3] }), foldBeginRecord(2), compactRecord(1, 2, 3)],
      /hides the point/,
    ],
    [
      'a compact of another segment',
      [...commits(4, { 4: [2] }), { ...compactRecord(1, 2, 3), baseCycleId: cycleId(9) }],
      /no segment/,
    ],
    ['a fold over a listed point', [...commits(3), foldBeginRecord(2)], /needs the base/],
    ['a fold to the base itself', [...commits(3, { 3: [1] }), foldBeginRecord(1)], /no delta/],
    ['a fold to an unknown point', [...commits(3, { 3: [1] }), foldBeginRecord(7)], /no delta/],
    [
      'two folds at once',
      [...commits(4, { 4: [1, 2] }), foldBeginRecord(2), foldBeginRecord(3)],
      /under way/,
    ],
    ['the end of no fold', [...commits(3, { 3: [1] }), foldEnd(2)], /under way/],
    [
      'the end of another fold',
      [...commits(4, { 4: [1, 2] }), foldBeginRecord(2), foldEnd(3)],
      /under way/,
    ],
    [
      'a drop under a listed point',
      [...commits(2), { kind: 'drop', atMs: 1, ...FIRST_SEGMENT }],
      /stands on/,
    ],
    [
      'a drop of an unknown segment',
      [...commits(2), { kind: 'drop', atMs: 1, ...FIRST_SEGMENT, diskId: diskId(4) }],
      /no segment/,
    ],
  ];
  for (const [what, records, message] of wrong) {
    it(`refuses ${what}`, () => {
      const protection = protectionOf(...records.slice(0, -1));
      const last = records.at(-1);
      if (last === undefined) throw new Error('there is a record');
      expect(protection.apply(last)).to.match(message);
    });
  }

  it('refuses whatever stands in front of its beginning', () => {
    expect(new Protection(VM_ID).apply(commitRecord(1))).to.match(/does not begin/);
    const other = { ...protectRecord(), vmId: numbered(1, 9) };
    expect(new Protection(VM_ID).apply(other)).to.match(/is of VM/);
    expect(new Protection(VM_ID).apply({ ...protectRecord(), owner: '' })).to.match(/no owner/);
  });
});

describe('state of a protection', () => {
  function eventful(): Protection {
    const records: JournalRecord[] = [
      ...commits(9, { 6: [1, 2, 3] }),
      compactRecord(1, 3, 4),
      { kind: 'pin', atMs: 1, pointId: pointId(5), isPinned: true, by: 'me' },
      {
        kind: 'verify',
        atMs: 77,
        points: [{ pointId: pointId(8), isDamaged: false, finding: '' }],
      },
      {
        kind: 'verify',
        atMs: 78,
        points: [{ pointId: pointId(7), isDamaged: true, finding: 'cell 3' }],
      },
      foldBeginRecord(2),
      commitRecord(10, {
        disks: [diskRecord(10), diskRecord(1, { diskId: diskId(2), root: rootOf(99) })],
        definition: 'bmV3',
        retentionGrid: '24h/1h',
        warnings: ['large', 'clock'],
      }),
      { kind: 'pause', atMs: 1, isPaused: true, by: 'me' },
      { kind: 'halt', atMs: 1, reason: 'older than its source' },
    ];
    return protectionOf(...records);
  }

  for (const partBytes of [1, 700, 2000, 512 * 1024]) {
    it(`is the same again from parts of about ${partBytes} bytes`, () => {
      const protection = eventful();
      const records = encodeState(protection.state, 5, BEFORE, partBytes);
      expect(records.length > 20).to.equal(partBytes === 1);
      const again = reread(records);
      expect(again.state).to.deep.equal(protection.state);
      expect(again.storedBytes).to.equal(protection.storedBytes);
      expect(again.head).to.deep.equal(protection.head);
      expect(again.answer(cycleId(10))).to.deep.equal(protection.answer(cycleId(10)));
      // and goes on as the other one does
      for (const record of [foldEnd(2), commitRecord(11, { delisted: [pointId(4)] })]) {
        expect(again.apply(record)).to.equal(protection.apply(record));
      }
      expect(again.state).to.deep.equal(protection.state);
    });
  }

  it('holds the largest definitions and disks in records of legal size', () => {
    const disks = Array.from({ length: 260 }, (_, n) =>
      diskRecord(1, { diskId: diskId(n + 1), sizeBytes: 2 ** 46, cellCount: 2 ** 30 }),
    );
    const many = Array.from({ length: 30 }, (_, index) =>
      commitRecord(index + 1, {
        disks: disks.map((disk) => ({ ...disk, transfer: index === 0 ? 'base' : 'delta' })),
        definition: String.fromCharCode(65 + index).repeat(88 * 1024),
      }),
    );
    const records = encodeState(protectionOf(...many).state, 5, BEFORE);
    for (const record of records) {
      expect(JSON.stringify(record).length).to.be.lessThan(1024 * 1024);
    }
    expect(reread(records).listed.length).to.equal(30);
  });

  it('refuses parts that are missing, doubled, in another order, or behind other records', () => {
    const [first, second, third, ...rest] = encodeState(eventful().state, 5, BEFORE, 700);
    if (first === undefined || second === undefined || third === undefined) throw new Error('3');
    const orders: (StateRecord | JournalRecord)[][] = [
      [second],
      [first, first],
      [first, third],
      [first, second, second],
      [first, second, rest[0] ?? first],
      [first, commitRecord(11)],
      [protectRecord(), first],
      [first, second, third, ...rest, { ...second, part: rest.length + 4 }],
    ];
    for (const [index, records] of orders.entries()) {
      const protection = new Protection(VM_ID);
      const answers = records.map((record) => protection.apply(record));
      expect(answers.slice(0, -1), `order ${index}`).to.deep.equal(
        records.slice(0, -1).map(() => undefined),
      );
      expect(answers.at(-1), `order ${index}`).to.be.a('string');
    }
    const cut = new Protection(VM_ID);
    cut.apply(first);
    expect(cut.unfinished()).to.match(/cut off/);
  });

  it('refuses a state that contradicts itself', () => {
    const [record] = encodeState(eventful().state, 5, BEFORE);
    if (record?.head == null) throw new Error('one part');
    const { points, segments, layers } = record;
    const [segment] = segments;
    const [point] = points;
    if (segment === undefined || point === undefined) throw new Error('there are some');
    const states: Readonly<Record<string, StateRecord>> = {
      'no head': { ...record, head: null },
      'no owner': { ...record, head: { ...record.head, owner: '' } },
      'no definition': { ...record, definitions: [] },
      'a point twice': { ...record, points: [point, ...points] },
      'a segment twice': { ...record, segments: [segment, ...segments] },
      'too few layers': { ...record, layers: layers.slice(1) },
      'too many layers': { ...record, layers: [...layers, ...layers.slice(-1)] },
      'no base': { ...record, layers: layers.map((each) => ({ ...each, transfer: 'delta' })) },
      'two bases': { ...record, layers: layers.map((each) => ({ ...each, transfer: 'base' })) },
      'a fold to nowhere': {
        ...record,
        segments: segments.map((each) => ({
          ...each,
          folding: { ...diskRecord(1), pointId: pointId(77) },
        })),
      },
      'a layer twice': {
        ...record,
        layers: layers.map((each, index) => (index === 2 ? (layers[1] ?? each) : each)),
      },
      'a point without its layer': {
        ...record,
        points: points.map((each) => ({ ...each, disks: [diskRecord(1, { generation: 5 })] })),
      },
    };
    for (const [what, state] of Object.entries(states)) {
      const parsed = parseStateRecord(JSON.parse(JSON.stringify(state)));
      if (parsed === undefined || 'wrong' in parsed) throw new Error(what);
      const protection = new Protection(VM_ID);
      expect(protection.apply(parsed), what).to.be.a('string');
    }
  });

  it('is refused with every field of another kind', () => {
    const [record] = encodeState(eventful().state, 5, BEFORE);
    const text = JSON.stringify(record);
    const visit = (value: unknown, path: readonly (string | number)[]): void => {
      if (typeof value !== 'object' || value === null) return;
      for (const [name, inner] of Object.entries(value)) {
        const changed = JSON.parse(text) as Record<string, unknown>;
        let holder = changed;
        for (const step of path) holder = holder[step] as Record<string, unknown>;
        holder[name] = typeof inner === 'number' ? -1 : 0.5;
        if (name !== 'kind') {
          const parsed = parseStateRecord(changed);
          const isRead = parsed !== undefined && !('wrong' in parsed);
          expect(isRead, [...path, name].join('.')).to.equal(false);
        }
        visit(inner, [...path, name]);
      }
    };
    visit(record, []);
    expect(parseRecord({ kind: 'state', atMs: 1 })).to.have.property('wrong');
  });
});

describe('journals that are there already', () => {
  const golden = (name: string): Buffer =>
    readFileSync(join(builtFolder, '..', 'test', 'golden', 'journal', name));

  interface Expected {
    readonly storeId: string;
    readonly vmId: string;
    readonly storedBytes: number;
    readonly points: readonly {
      readonly pointId: string;
      readonly pinReason: string | null;
      readonly verifiedAtMs: number;
      readonly disks: readonly {
        readonly diskId: string;
        readonly generation: number;
        readonly files: readonly string[];
      }[];
    }[];
  }

  it('of a former release show the same files of the same points', async () => {
    const expected = JSON.parse(golden('expected.json').toString()) as Expected;
    const files = new MemoryFileSystem();
    files.put('/vm/journal', golden('journal'));
    files.put('/vm/protection.json', golden('protection.json'));
    const open = (): Promise<VmStore> =>
      VmStore.open(guid(expected.vmId), new VmLayout('/vm'), {
        ...{ fs: files, random: new SeededRandom(3), storeId: guid(expected.storeId) },
        ...{ isReadOnly: false },
      });
    await (await open()).close();
    const vm = await open();
    expect(vm.halt).to.equal(undefined);
    expect(vm.protection.storedBytes).to.equal(expected.storedBytes);
    const found = vm.protection.listed.map((point) => ({
      pointId: point.pointId,
      pinReason: point.pinReason ?? null,
      verifiedAtMs: point.verifiedAtMs,
      disks: point.disks.map((disk) => ({
        diskId: disk.diskId,
        generation: disk.generation,
        files: layersOf(vm, point, disk).map(({ files }) =>
          posixName(files.data).replace('/vm/', ''),
        ),
      })),
    }));
    expect(found).to.deep.equal(expected.points);
    expect(reread(encodeState(vm.protection.state, 1, BEFORE)).state).to.deep.equal(
      vm.protection.state,
    );
    await vm.close();
  });

  it('of ten thousand cycles are read in what is alive, and hold no more in memory', async () => {
    const files = new CountingFileSystem(new MemoryFileSystem());
    const seams = { fs: files, random: new SeededRandom(5), storeId: STORE_ID, isReadOnly: false };
    const layout = new VmLayout('/vm');
    let vm = await VmStore.create(layout, protectRecord(), seams);
    const definition = 'ZGVm'.repeat(750);
    for (let n = 1; n <= 10_000; n++) {
      const fields = {
        definition: n === 1 ? definition : null,
        delisted: n > 5 ? [pointId(n - 5)] : [],
      };
      const store = vm;
      await store.change(() => store.append(commitRecord(n, fields)));
      if (n % 500 !== 0 || n < 1000) continue;
      // as the maintenance of a store does: what nobody needs is folded into the base
      const target = n - 5;
      for (const record of [foldBeginRecord(target), foldEnd(target)]) {
        await store.change(() => store.append(record));
      }
    }
    await vm.close();
    const { state } = vm.protection;
    files.reset();
    vm = await VmStore.open(VM_ID, layout, seams);
    expect(vm.halt).to.equal(undefined);
    expect(vm.protection.state).to.deep.equal(state);
    expect(vm.protection.listed.length).to.equal(5);
    const stateBytes = JSON.stringify(state).length;
    const { lengthBytes } = files.tally('read', layout.journal);
    expect(lengthBytes).to.be.lessThan(2 * stateBytes + 2 * 1024 * 1024);
    await vm.close();
  }).timeout(120_000);
});
