// One disk on its way in, where the service's own tests cannot see: what it holds in memory.

import { expect } from 'chai';
import { DiskIntake } from '../../../dr-receiver/ingest/disk-intake.js';
import {
  type BatchEntry,
  CELL_BYTES,
  hashCell,
  type ManifestHeader,
} from '../../../shared/delta/index.js';
import { type Call, HookedFileSystem } from '../../support/hooked-file.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { refusal } from '../../support/refusal.js';
import { SeededRandom } from '../../support/seeded-random.js';
import { id } from './source-double.js';

const HEADER: ManifestHeader = {
  kind: 'delta',
  point: id(1),
  parentPoint: id(2),
  vmId: id(3),
  diskId: id(4),
  diskGeneration: 0,
  diskSizeBytes: 1000 * CELL_BYTES,
  logicalSectorBytes: 512,
  physicalSectorBytes: 4096,
  epoch: 1n,
};
const FILES = { folder: '/c', data: '/c/d.delta', manifest: '/c/d.manifest' };
const NONE = Buffer.alloc(0);

function cellOf(cell: number): Buffer {
  const bytes = Buffer.alloc(CELL_BYTES);
  bytes.writeUInt32LE(cell + 1);
  return bytes;
}

async function openIntake(
  hook: <T>(call: Call, run: () => Promise<T>) => Promise<T> = (_call, run) => run(),
): Promise<DiskIntake> {
  const files = new MemoryFileSystem();
  await files.makeFolder(FILES.folder);
  const fs = new HookedFileSystem(files, hook);
  const random = new SeededRandom(1);
  return DiskIntake.create({ fs, random, diskIndex: 0, header: HEADER, files: FILES });
}

describe('disk intake', () => {
  it('holds a bounded part of what one message asks it to copy', async () => {
    let mostBytes = 0;
    const intake = await openIntake(async (call, run) => {
      if (call.kind !== 'write') return run();
      mostBytes = Math.max(mostBytes, intake.underWayBytes);
      await new Promise((resolve) => setImmediate(resolve));
      return run();
    });
    const entries = Array.from({ length: 1000 }, (_, cell): BatchEntry => ({
      kind: 'reuse',
      cell,
      hash: hashCell(cellOf(cell)),
    }));
    await intake.take(
      entries,
      NONE,
      (cell) => Promise.resolve(cellOf(cell)),
      () => undefined,
    );
    await intake.close();
    expect(intake.dataBytes).to.equal(1000 * CELL_BYTES);
    expect(mostBytes)
      .to.be.greaterThan(0)
      .and.at.most(5 * 1024 * 1024);
  });

  it('copies no cell of another length, whatever its hash', async () => {
    const intake = await openIntake();
    const short = cellOf(3).subarray(0, 512);
    const entries: BatchEntry[] = [{ kind: 'reuse', cell: 3, hash: hashCell(short) }];
    const error = await refusal(() =>
      intake.take(
        entries,
        NONE,
        () => Promise.resolve(short),
        () => undefined,
      ),
    );
    expect(error.code).to.equal('E_DELTA_HASH');
    await intake.close();
  });
});
