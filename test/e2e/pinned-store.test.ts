// A key that names its store: the source sends nothing to another one that has the same key.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { Site } from '../support/site.js';

describe('a key that names its store', () => {
  let site: Site;

  before(async () => {
    site = new Site(mkdtempSync(join(tmpdir(), 'hvdr-pin-')));
    await site.prepare();
    await site.hvdr('lab', 'create-vm', 'lab', 'SQL01', '--disk', '1M');
  });

  after(async () => {
    await site.stopReceiver('SIGKILL');
    rmSync(site.folder, { recursive: true, force: true });
  });

  async function storeId(): Promise<string> {
    const run = await site.hvdr('status', ...site.operator(), '--json');
    // the contract of `hvdr status --json`
    return (JSON.parse(run.stdout.toString()) as { storeId: string }).storeId;
  }

  it('takes a push there, and refuses any other store before it says anything of a VM', async () => {
    await site.startReceiver();
    const mine = await storeId();
    rmSync(join(site.folder, 'keys/source.psk'));
    await site.hvdr(
      ...['psk', 'generate', '--out', 'keys/source.psk', '--principal', 'primary'],
      ...['--receiver-id', mine],
    );
    await site.stopReceiver();
    await site.startReceiver();
    const first = await site.push('SQL01');
    expect(first.kind).to.equal('seed');
    await site.stopReceiver();

    // a second store behind the same address, with the same keys
    await site.startReceiver('--store', 'other');
    const theirs = await storeId();
    expect(theirs).not.to.equal(mine);
    const run = await site.tryPush('SQL01');
    expect(run.code).to.equal(41);
    expect(run.vms[0]?.error?.code).to.equal('E_AUTH');
    expect(run.stderr).to.contain(`is for the store ${mine}`);
    expect(run.stderr).to.contain(`is ${theirs}`);
    expect(run.stderr).to.contain('nothing was sent');
    const doctor = await site.try(
      ...['doctor', '--psk-file', 'keys/source.psk'],
      ...['--dr-host', '127.0.0.1', '--dr-port', String(site.port)],
    );
    expect(doctor.stdout.toString()).to.match(/^fail {2}receiver: E_AUTH: .*is for the store/m);
    const status = await site.hvdr('status', ...site.operator(), '--json');
    expect(status.stdout.toString()).not.to.contain('SQL01');
  });
});
