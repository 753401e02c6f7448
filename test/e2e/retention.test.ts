// Retention as an operator and a source ask for it: on the command line of the receiver, and as a
// parameter of a push. What it then keeps is told by test/unit/dr-receiver/retention.test.ts.

import { expect } from 'chai';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Site } from '../support/site.js';
import { WorkFolder } from '../support/work-folder.js';

describe('retention grid', function () {
  this.timeout(300_000);
  const work = new WorkFolder('retention');
  const site = new Site(work.path);
  after(async () => {
    await site.stopReceiver();
    work.dispose();
  });

  it('is taken from both sides, and refused where it is not legal', async () => {
    await site.prepare();
    await site.hvdr('lab', 'create-vm', 'lab', 'APP', '--disk', '4M');
    await site.hvdr('lab', 'start', 'lab', 'APP');
    const refused = await site.try(
      ...['receiver', '--store', 'store', '--psk-file', 'keys', '--retention-grid', '1h/1d'],
    );
    expect(refused.code).to.equal(2);
    expect(refused.stderr).to.contain('longer than its span').and.to.contain('24h/1h,7d/1d,4w/1w');
    await site.startReceiver('--retention-grid', '2d/1h');
    const bad = await site.try(...site.pushArguments('APP', '--retention-grid', '24h'));
    expect(bad.code).not.to.equal(0);
    expect(bad.stderr + bad.stdout.toString()).to.contain('E_PARAMETER');
    const pushed = await site.push('APP', '--retention-grid', '24h/1h,7d/1d');
    await site.stopReceiver();
    const status = await site.hvdr('status', '--store', 'store', '--json');
    const { protections } = JSON.parse(status.stdout.toString()) as {
      protections: { vmId: string; newest: { id: string } }[];
    };
    const [protection] = protections;
    expect(protection?.newest.id).to.equal(pushed.point);
    const journal = await readFile(
      join(work.file('store'), 'vms', protection?.vmId ?? '', 'journal'),
    );
    expect(journal.toString('latin1')).to.contain('"retentionGrid":"24h/1h,7d/1d"');
  });
});
