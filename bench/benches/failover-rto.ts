// How long a VM takes to come up from its newest point: the price of what has changed since the base,
// whatever the size of the disk. The changes are scattered, as those of a real guest are.

import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { assert } from '../../shared/assert.js';
import { systemClock, systemRandom } from '../../shared/clock.js';
import { nodeFileSystem } from '../../shared/files/index.js';
import { Lab } from '../../shared/hypervisor/lab/index.js';
import { type Bench, type Contender, GIB, type MedianOf, MIB, TIB } from '../bench.js';
import { CELL_BYTES, RandomBytes, type Run, scatteredCells } from '../data.js';
import { powerOn, takeAway } from '../failover-rto.js';
import { perform } from '../measure.js';
import { type Content, makeStore } from '../old-store.js';

const POINT_BYTES = 50_000_000;
const POINTS = 5;
const BASE_CELLS = 1024;
const SMALL = 'newest point of a 1 GiB disk';
const LARGE = 'newest point of a 1 TiB disk';
const NOTHING = 'the process alone';
const SEAMS = { fs: nodeFileSystem, clock: systemClock, random: systemRandom };

interface Site {
  readonly name: string;
  readonly store: string;
  readonly lab: string;
  readonly contents: readonly Content[];
}

export const failoverRto: Bench = {
  name: 'failover-rto',
  question:
    'The newest of five points of 50 MB in random 64 KiB cells comes up on the lab host: disks made, VM registered and started; does a 1 TiB disk take longer than one of 1 GiB?',
  spaceBytes: 2 * GIB,
  programs: [],
  async prepare({ folder, product }) {
    const sites: Site[] = [];
    const settings: Record<string, string | number> = {
      points: `${POINTS} of ${POINT_BYTES / 1e6} MB, random 64 KiB cells`,
    };
    for (const [name, diskBytes] of [
      [SMALL, GIB],
      [LARGE, TIB],
    ] as const) {
      const contents = contentsOf(diskBytes);
      const at = join(folder, `${diskBytes / GIB}`);
      const site = { name, store: `${at}.store`, lab: `${at}.lab`, contents };
      await makeStore(site.store, diskBytes, contents, {
        clock: systemClock,
        maxRestorePoints: POINTS + 1,
      });
      sites.push(site);
      settings[`space, ${name}`] = await spaceOf(site);
    }
    return {
      settings,
      contenders: [
        ...sites.map((site): Contender => ({
          ...{ name: site.name, role: site.name === LARGE ? 'ours' : 'limit', payloadBytes: 0 },
          prepare: () => emptied(site),
          commands: () => [product.helper('failover-rto', 'power-on', site.store, site.lab)],
          verify: () => verify(site),
        })),
        {
          ...{ name: NOTHING, role: 'limit', payloadBytes: 0 },
          commands: () => [product.helper('failover-rto', 'nothing')],
        },
      ],
      goals: [
        {
          ...{ text: `time against the ${SMALL}`, unit: 'x', bound: 'at most', value: 1.2 },
          figure: (medianOf) => workSeconds(medianOf, LARGE) / workSeconds(medianOf, SMALL),
        },
        {
          ...{ text: 'time to the power-on', unit: 's', bound: 'at most', value: 1 },
          figure: (medianOf) => medianOf(LARGE).wallSeconds,
        },
      ],
    };
  },
};

/** The start of the process costs both the same, and would hide a difference. */
function workSeconds(medianOf: MedianOf, name: string): number {
  return medianOf(name).wallSeconds - medianOf(NOTHING).wallSeconds;
}

function contentsOf(diskBytes: number): Content[] {
  const cellCount = diskBytes / CELL_BYTES;
  const runsOf = (count: number, seed: string): Run[] => scatteredCells(count, cellCount, seed);
  const base = { runs: runsOf(BASE_CELLS, 'rto base cells'), seed: 'rto base' };
  const points = Array.from({ length: POINTS }, (_, index) => ({
    runs: runsOf(Math.ceil(POINT_BYTES / CELL_BYTES), `rto cells ${index}`),
    seed: `rto ${index}`,
  }));
  return [base, ...points];
}

async function emptied({ store, lab }: Site): Promise<void> {
  await takeAway(store);
  await rm(lab, { recursive: true, force: true });
  await (await Lab.create(lab, SEAMS)).close();
  await perform({ program: 'sync', arguments: ['--file-system', store] });
}

/** What the blocks of the materialised file cost, here and where a file has no holes. */
async function spaceOf(site: Site): Promise<string> {
  await emptied(site);
  const { files } = await powerOn(site.store, site.lab);
  const cells = new Set<number>();
  for (const { runs } of site.contents.slice(1)) for (const { offset } of runs) cells.add(offset);
  let lengthBytes = 0;
  let allocatedBytes = 0;
  for (const file of files) {
    const { size, blocks } = await stat(file);
    lengthBytes += size;
    allocatedBytes += blocks * 512;
  }
  const inMib = (bytes: number): string => `${Math.round(bytes / MIB)} MiB`;
  return `${inMib(cells.size * CELL_BYTES)} of cells take ${inMib(allocatedBytes)}, ${inMib(lengthBytes)} without holes`;
}

/** The guest sees the newest point. */
async function verify({ lab, contents }: Site): Promise<void> {
  const host = await Lab.open(lab, SEAMS);
  const { id } = await host.findVm('restored');
  const newest = contents.at(-1);
  assert(newest !== undefined, 'there are points');
  const random = new RandomBytes(newest.seed);
  await host.withGuestView(id, 0, async (disk) => {
    const bytes = Buffer.alloc(CELL_BYTES);
    for (const { offset } of newest.runs) {
      await disk.read(offset, bytes);
      assert(bytes.equals(random.next(CELL_BYTES)), 'the guest has the bytes of the point');
    }
  });
  await host.close();
}
