// The command line of the benches.

import { expect } from 'chai';
import { parseBenchArguments } from '../../../bench/arguments.js';
import { commandLine } from '../../../bench/command.js';
import { evenRuns, scatteredCells } from '../../../bench/data.js';
import { DrError } from '../../../shared/errors.js';

const known = ['vhdx-read', 'start'];

describe('bench arguments', () => {
  it('runs everything when nothing is named', () => {
    const wanted = parseBenchArguments([], known);
    expect(wanted.names).to.deep.equal([]);
    expect(wanted.rounds).to.equal(undefined);
    expect(wanted.json).to.equal(false);
  });

  it('takes names and options in any order', () => {
    const wanted = parseBenchArguments(
      ['start', '--rounds', '7', '--json', '--dir', 'a b', 'vhdx-read'],
      known,
    );
    expect(wanted.names).to.deep.equal(['start', 'vhdx-read']);
    expect(wanted.rounds).to.equal(7);
    expect(wanted.json).to.equal(true);
    expect(wanted.folder).to.equal('a b');
  });

  it('takes a size for a try and leaves our own side out when told so', () => {
    const wanted = parseBenchArguments(['--size', '64M', '--peers'], known);
    expect(wanted.sizeBytes).to.equal(64 * 1024 ** 2);
    expect(wanted.isPeersOnly).to.equal(true);
    expect(parseBenchArguments([], known).sizeBytes).to.equal(undefined);
    expect(parseBenchArguments(['--quick'], known).isQuick).to.equal(true);
    expect(wanted.isQuick).to.equal(false);
  });

  for (const words of [
    ['other'],
    ['--other'],
    ['--rounds'],
    ['--rounds', '0'],
    ['--rounds', 'x'],
    ['--size', 'x'],
    ['--size', '1M'],
    ['--size', '17M'],
    ['--size', '1T'],
  ]) {
    it(`refuses "${words.join(' ')}" as wrong usage`, () => {
      expect(() => parseBenchArguments(words, known))
        .to.throw(DrError)
        .with.property('code', 'E_USAGE');
    });
  }
});

describe('bench inputs', () => {
  it('draws different cells in ascending order, the same for the same seed', () => {
    const cells = scatteredCells(100, 200, 'seed');
    const offsets = cells.map(({ offset }) => offset);
    expect(new Set(offsets).size).to.equal(100);
    expect(offsets).to.deep.equal(offsets.toSorted((left, right) => left - right));
    expect(Math.max(...offsets) < 200 * 65536).to.equal(true);
    expect(scatteredCells(100, 200, 'seed')).to.deep.equal(cells);
    expect(scatteredCells(100, 200, 'other')).to.not.deep.equal(cells);
  });

  it('spreads runs from the first to the last place of a disk without overlap', () => {
    const runs = evenRuns(4, 10, 100);
    expect(runs.map(({ offset }) => offset)).to.deep.equal([0, 30, 60, 90]);
    expect(evenRuns(10, 10, 100).map(({ offset }) => offset / 10)).to.deep.equal([
      0, 1, 2, 3, 4, 5, 6, 7, 8, 9,
    ]);
    expect(evenRuns(1, 10, 10)).to.deep.equal([{ offset: 0, lengthBytes: 10 }]);
  });

  it('words a command so that a shell would take it back', () => {
    expect(commandLine({ program: 'a', arguments: ['b c', "d'e", '-x=1'], output: 'f' })).to.equal(
      `a 'b c' 'd'\\''e' -x=1 > f`,
    );
  });
});
