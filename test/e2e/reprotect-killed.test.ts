// `hvdr reprotect` killed at each of its steps, real processes: the same command goes on, the point at the
// former primary is the VM as it is, and the disks there stay as they were.

import { createHash } from 'node:crypto';
import { expect } from 'chai';
import type { CliRun } from '../support/cli.js';
import { Site } from '../support/site.js';
import { WorkFolder } from '../support/work-folder.js';

describe('hvdr reprotect, killed', function () {
  this.timeout(240_000);
  const work = new WorkFolder('reprotect-killed');
  const b = new Site(work.path);
  const a = new Site(work.path);
  b.drHost = 'lab:dr';

  before(async () => {
    await b.prepare();
    await b.hvdr('lab', 'init', 'dr');
    await b.hvdr('lab', 'create-vm', 'lab', 'SQL01', '--disk', '8M');
    await b.hvdr('lab', 'start', 'lab', 'SQL01');
    await b.startReceiver();
    await a.startReceiver('--store', 'store-a');
    await write('lab', 1);
    await b.push('SQL01');
    await b.hvdr('lab', 'stop', 'lab', 'SQL01');
    await b.hvdr('failover', 'unplanned', 'SQL01', ...b.operator());
    await b.hvdr('failover', 'permanent', 'SQL01', '--yes', ...b.operator());
    await write('dr', 2);
  });

  after(async () => {
    await b.stopReceiver();
    await a.stopReceiver();
  });

  const write = (lab: string, seed: number): Promise<unknown> =>
    b.hvdr('lab', 'write', lab, 'SQL01', '--random', '3', '--block', '64K', '--seed', String(seed));
  const read = async (lab: string): Promise<Buffer> =>
    (await b.hvdr('lab', 'read', lab, 'SQL01', '--disk', '0')).stdout;
  const reprotect = (): string[] => [
    ...['reprotect', 'SQL01', '--host', 'lab:dr', '--state-dir', 'state-dr', ...a.operator()],
    ...['--retired-host', '127.0.0.1', '--retired-port', String(b.port)],
    ...['--retired-psk-file', 'keys/operator.psk', '--json'],
  ];

  /** Runs the command until it begins with the step, and kills it. */
  const killedAt = async (step: string): Promise<CliRun> => {
    const { child, done } = b.start(...reprotect());
    let said = '';
    child.stdout?.on('data', (chunk: Buffer) => {
      said += chunk.toString();
      if (said.includes(`"step":"${step}"`)) child.kill('SIGKILL');
    });
    return done;
  };

  it('goes on, whenever it was killed', async () => {
    const left = await read('lab');
    for (const step of ['R1', 'R2', 'R3', 'R4', 'R5']) {
      const { signal, code, stderr } = await killedAt(step);
      // one that had come to its end before the kill is done as well
      expect(signal === 'SIGKILL' || code === 0, `${step}: ${stderr}`).to.equal(true);
    }
    await b.hvdr(...reprotect());
    const point = (await a.points('SQL01')).at(-1) ?? '';
    const [found] = await a.pointHashes('SQL01', point, 1);
    const wanted = createHash('sha256')
      .update(await read('dr'))
      .digest('hex');
    expect(found).to.equal(wanted);
    expect((await read('lab')).equals(left)).to.equal(true);
    const status = await b.hvdr('status', '--vm', 'SQL01', ...b.operator());
    expect(status.stdout.toString()).to.include('reprotected');
  });
});
