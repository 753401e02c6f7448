// Random sequences of writes, zeros, flushes, reopens, new children and merges against a naive
// model, on the geometries where mistakes hide: several chunks (above 4 GiB), sizes that are no
// multiple of the block, both sector sizes, children with other blocks than their parent.

import { expect } from 'chai';
import fc from 'fast-check';
import type { VhdxDisk } from '../../shared/vhdx/index.js';
import { checkVhdx, createVhdx, mergeVhdx, openVhdx } from '../../shared/vhdx/index.js';
import { MemoryFileSystem } from '../support/memory-file.js';
import { SeededRandom } from '../support/seeded-random.js';
import { WindowModel } from '../support/window-model.js';

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;
const RUNS = process.env['SLOW'] === '1' ? 400 : 25;
const SLOW_TIMEOUT = 600_000;
const WINDOW_BYTES = 3 * MIB + 512 * 3;

interface Configuration {
  readonly name: string;
  readonly type: 'fixed' | 'dynamic';
  readonly sizeBytes: number;
  readonly blockSizeBytes: number;
  readonly childBlockBytes: number;
  readonly logicalSectorBytes: 512 | 4096;
  readonly centers: readonly number[];
}

const CONFIGURATIONS: readonly Configuration[] = [
  {
    name: 'dynamic, 1 MiB blocks, across 4 GiB, odd size',
    type: 'dynamic',
    sizeBytes: 4 * GIB + 5 * MIB + 512 * 7,
    blockSizeBytes: MIB,
    childBlockBytes: 2 * MIB,
    logicalSectorBytes: 512,
    centers: [0, 4 * GIB - MIB, 5 * GIB],
  },
  {
    name: 'dynamic, 32 MiB blocks, children of 1 MiB',
    type: 'dynamic',
    sizeBytes: 100 * MIB + 512,
    blockSizeBytes: 32 * MIB,
    childBlockBytes: MIB,
    logicalSectorBytes: 512,
    centers: [0, 32 * MIB, 100 * MIB],
  },
  {
    name: 'dynamic, 4096-byte sectors, across 32 GiB',
    type: 'dynamic',
    sizeBytes: 32 * GIB + 3 * MIB + 4096,
    blockSizeBytes: 2 * MIB,
    childBlockBytes: 2 * MIB,
    logicalSectorBytes: 4096,
    centers: [0, 32 * GIB - 4096, 33 * GIB],
  },
  {
    name: 'fixed, 2 MiB blocks',
    type: 'fixed',
    sizeBytes: 9 * MIB + 512 * 5,
    blockSizeBytes: 2 * MIB,
    childBlockBytes: 2 * MIB,
    logicalSectorBytes: 512,
    centers: [0, 9 * MIB],
  },
];

type Operation =
  | { kind: 'write' | 'zero'; window: number; at: number; length: number; fill: number }
  | { kind: 'flush' | 'reopen' | 'child' | 'merge' };

const operation: fc.Arbitrary<Operation> = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      kind: fc.constantFrom<'write' | 'zero'>('write', 'write', 'zero'),
      window: fc.nat(10),
      at: fc.nat(WINDOW_BYTES),
      length: fc.oneof(fc.nat(5000), fc.nat(WINDOW_BYTES), fc.constant(MIB), fc.constant(65536)),
      fill: fc.integer({ min: 1, max: 255 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constantFrom<'flush' | 'reopen' | 'child' | 'merge'>(
        'flush',
        'reopen',
        'child',
        'merge',
      ),
    }),
  },
);

class Run {
  readonly fs = new MemoryFileSystem();
  readonly random = new SeededRandom(1);
  readonly configuration: Configuration;
  readonly model: WindowModel;
  /** Base first, topmost last. */
  readonly names: string[] = ['/disks/base.vhdx'];
  #disk: VhdxDisk | undefined;
  #created = 0;

  constructor(configuration: Configuration) {
    this.configuration = configuration;
    this.model = new WindowModel(configuration.sizeBytes, configuration.centers, WINDOW_BYTES);
  }

  get top(): string {
    return this.names.at(-1) ?? '';
  }

  async start(): Promise<void> {
    await this.fs.makeFolder('/disks');
    const { type, sizeBytes, blockSizeBytes, logicalSectorBytes } = this.configuration;
    await createVhdx(this.top, { type, sizeBytes, blockSizeBytes, logicalSectorBytes }, this.seams);
    await this.open();
  }

  async open(): Promise<void> {
    this.#disk = await openVhdx(this.top, { ...this.seams, isWritable: true });
  }

  get seams(): { fs: MemoryFileSystem; random: SeededRandom } {
    return { fs: this.fs, random: this.random };
  }

  get disk(): VhdxDisk {
    if (this.#disk === undefined) throw new Error('the disk is open');
    return this.#disk;
  }

  async apply(step: Operation): Promise<void> {
    switch (step.kind) {
      case 'write': {
        const { start, end } = this.model.range(step.window, step.at, step.length);
        const bytes = Buffer.alloc(end - start, step.fill);
        this.model.fill(start, end, bytes);
        await this.disk.write(start, bytes);
        return;
      }
      case 'zero': {
        const { start, end } = this.model.range(step.window, step.at, step.length);
        this.model.fill(start, end, 0);
        await this.disk.zero(start, end - start);
        return;
      }
      case 'flush':
        return this.disk.flush();
      case 'reopen':
        await this.disk.close();
        return this.open();
      case 'child': {
        if (this.names.length >= 5) return;
        await this.disk.close();
        const parentPath = this.top;
        const child = `/disks/child-${++this.#created}.avhdx`;
        const blockSizeBytes = this.configuration.childBlockBytes;
        await createVhdx(child, { type: 'differencing', parentPath, blockSizeBytes }, this.seams);
        this.names.push(child);
        return this.open();
      }
      case 'merge': {
        if (this.names.length < 2) return;
        await this.disk.close();
        await mergeVhdx(this.top, this.seams);
        // The merged disk stands under the child's name.
        this.names.splice(-2, 1);
        return this.open();
      }
    }
  }

  async verify(): Promise<void> {
    await this.model.expectEqual(this.disk, 'open for writing');
    await this.disk.close();
    const { violations, warnings } = await checkVhdx(this.top, this.seams);
    expect(violations).to.deep.equal([]);
    expect(warnings).to.deep.equal([]);
    const again = await openVhdx(this.top, this.seams);
    await this.model.expectEqual(again, 'reopened');
    await again.close();
  }
}

describe('VHDX against a naive model', function () {
  this.timeout(SLOW_TIMEOUT);
  for (const configuration of CONFIGURATIONS) {
    it(`${configuration.name}: any sequence of operations reads back exactly`, async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(operation, { minLength: 1, maxLength: 25 }), async (steps) => {
          const run = new Run(configuration);
          await run.start();
          for (const step of steps) await run.apply(step);
          await run.verify();
        }),
        { numRuns: RUNS },
      );
    });
  }

  it('many writes at once end as the same writes one by one', async () => {
    const configuration = CONFIGURATIONS[0];
    if (configuration === undefined) throw new Error('there is a first configuration');
    const run = new Run(configuration);
    await run.start();
    await run.apply({ kind: 'child' });
    const random = new SeededRandom(7);
    for (let round = 0; round < 6; round++) {
      const writes: Promise<void>[] = [];
      // Disjoint ranges of 24 KiB, neighbours in the same blocks, in random order.
      const slots = Array.from({ length: 100 }, (_, i) => i).sort(() => random.int(3) - 1);
      for (const slot of slots) {
        const window = run.model.windows[slot % 3];
        if (window === undefined) throw new Error('there are three windows');
        const start = window.start + Math.floor(slot / 3) * 24576 + round * 512 * 9;
        const bytes = Buffer.alloc(20000 + round * 512, slot + round + 1);
        run.model.fill(start, start + bytes.length, bytes);
        writes.push(run.disk.write(start, bytes));
        if (slot % 13 === 0) writes.push(run.disk.flush());
      }
      await Promise.all(writes);
    }
    await run.verify();
  });

  it('two writes into one block that is not there yet do not lose each other', async () => {
    for (const second of [MIB + 8192, 100_000]) {
      const fs = new MemoryFileSystem();
      const seams = { fs, random: new SeededRandom(2) };
      await fs.makeFolder('/disks');
      await createVhdx(
        '/disks/a.vhdx',
        { type: 'dynamic', sizeBytes: 8 * MIB, blockSizeBytes: 2 * MIB },
        seams,
      );
      const disk = await openVhdx('/disks/a.vhdx', { ...seams, isWritable: true });
      const model = Buffer.alloc(8 * MIB);
      model.fill(1, 0, 65536).fill(2, second, second + 4096);
      await Promise.all([
        disk.write(0, model.subarray(0, 65536)),
        disk.write(second, model.subarray(second, second + 4096)),
      ]);
      await disk.close();
      const again = await openVhdx('/disks/a.vhdx', seams);
      const bytes = Buffer.alloc(8 * MIB);
      await again.read(0, bytes);
      await again.close();
      expect(bytes.equals(model)).to.equal(true);
    }
  });
});
