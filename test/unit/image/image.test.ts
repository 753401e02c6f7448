// Formats by content, conversion as an all-or-nothing act, and the images that name other files: no
// outside program may see one before we have refused it.

import { readdirSync, statSync, writeFileSync } from 'node:fs';
import { expect } from 'chai';
import { DrError } from '../../../shared/errors.js';
import { nodeFileSystem, type FileSystem } from '../../../shared/files/index.js';
import { formatOf } from '../../../shared/image/image-format.js';
import {
  convertImage,
  convertVhdxStream,
  detectImageFormat,
  openImage,
  runTool,
  streamImage,
  type ConvertOptions,
  type RunTool,
} from '../../../shared/image/index.js';
import { checkVhdx, createVhdx, describeVhdx } from '../../../shared/vhdx/index.js';
import { crashEverywhere } from '../../support/crash-everywhere.js';
import { CountingFileSystem } from '../../support/counting-file.js';
import { FaultFileSystem } from '../../support/fault-file.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { needTool } from '../../support/need.js';
import { SeededRandom } from '../../support/seeded-random.js';
import { WorkFolder } from '../../support/work-folder.js';

const KIB = 1024;
const MIB = 1024 * KIB;

async function failure(action: () => Promise<unknown>): Promise<DrError> {
  try {
    await action();
  } catch (error) {
    if (error instanceof DrError) return error;
    throw error;
  }
  throw new Error('did not fail');
}

/** A raw disk with zeros between its data. */
function rawContent(sizeBytes: number, seed = 1): Buffer {
  const content = Buffer.alloc(sizeBytes);
  const random = new SeededRandom(seed);
  for (let at = 0; at + 200 * KIB < sizeBytes; at += 3 * MIB) {
    random.bytes(150 * KIB).copy(content, at + random.int(50 * KIB));
  }
  return content;
}

function convert(
  fs: FileSystem,
  source: string,
  target: string,
  options: Partial<ConvertOptions> = {},
  run?: RunTool,
): ReturnType<typeof convertImage> {
  return convertImage(
    source,
    target,
    { to: 'vhdx', ...options },
    { fs, random: new SeededRandom(2), run },
  );
}

async function readAll(fs: FileSystem, path: string): Promise<Buffer> {
  const disk = await openImage(fs, path, { random: new SeededRandom(3) });
  const out = Buffer.alloc(disk.sizeBytes);
  await disk.read(0, out);
  await disk.close();
  return out;
}

describe('format of an image', () => {
  it('is told by content, whatever the name says', () => {
    const empty = Buffer.alloc(0);
    const footer = Buffer.concat([Buffer.from('conectix'), Buffer.alloc(504)]);
    expect(formatOf(Buffer.from('vhdxfile...'), empty)).to.equal('vhdx');
    expect(formatOf(Buffer.from('QFI\xfb\0\0\0\x03', 'latin1'), empty)).to.equal('qcow2');
    expect(formatOf(Buffer.from('KDMV\x01\0\0\0'), empty)).to.equal('vmdk');
    expect(formatOf(Buffer.from('# Disk DescriptorFile\nversion=1\n'), empty)).to.equal('vmdk');
    expect(formatOf(footer, footer)).to.equal('vhd');
    expect(formatOf(Buffer.alloc(512), footer)).to.equal('vhd');
    expect(formatOf(empty, empty)).to.equal('raw');
    expect(formatOf(Buffer.from('vhdxfil'), empty)).to.equal('raw');
    expect(formatOf(Buffer.alloc(512), Buffer.alloc(512))).to.equal('raw');
  });

  it('of an empty file is raw, and such a file opens as a disk of no size', async () => {
    const fs = new MemoryFileSystem();
    fs.put('/empty', Buffer.alloc(0));
    expect(await detectImageFormat(fs, '/empty')).to.equal('raw');
    expect((await readAll(fs, '/empty')).length).to.equal(0);
    expect((await failure(() => convert(fs, '/empty', '/out.vhdx'))).code).to.equal('E_USAGE');
  });

  it('can be stated, for a raw disk that holds an image', async () => {
    const fs = new MemoryFileSystem();
    fs.put('/nested', Buffer.from('QFI\xfb nested', 'latin1'));
    expect((await failure(() => readAll(fs, '/nested'))).code).to.equal('E_IMAGE_FORMAT');
    const disk = await openImage(fs, '/nested', { random: new SeededRandom(1), format: 'raw' });
    expect(disk.sizeBytes).to.equal(11);
    await disk.close();
  });
});

describe('conversion', function () {
  this.timeout(60_000);

  it('keeps every byte, raw to VHDX to raw, and stores no zeros', async () => {
    const fs = new MemoryFileSystem();
    const content = rawContent(20 * MIB + 100);
    fs.put('/a.raw', content);
    const made = await convert(fs, '/a.raw', '/a.vhdx', { blockSizeBytes: MIB });
    expect(made.sourceFormat).to.equal('raw');
    expect(made.sizeBytes).to.equal(20 * MIB + 512);
    expect(made.writtenBytes).to.be.lessThan(7 * 300 * KIB);
    const { blocks } = await describeVhdx('/a.vhdx', { fs });
    expect(blocks.fullyPresent).to.equal(7);
    await convert(fs, '/a.vhdx', '/b.raw', { to: 'raw' });
    const back = fs.content('/b.raw') ?? Buffer.alloc(0);
    expect(back.subarray(0, content.length).equals(content)).to.equal(true);
    expect(fs.storedBytes('/b.raw')).to.be.lessThan(7 * 300 * KIB);
  });

  it('leaves nothing behind when a write, flush or rename fails, and keeps an existing target', async () => {
    for (const kind of ['write', 'flush', 'rename'] as const) {
      for (const to of ['raw', 'vhdx'] as const) {
        const memory = new MemoryFileSystem();
        memory.put('/a.raw', rawContent(8 * MIB));
        memory.put('/out', Buffer.from('old'));
        const fs = new FaultFileSystem(memory);
        fs.inject({ kind, code: 'E_CAPACITY', nth: kind === 'write' ? 2 : 1 });
        const error = await failure(() => convert(fs, '/a.raw', '/out', { to, isReplacing: true }));
        expect(error.code).to.equal('E_CAPACITY');
        expect(memory.paths).to.deep.equal(['/a.raw', '/out']);
        expect(memory.content('/out')?.toString()).to.equal('old');
      }
    }
  });

  it('replaces nothing unasked that got the name of the target meanwhile', async () => {
    for (const to of ['raw', 'vhdx'] as const) {
      for (const isReplacing of [false, true]) {
        const fs = new MemoryFileSystem();
        const content = rawContent(4 * MIB);
        fs.put('/a.raw', content);
        const onProgress = (): void => {
          fs.put('/out', Buffer.from('somebody else'));
        };
        const run = (): Promise<unknown> =>
          convert(fs, '/a.raw', '/out', { to, isReplacing, onProgress });
        if (isReplacing) {
          await run();
          expect((await readAll(fs, '/out')).equals(content)).to.equal(true);
        } else {
          expect((await failure(run)).code).to.equal('E_EXISTS');
          expect(fs.content('/out')?.toString()).to.equal('somebody else');
        }
        expect(fs.paths).to.deep.equal(['/a.raw', '/out']);
      }
    }
  });

  it('reports what failed first when tidying up fails as well, and tidies up what it can', async () => {
    for (const [tidying, leftCount] of [
      [['close'], 0],
      [['remove'], 1],
      [['close', 'remove'], 1],
    ] as const) {
      for (const to of ['raw', 'vhdx'] as const) {
        for (const source of ['/a.raw', '/a.vhdx', 'a pipe']) {
          const memory = new MemoryFileSystem();
          memory.put('/a.raw', rawContent(8 * MIB));
          await convert(memory, '/a.raw', '/a.vhdx');
          const before = memory.paths.length;
          const fs = new FaultFileSystem(memory);
          fs.inject({ kind: 'write', path: /out/, code: 'E_CAPACITY', nth: 2, times: Infinity });
          for (const kind of tidying) fs.inject({ kind, path: /out/, times: Infinity });
          const environment = { fs, random: new SeededRandom(6) };
          const run = async (): Promise<unknown> => {
            if (source !== 'a pipe') return convert(fs, source, '/out', { to });
            const disk = await openImage(memory, '/a.raw', environment);
            const { chunks } = await streamImage(disk, { to: 'vhdx' }, environment);
            return convertVhdxStream(chunks, source, '/out', { to }, environment);
          };
          const what = `${tidying.join()} of ${source} to ${to}`;
          expect((await failure(run)).code, what).to.equal('E_CAPACITY');
          expect(memory.paths.length - before, what).to.equal(leftCount);
        }
      }
    }
  });

  it('stops with the source when that cannot be read, and leaves nothing', async () => {
    const memory = new MemoryFileSystem();
    memory.put('/a.raw', rawContent(8 * MIB));
    const fs = new FaultFileSystem(memory);
    fs.inject({ kind: 'read', path: /a\.raw/, nth: 4 });
    expect((await failure(() => convert(fs, '/a.raw', '/out.vhdx'))).code).to.equal('E_IO');
    expect(memory.paths).to.deep.equal(['/a.raw']);
  });

  it('stops at a signal and leaves nothing', async () => {
    const fs = new MemoryFileSystem();
    fs.put('/a.raw', rawContent(8 * MIB));
    const stop = new AbortController();
    const reason = new Error('stop');
    const error: unknown = await convert(fs, '/a.raw', '/out.vhdx', {
      signal: stop.signal,
      onProgress: () => {
        stop.abort(reason);
      },
    }).catch((e: unknown) => e);
    expect(error).to.equal(reason);
    expect(fs.paths).to.deep.equal(['/a.raw']);
  });

  it('shows after a power cut the old state or the new one, never a part', async () => {
    const volume = new MemoryFileSystem();
    const content = rawContent(4 * MIB);
    volume.put('/a.raw', content);
    for (const to of ['raw', 'vhdx'] as const) {
      await crashEverywhere({
        volume,
        run: async (fs) => {
          await convert(fs, '/a.raw', '/out', {
            to,
            blockSizeBytes: to === 'raw' ? undefined : MIB,
          });
        },
        check: async (found, { hasFinished }) => {
          const isThere = (await found.status('/out')) !== undefined;
          if (hasFinished) expect(isThere).to.equal(true);
          if (isThere) expect((await readAll(found, '/out')).equals(content)).to.equal(true);
        },
        seedCount: 2,
      });
    }
  });

  it('refuses an existing target, a folder, itself, and a disk that has children', async () => {
    const fs = new MemoryFileSystem();
    const random = new SeededRandom(4);
    fs.put('/a.raw', rawContent(4 * MIB));
    fs.addFolder('/folder');
    await createVhdx('/base.vhdx', { type: 'dynamic', sizeBytes: MIB }, { fs, random });
    await createVhdx(
      '/child.vhdx',
      { type: 'differencing', parentPath: '/base.vhdx' },
      { fs, random },
    );
    const before = fs.content('/base.vhdx');
    for (const [target, isReplacing, code] of [
      ['/base.vhdx', false, 'E_EXISTS'],
      ['/folder', true, 'E_EXISTS'],
      ['/a.raw', true, 'E_USAGE'],
      ['/base.vhdx', true, 'E_VHDX_HAS_CHILDREN'],
    ] as const) {
      const error = await failure(() => convert(fs, '/a.raw', target, { isReplacing }));
      expect(error.code, target).to.equal(code);
    }
    expect(fs.content('/base.vhdx')?.equals(before ?? Buffer.alloc(0))).to.equal(true);
    await convert(fs, '/a.raw', '/child.vhdx', { isReplacing: true });
    expect((await readAll(fs, '/child.vhdx')).equals(rawContent(4 * MIB))).to.equal(true);
  });

  it('never replaces a parent of its source, however far up', async () => {
    const fs = new MemoryFileSystem();
    const random = new SeededRandom(4);
    await createVhdx('/base.vhdx', { type: 'dynamic', sizeBytes: MIB }, { fs, random });
    for (const [child, parentPath] of [
      ['/middle.vhdx', '/base.vhdx'],
      ['/top.vhdx', '/middle.vhdx'],
    ] as const) {
      await createVhdx(child, { type: 'differencing', parentPath }, { fs, random });
    }
    const before = fs.paths.map((path) => fs.content(path));
    for (const target of ['/top.vhdx', '/middle.vhdx', '/base.vhdx']) {
      const error = await failure(() => convert(fs, '/top.vhdx', target, { isReplacing: true }));
      expect(error.code, target).to.equal('E_USAGE');
      expect(error.message).to.contain(target).and.to.contain('/top.vhdx');
    }
    expect(fs.paths.map((path) => fs.content(path))).to.deep.equal(before);
  });

  it('reads a sparse disk in the measure of its data', async () => {
    const memory = new MemoryFileSystem();
    const random = new SeededRandom(5);
    const sizeBytes = 16 * 1024 ** 4;
    await createVhdx('/big.vhdx', { type: 'dynamic', sizeBytes }, { fs: memory, random });
    const disk = await openImage(memory, '/big.vhdx', { random, writable: true });
    await disk.write(9 * 1024 ** 4, random.bytes(100 * KIB));
    await disk.flush();
    await disk.close();
    const fs = new CountingFileSystem(memory);
    await convert(fs, '/big.vhdx', '/copy.vhdx');
    expect(fs.tally('read', '/big.vhdx').lengthBytes).to.be.lessThan(80 * MIB);
    expect(fs.tally('write', /copy/).lengthBytes).to.be.lessThan(8 * MIB);
    expect((await checkVhdx('/copy.vhdx', { fs, random })).violations).to.deep.equal([]);
  });

  it('goes through pipes at both ends', async () => {
    const fs = new MemoryFileSystem();
    const content = rawContent(9 * MIB);
    fs.put('/a.raw', content);
    const environment = { fs, random: new SeededRandom(6) };
    for (const to of ['raw', 'vhdx'] as const) {
      const disk = await openImage(fs, '/a.raw', environment);
      const { chunks, lengthBytes } = await streamImage(disk, { to: 'vhdx' }, environment);
      const target = `/piped.${to}`;
      await convertVhdxStream(chunks, 'a pipe', target, { to }, environment);
      await disk.close();
      expect(lengthBytes % MIB).to.equal(0);
      expect((await readAll(fs, target)).equals(content)).to.equal(true);
    }
    const disk = await openImage(fs, '/piped.vhdx', environment);
    const { chunks, lengthBytes } = await streamImage(disk, { to: 'raw' }, environment);
    const parts: Buffer[] = [];
    for await (const chunk of chunks) parts.push(Buffer.from(chunk));
    expect(Buffer.concat(parts).equals(content)).to.equal(true);
    expect(lengthBytes).to.equal(content.length);
    const error = await failure(() =>
      streamImage(disk, { to: 'vhdx', type: 'fixed' }, environment),
    );
    expect(error.code).to.equal('E_USAGE');
    await disk.close();
  });
});

describe('foreign image', () => {
  const never: RunTool = () => Promise.reject(new Error('no program may be run'));

  function qcow2(change: (header: Buffer) => void): Buffer {
    const header = Buffer.alloc(512);
    header.write('QFI\xfb', 0, 'latin1');
    header.writeUInt32BE(3, 4);
    header.writeBigUInt64BE(BigInt(MIB), 24);
    change(header);
    return header;
  }

  function sparseVmdk(change: (header: Buffer) => void, descriptor = ''): Buffer {
    const file = Buffer.alloc(4 * 512);
    file.write('KDMV', 0, 'latin1');
    file.writeUInt32LE(1, 4);
    file.writeBigUInt64LE(2048n, 12);
    file.writeBigUInt64LE(1n, 28);
    file.writeBigUInt64LE(2n, 36);
    file.write(descriptor, 512, 'latin1');
    change(file);
    return file;
  }

  const text = (...lines: string[]): Buffer =>
    Buffer.from(['# Disk DescriptorFile', 'version=1', ...lines].join('\n'));
  const footer = (type: number): Buffer => {
    const out = Buffer.alloc(512);
    out.write('conectix', 0, 'latin1');
    out.writeUInt32BE(type, 60);
    return out;
  };

  const references: [string, Buffer][] = [
    ['a backing file', qcow2((h) => h.writeBigUInt64BE(200n, 8))],
    ['a data file', qcow2((h) => h.writeBigUInt64BE(4n, 72))],
    ['a differencing VHD', footer(4)],
    ['a VMDK without own capacity', sparseVmdk((h) => h.writeBigUInt64LE(0n, 12))],
    ['a VMDK snapshot', sparseVmdk(() => undefined, 'parentCID=0a1b2c3d\n')],
    ['a parent hint', sparseVmdk(() => undefined, 'parentFileNameHint="/etc/passwd"\n')],
    ['a snapshot descriptor', text('parentCID=12345678')],
    ['an absolute extent', text('RW 100 FLAT "/etc/passwd" 0')],
    ['an extent above', text('RW 100 FLAT "../secret" 0')],
    ['an extent in a subfolder', text('RW 100 FLAT "sub/secret" 0')],
    ['a Windows path', text('RW 100 FLAT "C:\\\\secret" 0')],
    ['a protocol', text('RW 100 FLAT "nbd:localhost:10809" 0')],
    ['json', text('RW 100 FLAT "json:{\\"driver\\":\\"nbd\\"}" 0')],
    ['an extent that is missing', text('RW 100 SPARSE "not-there.vmdk"')],
    ['an extent that leads on', text('RW 100 SPARSE "leads-on.vmdk"')],
    ['the second extent', text('RW 100 SPARSE "good.vmdk"', ' rw 100 flat "/etc/shadow" 0')],
  ];
  for (const [what, bytes] of references) {
    it(`that refers to another file is refused before any program runs: ${what}`, async () => {
      const fs = new MemoryFileSystem();
      fs.put('/images/a', bytes);
      fs.put(
        '/images/good.vmdk',
        sparseVmdk(() => undefined),
      );
      fs.put(
        '/images/leads-on.vmdk',
        sparseVmdk((h) => h.writeBigUInt64LE(0n, 12)),
      );
      fs.put('/secret', Buffer.from('secret'));
      fs.put('/images/sub/secret', Buffer.from('secret'));
      const error = await failure(() => convert(fs, '/images/a', '/out.vhdx', {}, never));
      expect(error.code).to.equal('E_IMAGE_REFERENCE');
      expect(fs.paths.filter((path) => path.includes('out'))).to.deep.equal([]);
    });
  }

  it('never gives way to its own conversion, nor does a file that holds its data', async () => {
    const fs = new MemoryFileSystem();
    fs.put('/images/a.vmdk', text('RW 100 FLAT "a-flat.vmdk" 0', 'RW 100 SPARSE "b.vmdk"'));
    fs.put('/images/a-flat.vmdk', Buffer.alloc(51200));
    fs.put(
      '/images/b.vmdk',
      sparseVmdk(() => undefined),
    );
    for (const name of ['a.vmdk', 'a-flat.vmdk', 'b.vmdk']) {
      const target = `/images/${name}`;
      const options = { to: 'raw', isReplacing: true } as const;
      const error = await failure(() => convert(fs, '/images/a.vmdk', target, options, never));
      expect(error.code, name).to.equal('E_USAGE');
    }
  });

  const unusable: [string, Buffer][] = [
    ['a short qcow2', Buffer.from('QFI\xfb', 'latin1')],
    ['qcow version 1', qcow2((h) => h.writeUInt32BE(1, 4))],
    ['a qcow2 encrypted with AES', qcow2((h) => h.writeUInt32BE(1, 32))],
    ['a qcow2 encrypted with LUKS', qcow2((h) => h.writeUInt32BE(2, 32))],
    ['a short VMDK', Buffer.from('KDMV')],
    ['a descriptor of 2^40 bytes', sparseVmdk((h) => h.writeBigUInt64LE(2n ** 31n, 36))],
    ['a text descriptor of 1 MiB', Buffer.concat([text(), Buffer.alloc(MIB, 0x20)])],
    ['an extent without name', text('RW 100 FLAT 0')],
  ];
  for (const [what, bytes] of unusable) {
    it(`that cannot be judged is refused: ${what}`, async () => {
      const fs = new MemoryFileSystem();
      fs.put('/a', bytes);
      const error = await failure(() => convert(fs, '/a', '/out.vhdx', {}, never));
      expect(error.code).to.equal('E_IMAGE_FORMAT');
    });
  }

  it('needs qemu-img, and says so with the way to get it', async () => {
    const fs = new MemoryFileSystem();
    fs.put(
      '/a.qcow2',
      qcow2(() => undefined),
    );
    const missing: RunTool = () => Promise.resolve(undefined);
    const error = await failure(() => convert(fs, '/a.qcow2', '/out.vhdx', {}, missing));
    expect(error.code).to.equal('E_TOOL_MISSING');
    expect(error.hint).to.contain('qemu-utils');
  });

  it('is reported as what it is, when the temporary file cannot be removed either', async () => {
    const memory = new MemoryFileSystem();
    memory.put(
      '/a.qcow2',
      qcow2(() => undefined),
    );
    const fs = new FaultFileSystem(memory);
    fs.inject({ kind: 'remove', times: Infinity });
    const run: RunTool = (_program, [verb]) =>
      Promise.resolve({
        exitCode: verb === 'info' ? 0 : 1,
        stdout: '{"virtual-size": 1048576}',
        stderr: 'its own words',
      });
    const error = await failure(() => convert(fs, '/a.qcow2', '/out.vhdx', {}, run));
    expect(error.code).to.equal('E_TOOL_FAILED');
  });

  it('is given to qemu-img with its format stated, an absolute path and no -U', async () => {
    const fs = new MemoryFileSystem();
    const content = rawContent(2 * MIB);
    fs.put(
      '/a.qcow2',
      qcow2(() => undefined),
    );
    const calls: (readonly string[])[] = [];
    const run: RunTool = (program, args) => {
      expect(program).to.equal('qemu-img');
      calls.push(args);
      const target = args.at(-1) ?? '';
      if (args[0] === 'convert') {
        expect(args).to.include('-n');
        expect(fs.content(target)).to.deep.equal(Buffer.alloc(content.length));
        fs.put(target, content);
      }
      return Promise.resolve({ exitCode: 0, stdout: '{"virtual-size": 2097152}', stderr: '' });
    };
    await convert(fs, '/a.qcow2', '/out.vhdx', {}, run);
    expect(calls.map((args) => args.slice(0, 3))).to.deep.equal([
      ['info', '-f', 'qcow2'],
      ['convert', '-n', '--target-is-zero'],
    ]);
    for (const args of calls) expect(args.join(' ')).to.contain('-f qcow2');
    for (const args of calls) expect(args).to.include('/a.qcow2').and.not.include('-U');
    expect((await readAll(fs, '/out.vhdx')).equals(content)).to.equal(true);
    expect(fs.paths).to.deep.equal(['/a.qcow2', '/out.vhdx']);
  });

  it('comes through a temporary file that only its owner may read, and that is sparse', async function () {
    this.timeout(60_000);
    needTool(this, 'qemu-img');
    const work = new WorkFolder('image');
    const umask = process.umask(0);
    try {
      const content = rawContent(20 * MIB);
      writeFileSync(work.file('a.raw'), content);
      for (const driver of ['qcow2', 'vmdk', 'vpc']) {
        const image = work.file(`a.${driver}`);
        const size = driver === 'vpc' ? ['-o', 'force_size=on'] : [];
        await runTool('qemu-img', [
          ...['convert', '-f', 'raw', '-O', driver, ...size],
          ...[work.file('a.raw'), image],
        ]);
        const seen: { readonly mode: number; readonly isSparse: boolean }[] = [];
        const run: RunTool = async (program, args) => {
          const result = await runTool(program, args);
          if (args[0] === 'convert') {
            const { mode, blocks, size } = statSync(args.at(-1) ?? '');
            seen.push({ mode: mode & 0o777, isSparse: blocks * 512 < size / 4 });
          }
          return result;
        };
        const target = work.file(`${driver}.vhdx`);
        await convert(nodeFileSystem, image, target, {}, run);
        expect(seen, driver).to.deep.equal([{ mode: 0o600, isSparse: true }]);
        expect((await readAll(nodeFileSystem, target)).equals(content), driver).to.equal(true);
      }
      expect(readdirSync(work.path).filter((name) => name.startsWith('.'))).to.deep.equal([]);
    } finally {
      process.umask(umask);
      work.dispose();
    }
  });

  for (const [what, stdout, exitCode, code] of [
    ['fails', '', 1, 'E_TOOL_FAILED'],
    ['answers no JSON', 'hello', 0, 'E_TOOL_FAILED'],
    ['names no size', '{}', 0, 'E_TOOL_FAILED'],
    ['names 2^62 bytes', '{"virtual-size": 4611686018427387904}', 0, 'E_IMAGE_FORMAT'],
    ['sees a backing file', '{"virtual-size": 1, "backing-filename": "x"}', 0, 'E_IMAGE_REFERENCE'],
  ] as const) {
    it(`is given up when qemu-img ${what}, and nothing is left`, async () => {
      const fs = new MemoryFileSystem();
      fs.put(
        '/a.qcow2',
        qcow2(() => undefined),
      );
      const run: RunTool = () => Promise.resolve({ exitCode, stdout, stderr: 'its own words' });
      const error = await failure(() => convert(fs, '/a.qcow2', '/out.vhdx', {}, run));
      expect(error.code).to.equal(code);
      if (exitCode === 1) expect(error.message).to.contain('its own words');
      expect(fs.paths).to.deep.equal(['/a.qcow2']);
    });
  }
});
