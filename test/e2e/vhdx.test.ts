// `hvdr vhdx …` as a user runs it: processes, real files, exit codes, and what it says when it
// refuses.

import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { expect } from 'chai';
import { runHvdr, runHvdrJson, type CliRun } from '../support/cli.js';
import { SeededRandom } from '../support/seeded-random.js';
import { WorkFolder } from '../support/work-folder.js';

const MIB = 1024 * 1024;

describe('hvdr vhdx', function () {
  this.timeout(240_000);
  let work: WorkFolder;

  const hvdr = (...args: string[]): Promise<CliRun> =>
    runHvdr(['vhdx', ...args], { folder: work.path });
  async function done(...args: string[]): Promise<CliRun> {
    const run = await hvdr(...args);
    expect(run.code, `${args.join(' ')}: ${run.stderr}`).to.equal(0);
    return run;
  }
  async function json(...args: string[]): Promise<Record<string, unknown>> {
    const { run, document } = await runHvdrJson(['vhdx', ...args], { folder: work.path });
    expect(run.code, run.stderr).to.equal(0);
    return document as Record<string, unknown>;
  }
  async function refused(code: number, error: string, ...args: string[]): Promise<CliRun> {
    const run = await hvdr(...args);
    expect(run.stderr).to.match(new RegExp(`^${error}: [^\\n]+; [^\\n]+; [^\\n]+\\n$`));
    expect(run.code).to.equal(code);
    expect(run.stdout.length).to.equal(0);
    return run;
  }

  beforeEach(() => {
    work = new WorkFolder('e2e-vhdx');
  });
  afterEach(() => {
    work.dispose();
  });

  it('creates, describes and checks each type of disk', async () => {
    await done('create', 'd.vhdx', '--size', '10G');
    await done('create', 'f.vhdx', '--size', '8M', '--type', 'fixed', '--block-size', '1M');
    await done('create', 'c.vhdx', '--type', 'differencing', '--parent', 'd.vhdx');
    await done('create', 's.vhdx', '--size', '64T', '--logical-sector', '4096');
    expect(await json('info', 'd.vhdx')).to.include({
      type: 'dynamic',
      sizeBytes: 10 * 1024 * MIB,
    });
    expect(await json('info', 'f.vhdx')).to.include({ type: 'fixed', blockSizeBytes: MIB });
    expect(await json('info', 's.vhdx')).to.include({ logicalSectorBytes: 4096 });
    const child = await json('info', 'c.vhdx');
    expect(child).to.include({ type: 'differencing', blockSizeBytes: 2 * MIB });
    expect(child['parent']).to.include({ name: 'd.vhdx', relativePath: '.\\d.vhdx' });
    for (const file of ['d.vhdx', 'f.vhdx', 'c.vhdx', 's.vhdx']) {
      expect(await json('check', file)).to.include({ sound: true, violationCount: 0 });
      const text = (await done('check', file)).stdout.toString();
      expect(text).to.contain('no violation found');
    }
    expect((await done('info', 'c.vhdx')).stdout.toString()).to.contain('differencing');
  });

  it('writes in place, reads back through the chain, maps and merges', async () => {
    const random = new SeededRandom(1);
    const [first, second] = [random.bytes(300_000), random.bytes(70_000)];
    writeFileSync(work.file('first'), first);
    writeFileSync(work.file('second'), second);
    await done('create', 'base.vhdx', '--size', '5G', '--block-size', '1M');
    await done('write', 'base.vhdx', '--offset', '4294900000', '--file', 'first');
    await done('create', 'top.vhdx', '--parent', 'base.vhdx');
    await done('write', 'top.vhdx', '--offset', '4294950000', '--file', 'second');
    const expected = Buffer.from(first);
    second.copy(expected, 50_000);
    const range = ['--offset', '4294900000', '--length', '300000'];
    expect((await done('read', 'top.vhdx', ...range)).stdout.equals(expected)).to.equal(true);
    expect((await done('read', 'base.vhdx', ...range)).stdout.equals(first)).to.equal(true);
    const map = await json('map', 'top.vhdx');
    const { totals, extents } = map as {
      totals: Record<string, number>;
      extents: { start: number; length: number; kind: string }[];
    };
    expect(extents.map(({ kind }) => kind)).to.deep.equal(['parent', 'allocated', 'parent']);
    expect(totals['allocated']).to.be.within(70_000, 80_000);
    expect(extents.reduce((sum, { length }) => sum + length, 0)).to.equal(5 * 1024 * MIB);
    expect((await done('map', 'top.vhdx')).stdout.toString()).to.contain('allocated');
    await refused(
      10,
      'E_VHDX_HAS_CHILDREN',
      'write',
      'base.vhdx',
      '--offset',
      '0',
      '--file',
      'first',
    );
    await done('merge', 'top.vhdx');
    expect(existsSync(work.file('base.vhdx'))).to.equal(false);
    expect((await done('read', 'top.vhdx', ...range)).stdout.equals(expected)).to.equal(true);
    expect(await json('check', 'top.vhdx')).to.include({ sound: true });
    await refused(2, 'E_USAGE', 'merge', 'top.vhdx');
  });

  it('converts raw, VHDX and streams in a round', async () => {
    const content = Buffer.alloc(40 * MIB);
    new SeededRandom(2).bytes(5 * MIB).copy(content, 13 * MIB - 7);
    writeFileSync(work.file('a.img'), content);
    const made = await json('convert', 'a.img', 'a.vhdx', '--block-size', '2M');
    expect(made).to.include({ sourceFormat: 'raw', to: 'vhdx', type: 'dynamic' });
    expect(made['fileBytes']).to.equal(statSync(work.file('a.vhdx')).size);
    await done('convert', 'a.vhdx', 'fixed.vhdx', '--type', 'fixed');
    const streamed = await done('convert', 'fixed.vhdx', '-');
    writeFileSync(work.file('streamed.vhdx'), streamed.stdout);
    expect(await json('check', 'streamed.vhdx')).to.include({ sound: true });
    const piped = await runHvdr(['vhdx', 'convert', '-', 'b.raw'], {
      folder: work.path,
      input: streamed.stdout,
    });
    expect(piped.code, piped.stderr).to.equal(0);
    expect(readFileSync(work.file('b.raw')).equals(content)).to.equal(true);
    const raw = await done('convert', 'streamed.vhdx', '-', '--to', 'raw');
    const sha = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
    expect(sha(raw.stdout)).to.equal(sha(content));
    await done('convert', 'streamed.vhdx', 'a.vhdx', '--force');
    expect(sha((await done('read', 'a.vhdx')).stdout)).to.equal(sha(content));
    expect(readdirSync(work.path).filter((name) => name.endsWith('.unfinished'))).to.deep.equal([]);
  });

  it('names every violation of a damaged file, and writes nothing to it', async () => {
    await done('create', 'a.vhdx', '--size', '64M', '--block-size', '1M', '--type', 'fixed');
    writeFileSync(work.file('data'), 'data');
    const bytes = readFileSync(work.file('a.vhdx'));
    bytes.writeUInt8(5, 3 * MIB); // a reserved state in the first BAT entry
    bytes.copy(bytes, 3 * MIB + 16, 3 * MIB + 8, 3 * MIB + 16); // two blocks in one place
    writeFileSync(work.file('a.vhdx'), bytes);
    const { run, document } = await runHvdrJson(['vhdx', 'check', 'a.vhdx'], { folder: work.path });
    expect(run.code).to.equal(15);
    const { violations } = document as { violations: { code: string; offset: number }[] };
    expect(violations.map(({ code, offset }) => [code, offset])).to.deep.equal([
      ['E_VHDX_BAT', 3 * MIB],
      ['E_VHDX_OVERLAP', 3 * MIB + 16],
    ]);
    await refused(15, 'E_VHDX_BAT', 'write', 'a.vhdx', '--offset', '0', '--file', 'data');
    expect(readFileSync(work.file('a.vhdx')).equals(bytes)).to.equal(true);
  });

  it('refuses what is not there, is no VHDX, exists already, or makes no sense', async () => {
    writeFileSync(work.file('garbage'), new SeededRandom(3).bytes(2 * MIB));
    writeFileSync(work.file('empty'), '');
    writeFileSync(work.file('bytes'), 'some bytes');
    await done('create', 'a.vhdx', '--size', '10M');
    for (const verb of ['info', 'check', 'map', 'read', 'merge']) {
      await refused(16, 'E_NOT_FOUND', verb, 'missing.vhdx');
    }
    for (const verb of ['info', 'map', 'merge']) {
      await refused(15, 'E_VHDX_SIGNATURE', verb, 'garbage');
      await refused(15, 'E_VHDX_SIGNATURE', verb, 'empty');
    }
    expect((await hvdr('check', 'garbage')).code).to.equal(15);
    await refused(33, 'E_EXISTS', 'create', 'a.vhdx', '--size', '10M');
    await refused(33, 'E_EXISTS', 'convert', 'garbage', 'a.vhdx');
    await refused(16, 'E_NOT_FOUND', 'convert', 'missing.raw', 'b.vhdx');
    await refused(16, 'E_NOT_FOUND', 'create', 'no-folder/b.vhdx', '--size', '10M');
    for (const args of [
      ['create', 'b.vhdx'],
      ['create', 'b.vhdx', '--size', '10X'],
      ['create', 'b.vhdx', '--size', '0'],
      ['create', 'b.vhdx', '--size', '1000'],
      ['create', 'b.vhdx', '--size', '65T'],
      ['create', 'b.vhdx', '--size', '1G', '--block-size', '3M'],
      ['create', 'b.vhdx', '--size', '1G', '--type', 'sparse'],
      ['create', 'b.vhdx', '--size', '1G', '--logical-sector', '520'],
      ['create', 'b.vhdx', '--size', '1G', '--parent', 'a.vhdx'],
      ['create', 'b.vhdx', '--type', 'differencing'],
      ['read', 'a.vhdx', '--offset', '10M', '--length', '1'],
      ['read', 'a.vhdx', '--offset', '11M'],
      ['write', 'a.vhdx', '--offset', '10485755', '--file', 'bytes'],
      ['convert', 'a.vhdx', 'b.raw', '--type', 'fixed'],
      ['convert', 'a.vhdx', 'b.vhdx', '--to', 'qcow2'],
      ['convert', 'a.vhdx', '-', '--type', 'fixed'],
      ['convert', 'empty', 'b.vhdx'],
      ['convert', '-', '-'],
      ['convert', 'a.vhdx', 'a.vhdx', '--force'],
    ]) {
      await refused(2, 'E_USAGE', ...args);
    }
    const names = readdirSync(work.path);
    expect(names.sort()).to.deep.equal(['a.vhdx', 'bytes', 'empty', 'garbage']);
  });

  it('names the parent that is missing, and refuses one that was changed', async () => {
    await done('create', 'base.vhdx', '--size', '10M');
    await done('create', 'top.vhdx', '--parent', 'base.vhdx');
    const base = readFileSync(work.file('base.vhdx'));
    writeFileSync(work.file('elsewhere'), base);
    work.remove('base.vhdx');
    const missing = await refused(15, 'E_VHDX_PARENT_MISSING', 'read', 'top.vhdx');
    expect(missing.stderr).to.contain('base.vhdx');
    await done('create', 'base.vhdx', '--size', '10M');
    await refused(15, 'E_VHDX_PARENT_CHANGED', 'read', 'top.vhdx');
    writeFileSync(work.file('base.vhdx'), base);
    await done('read', 'top.vhdx');
  });

  it('leaves nothing when the stream that it reads ends too early', async () => {
    await done('create', 'a.vhdx', '--size', '1G');
    const run = await runHvdr(['vhdx', 'convert', '-', 'b.vhdx'], {
      folder: work.path,
      input: readFileSync(work.file('a.vhdx')).subarray(0, 2 * MIB),
    });
    expect(run.code).to.equal(15);
    expect(run.stderr).to.contain('E_VHDX_TRUNCATED');
    expect(readdirSync(work.path)).to.deep.equal(['a.vhdx']);
  });

  it('explains itself in --help, also of each command', async () => {
    for (const verb of ['info', 'check', 'map', 'create', 'read', 'write', 'convert', 'merge']) {
      const { stdout } = await done(verb, '--help');
      expect(stdout.toString()).to.match(new RegExp(`Usage: hvdr vhdx ${verb}`));
    }
    expect((await done('--help')).stdout.toString()).to.contain('merge');
  });
});
