import { Writable } from 'node:stream';
import { expect } from 'chai';
import {
  PacketReader,
  PacketWriter,
  parseHeader,
} from '../../../../plugin-bridge/ptcomm/packet.js';
import { refusal } from '../../../support/refusal.js';

const TEXT = 'C000004\nJob\nF000000\nD000003\nabcT000000\n';

async function* cut(text: string, size: number): AsyncGenerator<Buffer> {
  const bytes = Buffer.from(text, 'latin1');
  for (let at = 0; at < bytes.length; at += size) {
    await Promise.resolve();
    yield bytes.subarray(at, at + size);
  }
}

async function all(reader: PacketReader): Promise<string[]> {
  const found: string[] = [];
  for (;;) {
    const packet = await reader.read();
    if (packet === undefined) return found;
    found.push(`${packet.letter}:${packet.payload.toString('latin1')}`);
  }
}

describe('packets of the plugin protocol', () => {
  for (const size of [1, 3, 8, 1000]) {
    it(`are the same when they come in pieces of ${size} bytes`, async () => {
      const packets = await all(new PacketReader(cut(TEXT, size)));
      expect(packets).to.deep.equal(['C:Job\n', 'F:', 'D:abc', 'T:']);
    });
  }

  it('lie in the pieces they came in or are copied together, and give the pieces back with the next', async () => {
    const chunks = ['D000003\nab', 'c', 'D000002\nxyF00', '0000\nD000004\nlast'].map((text) =>
      Buffer.from(text),
    );
    const released: string[] = [];
    const source = (async function* () {
      await Promise.resolve();
      yield* chunks;
    })();
    const reader = new PacketReader(source, (chunk) => released.push(chunk.toString()));
    const first = (await reader.read())?.payload ?? Buffer.alloc(0);
    expect(first.toString()).to.equal('abc');
    expect(released).to.deep.equal(['D000003\nab', 'c']);
    const second = (await reader.read())?.payload ?? Buffer.alloc(0);
    expect(second.toString()).to.equal('xy');
    chunks[2]?.fill('z');
    expect(second.toString(), 'a view').to.equal('zz');
    expect(released).to.have.length(2);
    chunks[2]?.write('D000002\nxyF00');
    expect((await reader.read())?.letter).to.equal('F');
    expect((await reader.read())?.payload.toString()).to.equal('last');
    expect(released).to.have.length(3);
    expect(await reader.read()).to.equal(undefined);
  });

  it('are refused with a letter, a length or an end that is none', async () => {
    for (const text of [
      'X000000\n',
      'C00001a\n',
      'C000001 ',
      'F000001\na',
      'C+00001\n',
      '\0\0\0\0\0\0\0\0',
    ]) {
      expect(() => parseHeader(Buffer.from(text.slice(0, 8), 'latin1')), text).to.throw();
    }
    for (const text of ['C000005\nab', 'C00']) {
      const { code } = await refusal(() => all(new PacketReader(cut(text, 4))));
      expect(code).to.equal('E_PROTOCOL');
    }
  });
});

describe('the packet writer', () => {
  function sink(): { bytes: () => string; stream: Writable } {
    const parts: Buffer[] = [];
    const stream = new Writable({
      write(chunk: Buffer, _encoding, done) {
        parts.push(chunk);
        done();
      },
    });
    return { bytes: () => Buffer.concat(parts).toString('latin1'), stream };
  }

  it('writes lines with their newline and nothing for no data', async () => {
    const { bytes, stream } = sink();
    const writer = new PacketWriter(stream);
    await writer.line('C', 'Hello Bacula');
    await writer.packet('D');
    await writer.packet('F');
    expect(bytes()).to.equal('C000013\nHello Bacula\nF000000\n');
  });

  it('cuts what is longer than a packet', async () => {
    const { bytes, stream } = sink();
    await new PacketWriter(stream).packet('D', Buffer.alloc(1_000_001, 97));
    expect(bytes().slice(0, 8)).to.equal('D999999\n');
    expect(bytes().slice(8 + 999_999)).to.equal('D000002\naa');
  });

  it('cuts several parts where a packet ends, and loses nothing', async () => {
    const { bytes, stream } = sink();
    const parts = [700_000, 600_000, 1].map((length, index) => Buffer.alloc(length, 97 + index));
    await new PacketWriter(stream).packet('D', ...parts);
    const text = bytes();
    expect(text.slice(0, 8)).to.equal('D999999\n');
    expect(text.slice(8 + 999_999, 16 + 999_999)).to.equal('D300002\n');
    const payload = text.slice(8, 8 + 999_999) + text.slice(16 + 999_999);
    expect(payload).to.equal(Buffer.concat(parts).toString('latin1'));
  });

  it('tells the writer of a packet in several pieces that nobody reads', async () => {
    const stream = new Writable({
      write(_chunk: Buffer, _encoding, done) {
        done(new Error('the pipe is closed'));
      },
    });
    stream.on('error', () => undefined);
    const { code } = await refusal(() =>
      new PacketWriter(stream).packet('D', Buffer.alloc(50_000)),
    );
    expect(code).to.equal('E_CHANNEL');
  });
});
