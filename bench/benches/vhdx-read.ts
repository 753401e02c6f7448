// Sequential read: a dynamic VHDX full of random data becomes a raw file.

import { join } from 'node:path';
import { type Bench, GIB, speedGoal } from '../bench.js';
import { writeRandomFile } from '../data.js';
import { perform } from '../measure.js';
import { expectSameFile, qemuConvert, sync } from '../peers.js';
import { removeFile } from './files.js';

const DISK_BYTES = GIB;
const OURS = 'hvdr vhdx convert';
const PEER = 'qemu-img convert + sync';

export const vhdxRead: Bench = {
  name: 'vhdx-read',
  question: '1 GiB of random data in a dynamic VHDX becomes a raw file, durable.',
  spaceBytes: 5 * GIB,
  programs: ['qemu-img'],
  async prepare({ folder, product }) {
    const original = join(folder, 'original.raw');
    const source = join(folder, 'source.vhdx');
    const ours = join(folder, 'ours.raw');
    const theirs = join(folder, 'theirs.raw');
    writeRandomFile(original, DISK_BYTES, 'vhdx-read');
    await perform(product.hvdr('vhdx', 'convert', original, source));
    return {
      settings: { disk: '1 GiB', file: 'made by hvdr, default block size' },
      contenders: [
        {
          name: OURS,
          role: 'ours',
          payloadBytes: DISK_BYTES,
          inputs: [source],
          prepare: () => removeFile(ours),
          commands: () => [product.hvdr('vhdx', 'convert', source, ours)],
          verify: () => expectSameFile(original, ours),
        },
        {
          name: PEER,
          role: 'peer',
          payloadBytes: DISK_BYTES,
          inputs: [source],
          prepare: () => removeFile(theirs),
          commands: () => [qemuConvert(source, 'vhdx', theirs, 'raw'), sync(theirs)],
          verify: () => expectSameFile(original, theirs),
        },
      ],
      goals: [speedGoal(OURS, PEER, 1)],
    };
  },
};
