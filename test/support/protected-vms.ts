// A DR store with many small VMs, one point each, and an empty lab of its site: what a plan of many is run
// over. Made in this process, because a command for each VM would take longer than the plan.

import { connectDirectly, controlService, replicationService } from '../../shared/channel/index.js';
import { systemClock, systemRandom } from '../../shared/clock.js';
import { CELL_BYTES } from '../../shared/delta/index.js';
import { nodeFileSystem } from '../../shared/files/index.js';
import { Lab } from '../../shared/hypervisor/lab/index.js';
import { silentLog } from '../../shared/log.js';
import { controlHandlers, Receiver, replicationHandlers } from '../../dr-receiver/index.js';
import { OPERATOR, SOURCE, SourceVm } from '../unit/dr-receiver/source-double.js';

const SEAMS = { fs: nodeFileSystem, clock: systemClock, random: systemRandom };
const CELLS = 16;

/** `V000`, `V001` … */
export function nameOfVm(index: number): string {
  return `V${String(index).padStart(3, '0')}`;
}

/** Each VM has one disk of 1 MiB with a cell of its own. */
export async function makeProtectedVms(
  storeFolder: string,
  labFolder: string,
  count: number,
): Promise<void> {
  const receiver = await Receiver.open({ ...SEAMS, log: silentLog, storeFolder });
  const site = {
    replication: () => connectDirectly(replicationService, replicationHandlers(receiver), SOURCE),
    control: () => connectDirectly(controlService, controlHandlers(receiver), OPERATOR),
  };
  for (let index = 0; index < count; index++) {
    const vm = new SourceVm(index + 1, [CELLS * CELL_BYTES], nameOfVm(index));
    vm.write(0, index % CELLS, index + 1);
    await vm.replicate(site, vm.plan(index + 1, undefined, [undefined]));
  }
  await receiver.close();
  await (await Lab.create(labFolder, SEAMS)).close();
}

/** All of them in groups, so many at a time; a group begins when the one before has ended. */
export function planOfVms(count: number, concurrency: number, groupCount: number): string {
  const size = Math.ceil(count / groupCount);
  const groups = Array.from({ length: groupCount }, (_group, g) => {
    const names = Array.from({ length: count }, (_vm, index) => nameOfVm(index));
    const own = names.slice(g * size, (g + 1) * size).map((vm) => `{vm: ${vm}}`);
    return `  - group: G${g}\n    steps: [${own.join(', ')}]`;
  });
  return `version: 1\nname: Many\nconcurrency: ${concurrency}\nsteps:\n${groups.join('\n')}\n`;
}
