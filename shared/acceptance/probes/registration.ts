// VMs are made from parts, kept from starting, removed and made again.

import path from 'node:path';
import { defined } from '../../assert.js';
import { DrError } from '../../errors.js';
import type { VmDefinition } from '../../hypervisor/index.js';
import { type Bench, MIB, pattern, diskAt } from '../bench.js';

export async function registration(bench: Bench): Promise<void> {
  const { host } = bench;
  for (const generation of [1, 2] as const) {
    const { vmId, files } = await bench.makeVm({
      diskBytes: [8 * MIB],
      adapterCount: 2,
      generation,
    });
    const made = await host.describeVm(vmId);
    const power = (await host.summaryOf(vmId))?.powerState;
    const faults = [
      ...(power === 'off' ? [] : [`it is ${power ?? 'not there'}`]),
      ...(made.generation === generation ? [] : [`generation ${made.generation}`]),
      ...(made.isAutoStart ? ['it starts by itself'] : []),
      ...(made.adapters.length === 2 ? [] : [`${made.adapters.length} adapters`]),
      ...(connectedTo(made) === '' ? [] : [`connected to ${connectedTo(made)}`]),
      ...((await host.findTagged(bench.tag))?.id === vmId ? [] : ['its tag is not found']),
    ];
    bench.check(
      'registered-from-parts',
      faults.length === 0,
      faults.length === 0
        ? 'generations 1 and 2: off, tagged, two adapters unconnected'
        : `generation ${generation}: ${faults.join(', ')}`,
    );
    await host.removeVm(vmId);
    const left = await Promise.all(files.map((file) => bench.seams.fs.status(file)));
    bench.check(
      'removal-leaves-disks',
      left.every((status) => status?.kind === 'file') && (await host.summaryOf(vmId)) === undefined,
      left.every((status) => status !== undefined)
        ? `${files.length} disk file stayed; the VM is gone`
        : 'a disk file went with the VM',
    );
  }
}

function connectedTo({ adapters }: VmDefinition): string {
  return adapters.flatMap(({ switchName }) => switchName ?? []).join(', ');
}

export async function fence(bench: Bench): Promise<void> {
  const { host } = bench;
  const { vmId } = await bench.makeVm({ diskBytes: [8 * MIB] });
  const before = await host.describeVm(vmId);
  await host.fenceVm(vmId, { tag: bench.tag, epoch: 7n });
  const fenced = await host.describeVm(vmId);
  const refused = await startRefused(bench, vmId);
  const epoch = (await host.fenceOf(vmId))?.epoch;
  await host.unfenceVm(vmId);
  const after = await host.describeVm(vmId);
  const faults = [
    ...(refused ? [] : ['it could be started']),
    ...(epoch === 7n ? [] : [`the fence read back as ${epoch ?? 'none'}`]),
    ...(fenced.isAutoStart ? ['it starts by itself'] : []),
    ...(connectedTo(fenced) === '' ? [] : [`connected to ${connectedTo(fenced)}`]),
    ...((await host.fenceOf(vmId)) === undefined ? [] : ['the fence stayed']),
    ...(after.isAutoStart === before.isAutoStart ? [] : ['automatic start is another one']),
  ];
  bench.check(
    'fence-holds',
    faults.length === 0,
    faults.length === 0 ? 'a start was refused; all is as before afterwards' : faults.join(', '),
  );
}

async function startRefused(
  { host }: Bench,
  vmId: Parameters<Bench['host']['startVm']>[0],
): Promise<boolean> {
  try {
    await host.startVm(vmId);
  } catch (error) {
    if (error instanceof DrError) return true;
    throw error;
  }
  await host.turnOffVm(vmId);
  return false;
}

export async function copiedVm(bench: Bench): Promise<void> {
  const { host } = bench;
  const { vmId, files } = await bench.makeVm({ diskBytes: [8 * MIB] });
  const diskId = (await host.describeVm(vmId)).disks[0]?.diskId;
  const point = await bench.referencePoint(vmId);
  // the VM goes as it would by an export: nothing of it is tidied before
  await host.removeVm(vmId);
  const again = await bench.makeVm({ diskBytes: [8 * MIB], files });
  const points = await host.listReferencePoints(again.vmId);
  const sameId = (await host.describeVm(again.vmId)).disks[0]?.diskId === diskId;
  bench.check(
    'copied-vm-known',
    points.length === 0 && sameId,
    points.length === 0
      ? `${point.disks.length} ids were there before, none now; the disk id is ${sameId ? 'the same' : 'another one'}`
      : `it still has ${points.length} reference points`,
  );

  const file = defined(files[0], 'the VM has a disk');
  await host.removeVm(again.vmId);
  await bench.seams.fs.remove(file);
  const other = await bench.makeDisk(path.basename(file), 8 * MIB, pattern(3, MIB));
  const { vmId: newId } = await bench.makeVm({ diskBytes: [8 * MIB], files: [other] });
  await bench.withCheckpoint(newId, async (checkpoint) => {
    const isOther = checkpoint.disks[0]?.diskId !== diskId;
    const { trackingId } = diskAt(point.disks);
    const ranges = await bench.ranges(checkpoint, trackingId);
    bench.check(
      'replaced-disk-seen',
      isOther && ranges === 'invalid',
      `the disk id is ${isOther ? 'another one' : 'the same'}; the former id is ${ranges === 'invalid' ? 'invalid' : 'still answered'}`,
    );
  });
}
