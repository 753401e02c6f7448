// How a bench's result is worded.

import { expect } from 'chai';
import { type Bench, GIB, MIB, spaceFor } from '../../../bench/bench.js';
import type { Measurement } from '../../../bench/measure.js';
import {
  type BenchRecord,
  goalLine,
  jsonLine,
  markdownReport,
  parseRecord,
  textReport,
} from '../../../bench/report.js';

const ALONE: Measurement = { wallSeconds: 2, cpuSeconds: 1, peakRssBytes: 64 * MIB };
const SERVED: Measurement = {
  ...ALONE,
  services: { cpuSeconds: 0.25, peakRssBytes: 32 * MIB },
};

function recordOf(...medians: readonly Measurement[]): BenchRecord {
  return {
    format: 'hvdr-bench',
    version: 1,
    bench: 'full-random',
    question: 'A disk is seeded.',
    time: '2026-01-02T03:04:05.000Z',
    machine: {
      processor: 'P',
      cores: 2,
      memoryBytes: GIB,
      kernel: '6',
      node: 'v24',
      fileSystem: 'ext4',
    },
    revision: { commit: 'abc', isModified: false },
    settings: { rounds: 1 },
    contenders: medians.map((median, index) => ({
      name: `c${index}`,
      role: 'ours',
      payloadBytes: 1e9,
      rounds: [median],
      median,
    })),
    goals: [
      { text: 'rate', unit: 'MB/s', bound: 'at least', value: 200, figure: 500, isMet: true },
    ],
  };
}

describe('bench report', () => {
  it('shows the part of servers when there were any, and leaves it empty for the others', () => {
    const text = markdownReport(recordOf(SERVED, ALONE));
    expect(text).to.contain('| of it server |');
    expect(text).to.contain('| c0 | 2.000 | 0 % | 500 | 1.00 | 0.25 | 1.00 | 64 | 32 |');
    expect(text).to.contain('| c1 | 2.000 | 0 % | 500 | 1.00 |  | 1.00 | 64 |  |');
  });

  it('has no columns of servers when there were none', () => {
    const text = markdownReport(recordOf(ALONE));
    expect(text).to.not.contain('server');
    expect(text).to.contain('| c0 | 2.000 | 0 % | 500 | 1.00 | 1.00 | 64 |');
  });

  it('words a rate as a rate', () => {
    expect(textReport(recordOf(ALONE))).to.contain('met: rate 500 MB/s (wanted at least 200 MB/s)');
  });

  it('words cores and cycles', () => {
    const [goal] = recordOf(ALONE).goals;
    if (goal === undefined) throw new Error('the record has a goal');
    const worded = { ...goal, bound: 'at most', isMet: false } as const;
    expect(goalLine({ ...worded, unit: 'cores', value: 1, figure: 1.234 })).to.equal(
      'MISSED: rate 1.23 cores (wanted at most 1.00 cores)',
    );
    expect(goalLine({ ...worded, unit: 'cycles', value: 0, figure: 3 })).to.equal(
      'MISSED: rate 3 cycles (wanted at most 0 cycles)',
    );
  });

  it('comes back from its line', () => {
    const record = recordOf(SERVED);
    expect(parseRecord(jsonLine(record))).to.deep.equal(record);
    expect(parseRecord('{"format":"hvdr-bench","version":2}')).to.equal(undefined);
  });
});

describe('bench space', () => {
  const bench: Bench = {
    name: 'b',
    question: '',
    spaceBytes: 7 * GIB,
    programs: [],
    prepare: () => Promise.resolve({ contenders: [], goals: [], settings: {} }),
  };

  it('follows the size of the data where the bench has one', () => {
    expect(spaceFor({ ...bench, sizeBytes: GIB }, 64 * MIB)).to.equal(7 * 64 * MIB);
    expect(spaceFor({ ...bench, sizeBytes: GIB }, GIB)).to.equal(7 * GIB);
    expect(spaceFor(bench, 0)).to.equal(7 * GIB);
  });
});
