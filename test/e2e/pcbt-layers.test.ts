// `hvdr pcbt merge`, `overlay` and `export` as a user runs them: three states of a disk, two deltas.

import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { runHvdr, runHvdrJson, type CliRun } from '../support/cli.js';
import { needTool } from '../support/need.js';
import { sevenzipHash } from '../support/sevenzip.js';

const MIB = 1024 * 1024;
const POINTS = ['1', '2'].map((digit) => `${digit}0000000-0000-4000-8000-000000000000`);

describe('hvdr pcbt merge, overlay, export', function () {
  this.timeout(300_000);
  let folder = '';
  const states: Buffer[] = [];

  async function hvdr(...args: string[]): Promise<CliRun> {
    return runHvdr(args, { folder });
  }

  async function done(...args: string[]): Promise<CliRun> {
    const run = await hvdr(...args);
    expect(run.code, run.stderr).to.equal(0);
    return run;
  }

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'hvdr-layers-'));
    const first = Buffer.alloc(9 * MIB + 4096);
    randomBytes(3 * MIB).copy(first, MIB);
    const second = Buffer.from(first);
    randomBytes(100_000).copy(second, 2 * MIB + 7);
    second.fill(0, 3 * MIB, 3 * MIB + 200_000);
    const third = Buffer.from(second);
    randomBytes(50_000).copy(third, 2 * MIB + 60_000);
    randomBytes(65_536).copy(third, 3 * MIB + 65_536);
    third.fill(9, third.length - 10);
    states.push(first, second, third);
    for (const [index, state] of states.entries()) {
      await writeFile(join(folder, `${index}.raw`), state);
    }
    await done('vhdx', 'convert', '0.raw', 'base.vhdx', '--block-size', '1M');
    for (const [index, point] of POINTS.entries()) {
      const parent = POINTS[index - 1];
      await done(
        ...['pcbt', 'diff', `${index}.raw`, `${index + 1}.raw`, '--out', `${index}.cbt`],
        ...['--manifest', `${index}.m`, '--point', point],
        ...(parent === undefined ? [] : ['--parent-point', parent]),
      );
    }
  });

  after(() => rm(folder, { recursive: true, force: true }));

  const both = ['0.cbt', '1.cbt', '--manifest', '0.m', '1.m'];

  it('merge: one delta that does what both did, with a manifest that fits', async () => {
    await done('pcbt', 'merge', ...both, '--out', 'both.cbt', '--out-manifest', 'both.m');
    await done('pcbt', 'check', 'both.cbt', '--manifest', 'both.m');
    await done('pcbt', 'apply', '0.raw', 'both.cbt', '--manifest', 'both.m', '--out', 'm.raw');
    expect((await readFile(join(folder, 'm.raw'))).equals(states[2] ?? Buffer.alloc(0))).to.equal(
      true,
    );
    const { document } = await runHvdrJson(['pcbt', 'info', 'both.m'], { folder });
    expect(document).to.include({
      point: POINTS[1],
      parentPoint: '00000000-0000-0000-0000-000000000000',
    });
  });

  it('overlay: a differencing disk over the untouched base, judged by 7-Zip', async function () {
    needTool(this, '7zz');
    const before = await readFile(join(folder, 'base.vhdx'));
    await done('pcbt', 'overlay', 'base.vhdx', ...both, '--out', 'point.vhdx');
    await done('vhdx', 'check', 'point.vhdx');
    await done('vhdx', 'compare', 'point.vhdx', '2.raw');
    expect((await readFile(join(folder, 'base.vhdx'))).equals(before)).to.equal(true);
    const { document } = await runHvdrJson(['vhdx', 'hash', '2.raw'], { folder });
    expect(document).to.include({ sha256: await sevenzipHash(join(folder, 'point.vhdx')) });
  });

  it('export: base and deltas as a new raw or VHDX file', async () => {
    for (const name of ['out.raw', 'out.vhdx']) {
      await done('pcbt', 'export', 'base.vhdx', ...both, '--out', name);
      await done('vhdx', 'compare', name, '2.raw');
    }
    await done('pcbt', 'export', 'base.vhdx', '0.cbt', '--manifest', '0.m', '--out', 'first.raw');
    await done('vhdx', 'compare', 'first.raw', '1.raw');
  });

  it('refuses deltas out of order, a missing manifest, a damaged cell, and an existing target', async () => {
    const damaged = await readFile(join(folder, '1.cbt'));
    damaged.writeUInt8(damaged.readUInt8(5000) ^ 1, 5000);
    await writeFile(join(folder, 'bad.cbt'), damaged);
    const out = ['--out', 'never.raw'];
    const cases: [string[], string, number][] = [
      [['1.cbt', '0.cbt', '--manifest', '1.m', '0.m', ...out], 'E_DELTA_PARENT', 15],
      [['0.cbt', '1.cbt', '--manifest', '0.m', ...out], 'E_USAGE', 2],
      [['0.cbt', 'bad.cbt', '--manifest', '0.m', '1.m', ...out], 'E_DELTA_HASH', 15],
      [['0.cbt', '--manifest', '0.m', '--out', '2.raw'], 'E_EXISTS', 33],
    ];
    for (const [args, code, exit] of cases) {
      const run = await hvdr('pcbt', 'export', 'base.vhdx', ...args);
      expect(run.stderr).to.match(new RegExp(`^${code}: `, 'm'));
      expect(run.code).to.equal(exit);
    }
    const overlay = await hvdr(
      ...['pcbt', 'overlay', 'base.vhdx', '0.cbt', 'bad.cbt', '--manifest', '0.m', '1.m'],
      ...['--out', 'never.vhdx'],
    );
    expect(overlay.code, overlay.stderr).to.equal(15);
    const left = await hvdr('vhdx', 'info', 'never.vhdx');
    expect(left.stderr).to.match(/^E_NOT_FOUND: /);
  });
});
