// Whether the RPO can hold, by what cycles took.

import { expect } from 'chai';
import { type MeasuredPace, OutlookMemory, rpoOutlook } from '../../../source-agent/rpo-outlook.js';

function pace(vmName: string, rpoSeconds: number, ...seconds: number[]): MeasuredPace {
  return {
    key: `job/${vmName}`,
    vmName,
    rpoSeconds,
    durationsMs: seconds.map((each) => each * 1000),
  };
}

const broken = (paces: readonly MeasuredPace[]): string[] =>
  rpoOutlook(paces, 4)
    .filter(({ share }) => share > 1)
    .map(({ key }) => key);

describe('RPO outlook', () => {
  it('wants an RPO of two cycles at least, by the median', () => {
    expect(broken([pace('a', 60, 30, 30, 30)])).to.deep.equal([]);
    expect(broken([pace('a', 60, 31, 31, 31)])).to.deep.equal(['job/a']);
    expect(broken([pace('a', 60, 10, 500, 10, 20)])).to.deep.equal([]);
  });

  it('says nothing before it has seen a few cycles', () => {
    expect(broken([pace('a', 60, 500, 500)])).to.deep.equal([]);
  });

  it('finds out that all together do not fit although each would', () => {
    const vms = (count: number): MeasuredPace[] =>
      Array.from({ length: count }, (_, index) => pace(`vm${index}`, 60, 10, 10, 10));
    // a place takes five such cycles within the fifty seconds that each may wait
    expect(broken(vms(19))).to.deep.equal([]);
    expect(broken(vms(21))).to.deep.equal(['']);
  });

  it('is told once, and again only after it had passed', () => {
    const memory = new OutlookMemory();
    const told = (...seconds: number[]): string[] =>
      memory.news(rpoOutlook([pace('a', 60, ...seconds)], 4)).map(({ key }) => key);
    expect(told(31, 31, 31)).to.deep.equal(['job/a']);
    expect(told(31, 31, 31)).to.deep.equal([]);
    expect(told(29, 29, 29), 'not far enough away').to.deep.equal([]);
    expect(told(31, 31, 31)).to.deep.equal([]);
    expect(told(20, 20, 20)).to.deep.equal([]);
    expect(told(31, 31, 31)).to.deep.equal(['job/a']);
  });
});
