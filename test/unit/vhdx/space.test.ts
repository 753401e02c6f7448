// Who owns which MiB: overlap is found, room is given out once, freed room only after release, and
// what lay there is said truthfully.

import { expect } from 'chai';
import { SpaceMap } from '../../../shared/vhdx/space.js';
import { SeededRandom } from '../../support/seeded-random.js';

const MIB = 1024 * 1024;
const TIB = 1024 ** 4;

describe('VHDX space', () => {
  it('finds every overlap, also of a part', () => {
    const space = new SpaceMap(100 * MIB);
    expect(space.claim(0, MIB)).to.equal(true);
    expect(space.claim(10 * MIB, 4 * MIB)).to.equal(true);
    for (const start of [7, 8, 10, 12, 13]) {
      expect(space.claim(start * MIB, 4 * MIB), `${start}`).to.equal(false);
    }
    expect(space.claim(200 * MIB, MIB)).to.equal(true);
    expect(space.endBytes).to.equal(201 * MIB);
  });

  it('counts a MiB as used that is used in part', () => {
    const space = new SpaceMap(100 * MIB);
    expect(space.claim(3 * MIB, 100)).to.equal(true);
    expect(space.claim(3 * MIB + 500_000, 100)).to.equal(false);
    expect(space.claim(MIB - 1, 2)).to.equal(true);
    expect(space.claim(MIB, MIB)).to.equal(false);
  });

  it('gives out fresh room at the end as zeros, gaps as stale', () => {
    const space = new SpaceMap(20 * MIB);
    space.claim(0, 4 * MIB);
    expect(space.allocate(2 * MIB)).to.deep.equal({ offset: 4 * MIB, content: 'zeros' });
    space.claim(10 * MIB, MIB);
    expect(space.allocate(3 * MIB)).to.deep.equal({ offset: 6 * MIB, content: 'stale' });
    expect(space.allocate(2 * MIB)).to.deep.equal({ offset: 11 * MIB, content: 'zeros' });
    expect(space.allocate(MIB)).to.deep.equal({ offset: 9 * MIB, content: 'stale' });
  });

  it('trusts nothing below the length that a file had when it was opened', () => {
    const space = new SpaceMap(20 * MIB);
    space.claim(0, 4 * MIB);
    space.distrustBelow(7 * MIB - 5);
    expect(space.allocate(2 * MIB)).to.deep.equal({ offset: 4 * MIB, content: 'stale' });
    expect(space.allocate(2 * MIB)).to.deep.equal({ offset: 7 * MIB, content: 'zeros' });
  });

  it('gives freed room out again only when it was released, as stale', () => {
    const space = new SpaceMap(20 * MIB);
    space.claim(0, 4 * MIB);
    const first = space.allocate(2 * MIB);
    space.free(first.offset, 2 * MIB);
    expect(space.hasFreed).to.equal(true);
    expect(space.allocate(2 * MIB).offset).to.not.equal(first.offset);
    space.releaseFreed();
    expect(space.hasFreed).to.equal(false);
    expect(space.allocate(2 * MIB)).to.deep.equal({ offset: first.offset, content: 'stale' });
  });

  it('knows the end of what is used, behind which a file may be cut', () => {
    const space = new SpaceMap(20 * MIB);
    space.claim(0, 4 * MIB);
    const block = space.allocate(8 * MIB);
    expect(space.lastUsedEndBytes()).to.equal(12 * MIB);
    space.free(block.offset, 8 * MIB);
    expect(space.lastUsedEndBytes()).to.equal(12 * MIB);
    space.releaseFreed();
    expect(space.lastUsedEndBytes()).to.equal(4 * MIB);
  });

  it('takes little memory and time for a file of 66 TiB', () => {
    const space = new SpaceMap(66 * TIB);
    expect(space.claim(65 * TIB, MIB)).to.equal(true);
    // Half of all that lies below is a gap; a search gives up early and goes on at the end.
    for (let i = 0; i < 1000; i++) space.allocate(256 * MIB);
    expect(space.claim(65 * TIB, MIB)).to.equal(false);
  });

  it('never gives out what is used, against a naive model', () => {
    const random = new SeededRandom(9);
    for (let round = 0; round < 30; round++) {
      const space = new SpaceMap(8 * MIB);
      const used = new Set<number>([0]);
      space.claim(0, MIB);
      const live: { start: number; count: number }[] = [];
      const waiting: { start: number; count: number }[] = [];
      for (let step = 0; step < 200; step++) {
        const action = random.int(10);
        if (action < 6) {
          const count = random.pick([1, 1, 2, 4, 8]);
          const { offset } = space.allocate(count * MIB);
          const start = offset / MIB;
          for (let mib = start; mib < start + count; mib++) {
            expect(used.has(mib), `round ${round}, MiB ${mib}`).to.equal(false);
            used.add(mib);
          }
          live.push({ start, count });
        } else if (action < 9 && live.length > 0) {
          const [block] = live.splice(random.int(live.length), 1);
          if (block === undefined) continue;
          space.free(block.start * MIB, block.count * MIB);
          waiting.push(block);
        } else {
          space.releaseFreed();
          for (const { start, count } of waiting.splice(0)) {
            for (let mib = start; mib < start + count; mib++) used.delete(mib);
          }
        }
      }
      expect(space.lastUsedEndBytes()).to.equal((Math.max(...used) + 1) * MIB);
    }
  });
});
