// Streaming: a VHDX leaves through a pipe, as it does on its way to Bacula.

import { join } from 'node:path';
import { type Bench, GIB, speedGoal } from '../bench.js';
import { writeRandomFile } from '../data.js';
import { perform } from '../measure.js';
import { cat, expectSameGuestBytes, intoPipe, qemuConvert } from '../peers.js';
import { removeFile } from './files.js';

const DISK_BYTES = GIB;
const OURS = 'hvdr vhdx convert SRC - | cat';
const LIMIT = 'cat SRC | cat';
const PEER = 'qemu-img convert to raw, no sync';

export const vhdxStream: Bench = {
  name: 'vhdx-stream',
  question: '1 GiB of random data in a dynamic VHDX leaves as a VHDX through a pipe.',
  spaceBytes: 5 * GIB,
  programs: ['qemu-img', 'bash'],
  async prepare({ folder, product }) {
    const original = join(folder, 'original.raw');
    const source = join(folder, 'source.vhdx');
    const caught = join(folder, 'caught.vhdx');
    const theirs = join(folder, 'theirs.raw');
    writeRandomFile(original, DISK_BYTES, 'vhdx-stream');
    await perform(product.hvdr('vhdx', 'convert', original, source));
    return {
      settings: { disk: '1 GiB' },
      contenders: [
        {
          name: OURS,
          role: 'ours',
          payloadBytes: DISK_BYTES,
          inputs: [source],
          commands: () => [intoPipe(product.hvdr('vhdx', 'convert', source, '-'))],
          async verify() {
            await perform({ ...product.hvdr('vhdx', 'convert', source, '-'), output: caught });
            await expectSameGuestBytes(original, 'raw', caught, 'vhdx');
            await removeFile(caught);
          },
        },
        {
          name: LIMIT,
          role: 'limit',
          payloadBytes: DISK_BYTES,
          inputs: [source],
          commands: () => [intoPipe(cat(source))],
        },
        {
          name: PEER,
          role: 'peer',
          payloadBytes: DISK_BYTES,
          inputs: [source],
          prepare: () => removeFile(theirs),
          commands: () => [qemuConvert(source, 'vhdx', theirs, 'raw')],
        },
      ],
      goals: [speedGoal(OURS, PEER, 1), speedGoal(OURS, LIMIT, 0.5)],
    };
  },
};
