// Symbolic links to disks: what protects a disk under its own name protects it under every name.

import { copyFile, lstat, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { systemRandom } from '../../shared/clock.js';
import { nodeFileSystem } from '../../shared/files/index.js';
import { mergeVhdx } from '../../shared/vhdx/index.js';
import { FaultFileSystem } from '../support/fault-file.js';
import { refusal } from '../support/refusal.js';
import { runHvdr, type CliRun } from '../support/cli.js';

describe('hvdr vhdx: symbolic links to disks', function () {
  this.timeout(240_000);
  let folder = '';

  const hvdr = (...args: string[]): Promise<CliRun> => runHvdr(args, { folder });
  async function done(...args: string[]): Promise<CliRun> {
    const run = await hvdr(...args);
    expect(run.code, run.stderr).to.equal(0);
    return run;
  }
  const child = (name: string, parent: string): Promise<CliRun> =>
    done('vhdx', 'create', name, '--type', 'differencing', '--parent', parent);

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'hvdr-links-'));
    await mkdir(join(folder, 'store'));
    await mkdir(join(folder, 'else'));
    await writeFile(join(folder, 'bytes'), Buffer.alloc(100_000, 5));
    await done('vhdx', 'create', 'store/p.vhdx', '--size', '8M');
    await child('store/c.vhdx', 'store/p.vhdx');
    await done('vhdx', 'write', 'store/c.vhdx', '--offset', '1M', '--file', 'bytes');
    await symlink('../store/p.vhdx', join(folder, 'else', 'l.vhdx'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  it('a parent is not written to through a link from another folder', async () => {
    const run = await hvdr('vhdx', 'write', 'else/l.vhdx', '--offset', '0', '--file', 'bytes');
    expect(run.stderr).to.match(/^E_VHDX_HAS_CHILDREN: /);
    expect(run.code).to.equal(10);
    await done('vhdx', 'hash', 'store/c.vhdx');
  });

  it('a half merged parent is refused through a link, and the merge goes on', async () => {
    const before = (await done('vhdx', 'hash', 'store/c.vhdx')).stdout.toString().slice(0, 64);
    const fs = new FaultFileSystem(nodeFileSystem);
    fs.inject({ kind: 'rename', path: /p\.vhdx$/ });
    const seams = { fs, random: systemRandom };
    await refusal(() => mergeVhdx(join(folder, 'store', 'c.vhdx'), seams));
    for (const command of ['info', 'hash'] as const) {
      const run = await hvdr('vhdx', command, 'else/l.vhdx');
      if (command === 'hash') expect(run.stderr).to.match(/^E_VHDX_MERGE_PENDING: /);
    }
    await done('vhdx', 'merge', 'store/c.vhdx');
    const after = (await done('vhdx', 'hash', 'store/c.vhdx')).stdout.toString().slice(0, 64);
    expect(after).to.equal(before);
  });

  it('a merge through a link merges the file itself, and grandchildren stay readable', async () => {
    await child('store/g.vhdx', 'store/c.vhdx');
    await symlink('c.vhdx', join(folder, 'store', 'name.vhdx'));
    const before = (await done('vhdx', 'hash', 'store/g.vhdx')).stdout.toString().slice(0, 64);
    await done('vhdx', 'merge', 'store/name.vhdx');
    expect((await lstat(join(folder, 'store', 'c.vhdx'))).isFile()).to.equal(true);
    const after = (await done('vhdx', 'hash', 'store/g.vhdx')).stdout.toString().slice(0, 64);
    expect(after).to.equal(before);
    const names = await readdir(join(folder, 'store'));
    expect(names.sort()).to.deep.equal(['c.vhdx', 'g.vhdx', 'name.vhdx']);
  });

  it('a child made through a linked folder finds its parent', async () => {
    await symlink('store', join(folder, 'way'));
    await child('way/n.vhdx', 'store/c.vhdx');
    await done('vhdx', 'hash', 'store/n.vhdx');
    await copyFile(join(folder, 'store', 'p.vhdx'), join(folder, 'else', 'p.vhdx'));
    const outside = await hvdr(
      ...['vhdx', 'create', 'else/far.vhdx', '--type', 'differencing', '--parent', 'store/p.vhdx'],
    );
    expect(outside.stderr).to.match(/^E_VHDX_PATH: /);
  });
});
