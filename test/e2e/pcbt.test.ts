// `hvdr pcbt` as a user runs it: processes, files and pipes. The disks are made by the test; what the
// delta has to be is computed from their bytes.

import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';

import { CELL_BYTES } from '../../shared/delta/index.js';
import { mainProgram } from '../support/checkout.js';
import { type CliRun, runHvdr, runHvdrJson } from '../support/cli.js';
import { naiveApply, pattern, pcbtBytes } from '../unit/delta/builders.js';

const SIZE = 30 * CELL_BYTES + 512;
const BEFORE = pattern(SIZE, 1).fill(0, 8 * CELL_BYTES, 12 * CELL_BYTES);
const AFTER = Buffer.from(BEFORE);
pattern(1000, 2).copy(AFTER, 3 * CELL_BYTES + 5);
pattern(CELL_BYTES, 3).copy(AFTER, 9 * CELL_BYTES);
AFTER.fill(0, 20 * CELL_BYTES, 25 * CELL_BYTES);
pattern(10, 4).copy(AFTER, SIZE - 10);

describe('hvdr pcbt', function () {
  this.timeout(300_000);
  let folder = '';

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'hvdr-pcbt-'));
    writeFileSync(join(folder, 'old.raw'), BEFORE);
    writeFileSync(join(folder, 'new.raw'), AFTER);
  });

  afterEach(() => {
    rmSync(folder, { recursive: true, force: true });
  });

  const bytes = (name: string): Buffer => readFileSync(join(folder, name));

  async function hvdr(args: string, input?: Buffer): Promise<CliRun> {
    return runHvdr(args.split(' '), { folder, ...(input === undefined ? {} : { input }) });
  }

  async function done(args: string, input?: Buffer): Promise<string> {
    const run = await hvdr(args, input);
    expect(run.code, `${args}: ${run.stderr}`).to.equal(0);
    return run.stdout.toString();
  }

  async function refused(code: string, exitCode: number, args: string): Promise<string> {
    const run = await hvdr(args);
    expect(run.stderr, args).to.match(new RegExp(`^${code}: [^\\n]+; [^\\n]+; [^\\n]+\\n$`));
    expect(run.code).to.equal(exitCode);
    expect(run.stdout.length).to.equal(0);
    return run.stderr;
  }

  async function document(args: string): Promise<Record<string, unknown>> {
    const { run, document: found } = await runHvdrJson(args.split(' '), { folder });
    expect(run.stderr).to.equal('');
    return found as Record<string, unknown>;
  }

  it('diff makes a delta that an independent reader applies; apply brings the old disk to the new', async () => {
    const text = await done('pcbt diff old.raw new.raw --out d.cbt --manifest d.manifest');
    expect(text).to.match(/^d\.cbt: 8 cells changed, 4 blocks, /);
    expect(naiveApply(BEFORE, bytes('d.cbt')).equals(AFTER)).to.equal(true);
    await done('pcbt apply old.raw d.cbt --manifest d.manifest');
    expect(bytes('old.raw').equals(AFTER)).to.equal(true);
  });

  it('the same onto VHDX files, raw and VHDX mixed, in place and to a copy', async () => {
    await done('vhdx convert old.raw old.vhdx');
    await done('vhdx convert new.raw new.vhdx --block-size 1M');
    await done('pcbt diff old.raw new.vhdx --out d.cbt --manifest d.manifest');
    await done('pcbt apply old.vhdx d.cbt --out copy.vhdx --manifest d.manifest');
    await done('pcbt apply old.vhdx d.cbt --manifest d.manifest');
    await done('pcbt apply old.raw d.cbt --out copy.raw');
    for (const name of ['old.vhdx', 'copy.vhdx']) {
      await done(`vhdx check ${name}`);
      expect((await hvdr(`vhdx read ${name}`)).stdout.equals(AFTER), name).to.equal(true);
    }
    expect(bytes('copy.raw').equals(AFTER)).to.equal(true);
    expect(bytes('old.raw').equals(BEFORE)).to.equal(true);
    expect(await document('pcbt diff old.vhdx new.raw --out none.cbt')).to.include({
      cellCount: 0,
    });
  });

  it('a delta goes through a pipe, out of diff and into apply', async () => {
    const out = await hvdr('pcbt diff old.raw new.raw --out -');
    expect(out.code, out.stderr).to.equal(0);
    expect(naiveApply(BEFORE, out.stdout).equals(AFTER)).to.equal(true);
    await done('pcbt apply old.raw -', out.stdout);
    expect(bytes('old.raw').equals(AFTER)).to.equal(true);
  });

  it('info tells what delta and manifest are', async () => {
    await done(
      'pcbt diff old.raw new.raw --out d.cbt --manifest d.manifest --epoch 18446744073709551615' +
        ' --point {AAAAAAAA-0000-4000-8000-000000000001}',
    );
    expect(await document('pcbt info d.cbt')).to.deep.equal({
      file: 'd.cbt',
      format: 'pcbt',
      version: 1,
      blockCount: 4,
      dataBytes: 7 * CELL_BYTES + 512,
      firstOffset: 3 * CELL_BYTES,
      endOffset: SIZE,
      fileBytes: bytes('d.cbt').length,
    });
    const manifest = await document('pcbt info d.manifest');
    expect(manifest).to.include({
      format: 'manifest',
      kind: 'delta',
      point: 'aaaaaaaa-0000-4000-8000-000000000001',
      epoch: '18446744073709551615',
      diskSizeBytes: SIZE,
      cellCount: 8,
      dataCellCount: 3,
    });
    expect(await done('pcbt info d.manifest')).to.contain(String(manifest['root']));
  });

  it('check lists every finding and ends with 15', async () => {
    await done('pcbt diff old.raw new.raw --out d.cbt --manifest d.manifest');
    expect(await done(`pcbt check d.cbt --manifest d.manifest --disk-size ${SIZE}`)).to.contain(
      'every hash compared',
    );
    expect(await done('pcbt check d.manifest')).to.contain('nothing found');
    const damaged = bytes('d.cbt');
    damaged[40] = (damaged[40] ?? 0) ^ 1;
    damaged[damaged.length - 1] = (damaged.at(-1) ?? 0) ^ 1;
    writeFileSync(join(folder, 'd.cbt'), damaged);
    const found = await document('pcbt check d.cbt --manifest d.manifest');
    expect(found).to.include({ sound: false, findingCount: 2 });
    const run = await hvdr('pcbt check d.cbt --manifest d.manifest --disk-size 10K');
    expect(run.code).to.equal(15);
    expect(run.stdout.toString()).to.contain('E_PCBT_BEYOND_DISK: byte of the delta 16');
    expect(run.stdout.toString()).to.contain('E_DISK_MISMATCH');
  });

  it('a bad delta leaves the disk as it was and names file, place and next step', async () => {
    await done('pcbt diff old.raw new.raw --out d.cbt --manifest d.manifest');
    const good = bytes('d.cbt');
    writeFileSync(join(folder, 'torn.cbt'), good.subarray(0, good.length - 1));
    const line = await refused('E_PCBT_TRUNCATED', 15, 'pcbt apply old.raw torn.cbt');
    expect(line).to.contain('torn.cbt').and.to.contain('nothing was changed');
    good[good.length - 1] = (good.at(-1) ?? 0) ^ 1;
    writeFileSync(join(folder, 'rotten.cbt'), good);
    await refused('E_DELTA_HASH', 15, 'pcbt apply old.raw rotten.cbt --manifest d.manifest');
    await refused(
      'E_DELTA_HASH',
      15,
      'pcbt apply old.raw rotten.cbt --manifest d.manifest --out x.raw',
    );
    writeFileSync(join(folder, 'far.cbt'), pcbtBytes([{ offset: SIZE, data: pattern(1, 1) }]));
    await refused('E_PCBT_BEYOND_DISK', 15, 'pcbt apply old.raw far.cbt');
    expect(bytes('old.raw').equals(BEFORE)).to.equal(true);
    expect(readdirSync(folder).sort()).to.deep.equal([
      'd.cbt',
      'd.manifest',
      'far.cbt',
      'new.raw',
      'old.raw',
      'rotten.cbt',
      'torn.cbt',
    ]);
  });

  it('the manifest of a base is made, kept level, and checked against the disk', async () => {
    await done('pcbt diff old.raw new.raw --out d.cbt --manifest d.manifest');
    await done('pcbt apply old.raw d.cbt --manifest d.manifest --base-manifest base.manifest');
    expect(await document('pcbt info base.manifest')).to.include({ kind: 'base' });
    expect(await done('pcbt check base.manifest --disk new.raw')).to.contain('as it should be');
    expect((await hvdr('pcbt check base.manifest --disk d.cbt')).code).to.equal(16);
    writeFileSync(join(folder, 'short.raw'), BEFORE.subarray(0, CELL_BYTES));
    expect((await hvdr('pcbt check base.manifest --disk short.raw')).code).to.equal(33);
    writeFileSync(join(folder, 'new.raw'), BEFORE);
    const other = await hvdr('pcbt check base.manifest --disk new.raw');
    expect(other.code).to.equal(15);
    expect(other.stdout.toString()).to.contain(`guest offset ${3 * CELL_BYTES}`);
  });

  it('a base manifest survives a stream of garbage, and the manifest of a delta is none', async () => {
    await done('pcbt diff old.raw new.raw --out d.cbt --manifest d.manifest');
    const flags = '--manifest d.manifest --base-manifest';
    const garbage = await hvdr(`pcbt apply old.raw - ${flags} b.manifest`, Buffer.from('garbage'));
    expect(garbage.code).to.equal(15);
    expect(garbage.stderr).to.contain('nothing was changed');
    expect(readdirSync(folder)).not.to.include('b.manifest.applying');
    const before = bytes('d.manifest');
    await refused('E_DELTA_COVERAGE', 15, `pcbt apply old.raw d.cbt ${flags} d.manifest`);
    expect(bytes('d.manifest').equals(before)).to.equal(true);
    expect(bytes('old.raw').equals(BEFORE)).to.equal(true);
    // Another delta than the one that never came.
    await done('pcbt diff old.raw new.raw --out e.cbt --manifest e.manifest');
    await done('pcbt apply old.raw e.cbt --manifest e.manifest --base-manifest b.manifest');
    expect(await done('pcbt check b.manifest --disk new.raw')).to.contain('as it should be');
  });

  it('refuses what cannot be meant', async () => {
    writeFileSync(join(folder, 'short.raw'), BEFORE.subarray(1));
    await refused('E_DISK_MISMATCH', 33, 'pcbt diff old.raw short.raw --out d.cbt');
    await refused('E_EXISTS', 33, 'pcbt diff old.raw new.raw --out short.raw');
    await refused('E_USAGE', 2, 'pcbt diff old.raw new.raw --out new.raw --force');
    await refused('E_USAGE', 2, 'pcbt diff old.raw new.raw --out d.cbt --epoch 3');
    await refused('E_USAGE', 2, 'pcbt diff old.raw new.raw --out d.cbt --manifest d.cbt');
    await refused('E_USAGE', 2, 'pcbt diff old.raw new.raw --out d.cbt --manifest m --point x');
    await refused('E_USAGE', 2, 'pcbt diff old.raw new.raw');
    await refused('E_NOT_FOUND', 16, 'pcbt info nothing.cbt');
    await refused('E_PCBT_MAGIC', 15, 'pcbt info old.raw');
    await done('pcbt diff old.raw new.raw --out d.cbt');
    await refused('E_USAGE', 2, 'pcbt apply old.raw d.cbt --base-manifest b');
    await refused('E_USAGE', 2, 'pcbt apply old.raw d.cbt --force');
    await refused('E_USAGE', 2, 'pcbt apply old.raw d.cbt --out old.raw --force');
    await refused('E_EXISTS', 33, 'pcbt apply old.raw d.cbt --out new.raw');
    await done('pcbt apply old.raw d.cbt --out short.raw --force');
    expect(bytes('short.raw').equals(AFTER)).to.equal(true);
  });

  it('--force replaces neither an input nor a disk that others depend on', async () => {
    await done('vhdx convert old.raw base.vhdx');
    await done('vhdx create child.vhdx --parent base.vhdx');
    await done('vhdx convert old.raw lone.vhdx');
    await done('pcbt diff old.raw new.raw --out d.cbt --manifest d.manifest');
    const names = readdirSync(folder).sort();
    const before = names.map(bytes);
    const delta = 'd.cbt --manifest d.manifest --force --out';
    const merged = 'pcbt merge d.cbt --manifest d.manifest --force';
    await refused('E_USAGE', 2, `pcbt apply old.raw ${delta} old.raw`);
    await refused('E_USAGE', 2, `pcbt apply old.raw ${delta} d.cbt`);
    await refused('E_USAGE', 2, `pcbt apply old.raw ${delta} d.manifest`);
    await refused('E_USAGE', 2, `pcbt apply child.vhdx ${delta} base.vhdx`);
    await refused('E_VHDX_HAS_CHILDREN', 10, `pcbt apply lone.vhdx ${delta} base.vhdx`);
    await refused('E_USAGE', 2, `pcbt export old.raw ${delta} d.manifest`);
    await refused('E_USAGE', 2, `pcbt export child.vhdx ${delta} base.vhdx`);
    await refused('E_VHDX_HAS_CHILDREN', 10, `pcbt export old.raw ${delta} base.vhdx`);
    await refused('E_USAGE', 2, 'pcbt diff child.vhdx new.raw --out base.vhdx --force');
    await refused('E_VHDX_HAS_CHILDREN', 10, `${merged} --out base.vhdx --out-manifest m`);
    await refused('E_USAGE', 2, `${merged} --out both.cbt --out-manifest d.manifest`);
    expect(readdirSync(folder).sort()).to.deep.equal(names);
    expect(Buffer.concat(names.map(bytes)).equals(Buffer.concat(before))).to.equal(true);
  });

  it('an apply that was killed is completed by applying again', async () => {
    await done('vhdx convert old.raw old.vhdx');
    await done('pcbt diff old.raw new.raw --out d.cbt');
    const child = spawn(process.execPath, [mainProgram, 'pcbt', 'apply', 'old.vhdx', '-'], {
      cwd: folder,
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    const ended = new Promise((resolve) => child.on('close', resolve));
    child.stdin.on('error', () => undefined);
    // Enough for some cells; then the sender falls silent and the process is killed.
    child.stdin.write(bytes('d.cbt').subarray(0, 4 * CELL_BYTES + 100));
    await new Promise((resolve) => child.stdin.write(Buffer.alloc(0), resolve));
    child.kill('SIGKILL');
    await ended;
    await done('pcbt apply old.vhdx d.cbt');
    await done('vhdx check old.vhdx');
    expect((await hvdr('vhdx read old.vhdx')).stdout.equals(AFTER)).to.equal(true);
  });

  it('a sender that breaks off is reported, and the disk is completed later', async () => {
    await done('pcbt diff old.raw new.raw --out d.cbt');
    const run = await hvdr('pcbt apply old.raw -', bytes('d.cbt').subarray(0, -5));
    expect(run.code).to.equal(15);
    expect(run.stderr).to.contain('E_PCBT_TRUNCATED').and.to.contain('between two points');
    await done('pcbt apply old.raw d.cbt');
    expect(bytes('old.raw').equals(AFTER)).to.equal(true);
  });
});
