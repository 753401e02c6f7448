// Sequential write: a raw file of random data becomes a new dynamic VHDX.

import { join } from 'node:path';
import { type Bench, GIB, speedGoal } from '../bench.js';
import { writeRandomFile } from '../data.js';
import { expectSameGuestBytes, qemuConvert, sync } from '../peers.js';
import { removeFile } from './files.js';

const DISK_BYTES = GIB;
const OURS = 'hvdr vhdx convert';
const PEER = 'qemu-img convert + sync';

export const vhdxWrite: Bench = {
  name: 'vhdx-write',
  question: '1 GiB of random data in a raw file becomes a new dynamic VHDX, durable.',
  spaceBytes: 4 * GIB,
  programs: ['qemu-img'],
  async prepare({ folder, product }) {
    const source = join(folder, 'source.raw');
    const ours = join(folder, 'ours.vhdx');
    const theirs = join(folder, 'theirs.vhdx');
    writeRandomFile(source, DISK_BYTES, 'vhdx-write');
    return Promise.resolve({
      settings: { disk: '1 GiB', blocks: "each program's default" },
      contenders: [
        {
          name: OURS,
          role: 'ours',
          payloadBytes: DISK_BYTES,
          inputs: [source],
          prepare: () => removeFile(ours),
          commands: () => [product.hvdr('vhdx', 'convert', source, ours)],
          verify: () => expectSameGuestBytes(source, 'raw', ours, 'vhdx'),
        },
        {
          name: PEER,
          role: 'peer',
          payloadBytes: DISK_BYTES,
          inputs: [source],
          prepare: () => removeFile(theirs),
          commands: () => [qemuConvert(source, 'raw', theirs, 'vhdx'), sync(theirs)],
          verify: () => expectSameGuestBytes(source, 'raw', theirs, 'vhdx'),
        },
      ],
      goals: [speedGoal(OURS, PEER, 1)],
    });
  },
};
