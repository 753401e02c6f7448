// A run that is killed leaves an unfinished file; one that is told to stop, also by a terminal that
// goes away, leaves nothing. The next run of the same command tidies up.

import { spawn } from 'node:child_process';
import { mkdtemp, open, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { mainProgram } from '../support/checkout.js';
import { runHvdr } from '../support/cli.js';

const SIZE = 600 * 1024 * 1024;
const ENDING = '.unfinished';

describe('hvdr vhdx convert: stopped half-way', function () {
  this.timeout(300_000);
  let folder = '';
  const unfinished = async (): Promise<string[]> =>
    (await readdir(folder)).filter((name) => name.endsWith(ENDING));

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'hvdr-leftovers-'));
    const file = await open(join(folder, 'a.raw'), 'w');
    const piece = Buffer.alloc(8 * 1024 * 1024, 3);
    for (let at = 0; at < SIZE; at += piece.length) await file.write(piece, 0, piece.length, at);
    await file.close();
  });
  after(() => rm(folder, { recursive: true, force: true }));

  /** Starts the command and sends a signal as soon as its unfinished file is there. */
  async function stopWith(signal: NodeJS.Signals): Promise<number | null> {
    const child = spawn(process.execPath, [mainProgram, 'vhdx', 'convert', 'a.raw', 'a.vhdx'], {
      cwd: folder,
      stdio: 'ignore',
    });
    const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
    while ((await unfinished()).length === 0 && child.exitCode === null) await sleep(2);
    child.kill(signal);
    return ended;
  }

  it('a hang-up leaves nothing behind', async () => {
    expect(await stopWith('SIGHUP')).to.equal(129);
    expect(await unfinished()).to.deep.equal([]);
    expect(await readdir(folder)).to.deep.equal(['a.raw']);
  });

  it('what a killed run left is removed by the next run, and only that', async () => {
    await stopWith('SIGKILL');
    expect(await unfinished()).to.have.length(1);
    const foreign = `.b.vhdx.01234567${ENDING}`;
    await (await open(join(folder, foreign), 'w')).close();
    const run = await runHvdr(['vhdx', 'convert', 'a.raw', 'a.vhdx'], { folder });
    expect(run.code, run.stderr).to.equal(0);
    expect((await readdir(folder)).sort()).to.deep.equal([foreign, 'a.raw', 'a.vhdx']);
  });
});
