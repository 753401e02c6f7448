// The two other ways to give `hvdr reprotect`, real processes: from a VM that is gone at the former primary,
// with nothing to seed from, and while no receiver runs on the store with the retired protection.

import { createHash } from 'node:crypto';
import { expect } from 'chai';
import { Site } from '../support/site.js';
import { WorkFolder } from '../support/work-folder.js';

const MIB = 1024 * 1024;

describe('hvdr reprotect: from the network, and on a store', function () {
  this.timeout(240_000);
  const work = new WorkFolder('reprotect-ways');
  const b = new Site(work.path);
  const a = new Site(work.path);
  b.drHost = 'lab:dr';

  before(async () => {
    await b.prepare();
    await b.hvdr('lab', 'init', 'dr');
    await b.startReceiver();
    await a.startReceiver('--store', 'store-a');
    for (const vm of ['SQL01', 'WEB01']) {
      await b.hvdr('lab', 'create-vm', 'lab', vm, '--disk', '8M');
      await b.hvdr('lab', 'start', 'lab', vm);
      await b.hvdr('lab', 'write', 'lab', vm, '--random', '48');
      await b.push(vm);
      await b.hvdr('lab', 'stop', 'lab', vm);
      await b.hvdr('failover', 'unplanned', vm, ...b.operator());
      await b.hvdr('failover', 'permanent', vm, '--yes', ...b.operator());
      await b.hvdr('lab', 'write', 'dr', vm, '--random', '3', '--seed', '2');
    }
  });

  after(async () => {
    await b.stopReceiver();
    await a.stopReceiver();
    work.dispose();
  });

  const reprotect = (vm: string, ...more: string[]): string[] => [
    ...['reprotect', vm, '--host', 'lab:dr', '--state-dir', 'state-dr', ...a.operator()],
    ...['--principal', 'primary', ...more, '--json'],
  ];
  const atReceiver = (): string[] => [
    ...['--retired-host', '127.0.0.1', '--retired-port', String(b.port)],
    ...['--retired-psk-file', 'keys/operator.psk'],
  ];
  const expectProtected = async (vm: string): Promise<void> => {
    const [point = ''] = await a.points(vm);
    const { stdout } = await b.hvdr('lab', 'read', 'dr', vm, '--disk', '0');
    const wanted = createHash('sha256').update(stdout).digest('hex');
    expect(await a.pointHashes(vm, point, 1)).to.deep.equal([wanted]);
    const status = await b.hvdr('status', '--vm', vm, ...b.operator());
    expect(status.stdout.toString()).to.include('reprotected');
  };

  it('a former VM that is gone is no seed: --seed-from network sends all that has data', async () => {
    await b.hvdr('lab', 'remove', 'lab', 'SQL01', '--yes');
    const refused = await b.try(...reprotect('SQL01', ...atReceiver()));
    expect(refused.code, refused.stderr).to.equal(12);
    expect(refused.stderr).to.include('E_NO_MATCH');
    const network = ['--seed-from', 'network', ...atReceiver()];
    const { stdout } = await b.hvdr(...reprotect('SQL01', ...network));
    expect(stdout.toString()).to.include('"step":"R2"').and.not.include('"step":"R1"');
    const sent = Number(/"bytesSent":(\d+)/.exec(stdout.toString())?.[1]);
    expect(sent).to.be.greaterThan(MIB);
    await expectProtected('SQL01');
  });

  it('--store notes it in the store on which no receiver runs, and is refused on one that is served', async () => {
    const served = await b.try(...reprotect('WEB01', '--store', 'store'));
    expect(served.code, served.stderr).to.equal(11);
    await b.stopReceiver();
    await b.hvdr(...reprotect('WEB01', '--store', 'store'));
    await b.startReceiver();
    await expectProtected('WEB01');
  });
});
