// `hvdr forget` with real processes: the source of a forgotten VM begins anew, whether a running
// receiver forgot it or the store was worked on alone.

import { expect } from 'chai';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Site } from '../support/site.js';
import { WorkFolder } from '../support/work-folder.js';

describe('hvdr forget', function () {
  this.timeout(240_000);
  const work = new WorkFolder('forget');
  const site = new Site(work.path);

  before(async () => {
    await site.prepare();
    await site.hvdr('lab', 'create-vm', 'lab', 'SQL01', '--disk', '8M');
    await site.hvdr('lab', 'start', 'lab', 'SQL01');
    await site.startReceiver();
  });

  after(async () => {
    await site.stopReceiver();
  });

  const write = (seed: number): Promise<unknown> =>
    site.hvdr(
      'lab',
      'write',
      'lab',
      'SQL01',
      '--random',
      '3',
      '--block',
      '64K',
      '--seed',
      `${seed}`,
    );
  const vms = (): string[] => readdirSync(join(work.path, 'store', 'vms'));

  it('wants confirmation, and says what goes', async () => {
    await write(1);
    await site.push('SQL01');
    await write(2);
    await site.push('SQL01');
    const plan = await site.hvdr('forget', 'SQL01', '--plan', ...site.operator());
    expect(plan.stdout.toString()).to.include('2 points go').and.include('PROTECTED → UNPROTECTED');
    expect((await site.try('forget', 'SQL01', ...site.operator())).code).to.equal(40);
    expect(await site.points('SQL01')).to.have.length(2);
  });

  it('the source begins anew at its next push, and its point is its disks', async () => {
    await site.hvdr('forget', 'SQL01', '--yes', ...site.operator());
    expect(vms()).to.deep.equal([]);
    const pushed = await site.push('SQL01');
    expect(pushed.kind).to.equal('seed');
    expect(await site.pointHashes('SQL01', pushed.point, 1)).to.deep.equal(
      await site.guestHashes('SQL01', 1),
    );
    await write(3);
    expect((await site.push('SQL01')).kind).to.equal('delta');
  });

  it('works on the store while no receiver runs', async () => {
    await site.stopReceiver();
    const run = await site.hvdr('forget', 'SQL01', '--yes', '--store', 'store', '--json');
    expect(run.stdout.toString()).to.include('UNPROTECTED');
    expect(vms()).to.deep.equal([]);
    expect(existsSync(join(work.path, 'store', 'forgotten'))).to.equal(true);
    await site.startReceiver();
    const pushed = await site.push('SQL01');
    expect(await site.points('SQL01')).to.deep.equal([pushed.point]);
  });
});
