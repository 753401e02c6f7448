// `hvdr end-failback`: the DR site is gone while a failback is provisional, and the primary goes on alone.

import { expect } from 'chai';
import { Site } from '../support/site.js';
import { WorkFolder } from '../support/work-folder.js';

describe('hvdr end-failback', function () {
  this.timeout(240_000);
  const work = new WorkFolder('end-failback');
  const site = new Site(work.path);
  site.drHost = 'lab:dr';
  const atPrimary = ['--host', 'lab:lab', '--state-dir', 'state'];
  const force = ['--force', '--reason', 'the DR site burnt down'];

  before(async () => {
    await site.prepare();
    await site.hvdr('lab', 'init', 'dr');
    await site.hvdr('lab', 'create-vm', 'lab', 'SQL01', '--disk', '8M');
    await site.hvdr('lab', 'start', 'lab', 'SQL01');
    await site.startReceiver();
    await site.push('SQL01');
    const access = [
      ...['--dr-host', '127.0.0.1', '--dr-port', String(site.port)],
      ...['--psk-file', 'keys/operator.psk', ...atPrimary],
    ];
    await site.hvdr('failover', 'planned', 'SQL01', ...access);
    await write('dr', 1);
    await site.hvdr('failback', 'SQL01', ...access);
    await write('lab', 2);
    await site.stopReceiver();
  });

  const write = (lab: string, seed: number): Promise<unknown> =>
    site.hvdr(
      ...['lab', 'write', lab, 'SQL01', '--disk', '0', '--random', '3', '--block', '64K'],
      ...['--seed', String(seed)],
    );
  const bytes = async (): Promise<Buffer> =>
    (await site.hvdr('lab', 'read', 'lab', 'SQL01', '--disk', '0')).stdout;
  const end = (...more: string[]): ReturnType<typeof site.try> =>
    site.try('end-failback', 'SQL01', ...atPrimary, ...more);

  it('says what it would do, wants a reason and a yes, and leaves the VM as it runs', async () => {
    const before = await bytes();
    expect((await end('--yes')).code).to.equal(2);
    const asked = await end(...force);
    expect(asked.code, asked.stderr).to.equal(40);
    expect(asked.stderr).to.include('stays on the disks that the failback started it on');
    const done = await end(...force, '--yes');
    expect(done.code, done.stderr).to.equal(0);
    expect((await bytes()).equals(before)).to.equal(true);
    const shown = await site.hvdr('lab', 'show', 'lab', 'SQL01', '--json');
    expect(shown.stdout.toString()).to.include('running');
    await write('lab', 3);
  });

  it('has nothing to end then, and says so', async () => {
    const again = await end(...force, '--yes');
    expect(again.code, again.stderr).to.equal(10);
    expect(again.stderr).to.include('E_STATE');
  });
});
