// What `hvdr vhdx check`, `info`, `map` and `write` say and do about disks that are not in order.

import { copyFile, mkdtemp, rename, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { systemRandom } from '../../shared/clock.js';
import { nodeFileSystem } from '../../shared/files/index.js';
import { mergeVhdx, openVhdx } from '../../shared/vhdx/index.js';
import { FaultFileSystem } from '../support/fault-file.js';
import { refusal } from '../support/refusal.js';
import { runHvdr, runHvdrJson, type CliRun } from '../support/cli.js';

const MIB = 1024 * 1024;

describe('hvdr vhdx: disks that are not in order', function () {
  this.timeout(240_000);
  let folder = '';
  const hvdr = (...args: string[]): Promise<CliRun> => runHvdr(args, { folder });
  async function done(...args: string[]): Promise<CliRun> {
    const run = await hvdr(...args);
    expect(run.code, run.stderr).to.equal(0);
    return run;
  }

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'hvdr-findings-'));
    await writeFile(join(folder, 'bytes'), Buffer.alloc(MIB, 5));
    await done('vhdx', 'create', 'p.vhdx', '--size', '64M', '--block-size', '8M');
    await done('vhdx', 'create', 'c.vhdx', '--type', 'differencing', '--parent', 'p.vhdx');
    await done('vhdx', 'write', 'c.vhdx', '--offset', '2M', '--file', 'bytes');
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  it('a missing parent is one finding, at the place of the locator, said once', async () => {
    await rename(join(folder, 'p.vhdx'), join(folder, 'away.vhdx'));
    const { run, document } = await runHvdrJson(['vhdx', 'check', 'c.vhdx'], { folder });
    expect(run.code).to.equal(15);
    const { violations } = document as { violations: { code: string; offset: number }[] };
    expect(violations).to.have.length(1);
    expect(violations[0]).to.include({
      code: 'E_VHDX_PARENT_MISSING',
      structure: 'parent locator',
    });
    expect(violations[0]?.offset).to.be.greaterThan(2 * MIB);
    const text = (await hvdr('vhdx', 'check', 'c.vhdx')).stdout.toString();
    expect(text.match(/parent locator at byte/g)).to.have.length(1);
  });

  it('map shows what one file holds without its parents', async () => {
    await rename(join(folder, 'p.vhdx'), join(folder, 'away.vhdx'));
    const { document } = await runHvdrJson(['vhdx', 'map', 'c.vhdx'], { folder });
    expect(document)
      .to.have.property('totals')
      .that.includes({ allocated: MIB, parent: 63 * MIB });
    expect((await hvdr('vhdx', 'map', 'c.vhdx', '--chain')).code).to.equal(15);
  });

  it('a merge under way is told by check and info', async () => {
    const fs = new FaultFileSystem(nodeFileSystem);
    fs.inject({ kind: 'rename', path: /p\.vhdx$/ });
    const seams = { fs, random: systemRandom };
    await refusal(() => mergeVhdx(join(folder, 'c.vhdx'), seams));
    const check = await hvdr('vhdx', 'check', 'p.vhdx');
    expect(check.code, check.stderr).to.equal(3);
    const info = await hvdr('vhdx', 'info', 'p.vhdx');
    expect(info.stderr).to.contain('the merge of c.vhdx into it is not finished');
    await done('vhdx', 'merge', 'c.vhdx');
    await done('vhdx', 'check', 'c.vhdx');
  });

  it('space that was never published is given back by the next write', async () => {
    const file = join(folder, 'full.vhdx');
    await done('vhdx', 'create', 'full.vhdx', '--size', '64M', '--block-size', '1M');
    const disk = await openVhdx(file, {
      fs: nodeFileSystem,
      random: systemRandom,
      isWritable: true,
    });
    await disk.write(0, Buffer.alloc(20 * MIB, 9));
    // A copy taken before the flush is what a process leaves that ended half-way.
    await copyFile(file, join(folder, 'half.vhdx'));
    await disk.close();
    const { document } = await runHvdrJson(['vhdx', 'check', 'half.vhdx'], { folder });
    expect(document).to.include({ violationCount: 0 });
    await done('vhdx', 'write', 'half.vhdx', '--offset', '0', '--file', 'bytes');
    expect((await stat(join(folder, 'half.vhdx'))).size).to.be.lessThan(8 * MIB);
    const read = await done('vhdx', 'read', 'half.vhdx', '--offset', '1M', '--length', '1M');
    expect(read.stdout.every((byte) => byte === 0)).to.equal(true);
  });
});
