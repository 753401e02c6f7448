// The small parts of the agent, each against what it is given from outside: the file of sets, the
// ledger's JSON, the lease, messages, hashes of the receiver, extents, the state folder.

import { createHash } from 'node:crypto';
import { expect } from 'chai';
import fc from 'fast-check';
import type { ReplicationService, ServiceClient } from '../../../shared/channel/index.js';
import {
  CELL_BYTES,
  type CellRange,
  CellSet,
  encodeManifestRecord,
  hashCell,
  MANIFEST_RECORD_BYTES,
  type ManifestRecord,
  parseBatch,
} from '../../../shared/delta/index.js';
import type { Extent, ReadableDisk } from '../../../shared/disk/index.js';
import { DrError } from '../../../shared/errors.js';
import type { FileSystem } from '../../../shared/files/index.js';
import { Batcher } from '../../../source-agent/batcher.js';
import { CompressionChoice } from '../../../source-agent/compression-choice.js';
import { cellExtents } from '../../../shared/delta/cell-reader.js';
import { readCellsFile, writeCellsFile } from '../../../source-agent/cells-file.js';
import { emptyLedger, newChain, withChain } from '../../../source-agent/ledger.js';
import { withChecksum } from '../../../source-agent/ledger-json.js';
import { LedgerStore } from '../../../source-agent/ledger-store.js';
import { RemoteHashes } from '../../../source-agent/remote-hashes.js';
import { defaultFolders, stateFolder } from '../../../source-agent/state-folder.js';
import { takeVmLease } from '../../../source-agent/vm-lease.js';
import { FakeClock } from '../../support/fake-clock.js';
import { testGuid } from '../../support/fake-source-hypervisor.js';
import { FaultFileSystem } from '../../support/fault-file.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { refusal } from '../../support/refusal.js';
import { SeededRandom } from '../../support/seeded-random.js';

const vmId = testGuid(1);

function setOf(ranges: readonly (readonly [number, number])[]): CellSet {
  const set = new CellSet();
  let end = 0;
  for (const [start, stop] of [...ranges].sort(([a], [b]) => a - b)) {
    if (Math.max(start, end) >= stop) continue;
    set.add(Math.max(start, end), stop);
    end = stop;
  }
  return set;
}

describe('file of sets', () => {
  const range = fc
    .tuple(fc.nat(400_000), fc.integer({ min: 1, max: 70_000 }))
    .map(([start, length]) => [start, start + length] as const);
  const dense = fc
    .tuple(fc.nat(10), fc.integer({ min: 2, max: 5 }), fc.integer({ min: 1, max: 9000 }))
    .map(([first, step, count]) =>
      Array.from({ length: count }, (_, i) => [first + i * step, first + i * step + 1] as const),
    );

  it('gives back what was written, as runs or as bitmaps', async () => {
    const random = fc.array(range, { maxLength: 20 });
    await fc.assert(
      fc.asyncProperty(fc.array(fc.oneof(random, dense), { maxLength: 4 }), async (lists) => {
        const fs = new MemoryFileSystem();
        const sets = lists.map(setOf);
        const facts = await writeCellsFile(fs, '/a.cells', sets);
        const found = await readCellsFile(fs, '/a.cells', facts);
        expect(found.map((set) => [...set.ranges()])).to.deep.equal(
          sets.map((set) => [...set.ranges()]),
        );
        expect(found.map(({ count }) => count)).to.deep.equal(sets.map(({ count }) => count));
      }),
      { numRuns: 60 },
    );
  });

  it('costs at most one bit for each cell of the disk', async () => {
    const fs = new MemoryFileSystem();
    const worst = setOf(Array.from({ length: 65536 }, (_, i) => [i * 2, i * 2 + 1] as const));
    const { sizeBytes } = await writeCellsFile(fs, '/a.cells', [worst]);
    expect(sizeBytes).to.be.below((2 * 65536) / 8 + 100);
  });

  it('answers any change of its bytes with E_FILE_DAMAGED', async () => {
    const fs = new MemoryFileSystem();
    const facts = await writeCellsFile(fs, '/a.cells', [
      setOf([[3, 9]]),
      setOf([[70_000, 70_001]]),
    ]);
    const bytes = fs.content('/a.cells') ?? Buffer.alloc(0);
    for (let at = 0; at < bytes.length; at++) {
      const changed = Buffer.from(bytes);
      changed[at] = (changed[at] ?? 0) ^ 0x41;
      fs.put('/b.cells', changed);
      const error = await refusal(() => readCellsFile(fs, '/b.cells', facts));
      expect(error.code).to.equal('E_FILE_DAMAGED');
    }
    fs.put('/b.cells', bytes.subarray(0, -1));
    expect((await refusal(() => readCellsFile(fs, '/b.cells', facts))).code).to.equal(
      'E_FILE_DAMAGED',
    );
  });

  it('refuses illegal sets also when their checksum fits', async () => {
    const fs = new MemoryFileSystem();
    await writeCellsFile(fs, '/a.cells', [setOf([[3, 9]])]);
    const bytes = fs.content('/a.cells') ?? Buffer.alloc(0);
    let refused = 0;
    for (let at = 0; at < bytes.length; at++) {
      for (const flip of [0x01, 0x80, 0xff]) {
        const changed = Buffer.from(bytes);
        changed[at] = (changed[at] ?? 0) ^ flip;
        fs.put('/b.cells', changed);
        const digest = createHash('sha256').update(changed).digest('hex');
        try {
          // another legal set may come out; nothing else may be thrown
          await readCellsFile(fs, '/b.cells', { sizeBytes: changed.length, digest });
        } catch (error) {
          expect(error).to.be.instanceOf(DrError);
          refused++;
        }
      }
    }
    expect(refused).to.be.greaterThan(40);
  });
});

describe('ledger store', () => {
  const seams = (fs: FileSystem) => ({ fs, random: new SeededRandom(3), now: () => 0 });
  const filled = () => {
    const geometry = { sizeBytes: 2 ** 30, logicalSectorBytes: 512, physicalSectorBytes: 4096 };
    const debt = {
      generation: 2,
      geometry,
      pending: setOf([[1, 5]]),
      because: '',
      inFlight: 'all' as const,
    };
    const point = { pointId: testGuid(9), consistentAtMs: 5 };
    const chain = {
      ...newChain('dr:x', 3n),
      confirmed: point,
      offered: [point],
      inFlight: { ...point, cycleId: testGuid(8) },
      disks: new Map([[testGuid(7), debt]]),
      generations: new Map([[testGuid(7), { generation: 2, geometry, isUsed: true }]]),
    };
    const reference = {
      id: 'r',
      createdAtMs: 4,
      disks: [{ diskId: testGuid(7), trackingId: 't', geometry }],
    };
    return { ...withChain(emptyLedger(vmId, 'SQL01'), chain), reference };
  };

  it('gives back what was saved', async () => {
    const fs = new MemoryFileSystem();
    const { store } = await LedgerStore.open('/', vmId, 'SQL01', seams(fs));
    await store.save(filled());
    const { ledger } = await LedgerStore.open('/', vmId, 'SQL01', seams(fs));
    const plain = (value: unknown): unknown =>
      JSON.parse(
        JSON.stringify(value, (_key, item: unknown) => {
          if (item instanceof Map) return [...(item as Map<unknown, unknown>)];
          if (item instanceof CellSet) return [...item.ranges()];
          return typeof item === 'bigint' ? item.toString() : item;
        }),
      );
    expect(plain(ledger)).to.deep.equal(plain(filled()));
  });

  it('takes nothing from a file that was changed in any field', async () => {
    const fs = new MemoryFileSystem();
    const { store } = await LedgerStore.open('/', vmId, 'SQL01', seams(fs));
    await store.save(filled());
    const path = `/${vmId}.json`;
    const text = (fs.content(path) ?? Buffer.alloc(0)).toString();
    const cells = (await fs.list('/')).find((name) => name.endsWith('.cells')) ?? '';
    const content = fs.content(`/${cells}`) ?? Buffer.alloc(0);
    const CHANGES: readonly (readonly [RegExp, string])[] = [
      [/"set": 0/, '"set": 1'],
      [/"cells": 4/, '"cells": 5'],
      [/"digest": "[0-9a-f]/, '"digest": "z'],
      [/"digest": "[0-9a-f]{8}/, '"digest": "00000000'],
      [/\.1\.cells/, '.2.cells'],
      [/\.1\.cells/, '/../x.cells'],
      [/"sizeBytes": 1073741824/, '"sizeBytes": -1'],
      [/("geometry": \{\s+"sizeBytes": )1073741824(.*\s+.*\s+.*\s+\},\s+"pending")/, '$165536$2'],
      [/"epoch": "3"/, '"epoch": "-3"'],
      [/"generation": 2/, '"generation": "2"'],
      [/"isUsed": true/, '"isUsed": 1'],
      [/"formatVersion": 1/, '"formatVersion": 2'],
      [/"inFlight": "all"/, '"inFlight": "some"'],
      [/"vmId": "[^"]*"/, `"vmId": "${testGuid(2)}"`],
      [/"pointId": "[^"]*"/, '"pointId": "x"'],
      [/"chains": \[/, '"chains": 7, "x": ['],
      [/\{/, ''],
    ];
    const signed = (changed: string): string => {
      try {
        const { formatVersion, checksum, ...fields } = JSON.parse(changed) as Record<
          string,
          unknown
        >;
        expect(checksum).to.be.a('string');
        return JSON.stringify({ formatVersion, ...withChecksum(fields) });
      } catch {
        return changed;
      }
    };
    const variants = CHANGES.flatMap(([pattern, replacement]) => {
      const changed = text.replace(pattern, replacement);
      expect(changed, pattern.source).not.to.equal(text);
      // as rot leaves it, and as somebody leaves it who knows the checksum
      return [
        [pattern, changed],
        [pattern, signed(changed)],
      ] as const;
    });
    for (const [pattern, changed] of variants) {
      const damaged = new MemoryFileSystem();
      damaged.put(path, Buffer.from(changed));
      damaged.put(`/${cells}`, content);
      const { ledger, setAside } = await LedgerStore.open('/', vmId, 'SQL01', seams(damaged));
      expect(setAside, pattern.source).not.to.equal(undefined);
      expect(ledger.chains.size).to.equal(0);
      expect(ledger.reference).to.equal(undefined);
      expect(damaged.content(setAside?.path ?? '')?.toString()).to.equal(changed);
    }
  });

  it('keeps the ledger of before when a save fails', async () => {
    const inner = new MemoryFileSystem();
    const fs = new FaultFileSystem(inner);
    const { store } = await LedgerStore.open('/', vmId, 'SQL01', seams(fs));
    await store.save(filled());
    for (const kind of ['create', 'write', 'flush', 'rename', 'flushFolder'] as const) {
      fs.inject({ kind, code: 'E_CAPACITY' });
      const other = emptyLedger(vmId, 'SQL01');
      const grown = { ...filled(), reference: { id: kind, createdAtMs: 1, disks: [] } };
      await refusal(() => store.save({ ...grown, chains: other.chains }));
      fs.mend();
      const found = await LedgerStore.open('/', vmId, 'SQL01', seams(fs));
      expect(found.setAside).to.equal(undefined);
      expect(['r', kind]).to.include(found.ledger.reference?.id);
      await found.store.save(filled());
    }
  });
});

describe('lease', () => {
  const request = {
    vmId,
    vmName: 'SQL01',
    operationId: testGuid(5),
    holder: 'process 7',
    waitMs: 0,
    signal: new AbortController().signal,
  };

  it('is held by one, says by whom, and tells the next what was killed', async () => {
    const fs = new MemoryFileSystem();
    const clock = new FakeClock();
    const first = await takeVmLease('/', request, { fs, clock });
    expect(first.killed).to.equal(undefined);
    const error = await refusal(() => takeVmLease('/', request, { fs, clock }));
    expect(error.code).to.equal('E_LOCKED');
    expect(error.message).to.contain('process 7').and.to.contain(testGuid(5));
    await first.release();
    const second = await takeVmLease('/', request, { fs, clock });
    expect(second.killed).to.equal(undefined);
    // a killed process leaves its record and no lock
    const left = new MemoryFileSystem();
    left.put(`/${vmId}.lock`, fs.content(`/${vmId}.lock`) ?? Buffer.alloc(0));
    const third = await takeVmLease('/', request, { fs: left, clock });
    expect(third.killed?.operationId).to.equal(testGuid(5));
  });

  it('is taken whatever its file holds', async () => {
    for (const text of [
      '',
      'x',
      '{}',
      '{"formatVersion":1,"operationId":7}',
      `{"formatVersion":1,"operationId":"${testGuid(5)}","sinceMs":1e300}`,
      '\0'.repeat(600),
    ]) {
      const fs = new MemoryFileSystem();
      fs.put(`/${vmId}.lock`, Buffer.from(text));
      const lease = await takeVmLease('/', request, { fs, clock: new FakeClock() });
      expect(lease.killed).to.equal(undefined);
      await lease.release();
    }
  });
});

describe('batcher', () => {
  it('makes messages that say exactly what was added, compressed or not', () => {
    const random = new SeededRandom(4);
    const batcher = new Batcher(3, new CompressionChoice());
    const sent: { cell: number; kind: string; bytes?: Buffer }[] = [];
    const got: typeof sent = [];
    const take = (message: Buffer | undefined): void => {
      if (message === undefined) return;
      const parsed = parseBatch(message);
      if (parsed.kind !== 'cells') throw new Error('cells only');
      expect(parsed.diskIndex).to.equal(3);
      let at = 0;
      for (const entry of parsed.entries) {
        if (entry.kind === 'zero') {
          for (let i = 0; i < entry.count; i++) got.push({ cell: entry.cell + i, kind: 'zero' });
        } else if (entry.kind === 'reuse') {
          got.push({ cell: entry.cell, kind: 'reuse' });
        } else {
          const bytes = Buffer.from(parsed.payload.subarray(at, at + CELL_BYTES));
          at += CELL_BYTES;
          expect(hashCell(bytes).equals(entry.hash)).to.equal(true);
          got.push({ cell: entry.cell, kind: 'data', bytes });
        }
      }
    };
    for (let cell = 0; cell < 3000; cell++) {
      const kind = random.pick(['zero', 'zero', 'reuse', 'reuse', 'reuse', 'data'] as const);
      if (kind === 'zero') {
        sent.push({ cell, kind });
        take(batcher.addZero(cell, 1));
      } else if (kind === 'reuse') {
        sent.push({ cell, kind });
        take(batcher.addReuse(cell, random.bytes(32)));
      } else {
        const bytes = random.chance(0.5)
          ? random.bytes(CELL_BYTES)
          : Buffer.alloc(CELL_BYTES, `${cell} `);
        sent.push({ cell, kind, bytes });
        take(batcher.addData(cell, hashCell(bytes), bytes));
      }
    }
    take(batcher.flush());
    expect(batcher.flush()).to.equal(undefined);
    expect(got.length).to.equal(sent.length);
    for (const [index, wanted] of sent.entries()) {
      const found = got[index];
      expect(found?.cell).to.equal(wanted.cell);
      expect(found?.kind).to.equal(wanted.kind);
      expect(found?.bytes?.equals(wanted.bytes ?? Buffer.alloc(0)) ?? true).to.equal(true);
    }
  });

  it('soon stops trying to compress what does not shrink, and goes on where it pays', () => {
    const random = new SeededRandom(4);
    const choice = new CompressionChoice();
    let tried = 0;
    for (let i = 0; i < 200; i++) {
      if (choice.tryCompress(random.bytes(4096)) !== undefined) tried++;
    }
    expect(tried).to.equal(0);
    let packed = 0;
    for (let i = 0; i < 200; i++) {
      if (choice.tryCompress(Buffer.alloc(4096, 'text ')) !== undefined) packed++;
    }
    expect(packed).to.be.greaterThan(130);
  });

  it('compresses what halves only while the way to the receiver is slow or unknown', () => {
    const random = new SeededRandom(4);
    const half = (): Buffer => Buffer.concat([random.bytes(32_768), Buffer.alloc(32_768)]);
    const packedOf = (choice: CompressionChoice, count: number): number => {
      let packed = 0;
      for (let i = 0; i < count; i++) if (choice.tryCompress(half()) !== undefined) packed++;
      return packed;
    };
    const choice = new CompressionChoice();
    expect(packedOf(choice, 128), 'of the first 8 MiB').to.equal(128);
    choice.note(10, 400);
    expect(packedOf(choice, 100), 'nobody waits').to.equal(0);
    choice.note(400, 10);
    expect(packedOf(choice, 100), 'the way is slow').to.equal(100);
    choice.note(10, 400);
    // what shrinks to a tenth is cheaper to compress than to seal, send and store
    let small = 0;
    for (let i = 0; i < 100; i++) {
      if (choice.tryCompress(Buffer.alloc(65_536, 'text ')) !== undefined) small++;
    }
    expect(small).to.equal(100);
  });
});

describe('hashes of the receiver', () => {
  const SIZE = 100 * CELL_BYTES;
  const record = (value: ManifestRecord): Buffer => {
    const bytes = Buffer.alloc(MANIFEST_RECORD_BYTES);
    encodeManifestRecord(value, bytes, 0);
    return bytes;
  };
  const data = (cell: number): Buffer =>
    record({ kind: 'data', cell, hash: hashCell(Buffer.from([cell])) });
  const open = (messages: readonly Buffer[]): RemoteHashes => {
    const client = {
      hashes: async function* () {
        for (const records of messages) yield await Promise.resolve({ records });
      },
    } as unknown as ServiceClient<ReplicationService>;
    const what = {
      vmId: Buffer.alloc(16),
      diskId: testGuid(1),
      generation: 0,
      diskSizeBytes: SIZE,
      of: { pointId: testGuid(2) },
    };
    return RemoteHashes.open(client, what, new AbortController().signal);
  };

  it('are found cell by cell, over messages of any size', async () => {
    const listed = [2, 3, 7, 50, 99];
    const bytes = Buffer.concat(listed.map(data));
    for (const size of [1, 2, 5]) {
      const messages: Buffer[] = [];
      const step = size * MANIFEST_RECORD_BYTES;
      for (let at = 0; at < bytes.length; at += step) messages.push(bytes.subarray(at, at + step));
      const remote = open([Buffer.alloc(0), ...messages]);
      const found: number[] = [];
      for (let cell = 0; cell < 60; cell += 1) {
        if ((await remote.at(cell)) !== undefined) found.push(cell);
      }
      for await (const cell of remote.dataIn(60, 100)) found.push(cell);
      expect(found).to.deep.equal(listed);
      await remote.close();
    }
  });

  it('are refused when they are not legal', async () => {
    const BAD: readonly (readonly Buffer[])[] = [
      [data(5).subarray(1)],
      [data(5), data(5)],
      [data(5), data(4)],
      [data(100)],
      [record({ kind: 'zero', cell: 3, count: 0 })],
      [record({ kind: 'zero', cell: 3, count: 98 })],
      [Buffer.alloc(MANIFEST_RECORD_BYTES, 0xff)],
      [Buffer.alloc(MANIFEST_RECORD_BYTES, 9)],
    ];
    for (const messages of BAD) {
      const remote = open(messages);
      const error = await refusal(async () => {
        for await (const cell of remote.dataIn(0, 100)) expect(cell).to.be.below(100);
      });
      expect(error.code).to.equal('E_PROTOCOL');
    }
  });
});

describe('cell extents', () => {
  it('cover the ranges exactly, data wherever a byte of a cell may be', async () => {
    const cells = 40;
    const unit = 4096;
    const units = (cells * CELL_BYTES) / unit;
    const marks = fc.array(fc.tuple(fc.nat(units - 1), fc.integer({ min: 1, max: 40 })), {
      maxLength: 12,
    });
    const wanted = fc.array(fc.tuple(fc.nat(cells - 1), fc.integer({ min: 1, max: 6 })), {
      maxLength: 6,
    });
    await fc.assert(
      fc.asyncProperty(marks, wanted, async (data, ranges) => {
        const isData = new Array<boolean>(units).fill(false);
        for (const [start, length] of data) isData.fill(true, start, start + length);
        const set = setOf(ranges.map(([start, n]) => [start, Math.min(cells, start + n)] as const));
        const list: CellRange[] = [...set.ranges()];
        const found = new Map<number, string>();
        let last = 0;
        for await (const { start, end, kind } of cellExtents(diskOf(isData, unit), list)) {
          expect(start % CELL_BYTES).to.equal(0);
          expect(end % CELL_BYTES).to.equal(0);
          expect(start).to.be.at.least(last);
          last = end;
          for (let cell = start / CELL_BYTES; cell < end / CELL_BYTES; cell++)
            found.set(cell, kind);
        }
        const perCell = CELL_BYTES / unit;
        const expected = new Map<number, string>();
        for (const { start, end } of list) {
          for (let cell = start; cell < end; cell++) {
            const part = isData.slice(cell * perCell, (cell + 1) * perCell);
            expected.set(cell, part.includes(true) ? 'data' : 'zero');
          }
        }
        expect([...found]).to.deep.equal([...expected]);
      }),
    );
  });

  function diskOf(isData: readonly boolean[], unit: number): ReadableDisk {
    return {
      sizeBytes: isData.length * unit,
      logicalSectorBytes: 512,
      physicalSectorBytes: 4096,
      read: () => Promise.resolve(),
      close: () => Promise.resolve(),
      async *extents(start, end): AsyncGenerator<Extent> {
        await Promise.resolve();
        let open: Extent | undefined;
        for (let at = start; at < end; at += unit) {
          const kind = isData[at / unit] === true ? 'data' : 'zero';
          if (open?.kind === kind) open = { ...open, end: at + unit };
          else {
            if (open !== undefined) yield open;
            open = { start: at, end: at + unit, kind };
          }
        }
        if (open !== undefined) yield open;
      },
    };
  }
});

describe('state folder', () => {
  const seams = (fs: FileSystem, environment: Readonly<Record<string, string>> = {}) => ({
    fs,
    random: new SeededRandom(1),
    environment,
    platform: 'linux' as const,
  });

  it('is the machine’s when it can be written, else the user’s own', async () => {
    const fs = new MemoryFileSystem();
    expect(await stateFolder(undefined, seams(fs))).to.equal('/var/lib/podheitor/rct');
    const faulty = new FaultFileSystem(fs);
    faulty.inject({ kind: 'create', path: /^\/var/ });
    expect(await stateFolder(undefined, seams(faulty, { HOME: '/home/a' }))).to.equal(
      '/home/a/.local/state/podheitor/rct',
    );
    expect(await stateFolder('/own', seams(fs))).to.equal('/own');
    expect(await fs.list('/var/lib/podheitor/rct')).to.deep.equal([]);
  });

  it('is refused when none can be written', async () => {
    const faulty = new FaultFileSystem(new MemoryFileSystem());
    faulty.inject({ kind: 'makeFolder', times: Number.POSITIVE_INFINITY });
    const error = await refusal(() => stateFolder(undefined, seams(faulty, { HOME: '/home/a' })));
    expect(error.code).to.equal('E_IO');
    expect(error.hint).to.contain('--state-dir');
  });

  it('is under ProgramData on Windows', () => {
    const environment = { ProgramData: 'D:\\Data', LOCALAPPDATA: 'C:\\Users\\a' };
    const windows = { ...seams(new MemoryFileSystem(), environment), platform: 'win32' as const };
    expect(defaultFolders(windows)).to.deep.equal([
      'D:\\Data\\PodHeitor\\rct',
      'C:\\Users\\a\\PodHeitor\\rct',
    ]);
  });
});
