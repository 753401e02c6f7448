// What `hvdr import` asks of a receiver, and an operator who stages a raw file as a seed.

import { guidFromWire, guidToWire } from '../../../shared/bytes/index.js';
import type {
  ImportDeltaRequest,
  ImportDone,
  SeedDone,
  SeedRequest,
} from '../../../shared/channel/index.js';
import {
  encodeManifestHeader,
  type ManifestHeader,
  messageFrom,
  parseBatch,
} from '../../../shared/delta/index.js';
import type { CyclePlan, Services, SourceVm } from './source-double.js';

export interface ImportChange {
  readonly header?: Partial<ManifestHeader>;
  readonly root?: Buffer;
  readonly disk?: number;
  /** The messages that are sent in place of the right ones. */
  readonly messages?: (messages: Buffer[]) => Buffer[];
  /** The stream breaks off behind so many messages. */
  readonly breakAfter?: number;
}

/** Imports one disk of a plan; `change` tells what is wrong with it. */
export async function importDisk(
  site: Services,
  vm: SourceVm,
  plan: CyclePlan,
  diskIndex: number,
  change: ImportChange = {},
): Promise<ImportDone> {
  const header = { ...vm.header(plan, diskIndex), ...change.header };
  const root = change.root ?? vm.roots(plan)[diskIndex] ?? Buffer.alloc(32);
  let accept: (wanted: { nextCell: number; isComplete: boolean }) => void = () => undefined;
  const accepted = new Promise<{ nextCell: number; isComplete: boolean }>((resolve) => {
    accept = resolve;
  });
  const requests = (async function* (): AsyncGenerator<ImportDeltaRequest> {
    const manifestHeader = encodeManifestHeader(header);
    const begin = { vm: vm.name, diskIndex: change.disk ?? diskIndex, manifestHeader, root };
    yield { part: { $case: 'begin', value: begin } };
    const { nextCell, isComplete } = await accepted;
    if (isComplete) return;
    const messages = [...vm.messages(plan, [], { batchCells: 1 })].filter((message) => {
      const parsed = parseBatch(message);
      return parsed.kind !== 'begin' && parsed.diskIndex === diskIndex;
    });
    const changed = change.messages?.(messages) ?? messages;
    for (const [index, message] of changed.entries()) {
      if (index === change.breakAfter) throw new Error('the line broke');
      const value = messageFrom(message, nextCell, header.diskSizeBytes);
      if (value !== undefined) yield { part: { $case: 'batch', value } };
    }
  })();
  for await (const { step } of site.control().importDelta(requests)) {
    if (step?.$case === 'done') return step.value;
    if (step?.$case === 'accepted') {
      const { nextCell, isComplete } = step.value;
      accept({ nextCell: Number(nextCell), isComplete });
    }
  }
  throw new Error('the import had no end');
}

export async function seedRaw(
  site: Services,
  vm: SourceVm,
  paths: readonly string[],
  more: Partial<SeedRequest> = {},
): Promise<SeedDone> {
  const files = paths.map((path, index) => ({
    path,
    format: 'raw',
    diskId: guidToWire(vm.disks[index]?.diskId ?? vm.vmId),
  }));
  const request: SeedRequest = {
    vm: vm.name,
    vmId: guidToWire(vm.vmId),
    principal: 'site-a',
    isRestart: false,
    from: { $case: 'files', value: { files } },
    ...more,
  };
  for await (const { step } of site.control().seed(request)) {
    if (step?.$case === 'done') return step.value;
  }
  throw new Error('the seed had no end');
}

/** Cells that the receiver says it has of a disk in unfinished cycles, with their hashes in hex. */
export async function stagedCells(
  site: Services,
  vm: SourceVm,
  diskIndex: number,
): Promise<Map<number, string>> {
  const cells = new Map<number, string>();
  const source = site.replication();
  const { unfinished } = await source.describe({ vmId: guidToWire(vm.vmId), vmName: vm.name });
  if (unfinished === undefined) return cells;
  const diskId = guidToWire(vm.disks[diskIndex]?.diskId ?? vm.vmId);
  const of = { $case: 'cycleId', value: unfinished.cycleId } as const;
  const asked = { vmId: guidToWire(vm.vmId), diskId, generation: 0, of };
  for await (const { records } of source.hashes(asked)) {
    for (let at = 0; at < records.length; at += 40) {
      cells.set(records.readUIntLE(at, 6), records.toString('hex', at + 8, at + 40));
    }
  }
  return cells;
}

export function pointOf({ pointId }: ImportDone): string {
  return guidFromWire(pointId) ?? '';
}
