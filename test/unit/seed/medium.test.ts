// A medium is whole and unchanged, or refused.

import { createSecretKey, hash } from 'node:crypto';
import { expect } from 'chai';
import { crc32c } from '../../../shared/bytes/index.js';
import type { PreSharedKey } from '../../../shared/channel/index.js';
import { DrError } from '../../../shared/errors.js';
import { readMediumHeader, SeedMediumReader, writeSeedMedium } from '../../../shared/seed/index.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { SeededRandom } from '../../support/seeded-random.js';

const PATH = '/medium/x.hvdrseed';
const DESCRIPTION = Buffer.from('what the VM is');

function keyOf(secret: number): PreSharedKey {
  return {
    keyId: 'site-a.1',
    principal: 'site-a',
    role: 'source',
    vmPattern: '*',
    createdAtMs: 0,
    secret: createSecretKey(Buffer.alloc(32, secret)),
  };
}

/** A medium with these messages. */
async function write(messages: readonly Buffer[], key = keyOf(1)): Promise<Buffer> {
  const parts: Buffer[] = [];
  const all = (async function* (): AsyncGenerator<Buffer> {
    for (const message of messages) {
      await Promise.resolve();
      yield message;
    }
  })();
  const sink = (chunk: Uint8Array): Promise<void> => {
    parts.push(Buffer.from(chunk));
    return Promise.resolve();
  };
  await writeSeedMedium(sink, key, new SeededRandom(7), DESCRIPTION, all);
  return Buffer.concat(parts);
}

/** All messages of a medium that are handed out before its end, or before its refusal. */
async function read(bytes: Buffer, key = keyOf(1)): Promise<{ messages: Buffer[]; code: string }> {
  const fs = new MemoryFileSystem();
  fs.put(PATH, bytes);
  const file = await fs.open(PATH, { mode: 'read' });
  const messages: Buffer[] = [];
  try {
    const reader = await SeedMediumReader.open(file, key);
    expect(reader.description.equals(DESCRIPTION)).to.equal(true);
    for await (const message of reader.messages()) messages.push(message);
    return { messages, code: '' };
  } catch (error) {
    if (!(error instanceof DrError)) throw error;
    return { messages, code: error.code };
  } finally {
    await file.close();
  }
}

const MESSAGES = ['one', 'two', 'three'].map((text) => Buffer.from(text));

describe('seed medium', () => {
  it('gives back what was written, and names its key in the open', async () => {
    const bytes = await write(MESSAGES);
    const { messages, code } = await read(bytes);
    expect(code).to.equal('');
    expect(messages.map(String)).to.deep.equal(['one', 'two', 'three']);
    const fs = new MemoryFileSystem();
    fs.put(PATH, bytes);
    const file = await fs.open(PATH, { mode: 'read' });
    expect(await readMediumHeader(file)).to.deep.equal({ keyId: 'site-a.1' });
    for (const text of ['one', 'two', 'what the VM is']) {
      expect(bytes.includes(text), text).to.equal(false);
    }
  });

  it('has the bytes that docs/on-disk.md says', async () => {
    const bytes = await write(MESSAGES);
    expect(bytes.toString('latin1', 0, 8)).to.equal('HVDRSEED');
    expect(bytes.readUInt32LE(8)).to.equal(1);
    // header, and five records of 24 bytes beside their plaintexts
    const plain = DESCRIPTION.length + 3 + 3 + 5 + 8;
    expect(bytes.length).to.equal(128 + 5 * 24 + plain);
    expect(hash('sha256', bytes)).to.equal(
      '6fa9e6d620cb0b1c374bc3e49f07ee2bc367adab9e0a05a6f7e9c985bdf7ba0c',
    );
  });

  it('is refused with any one bit turned, and hands out nothing that is not sound', async () => {
    const bytes = await write(MESSAGES);
    for (let position = 0; position < bytes.length; position++) {
      const damaged = Buffer.from(bytes);
      damaged.writeUInt8(damaged.readUInt8(position) ^ (1 << (position % 8)), position);
      const { messages, code } = await read(damaged);
      expect(code, `byte ${position}`).to.equal('E_SEED_MEDIUM');
      expect(messages.map(String)).to.deep.equal(
        ['one', 'two', 'three'].slice(0, messages.length),
        `byte ${position}`,
      );
    }
  });

  it('is refused at whatever byte it ends', async () => {
    const bytes = await write(MESSAGES);
    for (let length = 0; length < bytes.length; length++) {
      const { code } = await read(bytes.subarray(0, length));
      expect(code, `${length} bytes`).to.equal('E_SEED_MEDIUM');
    }
    expect((await read(Buffer.concat([bytes, Buffer.alloc(1)]))).code).to.equal('E_SEED_MEDIUM');
  });

  it('does not open with another secret under the same key id', async () => {
    expect(await read(await write(MESSAGES), keyOf(2))).to.deep.equal({
      messages: [],
      code: 'E_SEED_MEDIUM',
    });
  });

  it('takes no record of another medium, sealed with the same key', async () => {
    const bytes = await write(MESSAGES);
    const salted = await write([Buffer.from('One'), ...MESSAGES.slice(1)]);
    expect(
      bytes.subarray(0, 128).equals(salted.subarray(0, 128)),
      'one salt, for the test',
    ).to.equal(true);
    // another salt is another key
    const other = Buffer.from(bytes);
    other.fill(9, 16, 48);
    other.writeUInt32LE(crc32c(other.subarray(0, 124)), 124);
    expect((await read(other)).code).to.equal('E_SEED_MEDIUM');
  });

  it('changes its key after 65,536 records and reads on', async function () {
    this.timeout(60_000);
    const many = Array.from({ length: 65_540 }, (_, index) => Buffer.from([index % 251]));
    const { messages, code } = await read(await write(many));
    expect(code).to.equal('');
    expect(messages).to.have.length(many.length);
    expect(messages.at(-1)?.equals(many.at(-1) ?? Buffer.alloc(0))).to.equal(true);
  });

  it('refuses another version by name', async () => {
    const bytes = await write(MESSAGES);
    bytes.writeUInt32LE(2, 8);
    bytes.writeUInt32LE(crc32c(bytes.subarray(0, 124)), 124);
    expect((await read(bytes)).code).to.equal('E_FILE_VERSION');
  });
});
