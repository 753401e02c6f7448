// The story of the demo: a VM with a real file system is replicated from one lab host to a DR
// receiver, through everything that a working day brings. After every cycle the guest's bytes are
// hashed; at the end each restore point must give exactly these bytes back.

import {
  closeSync,
  createReadStream,
  openSync,
  readSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { DrError } from '../shared/errors.js';
import type { CliContext } from './context.js';
import { IMAGE_BYTES, makeImage } from './demo-image.js';
import { DemoReport } from './demo-proof.js';
import { hashOutput, runHvdr, runHvdrJson, runStep, Service } from './demo-run.js';
import { findProgram } from './find-program.js';
import { formatSize } from './sizes.js';

const DAY_ONE = 'monday.img';
const DAY_TWO = 'tuesday.img';
const LAB = 'primary';
const STORE = 'dr-store';
const STATE = 'agent-state';
const KEYS = 'keys';
const SOURCE_KEY = `${KEYS}/primary.psk`;
const OPERATOR_KEY = `${KEYS}/operator.psk`;
const VM = 'SQL01';
const SECOND_DISK = '96M';
const PIECE_BYTES = 64 * 1024;
/** The cycle in which the receiver is killed: large enough, and slow enough, to be hit. */
const ACCIDENT_CELLS = 512;
const ACCIDENT_BANDWIDTH = '8M';

/** What the guest held at a restore point. */
interface Remembered {
  readonly point: string;
  readonly label: string;
  readonly hashes: readonly string[];
}

interface PushedVm {
  readonly kind: string;
  readonly bytesSent: number;
  readonly point: string;
  readonly bytesResent: number;
}

export class DemoStory {
  readonly #context: CliContext;
  readonly #folder: string;
  readonly #report: DemoReport;
  readonly #points: Remembered[] = [];
  #receiver: Service | undefined;
  #port = 0;

  constructor(context: CliContext, folder: string) {
    this.#context = context;
    this.#folder = folder;
    this.#report = new DemoReport(context);
  }

  async run(): Promise<void> {
    try {
      await this.#prepare();
      await this.#seed();
      await this.#tuesday();
      await this.#busyHour();
      await this.#accident();
      await this.#provePoints();
      await this.#askOthers();
      await this.#rot();
    } finally {
      await this.#receiver?.stop('SIGTERM');
    }
    const shown = path.relative(this.#context.folder, this.#folder) || '.';
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
    await this.#hvdr('psk', 'generate', '--out', SOURCE_KEY, '--principal', 'primary');
    await this.#hvdr(
      ...['psk', 'generate', '--out', OPERATOR_KEY],
      ...['--principal', 'operator', '--role', 'operator'],
    );
    await this.#hvdr('lab', 'init', LAB);
    await this.#hvdr(
      ...['lab', 'create-vm', LAB, VM, '--import', DAY_ONE, '--disk', SECOND_DISK],
      ...['--switch', 'LAN', '--ip', '192.0.2.10/24,192.0.2.1', '--memory', '512M'],
    );
    await this.#hvdr('lab', 'start', LAB, VM);
    this.#report.mark('primary', `${VM} runs, two disks`);
    await this.#startReceiver();
  }

  async #startReceiver(): Promise<void> {
    this.#receiver = await Service.start(
      [
        ...['receiver', '--store', STORE, '--host', `lab:${LAB}`],
        ...['--listen', `127.0.0.1:${this.#port}`, '--psk-file', KEYS],
      ],
      this.#folder,
    );
    this.#port = this.#receiver.port;
    this.#report.say('run', `hvdr receiver --store ${STORE} --listen 127.0.0.1:${this.#port} …`);
    this.#report.mark('dr', 'receiver listens');
  }

  async #seed(): Promise<void> {
    await this.#cycle('the first copy');
  }

  /** The guest's file system becomes that of the second day, block by block. */
  async #tuesday(): Promise<void> {
    let written = 0;
    for (const { offset, bytes } of differentPieces(
      path.join(this.#folder, DAY_ONE),
      path.join(this.#folder, DAY_TWO),
    )) {
      writeFileSync(path.join(this.#folder, 'piece'), bytes);
      await this.#quiet(
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
    await this.#hvdr(
      ...['lab', 'write', LAB, VM, '--disk', '1'],
      ...['--random', '64', '--block', '64K', '--seed', '7'],
    );
    await this.#hvdr('lab', 'write', LAB, VM, '--disk', '1', '--zero', '0,1M');
    this.#report.mark('primary', 'guest writes 4 MiB, zeroes 1 MiB');
    await this.#cycle('scattered writes and zeros');
  }

  /** kill -9 of the receiver in the middle of a cycle; the agent waits and goes on. */
  async #accident(): Promise<void> {
    await this.#hvdr(
      ...['lab', 'write', LAB, VM, '--disk', '1'],
      ...['--random', String(ACCIDENT_CELLS), '--block', '64K', '--seed', '8'],
    );
    this.#report.mark('primary', 'guest writes 32 MiB');
    const hashes = await this.#guestHashes();
    const push = this.#push('--bandwidth', ACCIDENT_BANDWIDTH);
    push.catch(() => undefined); // awaited below
    const staged = await this.#stagedBytes(12 * 1024 * 1024);
    await this.#receiver?.stop('SIGKILL');
    this.#report.say('accident', `kill -9 of the receiver with ${formatSize(staged)} received`);
    this.#report.mark('dr', 'kill -9 in mid-cycle');
    await this.#startReceiver();
    const pushed = await push;
    this.#report.say(
      'resumed',
      `the same cycle went on: ${formatSize(pushed.bytesSent)} sent, of these ${formatSize(pushed.bytesResent)} for the second time`,
    );
    this.#remember('the cycle that survived the kill', pushed, hashes);
  }

  async #cycle(label: string): Promise<void> {
    const hashes = await this.#guestHashes();
    const pushed = await this.#push();
    this.#remember(label, pushed, hashes);
  }

  #remember(label: string, pushed: PushedVm, hashes: readonly string[]): void {
    const { kind, bytesSent, point } = pushed;
    this.#report.say('point', `${point.slice(0, 8)}: ${kind}, ${formatSize(bytesSent)} sent`);
    this.#report.mark('wire', `── ${kind}, ${formatSize(bytesSent)} ──▶`);
    this.#report.mark('dr', `point ${point.slice(0, 8)}`);
    this.#points.push({ point, label, hashes });
  }

  async #push(...more: string[]): Promise<PushedVm> {
    const args = [
      ...['push', '--vm', VM, '--host', `lab:${LAB}`, '--state-dir', STATE],
      ...['--dr-host', '127.0.0.1', '--dr-port', String(this.#port), '--psk-file', SOURCE_KEY],
      ...['--max-restore-points', '10', ...more],
    ];
    this.#report.say('run', `hvdr ${args.join(' ')}`);
    const document = await runHvdrJson(args, { folder: this.#folder, expectedCodes: [0, 3] });
    const vms: unknown = document['vms'];
    const vm: unknown = Array.isArray(vms) ? vms[0] : undefined;
    if (typeof vm !== 'object' || vm === null) throw unexpected('hvdr push');
    const fields = vm as Readonly<Record<string, unknown>>;
    const { kind, bytesSent, point, disks } = fields;
    if (typeof kind !== 'string' || typeof bytesSent !== 'number' || typeof point !== 'string') {
      throw unexpected('hvdr push');
    }
    return { kind, bytesSent, point, bytesResent: repeatedBytes(disks) };
  }

  async #guestHashes(): Promise<string[]> {
    const hashes: string[] = [];
    for (const disk of ['0', '1']) {
      hashes.push(
        await hashOutput((onOutput) =>
          runHvdr(['lab', 'read', LAB, VM, '--disk', disk], { folder: this.#folder, onOutput }),
        ),
      );
    }
    return hashes;
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

  async #provePoints(): Promise<void> {
    for (const [index, { point, label, hashes }] of this.#points.entries()) {
      for (const [disk, expected] of hashes.entries()) {
        const out = `point${index + 1}-disk${disk}.raw`;
        await this.#quiet(
          ...['export', VM, '--point', point, '--disk', String(disk), '--format', 'raw'],
          ...['--out', out, ...this.#operator()],
        );
        const found = await this.#hashFile(out);
        this.#report.judge({
          what: `point ${index + 1} (${label}), disk ${disk} is what the guest had`,
          command: `hvdr export ${VM} --point ${point} --disk ${disk} --format raw --out again.raw --store ${STORE} && sha256sum again.raw ${out} && rm again.raw`,
          sha256: [expected, found],
          isEqual: expected === found,
        });
      }
    }
  }

  #operator(): string[] {
    return [
      ...['--dr-host', '127.0.0.1', '--dr-port', String(this.#port)],
      ...['--psk-file', OPERATOR_KEY],
    ];
  }

  /** The same answers from programs that share no code with us, where they are installed. */
  async #askOthers(): Promise<void> {
    const tuesday = 'point2-disk0.raw';
    const isTuesday = (await this.#hashFile(tuesday)) === (await this.#hashFile(DAY_TWO));
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
      await this.#quiet(
        ...['export', VM, '--point', this.#points[1]?.point ?? '', '--disk', '0'],
        ...['--format', 'vhdx', '--out', vhdx, ...this.#operator()],
      );
      const args = ['compare', '-f', 'raw', '-F', 'vhdx', DAY_TWO, vhdx];
      await this.#foreign('qemu-img agrees', qemu, args);
    }
    const fsck = findProgram(this.#context, 'e2fsck');
    if (fsck !== undefined && findProgram(this.#context, 'mke2fs') !== undefined) {
      await this.#foreign('the file system in point 2 is whole', fsck, ['-fn', tuesday]);
    }
  }

  async #foreign(what: string, program: string, args: readonly string[]): Promise<void> {
    const isEqual = await runStep(program, args, { folder: this.#folder }).then(
      () => true,
      () => false,
    );
    const command = [path.basename(program), ...args].join(' ');
    this.#report.judge({ what, command, isEqual });
  }

  /** One byte of the newest delta changes on the DR site's disk; verify must find it. */
  async #rot(): Promise<void> {
    const cycles = path.join(this.#folder, STORE, 'vms');
    const file = await largestDelta(this.#context.files, cycles);
    flipByte(file);
    this.#report.say('accident', `a byte of ${path.basename(file)} changes in the store`);
    this.#report.mark('dr', 'a byte rots');
    const args = ['verify', VM, '--point', 'all', ...this.#operator()];
    const code = await runHvdr(args, { folder: this.#folder, expectedCodes: [0, 1, 13] });
    this.#report.mark('dr', 'verify finds it');
    this.#report.judge({
      what: 'verify finds the changed byte, and only bad points are refused',
      command: `hvdr verify ${VM} --point all --store ${STORE}; test $? -eq 13`,
      isEqual: code === 13,
    });
  }

  async #hvdr(...args: string[]): Promise<void> {
    this.#report.say('run', `hvdr ${args.join(' ')}`);
    await this.#quiet(...args);
  }

  async #quiet(...args: string[]): Promise<void> {
    await runHvdr(args, { folder: this.#folder });
  }

  #hashFile(name: string): Promise<string> {
    return hashOutput(async (onOutput) => {
      const stream = createReadStream(path.join(this.#folder, name));
      for await (const chunk of stream as AsyncIterable<Buffer>) onOutput(chunk);
    });
  }
}

/** Bytes that a push sent for the second time, over all disks. */
function repeatedBytes(disks: unknown): number {
  if (!Array.isArray(disks)) throw unexpected('hvdr push');
  let sum = 0;
  for (const disk of disks as readonly Readonly<Record<string, unknown>>[]) {
    const { repeatedBytes: bytes } = disk;
    if (typeof bytes !== 'number') throw unexpected('hvdr push');
    sum += bytes;
  }
  return sum;
}

function unexpected(what: string): DrError {
  return new DrError('E_INTERNAL', `${what} did not answer as the demo expects`, {
    done: 'the demo was stopped',
  });
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

type Files = CliContext['files'];

/** Bytes of all files below a folder. Files may come and go meanwhile. */
async function sizeBelow(files: Files, folder: string): Promise<number> {
  let sum = 0;
  for (const file of await filesBelow(files, folder)) {
    sum += (await files.status(file))?.sizeBytes ?? 0;
  }
  return sum;
}

async function filesBelow(files: Files, folder: string): Promise<string[]> {
  const found: string[] = [];
  const names = await files.list(folder).catch(() => []);
  for (const name of names) {
    const place = path.join(folder, name);
    const status = await files.status(place);
    if (status?.kind === 'folder') found.push(...(await filesBelow(files, place)));
    else if (status !== undefined) found.push(place);
  }
  return found;
}

async function largestDelta(files: Files, folder: string): Promise<string> {
  let largest: { readonly place: string; readonly sizeBytes: number } | undefined;
  for (const place of await filesBelow(files, folder)) {
    if (!place.endsWith('.delta')) continue;
    const sizeBytes = (await files.status(place))?.sizeBytes ?? 0;
    if (sizeBytes > (largest?.sizeBytes ?? 0)) largest = { place, sizeBytes };
  }
  if (largest === undefined) throw unexpected('the store');
  return largest.place;
}

function flipByte(file: string): void {
  const position = Math.floor(statSync(file).size / 2);
  const handle = openSync(file, 'r+');
  try {
    const byte = Buffer.alloc(1);
    readSync(handle, byte, 0, 1, position);
    byte.writeUInt8(byte.readUInt8(0) ^ 0x01);
    writeSync(handle, byte, 0, 1, position);
  } finally {
    closeSync(handle);
  }
}
