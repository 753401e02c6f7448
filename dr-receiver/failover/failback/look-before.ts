// What has to be so before a failback begins, and what it would have to carry, as far as that can be told
// without reading any disk. Nothing is changed here.

import { defined } from '../../../shared/assert.js';
import { DrError } from '../../../shared/errors.js';
import type { ParameterValues } from '../../../shared/params/index.js';
import { CELL_BYTES } from '../../../shared/delta/index.js';
import type { VmDesk } from '../../ingest/vm-desk.js';
import { layersOf } from '../../store/point-sources.js';
import type { VmStore } from '../../store/vm-store.js';
import type { Collector } from '../collector.js';
import { describeAttached } from '../describe-attached.js';
import { findInstance, tagOfInstance } from '../instance.js';
import { instanceDiskPaths } from '../instance-files.js';
import type { Instance } from '../model.js';
import { isAlive } from '../operations/probe.js';
import { type FailoverSite, requireHost } from '../site.js';
import { requireSameDisks } from './return-point.js';
import { comparedFirst } from './round.js';

interface Asking {
  readonly site: FailoverSite;
  readonly desk: VmDesk;
  readonly values: ParameterValues;
}

export async function lookBeforeFailback(asking: Asking, found: Collector): Promise<void> {
  const { desk, site, values } = asking;
  const { vm } = desk;
  const { instance } = vm.protection.failover;
  if (values.failback_to.toLowerCase() !== 'original') {
    found.refuse({
      code: 'E_PARAMETER',
      message: `failback_to=${values.failback_to}: only the original VM can be failed back to`,
      hint:
        `A VM of another id is another protection: \`hvdr failover permanent ${vm.protection.vmName}\`, ` +
        'then `hvdr reprotect`, and a planned failover from there.',
    });
  }
  await lookAtSource(asking, found);
  // the state machine says it
  if (instance === undefined) return;
  await found.ask(async () => {
    requireSameDisks(vm, instance.pointId);
    const words = await predicted(site, vm, instance);
    const compared =
      comparedFirst(values, instance) === 'full' ? '; every disk is compared by its hashes' : '';
    found.notes.push(`${words}${compared}`);
  });
  await found.ask(async () => {
    if (site.host === undefined) return;
    const tag = tagOfInstance(vm.vmId, instance);
    if ((await findInstance(requireHost(site), tag)) !== undefined) return;
    throw new DrError('E_STATE', `${instance.vmName}, which serves here, is not to be found`);
  });
}

async function lookAtSource({ site, desk }: Asking, found: Collector): Promise<void> {
  const { vmName } = desk.vm.protection;
  const state = await describeAttached(site, desk, found);
  if (state === undefined) return;
  if (isAlive(state)) {
    found.refuse({ code: 'E_SOURCE_ALIVE', message: `${vmName} runs at the primary site` });
  }
  if (!state.allowed.includes('failback')) {
    found.refuse({
      code: 'E_REMOTE_ACTION',
      message: `the primary site does not let ${vmName} be failed back from here`,
    });
  }
}

/** What the deltas behind the started point name, and what the protective disks have grown to. */
async function predicted(site: FailoverSite, vm: VmStore, instance: Instance): Promise<string> {
  const head = defined(vm.protection.head, 'a VM that was failed over has points');
  let bytes = 0;
  for (const disk of instance.disks) {
    const { protective } = instanceDiskPaths(vm.layout, disk);
    bytes += (await site.seams.fs.status(protective))?.sizeBytes ?? 0;
    const layers = layersOf(vm, head, disk);
    const start = layers.findIndex(({ pointId }) => pointId === instance.pointId);
    for (const layer of layers.slice(start + 1)) bytes += layer.disk.cellCount * CELL_BYTES;
  }
  return `the primary lacks about ${Math.ceil(bytes / (1024 * 1024))} MiB at most`;
}
