// Mutated deltas and manifests: each ends in a value or a typed error, within bounded memory and
// time, and never with a byte written that was not checked. A failure prints the seed that repeats
// it: HVDR_FUZZ_SEED=n HVDR_FUZZ_COUNT=1.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';

import {
  applyDelta,
  applyToCopy,
  CellDelta,
  checkDelta,
  indexPcbt,
  LayeredDisk,
  ManifestFile,
  ManifestReader,
  PcbtDelta,
  PcbtReader,
  PIECE_BYTES,
} from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import { crc32c } from '../../shared/bytes/index.js';
import { checkoutFolder } from '../support/checkout.js';
import { SeededRandom } from '../support/seeded-random.js';
import {
  asFile,
  BufferDisk,
  chunked,
  deltaBetween,
  naiveApply,
  pattern,
} from '../unit/delta/builders.js';

const COUNT = Number(
  process.env['HVDR_FUZZ_COUNT'] ?? (process.env['SLOW'] === '1' ? 100_000 : 2000),
);
const FIRST_SEED = Number(process.env['HVDR_FUZZ_SEED'] ?? 1);
const DISK_BYTES = 200_000;
/** No single input may take longer; a hang shows as a timeout with its seed. */
const LIMIT_MS = 5000;
/** Buffers that one input may cost: a few of the disk's size and the pieces of readers. */
const LIMIT_BYTES = 32 * 1024 * 1024;

const INTERESTING = [
  0n,
  1n,
  15n,
  16n,
  0x7fn,
  0xffn,
  0xffffn,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 53n,
  2n ** 63n,
  2n ** 64n - 1n,
];

function golden(folder: string, ending: string): Buffer[] {
  const path = join(checkoutFolder, 'test', 'golden', folder);
  return readdirSync(path)
    .filter((name) => name.endsWith(ending))
    .map((name) => readFileSync(join(path, name)));
}

/** One to four changes: bits, numbers at any place, cuts, repeats, insertions, other files' parts. */
function mutate(random: SeededRandom, seeds: readonly Buffer[]): Buffer {
  let bytes = Buffer.from(random.pick(seeds));
  const rounds = random.between(1, 5);
  for (let round = 0; round < rounds && bytes.length > 0; round++) {
    const at = random.int(bytes.length);
    switch (random.int(7)) {
      case 0:
        bytes[at] = (bytes[at] ?? 0) ^ (1 << random.int(8));
        break;
      case 1:
        bytes[at] = random.int(256);
        break;
      case 2: {
        // Numbers stand at multiples of 8 near the front more often than not.
        const place = random.chance(0.7) ? 8 * random.int(Math.min(6, bytes.length / 8)) : at;
        if (place + 8 <= bytes.length) bytes.writeBigUInt64LE(random.pick(INTERESTING), place);
        break;
      }
      case 3:
        bytes = bytes.subarray(0, at);
        break;
      case 4:
        bytes = Buffer.concat([
          bytes.subarray(0, at),
          Buffer.alloc(random.int(40), random.int(256)),
          bytes.subarray(at),
        ]);
        break;
      case 5: {
        const end = Math.min(bytes.length, at + random.int(100));
        bytes = Buffer.concat([bytes.subarray(0, end), bytes.subarray(at)]);
        break;
      }
      default: {
        const other = random.pick(seeds);
        bytes = Buffer.concat([bytes.subarray(0, at), other.subarray(random.int(other.length))]);
      }
    }
  }
  return Buffer.from(bytes);
}

/** Gives a mutated manifest right checksums, so that the checks behind them are reached. */
function mendChecksums(bytes: Buffer): void {
  if (bytes.length < 208) return;
  bytes.writeUInt32LE(crc32c(bytes.subarray(0, 124)), 124);
  const trailer = bytes.subarray(bytes.length - 80);
  trailer.writeUInt32LE(crc32c(trailer.subarray(0, 76)), 76);
}

async function valueOrError(action: () => Promise<void>): Promise<boolean> {
  try {
    await action();
    return true;
  } catch (error) {
    if (error instanceof DrError) return false;
    throw error;
  }
}

async function tryPcbt(random: SeededRandom, pcbt: Buffer): Promise<void> {
  const diskSizeBytes = DISK_BYTES;
  const isIndexed = await valueOrError(async () => {
    for await (const block of indexPcbt(await asFile(pcbt), { diskSizeBytes })) {
      expect(block.offset + block.lengthBytes).to.be.at.most(diskSizeBytes);
    }
  });
  const isRead = await valueOrError(async () => {
    const chunks = chunked(pcbt, random.between(1, 3000));
    const reader = await PcbtReader.open(chunks, { diskSizeBytes });
    for await (const { data } of reader.pieces()) {
      expect(data.length).to.be.within(1, PIECE_BYTES);
    }
  });
  expect(isRead, 'index and stream agree').to.equal(isIndexed);
  const { findingCount } = await checkDelta(await asFile(pcbt), { diskSizeBytes }, () => undefined);
  expect(findingCount === 0, 'check agrees').to.equal(isIndexed);

  const before = pattern(DISK_BYTES, 1);
  const target = BufferDisk.of(before);
  const file = await asFile(pcbt);
  const isApplied = await valueOrError(async () => {
    await applyDelta({ kind: 'file', file }, target);
  });
  expect(isApplied).to.equal(isIndexed);
  const expected = isApplied ? naiveApply(before, pcbt) : before;
  expect(target.bytes.equals(expected), 'all of a good delta, nothing of a bad one').to.equal(true);
  if (random.chance(0.2)) {
    const copy = Buffer.alloc(DISK_BYTES);
    const isCopied = await valueOrError(async () => {
      const chunks = chunked(pcbt, random.between(1, 3000));
      await applyToCopy(
        BufferDisk.of(before),
        { kind: 'stream', chunks },
        {
          write: async (offset, source) => {
            await Promise.resolve();
            copy.set(source, offset);
          },
        },
      );
    });
    expect(isCopied).to.equal(isIndexed);
    if (isCopied) expect(copy.equals(expected)).to.equal(true);
  }
}

async function tryManifest(random: SeededRandom, bytes: Buffer, pcbt: Buffer): Promise<void> {
  const isRead = await valueOrError(async () => {
    const reader = await ManifestReader.open(chunked(bytes, random.between(1, 500)));
    for await (const record of reader.records()) expect(record.cell).to.be.at.least(0);
  });
  const isVerified = await valueOrError(async () => {
    const manifest = await ManifestFile.open(await asFile(bytes));
    await manifest.find(random.int(10));
    await manifest.verify();
  });
  expect(isVerified, 'file and stream agree').to.equal(isRead);
  await checkDelta(await asFile(pcbt), { manifest: await asFile(bytes) }, () => undefined);
  await valueOrError(async () => {
    const manifest = await ManifestFile.open(await asFile(bytes));
    const size = manifest.header.diskSizeBytes;
    if (size > 4 * DISK_BYTES) return;
    const source = random.chance(0.5)
      ? new PcbtDelta(manifest, await asFile(pcbt))
      : await CellDelta.open(manifest, await asFile(pcbt));
    const disk = await LayeredDisk.open(new BufferDisk(size), [source]);
    await disk.read(0, Buffer.alloc(size));
  });
  await valueOrError(async () => {
    const manifest = await ManifestFile.open(await asFile(bytes));
    await applyDelta({ kind: 'file', file: await asFile(pcbt) }, new BufferDisk(300_000), {
      manifest,
    });
  });
}

describe(`fuzz of deltas and manifests, ${COUNT} inputs each`, function () {
  this.timeout(6 * 3600_000);

  async function each(run: (random: SeededRandom) => Promise<void>): Promise<void> {
    for (let seed = FIRST_SEED; seed < FIRST_SEED + COUNT; seed++) {
      const startedAt = performance.now();
      const memory = process.memoryUsage().arrayBuffers;
      try {
        await run(new SeededRandom(seed));
      } catch (error) {
        throw new Error(`HVDR_FUZZ_SEED=${seed} HVDR_FUZZ_COUNT=1: ${String(error)}`, {
          cause: error,
        });
      }
      expect(performance.now() - startedAt, `seed ${seed} in time`).to.be.below(LIMIT_MS);
      const grown = process.memoryUsage().arrayBuffers - memory;
      expect(grown, `seed ${seed} in memory`).to.be.below(LIMIT_BYTES);
    }
  }

  it('PCBT: value or typed error; index, stream, check and apply agree', async () => {
    const seeds = golden('pcbt', '.cbt');
    await each((random) => tryPcbt(random, mutate(random, seeds)));
  });

  it('manifest: value or typed error, alone and with a delta', async () => {
    const seeds = golden('manifest', '.manifest');
    const before = pattern(300_000, 1);
    const after = Buffer.from(before).fill(0, 65536, 200_000);
    const delta = await deltaBetween(before, after);
    seeds.push(delta.manifest);
    await each(async (random) => {
      const bytes = mutate(random, seeds);
      if (random.chance(0.7)) mendChecksums(bytes);
      await tryManifest(random, bytes, delta.pcbt);
    });
  });
});
