// What the primary knows of a failback under way: a small file beside the ledger, durable before each
// step, so that an agent that died goes on, or undoes what it did.

import { join } from 'node:path';
import { type Guid, parseGuid } from '../../shared/bytes/index.js';
import { DrError } from '../../shared/errors.js';
import {
  type FileSystem,
  type JsonFields,
  type JsonFormat,
  readJson,
  writeJsonDurably,
} from '../../shared/files/index.js';
import type { Random } from '../../shared/clock.js';

const FORMAT: JsonFormat = { name: 'failback', version: 1, limitBytes: 1024 * 1024 };

export const RETURN_STAGES = ['preparing', 'syncing', 'level', 'started'] as const;
/**
 * preparing: protective files are being made, and may be made anew. syncing: the primary's own changes
 * are in hand. level: the disks equal those of the serving VM, which is off. started: the VM was put on
 * the protective disks, and may have run.
 */
export type ReturnStage = (typeof RETURN_STAGES)[number];

export interface ReturnDisk {
  readonly diskId: Guid;
  /** The file that the VM had before, which nothing writes to. */
  readonly original: string;
  readonly protective: string;
}

export interface ReturnRecord {
  readonly vmId: Guid;
  readonly operationId: Guid;
  /** Of the DR site whose failback it is. */
  readonly storeId: Guid;
  readonly stage: ReturnStage;
  readonly disks: readonly ReturnDisk[];
  /** From which changes are known once the VM runs; undefined: they are not. */
  readonly referenceId: string | undefined;
}

export function returnFileName(vmId: Guid): string {
  return `${vmId}.failback.json`;
}

/** Only the holder of the VM's lease writes it. */
export class ReturnFile {
  readonly #path: string;
  readonly #fs: FileSystem;
  readonly #random: Random;

  constructor(stateFolder: string, vmId: Guid, seams: { fs: FileSystem; random: Random }) {
    this.#path = join(stateFolder, returnFileName(vmId));
    this.#fs = seams.fs;
    this.#random = seams.random;
  }

  /** undefined: no failback is under way. @throws DrError E_FILE_DAMAGED, E_IO */
  async read(): Promise<ReturnRecord | undefined> {
    const fields = await readJson(this.#fs, this.#path, FORMAT);
    return fields && parse(fields, this.#path);
  }

  async write(record: ReturnRecord): Promise<void> {
    const fields = { ...record, referenceId: record.referenceId ?? null };
    await writeJsonDurably(this.#fs, this.#path, FORMAT, fields, this.#random);
  }

  async remove(): Promise<void> {
    await this.#fs.remove(this.#path);
    await this.#fs.flushFolder(join(this.#path, '..'));
  }
}

/** How a failback that its DR site does not end by itself is ended. */
export function endingHint(vmName: string): string {
  return (
    `A failback from its DR site (\`hvdr failback ${vmName}\`) drops it once that is confirmed, an undo of the failover keeps it; ` +
    `where that site is gone, \`hvdr end-failback ${vmName} --host HOST\` here.`
  );
}

/**
 * No checkpoint comes between the VM's disks and what stands on them, and nothing starts the VM but its
 * failback; a cycle would carry what may be dropped. @throws DrError E_LOCKED, E_STATE, E_FILE_DAMAGED
 */
export async function refuseDuringFailback(
  stateFolder: string,
  { id, name }: { readonly id: Guid; readonly name: string },
  seams: { fs: FileSystem; random: Random },
): Promise<void> {
  const record = await new ReturnFile(stateFolder, id, seams).read();
  if (record === undefined) return;
  const { operationId, storeId, stage } = record;
  const isOpen = stage === 'started';
  throw new DrError(
    isOpen ? 'E_STATE' : 'E_LOCKED',
    isOpen
      ? `${name} runs here by a failback that is not committed`
      : `${name} is failing back: its disks are being brought level`,
    {
      context: { vmId: id, operationId, storeId, stage },
      done: 'nothing was changed',
      hint:
        'Commit the failback, or undo it, at the DR site. ' +
        `Where that site is gone: \`hvdr end-failback ${name} --host HOST\`.`,
    },
  );
}

function parse(fields: JsonFields, path: string): ReturnRecord {
  const { vmId, operationId, storeId, stage, disks, referenceId } = fields;
  const known = RETURN_STAGES.find((each) => each === stage);
  const [vm, operation, store] = [vmId, operationId, storeId].map(guidIn);
  const list = Array.isArray(disks) ? disks.map(parseDisk) : [undefined];
  const isReference = referenceId === null || typeof referenceId === 'string';
  const areIds = vm !== undefined && operation !== undefined && store !== undefined;
  if (!areIds || known === undefined || !isReference) throw unusable(path);
  return {
    vmId: vm,
    operationId: operation,
    storeId: store,
    stage: known,
    disks: list.map((disk) => {
      if (disk === undefined) throw unusable(path);
      return disk;
    }),
    referenceId: referenceId ?? undefined,
  };
}

function parseDisk(value: unknown): ReturnDisk | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { diskId, original, protective } = value as Record<string, unknown>;
  const id = guidIn(diskId);
  const arePaths = typeof original === 'string' && typeof protective === 'string';
  return id !== undefined && arePaths ? { diskId: id, original, protective } : undefined;
}

function guidIn(value: unknown): Guid | undefined {
  return typeof value === 'string' ? parseGuid(value) : undefined;
}

function unusable(path: string): DrError {
  return new DrError('E_FILE_DAMAGED', `${path} is no record of a failback`, {
    context: { path },
    done: 'nothing of the VM was changed',
    hint: 'Abort the failback at the DR site, then remove the file.',
  });
}
