// The seed: a whole disk goes to the other site for the first time, durable at the end. The peer
// encrypts as well, and checks less: it knows no hashes.

import { join } from 'node:path';
import { type Bench, type Contender, cpuGoal, GIB, speedGoal } from '../bench.js';
import { writeMixedFile, writeRandomFile } from '../data.js';
import { makeEmptyTarget, NBD_PROGRAMS, nbdCopy, serveNbd, writeNbdKey } from '../network-peers.js';
import { copy, expectSameFile, sync } from '../peers.js';
import { Replication } from '../replication.js';
import { removeFile } from './files.js';

const OURS = 'hvdr push, seed';
const PEER = 'nbdcopy over TLS-PSK to nbdkit + sync';
const LIMIT = 'cp + sync, no network';

interface Shape {
  readonly name: string;
  readonly question: string;
  readonly sizeBytes: number;
  readonly data: string;
  readonly cpuMax: number;
  write(path: string, sizeBytes: number, seed: string): void;
}

const fullCopy = (shape: Shape): Bench => ({
  name: shape.name,
  question: shape.question,
  sizeBytes: shape.sizeBytes,
  // the original, the lab's disk, the store, the peer's, the copy, an export, and room to spare
  spaceBytes: 7 * shape.sizeBytes,
  programs: [...NBD_PROGRAMS, 'cmp'],
  async prepare(context) {
    const { folder, sizeBytes } = context;
    const original = join(folder, 'original.raw');
    const keyFile = join(folder, 'nbd.psk');
    const theirs = join(folder, 'theirs.raw');
    const copied = join(folder, 'copied.raw');
    shape.write(original, sizeBytes, shape.name);
    writeNbdKey(keyFile);
    let port = 0;
    const peer: Contender = {
      name: PEER,
      role: 'peer',
      payloadBytes: sizeBytes,
      inputs: [original],
      prepare: () => makeEmptyTarget(theirs, sizeBytes),
      async serve(services) {
        ({ port } = await serveNbd(services, { file: theirs, keyFile }));
      },
      commands: () => [nbdCopy(original, port, keyFile), sync(theirs)],
      verify: () => expectSameFile(original, theirs),
    };
    const limit: Contender = {
      name: LIMIT,
      role: 'limit',
      payloadBytes: sizeBytes,
      inputs: [original],
      prepare: () => removeFile(copied),
      commands: () => [copy(original, copied), sync(copied)],
      verify: () => expectSameFile(original, copied),
    };
    const replication = new Replication(context, 'ours');
    const ours: Contender = {
      name: OURS,
      role: 'ours',
      payloadBytes: sizeBytes,
      async prepare() {
        await replication.makeVm(original);
        await replication.forget();
      },
      async serve(services) {
        await replication.serve(services);
        await replication.readSource();
      },
      commands: () => [replication.push()],
      verify: () => replication.expectReplica(original),
    };
    return Promise.resolve({
      settings: { 'disk MiB': sizeBytes / 2 ** 20, data: shape.data },
      contenders: [ours, peer, limit],
      goals: [speedGoal(OURS, PEER, 1.3), cpuGoal(OURS, PEER, shape.cpuMax)],
    });
  },
});

export const fullRandom: Bench = fullCopy({
  name: 'full-random',
  question: 'A disk of 1 GiB of random data is seeded to the receiver, durable.',
  sizeBytes: GIB,
  data: 'random',
  cpuMax: 0.85,
  write: writeRandomFile,
});

export const fullSparse: Bench = fullCopy({
  name: 'full-sparse',
  question:
    'A disk of 2 GiB, half holes, a quarter random and a quarter compressible, is seeded to the receiver, durable.',
  sizeBytes: 2 * GIB,
  data: 'half holes, a quarter random, a quarter text that compresses two to one',
  cpuMax: 0.8,
  write: writeMixedFile,
});
