// The story of the demo: a VM with a real file system is replicated from one lab host to a DR
// receiver, through everything that a working day brings. After every cycle the guest's bytes are
// hashed; at the end each restore point must give exactly these bytes back. demo-years.ts tells what
// the years bring.

import { closeSync, openSync, readSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { CliContext } from './context.js';
import { IMAGE_BYTES, makeImage } from './demo-image.js';
import { DemoReport } from './demo-proof.js';
import {
  DemoSites,
  DR_LAB,
  LAB,
  type PushedVm,
  type Remembered,
  STORE,
  unexpected,
} from './demo-sites.js';
import { primaryLost, thereAndBack } from './demo-failover.js';
import { sizeBelow } from './demo-files.js';
import { manyCycles, rotAndRepair } from './demo-years.js';
import { findProgram } from './find-program.js';
import { formatSize } from '../shared/sizes.js';

const DAY_ONE = 'monday.img';
const DAY_TWO = 'tuesday.img';
const VM = 'SQL01';
const SECOND_DISK = '96M';
const PIECE_BYTES = 64 * 1024;
/** The cycle in which the receiver is killed: large enough, and slow enough, to be hit. */
const ACCIDENT_CELLS = 512;
const ACCIDENT_BANDWIDTH = '8M';

export class DemoStory {
  readonly #context: CliContext;
  readonly #folder: string;
  readonly #report: DemoReport;
  readonly #sites: DemoSites;
  readonly #points: Remembered[] = [];

  constructor(context: CliContext, folder: string) {
    this.#context = context;
    this.#folder = folder;
    this.#report = new DemoReport(context);
    this.#sites = new DemoSites(context, folder, this.#report);
  }

  async run(): Promise<void> {
    const shown = path.relative(this.#context.folder, this.#folder) || '.';
    try {
      await this.#prepare();
      await this.#cycle('the first copy');
      await this.#tuesday();
      await this.#busyHour();
      await this.#accident();
      for (const [index, remembered] of this.#points.entries()) {
        await this.#sites.provePoint(VM, remembered, `point${index + 1}`);
      }
      await this.#askOthers();
      this.#report.requireEqual(shown);
      await this.#lostState();
      await rotAndRepair(this.#sites, VM);
      this.#report.requireEqual(shown);
      await thereAndBack(this.#sites);
      await primaryLost(this.#sites);
      this.#report.requireEqual(shown);
      await manyCycles(this.#sites);
    } finally {
      await this.#sites.stopReceivers();
    }
    const inFolder = shown === '.' ? '' : `cd ${shown} && `;
    const newest = this.#points.at(-1)?.point ?? 'latest';
    this.#report.finish(this.#folder, shown, [
      `${inFolder}hvdr points ${VM} --store ${STORE}`,
      `${inFolder}hvdr export ${VM} --point ${newest} --disk 0 --format vhdx --out disk0.vhdx --store ${STORE}`,
      'hvdr lab --help',
    ]);
  }

  async #prepare(): Promise<void> {
    const shown = path.relative(this.#context.folder, this.#folder) || '.';
    this.#report.say('start', `folder ${shown}`);
    const kind = await makeImage(this.#context, this.#folder, DAY_ONE, 1);
    await makeImage(this.#context, this.#folder, DAY_TWO, 2);
    this.#report.say('made', `a guest disk with ${kind}, ${formatSize(IMAGE_BYTES)}`);
    await this.#sites.makeKeys();
    await this.#sites.hvdr('lab', 'init', LAB);
    await this.#sites.hvdr('lab', 'init', DR_LAB);
    await this.#sites.hvdr(
      ...['lab', 'create-vm', LAB, VM, '--import', DAY_ONE, '--disk', SECOND_DISK],
      ...['--switch', 'LAN', '--ip', '192.0.2.10/24,192.0.2.1', '--memory', '512M'],
    );
    await this.#sites.hvdr('lab', 'start', LAB, VM);
    this.#report.mark('primary', `${VM} runs, two disks`);
    await this.#sites.startReceiver();
  }

  /** The guest's file system becomes that of the second day, block by block. */
  async #tuesday(): Promise<void> {
    let written = 0;
    for (const { offset, bytes } of differentPieces(
      path.join(this.#folder, DAY_ONE),
      path.join(this.#folder, DAY_TWO),
    )) {
      writeFileSync(path.join(this.#folder, 'piece'), bytes);
      await this.#sites.quiet(
        ...['lab', 'write', LAB, VM, '--disk', '0'],
        ...['--offset', String(offset), '--file', 'piece'],
      );
      written += bytes.length;
    }
    this.#report.say('guest', `files change on disk 0: ${formatSize(written)} written`);
    this.#report.mark('primary', `guest writes ${formatSize(written)}`);
    await this.#cycle("Tuesday's files");
  }

  async #busyHour(): Promise<void> {
    await this.#sites.hvdr(
      ...['lab', 'write', LAB, VM, '--disk', '1'],
      ...['--random', '64', '--block', '64K', '--seed', '7'],
    );
    await this.#sites.hvdr('lab', 'write', LAB, VM, '--disk', '1', '--zero', '0,1M');
    this.#report.mark('primary', 'guest writes 4 MiB, zeroes 1 MiB');
    await this.#cycle('scattered writes and zeros');
  }

  /** kill -9 of the receiver in the middle of a cycle; the agent waits and goes on. */
  async #accident(): Promise<void> {
    await this.#sites.hvdr(
      ...['lab', 'write', LAB, VM, '--disk', '1'],
      ...['--random', String(ACCIDENT_CELLS), '--block', '64K', '--seed', '8'],
    );
    this.#report.mark('primary', 'guest writes 32 MiB');
    const hashes = await this.#sites.guestHashes(VM, 2);
    const push = this.#sites.push(VM, '--bandwidth', ACCIDENT_BANDWIDTH);
    push.catch(() => undefined); // awaited below
    const staged = await this.#stagedBytes(12 * 1024 * 1024);
    await this.#sites.stopReceiver('SIGKILL');
    this.#report.say('accident', `kill -9 of the receiver with ${formatSize(staged)} received`);
    this.#report.mark('dr', 'kill -9 in mid-cycle');
    await this.#sites.startReceiver();
    const pushed = await push;
    this.#report.say(
      'resumed',
      `the same cycle went on: ${formatSize(pushed.bytesSent)} sent, of these ${formatSize(pushed.bytesResent)} for the second time`,
    );
    this.#remember('the cycle that survived the kill', pushed, hashes);
  }

  /** The source forgets what it knew: nothing is guessed, and only what differs travels. */
  async #lostState(): Promise<void> {
    await this.#sites.quiet(
      ...['lab', 'write', LAB, VM, '--disk', '1'],
      ...['--random', '8', '--block', '64K', '--seed', '9'],
    );
    this.#report.say('accident', 'the state folder of the source is lost');
    this.#report.mark('primary', 'state lost; guest writes 512 KiB');
    const hashes = await this.#sites.guestHashes(VM, 2);
    const pushed = await this.#sites.push(VM, '--state-dir', 'new-state');
    this.#report.judge({
      what: `the sides compared hashes, and ${formatSize(pushed.bytesSent)} travelled`,
      command: `hvdr points ${VM} --store ${STORE}`,
      isEqual: pushed.kind === 'resync' && pushed.bytesSent < 2 * 1024 * 1024,
    });
    this.#remember('after the loss', pushed, hashes);
    const newest = this.#points.at(-1);
    if (newest !== undefined)
      await this.#sites.provePoint(VM, newest, `point${this.#points.length}`);
  }

  async #cycle(label: string): Promise<void> {
    const hashes = await this.#sites.guestHashes(VM, 2);
    this.#remember(label, await this.#sites.push(VM), hashes);
  }

  #remember(label: string, { point }: PushedVm, hashes: readonly string[]): void {
    const title = `point ${this.#points.length + 1} (${label})`;
    this.#points.push({ point, title, hashes });
  }

  /** Waits until the unfinished cycle has so many bytes on disk at the DR site. */
  async #stagedBytes(enough: number): Promise<number> {
    const { clock, files } = this.#context;
    const deadline = clock.monotonic() + 30_000;
    const vms = path.join(this.#folder, STORE, 'vms');
    const before = await sizeBelow(files, vms);
    for (;;) {
      const grown = (await sizeBelow(files, vms)) - before;
      if (grown >= enough) return grown;
      if (clock.monotonic() > deadline) throw unexpected('the cycle under way');
      await clock.sleep(20);
    }
  }

  /** The same answers from programs that share no code with us, where they are installed. */
  async #askOthers(): Promise<void> {
    const tuesday = 'point2-disk0.raw';
    const isTuesday =
      (await this.#sites.hashFile(tuesday)) === (await this.#sites.hashFile(DAY_TWO));
    this.#report.judge({
      what: 'point 2, disk 0 is the image of the second day',
      command: `cmp ${tuesday} ${DAY_TWO}`,
      isEqual: isTuesday,
    });
    const qemu = findProgram(this.#context, 'qemu-img');
    if (qemu === undefined) {
      this.#report.say('left out', 'qemu-img is not installed (qemu-utils), so it was not asked');
    } else {
      const vhdx = 'point2-disk0.vhdx';
      await this.#sites.quiet(
        ...['export', VM, '--point', this.#points[1]?.point ?? '', '--disk', '0'],
        ...['--format', 'vhdx', '--out', vhdx, ...this.#sites.operator()],
      );
      const args = ['compare', '-f', 'raw', '-F', 'vhdx', DAY_TWO, vhdx];
      await this.#sites.foreign('qemu-img agrees', qemu, args);
    }
    const fsck = findProgram(this.#context, 'e2fsck');
    if (fsck !== undefined && findProgram(this.#context, 'mke2fs') !== undefined) {
      await this.#sites.foreign('the file system in point 2 is whole', fsck, ['-fn', tuesday]);
    }
  }
}

/** The pieces of `other` that differ from `one`, two files of one length. */
function* differentPieces(
  one: string,
  other: string,
): Generator<{ readonly offset: number; readonly bytes: Buffer }> {
  const [left, right] = [openSync(one, 'r'), openSync(other, 'r')];
  try {
    const { size } = statSync(other);
    for (let offset = 0; offset < size; offset += PIECE_BYTES) {
      const [a, b] = [Buffer.alloc(PIECE_BYTES), Buffer.alloc(PIECE_BYTES)];
      readSync(left, a, 0, PIECE_BYTES, offset);
      const count = readSync(right, b, 0, PIECE_BYTES, offset);
      if (!a.equals(b)) yield { offset, bytes: b.subarray(0, count) };
    }
  } finally {
    closeSync(left);
    closeSync(right);
  }
}
