// Split brain (failover.md § 5): people decide whose data count. What the other side wrote is kept aside,
// and never enters the pair.

import { DrError } from '../../shared/errors.js';
import type { VmDesk } from '../ingest/vm-desk.js';
import type { VmStore } from '../store/vm-store.js';
import { appendFailover, owedAfter } from './failover-book.js';
import type { FailoverRecord } from './model.js';
import { payDebts } from './operations/debts.js';
import { isAlive, probeSource } from './operations/probe.js';
import { type Asked, valuesOf } from './operations/work.js';
import type { FailoverSite } from './site.js';

/**
 * The VM here goes on. The one at the primary has to be off: by people, by us where the source allows it,
 * or because it is lost. Its disks stay as they are, fenced: returns the word of what they hold.
 * @throws DrError E_SOURCE_ALIVE, E_SHUTDOWN_TIMEOUT, E_LOCKED
 */
export async function keepReplica(
  site: FailoverSite,
  desk: VmDesk,
  asked: Asked,
): Promise<readonly string[]> {
  const { vm } = desk;
  const { vmId, protection } = vm;
  const source = site.sources.find(vmId, protection.owner);
  const found = await probeSource({ source, vm });
  const operationId = protection.failover.instance?.operationId ?? vmId;
  if (source !== undefined && isAlive(found)) {
    if (found?.allowed.includes('shutdown') !== true) {
      throw new DrError('E_SOURCE_ALIVE', `${protection.vmName} runs at the primary site`, {
        hint: 'Stop it there first; its disks stay as they are.',
      });
    }
    const values = valuesOf(asked.parameters);
    const how = { timeoutMs: values.shutdown_timeout * 1000, mayTurnOff: values.force_off };
    // before it is off: an undo starts again what we have stopped
    await changeSplitBrain(site, desk, asked, () => ({ isSourceStopped: true }));
    await source.shutDown(vmId, { operationId, epoch: protection.epoch }, how);
  }
  await changeSplitBrain(site, desk, asked, ({ owed, instance }) => ({
    phase: 'failed-over',
    orphanEpoch: protection.epoch.toString(),
    // the primary has run: a failback compares every disk
    instance: instance && { ...instance, isPlanned: false },
    owed: owedAfter(owed, { owes: ['fence'] }, operationId),
  }));
  await payDebts(site, desk);
  const { vmName, head, failover } = vm.protection;
  const isFenced = !failover.owed.some(({ kind }) => kind === 'fence');
  return [
    `what ${vmName} wrote at the primary since point ${head?.pointId ?? 'none'} is on its disks there only`,
    isFenced ? 'they are fenced there' : 'they are fenced there at the next contact with its agent',
    'copy what counts before a failback, which brings all of the disks level with the VM here',
  ];
}

/** @throws DrError E_LOCKED when it is none any more */
async function changeSplitBrain(
  { seams }: FailoverSite,
  { vm }: VmDesk,
  asked: Asked,
  change: (failover: FailoverRecord) => Partial<FailoverRecord>,
): Promise<void> {
  await vm.change(async () => {
    const { failover, epoch } = vm.protection;
    requireUndecided(vm);
    const record = { ...failover, ...change(failover) };
    await appendFailover(vm, seams.clock, record, epoch, asked);
  });
}

/** The other site may have taken its time, and somebody else decided meanwhile. @throws DrError E_LOCKED */
function requireUndecided({ protection }: VmStore): void {
  const { failover, vmName } = protection;
  if (failover.phase === 'split-brain' && failover.operation === undefined) return;
  throw new DrError('E_LOCKED', `${vmName} is not in a split brain any more`, {
    done: 'nothing was changed here',
  });
}

/**
 * The VM at the primary goes on: from here on every disk is compared before a delta counts. Returns the
 * parameters of the undo that follows: what the VM here wrote is kept under a name of its epoch.
 * @throws DrError E_LOCKED
 */
export async function keepSource(
  { seams }: FailoverSite,
  { vm }: VmDesk,
  { by, keyId }: Asked,
): Promise<Readonly<Record<string, string>>> {
  const former = vm.protection.epoch;
  await vm.change(async () => {
    requireUndecided(vm);
    const epoch = (vm.protection.epoch + 1n).toString();
    await vm.append({ kind: 'unhalt', atMs: seams.clock.now(), epoch, by, keyId });
  });
  return { keep_disk: `orphan-${former}` };
}
