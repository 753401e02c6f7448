// A dirty log of ours, cut off at the commit: the file as a power cut leaves it, with the pages of the
// last commit nowhere but in the log. qemu replays it to the same disk as we do. And two processes
// that want one file.

import { copyFile, open as openFile, writeFile } from 'node:fs/promises';
import { pathToFileURL } from 'node:url';
import { join } from 'node:path';
import { expect } from 'chai';
import { systemRandom } from '../../shared/clock.js';
import { nodeFileSystem } from '../../shared/files/index.js';
import {
  checkVhdx,
  createVhdx,
  describeVhdx,
  mergeVhdx,
  openVhdx,
} from '../../shared/vhdx/index.js';
import { builtFolder } from '../support/checkout.js';
import { needTool } from '../support/need.js';
import { qemuCheck, qemuCompare } from '../support/qemu.js';
import { refusal } from '../support/refusal.js';
import { expectTool, runTool } from '../support/run-tool.js';
import { WorkFolder } from '../support/work-folder.js';

const MIB = 1024 * 1024;
const BAT_OFFSET = 3 * MIB;
const environment = { fs: nodeFileSystem, random: systemRandom };

async function readAll(file: string): Promise<Buffer> {
  const disk = await openVhdx(file, environment);
  const bytes = Buffer.alloc(disk.sizeBytes);
  await disk.read(0, bytes);
  await disk.close();
  return bytes;
}

describe('interop: a dirty log of ours', function () {
  this.timeout(120_000);
  let work: WorkFolder;
  before(() => (work = new WorkFolder('dirty-log')));
  after(() => work.dispose());

  it('is replayed by qemu-img to the same disk as by us', async function () {
    needTool(this, 'qemu-img');
    const live = work.file('live.vhdx');
    const sizeBytes = 24 * MIB;
    await createVhdx(live, { type: 'dynamic', sizeBytes, blockSizeBytes: MIB }, environment);
    const content = Buffer.alloc(sizeBytes);
    const disk = await openVhdx(live, { ...environment, isWritable: true });
    // Enough commits to wrap the log, with the BAT page in each.
    for (let i = 0; i < 200; i++) {
      const at = (i % 20) * MIB + i * 4096;
      content.fill(i + 1, at, at + 4096);
      await disk.write(at, Buffer.alloc(4096, i + 1));
      await disk.flush();
    }
    const dirty = work.file('dirty.vhdx');
    await copyFile(live, dirty);
    await disk.close();
    const handle = await openFile(dirty, 'r+');
    await handle.write(Buffer.alloc(4096), 0, 4096, BAT_OFFSET);
    await handle.close();

    expect((await describeVhdx(dirty, environment)).log.state).to.equal('dirty');
    expect((await readAll(dirty)).equals(content)).to.equal(true);
    const theirs = work.file('theirs.vhdx');
    await copyFile(dirty, theirs);
    // qemu refuses the file as it is, which shows that it is dirty to qemu, too.
    expect((await runTool('qemu-img', ['info', '-f', 'vhdx', theirs])).code).to.not.equal(0);
    await expectTool('qemu-img', ['check', '-f', 'vhdx', '-r', 'all', theirs]);
    await qemuCheck(theirs);
    const raw = work.file('content.raw');
    await writeFile(raw, content);
    await qemuCompare(raw, theirs);
    expect((await readAll(theirs)).equals(content)).to.equal(true);

    await (await openVhdx(dirty, { ...environment, isWritable: true })).close();
    expect((await checkVhdx(dirty, environment)).warnings).to.deep.equal([]);
    await qemuCheck(dirty);
    await qemuCompare(raw, dirty);
  });
});

describe('interop: two processes and one file', function () {
  this.timeout(60_000);
  let work: WorkFolder;
  before(() => (work = new WorkFolder('two-processes')));
  after(() => work.dispose());

  /** Runs in a process of its own: tries to open, prints the code of the refusal or "opened". */
  async function elsewhere(file: string, isWritable: boolean): Promise<string> {
    const engine = pathToFileURL(join(builtFolder, 'shared/vhdx/index.js')).href;
    const files = pathToFileURL(join(builtFolder, 'shared/files/index.js')).href;
    const clock = pathToFileURL(join(builtFolder, 'shared/clock.js')).href;
    const script = `
      import { openVhdx } from ${JSON.stringify(engine)};
      import { nodeFileSystem } from ${JSON.stringify(files)};
      import { systemRandom } from ${JSON.stringify(clock)};
      const options = { fs: nodeFileSystem, random: systemRandom, isWritable: ${isWritable} };
      try {
        await (await openVhdx(${JSON.stringify(file)}, options)).close();
        process.stdout.write('opened');
      } catch (error) {
        process.stdout.write(error.code ?? String(error));
      }`;
    const args = ['--input-type=module', '--eval', script];
    return (await expectTool(process.execPath, args)).text;
  }

  it('a writer keeps everybody out, readers keep writers and merges out', async () => {
    const base = work.file('base.vhdx');
    const child = work.file('child.vhdx');
    await createVhdx(base, { type: 'dynamic', sizeBytes: 8 * MIB }, environment);
    await createVhdx(child, { type: 'differencing', parentPath: base }, environment);
    const writer = await openVhdx(child, { ...environment, isWritable: true });
    expect(await elsewhere(child, false)).to.equal('E_LOCKED');
    expect(await elsewhere(child, true)).to.equal('E_LOCKED');
    expect(await elsewhere(base, false)).to.equal('opened');
    await writer.close();
    const reader = await openVhdx(base, environment);
    expect(await elsewhere(child, false)).to.equal('opened');
    expect(await elsewhere(child, true)).to.equal('opened');
    expect((await refusal(() => mergeVhdx(child, environment))).code).to.equal('E_LOCKED');
    await reader.close();
    expect(await elsewhere(child, true)).to.equal('opened');
  });
});
