// A file daemon that reads slowly, or not at all, while the real backend process backs a disk up: the
// process waits with it, holds little, and a cancel ends it all the same.

import { once } from 'node:events';
import {
  closeSync,
  ftruncateSync,
  openSync,
  readFileSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { systemClock, systemRandom } from '../../shared/clock.js';
import { nodeFileSystem } from '../../shared/files/index.js';
import { Lab } from '../../shared/hypervisor/lab/index.js';
import { type BackendProcess, startBackend } from '../support/backend-process.js';
import { runHvdr } from '../support/cli.js';
import { jobLines, PtcommPeer } from '../support/ptcomm-peer.js';
import { WorkFolder } from '../support/work-folder.js';

const SEAMS = { fs: nodeFileSystem, clock: systemClock, random: systemRandom };
const MIB = 1024 * 1024;
const DISK_BYTES = 1024 * MIB;
/** One MiB of data in each two: the whole disk is sent, and half of it is read from the file. */
const STRIDE_BYTES = 2 * MIB;
const READ_SHARE = MIB / STRIDE_BYTES;
/** Of the process, the runtime included; a heap that grew with the disk would have 1024. */
const RESIDENT_MAX_MIB = 320;
/** Read from the disk and not yet taken by the daemon. */
const AHEAD_MAX_MIB = 64;

function statusMib({ child }: BackendProcess, field: 'VmHWM' | 'VmRSS'): number {
  const text = readFileSync(`/proc/${String(child.pid)}/status`, 'utf8');
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(text)?.[1]) / 1024;
}

function readMib({ child }: BackendProcess): number {
  const text = readFileSync(`/proc/${String(child.pid)}/io`, 'utf8');
  return Number(/^rchar: (\d+)/m.exec(text)?.[1]) / MIB;
}

/** Until the process reads nothing more: it waits for the daemon. What it had read by then, in MiB. */
async function untilItWaits(backend: BackendProcess): Promise<number> {
  let last = -1;
  for (let quiet = 0; quiet < 20;) {
    const now = readMib(backend);
    quiet = now === last ? quiet + 1 : 0;
    last = now;
    await sleep(25);
  }
  return last;
}

describe('a backend whose file daemon does not read', function () {
  this.timeout(240_000);
  let folder: WorkFolder;

  before(async () => {
    folder = new WorkFolder('slow-reader');
    const raw = folder.file('guest.raw');
    const file = openSync(raw, 'w');
    ftruncateSync(file, DISK_BYTES);
    for (let at = 0; at < DISK_BYTES; at += STRIDE_BYTES) {
      writeSync(file, Buffer.alloc(MIB, 1 + (at % 251)), 0, MIB, at);
    }
    closeSync(file);
    const lab = await Lab.create(folder.file('lab'), SEAMS);
    const vm = await lab.createVm({ name: 'SQL01', disks: [{ source: { importFile: raw } }] });
    await lab.startVm(vm);
    await lab.close();
    folder.remove('guest.raw');
    const lines = [`host=lab:${folder.file('lab')}`, `state_dir=${folder.file('state')}`];
    writeFileSync(folder.file('backend.conf'), [...lines, 'modes=backup', ''].join('\n'), {
      mode: 0o600,
    });
  });

  after(() => {
    folder.dispose();
  });

  /** A backup that has begun, and its daemon, whose reads pass `gate`. */
  async function begun(
    name: string,
    gate: (takenMib: number) => Promise<void>,
  ): Promise<{ readonly backend: BackendProcess; readonly peer: PtcommPeer }> {
    const backend = startBackend(folder.file('backend.conf'));
    const { stdin, stdout } = backend.child;
    if (stdin === null || stdout === null) throw new Error('a backend has pipes');
    async function* gated(from: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
      let taken = 0;
      for await (const piece of from) {
        taken += piece.length;
        await gate(taken / MIB);
        yield piece;
      }
    }
    const fromBackend = Readable.from(gated(stdout as AsyncIterable<Buffer>), { highWaterMark: 1 });
    const peer = new PtcommPeer({ toBackend: stdin, fromBackend, forgetsContent: true });
    await peer.begin(jobLines('B', `Name=${name}`, 'Level=F'), ['vm=SQL01', 'quiesce=no']);
    await peer.start('BackupStart');
    return { backend, peer };
  }

  it('waits with it in the middle of a disk, and its memory stays as it is', async () => {
    const ahead: number[] = [];
    const stops = [100, 300, 600];
    const { backend, peer } = await begun('slow.2026-11-26_20.00.00_01', async (takenMib) => {
      if (takenMib < (stops[0] ?? Infinity)) return;
      stops.shift();
      ahead.push((await untilItWaits(backend)) - takenMib * READ_SHARE);
    });
    let bytes = 0;
    for (;;) {
      const item = await peer.takeItem();
      if (item === undefined) break;
      if (item.is === 'file') bytes += item.bytes;
    }
    const highest = statusMib(backend, 'VmHWM');
    await peer.end();
    peer.close();
    await peer.untilEnd();
    expect(await backend.exit).to.deep.equal([0, null]);
    expect(backend.stderr()).to.equal('');
    expect(bytes / MIB).to.be.greaterThan(1000);
    expect(ahead).to.have.length(3);
    for (const each of ahead) expect(each).to.be.lessThan(AHEAD_MAX_MIB);
    expect(highest).to.be.lessThan(RESIDENT_MAX_MIB);
  });

  it('that never reads: a cancel ends it, with its checkpoint given back', async () => {
    let stands: (() => void) | undefined;
    const standing = new Promise<void>((resolve) => {
      stands = resolve;
    });
    let gone: Promise<unknown> = Promise.resolve();
    const { backend, peer } = await begun('stands.2026-11-26_20.30.00_02', async (takenMib) => {
      if (takenMib < 8) return;
      stands?.();
      await gone;
    });
    // its streams are not read to their end before
    gone = once(backend.child, 'exit');
    const taking = peer.takeItems().catch((error: unknown) => String(error));
    await standing;
    await untilItWaits(backend);
    expect(statusMib(backend, 'VmRSS')).to.be.lessThan(RESIDENT_MAX_MIB);
    backend.child.kill('SIGUSR1');
    expect(await gone).to.deep.equal([0, null]);
    await taking;
    expect(backend.stderr()).to.equal('');
    const gc = ['--host', `lab:${folder.file('lab')}`, '--state-dir', folder.file('state')];
    const swept = await runHvdr(['gc', ...gc]);
    expect(swept.stdout.toString().trim()).to.equal('nothing is left over');
  });
});
