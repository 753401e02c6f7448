// Lives of a guest, cycle by cycle into a receiver in memory: harmless work without an alarm, attacks
// with one, and what an operator finds and does then. The long ones, on real ext4, are a bench.

import { expect } from 'chai';
import { type Guid, guidFromWire, ZERO_GUID } from '../../../../shared/bytes/index.js';
import type { ProtectionStatus } from '../../../../shared/channel/index.js';
import { CELL_BYTES } from '../../../../shared/delta/index.js';
import { encryptDisk, Guest } from '../../../support/guest-life.js';
import { MemoryFileSystem } from '../../../support/memory-file.js';
import { refusal } from '../../../support/refusal.js';
import { PlainVolume } from '../../../support/volume.js';
import {
  caller,
  type CyclePlan,
  openSite,
  pointIds,
  readPoint,
  type Site,
  SOURCE,
  SourceVm,
} from '../source-double.js';

const MIB = 1024 * 1024;
const DISK_BYTES = 32 * MIB;
const SIZES = { textFiles: 240, officeFiles: 30, programFiles: 4, databaseMib: 2 };
const CYCLE_MS = 300_000;

class Life {
  readonly files = new MemoryFileSystem();
  readonly guest: Guest;
  readonly vm = new SourceVm(1, [DISK_BYTES]);
  readonly plans: CyclePlan[] = [];
  readonly #look: (image: Buffer) => Buffer;
  site: Site;

  private constructor(site: Site, files: MemoryFileSystem, look: (image: Buffer) => Buffer) {
    this.site = site;
    this.files = files;
    this.#look = look;
    this.guest = new Guest(new PlainVolume(DISK_BYTES), 1, SIZES);
    this.guest.install();
  }

  /** A VM with its first point. */
  static async begin(look = (image: Buffer): Buffer => Buffer.from(image)): Promise<Life> {
    const files = new MemoryFileSystem();
    const life = new Life(await openSite(files), files, look);
    await life.replicate(true);
    return life;
  }

  async replicate(isSeed = false): Promise<readonly string[]> {
    const disk = this.vm.disks[0];
    if (disk === undefined) throw new Error('the VM has a disk');
    const before = disk.bytes;
    disk.bytes = this.#look(this.guest.volume.image());
    const cells: number[] = [];
    for (let cell = 0; cell * CELL_BYTES < DISK_BYTES; cell++) {
      const [start, end] = [cell * CELL_BYTES, (cell + 1) * CELL_BYTES];
      if (!before.subarray(start, end).equals(disk.bytes.subarray(start, end))) cells.push(cell);
    }
    const plan = this.vm.plan(
      this.plans.length,
      this.plans.at(-1)?.pointId,
      [isSeed ? undefined : cells],
      {
        maxRestorePoints: 1,
      },
    );
    const { warnings } = await this.vm.replicate(this.site, plan);
    // whoever needs the bytes of an older one holds it
    const older = this.plans.pop();
    if (older !== undefined) this.plans.push({ ...older, images: [] });
    this.plans.push(plan);
    await this.site.clock.advance(CYCLE_MS);
    return warnings;
  }

  async cycles(
    count: number,
    event: (guest: Guest, cycle: number) => void = () => undefined,
  ): Promise<void> {
    for (let cycle = 0; cycle < count; cycle++) {
      this.guest.work();
      event(this.guest, cycle);
      await this.replicate();
    }
  }

  async status(): Promise<ProtectionStatus> {
    const { protections } = await this.site.control().status({ vm: this.vm.name });
    if (protections[0] === undefined) throw new Error('the VM is protected');
    return protections[0];
  }

  get head(): Guid {
    return this.plans.at(-1)?.pointId ?? ZERO_GUID;
  }

  async restart(): Promise<void> {
    await this.site.receiver.close();
    this.site = await openSite(this.files, { clock: this.site.clock });
  }
}

describe('early warning', function () {
  this.timeout(120_000);

  describe('raises no alarm', () => {
    const rows: readonly [
      string,
      (guest: Guest, cycle: number) => void,
      ((image: Buffer) => Buffer)?,
    ][] = [
      ['in office work', () => undefined],
      [
        'for updates',
        (guest, cycle) => {
          if (cycle % 2 === 0) guest.update(4);
        },
      ],
      [
        'for an archive, packed again and again',
        (guest) => {
          guest.clear('zip', 100);
          guest.archive(4);
        },
      ],
      [
        'for random data on room that was never used',
        (guest) => {
          guest.video(1);
        },
      ],
      [
        'on a disk that its guest encrypts as a whole, updates included',
        (guest, cycle) => {
          if (cycle % 2 === 0) guest.update(4);
        },
        encryptDisk,
      ],
    ];
    for (const [what, event, look] of rows) {
      it(what, async () => {
        const life = await Life.begin(look);
        await life.cycles(6, event);
        const { alarm, health, reasons } = await life.status();
        expect(alarm, reasons.join()).to.equal(undefined);
        expect(health).to.equal('ok');
      });
    }
  });

  describe('raises one within two cycles', () => {
    const rows: readonly [string, (guest: Guest) => void][] = [
      [
        'of a fast encryption in place',
        (guest) => {
          guest.encrypt(8 * MIB, 'whole');
        },
      ],
      [
        'of one that leaves every other block',
        (guest) => {
          guest.encrypt(12 * MIB, 'every other block');
        },
      ],
      [
        'of one of text files under an update',
        (guest) => {
          guest.update(4);
          guest.encrypt(6 * MIB, 'whole', ({ path }) => path.startsWith('text'));
        },
      ],
    ];
    for (const [what, event] of rows) {
      it(what, async () => {
        const life = await Life.begin();
        await life.cycles(3);
        const clean = life.head;
        await life.cycles(2, event);
        const { alarm, lastCleanPointId } = await life.status();
        expect(guidFromWire(alarm?.cleanPointId ?? Buffer.alloc(0))).to.equal(clean);
        expect(guidFromWire(lastCleanPointId)).to.equal(clean);
      });
    }
  });

  it('finds a slow attack, and kept the point before its first cycle all the time', async () => {
    const life = await Life.begin();
    await life.cycles(3);
    const clean = life.plans.at(-1);
    let cycles = 0;
    while ((await life.status()).alarm === undefined && cycles < 20) {
      await life.cycles(1, (guest) => {
        guest.encrypt(MIB / 2, 'whole', ({ path }) => path.startsWith('text'));
      });
      cycles++;
    }
    expect(cycles).to.be.within(2, 14);
    const { lastCleanPointId } = await life.status();
    expect(guidFromWire(lastCleanPointId)).to.equal(clean?.pointId);
    const bytes = await readPoint(life.site, life.vm.name, 'last-clean', 0);
    expect(clean?.images[0]?.equals(bytes)).to.equal(true);
  });

  it('pins the last clean point, tells everybody, and is cleared by an operator alone', async () => {
    const life = await Life.begin();
    await life.cycles(3);
    const clean = life.plans.at(-1);
    life.guest.encrypt(8 * MIB, 'whole');
    const warnings = await life.replicate();
    const alarm = life.head;
    expect(warnings[0]).to.match(
      /^the data look as if they were being encrypted: in about \d+ cells/,
    );
    expect(warnings.join()).to.contain(`point ${clean?.pointId} is pinned`);
    await life.cycles(3);
    await life.restart();

    const status = await life.status();
    expect(status.health).to.equal('critical');
    expect(status.reasons[0]).to.contain(alarm).and.to.contain(clean?.pointId);
    const { points } = await life.site.control().listPoints({ vm: life.vm.name });
    const kept = points.find(({ pointId }) => guidFromWire(pointId) === clean?.pointId);
    expect(kept?.isPinned).to.equal(true);
    expect(kept?.keptBecause).to.equal('the last point before data began to look encrypted');
    expect(points.filter(({ isDoubtful }) => !isDoubtful).at(-1)).to.equal(kept);
    const read = await readPoint(life.site, life.vm.name, 'last-clean', 0);
    expect(clean?.images[0]?.equals(read)).to.equal(true);

    const clear = { vm: life.vm.name, alarm };
    for (const as of [SOURCE, caller('viewer', 'viewer'), caller('drill', 'drill')]) {
      expect((await refusal(() => life.site.control(as).clearAlarm(clear))).code).to.equal(
        'E_AUTH',
      );
    }
    const wrong = await refusal(() =>
      life.site.control().clearAlarm({ ...clear, alarm: life.head }),
    );
    expect(wrong.code).to.equal('E_STATE');
    expect(wrong.hint).to.contain(alarm);
    await life.site.control().clearAlarm(clear);
    await life.restart();
    const after = await life.status();
    expect(after.alarm).to.equal(undefined);
    expect(after.health).to.equal('ok');
    expect(guidFromWire(after.lastCleanPointId)).to.equal(life.head);
    expect(after.pinnedCount, 'clearing drops no pin').to.equal(1);
    expect((await refusal(() => life.site.control().clearAlarm(clear))).code).to.equal('E_STATE');
  });

  it('holds the last clean point though no pin is left, and says so', async () => {
    const life = await Life.begin();
    // eight large changes, of text by other text
    for (let n = 0; n < 8; n++) {
      life.guest.clear('bulk', 100);
      life.guest.volume.write(`bulk/${n}`, life.guest.text(9 * MIB));
      await life.cycles(1);
    }
    const clean = life.head;
    expect((await life.status()).pinnedCount).to.equal(8);
    expect((await life.status()).reasons.join()).to.contain('wait for a look');
    life.guest.encrypt(8 * MIB, 'whole', ({ path }) => path.startsWith('text'));
    const warnings = await life.replicate();
    expect(warnings.join()).to.contain(`point ${clean} would be pinned`);
    // the first points of a day are kept for seven days, whatever comes
    await life.cycles(4);
    const { points } = await life.site.control().listPoints({ vm: life.vm.name });
    const kept = points.find(({ pointId }) => guidFromWire(pointId) === clean);
    expect(kept?.isPinned).to.equal(false);
    expect(kept?.keptBecause).to.equal('last clean point');
    const alarm = guidFromWire((await life.status()).alarm?.pointId ?? Buffer.alloc(0)) ?? '';
    await life.site.control().clearAlarm({ vm: life.vm.name, alarm });
    await life.cycles(1);
    expect(await pointIds(life.site, life.vm.name)).not.to.include(clean);
  });

  it('makes room for more pins when an operator takes one over, or lets it go', async () => {
    const life = await Life.begin();
    const change = async (n: number): Promise<readonly string[]> => {
      life.guest.clear('bulk', 100);
      life.guest.volume.write(`bulk/${n}`, life.guest.text(9 * MIB));
      return life.replicate();
    };
    for (let n = 0; n < 8; n++) expect((await change(n)).join()).to.contain('is pinned');
    expect((await change(8)).join()).to.contain('would be pinned');
    const [first, second] = await pointIds(life.site, life.vm.name);
    const control = life.site.control();
    await control.pinPoint({ vm: life.vm.name, point: first ?? '', isPinned: true });
    expect((await change(9)).join()).to.contain('is pinned');
    await control.pinPoint({ vm: life.vm.name, point: second ?? '', isPinned: false });
    expect((await change(10)).join()).to.contain('is pinned');
    expect((await change(11)).join()).to.contain('would be pinned');
    expect((await life.status()).pinnedCount).to.equal(9);
  });

  it('commits all the same when the cells before cannot be read, and says that', async () => {
    const life = await Life.begin();
    await life.cycles(1);
    const base = life.files.paths.find((path) => path.endsWith('base.manifest'));
    if (base === undefined) throw new Error('there is a base');
    life.files.put(base, Buffer.from('gone'));
    life.guest.encrypt(8 * MIB, 'whole');
    const warnings = await life.replicate();
    expect(warnings.join()).to.contain('could not be read to look for encryption');
    expect((await pointIds(life.site, life.vm.name)).at(-1)).to.equal(life.head);
  });
});
