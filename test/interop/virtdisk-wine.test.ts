// The binding of virtdisk.dll in Node for Windows under Wine, against its double as a DLL: the real ABI, the real koffi
// for Windows and, for reads and writes, the real kernel32.dll. What no double can show is what Microsoft's
// virtdisk.dll does.

import { expect } from 'chai';
import { join } from 'node:path';
import {
  LAYOUTS,
  MEMBER_BYTES,
  type Layout,
} from '../../shared/hypervisor/hyperv/native/layouts.js';
import { builtFolder } from '../support/checkout.js';
import { expectTool } from '../support/run-tool.js';
import { VIRTDISK_CASES } from '../support/virtdisk-cases.js';
import { doubleSources } from '../support/virtdisk-rig.js';
import { WINDOWS_ONLY_CASES } from '../support/virtdisk-windows-titles.js';
import { WinePrefix, compileForWindows, needWine, windowsPath } from '../support/wine.js';
import { WorkFolder } from '../support/work-folder.js';

const MAIN = join(builtFolder, 'test', 'support', 'virtdisk-wine-main.js');

/** Sizes and places as print-layouts.c prints them. */
const PLACES = Object.fromEntries(
  Object.entries<Layout>(LAYOUTS).map(([name, { size, members }]) => {
    const places = Object.entries(members).map(
      ([member, [offset, type]]) => [member, { offset, size: MEMBER_BYTES[type] }] as const,
    );
    return [name, { size, members: Object.fromEntries(places) }];
  }),
);

describe('virtdisk.dll, in Node for Windows', function () {
  const work = new WorkFolder('virtdisk-wine');
  let prefix: WinePrefix | undefined;
  let outcomes: Readonly<Record<string, string>> = {};

  before(async function () {
    needWine(this);
    const double = work.file('virtdisk-double.dll');
    const sources = doubleSources('virtdisk.c', 'sidecar.c', 'virtdisk.def');
    await compileForWindows(double, sources, ['-lpthread']);
    prefix = await WinePrefix.create();
    const args = [MAIN, double, work.path].map(windowsPath);
    const run = await prefix.expect(prefix.node, args, { timeoutMs: 120_000 });
    // our own program
    outcomes = JSON.parse(run.text) as Record<string, string>;
  });

  after(async () => {
    await prefix?.dispose();
    work.dispose();
  });

  for (const name of Object.keys(VIRTDISK_CASES)) {
    it(name, () => {
      expect(outcomes[name]).to.equal('passed');
    });
  }

  for (const [key, title] of Object.entries(WINDOWS_ONLY_CASES)) {
    it(title, () => {
      expect(outcomes[key]).to.equal('passed');
    });
  }

  it('passes structures as the compiler for Windows lays them out', async () => {
    const program = work.file('print-layouts.exe');
    await compileForWindows(program, doubleSources('print-layouts.c'));
    const run = await prefix?.expect(program, []);
    expect(JSON.parse(run?.text ?? '')).to.deep.equal(PLACES);
  });

  it('finds the layouts of this Linux equal to those', async () => {
    const program = work.file('print-layouts');
    await expectTool('gcc', ['-o', program, ...doubleSources('print-layouts.c')]);
    expect(JSON.parse((await expectTool(program, [])).text)).to.deep.equal(PLACES);
  });
});
