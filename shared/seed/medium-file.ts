// Writes and reads a seed medium in one pass. Memory is one record.

import type { PreSharedKey } from '../channel/index.js';
import type { Random } from '../clock.js';
import type { ByteSink } from '../delta/index.js';
import type { BlockFile } from '../files/index.js';
import { TAG_BYTES } from '../channel/index.js';
import {
  encodeMediumHeader,
  MEDIUM_HEADER_BYTES,
  mediumError,
  MediumSeal,
  parseMediumHeader,
  parseRecordHead,
  RECORD_HEAD_BYTES,
  type RecordKind,
  SALT_BYTES,
} from './medium-format.js';

/** How the file of a medium is named, behind the id of the VM. */
export const MEDIUM_SUFFIX = '.hvdrseed';

/** Writes a whole medium to a sink. Durability is the sink's affair. @throws what the parts throw */
export async function writeSeedMedium(
  sink: ByteSink,
  key: PreSharedKey,
  random: Random,
  description: Buffer,
  messages: AsyncIterable<Buffer>,
): Promise<void> {
  const header = encodeMediumHeader(random.fill(Buffer.alloc(SALT_BYTES)), key.keyId);
  const seal = new MediumSeal(key, header);
  await sink(header);
  await sink(seal.seal('description', description));
  for await (const message of messages) await sink(seal.seal('message', message));
  const count = Buffer.alloc(8);
  count.writeBigUInt64LE(BigInt(seal.count));
  await sink(seal.seal('end', count));
}

/** The id of the key that the medium is sealed with. @throws DrError E_SEED_MEDIUM, E_FILE_VERSION */
export async function readMediumHeader(file: BlockFile): Promise<{ keyId: string }> {
  return { keyId: parseMediumHeader(await headerOf(file), file.path) };
}

async function headerOf(file: BlockFile): Promise<Buffer> {
  const header = Buffer.alloc(MEDIUM_HEADER_BYTES);
  return header.subarray(0, await file.read(0, header));
}

export class SeedMediumReader {
  /** The plaintext of the first record. */
  readonly description: Buffer;
  readonly #file: BlockFile;
  readonly #seal: MediumSeal;
  #position: number;

  private constructor(file: BlockFile, seal: MediumSeal, description: Buffer, position: number) {
    this.#file = file;
    this.#seal = seal;
    this.description = description;
    this.#position = position;
  }

  /** Does not take the file over. @throws DrError E_SEED_MEDIUM, E_FILE_VERSION, E_IO */
  static async open(file: BlockFile, key: PreSharedKey): Promise<SeedMediumReader> {
    const header = await headerOf(file);
    parseMediumHeader(header, file.path);
    const seal = new MediumSeal(key, header);
    const first = await readRecord(file, seal, MEDIUM_HEADER_BYTES);
    if (first.kind !== 'description') throw mediumError(file.path, 'it has no description');
    return new SeedMediumReader(file, seal, first.plaintext, first.end);
  }

  /**
   * The messages in order, to be iterated once. Returns when all of them came, and throws when one is
   * missing, damaged or moved: what was handed out before is sound. @throws DrError E_SEED_MEDIUM
   */
  async *messages(): AsyncGenerator<Buffer, void, undefined> {
    for (;;) {
      const before = this.#seal.count;
      const record = await readRecord(this.#file, this.#seal, this.#position);
      this.#position = record.end;
      const { kind, plaintext } = record;
      if (kind === 'message') {
        yield plaintext;
        continue;
      }
      const isEnd =
        kind === 'end' &&
        plaintext.length === 8 &&
        plaintext.readBigUInt64LE(0) === BigInt(before) &&
        (await this.#file.size()) === record.end;
      if (isEnd) return;
      throw mediumError(this.#file.path, 'it does not end as it should');
    }
  }
}

async function readRecord(
  file: BlockFile,
  seal: MediumSeal,
  position: number,
): Promise<{ kind: RecordKind; plaintext: Buffer; end: number }> {
  const cut = (): Error =>
    mediumError(file.path, `it ends at byte ${position}, before it is whole`, {
      hint: 'It was not copied to its end. Copy it again, or make it again at the source.',
    });
  const head = Buffer.alloc(RECORD_HEAD_BYTES);
  if ((await file.read(position, head)) < head.length) throw cut();
  const { lengthBytes } = parseRecordHead(head, file.path);
  const body = Buffer.allocUnsafeSlow(lengthBytes + TAG_BYTES);
  if ((await file.read(position + RECORD_HEAD_BYTES, body)) < body.length) throw cut();
  const opened = seal.open(head, body);
  if (opened !== undefined) return { ...opened, end: position + RECORD_HEAD_BYTES + body.length };
  throw mediumError(
    file.path,
    position === MEDIUM_HEADER_BYTES
      ? 'its key does not open it, or it is damaged'
      : `the record at byte ${position} does not open: it is damaged or not in its place`,
  );
}
