// The arithmetic and the parsers behind the bench figures. Nothing here is timed.

import { expect } from 'chai';
import {
  cpuSecondsPerGigabyte,
  median,
  megabytesPerSecond,
  orderOfRound,
  percentile,
  spread,
} from '../../../bench/statistics.js';
import { markdownTable, textTable, type Column } from '../../../bench/table.js';
import {
  parseChildren,
  parseChildTicks,
  parseMemoryFree,
  parseMemoryTotal,
  parseMountOf,
  parseOwnTicks,
  parsePeakRss,
  parseProcessorModel,
} from '../../../bench/process-facts.js';
import { AssertionError } from '../../../shared/assert.js';

describe('bench statistics', () => {
  it('takes the middle of an odd count and the mean of the two middle ones of an even count', () => {
    expect(median([3])).to.equal(3);
    expect(median([9, 1, 5])).to.equal(5);
    expect(median([4, 1, 3, 2])).to.equal(2.5);
  });

  it('takes as a percentile a value that was seen', () => {
    const hundred = Array.from({ length: 100 }, (_, index) => 100 - index);
    expect(percentile(hundred, 0.99)).to.equal(99);
    expect(percentile(hundred, 1)).to.equal(100);
    expect(percentile([5, 1], 0.5)).to.equal(1);
    expect(percentile([7], 0.99)).to.equal(7);
  });

  it('leaves the given rounds in their order', () => {
    const rounds = [3, 1, 2];
    median(rounds);
    expect(rounds).to.deep.equal([3, 1, 2]);
  });

  it('refuses a median of nothing', () => {
    expect(() => median([])).to.throw(AssertionError);
  });

  it('sorts numbers as numbers', () => {
    expect(median([100, 9, 20])).to.equal(20);
  });

  it('tells the spread as the largest deviation from the median', () => {
    expect(spread([10, 10, 10])).to.equal(0);
    expect(spread([8, 10, 11])).to.be.closeTo(0.2, 1e-9);
    expect(spread([0, 0, 0])).to.equal(0);
  });

  it('counts megabytes and gigabytes in powers of ten', () => {
    expect(megabytesPerSecond(5e8, 2)).to.equal(250);
    expect(cpuSecondsPerGigabyte(1.5, 5e8)).to.equal(3);
  });

  it('turns the order of contenders round in every second round', () => {
    expect(orderOfRound(3, 0)).to.deep.equal([0, 1, 2]);
    expect(orderOfRound(3, 1)).to.deep.equal([2, 1, 0]);
    expect(orderOfRound(0, 1)).to.deep.equal([]);
  });
});

describe('bench tables', () => {
  const columns: readonly Column[] = [
    { title: 'name', align: 'left' },
    { title: 'MB/s', align: 'right' },
  ];

  it('aligns text to the widest cell', () => {
    expect(
      textTable(columns, [
        ['a', '12345'],
        ['longer', '1'],
      ]),
    ).to.deep.equal(['name     MB/s', '------  -----', 'a       12345', 'longer      1']);
  });

  it('escapes bars in Markdown and fills missing cells', () => {
    expect(markdownTable(columns, [['a|b']])).to.deep.equal([
      '| name | MB/s |',
      '| --- | ---: |',
      '| a\\|b |  |',
    ]);
  });
});

describe('bench reading of /proc', () => {
  const stat =
    '812 (node (x) y) S 1 812 812 0 -1 4194304 100 200 0 0 11 22 333 44 20 0 7 0 5 1000 20';

  it('adds user and system ticks of waited-for children behind a name with blanks and brackets', () => {
    expect(parseChildTicks(stat)).to.equal(377);
  });

  it('adds user and system ticks of a process itself', () => {
    expect(parseOwnTicks(stat)).to.equal(33);
    expect(parseOwnTicks('812 (node) S 1 2 3')).to.equal(undefined);
  });

  it('gives undefined for a stat line that is cut off', () => {
    expect(parseChildTicks('')).to.equal(undefined);
    expect(parseChildTicks('812 (node) S 1 2 3')).to.equal(undefined);
    expect(parseChildTicks('812 (node S 1 2 3')).to.equal(undefined);
  });

  it('reads the peak resident set in bytes, and undefined for a process without memory', () => {
    expect(parsePeakRss('Name:\tnode\nVmPeak:\t  99 kB\nVmHWM:\t   2048 kB\n')).to.equal(2097152);
    expect(parsePeakRss('Name:\tkthreadd\nThreads:\t1\n')).to.equal(undefined);
  });

  it('reads children ids and ignores all else', () => {
    expect(parseChildren('12 345 ')).to.deep.equal([12, 345]);
    expect(parseChildren('')).to.deep.equal([]);
    expect(parseChildren('x 0 -3 7')).to.deep.equal([7]);
  });

  it('reads model and memory of the machine', () => {
    expect(parseProcessorModel('processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n')).to.equal(
      'Some CPU @ 2 GHz',
    );
    expect(parseProcessorModel('')).to.equal(undefined);
    expect(parseMemoryTotal('MemTotal:       1024 kB\nMemFree: 1 kB\n')).to.equal(1048576);
    expect(parseMemoryFree('MemTotal: 8 kB\nMemFree:       2 kB\n')).to.equal(2048);
  });

  it('finds the innermost mount above a path, the later of two on one point', () => {
    const mounts = [
      '/dev/vda / ext4 rw 0 0',
      'tmpfs /tmp tmpfs rw 0 0',
      '/dev/vdb /tmp xfs rw 0 0',
      '/dev/vdc /mnt/a\\040b btrfs rw 0 0',
      '',
    ].join('\n');
    expect(parseMountOf(mounts, '/home/x')).to.deep.equal({
      device: '/dev/vda',
      fileSystem: 'ext4',
    });
    expect(parseMountOf(mounts, '/tmp/bench')).to.deep.equal({
      device: '/dev/vdb',
      fileSystem: 'xfs',
    });
    expect(parseMountOf(mounts, '/tmpfoo')?.fileSystem).to.equal('ext4');
    expect(parseMountOf(mounts, '/mnt/a b/c')?.fileSystem).to.equal('btrfs');
    expect(parseMountOf('', '/x')).to.equal(undefined);
  });
});
