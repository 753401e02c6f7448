// `hvdr lab write` and `hvdr lab read`: what the guest does with its disks. Long work is cut into
// sessions, so that checkpoints and other processes get their turn in between.

import path from 'node:path';
import type { Command } from 'commander';
import { DrError } from '../shared/errors.js';
import type { BlockFile } from '../shared/files/index.js';
import type { GuestDisk, Lab, VmRecord } from '../shared/hypervisor/lab/index.js';
import { rawChunks } from '../shared/image/index.js';
import type { CliContext } from './context.js';
import { withLabVm } from './lab-open.js';
import { randomWrites, type RandomWrite } from './lab-random.js';
import { startProgress } from './progress.js';
import { formatSize, parseSize } from '../shared/sizes.js';

const MIB = 1024 * 1024;
/** Written with one flush of the marks. */
const BATCH_BYTES = 16 * MIB;
/** Written before others get their turn. */
const SESSION_BYTES = 128 * MIB;
const PAUSE_MS = 25;
const READ_BYTES = 16 * MIB;
const BLOCK_BYTES_MAX = 64 * MIB;
const COUNT_MAX = 1_000_000_000;

interface WriteOptions {
  readonly disk: string;
  readonly offset?: string;
  readonly file?: string;
  readonly random?: string;
  readonly block: string;
  readonly seed: string;
  readonly zero?: string;
}

interface ReadOptions {
  readonly disk: string;
  readonly offset: string;
  readonly length?: string;
  readonly checkpoint?: string;
}

export function registerLabGuest(lab: Command, context: CliContext): void {
  lab
    .command('write')
    .summary('write to a disk as the guest does')
    .description(
      'Writes to a disk of a VM, running or not, as its guest does; durable at the end. One of\n' +
        '--file, --random and --zero says what is written.',
    )
    .argument('<dir>', 'the folder of the lab')
    .argument('<name>', 'name or id of the VM')
    .option('--disk <n>', 'which disk, from 0', '0')
    .option('--offset <offset>', 'with --file: where the bytes go')
    .option('--file <file>', 'write exactly the bytes of this file')
    .option('--random <count>', 'so many writes of --block bytes at scattered places')
    .option('--block <size>', 'with --random: bytes of one write', '64K')
    .option('--seed <seed>', 'with --random: the same seed gives the same places and bytes', '1')
    .option('--zero <offset,length>', 'discard a range: it reads as zeros')
    .addHelpText(
      'after',
      '\nExamples:\n' +
        '  hvdr lab write site-a SQL01 --disk 0 --offset 1M --file page.bin\n' +
        '  hvdr lab write site-a SQL01 --disk 0 --random 1000 --block 64K --seed 7\n' +
        '  hvdr lab write site-a SQL01 --disk 1 --zero 0,512M',
    )
    .action(async (dir: string, name: string, options: WriteOptions) => {
      await withLabVm(context, dir, name, (host, vm) => write(context, host, vm, options));
    });
  lab
    .command('read')
    .summary('write the guest view of a disk to stdout')
    .description('Writes the bytes that the guest sees, or saw at a checkpoint, to stdout.')
    .argument('<dir>', 'the folder of the lab')
    .argument('<name>', 'name or id of the VM')
    .option('--disk <n>', 'which disk, from 0', '0')
    .option('--offset <offset>', 'first byte', '0')
    .option('--length <length>', 'how many bytes (default: up to the end)')
    .option('--checkpoint <checkpoint>', 'name or id of a checkpoint (default: the present)')
    .addHelpText(
      'after',
      '\nExamples:\n' +
        '  hvdr lab read site-a SQL01 --disk 0 > disk.raw\n' +
        '  hvdr lab read site-a SQL01 --disk 0 --offset 1M --length 64K | sha256sum\n' +
        '  hvdr lab read site-a SQL01 --disk 0 --checkpoint before-update > before.raw',
    )
    .action(async (dir: string, name: string, options: ReadOptions) => {
      await withLabVm(context, dir, name, (host, vm) => read(context, host, vm, options));
    });
}

/** A whole number of an option. @throws DrError E_USAGE */
export function parseWhole(text: string, option: string, min: number, max: number): number {
  const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= min && value <= max) return value;
  throw new DrError('E_USAGE', `${option} ${text} is not a whole number from ${min} to ${max}`);
}

function diskIndex(vm: VmRecord, text: string): { index: number; sizeBytes: number } {
  const index = parseWhole(text, '--disk', 0, 1000);
  const disk = vm.disks[index];
  if (disk !== undefined) return { index, sizeBytes: disk.sizeBytes };
  throw new DrError('E_PARAMETER', `the VM ${vm.name} has no disk ${index}`, {
    context: { vmId: vm.id, disk: index, disks: vm.disks.length },
    hint:
      vm.disks.length === 0
        ? 'It has no disk at all.'
        : `--disk takes 0 to ${vm.disks.length - 1} here.`,
  });
}

function refuseBeyond(vm: VmRecord, sizeBytes: number, offset: number, length: number): void {
  if (offset + length <= sizeBytes) return;
  throw new DrError(
    'E_PARAMETER',
    `the range from ${offset}, ${length} bytes long, reaches beyond the disk of the VM ${vm.name}, ` +
      `which has ${sizeBytes} bytes`,
    { context: { vmId: vm.id, sizeBytes, offset, length } },
  );
}

// ---- writing ------------------------------------------------------------------------------------

async function write(
  context: CliContext,
  lab: Lab,
  vm: VmRecord,
  options: WriteOptions,
): Promise<void> {
  const { file, random, zero, offset } = options;
  const forms = [file, random, zero].filter((form) => form !== undefined);
  if (forms.length !== 1) {
    throw new DrError('E_USAGE', 'one of --file, --random and --zero is wanted', {
      hint: '`hvdr lab write --help` shows an example of each.',
    });
  }
  if ((file === undefined) !== (offset === undefined)) {
    throw new DrError('E_USAGE', '--offset goes with --file, and --file with --offset');
  }
  const disk = diskIndex(vm, options.disk);
  const done =
    file !== undefined
      ? await writeFile(context, lab, vm, disk, file, parseSize(offset ?? '', '--offset'))
      : random !== undefined
        ? await writeRandom(context, lab, vm, disk, random, options)
        : await writeZero(lab, vm, disk, zero ?? '');
  context.output.result(
    { vm: vm.name, vmId: vm.id, disk: disk.index, ...done },
    () => `${vm.name} disk ${disk.index}: ${done.writes} write(s), ${formatSize(done.bytes)}`,
  );
}

interface Written {
  readonly [name: string]: number;
  readonly writes: number;
  readonly bytes: number;
}

interface DiskChoice {
  readonly index: number;
  readonly sizeBytes: number;
}

async function writeZero(
  lab: Lab,
  vm: VmRecord,
  { index, sizeBytes }: DiskChoice,
  text: string,
): Promise<Written> {
  const [offsetText, lengthText, ...more] = text.split(',');
  if (offsetText === undefined || lengthText === undefined || more.length > 0) {
    throw new DrError('E_USAGE', `--zero ${text} is not OFFSET,LENGTH`, {
      hint: 'For example `--zero 1M,64K`.',
    });
  }
  const offset = parseSize(offsetText, 'the offset of --zero');
  const length = parseSize(lengthText, 'the length of --zero');
  refuseBeyond(vm, sizeBytes, offset, length);
  await lab.guestZero(vm.id, index, offset, length);
  return { writes: 1, bytes: length, offset };
}

async function writeFile(
  context: CliContext,
  lab: Lab,
  vm: VmRecord,
  { index, sizeBytes }: DiskChoice,
  name: string,
  offset: number,
): Promise<Written> {
  const { files: fs, folder } = context;
  const file = await fs.open(path.resolve(folder, name), { mode: 'read', lock: 'none' });
  try {
    const length = await file.size();
    refuseBeyond(vm, sizeBytes, offset, length);
    const bytes = await inSessions(context, lab, vm, index, piecesOf(file, offset, length), length);
    return { writes: 1, bytes, offset };
  } finally {
    await file.close();
  }
}

async function* piecesOf(
  file: BlockFile,
  offset: number,
  length: number,
): AsyncGenerator<RandomWrite> {
  for (let done = 0; done < length; done += MIB) {
    const bytes = Buffer.alloc(Math.min(MIB, length - done));
    const got = await file.read(done, bytes);
    if (got < bytes.length) {
      throw new DrError('E_IO', `${file.path} became shorter while it was read`, {
        done: 'what had been read before was written',
      });
    }
    yield { offset: offset + done, bytes };
  }
}

async function writeRandom(
  context: CliContext,
  lab: Lab,
  vm: VmRecord,
  { index, sizeBytes }: DiskChoice,
  countText: string,
  { block, seed }: WriteOptions,
): Promise<Written> {
  const count = parseWhole(countText, '--random', 1, COUNT_MAX);
  const blockBytes = parseSize(block, '--block', { min: 1, max: BLOCK_BYTES_MAX });
  refuseBeyond(vm, sizeBytes, 0, blockBytes);
  const writes = randomWrites(seed, count, blockBytes, sizeBytes);
  const bytes = await inSessions(context, lab, vm, index, writes, count * blockBytes);
  return { writes: count, bytes };
}

type Writes = AsyncIterable<RandomWrite> | Iterable<RandomWrite>;

async function inSessions(
  context: CliContext,
  lab: Lab,
  vm: VmRecord,
  index: number,
  writes: Writes,
  total: number,
): Promise<number> {
  const label = `write ${vm.name} disk ${index}`;
  const progress = startProgress(context.output, context.clock, { label, total });
  const batches = batchesOf(writes)[Symbol.asyncIterator]();
  let bytes = 0;
  try {
    let next = await batches.next();
    while (next.done !== true) {
      if (bytes > 0) await context.clock.sleep(PAUSE_MS);
      next = await lab.withGuestDisk(vm.id, index, (disk) =>
        session(disk, batches, next, (written) => {
          bytes += written;
          progress.set(bytes);
        }),
      );
    }
  } finally {
    progress.end();
  }
  return bytes;
}

type Batch = IteratorResult<readonly RandomWrite[]>;

async function session(
  disk: GuestDisk,
  batches: AsyncIterator<readonly RandomWrite[]>,
  first: Batch,
  onWritten: (bytes: number) => void,
): Promise<Batch> {
  let next = first;
  let sum = 0;
  while (next.done !== true && sum < SESSION_BYTES) {
    await disk.writeAll(next.value);
    const bytes = next.value.reduce((all, write) => all + write.bytes.length, 0);
    sum += bytes;
    onWritten(bytes);
    next = await batches.next();
  }
  return next;
}

/** Writes of one batch are under way at once, so no place is written twice in it. */
async function* batchesOf(writes: Writes): AsyncGenerator<readonly RandomWrite[]> {
  let batch: RandomWrite[] = [];
  let places = new Set<number>();
  let bytes = 0;
  for await (const write of writes) {
    if (places.has(write.offset) || bytes + write.bytes.length > BATCH_BYTES) {
      if (batch.length > 0) yield batch;
      [batch, places, bytes] = [[], new Set(), 0];
    }
    batch.push(write);
    places.add(write.offset);
    bytes += write.bytes.length;
  }
  if (batch.length > 0) yield batch;
}

// ---- reading ------------------------------------------------------------------------------------

async function read(
  context: CliContext,
  lab: Lab,
  vm: VmRecord,
  options: ReadOptions,
): Promise<void> {
  const { output } = context;
  const { index, sizeBytes } = diskIndex(vm, options.disk);
  const offset = parseSize(options.offset, '--offset');
  const length =
    options.length === undefined
      ? Math.max(0, sizeBytes - offset)
      : parseSize(options.length, '--length');
  refuseBeyond(vm, sizeBytes, offset, length);
  const end = offset + length;
  if (options.checkpoint !== undefined) {
    await readCheckpoint(context, lab, vm, index, options.checkpoint, offset, end);
    return;
  }
  const buffer = Buffer.alloc(Math.min(READ_BYTES, length));
  for (let at = offset; at < end; at += buffer.length) {
    const view = buffer.subarray(0, Math.min(buffer.length, end - at));
    // The lock is given back before a slow reader of stdout holds us up.
    await lab.withGuestView(vm.id, index, async (disk) => {
      const reads: Promise<void>[] = [];
      for (let done = 0; done < view.length; done += MIB) {
        reads.push(disk.read(at + done, view.subarray(done, done + MIB)));
      }
      await Promise.all(reads);
    });
    await output.bytes(view);
  }
}

async function readCheckpoint(
  { output }: CliContext,
  lab: Lab,
  vm: VmRecord,
  index: number,
  nameOrId: string,
  offset: number,
  end: number,
): Promise<void> {
  const user = vm.userCheckpoints.find(({ id, name }) => id === nameOrId || name === nameOrId);
  const id = user?.id ?? nameOrId;
  const diskId = vm.disks[index]?.diskId;
  if (diskId === undefined) return;
  const disk = await lab.openCheckpointDisk(vm.id, id, diskId);
  try {
    refuseBeyond(vm, disk.sizeBytes, offset, end - offset);
    for await (const chunk of rawChunks(disk, offset, end)) await output.bytes(chunk);
  } finally {
    await disk.close();
  }
}
