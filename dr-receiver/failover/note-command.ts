// Commands that change nothing but the record: pause and unpause, giving up what was only begun, and that
// a retired protection has its successor.

import { DrError } from '../../shared/errors.js';
import type { VmDesk } from '../ingest/vm-desk.js';
import type { Receiver } from '../receiver.js';
import type { Command } from './model.js';
import type { Asked } from './operations/work.js';
import { noteReprotected } from './reprotect.js';

/** @throws DrError E_STATE, E_HALTED, E_IO */
export async function noteCommand(
  { seams }: Pick<Receiver, 'seams'>,
  desk: VmDesk,
  command: Command,
  asked: Asked,
): Promise<void> {
  const { by, keyId } = asked;
  const { vm } = desk;
  const actor = { by, keyId };
  if (command === 'abort') {
    // what a seed or a compare has brought stays for the next one
    await vm.change(() => desk.setAside());
    return;
  }
  if (command === 'reprotect') {
    await noteReprotected(seams.clock, vm, asked);
    return;
  }
  if (command !== 'pause' && command !== 'unpause' && command !== 'resume') {
    throw new DrError('E_STATE', `${command} is none of these`);
  }
  const isPaused = command === 'pause';
  await vm.change(async () => {
    if (vm.protection.isPaused === isPaused) return;
    await vm.append({ kind: 'pause', atMs: seams.clock.now(), isPaused, ...actor });
  });
}
