// What is really wrong with the files of a VM, whatever its receiver knows or believes: everything is
// read back from a copy of the volume, marks and known damage left aside.

import type { Guid } from '../../shared/bytes/index.js';
import { silentLog } from '../../shared/log.js';
import { Receiver } from '../../dr-receiver/index.js';
import type { LayerDamage } from '../../dr-receiver/store/scrub-state.js';
import { verifyPoints } from '../../dr-receiver/store/verify-points.js';
import { FakeClock } from '../support/fake-clock.js';
import { SeededRandom } from '../support/seeded-random.js';
import { Broken } from './promises.js';
import type { Site } from './site.js';

const STORE_FOLDER = '/store';

export interface Truth {
  /** By the name of the layer's file; layers without damage are not listed. */
  readonly damage: ReadonlyMap<string, LayerDamage>;
  /** Points that show some of it. */
  readonly shownBy: ReadonlySet<Guid>;
}

/** undefined: there is no such VM, or it is halted. */
export async function truthOf(site: Site, vmId: Guid): Promise<Truth | undefined> {
  const fs = site.machine.volume.survivors(0, 'all');
  const random = new SeededRandom(1);
  const clock = new FakeClock(site.machine.wallMs);
  const options = { fs, clock, random, log: silentLog, storeFolder: STORE_FOLDER } as const;
  const receiver = await Receiver.open({ ...options, use: 'read' });
  try {
    const vm = await receiver.store.vm(vmId);
    if (vm === undefined || vm.halt !== undefined) return undefined;
    const damage = new Map<string, LayerDamage>();
    const shownBy = new Set<Guid>();
    for await (const step of verifyPoints({ fs, random }, vm, vm.protection.listed)) {
      if (step.kind === 'layer' && step.damage !== undefined) damage.set(step.key, step.damage);
      if (step.kind === 'finding') shownBy.add(step.finding.pointId);
    }
    return { damage, shownBy };
  } finally {
    await receiver.close();
  }
}

/**
 * Holds a receiver that was told to read everything to what it found: no cell is bad that it takes for
 * good. @throws Broken
 */
export async function expectKnown(site: Site, vmId: Guid): Promise<void> {
  const vm = site.vm(vmId);
  if (!site.known.has(vmId) || vm === undefined || vm.halt !== undefined) return;
  if (site.machine.failureCount > 0) {
    // what a device did not give back is nobody's knowledge
    site.known.delete(vmId);
    return;
  }
  const truth = await truthOf(site, vmId);
  for (const [key, { cells }] of truth?.damage ?? []) {
    const known = vm.scrub.damage.get(key)?.cells;
    if (known === 'all') continue;
    const missed =
      cells === 'all' ? 'all of it' : cells.find((cell) => known?.includes(cell) !== true);
    if (missed === undefined) continue;
    throw new Broken(`${site.name} takes ${key} for good, and it is bad: cell ${missed}`);
  }
}

/** The VM is as it should be: what rotted in its cells was mended. */
export function noteMended(site: Site, vmId: Guid, truth: Truth): boolean {
  if (truth.damage.size > 0 || site.rotten.get(vmId) !== 'cells') return false;
  site.rotten.delete(vmId);
  return true;
}
