// The simulation on code that was broken on purpose: it must notice. All of it takes minutes, so it runs
// with SLOW=1; that every patch still applies, and that the page tells what was noticed, is checked always.

import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { checkoutFolder } from '../support/checkout.js';
import {
  applyMutant,
  copyBuilt,
  mutantNamed,
  mutantTable,
  readNoticed,
  runMutant,
  tableInPage,
} from './mutate.js';
import { MUTANTS } from './mutants.js';

const SLOW = process.env['SLOW'] === '1';
const SEEDS_MAX = 400;

describe('simulation of broken code', function () {
  this.timeout(SLOW ? 7_200_000 : 300_000);

  it('has a patch for each mutant that applies', () => {
    const copy = join(checkoutFolder, '.cache', 'mutants', 'all');
    try {
      for (const mutant of MUTANTS) {
        rmSync(copy, { recursive: true, force: true });
        mkdirSync(copy, { recursive: true });
        copyBuilt(copy);
        applyMutant(copy, mutant);
      }
    } finally {
      rmSync(copy, { recursive: true, force: true });
    }
  });

  it('refuses a patch whose text is not there', () => {
    const mutant = mutantNamed('in-flight-dropped');
    const [patch] = mutant.patches;
    if (patch === undefined) throw new Error('it has a patch');
    const copy = join(checkoutFolder, '.cache', 'mutants', 'none');
    mkdirSync(copy, { recursive: true });
    try {
      copyBuilt(copy);
      const wrong = { ...mutant, patches: [{ ...patch, find: 'nobody writes this' }] };
      expect(() => applyMutant(copy, wrong)).to.throw('0 times');
    } finally {
      rmSync(copy, { recursive: true, force: true });
    }
  });

  it('is told in docs/testing.md as it was noticed', () => {
    const noticed = readNoticed();
    expect(Object.keys(noticed).sort()).to.deep.equal(MUTANTS.map(({ name }) => name).sort());
    expect(tableInPage()).to.equal(mutantTable(noticed));
  });

  const chosen = SLOW ? MUTANTS : [mutantNamed('layer-removed'), mutantNamed('data-unflushed')];
  for (const mutant of chosen) {
    it(`notices: ${mutant.what}`, () => {
      expect(runMutant(mutant, 1, SEEDS_MAX)).not.to.equal(undefined);
    });
  }
});
