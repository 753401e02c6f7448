import { expect } from 'chai';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { link, mkdtemp, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AssertionError } from '../../../shared/assert.js';
import { nodeFileSystem } from '../../../shared/files/index.js';
import { refused } from '../../conformance/file-system.js';

const isPosix = process.platform !== 'win32';

describe('the real file system', () => {
  let folder: string;
  const at = (name: string): string => join(folder, name);

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'hvdr-node-file-'));
  });
  afterEach(async () => {
    await rm(folder, { recursive: true });
  });

  it('gives new files to their owner alone', async () => {
    const file = await nodeFileSystem.open(at('a'), { mode: 'create' });
    await file.close();
    if (isPosix) expect((await stat(at('a'))).mode & 0o777).to.equal(0o600);
  });

  it('believes no flush beside one that fails: the system tells a loss to one of them only', async () => {
    const file = await nodeFileSystem.open(at('a'), { mode: 'create' });
    const original = fs.fdatasync;
    let isLost = true;
    fs.fdatasync = ((_descriptor: number, settle: fs.NoParamCallback) => {
      const error = isLost ? Object.assign(new Error('EIO'), { code: 'EIO' }) : null;
      isLost = false;
      setTimeout(settle, error === null ? 0 : 20, error);
    }) as typeof original;
    try {
      const both = [file.flush(), file.flush()];
      await Promise.all(both.map((flush) => refused(flush, 'E_IO')));
      await refused(file.flush(), 'E_IO');
    } finally {
      fs.fdatasync = original;
    }
    await file.close();
  });

  it('replaces a file that others have open', async function () {
    if (!isPosix) this.skip(); // NTFS can, Wine cannot: the contract allows both
    await writeFile(at('a'), 'new');
    await writeFile(at('b'), 'old');
    const file = await nodeFileSystem.open(at('b'), { mode: 'read' });
    await nodeFileSystem.rename(at('a'), at('b'));
    await file.close();
    expect(fs.readFileSync(at('b'), 'utf8')).to.equal('new');
  });

  it('follows links, and knows two names of one file', async () => {
    await writeFile(at('a'), 'abc');
    await symlink('a', at('soft'));
    await link(at('a'), at('hard'));
    const identity = (await nodeFileSystem.status(at('a')))?.identity;
    expect((await nodeFileSystem.status(at('soft')))?.identity).to.equal(identity);
    expect((await nodeFileSystem.status(at('hard')))?.identity).to.equal(identity);
    expect(await nodeFileSystem.realPath(at('soft'))).to.equal(
      await nodeFileSystem.realPath(at('a')),
    );
    const file = await nodeFileSystem.open(at('soft'), { mode: 'read' });
    expect(await file.size()).to.equal(3);
    await file.close();
  });

  it('sees nothing behind a link that leads nowhere', async () => {
    await symlink('none', at('soft'));
    expect(await nodeFileSystem.status(at('soft'))).to.equal(undefined);
    await refused(nodeFileSystem.open(at('soft'), { mode: 'read' }), 'E_NOT_FOUND');
  });

  if (isPosix) {
    it('refuses pipes, sockets and devices without hanging', async () => {
      execFileSync('mkfifo', [at('pipe')]);
      const server = createServer().listen(at('socket'));
      await once(server, 'listening');
      try {
        for (const path of [at('pipe'), at('socket'), '/dev/null']) {
          for (const mode of ['read', 'write'] as const) {
            await refused(nodeFileSystem.open(path, { mode }), 'E_IO');
          }
        }
      } finally {
        server.close();
      }
    });

    it('holds a lock against another process until that one dies', async () => {
      const module = new URL('../../../shared/files/index.js', import.meta.url).href;
      const script = `
        const { nodeFileSystem } = await import(${JSON.stringify(module)});
        await nodeFileSystem.open(${JSON.stringify(at('a'))}, { mode: 'create' });
        process.stdout.write('held');
        setInterval(() => {}, 1000);`;
      const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      try {
        await once(child.stdout, 'data');
        await refused(nodeFileSystem.open(at('a'), { mode: 'read' }), 'E_LOCKED');
      } finally {
        child.kill('SIGKILL');
        await once(child, 'exit');
      }
      const file = await nodeFileSystem.open(at('a'), { mode: 'write' });
      await file.close();
    });

    it('says that a device is full', () => {
      // RLIMIT_FSIZE stands in for a full device: the system answers EFBIG as it would ENOSPC.
      const module = new URL('../../../shared/files/index.js', import.meta.url).href;
      const script = `
        process.on('SIGXFSZ', () => {});
        const { nodeFileSystem } = await import(${JSON.stringify(module)});
        const file = await nodeFileSystem.open(${JSON.stringify(at('a'))}, { mode: 'create' });
        try { await file.write(0, Buffer.alloc(1 << 20)); } catch (error) {
          process.stdout.write(error.code + ' ' + error.context.systemCode + ' ' + error.done);
        }`;
      const output = execFileSync(
        'sh',
        ['-c', 'ulimit -f 64 && exec "$0" --input-type=module -e "$1"', process.execPath, script],
        { encoding: 'utf8' },
      );
      expect(output).to.contain('E_CAPACITY EFBIG a part may have been written');
    });
  }

  it('tells holes from data where the file system can', async () => {
    const file = await nodeFileSystem.open(at('a'), { mode: 'create' });
    await file.write(64 << 20, Buffer.alloc(4096, 1));
    await file.truncate(128 << 20);
    await file.flush();
    const range = await file.nextData(0);
    await file.close();
    // A file system without holes has one legal answer: everything.
    const isSparse = range?.start !== 0;
    expect(range).to.deep.equal(
      isSparse ? { start: 64 << 20, end: (64 << 20) + 4096 } : { start: 0, end: 128 << 20 },
    );
  });

  it('waits in close() for the calls under way', async () => {
    const file = await nodeFileSystem.open(at('a'), { mode: 'create' });
    let writtenCount = 0;
    const writes = Array.from({ length: 50 }, async (_, i) => {
      await file.write(i * 100_000, Buffer.alloc(100_000, i));
      writtenCount++;
    });
    await file.close();
    await Promise.all(writes);
    expect(writtenCount).to.equal(50);
    expect((await nodeFileSystem.status(at('a')))?.sizeBytes).to.equal(5_000_000);
  });

  it('trips an assertion when used after close()', async () => {
    const file = await nodeFileSystem.open(at('a'), { mode: 'create' });
    await file.close();
    const error: unknown = await file.write(0, Buffer.from('x')).catch((e: unknown) => e);
    expect(error).to.be.instanceOf(AssertionError);
  });
});
