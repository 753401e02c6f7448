// Which file a parent locator leads to, and where it never leads. Paths in a locator are written by
// others: an absolute one could open anything, a UNC one sends credentials to somebody's server.

import { mkdtempSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { guid } from '../../../shared/bytes/index.js';
import { nodeFileSystem } from '../../../shared/files/index.js';
import type { ParentLocator } from '../../../shared/vhdx/parent-locator.js';
import { findParent, parentNameOf, relativeParentPath } from '../../../shared/vhdx/parent-path.js';
import { HookedFileSystem } from '../../support/hooked-file.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { refusal } from '../../support/refusal.js';

const LINKAGE = guid('0badf00d-1234-4321-8000-00aa00bb00cc');
const CHILD = '/vm/disks/child.avhdx';

function locator(paths: Partial<ParentLocator>): ParentLocator {
  return { parentLinkage: LINKAGE, ...paths };
}

/** Files where an escape would end up, so that following one would succeed. */
async function volume(): Promise<MemoryFileSystem> {
  const fs = new MemoryFileSystem();
  for (const name of [
    '/vm/disks/base.vhdx',
    '/vm/disks/sub/base.vhdx',
    '/vm/disks/nul',
    '/vm/disks/..hidden.vhdx',
    '/vm/base.vhdx',
    '/vm/disks-2/base.vhdx',
    '/etc/shadow',
    '/server/share/base.vhdx',
    '/C:/base.vhdx',
    '/vm/disks/C:/base.vhdx',
  ]) {
    fs.put(name, Buffer.from('x'));
  }
  await Promise.resolve();
  return fs;
}

describe('VHDX parent path', () => {
  const followed: [string, Partial<ParentLocator>, string][] = [
    ['a name', { relativePath: 'base.vhdx' }, '/vm/disks/base.vhdx'],
    ['a name behind .\\', { relativePath: '.\\base.vhdx' }, '/vm/disks/base.vhdx'],
    ['a name behind ./', { relativePath: './base.vhdx' }, '/vm/disks/base.vhdx'],
    ['a folder below', { relativePath: '.\\sub\\base.vhdx' }, '/vm/disks/sub/base.vhdx'],
    ['a way out and back', { relativePath: 'sub\\..\\base.vhdx' }, '/vm/disks/base.vhdx'],
    ['a name with two dots', { relativePath: '..hidden.vhdx' }, '/vm/disks/..hidden.vhdx'],
    [
      'only an absolute path: its name, in this folder',
      { absolutePath: 'C:\\Users\\x\\base.vhdx' },
      '/vm/disks/base.vhdx',
    ],
    [
      'only a volume path: its name, in this folder',
      { volumePath: '\\\\?\\Volume{0eba351e-0000-0000-0000-000000000000}\\d\\base.vhdx' },
      '/vm/disks/base.vhdx',
    ],
    [
      'a relative path before an absolute one',
      { relativePath: 'sub\\base.vhdx', absolutePath: 'C:\\base.vhdx' },
      '/vm/disks/sub/base.vhdx',
    ],
  ];
  for (const [name, paths, expected] of followed) {
    it(`follows ${name}`, async () => {
      expect(await findParent(await volume(), CHILD, locator(paths))).to.equal(expected);
    });
  }

  for (const relativePath of [
    '..\\base.vhdx',
    '.\\..\\base.vhdx',
    'sub\\..\\..\\base.vhdx',
    '..\\disks-2\\base.vhdx',
    '..',
    '../../etc/shadow',
    '/etc/shadow',
    '\\etc\\shadow',
    '\\\\server\\share\\base.vhdx',
    '//server/share/base.vhdx',
    '\\\\?\\C:\\base.vhdx',
    '\\\\.\\PhysicalDrive0',
    '\\??\\C:\\base.vhdx',
    'C:\\base.vhdx',
    'c:base.vhdx',
    'C:/base.vhdx',
    'nul',
    'NUL.vhdx',
    'sub\\con',
    'Aux .vhdx',
    'com1.vhdx',
    'LPT9',
    'CONIN$',
  ]) {
    it(`refuses ${relativePath}, without touching what it names`, async () => {
      const touched: string[] = [];
      const fs = new HookedFileSystem(await volume(), (call, run) => {
        touched.push(call.path);
        return run();
      });
      const error = await refusal(() => findParent(fs, CHILD, locator({ relativePath })));
      expect(error.code).to.equal('E_VHDX_PATH');
      expect(error.message).to.contain(CHILD);
      expect(touched).to.deep.equal([]);
    });
  }

  for (const absolutePath of ['C:\\dir\\..', 'C:', '\\\\server\\share\\..', 'x\\NUL']) {
    it(`refuses the last part of ${absolutePath}`, async () => {
      const fs = await volume();
      const error = await refusal(() => findParent(fs, CHILD, locator({ absolutePath })));
      expect(error.code).to.equal('E_VHDX_PATH');
    });
  }

  for (const relativePath of ['gone.vhdx', 'sub', '.', 'sub\\', 'base.vhdx\\x', 'C\\..\\gone']) {
    it(`names the parent that is not there: ${relativePath}`, async () => {
      const fs = await volume();
      const error = await refusal(() => findParent(fs, CHILD, locator({ relativePath })));
      expect(error.code).to.equal('E_VHDX_PARENT_MISSING');
      expect(error.message).to.contain(JSON.stringify(relativePath.replaceAll('\\', '/')));
      expect(error.context['file']).to.equal(CHILD);
    });
  }

  it('does not follow a link out of the folder, but one within it', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'hvdr-parent-'));
    try {
      mkdirSync(join(folder, 'disks', 'sub'), { recursive: true });
      const inside = join(folder, 'disks');
      writeFileSync(join(folder, 'outside.vhdx'), 'x');
      writeFileSync(join(inside, 'base.vhdx'), 'x');
      symlinkSync(join(folder, 'outside.vhdx'), join(inside, 'link.vhdx'));
      symlinkSync(folder, join(inside, 'sub', 'up'));
      symlinkSync('base.vhdx', join(inside, 'good.vhdx'));
      symlinkSync('nowhere', join(inside, 'dangling.vhdx'));
      const child = join(inside, 'child.vhdx');
      const find = (relativePath: string): Promise<string> =>
        findParent(nodeFileSystem, child, locator({ relativePath }));
      for (const path of ['link.vhdx', 'sub\\up\\outside.vhdx']) {
        expect((await refusal(() => find(path))).code, path).to.equal('E_VHDX_PATH');
      }
      expect(await find('good.vhdx')).to.equal(join(inside, 'base.vhdx'));
      expect(await find('sub\\up\\disks\\base.vhdx')).to.contain('base.vhdx');
      const error = await refusal(() => find('dangling.vhdx'));
      expect(error.code).to.equal('E_VHDX_PARENT_MISSING');
      expect((await refusal(() => find('x'.repeat(5000)))).code).to.equal('E_IO');
      // A folder that is itself reached through a link is a folder like any other.
      symlinkSync(inside, join(folder, 'entrance'));
      const through = join(folder, 'entrance', 'child.vhdx');
      const parent = await findParent(
        nodeFileSystem,
        through,
        locator({ relativePath: 'base.vhdx' }),
      );
      expect(parent).to.equal(join(inside, 'base.vhdx'));
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('writes paths as Windows does, and none that leaves the folder', () => {
    expect(relativeParentPath('/d/child.vhdx', '/d/base.vhdx')).to.equal('.\\base.vhdx');
    expect(relativeParentPath('/d/child.vhdx', '/d/sub/base.vhdx')).to.equal('.\\sub\\base.vhdx');
    expect(relativeParentPath('/d/child.vhdx', '/base.vhdx')).to.equal(undefined);
    expect(relativeParentPath('/d/child.vhdx', '/d2/base.vhdx')).to.equal(undefined);
    expect(relativeParentPath('child.vhdx', 'base.vhdx')).to.equal('.\\base.vhdx');
    // Nor one that could not be followed afterwards.
    expect(relativeParentPath('/d/child.vhdx', '/d/a\\b.vhdx')).to.equal(undefined);
    expect(relativeParentPath('/d/child.vhdx', '/d/nul.vhdx')).to.equal(undefined);
  });

  it('knows the name of a parent for messages', () => {
    expect(parentNameOf(locator({ relativePath: '..\\a\\b.vhdx' }))).to.equal('b.vhdx');
    expect(parentNameOf(locator({ absolutePath: 'C:\\b.vhdx' }))).to.equal('b.vhdx');
    expect(parentNameOf(locator({ volumePath: '\\\\?\\Volume{x}\\' }))).to.equal('(unnamed)');
    expect(parentNameOf(locator({}))).to.equal('(unnamed)');
  });
});
