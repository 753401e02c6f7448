// The log as an operator meets it: nothing at the usual level unless something happened, JSON lines
// with --log-level debug, and no word of it on stdout.

import { copyFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { systemRandom } from '../../shared/clock.js';
import { nodeFileSystem } from '../../shared/files/index.js';
import { createVhdx, openVhdx } from '../../shared/vhdx/index.js';
import { runHvdr } from '../support/cli.js';

const MIB = 1024 * 1024;

describe('the log of the command line', function () {
  this.timeout(240_000);
  let folder = '';
  const seams = { fs: nodeFileSystem, random: systemRandom };

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'hvdr-log-'));
  });
  after(() => rm(folder, { recursive: true, force: true }));

  it('debug: start and end of a run as JSON lines on stderr, the answer alone on stdout', async () => {
    const run = await runHvdr(['explain', 'E_IO', '--json', '--log-level', 'debug']);
    expect(run.code, run.stderr).to.equal(0);
    expect(JSON.parse(run.stdout.toString())).to.be.an('object');
    const lines = run.stderr
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as object);
    expect(lines[0]).to.include({ level: 'debug', event: 'run.started', command: 'hvdr explain' });
    expect(lines.at(-1)).to.include({ level: 'debug', event: 'run.ended', exitCode: 0 });
  });

  it('info: a quiet run says nothing', async () => {
    const run = await runHvdr(['explain', 'E_IO']);
    expect(run.stderr).to.equal('');
  });

  it('info: a log that was replayed before writing is told', async () => {
    const file = join(folder, 'dirty.vhdx');
    await createVhdx(file, { type: 'dynamic', sizeBytes: 8 * MIB, blockSizeBytes: MIB }, seams);
    const disk = await openVhdx(file, { ...seams, isWritable: true });
    await disk.write(0, Buffer.alloc(MIB, 1));
    await disk.flush();
    // A copy taken now is what a power cut would leave: committed, with a dirty log.
    const copy = join(folder, 'copy.vhdx');
    await copyFile(file, copy);
    await disk.close();
    const run = await runHvdr(['vhdx', 'write', copy, '--offset', '4096', '--file', file]);
    expect(run.code, run.stderr).to.equal(0);
    expect(run.stderr).to.match(/"level":"warn".*"event":"vhdx.log-replayed"/);
  });
});
