// The executable as it is made: the same bytes each time, whole, with our name on it; and its command line on Windows.

import { readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { qemuCheck, qemuCompare } from '../support/qemu.js';
import { needTool } from '../support/need.js';
import { expectTool } from '../support/run-tool.js';
import { SeededRandom } from '../support/seeded-random.js';
import { makeExecutable, WindowsProduct } from '../support/windows-product.js';
import { differingBytes, fitForWine, needWine, windowsPath, WinePrefix } from '../support/wine.js';
import { WorkFolder } from '../support/work-folder.js';

const MIB = 1024 * 1024;
const PROGRAM = 'podheitor-hyperv-backend.exe';

describe('the single executable', function () {
  this.timeout(90_000);
  const work = new WorkFolder('executable');
  after(() => {
    work.dispose();
  });

  it('for Windows is the same bytes wherever it is made, whole, named, and without a foreign signature', async () => {
    const made = await makeExecutable('win32', work.file('one'));
    await makeExecutable('win32', work.file('another folder'));
    const names = made.map((path) => path.slice(work.file('one').length + 1));
    expect(names.slice(0, 3)).to.deep.equal([PROGRAM, 'hvdr.exe', 'native/koffi.node']);
    expect(names.at(-1)).to.equal('THIRD-PARTY-LICENCES.txt');
    for (const name of names) {
      const bytes = readFileSync(join(work.file('one'), name));
      expect(bytes.equals(readFileSync(join(work.file('another folder'), name))), name).to.equal(
        true,
      );
    }
    const program = readFileSync(made[0] ?? '');
    expect(statSync(made[1] ?? '').ino).to.equal(statSync(made[0] ?? '').ino);
    expect(program.includes(Buffer.from('PodHeitor HVDR', 'utf16le'))).to.equal(true);
    expect(program.includes(work.path)).to.equal(false);
    // optional header of a 64-bit program at 24; its directories begin at 112, the fifth is the signature
    const header = program.readUInt32LE(0x3c) + 24;
    expect(program.readBigUInt64LE(header + 112 + 4 * 8)).to.equal(0n);
    expect(differingBytes(program, fitForWine(program))).to.equal(1);
  });

  it('for Linux tells its version, and is the backend by its name', async () => {
    const [backend = '', hvdr = ''] = await makeExecutable('linux', work.file('linux'));
    expect((await expectTool(hvdr, ['--version'])).text).to.match(/^hvdr \d+\.\d+\.\d+\n$/);
    expect((await expectTool(hvdr, [])).text).to.contain('hvdr demo');
    expect((await expectTool(backend, ['--version'])).text).to.match(/^hvdr /);
    const asked = await expectTool(backend, [], { stdin: Buffer.from('') });
    expect(asked.text).not.to.contain('hvdr demo');
  });
});

describe('the command line on Windows', function () {
  this.timeout(90_000);
  const work = new WorkFolder('windows-cli');
  let windows: WindowsProduct;
  const leftovers: (() => Promise<void> | void)[] = [
    () => {
      work.dispose();
    },
  ];

  before(async function () {
    needWine(this);
    needTool(this, 'qemu-img');
    const prefix = await WinePrefix.create();
    leftovers.push(() => prefix.dispose());
    windows = await WindowsProduct.install(prefix);
  });

  after(async () => {
    for (const remove of leftovers) await remove();
  });

  it('tells its version, and ends with the code of what went wrong', async () => {
    expect((await windows.hvdr(['--version'])).text).to.match(/^hvdr \d+\.\d+\.\d+\n$/);
    expect((await windows.hvdr(['demo', '--bacula'], 2)).stderr).to.contain('checkout');
    const wrong = await windows.hvdr(['frobnicate'], 2);
    expect(wrong.stderr).to.contain('E_USAGE');
  });

  it('touches no file when the addon that locks them is gone', async () => {
    const addon = windows.prefix.file('Program Files/PodHeitor/native/koffi.node');
    renameSync(addon, `${addon}.away`);
    try {
      const run = await windows.hvdr(['lab', 'init', 'C:\\lab'], 16);
      expect(run.stderr).to.contain('Install the product again');
    } finally {
      renameSync(`${addon}.away`, addon);
    }
  });

  it('writes VHDX files that qemu reads as written, under long names and in other letters', async () => {
    const raw = work.file('disk.raw');
    writeFileSync(raw, Buffer.concat([new SeededRandom(5).bytes(MIB), Buffer.alloc(3 * MIB)]));
    const deep = Array.from({ length: 4 }, (_, n) => `${'long '.repeat(14)}${n}`).join('\\');
    const folder = `C:\\Übung 数据\\${deep}`;
    expect(folder.length).to.be.greaterThan(260);
    await windows.hvdr(['lab', 'init', folder]);
    const vhdx = `${folder}\\Größe.vhdx`;
    await windows.hvdr(['vhdx', 'convert', windowsPath(raw), vhdx]);
    const file = windows.prefix.file(vhdx.slice(3).replaceAll('\\', '/'));
    await qemuCheck(file);
    await qemuCompare(raw, file);
    expect((await windows.hvdr(['vhdx', 'check', vhdx])).text).to.contain('no violation');
    await windows.hvdr(['vhdx', 'convert', vhdx, 'C:\\back.raw']);
    expect(readFileSync(windows.prefix.file('back.raw')).equals(readFileSync(raw))).to.equal(true);
  });
});
