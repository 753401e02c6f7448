// The delta: 4 % of the cells of a disk have changed. rsync and restic must find them by reading the
// whole disk; the NBD client is told, as we are by the hypervisor.

import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type Bench,
  type BenchContext,
  type Contender,
  GIB,
  type Goal,
  speedGoal,
  speedRatio,
} from '../bench.js';
import type { Command } from '../command.js';
import {
  CELL_BYTES,
  copyRuns,
  type Run,
  scatteredCells,
  writeRandomFile,
  writeRuns,
} from '../data.js';
import { perform } from '../measure.js';
import {
  makeLookOld,
  NBD_PROGRAMS,
  nbdRangesClient,
  rsyncDelta,
  serveNbd,
  serveRsync,
  writeNbdKey,
} from '../network-peers.js';
import { copy, expectSameFile, sync, syncFileSystem } from '../peers.js';
import { Replication } from '../replication.js';
import { Services } from '../services.js';

const CHANGED_SHARE = 0.04;
const OURS = 'hvdr push, delta';
const RSYNC = 'rsync daemon, delta, 64 KiB blocks + sync';
const NBD = 'NBD client given the ranges, TLS-PSK + sync';
const RESTIC = 'restic, second backup, local repository + sync';

interface Change {
  readonly sizeBytes: number;
  readonly runs: readonly Run[];
  readonly changedBytes: number;
}

function changeOf(sizeBytes: number): Change {
  const cellCount = sizeBytes / CELL_BYTES;
  const runs = scatteredCells(Math.floor(cellCount * CHANGED_SHARE), cellCount, 'incremental');
  return { sizeBytes, runs, changedBytes: runs.length * CELL_BYTES };
}

function settingsOf({ sizeBytes, runs }: Change): Record<string, string | number> {
  return {
    'disk MiB': sizeBytes / 2 ** 20,
    changed: `${runs.length} cells of 64 KiB, drawn at random`,
  };
}

/** Each round the guest writes as many cells again, and they are pushed. */
function ours(context: BenchContext, old: string, { runs, changedBytes }: Change): Contender {
  const replication = new Replication(context, 'ours');
  return {
    name: OURS,
    role: 'ours',
    payloadBytes: changedBytes,
    async prepare(round) {
      if (round === 0) {
        await replication.makeVm(old);
        await replication.pushOnce(new Services(context.clock));
      }
      await perform(replication.guestWrites(runs.length, String(round + 1)));
    },
    async serve(services) {
      await replication.serve(services);
      await replication.readSource();
    },
    commands: () => [replication.push()],
    verify: () => replication.expectReplicaOfGuest(),
  };
}

export const incremental: Bench = {
  name: 'incremental-4pct',
  question:
    '4 % of the 64 KiB cells of a disk of 4 GiB have changed and go to the replica, durable.',
  sizeBytes: 4 * GIB,
  // old, new, the peers' replica; the lab's disk and the store; an export and what it is compared with
  spaceBytes: 30 * GIB,
  programs: [...NBD_PROGRAMS, 'rsync', 'python:nbd', 'cmp'],
  async prepare(context) {
    const { folder, sizeBytes } = context;
    const change = changeOf(sizeBytes);
    const { runs, changedBytes } = change;
    const old = join(folder, 'old.raw');
    const now = join(folder, 'new.raw');
    const replica = join(folder, 'replica.raw');
    const keyFile = join(folder, 'nbd.psk');
    writeRandomFile(old, sizeBytes, 'incremental');
    await perform(copy(old, now));
    writeRuns(now, runs, 'incremental change');
    await perform(copy(old, replica));
    writeNbdKey(keyFile);
    const nbdClient = nbdRangesClient({ folder, image: now, runs });
    let port = 0;
    const peer = {
      role: 'peer' as const,
      payloadBytes: changedBytes,
      inputs: [now],
      prepare() {
        copyRuns(old, replica, runs);
        makeLookOld(replica);
        return Promise.resolve();
      },
      verify: () => expectSameFile(now, replica),
    };
    return {
      settings: settingsOf(change),
      contenders: [
        ours(context, old, change),
        {
          ...peer,
          name: NBD,
          async serve(services) {
            ({ port } = await serveNbd(services, { file: replica, keyFile }));
          },
          commands: () => [nbdClient(port, keyFile), sync(replica)],
        },
        {
          ...peer,
          name: RSYNC,
          // it reads its old copy as well
          inputs: [now, replica],
          async serve(services) {
            ({ port } = await serveRsync(services, replica));
          },
          commands: () => [rsyncDelta(now, port, 'replica.raw'), sync(replica)],
        },
      ],
      goals: [speedGoal(OURS, RSYNC, 10), wallGoal(NBD, 1)],
    };
  },
};

function wallGoal(peer: string, value: number): Goal {
  return {
    text: `wall time against ${peer}`,
    unit: 'x',
    bound: 'at most',
    value,
    figure: (medianOf) => speedRatio(medianOf, peer, OURS),
  };
}

export const userAlternative: Bench = {
  name: 'user-alternative',
  question:
    '4 % of the 64 KiB cells of a disk of 4 GiB have changed: pushed, against the second backup by a backup program.',
  sizeBytes: 4 * GIB,
  // old, the image that restic reads and its repository; the lab's disk, the store, two exports
  spaceBytes: 34 * GIB,
  programs: ['restic', 'cmp'],
  rounds: 3,
  async prepare(context) {
    const { folder, sizeBytes } = context;
    const change = changeOf(sizeBytes);
    const { runs, changedBytes } = change;
    const old = join(folder, 'old.raw');
    const image = join(folder, 'image.raw');
    const repository = join(folder, 'repository');
    writeRandomFile(old, sizeBytes, 'incremental');
    await perform(copy(old, image));
    const restic = (...words: string[]): Command => ({
      program: 'restic',
      arguments: ['--quiet', '--repo', repository, ...words],
      environment: { RESTIC_PASSWORD: 'bench', RESTIC_CACHE_DIR: join(folder, 'cache') },
    });
    const restored = join(folder, 'restored');
    return {
      settings: settingsOf(change),
      contenders: [
        ours(context, old, change),
        {
          name: RESTIC,
          role: 'peer',
          payloadBytes: changedBytes,
          inputs: [image],
          async prepare(round) {
            if (round === 0) {
              await perform(restic('init'));
              await perform(restic('backup', image));
            }
            writeRuns(image, runs, `user-alternative ${round}`);
          },
          commands: () => [restic('backup', image), syncFileSystem(repository)],
          async verify() {
            await perform(restic('restore', 'latest', '--target', restored));
            await expectSameFile(image, join(restored, image));
            await rm(restored, { recursive: true });
          },
        },
      ],
      goals: [speedGoal(OURS, RESTIC, 20)],
    };
  },
};
