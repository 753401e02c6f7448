// What the binding of virtdisk.dll must do, whatever library stands behind it: each case is run against the double as a
// shared object on Linux, and as a DLL by Node for Windows under Wine.

import { rmSync, truncateSync, writeFileSync } from 'node:fs';
import { expect } from 'chai';
import { guid } from '../../shared/bytes/index.js';
import { systemRandom } from '../../shared/clock.js';
import { openRawDisk, type ReadableDisk } from '../../shared/disk/index.js';
import { nodeFileSystem } from '../../shared/files/index.js';
import {
  VirtualDiskError,
  type VirtualDiskFault,
} from '../../shared/hypervisor/hyperv/native/index.js';
import type { ByteRange } from '../../shared/hypervisor/index.js';
import { createVhdx, describeVhdx, openVhdx } from '../../shared/vhdx/index.js';
import { refusal } from './refusal.js';
import { SeededRandom } from './seeded-random.js';
import { mirrorVhdx } from './virtdisk-mirror.js';
import { SMALL_LIMITS, type VirtdiskRig } from './virtdisk-rig.js';

export type VirtdiskCase = (rig: VirtdiskRig) => Promise<void>;

const KIB = 1024;
/** No multiple of 4096, nor of the small transfers. */
const SIZE = 150 * KIB + 512;

const content = (seed: number, lengthBytes = SIZE): Buffer =>
  new SeededRandom(seed).fill(Buffer.alloc(lengthBytes));

async function collect(ranges: AsyncIterable<ByteRange>): Promise<[number, number][]> {
  const found: [number, number][] = [];
  for await (const { start, end } of ranges) found.push([start, end]);
  return found;
}

/** The error of an action, which must be one of virtdisk's. */
async function failure(action: () => Promise<unknown>): Promise<VirtualDiskError> {
  const error = await refusal(action);
  if (error instanceof VirtualDiskError) return error;
  throw error;
}

async function readAll(disk: ReadableDisk): Promise<Buffer> {
  const bytes = Buffer.alloc(disk.sizeBytes);
  await disk.read(0, bytes);
  return bytes;
}

/** Reads a disk whole through the binding. */
async function bytesOf(rig: VirtdiskRig, path: string): Promise<Buffer> {
  const disk = await rig.disks().openFrozen(path);
  try {
    return await readAll(disk);
  } finally {
    await disk.close();
  }
}

const LOOKING: Readonly<Record<string, VirtdiskCase>> = {
  'tells size, sectors, identity and tracking of a disk': async (rig) => {
    const path = rig.disk('a.vhdx', content(1), 'sectors 512 4096', 'tracking 1 1 rctX7');
    const facts = await rig.disks().inspect(path);
    expect(facts).to.deep.equal({
      ...{ sizeBytes: SIZE, fileBytes: 0, blockBytes: 32 * KIB * KIB },
      ...{ logicalSectorBytes: 512, physicalSectorBytes: 4096, kind: 'dynamic' },
      diskId: '01234567-89ab-cdef-0123-456789abcdef',
      parentPath: undefined,
      tracking: { isEnabled: true, hasNewerChanges: true, latestId: 'rctX7' },
    });
    expect(rig.calls(path)[0]).to.equal('OpenVirtualDisk version=2 mask=0x0');
  },

  'tells the parent of a differencing disk, however long its path is': async (rig) => {
    const parent = `/${'long/'.repeat(600)}päth-😀.vhdx`;
    const path = rig.disk('c.avhdx', content(1), 'kind 4', `parent ${parent}`);
    const facts = await rig.disks().inspect(path);
    expect(facts.kind).to.equal('differencing');
    expect(facts.parentPath).to.equal(parent);
  },

  'names a parent that was not found as none': async (rig) => {
    const path = rig.disk('c.avhdx', content(1), 'kind 4');
    expect((await rig.disks().inspect(path)).parentPath).to.equal(undefined);
  },

  'opens a path with letters of any script': async (rig) => {
    const path = rig.disk('Größe 東京 😀.vhdx', content(2));
    expect((await bytesOf(rig, path)).equals(content(2))).to.equal(true);
  },

  'knows a Windows without change tracking': async (rig) => {
    const path = rig.disk('a.vhdx', content(1), 'fail GetVirtualDiskInformation:15 87');
    expect((await rig.disks().inspect(path)).tracking).to.equal(undefined);
  },

  'says unknown for a kind that is none of the known': async (rig) => {
    const path = rig.disk('a.vhdx', content(1), 'kind 9');
    expect((await rig.disks().inspect(path)).kind).to.equal('unknown');
  },

  'believes no sector size that no disk has': async (rig) => {
    for (const sectors of ['520 4096', '512 0']) {
      const path = rig.disk('a.vhdx', content(1, 520 * 512), `sectors ${sectors}`);
      expect((await failure(() => rig.disks().inspect(path))).fault).to.equal('bad-answer');
      expect((await failure(() => rig.disks().openFrozen(path))).fault).to.equal('bad-answer');
    }
  },

  'tells a missing file, a file that is no disk and one in use apart': async (rig) => {
    const open = (path: string): Promise<VirtualDiskError> =>
      failure(() => rig.disks().openFrozen(path));
    const missing = await open(rig.path('none.vhdx'));
    expect([missing.code, missing.fault]).to.deep.equal(['E_NOT_FOUND', 'not-found']);
    expect(missing.context).to.include({ call: 'OpenVirtualDisk', win32: 2 });
    writeFileSync(rig.path('text.vhdx'), 'text');
    const text = await open(rig.path('text.vhdx'));
    expect([text.code, text.fault]).to.deep.equal(['E_HYPERVISOR', 'not-a-disk']);
    expect(text.context).to.include({ win32: 0xc03a0015 });
    const busy = await open(rig.disk('busy.vhdx', content(1), 'fail OpenVirtualDisk 32'));
    expect([busy.code, busy.fault]).to.deep.equal(['E_LOCKED', 'in-use']);
    expect(busy.message).to.contain('32 (ERROR_SHARING_VIOLATION)');
  },
};

const READING: Readonly<Record<string, VirtdiskCase>> = {
  'reads any bytes exactly, several reads at once': async (rig) => {
    const expected = content(3);
    const path = rig.disk('a.vhdx', expected);
    const random = new SeededRandom(17);
    const disk = await rig.disks().openFrozen(path);
    const reads = Array.from({ length: 60 }, async () => {
      const start = random.next() % SIZE;
      const length = Math.min(SIZE - start, random.next() % (40 * KIB));
      const target = Buffer.alloc(length + 2, 0x5a);
      await disk.read(start, target.subarray(1, 1 + length));
      const found = target.subarray(1, 1 + length);
      expect(found.equals(expected.subarray(start, start + length))).to.equal(true);
      expect([target[0], target[length + 1]]).to.deep.equal([0x5a, 0x5a]);
    });
    await Promise.all(reads);
    expect((await readAll(disk)).equals(expected)).to.equal(true);
    await disk.close();
  },

  'reads whole sectors only, into aligned memory, up to the end of the disk': async (rig) => {
    const path = rig.disk('a.vhdx', content(3));
    const disk = await rig.disks().openFrozen(path);
    await disk.read(SIZE - 3, Buffer.alloc(3));
    await disk.close();
    const last = SIZE - (SIZE % 4096);
    expect(rig.calls(path)).to.include(
      `ReadFile offset=${String(last)} length=${String(SIZE - last)}`,
    );
  },

  'reads behind four gigabytes': async (rig) => {
    const far = 5 * KIB ** 3;
    const path = rig.disk('big.vhdx', Buffer.alloc(0), `size ${String(6 * KIB ** 3)}`);
    truncateSync(`${path}.image`, far);
    writeFileSync(`${path}.image`, 'here', { flag: 'a' });
    const disk = await rig.disks().openFrozen(path);
    expect(disk.sizeBytes).to.equal(6 * KIB ** 3);
    const found = Buffer.alloc(4);
    await disk.read(far, found);
    await disk.close();
    expect(found.toString()).to.equal('here');
  },

  'waits for reads that Windows answers later': async (rig) => {
    const path = rig.disk('slow.vhdx', content(4), 'delay 5');
    expect((await bytesOf(rig, path)).equals(content(4))).to.equal(true);
  },

  'ends a read that fails, at once or later, with the code of Windows': async (rig) => {
    for (const delay of ['delay 0', 'delay 5']) {
      const path = rig.disk('bad.vhdx', content(5), 'fail ReadFile 23', delay);
      const disk = await rig.disks().openFrozen(path);
      const error = await failure(() => disk.read(0, Buffer.alloc(10)));
      expect([error.code, error.context['win32']]).to.deep.equal(['E_IO', 23]);
      await disk.close();
    }
  },

  'gives a read up that gets no answer, and waits for no other': async (rig) => {
    const limits = { ...SMALL_LIMITS, slotCount: 1, timeoutMs: 60 };
    const path = rig.disk('dead.vhdx', content(5), 'delay 600000');
    const disk = await rig.disks({ limits }).openFrozen(path);
    const reads = [0, 1].map(() => failure(() => disk.read(0, Buffer.alloc(10))));
    for (const error of await Promise.all(reads)) expect(error.code).to.equal('E_STALLED');
    await disk.close();
  },

  'touches no memory that a lost read may still write to': async (rig) => {
    const limits = { ...SMALL_LIMITS, slotCount: 1, timeoutMs: 40 };
    const path = rig.disk('deaf.vhdx', content(5), 'delay 400 deaf');
    const disk = await rig.disks({ limits }).openFrozen(path);
    const [first, second] = await Promise.all(
      [0, 1].map(() => failure(() => disk.read(0, Buffer.alloc(10)))),
    );
    expect([first?.fault, second?.fault]).to.deep.equal(['stalled', 'stalled']);
    await disk.close();
  },

  'opens read-only, unseen by the host, and gives everything back': async (rig) => {
    const path = rig.disk('a.vhdx', content(6));
    const disk = await rig.disks().openFrozen(path);
    expect(rig.openHandles(path)).to.equal(1);
    await disk.read(0, Buffer.alloc(1));
    await Promise.all([disk.close(), disk.close()]);
    expect(rig.openHandles(path)).to.equal(0);
    const calls = rig.calls(path).filter((line) => !line.startsWith('GetVirtualDiskInformation'));
    expect(calls).to.deep.equal([
      ...['OpenVirtualDisk version=2 mask=0x0', 'AttachVirtualDisk flags=0x9'],
      ...['ReadFile offset=0 length=4096', 'DetachVirtualDisk', 'CloseHandle'],
    ]);
  },

  'closes after the reads that are under way': async (rig) => {
    const path = rig.disk('slow.vhdx', content(6), 'delay 30');
    const disk = await rig.disks().openFrozen(path);
    const bytes = Buffer.alloc(100);
    await Promise.all([disk.read(0, bytes), disk.close()]);
    expect(bytes.equals(content(6).subarray(0, 100))).to.equal(true);
    expect(rig.calls(path).slice(-2)).to.deep.equal(['DetachVirtualDisk', 'CloseHandle']);
  },

  'switches the privilege of attaching on, where the account holds it': async (rig) => {
    const path = rig.disk('a.vhdx', content(6), 'privilege off');
    expect((await bytesOf(rig, path)).equals(content(6))).to.equal(true);
    const attached = rig.calls(path).filter((line) => line.startsWith('Attach'));
    expect(attached).to.have.length(2);
  },

  'closes a disk that cannot be attached, and says what the account lacks': async (rig) => {
    const path = rig.disk('a.vhdx', content(6), 'privilege none');
    const error = await failure(() => rig.disks().openFrozen(path));
    expect([error.code, error.fault]).to.deep.equal(['E_HYPERVISOR', 'access-denied']);
    expect(error.hint).to.contain('SeManageVolumePrivilege');
    expect(rig.calls(path).at(-1)).to.equal('CloseHandle');
  },

  'closes a disk that cannot be detached': async (rig) => {
    const path = rig.disk('a.vhdx', content(6), 'fail DetachVirtualDisk 5');
    const disk = await rig.disks().openFrozen(path);
    expect((await failure(() => disk.close())).fault).to.equal('access-denied');
    expect(rig.openHandles(path)).to.equal(0);
  },

  'knows nothing of what is allocated, unless a map of ours says it': async (rig) => {
    const path = rig.disk('a.vhdx', Buffer.alloc(SIZE), '');
    const extentsWith = async (
      openMap?: () => Promise<ReadableDisk | undefined>,
    ): Promise<unknown[]> => {
      const disk = await rig.disks().openFrozen(path, { openMap });
      const found: unknown[] = [];
      for await (const extent of disk.extents(0, SIZE)) found.push(extent);
      await disk.close();
      return found;
    };
    const everything = [{ start: 0, end: SIZE, kind: 'data' }];
    expect(await extentsWith()).to.deep.equal(everything);
    expect(await extentsWith(() => Promise.resolve(undefined))).to.deep.equal(everything);
    let closed = 0;
    const map = (sizeBytes: number) => (): Promise<ReadableDisk> =>
      Promise.resolve({
        ...{ sizeBytes, logicalSectorBytes: 512, physicalSectorBytes: 4096 },
        read: () => Promise.reject(new Error('bytes come from virtdisk.dll')),
        async *extents(start: number, end: number) {
          yield { start, end, kind: 'zero' as const };
          await Promise.resolve();
        },
        close: () => {
          closed++;
          return Promise.resolve();
        },
      });
    expect(await extentsWith(map(SIZE))).to.deep.equal([{ start: 0, end: SIZE, kind: 'zero' }]);
    const error = await failure(() => rig.disks().openFrozen(path, { openMap: map(SIZE - 512) }));
    expect(error.fault).to.equal('bad-answer');
    expect(closed).to.equal(2);
  },
};

const REAL_MAP: Readonly<Record<string, VirtdiskCase>> = {
  'leaves out what a real differencing VHDX says to be zero, by our engine': async (rig) => {
    const seams = { fs: nodeFileSystem, random: systemRandom };
    const sizeBytes = 8 * KIB * KIB;
    const base = rig.path('base.vhdx');
    await createVhdx(base, { type: 'dynamic', sizeBytes, blockSizeBytes: 1024 * KIB }, seams);
    const model = Buffer.alloc(sizeBytes);
    const fill = async (path: string, offset: number, bytes: Buffer): Promise<void> => {
      const file = await openVhdx(path, { ...seams, isWritable: true });
      await file.write(offset, bytes);
      await file.flush();
      await file.close();
      bytes.copy(model, offset);
    };
    await fill(base, 5 * KIB * KIB, content(14, 4096));
    const path = rig.path('child.avhdx');
    await createVhdx(path, { type: 'differencing', parentPath: base }, seams);
    await fill(path, 1024 * KIB, content(15, 8192));
    const changes = new Map([['rct1', [{ start: 1024 * KIB, end: 1032 * KIB }]]]);
    await mirrorVhdx(path, { ...seams, changes });
    const facts = await rig.disks().inspect(path);
    const { diskId } = await describeVhdx(base, seams);
    expect(facts).to.include({ diskId, sizeBytes, kind: 'differencing', parentPath: base });
    const ranges = await collect(rig.disks().changedRanges(path, 'rct1'));
    expect(ranges).to.deep.equal([[1024 * KIB, 1032 * KIB]]);
    const disk = await rig.disks().openFrozen(path, { openMap: (file) => openVhdx(file, seams) });
    const found = Buffer.alloc(sizeBytes);
    let readBytes = 0;
    for await (const { start, end, kind } of disk.extents(0, sizeBytes)) {
      if (kind === 'zero') continue;
      await disk.read(start, found.subarray(start, end));
      readBytes += end - start;
    }
    await disk.close();
    expect(found.equals(model)).to.equal(true);
    expect(readBytes).to.be.lessThan(sizeBytes / 2);
  },
};

/** The codes of a chain that has broken (hyperv.md § 1.7), and what they are called here. */
const BROKEN_CHAINS: readonly (readonly [string, VirtualDiskFault])[] = [
  ['0xC03A0029', 'tracking-unknown-id'],
  ['0xC03A002A', 'tracking-off'],
  ['0xC03A0030', 'tracking-lost'],
  ['0xC03A0034', 'unexpected-id'],
  ['0xC03A0022', 'tracking-lost'],
  // the file is there: what is missing is the file of its changes
  ['2', 'not-found'],
  ['50', 'not-available'],
  ['31', 'refused'],
];

const CHANGES: Readonly<Record<string, VirtdiskCase>> = {
  'sorts, joins and clamps the ranges of a query': async (rig) => {
    const path = rig.disk(
      ...(['a.vhdx', content(7)] as const),
      'changes rct1 65536 4096 0 512 4096 4096 8192 1024 6000 100',
      `changes rct1 ${String(SIZE - 512)} 99999999 20480 0`,
      'changes rct10 0 99',
    );
    expect(await collect(rig.disks().changedRanges(path, 'rct1'))).to.deep.equal([
      ...[
        [0, 512],
        [4096, 9216],
        [65536, 69632],
      ],
      [SIZE - 512, SIZE],
    ]);
  },

  'tells no changes from an id that nobody knows': async (rig) => {
    const path = rig.disk('a.vhdx', content(7), 'changes rct1');
    expect(await collect(rig.disks().changedRanges(path, 'rct1'))).to.deep.equal([]);
    const error = await failure(() => collect(rig.disks().changedRanges(path, 'rct2')));
    expect([error.code, error.fault]).to.deep.equal(['E_TRACKING_INVALID', 'tracking-unknown-id']);
    const off = rig.disk('off.vhdx', content(7), 'changes rct1', 'tracking 0 0 -');
    const disabled = await failure(() => collect(rig.disks().changedRanges(off, 'rct1')));
    expect(disabled.fault).to.equal('tracking-off');
  },

  'asks on after a partial answer, by ranges and by bytes': async (rig) => {
    const starts = Array.from({ length: 40 }, (_, index) => index * 3 * KIB);
    const ranges = starts.map((start) => `${String(start)} 1024`).join(' ');
    const expected = starts.map((start) => [start, start + KIB]);
    for (const page of ['page 3', 'page 4096 10240', 'page 2 7168']) {
      const path = rig.disk('a.vhdx', content(7), `changes rct1 ${ranges}`, page);
      expect(await collect(rig.disks().changedRanges(path, 'rct1'))).to.deep.equal(expected);
      const queries = rig.calls(path).filter((line) => line.startsWith('Query'));
      expect(queries.length, page).to.be.greaterThan(10);
    }
  },

  'gets more ranges than one query can hold': async (rig) => {
    const size = 16 * KIB * KIB;
    const starts = Array.from({ length: 9000 }, (_, index) => index * 1536);
    const lines = Array.from({ length: 9 }, (_, index) =>
      starts
        .slice(index * 1000, (index + 1) * 1000)
        .map((start) => `${String(start)} 512`)
        .join(' '),
    );
    const path = rig.disk(
      ...(['a.vhdx', Buffer.alloc(0)] as const),
      ...lines.map((line) => `changes rct1 ${line}`),
      `size ${String(size)}`,
    );
    const found = await collect(rig.disks().changedRanges(path, 'rct1'));
    expect(found).to.deep.equal(starts.map((start) => [start, start + 512]));
    expect(rig.calls(path).filter((line) => line.startsWith('Query'))).to.have.length(3);
  },

  'stops at an answer that makes no progress': async (rig) => {
    const path = rig.disk('a.vhdx', content(7), 'changes rct1 0 512 0 1024', 'page 1');
    const error = await failure(() => collect(rig.disks().changedRanges(path, 'rct1')));
    expect([error.code, error.fault]).to.deep.equal(['E_TRACKING_INVALID', 'bad-answer']);
  },

  'names each way in which a chain breaks': async (rig) => {
    for (const [code, fault] of BROKEN_CHAINS) {
      const path = rig.disk('a.vhdx', content(7), `fail QueryChangesVirtualDisk ${code}`);
      const error = await failure(() => collect(rig.disks().changedRanges(path, 'rct1')));
      expect([error.code, error.fault]).to.deep.equal(['E_TRACKING_INVALID', fault]);
      expect(error.context['win32']).to.equal(Number(code));
    }
  },

  'takes a lack of rights, or of patience, for no broken chain': async (rig) => {
    const cases = [
      ...[['QueryChangesVirtualDisk 5', 'E_HYPERVISOR', 'access-denied']],
      ...[['QueryChangesVirtualDisk 33', 'E_LOCKED', 'in-use']],
      ...[['OpenVirtualDisk 32', 'E_LOCKED', 'in-use']],
      ...[['OpenVirtualDisk 2', 'E_NOT_FOUND', 'not-found']],
    ];
    for (const [fails = '', ...expected] of cases) {
      const path = rig.disk('a.vhdx', content(7), `fail ${fails}`);
      const error = await failure(() => collect(rig.disks().changedRanges(path, 'rct1')));
      expect([error.code, error.fault]).to.deep.equal(expected);
    }
  },

  'passes no id on that can be none': async (rig) => {
    const path = rig.disk('a.vhdx', content(7), 'changes rct1 0 512');
    for (const id of ['', 'rct1\0x', 'r'.repeat(257)]) {
      const error = await failure(() => collect(rig.disks().changedRanges(path, id)));
      expect([error.code, error.fault]).to.deep.equal([
        'E_TRACKING_INVALID',
        'tracking-unknown-id',
      ]);
    }
    expect(rig.calls(path)).to.deep.equal(['']);
  },

  'holds the disk while it is asked, and no longer': async (rig) => {
    const path = rig.disk('a.vhdx', content(7), 'changes rct1 0 512 8192 512 65536 512');
    for await (const range of rig.disks().changedRanges(path, 'rct1')) {
      expect(range).to.deep.equal({ start: 0, end: 512 });
      expect(rig.openHandles(path)).to.equal(1);
      break;
    }
    expect(rig.openHandles(path)).to.equal(0);
  },
};

const OTHER_ID = guid('fedcba98-7654-3210-fedc-ba9876543210');

const WRITING: Readonly<Record<string, VirtdiskCase>> = {
  'writes any bytes exactly, and zeros': async (rig) => {
    const model = content(8);
    const path = rig.disk('a.vhdx', model);
    const disk = await rig.disks().openWritable(path);
    const random = new SeededRandom(21);
    for (let index = 0; index < 60; index++) {
      const start = random.next() % SIZE;
      const length = Math.min(SIZE - start, random.next() % (40 * KIB));
      const bytes = content(100 + index, length);
      if (index % 5 === 4) {
        await disk.zero(start, length);
        model.fill(0, start, start + length);
      } else {
        await disk.write(start, bytes);
        bytes.copy(model, start);
      }
    }
    await disk.flush();
    expect((await readAll(disk)).equals(model)).to.equal(true);
    await disk.close();
    expect(rig.image(path).equals(model)).to.equal(true);
    expect(rig.calls(path)).to.include('AttachVirtualDisk flags=0x8');
  },

  'loses no part of a sector that two write to at once': async (rig) => {
    const model = content(9);
    const path = rig.disk('a.vhdx', model, 'delay 1');
    const disk = await rig.disks().openWritable(path);
    const writes = Array.from({ length: 40 }, (_, index) => {
      const bytes = Buffer.alloc(30, index + 1);
      bytes.copy(model, 7 + index * 30);
      return disk.write(7 + index * 30, bytes);
    });
    await Promise.all(writes);
    await disk.close();
    expect(rig.image(path).equals(model)).to.equal(true);
  },

  'says that a disk is full, and writes nothing after a failed flush': async (rig) => {
    const path = rig.disk('a.vhdx', content(9), 'fail WriteFile 112', 'fail FlushFileBuffers 23');
    const disk = await rig.disks().openWritable(path);
    const error = await failure(() => disk.write(0, content(1, 512)));
    expect([error.code, error.fault]).to.deep.equal(['E_CAPACITY', 'full']);
    expect((await failure(() => disk.flush())).code).to.equal('E_IO');
    expect((await failure(() => disk.write(0, content(1, 512)))).message).to.contain('Flush');
    expect((await failure(() => disk.flush())).message).to.contain('Flush');
    await disk.close();
    expect(rig.calls(path).filter((line) => line.startsWith('Flush'))).to.have.length(1);
  },

  'makes a disk with the sectors and the identity that it is to have': async (rig) => {
    const path = rig.path('new.vhdx');
    const sectors = { logicalSectorBytes: 4096, physicalSectorBytes: 4096 } as const;
    const wanted = { path, sizeBytes: 64 * KIB, diskId: OTHER_ID, ...sectors };
    await rig.disks().createDisk({ ...wanted, blockBytes: 1024 * KIB });
    const facts = await rig.disks().inspect(path);
    expect(facts).to.include({ sizeBytes: 64 * KIB, diskId: OTHER_ID, ...sectors });
    expect(facts).to.include({ blockBytes: 1024 * KIB, kind: 'dynamic' });
    expect((await bytesOf(rig, path)).equals(Buffer.alloc(64 * KIB))).to.equal(true);
    const again = await failure(() => rig.disks().createDisk(wanted));
    expect([again.code, again.fault]).to.deep.equal(['E_EXISTS', 'exists']);
  },

  'makes a child of the same size and identity, and merges it': async (rig) => {
    const base = rig.disk('base.vhdx', content(10), 'sectors 512 512');
    const [middle, top] = [rig.path('mittlere ä.avhdx'), rig.path('top.avhdx')];
    await rig.disks().createChild(middle, base);
    await rig.disks().createChild(top, middle);
    const facts = await rig.disks().inspect(top);
    const { diskId } = await rig.disks().inspect(base);
    expect(facts).to.include({ sizeBytes: SIZE, diskId, kind: 'differencing', parentPath: middle });
    const disk = await rig.disks().openWritable(top);
    await disk.write(1000, Buffer.from('changed'));
    await disk.close();
    expect((await bytesOf(rig, base)).equals(content(10))).to.equal(true);
    await rig.disks().merge(top, 2);
    const model = content(10);
    model.write('changed', 1000);
    expect((await bytesOf(rig, base)).equals(model)).to.equal(true);
    const orphan = await failure(() => rig.disks().createChild(rig.path('x'), rig.path('none')));
    expect(orphan.code).to.equal('E_NOT_FOUND');
  },

  'changes the identity and the size of a disk': async (rig) => {
    const path = rig.disk('a.vhdx', content(11));
    await rig.disks().setDiskId(path, OTHER_ID);
    await rig.disks().grow(path, SIZE + 4096);
    const facts = await rig.disks().inspect(path);
    expect(facts).to.include({ diskId: OTHER_ID, sizeBytes: SIZE + 4096 });
    expect(rig.calls(path)).to.include('OpenVirtualDisk version=1 mask=0x200000');
    const full = rig.disk('full.vhdx', content(11), 'fail ResizeVirtualDisk 112');
    expect((await failure(() => rig.disks().grow(full, SIZE + 512))).code).to.equal('E_CAPACITY');
  },
};

const HALF_DONE: Readonly<Record<string, VirtdiskCase>> = {
  'says that a new disk stays when it cannot be given its identity': async (rig) => {
    const path = rig.path('new.vhdx');
    writeFileSync(`${path}.script`, 'fail SetVirtualDiskInformation 5\n');
    const sectors = { logicalSectorBytes: 512, physicalSectorBytes: 4096 } as const;
    const wanted = { path, sizeBytes: 64 * KIB, diskId: OTHER_ID, ...sectors };
    const error = await failure(() => rig.disks().createDisk(wanted));
    expect(error.fault).to.equal('access-denied');
    expect(error.done).to.contain('the new file stays');
  },

  'says that a merge may have begun when it fails': async (rig) => {
    const base = rig.disk('base.vhdx', content(10));
    const path = rig.disk('top.avhdx', content(10), `parent ${base}`, 'fail MergeVirtualDisk 23');
    const error = await failure(() => rig.disks().merge(path, 1));
    expect(error.code).to.equal('E_IO');
    expect(error.done).to.contain('a part may be merged');
  },
};

const LIES: Readonly<Record<string, VirtdiskCase>> = {
  'believes no text without an end, and no need of a buffer that no text can have': async (rig) => {
    for (const lie of ['text', 'room']) {
      const path = rig.disk('a.avhdx', content(13), 'kind 4', `lies ${lie}`);
      expect((await failure(() => rig.disks().inspect(path))).fault).to.equal('bad-answer');
    }
  },

  'believes no count of ranges that were not there': async (rig) => {
    const path = rig.disk('a.vhdx', content(13), 'changes rct1 0 512', 'lies count');
    const error = await failure(() => collect(rig.disks().changedRanges(path, 'rct1')));
    expect([error.code, error.fault]).to.deep.equal(['E_TRACKING_INVALID', 'bad-answer']);
  },

  'takes no part of a transfer for the whole': async (rig) => {
    const path = rig.disk('a.vhdx', content(13), 'lies short');
    const disk = await rig.disks().openWritable(path);
    const target = Buffer.alloc(10, 0x5a);
    expect((await failure(() => disk.read(0, target))).fault).to.equal('bad-answer');
    expect(target.equals(Buffer.alloc(10, 0x5a))).to.equal(true);
    expect((await failure(() => disk.write(0, content(1, 512)))).fault).to.equal('bad-answer');
    await disk.close();
  },
};

const MISSING: Readonly<Record<string, VirtdiskCase>> = {
  'has every capability when every function is there': async (rig) => {
    const all = { canRead: true, canQueryChanges: true, canCreate: true };
    const wanted = { ...all, canMerge: true, canResize: true };
    expect(await rig.disks().capabilities()).to.deep.equal(wanted);
  },

  'has none without the library, or with one that lacks the functions': async (rig) => {
    for (const virtdisk of [rig.path('no-such-library.dll'), rig.otherLibrary]) {
      const disks = rig.disks({ libraries: { ...rig.libraries, virtdisk } });
      expect(Object.values(await disks.capabilities())).to.deep.equal(Array(5).fill(false));
      const path = rig.disk('a.vhdx', content(1));
      for (const action of [
        () => disks.inspect(path),
        () => disks.openFrozen(path),
        () => collect(disks.changedRanges(path, 'rct1')),
        () => disks.merge(path, 1),
      ]) {
        const error = await failure(action);
        expect([error.code, error.fault]).to.deep.equal(['E_HYPERVISOR', 'not-available']);
      }
    }
  },

  'reads by other means only where there are no functions, and only when asked to': async (rig) => {
    const path = rig.disk('a.vhdx', content(12));
    const openInstead = (): Promise<ReadableDisk> =>
      openRawDisk(`${path}.image`, { fs: nodeFileSystem });
    const disks = rig.disks({ libraries: { ...rig.libraries, virtdisk: rig.otherLibrary } });
    const disk = await disks.openFrozen(path, { openInstead });
    expect((await readAll(disk)).equals(content(12))).to.equal(true);
    await disk.close();
    rmSync(path);
    const error = await failure(() => rig.disks().openFrozen(path, { openInstead }));
    expect(error.code).to.equal('E_NOT_FOUND');
  },
};

export const VIRTDISK_CASES: Readonly<Record<string, VirtdiskCase>> = {
  ...LOOKING,
  ...READING,
  ...REAL_MAP,
  ...CHANGES,
  ...WRITING,
  ...HALF_DONE,
  ...LIES,
  ...MISSING,
};

/** Runs a case, and wants the double to have refused nothing and to hold nothing open. */
export async function runVirtdiskCase(name: string, rig: VirtdiskRig): Promise<void> {
  const run = VIRTDISK_CASES[name];
  if (run === undefined) throw new Error(`there is no case “${name}”`);
  await run(rig);
  expect(rig.complaints()).to.deep.equal([]);
}
