// The end of a failback from this side alone: its DR site says that the VM is given back, or is gone and says
// nothing any more. A VM that was started on its protective disks stays on them, and no store is believed to
// know what they have; one that was not stays on its former disks, over which the protective ones go.

import type { Guid } from '../../shared/bytes/index.js';
import { DrError } from '../../shared/errors.js';
import type { VmSummary } from '../../shared/hypervisor/index.js';
import { LedgerStore } from '../ledger-store.js';
import type { EndSeams } from './failback.js';
import { ledgerOwingAll } from './ledger-after.js';
import { removeMarks } from './marks.js';
import { removeProtective } from './protective-disks.js';
import { ReturnFile, type ReturnRecord } from './return-record.js';

/** kept: the VM stays on the disks that the failback started it on. dropped: on those that it had before. */
export type EndedHere = 'kept' | 'dropped';

/**
 * Which of both it would be. Nothing is changed.
 * @throws DrError E_STATE when some disks of the VM are those, and some the others
 */
export async function endOf(
  { stage, disks }: ReturnRecord,
  vm: Pick<VmSummary, 'id' | 'name'>,
  { hypervisor }: Pick<EndSeams, 'hypervisor'>,
): Promise<EndedHere> {
  if (stage !== 'started') return 'dropped';
  const present = new Set((await hypervisor.describeVm(vm.id)).disks.map(({ path }) => path));
  const former = disks.filter(({ original }) => present.has(original));
  if (former.length === 0) return 'kept';
  if (former.length === disks.length) return 'dropped';
  throw new DrError(
    'E_STATE',
    `${vm.name} has some of its former disks, and some of the failback`,
    {
      context: { vmId: vm.id, former: former.map(({ original }) => original).join(', ') },
      done: 'nothing was changed at the primary site',
      hint: 'Put the VM on the one set or the other by hand while it is off, then ask again.',
    },
  );
}

/**
 * Under the lease of the VM. Durable on return; the same again after a crash. undefined: none is open, or
 * one of another store than `storeId`.
 * @throws DrError E_STATE, E_FILE_DAMAGED, E_IO
 */
export async function endHere(
  vm: Pick<VmSummary, 'id' | 'name'>,
  storeId: Guid | undefined,
  seams: EndSeams,
): Promise<EndedHere | undefined> {
  const { stateFolder, fs, hypervisor, log } = seams;
  const file = new ReturnFile(stateFolder, vm.id, seams);
  const record = await file.read();
  if (record === undefined || (storeId !== undefined && record.storeId !== storeId))
    return undefined;
  const end = await endOf(record, vm, seams);
  if (record.stage === 'started') {
    await oweAll(vm, seams);
    await removeMarks(vm.id, record.operationId, hypervisor);
  }
  if (end === 'dropped') await removeProtective(record.disks, fs);
  await file.remove();
  const { operationId, stage } = record;
  log.warn('failback.ended-here', { vmId: vm.id, vmName: vm.name, operationId, stage, end });
  return end;
}

/** What came by the failback, and what the VM wrote since, no tracking has seen. */
async function oweAll(
  { id, name }: Pick<VmSummary, 'id' | 'name'>,
  { fs, random, clock, log, stateFolder, hypervisor }: EndSeams,
): Promise<void> {
  const ledgerSeams = { fs, random, now: () => clock.now() };
  const { store, ledger, setAside } = await LedgerStore.open(stateFolder, id, name, ledgerSeams);
  if (setAside !== undefined) {
    log.warn('ledger.set-aside', { path: setAside.path, error: setAside.error });
  }
  await store.save(ledgerOwingAll(ledger));
  for (const { id: referenceId, tag } of await hypervisor.listReferencePoints(id)) {
    if (tag?.protectionId === id) await hypervisor.removeReferencePoint(id, referenceId);
  }
}
