// `hvdr unfence`: what an operator at the primary does by force, and what it wants before.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { guid } from '../../shared/bytes/index.js';
import { systemClock, systemRandom } from '../../shared/clock.js';
import { nodeFileSystem } from '../../shared/files/index.js';
import { Lab } from '../../shared/hypervisor/lab/index.js';
import { ReturnFile } from '../../source-agent/failback/return-record.js';
import { type CliRun, runHvdr } from '../support/cli.js';

const OPERATION = guid('0b000000-0000-4000-8000-000000000002');

describe('e2e: hvdr unfence', function () {
  this.timeout(120_000);
  let folder: string;

  const hvdr = (...args: string[]): Promise<CliRun> => runHvdr(args, { folder });
  const lab = (): Promise<Lab> =>
    Lab.open(join(folder, 'lab'), { fs: nodeFileSystem, clock: systemClock, random: systemRandom });

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'hvdr-unfence-'));
    await hvdr('lab', 'init', 'lab');
    await hvdr('lab', 'create-vm', 'lab', 'SQL01', '--disk', '1M');
  });
  afterEach(() => {
    rmSync(folder, { recursive: true, force: true });
  });

  const fence = async (protection: 'own' | 'other'): Promise<void> => {
    const host = await lab();
    const { id } = await host.findVm('SQL01');
    const protectionId = protection === 'own' ? id : OPERATION;
    await host.fenceVm(id, { tag: { protectionId, operationId: OPERATION }, epoch: 7n });
    await host.close();
  };
  const unfence = (...more: string[]): Promise<CliRun> =>
    hvdr('unfence', 'sql01', '--host', 'lab:lab', ...more);

  it('is named to whoever cannot start a VM, says what it means, and lifts the fence with a reason', async () => {
    await fence('own');
    const refused = await hvdr('lab', 'start', 'lab', 'SQL01');
    expect(refused.code).to.equal(25);
    expect(refused.stderr).to.contain('hvdr unfence SQL01');
    expect((await unfence('--yes')).code).to.equal(2);
    expect((await unfence('--force', '--reason', ' ', '--yes')).code).to.equal(2);
    const asked = await unfence('--force', '--reason', 'the DR site burnt down');
    expect(asked.code).to.equal(40);
    expect(asked.stderr)
      .to.match(/epoch 7/)
      .and.to.contain('refuses the cycles');
    const done = await unfence('--force', '--reason', 'the DR site burnt down', '--yes');
    expect(done.code, done.stderr).to.equal(0);
    expect(done.stderr).to.contain('fence.forced').and.to.contain('the DR site burnt down');
    expect((await hvdr('lab', 'start', 'lab', 'SQL01')).code).to.equal(0);
  });

  it('refuses a VM without a fence, and one that something else fenced', async () => {
    const force = ['--force', '--reason', 'a test', '--yes'];
    const none = await unfence(...force);
    expect(none.code).to.equal(10);
    expect(none.stderr).to.contain('not fenced');
    await fence('other');
    const strange = await unfence(...force);
    expect(strange.code).to.equal(10);
    expect(strange.stderr).to.contain('not set by its own protection');
    const host = await lab();
    expect(await host.fenceOf((await host.findVm('SQL01')).id)).not.to.equal(undefined);
    await host.close();
  });

  it('refuses while a failback of the VM is open, unless that is said', async () => {
    await fence('own');
    const host = await lab();
    const { id: vmId } = await host.findVm('SQL01');
    const file = new ReturnFile(folder, vmId, { fs: nodeFileSystem, random: systemRandom });
    await file.write({
      ...{ vmId, operationId: OPERATION, storeId: OPERATION, stage: 'level', disks: [] },
      referenceId: undefined,
    });
    const force = ['--state-dir', folder, '--force', '--reason', 'a test', '--yes'];
    const open = await unfence(...force);
    expect(open.code).to.equal(10);
    expect(open.stderr).to.contain('hvdr abort SQL01').and.to.contain('--during-failback');
    expect(await host.fenceOf(vmId)).not.to.equal(undefined);
    const said = await unfence(...force, '--during-failback');
    expect(said.code, said.stderr).to.equal(0);
    expect(await host.fenceOf(vmId)).to.equal(undefined);
    await host.close();
  });
});
