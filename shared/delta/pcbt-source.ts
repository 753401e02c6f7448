// A PCBT file with its manifest as a source of cells: the form in which a delta comes back from
// Bacula volumes. Every cell has to lie whole in one block, as our own writer lays them; a foreign
// delta on another grid can be applied (apply.ts), but not layered or merged.

import type { BlockFile } from '../files/index.js';
import { readExactly } from './cell-delta.js';
import { CELL_BYTES, cellLength } from './cell.js';
import { DeltaError } from './delta-error.js';
import type { DeltaEntry, DeltaSource } from './delta-source.js';
import type { ManifestFile } from './manifest.js';
import { checkKind, type ManifestHeader } from './manifest-format.js';
import { indexPcbt, type PcbtBlock } from './pcbt.js';
import { Peekable } from './peekable.js';

/** Reads a delta from its two files; both stay the caller's. */
export class PcbtDelta implements DeltaSource {
  readonly header: ManifestHeader;
  readonly #manifest: ManifestFile;
  readonly #file: BlockFile;

  /** @throws DeltaError E_DELTA_COVERAGE when the manifest is the one of a base */
  constructor(manifest: ManifestFile, file: BlockFile) {
    checkKind(manifest.header, 'delta');
    this.header = manifest.header;
    this.#manifest = manifest;
    this.#file = file;
  }

  /** @throws DeltaError E_PCBT_…, E_DELTA_MANIFEST, E_DELTA_COVERAGE */
  async *entries(): AsyncGenerator<DeltaEntry> {
    const { diskSizeBytes } = this.header;
    const blocks = new Peekable(indexPcbt(this.#file, { diskSizeBytes }));
    let covered = 0;
    try {
      for await (const record of this.#manifest.records()) {
        const count = record.kind === 'zero' ? record.count : 1;
        for (let cell = record.cell; cell < record.cell + count; cell++) {
          const lengthBytes = cellLength(cell, diskSizeBytes);
          const block = await blockOf(blocks, cell * CELL_BYTES, lengthBytes);
          covered += lengthBytes;
          if (record.kind === 'data') {
            const position = block.dataPosition + (cell * CELL_BYTES - block.offset);
            yield { ...record, position };
          }
        }
        if (record.kind === 'zero') yield record;
      }
    } finally {
      await blocks.close();
    }
    let total = 0;
    for await (const block of indexPcbt(this.#file, { diskSizeBytes })) total += block.lengthBytes;
    if (total !== covered) {
      throw new DeltaError(
        'E_DELTA_COVERAGE',
        `the manifest covers ${covered} bytes, the delta has ${total}`,
        { context: { coveredBytes: covered, deltaBytes: total } },
      );
    }
  }

  async read(position: number, target: Uint8Array): Promise<void> {
    await readExactly(this.#file, position, target);
  }
}

/** The block in which [offset, offset + lengthBytes) lies whole. */
async function blockOf(
  blocks: Peekable<PcbtBlock>,
  offset: number,
  lengthBytes: number,
): Promise<PcbtBlock> {
  let block = await blocks.peek();
  while (block !== undefined && block.offset + block.lengthBytes <= offset) {
    await blocks.next();
    block = await blocks.peek();
  }
  const isInside =
    block !== undefined &&
    block.offset <= offset &&
    offset + lengthBytes <= block.offset + block.lengthBytes;
  if (block !== undefined && isInside) return block;
  throw new DeltaError(
    'E_DELTA_COVERAGE',
    `the cell at guest offset ${offset} does not lie whole in one block of the delta`,
    { context: { offset } },
  );
}
