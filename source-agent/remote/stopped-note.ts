// Remembers that a VM is off because a DR site asked for it: a small file beside the ledger, durable before
// the VM is shut down. Whoever lets a DR site do that lets it start the VM again, also by another
// operation, as an undo is, and also when the agent was restarted in between.
//
// Another DR site gets nothing by it, nor does an order of an epoch before.

import { join } from 'node:path';
import { type Guid, parseGuid } from '../../shared/bytes/index.js';
import type { Random } from '../../shared/clock.js';
import { DrError } from '../../shared/errors.js';
import {
  type FileSystem,
  type JsonFormat,
  readJson,
  writeJsonDurably,
} from '../../shared/files/index.js';

const FORMAT: JsonFormat = { name: 'stopped', version: 1, limitBytes: 4096 };

export interface StoppedBy {
  readonly storeId: Guid;
  readonly operationId: Guid;
  readonly epoch: bigint;
}

export function stoppedFileName(vmId: Guid): string {
  return `${vmId}.stopped.json`;
}

export class StoppedNote {
  readonly #path: string;
  readonly #vmId: Guid;
  readonly #fs: FileSystem;
  readonly #random: Random;

  constructor(stateFolder: string, vmId: Guid, seams: { fs: FileSystem; random: Random }) {
    this.#path = join(stateFolder, stoppedFileName(vmId));
    this.#vmId = vmId;
    this.#fs = seams.fs;
    this.#random = seams.random;
  }

  /** Durable on return. @throws DrError E_IO, E_CAPACITY */
  async write({ storeId, operationId, epoch }: StoppedBy): Promise<void> {
    const fields = { vmId: this.#vmId, storeId, operationId, epoch: epoch.toString() };
    await writeJsonDurably(this.#fs, this.#path, FORMAT, fields, this.#random);
  }

  /** Whether that DR site stopped the VM, at this epoch or before. @throws DrError E_FILE_DAMAGED, E_IO */
  async isOf({ storeId, epoch }: Pick<StoppedBy, 'storeId' | 'epoch'>): Promise<boolean> {
    const fields = await readJson(this.#fs, this.#path, FORMAT);
    if (fields === undefined) return false;
    const { vmId, storeId: store, epoch: since } = fields;
    const isWhole = typeof store === 'string' && parseGuid(store) !== undefined;
    if (vmId !== this.#vmId || !isWhole || typeof since !== 'string' || !/^\d{1,20}$/.test(since)) {
      throw new DrError('E_FILE_DAMAGED', `${this.#path} does not say who stopped the VM`, {
        context: { path: this.#path },
        done: 'the VM was not started',
        hint: 'Start the VM by hand and remove the file, or let the DR site start it: `remote_actions=start`.',
      });
    }
    return store === storeId && BigInt(since) <= epoch;
  }

  /** The VM runs again, or is not this DR site's to start any more. @throws DrError E_IO */
  async remove(): Promise<void> {
    if ((await this.#fs.status(this.#path)) === undefined) return;
    await this.#fs.remove(this.#path);
    await this.#fs.flushFolder(join(this.#path, '..'));
  }
}
