// Power cuts at every durable step of a backup job. The host's memory and the plugin are gone, the
// hypervisor's objects stay, the guest writes on, and Bacula keeps what came before the cut. Whether it
// counts the job or not: the next Incremental and the next Differential must give the guest.

import { expect } from 'chai';
import type { FileSystem } from '../../shared/files/index.js';
import { restoredDisks } from '../support/backup-volume.js';
import { runUntilCrash } from '../support/crash-everywhere.js';
import { CrashError, CrashFileSystem, type SurvivorStyle } from '../support/crash-file.js';
import { JobSite, type RanJob } from '../support/job-site.js';
import { MemoryFileSystem } from '../support/memory-file.js';

const SLOW = process.env['SLOW'] === '1';
const CELL = 65536;
const STYLES: readonly SurvivorStyle[] = ['none', 'all', 'prefix', 'random', 'names', 'data'];

interface Case {
  readonly level: 'F' | 'I' | 'D';
  readonly parameters: string;
}

/** A Full and an Incremental that count, and the guest at the last checkpoint. */
class World {
  readonly site = new JobSite([5 * CELL - 512, 2 * CELL]);
  readonly full: RanJob;
  readonly first: RanJob;
  isDead: () => boolean = () => false;
  #moment: readonly Buffer[] = [];

  private constructor() {
    const { hypervisor } = this.site.world;
    hypervisor.onCall = (verb) => {
      this.#outside();
      if (verb.startsWith('createCheckpoint') && verb !== 'createCheckpoint done') {
        this.#moment = this.site.vm.disks.map(({ bytes }) => Buffer.from(bytes));
      }
    };
    hypervisor.onRead = () => {
      this.#outside();
      this.site.guestWrites();
    };
    this.full = this.site.announce();
    this.first = this.site.announce();
  }

  static async on(volume: MemoryFileSystem): Promise<World> {
    const world = new World();
    const { site, full, first } = world;
    site.guestWrites();
    await site.start(full, 'F', '', { files: volume });
    site.guestWrites();
    await site.start(first, 'I', full.name, { files: volume });
    site.guestWrites();
    return world;
  }

  /** The job until its end or the power cut. */
  async run(job: RanJob, { level, parameters }: Case, files: CrashFileSystem): Promise<boolean> {
    this.isDead = () => files.hasCrashed;
    job.volume.onFile = job.volume.onChunk = () => {
      this.#outside();
    };
    const builtOn = { F: '', I: this.first.name, D: this.full.name }[level];
    const work = (fs: FileSystem): Promise<void> =>
      this.site.start(job, level, builtOn, { parameters, files: fs });
    return runUntilCrash(files, work);
  }

  revive(): void {
    this.isDead = () => false;
    this.site.world.hypervisor.closeHandles();
  }

  async checkRestored(jobs: readonly RanJob[], what: string): Promise<void> {
    const disks = await restoredDisks(jobs.map(({ volume }) => volume));
    const isRight = disks.every((bytes, index) => bytes.equals(this.#moment[index] ?? bytes));
    expect(isRight && disks.length === this.#moment.length, what).to.equal(true);
    const { checkpoints, referencePoints } = this.site.world.hypervisor;
    expect(checkpoints.size, 'checkpoints left behind').to.equal(0);
    expect(referencePoints.size, 'reference points').to.be.at.most(1);
  }

  #outside(): void {
    if (this.isDead()) throw new CrashError('the process is dead');
  }
}

interface Found {
  readonly job: RanJob;
  readonly isCounted: boolean;
  readonly files: MemoryFileSystem;
  readonly order: readonly ('I' | 'D')[];
}

/** Jobs after the cut, of both levels, and what a restore of each gives. */
async function checkAfter(world: World, { level }: Case, found: Found): Promise<void> {
  const { site, full, first } = world;
  const { job, isCounted, files, order } = found;
  const base = isCounted && level === 'F' ? job : full;
  let chain = [full, first];
  if (isCounted) chain = { F: [job], I: [full, first, job], D: [full, job] }[level];
  for (const next of order) {
    site.guestWrites();
    const builtOn = next === 'D' ? base : (chain.at(-1) ?? base);
    const ran = await site.run(next, builtOn.name, { files });
    chain = next === 'D' ? [base, ran] : [...chain, ran];
    await world.checkRestored(chain, `a restore of the ${next} after it`);
  }
}

async function cutEverywhere(what: Case): Promise<number> {
  const rehearsal = new MemoryFileSystem();
  const world = await World.on(rehearsal);
  const counting = new CrashFileSystem({ volume: rehearsal });
  expect(await world.run(world.site.announce(), what, counting)).to.equal(true);
  let stateCount = 0;
  for (let operation = 1; operation <= counting.operationCount + 1; operation++) {
    for (const [index, style] of STYLES.entries()) {
      // of each operation two styles, one with a job that counts and one with a job that does not
      if (!SLOW && (operation + index) % 3 !== 0) continue;
      for (const isCounted of SLOW ? [false, true] : [index < 3 === (operation % 2 === 0)]) {
        await cut(what, operation, style, isCounted);
        stateCount++;
      }
    }
  }
  return stateCount;
}

async function cut(
  what: Case,
  operation: number,
  style: SurvivorStyle,
  isCounted: boolean,
): Promise<void> {
  const volume = new MemoryFileSystem();
  const world = await World.on(volume);
  const crash = new CrashFileSystem({ volume, crashAt: operation });
  const job = world.site.announce();
  await world.run(job, what, crash);
  crash.crashNow();
  world.revive();
  const files = crash.survivors(operation * 7, style);
  const order = operation % 2 === 0 ? (['D', 'I', 'I'] as const) : (['I', 'D', 'I'] as const);
  try {
    await checkAfter(world, what, { job, isCounted, files, order });
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    const counted = isCounted ? 'counted' : 'not counted';
    const last = crash.lastOperation;
    throw new Error(`operation ${operation} (${last}), ${style}, ${counted}: ${text}`, {
      cause: error,
    });
  }
}

describe('backup jobs: power cuts', () => {
  const cases: Record<string, Case> = {
    'a Full': { level: 'F', parameters: '' },
    'an Incremental': { level: 'I', parameters: '' },
    'a Differential': { level: 'D', parameters: '' },
    'a push of two cycles': {
      level: 'I',
      parameters: 'mode=rct-push push_cycles=2 push_interval=1',
    },
  };
  for (const [name, what] of Object.entries(cases)) {
    it(`at every durable step of ${name}, counted or not: both chains give the guest`, async function () {
      this.timeout(SLOW ? 900_000 : 480_000);
      expect(await cutEverywhere(what)).to.be.greaterThan(20);
    });
  }
});
