// The page about faults is true: its steps are those of a run, and what it tells of them is what becomes of
// them. A few are tried here; `npm run fault-matrix` tries all and writes the page.

import { expect } from 'chai';
import { injectionsAt, PASSES, rehearse, tryInjection } from './matrix.js';
import { outcomesOfPage, stepsOfPage } from './page.js';
import { stepName } from './faults.js';

const SLOW = process.env['SLOW'] === '1';
const TRIED_EVERY = SLOW ? 1 : 29;

describe('fault matrix', function () {
  this.timeout(SLOW ? 7_200_000 : 600_000);

  it('has every durable step, and no other', async () => {
    const places = await rehearse();
    const steps = places.map(({ step }) => stepName(step)).sort();
    expect(stepsOfPage()).to.deep.equal(steps);
  });

  it('tells what becomes of a fault', async () => {
    const places = await rehearse();
    const all = places.flatMap((place) =>
      PASSES.flatMap((pass) =>
        injectionsAt(place, pass).map((injection) => ({ step: place.step, injection })),
      ),
    );
    for (const [index, { step, injection }] of all.entries()) {
      if (index % TRIED_EVERY !== 0) continue;
      const outcome = await tryInjection(injection);
      expect(
        outcomesOfPage(step, injection.fault),
        `${injection.fault} at ${stepName(step)}`,
      ).to.include(`× ${outcome}`);
    }
  });
});
