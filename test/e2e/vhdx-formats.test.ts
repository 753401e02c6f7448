// What is surely no raw disk is never silently taken for one.

import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect } from 'chai';
import { runHvdr } from '../support/cli.js';
import { needTool } from '../support/need.js';
import { expectTool } from '../support/run-tool.js';

describe('hvdr vhdx convert: files that are no disk of ours', function () {
  this.timeout(240_000);
  let folder = '';
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'hvdr-formats-'));
  });
  after(() => rm(folder, { recursive: true, force: true }));

  it('refuses images of other programs and packed files, and takes them as raw when told to', async function () {
    needTool(this, 'qemu-img');
    for (const format of ['vdi', 'qed', 'parallels']) {
      await expectTool('qemu-img', [
        'create',
        '-q',
        '-f',
        format,
        join(folder, `a.${format}`),
        '4M',
      ]);
    }
    await writeFile(join(folder, 'a.gz'), gzipSync(Buffer.alloc(100_000)));
    for (const name of ['a.vdi', 'a.qed', 'a.parallels', 'a.gz']) {
      const run = await runHvdr(['vhdx', 'convert', name, 'never.vhdx'], { folder });
      expect(run.code, name).to.equal(16);
      expect(run.stderr).to.match(/^E_IMAGE_FORMAT: /);
      const compare = await runHvdr(['vhdx', 'hash', name], { folder });
      expect(compare.stderr, name).to.match(/^E_IMAGE_FORMAT: /);
    }
    const told = await runHvdr(['vhdx', 'convert', 'a.gz', 'b.vhdx', '--from', 'raw'], { folder });
    expect(told.code, told.stderr).to.equal(0);
    expect(await readdir(folder))
      .to.include('b.vhdx')
      .and.not.include('never.vhdx');
  });

  it('refuses a target whose name promises another format', async () => {
    await writeFile(join(folder, 'c.raw'), Buffer.alloc(4096));
    for (const name of ['c.qcow2', 'c.vmdk', 'c.vhd']) {
      const run = await runHvdr(['vhdx', 'convert', 'c.raw', name], { folder });
      expect(run.code, name).to.equal(2);
      expect(run.stderr).to.match(/^E_USAGE: /);
    }
  });
});
