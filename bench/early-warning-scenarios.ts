// What the early warning finds, and what it takes for an attack: lives of a guest on a real ext4 file
// system, replicated cycle by cycle into a receiver of this process. Prints a line for each, as a
// table of docs/early-warning.md has them; ends with 1 when a fast attack was not found within two
// cycles.
//
// Usage: early-warning-scenarios.js FOLDER [SCENARIO …]

import { mkdirSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { controlHandlers, Receiver, replicationHandlers } from '../dr-receiver/index.js';
import { connectDirectly, controlService, replicationService } from '../shared/channel/index.js';
import { type Guid, guidFromWire } from '../shared/bytes/index.js';
import { CELL_BYTES } from '../shared/delta/index.js';
import { nodeFileSystem } from '../shared/files/index.js';
import { silentLog } from '../shared/log.js';
import { FakeClock } from '../test/support/fake-clock.js';
import { encryptDisk, Guest } from '../test/support/guest-life.js';
import { SeededRandom } from '../test/support/seeded-random.js';
import { OPERATOR, type Site, SOURCE, SourceVm } from '../test/unit/dr-receiver/source-double.js';
import { Ext4Volume } from './ext4-volume.js';

const MIB = 1024 * 1024;
const DISK_BYTES = 160 * MIB;
const CYCLE_MS = 10 * 60 * 1000;
const CYCLES_BEFORE = 10;
const SIZES = { textFiles: 2000, officeFiles: 200, programFiles: 32, databaseMib: 16 };
const DETECTED_WITHIN = 2;

interface Scenario {
  readonly name: string;
  /** A fast attack has to be found within two cycles; the others are reported as they come. */
  readonly kind: 'fast attack' | 'attack' | 'harmless';
  /** Cycles from the beginning of the event on. */
  readonly cycles: number;
  readonly isWholeDiskEncrypted?: boolean;
  /** Before the first point. */
  prepare?(guest: Guest): void;
  /** One cycle of the event, besides the ordinary work; counted from 0. */
  event(guest: Guest, cycle: number): void;
}

const SCENARIOS: readonly Scenario[] = [
  { name: 'office work, database, log', kind: 'harmless', cycles: 25, event: () => undefined },
  {
    name: 'an update of 12 MiB every third cycle',
    kind: 'harmless',
    cycles: 12,
    event: (guest, cycle) => {
      if (cycle % 3 === 0) guest.update(12);
    },
  },
  {
    name: 'zip of 20 MiB of text each second cycle, the last one removed',
    kind: 'harmless',
    cycles: 10,
    event: (guest, cycle) => {
      if (cycle % 2 === 1) return;
      guest.clear('zip', 1000);
      guest.archive(20);
    },
  },
  {
    name: 'dense archive (brotli) of 20 MiB, onto room never used',
    kind: 'harmless',
    cycles: 6,
    event: (guest, cycle) => {
      if (cycle % 2 === 0) guest.archive(20, true);
    },
  },
  {
    name: 'video of 12 MiB each cycle, onto room never used',
    kind: 'harmless',
    cycles: 4,
    event: (guest) => {
      guest.video(12);
    },
  },
  {
    name: 'video of 20 MiB onto text that was removed and trimmed a cycle before',
    kind: 'harmless',
    cycles: 4,
    event: (guest, cycle) => {
      if (cycle === 0) guest.clear('text', 24, true);
      if (cycle === 1) guest.video(20);
    },
  },
  {
    name: 'video of 20 MiB onto removed text, not trimmed',
    kind: 'harmless',
    cycles: 4,
    event: (guest, cycle) => {
      if (cycle > 0) return;
      guest.clear('text', 24);
      guest.video(20);
    },
  },
  {
    name: 'database that encrypts its pages',
    kind: 'harmless',
    cycles: 12,
    prepare: (guest) => {
      guest.isDatabaseDense = true;
    },
    event: (guest) => {
      guest.writePages(400);
    },
  },
  {
    name: 'whole disk encrypted (AES-XTS), office work and updates',
    kind: 'harmless',
    cycles: 9,
    isWholeDiskEncrypted: true,
    event: (guest, cycle) => {
      if (cycle % 3 === 0) guest.update(12);
    },
  },
  {
    name: 'encryption in place, 40 MiB a cycle',
    kind: 'fast attack',
    cycles: 4,
    event: (guest) => {
      guest.encrypt(40 * MIB, 'whole');
    },
  },
  {
    name: 'encryption of text and documents, 10 MiB a cycle',
    kind: 'fast attack',
    cycles: 6,
    event: (guest) => {
      guest.encrypt(10 * MIB, 'whole', ({ path }) => /^(text|office)/.test(path));
    },
  },
  {
    name: 'encryption of compressed documents only, 10 MiB a cycle',
    kind: 'attack',
    cycles: 6,
    event: (guest) => {
      guest.encrypt(10 * MIB, 'whole', ({ path }) => path.startsWith('office'));
    },
  },
  {
    name: 'every other 4 KiB block, 40 MiB of files a cycle',
    kind: 'fast attack',
    cycles: 4,
    event: (guest) => {
      guest.encrypt(40 * MIB, 'every other block');
    },
  },
  {
    name: 'first 4 KiB of each file, 40 MiB of files a cycle',
    kind: 'attack',
    cycles: 6,
    event: (guest) => {
      guest.encrypt(40 * MIB, 'first block');
    },
  },
  {
    name: 'every other 16 bytes, 40 MiB of files a cycle',
    kind: 'attack',
    cycles: 4,
    event: (guest) => {
      guest.encrypt(40 * MIB, 'every other 16 bytes');
    },
  },
  {
    name: 'encryption in place under an update, 10 MiB a cycle beside 20 MiB',
    kind: 'fast attack',
    cycles: 6,
    event: (guest) => {
      guest.update(20);
      guest.encrypt(10 * MIB, 'whole', ({ path }) => path.startsWith('text'));
    },
  },
  {
    name: 'slow: 1 MiB a cycle',
    kind: 'attack',
    cycles: 20,
    event: (guest) => {
      guest.encrypt(MIB, 'whole', ({ path }) => path.startsWith('text'));
    },
  },
  {
    name: 'very slow: 256 KiB a cycle',
    kind: 'attack',
    cycles: 30,
    event: (guest) => {
      guest.encrypt(MIB / 4, 'whole', ({ path }) => path.startsWith('text'));
    },
  },
  {
    name: 'into new files, the old ones removed, 10 MiB a cycle, trimmed',
    kind: 'attack',
    cycles: 4,
    event: (guest) => {
      guest.encryptByCopy(10 * MIB, true);
    },
  },
  {
    name: 'into new files, the old ones removed, 10 MiB a cycle, not trimmed',
    kind: 'attack',
    cycles: 4,
    event: (guest) => {
      guest.encryptByCopy(10 * MIB, false);
    },
  },
  {
    name: 'encryption inside a disk that is encrypted as a whole',
    kind: 'attack',
    cycles: 4,
    isWholeDiskEncrypted: true,
    event: (guest) => {
      guest.encrypt(40 * MIB, 'whole');
    },
  },
];

function changedCells(before: Buffer, after: Buffer): number[] {
  const cells: number[] = [];
  for (let cell = 0; cell * CELL_BYTES < after.length; cell++) {
    const [start, end] = [cell * CELL_BYTES, (cell + 1) * CELL_BYTES];
    if (!before.subarray(start, end).equals(after.subarray(start, end))) cells.push(cell);
  }
  return cells;
}

interface Outcome {
  readonly falseBefore: number;
  /** Counted from 1; undefined: no alarm. */
  readonly alarmInCycle: number | undefined;
  /** Points between the last one before the event and the one that last-clean names; > 0: too new. */
  readonly cleanAfterEvent: number | undefined;
  readonly scoreMax: number;
}

async function openSite(folder: string): Promise<Site> {
  const clock = new FakeClock();
  const receiver = await Receiver.open({
    fs: nodeFileSystem,
    clock,
    random: new SeededRandom(1),
    log: silentLog,
    storeFolder: join(folder, 'store'),
  });
  return {
    receiver,
    clock,
    replication: (as = SOURCE) =>
      connectDirectly(replicationService, replicationHandlers(receiver), as),
    control: (as = OPERATOR) => connectDirectly(controlService, controlHandlers(receiver), as),
  };
}

async function live(folder: string, scenario: Scenario): Promise<Outcome> {
  const volume = new Ext4Volume(join(folder, 'guest'), DISK_BYTES);
  const guest = new Guest(volume, 1, SIZES);
  scenario.prepare?.(guest);
  guest.install();
  const site = await openSite(folder);
  const vm = new SourceVm(1, [DISK_BYTES]);
  const disk = vm.disks[0];
  if (disk === undefined) throw new Error('the VM has a disk');
  const look = (): Buffer =>
    scenario.isWholeDiskEncrypted === true ? encryptDisk(volume.image()) : volume.image();
  disk.bytes = look();
  let parent: Guid | undefined;
  let count = 0;
  let before: Buffer = Buffer.alloc(0);
  const replicate = async (cells: number[] | undefined): Promise<void> => {
    const plan = vm.plan(count++, parent, [cells], { maxRestorePoints: 1000 });
    await vm.replicate(site, plan);
    parent = plan.pointId;
    // a copy: the volume changes the one that it has shown
    before = plan.images[0] ?? before;
    await site.clock.advance(CYCLE_MS);
  };
  await replicate(undefined);
  let falseBefore = 0;
  let alarmInCycle: number | undefined;
  let cleanAfterEvent: number | undefined;
  let scoreMax = 0;
  for (let cycle = -CYCLES_BEFORE; cycle < scenario.cycles; cycle++) {
    guest.work();
    if (cycle >= 0) scenario.event(guest, cycle);
    disk.bytes = look();
    await replicate(changedCells(before, disk.bytes));
    const { protections } = await site.control().status({ vm: vm.name });
    const alarm = protections[0]?.alarm;
    scoreMax = Math.max(scoreMax, protections[0]?.warningScore ?? 0);
    if (process.env['VERBOSE'] !== undefined) {
      const head = site.receiver.desks[0]?.vm.protection.head?.disks[0];
      writeSync(
        2,
        `${scenario.name}: ${cycle}: ${JSON.stringify({ cells: head?.dataCellCount, ...head?.signs })}, score ${protections[0]?.warningScore}\n`,
      );
    }
    if (alarm === undefined) continue;
    if (cycle < 0) {
      falseBefore++;
      await site.control().clearAlarm({ vm: vm.name, alarm: guidFromWire(alarm.pointId) ?? '' });
      continue;
    }
    alarmInCycle = cycle + 1;
    const { points } = await site.control().listPoints({ vm: vm.name });
    const clean = points.findIndex(({ pointId }) => pointId.equals(alarm.cleanPointId));
    cleanAfterEvent = clean - CYCLES_BEFORE;
    break;
  }
  await site.receiver.close();
  volume.close();
  return { falseBefore, alarmInCycle, cleanAfterEvent, scoreMax };
}

function line({ name, kind }: Scenario, outcome: Outcome): string {
  const { alarmInCycle, cleanAfterEvent, falseBefore, scoreMax } = outcome;
  const clean =
    cleanAfterEvent === undefined
      ? ''
      : cleanAfterEvent === 0
        ? 'the last one before'
        : cleanAfterEvent < 0
          ? `${-cleanAfterEvent} before that`
          : `${cleanAfterEvent} too new`;
  const found = alarmInCycle === undefined ? 'none' : `in cycle ${alarmInCycle}`;
  const alarm = kind === 'harmless' && alarmInCycle !== undefined ? `**false**, ${found}` : found;
  return `| ${kind} | ${name} | ${alarm} | ${clean} | ${(scoreMax / 1000).toFixed(2)} | ${falseBefore} |`;
}

const [folder = '', ...wanted] = process.argv.slice(2);
mkdirSync(folder, { recursive: true });
writeSync(
  1,
  '| kind | what happens | alarm | clean point | highest score | false alarms before |\n',
);
writeSync(1, '| --- | --- | --- | --- | --- | --- |\n');
for (const scenario of SCENARIOS) {
  if (wanted.length > 0 && !wanted.some((part) => scenario.name.includes(part))) continue;
  const own = join(folder, 'life');
  const outcome = await live(own, scenario);
  rmSync(own, { recursive: true, force: true });
  writeSync(1, `${line(scenario, outcome)}\n`);
  const isLate = (outcome.alarmInCycle ?? Infinity) > DETECTED_WITHIN;
  if (scenario.kind === 'fast attack' && isLate) process.exitCode = 1;
}
