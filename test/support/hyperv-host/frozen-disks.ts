// What the double of virtdisk.dll needs beside the frozen files of a checkpoint: the flat bytes, and the answer for
// each reference point that could be asked from.

import { appendFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { LabContext } from '../../../shared/hypervisor/lab/context.js';
import type { Lab } from '../../../shared/hypervisor/lab/index.js';
import { diskPath } from '../../../shared/hypervisor/lab/layout.js';
import type { VmRecord } from '../../../shared/hypervisor/lab/record.js';
import { trackingIdOf } from '../../../shared/hypervisor/lab/tracking.js';
import { DrError } from '../../../shared/errors.js';

export class FrozenDisks {
  /** More lines for each sidecar: `page 2`, `fail QueryChangesVirtualDisk 0xC03A0030`. */
  readonly lines: string[] = [];
  readonly #lab: Lab;
  readonly #files = new Map<string, string[]>();

  constructor(lab: Lab) {
    this.#lab = lab;
  }

  async prepare({ folder }: LabContext, vm: VmRecord, checkpointId: string): Promise<void> {
    const record = vm.checkpoints.find(({ id }) => id === checkpointId);
    const made: string[] = [];
    for (const { diskId, file } of record?.disks ?? []) {
      const path = diskPath(folder, vm.id, file);
      const disk = await this.#lab.openCheckpointDisk(vm.id, checkpointId, diskId);
      const bytes = Buffer.alloc(disk.sizeBytes);
      await disk.read(0, bytes);
      await disk.close();
      const lines = [
        `size ${String(disk.sizeBytes)}`,
        `sectors ${String(disk.logicalSectorBytes)} ${String(disk.physicalSectorBytes)}`,
        `id ${diskId}`,
        'tracking 1 0 -',
        ...this.lines,
      ];
      for (const { disks } of vm.referencePoints) {
        const mark = disks.find((each) => each.diskId === diskId);
        if (mark === undefined) continue;
        const trackingId = trackingIdOf(mark.epoch, mark.sequence);
        lines.push(...(await this.#changes(vm, checkpointId, diskId, trackingId)));
      }
      writeFileSync(`${path}.image`, bytes);
      writeFileSync(`${path}.double`, `${lines.join('\n')}\n`);
      made.push(path);
    }
    this.#files.set(checkpointId, made);
  }

  /** A host that answers to an id without knowing that the disk went back: nothing changed. */
  answer(checkpointId: string, trackingId: string): void {
    for (const path of this.#files.get(checkpointId.replace('Microsoft:', '').toLowerCase()) ??
      []) {
      appendFileSync(`${path}.double`, `changes ${trackingId}\n`);
    }
  }

  async #changes(
    vm: VmRecord,
    checkpointId: string,
    diskId: VmRecord['disks'][number]['diskId'],
    trackingId: string,
  ): Promise<string[]> {
    const words: number[] = [];
    try {
      const ranges = this.#lab.changedRanges(vm.id, checkpointId, diskId, trackingId);
      for await (const { start, end } of ranges) words.push(start, end - start);
    } catch (error) {
      if (error instanceof DrError && error.code === 'E_TRACKING_INVALID') return [];
      throw error;
    }
    return [['changes', trackingId, ...words].join(' ')];
  }

  /** As vmms answers: what the sidecar says of a window. */
  changesFrom(
    path: string,
    trackingId: string,
    { offset, lengthBytes }: { readonly offset: number; readonly lengthBytes: number },
  ): Readonly<Record<string, unknown>> {
    const lines = readFileSync(`${path}.double`, 'utf8').split('\n');
    const words = lines
      .find((line) => line.startsWith(`changes ${trackingId}`))
      ?.split(' ')
      .slice(2);
    if (words === undefined) {
      return { returnValue: 32_773, jobId: null, processedBytes: '0', ranges: [] };
    }
    const end = offset + lengthBytes;
    const ranges = words.flatMap((word, index) => {
      if (index % 2 === 1) return [];
      const from = Math.max(offset, Number(word));
      const to = Math.min(end, Number(word) + Number(words[index + 1]));
      return from < to ? [{ offsetBytes: String(from), lengthBytes: String(to - from) }] : [];
    });
    return { returnValue: 0, jobId: null, processedBytes: String(lengthBytes), ranges };
  }

  /** With the checkpoint. */
  drop(checkpointIds: readonly string[]): void {
    for (const id of checkpointIds) {
      for (const path of this.#files.get(id) ?? []) {
        for (const suffix of ['.image', '.double']) rmSync(`${path}${suffix}`, { force: true });
      }
      this.#files.delete(id);
    }
  }
}
