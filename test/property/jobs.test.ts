// Two Bacula jobs and a DR chain on one VM, against a Director of few words: whatever ran, failed, was
// deleted or was written in between, the files that the catalog selects give the guest's bytes.

import fc from 'fast-check';
import { expect } from 'chai';
import { DrError } from '../../shared/errors.js';
import { BackupVolume, restoredDisks } from '../support/backup-volume.js';
import { JobSite, type RanJob } from '../support/job-site.js';
import { difference } from '../unit/source-agent/agent-world.js';

const CELL = 65536;
const RUNS = process.env['SLOW'] === '1' ? 400 : 25;
const JOBS = ['nightly', 'hourly'] as const;
/** Most jobs break off nowhere: a chain must grow before it can be wrong. */
const WHOLE = Array.from({ length: 14 }, () => undefined);
type Level = 'F' | 'I' | 'D';

type Step =
  | { readonly kind: 'write' }
  | { readonly kind: 'break-tracking' }
  | { readonly kind: 'replicate' }
  | {
      readonly kind: 'job';
      readonly job: (typeof JOBS)[number];
      readonly level: Level;
      readonly cycles: number;
      /** The file at which the sink breaks off, counted from the first; none: it takes all. */
      readonly breaksAt: number | undefined;
      /** What Bacula says of the job in the end. */
      readonly counts: boolean;
    }
  /** Of the newest job of that name that counts. */
  | { readonly kind: 'delete'; readonly job: (typeof JOBS)[number] };

const job = fc.constantFrom(...JOBS);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.constant({ kind: 'write' } as const) },
  { weight: 1, arbitrary: fc.constant({ kind: 'break-tracking' } as const) },
  { weight: 2, arbitrary: fc.constant({ kind: 'replicate' } as const) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('delete' as const), job }) },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('job' as const),
      job,
      level: fc.constantFrom<Level>('F', 'I', 'I', 'I', 'D'),
      cycles: fc.integer({ min: 1, max: 2 }),
      breaksAt: fc.constantFrom(...WHOLE, 0, 1, 2, 3, 4, 5),
      counts: fc.constantFrom(true, true, true, false),
    }),
  },
);

interface Counted extends RanJob {
  readonly level: Level;
}

/** The jobs that count, and what a restore to the newest of them selects. */
class Catalog {
  readonly #jobs = new Map<string, Counted[]>();

  add(name: string, ran: Counted): void {
    this.#jobs.set(name, [...this.#of(name), ran]);
  }

  deleteNewest(name: string): void {
    this.#jobs.set(name, this.#of(name).slice(0, -1));
  }

  /** A level that nothing counts for is run as a Full. */
  wanted(name: string, level: Level): { readonly level: Level; readonly builtOn: string } {
    const full = this.#of(name).findLast((ran) => ran.level === 'F');
    if (level === 'F' || full === undefined) return { level: 'F', builtOn: '' };
    const newest = this.#of(name).at(-1) ?? full;
    return { level, builtOn: level === 'D' ? full.name : newest.name };
  }

  /** The newest Full, the newest Differential after it, the Incrementals after that. */
  selected(name: string): readonly Counted[] {
    const jobs = this.#of(name);
    const since = jobs.slice(jobs.findLastIndex(({ level }) => level === 'F'));
    const at = since.findLastIndex(({ level }) => level === 'D');
    return at < 0 ? since : [...since.slice(0, 1), ...since.slice(at)];
  }

  #of(name: string): readonly Counted[] {
    return this.#jobs.get(name) ?? [];
  }
}

class Model {
  readonly site = new JobSite([4 * CELL - 512, 2 * CELL]);
  readonly catalog = new Catalog();

  async run(what: Step): Promise<void> {
    const { site, catalog } = this;
    switch (what.kind) {
      case 'write':
        site.guestWrites();
        return;
      case 'break-tracking':
        site.world.hypervisor.breakTracking();
        return;
      case 'replicate': {
        await site.world.cycle(site.vm);
        const disks = site.vm.disks.map(({ bytes }) => bytes);
        expect(difference(site.world.receiver, site.vm.id, disks), 'the replica').to.equal('');
        return;
      }
      case 'delete':
        catalog.deleteNewest(what.job);
        return;
      case 'job':
        await this.#job(what);
    }
  }

  async #job({ job, level, cycles, breaksAt, counts }: Extract<Step, { kind: 'job' }>) {
    const { site, catalog } = this;
    const wanted = catalog.wanted(job, level);
    const volume = new BackupVolume();
    let fileCount = 0;
    volume.onChunk = () => {
      if (fileCount > (breaksAt ?? Infinity)) throw new DrError('E_IO', 'the volume is full');
    };
    volume.onFile = () => {
      fileCount++;
    };
    const ran = site.announce({ volume, job });
    const parameters =
      cycles === 1 ? '' : `mode=rct-push push_cycles=${cycles} push_interval=1 rpo_seconds=9`;
    const isWhole = await site
      .start(ran, wanted.level, wanted.builtOn, { parameters })
      .then(() => site.report?.vms.every(({ failureCount }) => failureCount === 0) === true)
      .catch((error: unknown) => {
        if (error instanceof DrError) return false;
        throw error;
      });
    if (counts) catalog.add(job, { ...ran, level: wanted.level });
    // without a whole point the newest state is that of an earlier job
    if (!counts || !isWhole) return;
    const selected = catalog.selected(job).map((one) => one.volume);
    const disks = await restoredDisks(selected);
    for (const [index, { bytes }] of site.vm.disks.entries()) {
      expect(disks[index]?.equals(bytes), `disk ${index} of ${ran.name}`).to.equal(true);
    }
  }
}

describe('backup jobs', () => {
  it('give the guest from what the catalog selects, in any order of events', async function () {
    this.timeout(240_000);
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 4, maxLength: 16 }), async (steps) => {
        const model = new Model();
        for (const what of steps) await model.run(what);
      }),
      { numRuns: RUNS },
    );
  });
});
