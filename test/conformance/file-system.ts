// The suite that every implementation of the disk seam passes: the real file system and all doubles.
// It states what the code above may rely on; what only one implementation does is tested beside it.

import { expect } from 'chai';
import { join } from 'node:path';
import { DrError, type ErrorCode } from '../../shared/errors.js';
import type { BlockFile, FileSystem } from '../../shared/files/index.js';

export interface FileSystemUnderTest {
  readonly fileSystem: FileSystem;
  /** An empty folder for the test. */
  readonly folder: string;
  readonly cleanUp: () => Promise<void>;
}

export function describeFileSystem(
  name: string,
  prepare: () => Promise<FileSystemUnderTest>,
): void {
  describe(`file system contract: ${name}`, () => {
    let under: FileSystemUnderTest;
    let fileSystem: FileSystem;
    const at = (...parts: string[]): string => join(under.folder, ...parts);
    const openFiles: BlockFile[] = [];
    const open = async (...call: Parameters<FileSystem['open']>): Promise<BlockFile> => {
      const file = await fileSystem.open(...call);
      openFiles.push(file);
      return file;
    };
    const create = async (path: string, content: string): Promise<void> => {
      const file = await fileSystem.open(path, { mode: 'create' });
      await file.write(0, Buffer.from(content));
      await file.close();
    };
    const contentOf = async (path: string): Promise<string> => {
      const file = await fileSystem.open(path, { mode: 'read' });
      const bytes = Buffer.alloc(await file.size());
      expect(await file.read(0, bytes)).to.equal(bytes.length);
      await file.close();
      return bytes.toString();
    };

    beforeEach(async () => {
      under = await prepare();
      fileSystem = under.fileSystem;
    });
    afterEach(async () => {
      for (const file of openFiles.splice(0)) await file.close();
      await under.cleanUp();
    });

    describe('bytes', () => {
      it('reads back what was written, at any position', async () => {
        const file = await open(at('a'), { mode: 'create' });
        await file.write(3, Buffer.from('hello'));
        await file.write(5000, Buffer.from('world'));
        await file.write(4, Buffer.from('EL'));
        const bytes = Buffer.alloc(5005, 0xff);
        expect(await file.read(0, bytes)).to.equal(5005);
        const expected = Buffer.alloc(5005);
        expected.write('hELlo', 3);
        expected.write('world', 5000);
        expect(bytes.equals(expected)).to.equal(true);
      });

      it('reads fewer bytes only at the end of the file, none beyond it', async () => {
        const file = await open(at('a'), { mode: 'create' });
        await file.write(0, Buffer.from('12345'));
        const target = Buffer.alloc(10, 0xee);
        expect(await file.read(3, target)).to.equal(2);
        expect(target.subarray(0, 3).toString('hex')).to.equal('3435ee');
        expect(await file.read(5, target)).to.equal(0);
        expect(await file.read(5_000_000, target)).to.equal(0);
      });

      it('writes and reads nothing for an empty buffer', async () => {
        const file = await open(at('a'), { mode: 'create' });
        await file.write(100, Buffer.alloc(0));
        expect(await file.size()).to.equal(0);
        expect(await file.read(0, Buffer.alloc(0))).to.equal(0);
      });

      it('keeps several writes and reads under way apart', async () => {
        const file = await open(at('a'), { mode: 'create' });
        const pieces = Array.from({ length: 32 }, (_, i) => Buffer.alloc(10_000, i + 1));
        await Promise.all(pieces.map((piece, i) => file.write(i * 10_000, piece)));
        await Promise.all(
          pieces.map(async (piece, i) => {
            const target = Buffer.alloc(10_000);
            await file.read(i * 10_000, target);
            expect(target.equals(piece)).to.equal(true);
          }),
        );
      });

      it('shows the writes of one handle to another', async () => {
        const writer = await open(at('a'), { mode: 'create', lock: 'none' });
        const reader = await open(at('a'), { mode: 'read', lock: 'none' });
        await writer.write(0, Buffer.from('seen'));
        const target = Buffer.alloc(4);
        expect(await reader.read(0, target)).to.equal(4);
        expect(target.toString()).to.equal('seen');
      });

      it('refuses to write through a handle for reading', async () => {
        await create(at('a'), 'abc');
        const file = await open(at('a'), { mode: 'read' });
        await refused(file.write(0, Buffer.from('x')), 'E_IO');
        await refused(file.truncate(0), 'E_IO');
        expect(await contentOf(at('a'))).to.equal('abc');
      });
    });

    describe('size', () => {
      it('grows with a write past the end, and with truncate, in zeros', async () => {
        const file = await open(at('a'), { mode: 'create' });
        await file.write(0, Buffer.from('abc'));
        await file.truncate(10);
        expect(await file.size()).to.equal(10);
        const target = Buffer.alloc(10, 0xff);
        expect(await file.read(0, target)).to.equal(10);
        expect(target.toString('latin1')).to.equal('abc\0\0\0\0\0\0\0');
      });

      it('never brings bytes back that were cut off', async () => {
        const file = await open(at('a'), { mode: 'create' });
        await file.write(0, Buffer.alloc(20_000, 0xaa));
        await file.truncate(100);
        await file.truncate(20_000);
        const target = Buffer.alloc(20_000);
        await file.read(0, target);
        expect(target.subarray(0, 100).every((byte) => byte === 0xaa)).to.equal(true);
        expect(target.subarray(100).every((byte) => byte === 0)).to.equal(true);
      });

      it('holds sparse files of a terabyte', async () => {
        const file = await open(at('a'), { mode: 'create' });
        const far = 2 ** 40;
        await file.write(far, Buffer.from('end'));
        expect(await file.size()).to.equal(far + 3);
        const target = Buffer.alloc(5);
        expect(await file.read(far - 2, target)).to.equal(5);
        expect(target.toString('latin1')).to.equal('\0\0end');
        expect((await fileSystem.status(at('a')))?.sizeBytes).to.equal(far + 3);
      });
    });

    describe('nextData', () => {
      it('covers every non-zero byte with ranges inside the file, in order', async () => {
        const file = await open(at('a'), { mode: 'create' });
        const written = [0, 1_000_000, 5_000_000, 9_999_999];
        for (const position of written) await file.write(position, Buffer.from([1]));
        await file.truncate(20_000_000);
        let position = 0;
        const found = new Set<number>();
        for (;;) {
          const range = await file.nextData(position);
          if (range === undefined) break;
          expect(range.start).to.be.at.least(position);
          expect(range.end).to.be.greaterThan(range.start);
          expect(range.end).to.be.at.most(20_000_000);
          for (const at of written) if (range.start <= at && at < range.end) found.add(at);
          position = range.end;
        }
        expect([...found]).to.deep.equal(written);
      });

      it('begins at the asked position when that lies in data', async () => {
        const file = await open(at('a'), { mode: 'create' });
        await file.write(0, Buffer.alloc(100, 1));
        expect(await file.nextData(50)).to.deep.equal({ start: 50, end: 100 });
      });

      it('knows nothing at the end, beyond it and in an empty file', async () => {
        const file = await open(at('a'), { mode: 'create' });
        expect(await file.nextData(0)).to.equal(undefined);
        await file.write(0, Buffer.from('abc'));
        expect(await file.nextData(3)).to.equal(undefined);
        expect(await file.nextData(1000)).to.equal(undefined);
      });

      it('does not move where reads and writes go', async () => {
        const file = await open(at('a'), { mode: 'create' });
        await file.write(0, Buffer.from('abcdef'));
        await file.nextData(3);
        const target = Buffer.alloc(3);
        await file.read(0, target);
        expect(target.toString()).to.equal('abc');
      });
    });

    describe('open', () => {
      it('creates only what is not there', async () => {
        await create(at('a'), 'first');
        await refused(open(at('a'), { mode: 'create' }), 'E_EXISTS');
        expect(await contentOf(at('a'))).to.equal('first');
      });

      it('opens only what is there', async () => {
        await refused(open(at('none'), { mode: 'read' }), 'E_NOT_FOUND');
        await refused(open(at('none'), { mode: 'write' }), 'E_NOT_FOUND');
        await refused(open(at('no-folder', 'a'), { mode: 'create' }), 'E_NOT_FOUND');
        expect(await fileSystem.list(under.folder)).to.deep.equal([]);
      });

      it('writes to an existing file without cutting it', async () => {
        await create(at('a'), 'abcdef');
        const file = await open(at('a'), { mode: 'write' });
        await file.write(2, Buffer.from('XY'));
        await file.close();
        expect(await contentOf(at('a'))).to.equal('abXYef');
      });

      it('refuses a folder', async () => {
        await fileSystem.makeFolder(at('f'));
        await refused(open(at('f'), { mode: 'read' }), 'E_IO');
        await refused(open(at('f'), { mode: 'write' }), 'E_IO');
        await refused(open(at('f'), { mode: 'create' }), 'E_EXISTS');
      });

      it('tells the path that it was given', async () => {
        const file = await open(at('a'), { mode: 'create' });
        expect(file.path).to.equal(at('a'));
      });

      it('closes twice without harm', async () => {
        const file = await open(at('a'), { mode: 'create' });
        await file.close();
        await file.close();
      });
    });

    describe('locks', () => {
      it('lets many read and nobody write meanwhile', async () => {
        await create(at('a'), 'abc');
        await open(at('a'), { mode: 'read' });
        await open(at('a'), { mode: 'read' });
        await refused(open(at('a'), { mode: 'write' }), 'E_LOCKED');
      });

      it('lets one write and nobody else meanwhile', async () => {
        await open(at('a'), { mode: 'create' });
        await refused(open(at('a'), { mode: 'read' }), 'E_LOCKED');
        await refused(open(at('a'), { mode: 'write' }), 'E_LOCKED');
      });

      it('gives the lock back on close', async () => {
        const file = await open(at('a'), { mode: 'create' });
        await file.close();
        const writer = await open(at('a'), { mode: 'write' });
        await writer.close();
        await open(at('a'), { mode: 'read', lock: 'exclusive' });
        await refused(open(at('a'), { mode: 'read' }), 'E_LOCKED');
      });

      it('ignores locks when asked to', async () => {
        await open(at('a'), { mode: 'create' });
        await open(at('a'), { mode: 'read', lock: 'none' });
        await open(at('a'), { mode: 'write', lock: 'none' });
      });

      it('keeps nothing of an open that was refused', async () => {
        const writer = await open(at('a'), { mode: 'create' });
        await refused(open(at('a'), { mode: 'read' }), 'E_LOCKED');
        await writer.close();
        await open(at('a'), { mode: 'write' });
      });
    });

    describe('names', () => {
      it('renames over what has the name', async () => {
        await create(at('a'), 'new');
        await create(at('b'), 'old');
        await fileSystem.rename(at('a'), at('b'));
        expect(await contentOf(at('b'))).to.equal('new');
        expect(await fileSystem.list(under.folder)).to.deep.equal(['b']);
      });

      it('renames into another folder', async () => {
        await create(at('a'), 'x');
        await fileSystem.makeFolder(at('f'));
        await fileSystem.rename(at('a'), at('f', 'b'));
        expect(await contentOf(at('f', 'b'))).to.equal('x');
      });

      it('refuses to rename what is not there, or into a folder that is not', async () => {
        await refused(fileSystem.rename(at('none'), at('b')), 'E_NOT_FOUND');
        await create(at('a'), 'x');
        await refused(fileSystem.rename(at('a'), at('no-folder', 'b')), 'E_NOT_FOUND');
        expect(await contentOf(at('a'))).to.equal('x');
      });

      it('keeps an open file whole when its name goes', async () => {
        await create(at('a'), 'still');
        const file = await open(at('a'), { mode: 'read' });
        await fileSystem.remove(at('a'));
        expect(await fileSystem.status(at('a'))).to.equal(undefined);
        const target = Buffer.alloc(5);
        expect(await file.read(0, target)).to.equal(5);
        expect(target.toString()).to.equal('still');
      });

      it('gives the name of a removed file to another at once, also while the first is open', async () => {
        await create(at('a'), 'first');
        await open(at('a'), { mode: 'read' });
        await fileSystem.remove(at('a'));
        await create(at('a'), 'second');
        expect(await contentOf(at('a'))).to.equal('second');
      });

      it('replaces a file that is open, or says that it cannot; both stay whole', async () => {
        await create(at('a'), 'new');
        await create(at('b'), 'old');
        const file = await open(at('b'), { mode: 'read' });
        const failure = await fileSystem.rename(at('a'), at('b')).then(
          () => undefined,
          (error: unknown) => error,
        );
        if (failure !== undefined) expect((failure as DrError).code).to.equal('E_IO');
        expect(await contentOf(at('b'))).to.equal(failure === undefined ? 'new' : 'old');
        expect((await fileSystem.list(under.folder)).includes('a')).to.equal(failure !== undefined);
        const target = Buffer.alloc(3);
        await file.read(0, target);
        expect(target.toString()).to.equal('old');
      });

      it('removes twice without harm, but never a folder', async () => {
        await create(at('a'), 'x');
        await fileSystem.remove(at('a'));
        await fileSystem.remove(at('a'));
        await fileSystem.makeFolder(at('f'));
        await refused(fileSystem.remove(at('f')), 'E_IO');
        expect((await fileSystem.status(at('f')))?.kind).to.equal('folder');
      });

      it('lists names in order', async () => {
        for (const name of ['c', 'a', 'B', 'a1']) await create(at(name), '');
        await fileSystem.makeFolder(at('d', 'deep'));
        expect(await fileSystem.list(under.folder)).to.deep.equal(['B', 'a', 'a1', 'c', 'd']);
        await refused(fileSystem.list(at('none')), 'E_NOT_FOUND');
      });

      it('makes folders with their parents, again without harm', async () => {
        await fileSystem.makeFolder(at('x', 'y', 'z'));
        await fileSystem.makeFolder(at('x', 'y'));
        expect(await fileSystem.list(at('x'))).to.deep.equal(['y']);
        await create(at('file'), '');
        await refused(fileSystem.makeFolder(at('file')), 'E_EXISTS');
      });

      it('removes empty folders, twice without harm, and no other', async () => {
        await fileSystem.makeFolder(at('x', 'y'));
        await create(at('x', 'y', 'file'), '');
        await refused(fileSystem.removeFolder(at('x', 'y')), 'E_IO');
        await fileSystem.remove(at('x', 'y', 'file'));
        await fileSystem.removeFolder(at('x', 'y'));
        await fileSystem.removeFolder(at('x', 'y'));
        expect(await fileSystem.list(at('x'))).to.deep.equal([]);
      });

      it('tells the free bytes of the volume, or that it cannot', async () => {
        await fileSystem.makeFolder(at('x'));
        const freeBytes = await fileSystem.freeBytes(at('x'));
        if (freeBytes !== undefined) expect(Number.isSafeInteger(freeBytes)).to.equal(true);
      });
    });

    describe('status', () => {
      it('tells kind and size, and undefined for what is not there', async () => {
        await create(at('a'), 'abc');
        const status = await fileSystem.status(at('a'));
        expect(status?.kind).to.equal('file');
        expect(status?.sizeBytes).to.equal(3);
        expect((await fileSystem.status(under.folder))?.kind).to.equal('folder');
        expect(await fileSystem.status(at('none'))).to.equal(undefined);
      });

      it('gives two files two identities, and one file the same after a rename', async () => {
        await create(at('a'), '');
        await create(at('b'), '');
        const before = await fileSystem.status(at('a'));
        expect(before?.identity).to.not.equal((await fileSystem.status(at('b')))?.identity);
        await fileSystem.rename(at('a'), at('c'));
        expect((await fileSystem.status(at('c')))?.identity).to.equal(before?.identity);
      });

      it('resolves the real path of what is there', async () => {
        await create(at('a'), '');
        const real = await fileSystem.realPath(at('.', 'a'));
        expect(await fileSystem.realPath(real)).to.equal(real);
        await refused(fileSystem.realPath(at('none')), 'E_NOT_FOUND');
      });
    });

    describe('flush', () => {
      it('returns for files and folders', async () => {
        const file = await open(at('a'), { mode: 'create' });
        await file.write(0, Buffer.from('x'));
        await file.flush();
        await file.flush();
        await fileSystem.flushFolder(under.folder);
      });

      it('refuses a folder that is not there', async () => {
        await refused(fileSystem.flushFolder(at('none')), 'E_NOT_FOUND');
      });
    });
  });
}

/** Expects a typed error that names its code and, in its context, the path. */
export async function refused(promise: Promise<unknown>, code: ErrorCode): Promise<DrError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).to.be.instanceOf(DrError);
  if (!(error instanceof DrError)) throw new Error('not reached');
  expect(error.code, error.message).to.equal(code);
  expect(error.context).to.have.property('path');
  return error;
}
