// PCBT version 1: what the reader accepts and refuses, from a stream and from a file, and what the
// writer announces before the first byte.

import { expect } from 'chai';
import { readdirSync, readFileSync } from 'node:fs';

import {
  encodePcbt,
  indexPcbt,
  type PcbtBlock,
  PcbtReader,
  PIECE_BYTES,
  planPcbt,
} from '../../../shared/delta/index.js';
import type { ErrorCode } from '../../../shared/errors.js';
import { asFile, chunked, collect, pattern, pcbtBytes, refusal } from './builders.js';

// The tests run from dist*/test/unit/delta; golden files stay in the source tree.
const GOLDEN = new URL('../../../../test/golden/pcbt/', import.meta.url);
const DISK_BYTES = 200_000;

interface Block {
  readonly offset: number;
  readonly data: Buffer;
}

/** Whole blocks as far as they touch no other: pieces joined where they continue each other. */
async function readAll(
  chunks: AsyncIterable<Uint8Array>,
  diskSizeBytes?: number,
): Promise<Block[]> {
  const reader = await PcbtReader.open(chunks, { diskSizeBytes });
  const blocks: { offset: number; parts: Buffer[]; end: number }[] = [];
  for await (const { offset, data } of reader.pieces()) {
    expect(data.length).to.be.within(1, PIECE_BYTES);
    const last = blocks.at(-1);
    if (last?.end === offset) {
      last.parts.push(Buffer.from(data));
      last.end += data.length;
    } else {
      blocks.push({ offset, parts: [Buffer.from(data)], end: offset + data.length });
    }
  }
  return blocks.map(({ offset, parts }) => ({ offset, data: Buffer.concat(parts) }));
}

async function indexAll(bytes: Buffer, diskSizeBytes?: number): Promise<PcbtBlock[]> {
  const blocks: PcbtBlock[] = [];
  for await (const block of indexPcbt(await asFile(bytes), { diskSizeBytes })) blocks.push(block);
  return blocks;
}

const REFUSALS: Readonly<Record<string, ErrorCode>> = {
  'bad-magic.cbt': 'E_PCBT_MAGIC',
  'bad-version.cbt': 'E_PCBT_VERSION',
  'bad-reserved.cbt': 'E_PCBT_RESERVED',
  'bad-empty-block.cbt': 'E_PCBT_EMPTY_BLOCK',
  'bad-beyond-disk.cbt': 'E_PCBT_BEYOND_DISK',
  'bad-offset-huge.cbt': 'E_PCBT_BEYOND_DISK',
  'bad-length-huge.cbt': 'E_PCBT_BEYOND_DISK',
  'bad-order.cbt': 'E_PCBT_ORDER',
  'bad-overlap.cbt': 'E_PCBT_ORDER',
  'bad-truncated-header.cbt': 'E_PCBT_TRUNCATED',
  'bad-truncated-entry.cbt': 'E_PCBT_TRUNCATED',
  'bad-truncated-data.cbt': 'E_PCBT_TRUNCATED',
  'bad-count-huge.cbt': 'E_PCBT_TRUNCATED',
  'bad-trailing.cbt': 'E_PCBT_TRAILING',
};

describe('PCBT golden files', () => {
  const names = readdirSync(GOLDEN).filter((name) => name.endsWith('.cbt'));

  it('every bad file has a rule here', () => {
    const bad = names.filter((name) => name.startsWith('bad-'));
    expect(bad.sort()).to.deep.equal(Object.keys(REFUSALS).sort());
  });

  for (const [name, code] of Object.entries(REFUSALS)) {
    const bytes = readFileSync(new URL(name, GOLDEN));
    for (const chunkBytes of [1_000_000, 7, 1]) {
      it(`${name} is refused with ${code} from a stream in chunks of ${chunkBytes}`, async () => {
        await refusal(code, () => readAll(chunked(bytes, chunkBytes), DISK_BYTES));
      });
    }

    it(`${name} is refused with ${code} by the index`, async () => {
      const error = await refusal(code, () => indexAll(bytes, DISK_BYTES));
      expect(error.exitCode).to.equal(15);
      expect(error.context).to.have.property('position');
    });
  }

  for (const name of names.filter((each) => each.startsWith('good-'))) {
    it(`${name} reads the same whole, in pieces, byte by byte and through the index`, async () => {
      const bytes = readFileSync(new URL(name, GOLDEN));
      const whole = await readAll(chunked(bytes, 1_000_000), DISK_BYTES);
      expect(await readAll(chunked(bytes, 13), DISK_BYTES)).to.deep.equal(whole);
      expect(await readAll(chunked(bytes, 1), DISK_BYTES)).to.deep.equal(whole);
      const overlay = (blocks: Iterable<Block>): Buffer => {
        const disk = Buffer.alloc(DISK_BYTES);
        for (const { offset, data } of blocks) disk.set(data, offset);
        return disk;
      };
      const indexed = (await indexAll(bytes, DISK_BYTES)).map((block) => ({
        offset: block.offset,
        data: bytes.subarray(block.dataPosition, block.dataPosition + block.lengthBytes),
      }));
      expect(overlay(indexed).equals(overlay(whole))).to.equal(true);
    });
  }
});

describe('PCBT reader', () => {
  it('names the byte of the file at which a rule is broken', async () => {
    const bytes = pcbtBytes([
      { offset: 4096, data: pattern(10, 1) },
      { offset: 4000, data: pattern(10, 1) },
    ]);
    const error = await refusal('E_PCBT_ORDER', () => readAll(chunked(bytes, 100)));
    expect(error.context['position']).to.equal(16 + 16 + 10);
  });

  it('a wrong first byte is a wrong magic even when the file has no more', async () => {
    await refusal('E_PCBT_MAGIC', () => readAll(chunked(Buffer.from('X'), 1)));
    await refusal('E_PCBT_TRUNCATED', () => readAll(chunked(Buffer.from('PC'), 1)));
    await refusal('E_PCBT_TRUNCATED', () => readAll(chunked(Buffer.alloc(0), 1)));
  });

  it('offsets and lengths are 64-bit numbers and do not wrap', async () => {
    const data = pattern(1, 1);
    for (const [offset, length] of [
      [2n ** 64n - 1n, 1n],
      [2n ** 63n, 2n ** 63n],
      [2n ** 53n, 1n],
      [0n, 2n ** 64n - 1n],
      [64n * 2n ** 40n, 1n],
    ] as const) {
      const bytes = pcbtBytes([{ offset, length, data }]);
      await refusal('E_PCBT_BEYOND_DISK', () => readAll(chunked(bytes, 50)));
      await refusal('E_PCBT_BEYOND_DISK', () => indexAll(bytes));
    }
  });

  it('a block may end exactly at the end of the disk', async () => {
    const bytes = pcbtBytes([{ offset: 990, data: pattern(10, 1) }]);
    expect(await readAll(chunked(bytes, 100), 1000)).to.have.length(1);
    await refusal('E_PCBT_BEYOND_DISK', () => readAll(chunked(bytes, 100), 999));
  });

  it('a long block arrives in pieces of at most 1 MiB', async () => {
    const data = pattern(3 * PIECE_BYTES + 5, 1);
    const bytes = pcbtBytes([{ offset: 1, data }]);
    const blocks = await readAll(chunked(bytes, bytes.length));
    expect(blocks[0]?.data.equals(data)).to.equal(true);
  });

  it('an announced block count costs nothing', async () => {
    const bytes = pcbtBytes([], { count: 2 ** 32 - 1 });
    const before = process.memoryUsage().arrayBuffers;
    await refusal('E_PCBT_TRUNCATED', () => readAll(chunked(bytes, 100)));
    await refusal('E_PCBT_TRUNCATED', () => indexAll(bytes));
    expect(process.memoryUsage().arrayBuffers - before).to.be.below(4 * 1024 * 1024);
  });

  it('releases the producer when it stops early', async () => {
    let isReleased = false;
    const producer = async function* (): AsyncGenerator<Uint8Array> {
      try {
        yield* chunked(pcbtBytes([{ offset: 0, data: pattern(100, 1) }]), 10);
      } finally {
        isReleased = true;
      }
    };
    const reader = await PcbtReader.open(producer());
    for await (const piece of reader.pieces()) {
      expect(piece.offset).to.equal(0);
      break;
    }
    expect(isReleased).to.equal(true);
  });
});

describe('PCBT index', () => {
  it('reads headers only: a long block costs one small read', async () => {
    const file = await asFile(
      pcbtBytes([
        { offset: 0, data: pattern(1_000_000, 1) },
        { offset: 2_000_000, data: pattern(1_000_000, 2) },
      ]),
    );
    let readBytes = 0;
    const counted = {
      ...file,
      path: file.path,
      size: () => file.size(),
      read: async (position: number, target: Uint8Array) => {
        const got = await file.read(position, target);
        readBytes += got;
        return got;
      },
      write: () => Promise.reject(new Error('read only')),
      truncate: () => Promise.reject(new Error('read only')),
      flush: () => Promise.resolve(),
      nextData: (position: number) => file.nextData(position),
      close: () => file.close(),
    };
    let count = 0;
    for await (const block of indexPcbt(counted)) count += block.lengthBytes;
    expect(count).to.equal(2_000_000);
    expect(readBytes).to.be.below(16 * 1024);
  });

  it('many short blocks are read in large windows', async () => {
    const blocks = Array.from({ length: 5000 }, (_, i) => ({
      offset: i * 3,
      data: pattern(1 + (i % 2), i),
    }));
    expect(await indexAll(pcbtBytes(blocks))).to.have.length(5000);
  });
});

describe('PCBT writer', () => {
  const options = { diskSizeBytes: 10_000_000 };

  it('writes what an independent reading of the format gives back', async () => {
    const disk = pattern(10_000_000, 5);
    const ranges = [
      { offset: 1, lengthBytes: 1 },
      { offset: 2, lengthBytes: 3_000_000 },
      { offset: 9_999_999, lengthBytes: 1 },
    ];
    const plan = planPcbt(ranges, options);
    const bytes = await collect(
      encodePcbt(plan, options, async (offset, target) => {
        await Promise.resolve();
        disk.copy(target, 0, offset);
      }),
    );
    const expected = pcbtBytes(
      ranges.map(({ offset, lengthBytes }) => ({
        offset,
        data: disk.subarray(offset, offset + lengthBytes),
      })),
    );
    expect(bytes.equals(expected)).to.equal(true);
    expect(plan.fileBytes).to.equal(bytes.length);
  });

  it('refuses to announce ranges that a reader would refuse', () => {
    const bad = [
      [{ offset: 0, lengthBytes: 0 }],
      [{ offset: 0, lengthBytes: 10_000_001 }],
      [
        { offset: 10, lengthBytes: 10 },
        { offset: 19, lengthBytes: 10 },
      ],
      [{ offset: -1, lengthBytes: 10 }],
      [{ offset: 0.5, lengthBytes: 10 }],
    ];
    for (const ranges of bad) {
      expect(() => planPcbt(ranges, options)).to.throw('broken invariant');
    }
  });

  it('stops when the ranges are others the second time', async () => {
    let turn = 0;
    const ranges = {
      *[Symbol.iterator]() {
        yield { offset: 0, lengthBytes: 10 };
        if (turn++ > 0) yield { offset: 20, lengthBytes: 10 };
      },
    };
    const plan = planPcbt(ranges, options);
    let caught: unknown;
    try {
      await collect(encodePcbt(plan, options, () => Promise.resolve()));
    } catch (error) {
      caught = error;
    }
    expect(String(caught)).to.contain('broken invariant');
  });
});
