// The clock of the system.

import { expect } from 'chai';
import { systemClock } from '../../shared/clock.js';

const DAY_MS = 86_400_000;

describe('clock of the system', () => {
  it('sleeps longer than a timer of the runtime can, until it is woken', async () => {
    const warnings: string[] = [];
    const onWarning = ({ name }: Error): void => {
      warnings.push(name);
    };
    process.on('warning', onWarning);
    const wake = new AbortController();
    const ends: string[] = [];
    const sleeping = systemClock.sleep(30 * DAY_MS, wake.signal).then(
      () => ends.push('slept'),
      () => ends.push('woken'),
    );
    // a timer that overflows goes off before this one
    await systemClock.sleep(20);
    expect(ends).to.deep.equal([]);
    wake.abort();
    await sleeping;
    process.off('warning', onWarning);
    expect(ends).to.deep.equal(['woken']);
    expect(warnings).to.deep.equal([]);
  });
});
