// The network of a VM that a backend restores, as the Plugin line of the job says it.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { RESTORE_OPTIONS_FILE } from '../../plugin-bridge/restore-options.js';
import { BackedUpVm, definitionWith, type JobFile } from '../support/backup-job.js';
import { RestoringBackend } from '../support/restoring-backend.js';
import { WorkFolder } from '../support/work-folder.js';

const OWN_MAC = '00155D0A0B0C';

describe('the network of a VM restored by a backend', function () {
  this.timeout(120_000);
  let vm: BackedUpVm;
  let files: JobFile[];
  let folder: WorkFolder;
  let site: RestoringBackend;

  before(async () => {
    const made = definitionWith('SQL01', [300 * 1024]);
    const adapters = made.adapters.map((adapter) => ({ ...adapter, switchName: 'Production' }));
    vm = new BackedUpVm({ ...made, adapters }, 5);
    vm.write(3);
    files = await vm.full();
  });

  // the host has the switch LAN
  beforeEach(async () => {
    folder = new WorkFolder('restore-network');
    site = await RestoringBackend.make(folder, vm);
  });

  afterEach(() => {
    folder.dispose();
  });

  async function restored(...parameters: readonly string[]): Promise<readonly string[]> {
    const job = { jobId: 7, name: 'restore.2026-11-26_20.00.00_07', parameters };
    const { refusals, messages } = await site.run(job, files);
    expect(refusals).to.deep.equal([]);
    expect(await site.vm()).to.equal('whole');
    return messages;
  }

  it('follows network_map, and the job says so', async () => {
    const said = await restored('network_map=production=lan');
    const [adapter] = await site.adapters();
    expect(adapter).to.include({ switchName: 'LAN', vlan: 7, mac: OWN_MAC });
    expect(said.join('\n')).to.match(/^I .*is on LAN: network_map production=lan/m);
  });

  it('stays off without it, and the job warns of the switch and names those of the host', async () => {
    const said = await restored();
    const [adapter] = await site.adapters();
    expect(adapter).to.include({ switchName: undefined, mac: OWN_MAC });
    expect(said.join('\n')).to.match(
      /^W .*is not connected: there is no switch Production, .* LAN;/m,
    );
  });

  it('follows the map that the operator gives for this restore, in place of the line’s', async () => {
    mkdirSync(site.where, { recursive: true, mode: 0o700 });
    const file = join(site.where, RESTORE_OPTIONS_FILE);
    writeFileSync(file, 'network_map = "Production=LAN"\n', { mode: 0o600 });
    const said = await restored('network_map=Production=Gone');
    expect((await site.adapters())[0]).to.include({ switchName: 'LAN' });
    expect(said.join('\n')).to.match(/^I .*is on LAN: network_map Production=LAN/m);
  });

  it('has new MACs with mac_policy=new', async () => {
    await restored('network_map=*=LAN', 'mac_policy=new');
    const [adapter] = await site.adapters();
    expect(adapter?.switchName).to.equal('LAN');
    expect(adapter?.mac).to.not.equal(OWN_MAC);
  });

  it('is not that of the first VM with new_vm_name, whatever the map says', async () => {
    const parameters = ['network_map=*=LAN', 'new_vm_name=copy'];
    const { refusals, messages } = await site.run({ jobId: 7, name: 'a', parameters }, files);
    expect(refusals).to.deep.equal([]);
    expect(messages.join('\n')).to.match(/^I .*adapters of copy are not connected/m);
  });
});
