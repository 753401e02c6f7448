// The calls Wanted and Repair: which cells rotted here, and their bytes once more from the source.
// Nothing is written that has not the hash of the manifest.

import { guidToWire } from '../shared/bytes/index.js';
import type {
  Caller,
  RepairRequest,
  RepairResponse,
  WantedCell,
  WantedRequest,
  WantedResponse,
} from '../shared/channel/index.js';
import { DrError } from '../shared/errors.js';
import { requireGuid } from './ingest/open-request.js';
import type { VmDesk } from './ingest/vm-desk.js';
import type { Receiver } from './receiver.js';
import { changeHolding } from './store/exposure.js';
import { Repair } from './store/repair.js';

const CELLS_PER_MESSAGE = 1000;
/** What was mended is put down this often. */
const CELLS_PER_SAVE = 256;

/** Cells that nobody wants are passed over, as after an answer that was lost, but not for ever. */
const REFUSED_MAX = 50_000;

/** @throws DrError E_NOT_PROTECTED, E_HALTED */
export async function* wanted(
  receiver: Receiver,
  request: WantedRequest,
  caller: Caller,
): AsyncGenerator<WantedResponse> {
  const desk = await receiver.requireDesk(requireGuid(request.vmId, 'the VM id'), caller);
  const { vm } = desk;
  const repair = await changeHolding(vm, () => Repair.open(receiver.seams, vm));
  const cells = repair.wanted.map(({ diskId, generation, cell, hash, isInHead }): WantedCell => ({
    diskId: guidToWire(diskId),
    generation,
    cell: BigInt(cell),
    hash: hash ?? Buffer.alloc(0),
    isInHead,
  }));
  for (let at = 0; at < cells.length; at += CELLS_PER_MESSAGE) {
    yield { cells: cells.slice(at, at + CELLS_PER_MESSAGE) };
  }
  repair.noteTold();
}

/** @throws DrError E_NOT_PROTECTED, E_HALTED, E_PROTOCOL */
export async function repair(
  receiver: Receiver,
  messages: AsyncIterable<RepairRequest>,
  caller: Caller,
): Promise<RepairResponse> {
  let desk: VmDesk | undefined;
  let work: Repair | undefined;
  let refusedCount = 0;
  const finish = async (): Promise<void> => {
    const begun = work;
    if (begun !== undefined && desk !== undefined) {
      await changeHolding(desk.vm, () => begun.finish());
    }
  };
  try {
    for await (const message of messages) {
      const vmId = requireGuid(message.vmId, 'the VM id');
      if (desk === undefined) {
        const found = await receiver.requireDesk(vmId, caller);
        work = await changeHolding(found.vm, () => Repair.open(receiver.seams, found.vm));
        desk = found;
      } else if (desk.vm.vmId !== vmId) {
        throw new DrError('E_PROTOCOL', 'one repair is about one VM');
      }
      const disk = {
        diskId: requireGuid(message.diskId, 'the disk id'),
        generation: message.generation,
      };
      const open = work;
      const cell = Number(message.cell);
      const isTaken = await changeHolding(
        desk.vm,
        async () => (await open?.take(disk, cell, message.data)) === true,
      );
      if (!isTaken && ++refusedCount > REFUSED_MAX) {
        throw new DrError('E_PROTOCOL', `${refusedCount} cells came that nobody wants`);
      }
      if (isTaken && (open?.repairedCount ?? 0) % CELLS_PER_SAVE === 0) await finish();
    }
  } finally {
    await finish();
  }
  const repairedCount = work?.repairedCount ?? 0;
  if (desk !== undefined) {
    const { vmName, owner } = desk.vm.protection;
    receiver.log
      .child({ component: 'repair', vmId: desk.vm.vmId })
      .info('repair.taken', { vmName, owner, repairedCount, refusedCount });
  }
  return { repairedCount, refusedCount };
}
