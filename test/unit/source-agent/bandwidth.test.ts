// The budget of a source: shared by all senders, by the hour of the local clock, changed at run time.

import { expect } from 'chai';
import { parseSchedule } from '../../../shared/params/schedule.js';
import { Bandwidth, type BandwidthPlan, type LocalHour } from '../../../source-agent/bandwidth.js';
import { FakeClock } from '../../support/fake-clock.js';

const MIB = 2 ** 20;
const HOUR_MS = 3_600_000;
const { signal } = new AbortController();

function scheduled(text: string, bytesPerSecond = 0): BandwidthPlan {
  const schedule = parseSchedule(text);
  if (!Array.isArray(schedule)) throw new Error('the schedule is legal');
  return { bytesPerSecond, schedule: schedule as readonly (number | undefined)[] };
}

/** The clock of the tests begins on Thursday, 2026-01-01, at midnight. */
const utcHour: LocalHour = (atMs) => {
  const at = new Date(atMs);
  return { day: at.getUTCDay(), hour: at.getUTCHours() };
};

/** Sends without a pause; returns a reader of what was let go. */
function sender(bandwidth: Bandwidth, size = MIB, until = signal): () => number {
  let sent = 0;
  const run = async (): Promise<void> => {
    while (!until.aborted) {
      await bandwidth.take(size, until);
      sent += size;
    }
  };
  run().catch(() => undefined);
  return () => sent;
}

describe('bandwidth of a source', () => {
  it('follows the hour of the local clock', async () => {
    const clock = new FakeClock();
    const bandwidth = new Bandwidth(
      clock,
      scheduled('thu 00-01=1M,thu 01-02=4M', MIB / 2),
      utcHour,
    );
    const stop = new AbortController();
    const sent = sender(bandwidth, MIB, stop.signal);
    await clock.advance(HOUR_MS - 60_000);
    const first = sent();
    expect(first / MIB).to.be.within(3530, 3545);
    await clock.advance(120_000);
    // a minute of each
    expect((sent() - first) / MIB).to.be.within(280, 310);
    await clock.advance(HOUR_MS);
    const before = sent();
    await clock.advance(100_000);
    expect((sent() - before) / MIB, 'where the schedule is silent').to.be.within(49, 51);
    stop.abort();
  });

  it('lets everything through at an hour without limit', async () => {
    const clock = new FakeClock();
    const bandwidth = new Bandwidth(clock, scheduled('*=0', MIB), utcHour);
    await bandwidth.take(1000 * MIB, signal);
    expect(clock.monotonic()).to.equal(0);
  });

  it('takes a new plan at once, also for those who wait', async () => {
    const clock = new FakeClock();
    const bandwidth = new Bandwidth(clock, { bytesPerSecond: 16 * 1024 });
    let isDone = false;
    void bandwidth.take(16 * MIB, signal).then(() => {
      isDone = true;
    });
    await clock.advance(10_000);
    expect(isDone).to.equal(false);
    bandwidth.use({ bytesPerSecond: 8 * MIB });
    await clock.advance(1900);
    expect(isDone).to.equal(false);
    await clock.advance(200);
    expect(isDone).to.equal(true);
    void bandwidth.take(16 * MIB, signal).then(() => {
      isDone = false;
    });
    bandwidth.use({ bytesPerSecond: 0 });
    await clock.advance(1);
    expect(isDone, 'no limit any more').to.equal(false);
  });

  it('is one budget: many senders together get no more than one', async () => {
    const clock = new FakeClock();
    const bandwidth = new Bandwidth(clock, { bytesPerSecond: MIB });
    const stop = new AbortController();
    const sent = Array.from({ length: 50 }, () => sender(bandwidth, MIB / 4, stop.signal));
    await clock.advance(100_000);
    const total = sent.reduce((sum, read) => sum + read(), 0);
    expect(total / MIB).to.be.within(99.5, 100.5);
    // each in its turn
    for (const read of sent) expect(read() / MIB).to.be.within(1.75, 2.25);
    expect(bandwidth.isBusy).to.equal(true);
    stop.abort();
    await clock.advance(1);
    expect(bandwidth.isBusy).to.equal(false);
  });

  it('passes over a sender that gave up', async () => {
    const clock = new FakeClock();
    const bandwidth = new Bandwidth(clock, { bytesPerSecond: MIB });
    const stop = new AbortController();
    const reasons: unknown[] = [];
    bandwidth.take(100 * MIB, stop.signal).catch((error: unknown) => reasons.push(error));
    let isDone = false;
    void bandwidth.take(MIB, signal).then(() => {
      isDone = true;
    });
    await clock.advance(500);
    stop.abort(new Error('given up'));
    await clock.advance(1100);
    expect(reasons.map(String)).to.deep.equal(['Error: given up']);
    expect(isDone).to.equal(true);
  });
});
