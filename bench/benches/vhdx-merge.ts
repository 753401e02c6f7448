// Merging a child into its parent, the way a checkpoint ends. A third contender does the same on a
// chain of 1 TiB with the same data, to show that the cost follows the data. What the file system
// needs to free the child's extents is left out for all: on a volume that discards each freed extent
// it is a multiple of the merge, and says nothing about either program.

import { link, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type Bench, type Contender, GIB, MIB, speedGoal, speedRatio } from '../bench.js';
import { CELL_BYTES, scatteredCells, writeDelta, writeRandomFile, writeRuns } from '../data.js';
import { perform } from '../measure.js';
import { copy, expectSameFile, expectSameGuestBytes, qemuImg, sync } from '../peers.js';
import { removeFile } from './files.js';

const DATA_BYTES = 4 * GIB;
const CHANGED_BYTES = 256 * MIB;
const OURS = 'hvdr vhdx merge, 4 GiB disk';
const OURS_LARGE = 'hvdr vhdx merge, 1 TiB disk';
const PEER = 'qemu-img commit + sync';

export const vhdxMerge: Bench = {
  name: 'vhdx-merge',
  question:
    'A differencing child with 256 MiB of scattered 64 KiB cells is merged into its parent, durable; qemu-img commits a qcow2 overlay with the same cells into a raw base.',
  spaceBytes: 28 * GIB,
  programs: ['qemu-img'],
  async prepare({ folder, product }) {
    const at = (file: string): string => join(folder, file);
    const cells = scatteredCells(CHANGED_BYTES / CELL_BYTES, DATA_BYTES / CELL_BYTES, 'vhdx-merge');
    const delta = at('child.cbt');
    writeDelta(delta, cells, 'vhdx-merge child');
    const base = at('base.raw');
    writeRandomFile(base, DATA_BYTES, 'vhdx-merge');

    const chain = async (name: string, sizeBytes: number): Promise<Contender> => {
      const parent = at(join(name, 'parent.vhdx'));
      const child = at(join(name, 'child.vhdx'));
      // in a folder of their own, or merge would find a second child of the same parent
      const kept = {
        parent: at(join(name, 'kept', 'parent.vhdx')),
        child: at(join(name, 'kept', 'child.vhdx')),
        // a second name, so that the merge does not wait for the file system to free the child
        name: at(join(name, 'kept', 'name.vhdx')),
      };
      await mkdir(at(join(name, 'kept')), { recursive: true });
      if (sizeBytes === DATA_BYTES) {
        await perform(product.hvdr('vhdx', 'convert', base, parent));
      } else {
        // the same bytes at the beginning of a larger disk
        const whole = at('whole.cbt');
        const runs = Array.from({ length: DATA_BYTES / GIB }, (_, index) => ({
          offset: index * GIB,
          lengthBytes: GIB,
        }));
        writeDelta(whole, runs, 'vhdx-merge');
        await perform(
          product.hvdr('vhdx', 'create', parent, '--size', String(sizeBytes), '--type', 'dynamic'),
        );
        await perform(product.hvdr('pcbt', 'apply', parent, whole));
        await removeFile(whole);
      }
      await perform(
        product.hvdr('vhdx', 'create', child, '--type', 'differencing', '--parent', parent),
      );
      await perform(product.hvdr('pcbt', 'apply', child, delta));
      await perform(copy(parent, kept.parent));
      await perform(copy(child, kept.child));
      return {
        name: sizeBytes === DATA_BYTES ? OURS : OURS_LARGE,
        role: 'ours',
        payloadBytes: CHANGED_BYTES,
        inputs: [parent, child],
        async prepare() {
          await removeFile(parent, child, kept.name);
          await perform(copy(kept.parent, parent));
          await perform(copy(kept.child, child));
          await link(child, kept.name);
        },
        commands: () => [product.hvdr('vhdx', 'merge', child)],
        ...(sizeBytes === DATA_BYTES && {
          verify: () => expectSameGuestBytes(expected, 'raw', child, 'vhdx'),
        }),
      };
    };

    const expected = at('expected.raw');
    await perform(copy(base, expected));
    writeRuns(expected, cells, 'vhdx-merge child');
    const small = await chain('small', DATA_BYTES);
    const large = await chain('large', 1024 * GIB);

    const overlay = at('overlay.qcow2');
    await perform(qemuImg('create', '-q', '-f', 'qcow2', '-b', expected, '-F', 'raw', overlay));
    // a safe rebase stores exactly the clusters in which the two backing files differ
    await perform(qemuImg('rebase', '-b', base, '-F', 'raw', overlay));
    return {
      settings: {
        data: '4 GiB in the parent',
        cells: `${CHANGED_BYTES / CELL_BYTES} of 64 KiB, scattered`,
      },
      contenders: [
        small,
        large,
        {
          name: PEER,
          role: 'peer',
          payloadBytes: CHANGED_BYTES,
          inputs: [overlay, base],
          // -d leaves the overlay as it is
          commands: () => [qemuImg('commit', '-q', '-d', '-f', 'qcow2', overlay), sync(base)],
          async verify() {
            await expectSameFile(expected, base);
          },
        },
      ],
      goals: [
        speedGoal(OURS, PEER, 1),
        {
          text: 'time of the 1 TiB chain against the 4 GiB chain',
          unit: 'x',
          bound: 'at most',
          value: 1.2,
          figure: (medianOf) => speedRatio(medianOf, OURS, OURS_LARGE),
        },
      ],
    };
  },
};
