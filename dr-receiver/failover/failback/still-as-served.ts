// Whether the VM here is still what the primary was started with (failover.md § 4, F7). Nobody but people
// can have changed it: it was shut down and fenced in F2. Then what is read here is no point that the
// ledger of the primary could go on from.

import { defined } from '../../../shared/assert.js';
import type { Guid } from '../../../shared/bytes/index.js';
import { DrError } from '../../../shared/errors.js';
import { powerStateOf, tagOfInstance } from '../instance.js';
import type { Operation } from '../model.js';
import type { Work } from '../operations/work.js';
import type { ServingDisks } from './serving-disks.js';

/** Fact: nobody knows that the return point equals the disks of the primary. */
const IS_DOUBTED = 'isDoubted';

/**
 * The VM here is off, and nobody starts it by accident while its disks are read.
 * @throws DrError E_SPLIT_BRAIN
 */
export async function holdStill({ host, vm, instance }: Work): Promise<void> {
  const vmId = defined(instance.vmId, 'a VM that serves is registered');
  const powerState = await powerStateOf(host, vmId);
  if (powerState === 'off') {
    const tag = tagOfInstance(vm.vmId, instance);
    await host.fenceVm(vmId, { tag, epoch: vm.protection.epoch });
    return;
  }
  const { vmName } = instance;
  throw new DrError('E_SPLIT_BRAIN', `${vmName} is ${powerState ?? 'gone'} here`, {
    context: { vmId, powerState: powerState ?? '' },
    done: 'no point was listed; the failback stays provisional',
    hint: `Somebody started it by hand. ${WAYS_OUT}`,
  });
}

const WAYS_OUT =
  '`hvdr failover undo VM` goes on with what is here. What is at the primary goes on when the VM here is off: `hvdr failover permanent VM --force --reason TEXT` makes what is here a point, and the next cycle compares every disk.';

/**
 * The frozen disks have the roots of F2. When that is forced, or nobody knows them, the record says that
 * the next cycle has to compare: durable on return.
 * @throws DrError E_DIFFERENT
 */
export async function requireAsServed(work: Work, frozen: ServingDisks): Promise<void> {
  const { instance, values, book, vm, site } = work;
  const known = instance.disks.filter(({ servedRoot }) => servedRoot !== undefined);
  const differing: Guid[] = [];
  for (const { diskId, servedRoot } of known) {
    if ((await frozen.root(diskId)).toString('hex') !== servedRoot) differing.push(diskId);
  }
  if (differing.length > 0 && !values.force) throw notAsServed(work, differing);
  if (differing.length === 0 && known.length === instance.disks.length) return;
  const { vmName } = vm.protection;
  const reason = `${differing.length} disk(s) differ, ${known.length} of ${instance.disks.length} are known`;
  site.log.warn('failback.compare-due', { vmId: vm.vmId, vmName, reason });
  await book.note({ facts: { [IS_DOUBTED]: 'yes' } });
}

function notAsServed({ instance, vm }: Work, diskIds: readonly Guid[]): DrError {
  return new DrError(
    'E_DIFFERENT',
    `the disks of ${instance.vmName} here are not those any more that the primary was started with`,
    {
      context: { vmId: vm.vmId, diskId: diskIds.join(' ') },
      done: 'no point was listed; the failback stays provisional',
      hint: `Somebody started the VM here, or applied a checkpoint to it. ${WAYS_OUT}`,
    },
  );
}

export function isDoubted({ facts }: Operation): boolean {
  return facts[IS_DOUBTED] === 'yes';
}

/** Before the primary goes on from a point that is doubted: its next cycle compares every disk. */
export async function demandComparison({ vm, site, book }: Work): Promise<void> {
  const { by, keyId } = book.operation;
  await vm.change(async () => {
    if (vm.protection.isCompareDue) return;
    const epoch = (vm.protection.epoch + 1n).toString();
    await vm.append({ kind: 'unhalt', atMs: site.seams.clock.now(), epoch, by, keyId });
  });
}
