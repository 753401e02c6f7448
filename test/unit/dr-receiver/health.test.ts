// Health by table: what monitoring is told.

import { expect } from 'chai';
import { healthOf } from '../../../dr-receiver/index.js';

const GOOD = {
  nowMs: 1_000_000,
  newestPointAtMs: 1_000_000 - 10_000,
  rpoSeconds: 600,
  isPaused: false,
  haltReason: undefined,
  damaged: [],
  unknownCount: 0,
  forecast: undefined,
};

describe('health', () => {
  const rows: readonly [
    what: string,
    change: Partial<Parameters<typeof healthOf>[0]>,
    want: string,
  ][] = [
    ['a fresh point', {}, 'ok'],
    ['just below 80 % of the RPO', { newestPointAtMs: 1_000_000 - 479_000 }, 'ok'],
    ['80 % of the RPO', { newestPointAtMs: 1_000_000 - 480_000 }, 'warn'],
    ['the RPO', { newestPointAtMs: 1_000_000 - 600_000 }, 'critical'],
    ['no RPO asked for', { rpoSeconds: 0, newestPointAtMs: 0 }, 'ok'],
    ['a point from the future of the clock', { newestPointAtMs: 2_000_000 }, 'ok'],
    ['no point', { newestPointAtMs: undefined }, 'warn'],
    ['paused', { isPaused: true }, 'warn'],
    ['halted', { haltReason: 'the journal is damaged' }, 'critical'],
    ['a damaged point', { damaged: ['disk 1, offset 0: bad'] }, 'critical'],
    ['a cycle that the journal does not know', { unknownCount: 1 }, 'warn'],
    [
      'an RPO that will be missed',
      { forecast: { newestAgeSeconds: 700, willMissRpo: true, because: 'points came late' } },
      'warn',
    ],
    [
      'an RPO that will be kept',
      { forecast: { newestAgeSeconds: 590, willMissRpo: false, because: 'points came early' } },
      'ok',
    ],
    ['an alarm', { alarm: 'the data look encrypted' }, 'critical'],
    ['a suspicion', { suspicion: 'somewhat like encryption' }, 'warn'],
    ['pins that wait for a look', { automaticPins: '8 points' }, 'warn'],
  ];
  for (const [what, change, want] of rows) {
    it(`${what}: ${want}`, () => {
      const { health, reasons } = healthOf({ ...GOOD, ...change });
      expect(health).to.equal(want);
      expect(reasons.length === 0).to.equal(want === 'ok');
    });
  }
});
