// What happens on a guest's disk, for the early warning: days of an office server, and ways of
// encrypting it. Acts on a Volume; the same seed does the same things. Content is real text and real
// programs: sources of the compiler, and the running Node.

import { createCipheriv } from 'node:crypto';
import { closeSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { brotliCompressSync, deflateSync, gzipSync, constants as zlib } from 'node:zlib';
import { checkoutFolder } from './checkout.js';
import { SeededRandom } from './seeded-random.js';
import type { Volume, VolumeFile } from './volume.js';

const KIB = 1024;
const MIB = 1024 * KIB;
const BLOCK = 4 * KIB;
const PAGE = 8 * KIB;

let textOfCompiler: Buffer | undefined;

/** Sources and declarations of the pinned compiler: the same bytes in every checkout. */
function readText(): Buffer {
  if (textOfCompiler !== undefined) return textOfCompiler;
  const folder = join(checkoutFolder, 'node_modules', 'typescript', 'lib');
  const names = readdirSync(folder).filter((name) => /^lib\..*\.d\.ts$/.test(name));
  textOfCompiler = Buffer.concat(
    ['_tsc.js', ...names.sort()].map((name) => readFileSync(join(folder, name))),
  );
  return textOfCompiler;
}

let beginningOfNode: Buffer | undefined;

function readProgram(lengthBytes: number): Buffer {
  if (beginningOfNode !== undefined) return beginningOfNode;
  const out = Buffer.alloc(lengthBytes);
  const file = openSync(process.execPath, 'r');
  try {
    readSync(file, out, 0, lengthBytes, 0);
  } finally {
    closeSync(file);
  }
  beginningOfNode = out;
  return out;
}

/** Random bytes that are the same everywhere. */
export function noise(seed: number, lengthBytes: number): Buffer {
  const key = Buffer.alloc(32);
  key.writeUInt32LE(seed >>> 0);
  return createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(lengthBytes));
}

export interface GuestSizes {
  readonly textFiles: number;
  readonly officeFiles: number;
  /** Of 1 MiB each. */
  readonly programFiles: number;
  readonly databaseMib: number;
}

/** How bytes of a file are encrypted where they are; returns the changed ranges. */
export type Pattern = 'whole' | 'first block' | 'every other block' | 'every other 16 bytes';

export class Guest {
  readonly volume: Volume;
  readonly random: SeededRandom;
  readonly #text = readText();
  readonly #program: Buffer;
  readonly #sizes: GuestSizes;
  #made = 0;
  /** The database encrypts or compresses its pages by itself. */
  isDatabaseDense = false;
  #logBytes = 0;
  readonly #encrypted = new Set<string>();

  constructor(volume: Volume, seed: number, sizes: GuestSizes) {
    this.volume = volume;
    this.random = new SeededRandom(seed);
    this.#sizes = sizes;
    this.#program = readProgram(32 * MIB);
  }

  text(lengthBytes: number): Buffer {
    const parts: Buffer[] = [];
    for (let have = 0; have < lengthBytes;) {
      const from = this.random.int(this.#text.length - KIB);
      const part = this.#text.subarray(from, from + Math.min(lengthBytes - have, 200 * KIB));
      parts.push(part);
      have += part.length;
    }
    return Buffer.concat(parts);
  }

  program(lengthBytes: number): Buffer {
    const from = this.random.int(this.#program.length - lengthBytes);
    return this.#program.subarray(from, from + lengthBytes);
  }

  /** A page of rows, as a database has them. */
  #page(): Buffer {
    if (this.isDatabaseDense) return noise(this.random.next(), PAGE);
    const page = Buffer.alloc(PAGE);
    for (let at = 96; at + 120 < PAGE; at += 120) {
      page.writeUInt32LE(this.random.next(), at);
      page.writeDoubleLE(this.random.int(1_000_000) / 100, at + 4);
      this.text(90).copy(page, at + 16);
    }
    return page;
  }

  #name(folder: string, ending: string): string {
    this.#made++;
    return `${folder}/${String(this.#made).padStart(6, '0')}.${ending}`;
  }

  /** The disk on its first day. */
  install(): void {
    const { volume, random } = this;
    const { textFiles, officeFiles, programFiles, databaseMib } = this.#sizes;
    for (let n = 0; n < textFiles; n++) {
      volume.write(this.#name('text', 'txt'), this.text(random.between(1, 48) * KIB + (n % 900)));
    }
    for (let n = 0; n < officeFiles; n++) {
      volume.write(
        this.#name('office', 'docx'),
        deflateSync(this.text(random.between(60, 400) * KIB)),
      );
    }
    for (let n = 0; n < programFiles; n++) {
      volume.write(this.#name('bin', 'so'), this.program(MIB));
    }
    const pages = (databaseMib * MIB) / PAGE;
    const parts = Array.from({ length: Math.min(pages, 64) }, () => this.#page());
    const database = Buffer.concat(
      Array.from({ length: pages }, (_, n) => parts[n % parts.length] ?? Buffer.alloc(PAGE)),
    );
    volume.write('db/data.db', database);
    volume.write('log/app.log', this.text(4 * MIB));
  }

  /** Ten minutes of a working day. */
  work(): void {
    const { volume, random } = this;
    const edited = volume.files.filter(({ path }) => path.startsWith('text/'));
    for (let n = 0; n < 5 && edited.length > 0; n++) {
      const { path, sizeBytes } = random.pick(edited);
      volume.overwrite(path, 0, this.text(Math.min(sizeBytes, 4 * KIB + 100)));
    }
    this.writePages(40);
    const line = this.text(192 * KIB);
    if (this.#logBytes + line.length > 4 * MIB) this.#logBytes = 0;
    volume.overwrite('log/app.log', this.#logBytes, line);
    this.#logBytes += line.length;
    // somebody saves a document under a new name, and removes the old one
    const office = volume.files.filter(({ path }) => path.startsWith('office/'));
    if (office.length > 0) {
      volume.remove(random.pick(office).path);
      volume.write(this.#name('office', 'docx'), deflateSync(this.text(200 * KIB)));
    }
  }

  #writePage(page: Buffer): void {
    const file = this.volume.files.find(({ path }) => path === 'db/data.db');
    const count = Math.floor((file?.sizeBytes ?? 0) / PAGE);
    if (count > 0) this.volume.overwrite('db/data.db', this.random.int(count) * PAGE, page);
  }

  /** Changes rows all over the database. */
  writePages(count: number): void {
    for (let n = 0; n < count; n++) this.#writePage(this.#page());
  }

  /** An update: old programs go, others come with packed parts, onto the freed places as well. */
  update(mib: number): void {
    const { volume } = this;
    const old = volume.files.filter(({ path }) => path.startsWith('bin/')).slice(0, mib);
    for (const { path } of old) volume.remove(path);
    for (let n = 0; n < old.length; n++) {
      if (n % 8 === 7)
        volume.write(this.#name('bin', 'br'), packed(this.program(2 * MIB)).subarray(0, MIB));
      else volume.write(this.#name('bin', 'so'), this.program(MIB));
    }
  }

  /** Packs text into an archive; `isDense`: with a packer whose output looks random. */
  archive(mib: number, isDense = false): void {
    const text = this.text(mib * MIB);
    this.volume.write(this.#name('zip', 'zip'), isDense ? packed(text) : gzipSync(text));
  }

  /** Bytes as of a video, which are random to whoever does not know the codec. */
  video(mib: number): void {
    this.volume.write(this.#name('video', 'mp4'), noise(this.random.next(), mib * MIB));
  }

  /** Takes files away until so many MiB are free, whose places keep their bytes unless trimmed. */
  clear(folder: string, mib: number, isTrimmed = false): void {
    let freed = 0;
    for (const { path, sizeBytes } of this.volume.files) {
      if (freed >= mib * MIB) return;
      if (!path.startsWith(`${folder}/`)) continue;
      this.volume.remove(path, isTrimmed);
      freed += sizeBytes;
    }
  }

  /** Encrypts files that are not yet, in place, until `limitBytes` were gone through. */
  encrypt(
    limitBytes: number,
    pattern: Pattern,
    of: (file: VolumeFile) => boolean = () => true,
  ): void {
    let done = 0;
    for (const file of this.volume.files) {
      if (done >= limitBytes) return;
      if (this.#encrypted.has(file.path) || file.sizeBytes === 0 || !of(file)) continue;
      this.#encrypted.add(file.path);
      done += file.sizeBytes;
      const plain = this.volume.read(file.path);
      const secret = xor(plain, noise(this.random.next(), plain.length));
      switch (pattern) {
        case 'whole':
          this.volume.overwrite(file.path, 0, secret);
          break;
        case 'first block':
          this.volume.overwrite(file.path, 0, secret.subarray(0, BLOCK));
          break;
        case 'every other block':
          for (let at = 0; at < secret.length; at += 2 * BLOCK) {
            this.volume.overwrite(file.path, at, secret.subarray(at, at + BLOCK));
          }
          break;
        case 'every other 16 bytes':
          for (let at = 0; at < plain.length; at += 32) secret.copy(plain, at, at, at + 16);
          this.volume.overwrite(file.path, 0, plain);
          break;
      }
    }
  }

  /** Encrypts into new files and removes the old ones. */
  encryptByCopy(limitBytes: number, isTrimmed: boolean): void {
    let done = 0;
    for (const { path } of this.volume.files) {
      if (done >= limitBytes) return;
      if (path.endsWith('.locked') || !/^(text|office)\//.test(path)) continue;
      const plain = this.volume.read(path);
      done += plain.length;
      this.volume.write(`${path}.locked`, xor(plain, noise(this.random.next(), plain.length)));
      this.volume.remove(path, isTrimmed);
    }
  }
}

/** By a packer whose output looks random. */
export function packed(bytes: Buffer): Buffer {
  return brotliCompressSync(bytes, {
    params: { [zlib.BROTLI_PARAM_QUALITY]: 4, [zlib.BROTLI_PARAM_LGWIN]: 22 },
  });
}

function xor(a: Buffer, b: Buffer): Buffer {
  const out = Buffer.alloc(a.length);
  for (let at = 0; at < a.length; at++) out[at] = (a[at] ?? 0) ^ (b[at] ?? 0);
  return out;
}

/** What a guest that encrypts its whole disk writes to it: AES-XTS, sectors of 4 KiB. */
export function encryptDisk(image: Buffer): Buffer {
  const out = Buffer.alloc(image.length);
  const key = noise(4711, 64);
  const tweak = Buffer.alloc(16);
  for (let at = 0; at < image.length; at += BLOCK) {
    tweak.writeUInt32LE(at / BLOCK);
    const cipher = createCipheriv('aes-256-xts', key, tweak);
    cipher.update(image.subarray(at, at + BLOCK)).copy(out, at);
  }
  return out;
}
