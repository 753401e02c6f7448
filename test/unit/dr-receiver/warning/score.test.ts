// From figures to a verdict, by table: what is an alarm, how soon, and what the state remembers.

import { expect } from 'chai';
import type { CommitRecord, DiskRecord, DiskSigns } from '../../../../dr-receiver/store/records.js';
import { parseRecord } from '../../../../dr-receiver/store/records.js';
import {
  type CycleFeatures,
  nextScore,
  pressureOf,
  usualOf,
} from '../../../../dr-receiver/warning/score.js';
import { WarningState } from '../../../../dr-receiver/warning/warning-state.js';
import { id } from '../source-double.js';

const CELLS = 4096;
const CYCLE: CycleFeatures = {
  dataCells: 60,
  diskCells: CELLS,
  random: 4,
  turned: 0,
  fresh: 0,
  others: 16,
  rewritten: 14,
};
const NO_SIGNS: DiskSigns = {
  screened: 0,
  random: 0,
  compared: 0,
  turned: 0,
  fresh: 0,
  others: 0,
  rewritten: 0,
};

function disk(dataCellCount: number, signs: Partial<DiskSigns> = {}): DiskRecord {
  return {
    diskId: id(1),
    generation: 0,
    sizeBytes: CELLS * 65_536,
    logicalSectorBytes: 512,
    physicalSectorBytes: 4096,
    transfer: 'delta',
    root: '0'.repeat(64),
    cellCount: dataCellCount,
    dataCellCount,
    dataBytes: dataCellCount * 65_536,
    signs: { ...NO_SIGNS, screened: dataCellCount, ...signs },
  };
}

/** All random cells were compared, and so many had turned. */
function turned(dataCells: number, count: number): DiskRecord {
  return disk(dataCells, {
    random: count,
    compared: Math.min(64, count),
    turned: Math.min(64, count),
  });
}

function record(
  n: number,
  disks: readonly DiskRecord[],
  more: Partial<CommitRecord>,
): CommitRecord {
  return {
    kind: 'commit',
    atMs: n,
    cycleId: id(1000 + n),
    pointId: id(2000 + n),
    parentPointId: n === 0 ? null : id(2000 + n - 1),
    epoch: '1',
    cycleKind: 'delta',
    by: 'site-a',
    vmName: 'VM',
    consistentAtMs: n,
    isApplicationConsistent: true,
    maxRestorePoints: 5,
    rpoSeconds: 0,
    disks,
    definition: '',
    pinned: [],
    delisted: [],
    pointCount: 1,
    warnings: [],
    ...more,
  };
}

/** A VM whose cycles are judged and committed. */
class Life {
  readonly state = new WarningState();
  #count = 0;

  cycle(...disks: readonly DiskRecord[]): number {
    const n = this.#count++;
    const warning = this.state.judge(disks, n === 0 ? undefined : id(2000 + n - 1));
    this.state.commit(record(n, disks, warning === undefined ? {} : { warning }));
    return n;
  }

  quiet(count: number): void {
    for (let n = 0; n < count; n++) this.cycle(disk(60, { random: 4, compared: 4 }));
  }
}

describe('score', () => {
  const usual = usualOf(Array.from({ length: 12 }, () => CYCLE));
  const rows: readonly [what: string, cycle: Partial<CycleFeatures>, low: number, high: number][] =
    [
      ['nothing turned', { dataCells: 2000, random: 2000, fresh: 2000 }, 0, 0],
      ['an update: 20 of 800 cells', { dataCells: 800, random: 200, turned: 20 }, 0, 50],
      ['4 MiB of 6', { dataCells: 96, random: 64, turned: 64 }, 1000, 1000],
      ['half of that', { dataCells: 64, random: 32, turned: 32 }, 450, 550],
      ['40 MiB', { dataCells: 700, random: 640, turned: 640 }, 4000, 4000],
      ['4 MiB among 60', { dataCells: 960, random: 64, turned: 64 }, 300, 350],
    ];
  for (const [what, cycle, low, high] of rows) {
    it(`${what}: a pressure from ${low} to ${high}`, () => {
      const { pressure, reasons } = pressureOf({ ...CYCLE, ...cycle }, usual);
      expect(pressure).to.be.within(low, high);
      expect(reasons.length > 0).to.equal(pressure > 0);
    });
  }

  it('names what is unusual, and only when it knows what is usual', () => {
    const attack = {
      ...CYCLE,
      dataCells: 700,
      random: 650,
      turned: 640,
      others: 16,
      rewritten: 16,
    };
    expect(pressureOf(attack, usual).reasons.join('; ')).to.equal(
      'in about 640 cells (91 % of what came) content gave way to bytes that look encrypted; ' +
        '93 % looks random, usually 7 %; 44 MiB changed (17 %), usually 4 MiB; ' +
        '100 % of the other cells replaced data as well',
    );
    expect(pressureOf(attack, usualOf([])).reasons).to.have.length(2);
  });

  it('asks for more of a VM where cells turn in most cycles', () => {
    const often = usualOf(Array.from({ length: 12 }, () => ({ ...CYCLE, turned: 30 })));
    const cycle = { ...CYCLE, dataCells: 64, turned: 40 };
    expect(pressureOf(cycle, often).pressure).to.be.below(pressureOf(cycle, usual).pressure / 3);
  });

  it('sums up, forgets slowly, and has a ceiling', () => {
    expect(nextScore(0, 40)).to.equal(0);
    expect(nextScore(0, 200)).to.equal(150);
    expect(nextScore(150, 0)).to.equal(100);
    expect(nextScore(4000, 4000)).to.equal(4000);
  });
});

describe('warning state', () => {
  it('raises an alarm in the first cycle of a fast attack, and names the point before', () => {
    const life = new Life();
    life.quiet(12);
    expect(life.state.isSuspicious).to.equal(false);
    const n = life.cycle(turned(300, 250));
    expect(life.state.alarm?.pointId).to.equal(id(2000 + n));
    expect(life.state.cleanPointId).to.equal(id(2000 + n - 1));
  });

  it('finds a slow attack by the sum, and names the point before its beginning', () => {
    const life = new Life();
    life.quiet(12);
    const first = life.cycle(turned(75, 15));
    let cycles = 1;
    for (; life.state.alarm === undefined; cycles++) life.cycle(turned(75, 15));
    expect(cycles).to.be.within(4, 8);
    expect(life.state.cleanPointId).to.equal(id(2000 + first - 1));
  });

  it('forgets a rise that comes to nothing', () => {
    const life = new Life();
    life.quiet(3);
    life.cycle(turned(75, 15));
    expect(life.state.score).to.be.above(0);
    expect(life.state.cleanPointId).to.equal(id(2002));
    life.quiet(4);
    expect(life.state.score).to.equal(0);
    expect(life.state.cleanPointId).to.equal(undefined);
  });

  it('keeps the alarm and its clean point until it is cleared, whatever comes', () => {
    const life = new Life();
    life.quiet(5);
    const n = life.cycle(turned(300, 250));
    const clear = { kind: 'clear-alarm', atMs: 9, by: 'operator' } as const;
    life.quiet(100);
    life.cycle(turned(300, 250));
    life.cycle(turned(300, 250));
    expect(life.state.alarm?.pointId).to.equal(id(2000 + n));
    expect(life.state.cleanPointId).to.equal(id(2000 + n - 1));
    expect(life.state.clear({ ...clear, pointId: id(2000) })).to.contain('no open alarm');
    expect(life.state.clear({ ...clear, pointId: id(2000 + n) })).to.equal(undefined);
    expect(life.state.isSuspicious).to.equal(false);
    expect(life.state.clear({ ...clear, pointId: id(2000 + n) })).to.contain('no open alarm');
  });

  it('has no clean point when the first cycle after nothing raises an alarm', () => {
    const life = new Life();
    life.cycle(turned(300, 250));
    expect(life.state.alarm?.cleanPointId).to.equal(undefined);
  });

  it('is not taught by an attack that goes on for long, and is by whoever clears the alarm', () => {
    const life = new Life();
    life.quiet(32);
    const rise = (): number => {
      let cycles = 0;
      while (life.state.alarm === undefined && cycles < 100) {
        life.cycle(turned(75, 10));
        cycles++;
      }
      return cycles;
    };
    expect(rise()).to.be.within(15, 25);
    const pointId = life.state.alarm?.pointId ?? id(0);
    for (let n = 0; n < 20; n++) life.cycle(turned(75, 10));
    life.state.clear({ kind: 'clear-alarm', atMs: 9, pointId, by: 'operator' });
    expect(rise(), 'it is usual now').to.equal(100);
  });

  it('says nothing of seeds, and of cells that nobody looked at', () => {
    const life = new Life();
    const { signs, ...unseen } = turned(300, 250);
    expect(signs).not.to.equal(undefined);
    life.cycle({ ...turned(300, 250), transfer: 'base' });
    life.cycle(unseen);
    expect(life.state.score).to.equal(0);
  });
});

describe('records of the early warning', () => {
  const plain: unknown = JSON.parse(JSON.stringify(record(1, [disk(3)], {})));
  const parse = (change: object): ReturnType<typeof parseRecord> =>
    parseRecord({ ...(plain as object), ...change });

  it('are read as they were written, and may be missing', () => {
    const read = (change: object): unknown => JSON.parse(JSON.stringify(parse(change)));
    const { signs, ...old } = disk(3);
    expect(signs).not.to.equal(undefined);
    for (const disks of [[disk(3)], [old]]) {
      expect(read({ disks })).to.deep.equal(record(1, disks, {}));
    }
    const warning = {
      pressure: 1200,
      score: 1150,
      cleanPointId: id(7),
      isAlarm: true,
      reasons: ['so it is'],
    };
    expect(read({ warning })).to.deep.equal(record(1, [disk(3)], { warning }));
    const clear = { kind: 'clear-alarm', atMs: 4, pointId: id(9), by: 'me' };
    expect(parseRecord(clear)).to.deep.equal(clear);
  });

  it('are refused when a field is no number, no id or no text', () => {
    const signs = { ...NO_SIGNS, turned: -1 };
    const warning = { pressure: 1, score: 1, cleanPointId: 'x', isAlarm: true, reasons: [] };
    for (const change of [
      { disks: [{ ...disk(3), signs }] },
      { disks: [{ ...disk(3), signs: 5 }] },
      { warning },
      { warning: { ...warning, cleanPointId: null, reasons: [1] } },
      { warning: { ...warning, cleanPointId: null, score: 0.5 } },
      { warning: null },
    ]) {
      expect(parse(change), JSON.stringify(change)).to.have.property('wrong');
    }
  });
});
