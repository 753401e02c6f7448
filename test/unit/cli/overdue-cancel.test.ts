// How long a cancelled job may take: what is left to do is counted, at every call of the host, and what does not end is ended.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { CANCEL_MS, endWhenOverdue } from '../../../cli/overdue-cancel.js';
import { BackupVolume } from '../../support/backup-volume.js';
import { checkoutFolder } from '../../support/checkout.js';
import { FakeClock } from '../../support/fake-clock.js';
import { JobSite } from '../../support/job-site.js';

/** Calls of the host that a cancelled job may make: a checkpoint or two given back, with their merges. */
const CALLS_MAX = 8;

describe('a cancelled job', () => {
  it('is ended when its time is over, and not before', async () => {
    const clock = new FakeClock();
    const cancel = new AbortController();
    let ends = 0;
    const watch = endWhenOverdue(cancel.signal, clock, () => ends++);
    await clock.advance(3_600_000);
    cancel.abort();
    await clock.advance(CANCEL_MS - 1);
    expect(ends).to.equal(0);
    await clock.advance(1);
    await watch;
    expect(ends).to.equal(1);
  });

  it('is ended, too, when the cancel came before anything was loaded', async () => {
    const clock = new FakeClock();
    let ends = 0;
    const watch = endWhenOverdue(AbortSignal.abort(), clock, () => ends++);
    await clock.advance(CANCEL_MS);
    await watch;
    expect(ends).to.equal(1);
  });

  it('is ended before the plugin kills it', () => {
    const names = readFileSync(join(checkoutFolder, 'plugin-bridge/adapter/names.h'), 'utf8');
    const [, seconds] = /^#define CANCEL_SECONDS (\d+)$/m.exec(names) ?? [];
    expect(1000 * Number(seconds)).to.be.above(CANCEL_MS);
  });

  for (const mode of ['backup', 'rct-push']) {
    it(`of mode ${mode} makes few more calls, wherever the cancel comes, and leaves no checkpoint`, async () => {
      let isDone = false;
      for (let cancelAt = 1; !isDone; cancelAt++) {
        const site = new JobSite();
        const { hypervisor, clock } = site.world;
        const volume = new BackupVolume();
        const announced = site.announce({ volume });
        let calls = 0;
        let cancelledAtMs = 0;
        hypervisor.onCall = () => {
          if (++calls !== cancelAt) return Promise.resolve();
          cancelledAtMs = clock.monotonic();
          volume.stop.abort(new Error('cancelled'));
          return Promise.resolve();
        };
        const parameters = `mode=${mode} push_cycles=3`;
        await site.start(announced, 'F', '', { volume, parameters }).catch((error: unknown) => {
          // of which colour it is nobody asks any more
          if (!volume.signal.aborted) throw error;
        });
        isDone = calls < cancelAt;
        if (isDone) continue;
        const at = `cancelled at call ${cancelAt}, ${hypervisor.calls[cancelAt - 1] ?? ''}`;
        const after = hypervisor.calls.slice(cancelAt);
        expect(after, `${at}: ${after.join(' ')}`).to.have.length.at.most(CALLS_MAX);
        expect(clock.monotonic() - cancelledAtMs, at).to.be.below(CANCEL_MS);
        expect(hypervisor.checkpoints.size, at).to.equal(0);
        expect(cancelAt, 'a job has an end').to.be.below(1000);
      }
    });
  }
});
