// VMs that another product backed up, in a real Bacula: their files are sent through our plugins for
// @vsphere and @proxmox_ by a backend that is not ours; our backend makes Hyper-V VMs of them.

import { randomBytes } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { directorString, pluginCommand } from '../../plugin-bridge/plugin-string.js';
import type { PluginNamespace } from '../../shared/params/index.js';
import { SITE_NAMES } from '../support/bacula-config.js';
import { BaculaSite, type JobResult, needBacula } from '../support/bacula-site.js';
import { checkoutFolder } from '../support/checkout.js';
import { runHvdr } from '../support/cli.js';
import { type ForeignFile, writeForeignBackend } from '../support/foreign-backend.js';
import { needTool } from '../support/need.js';
import { QEMU, qemuCompare, qemuConvert } from '../support/qemu.js';
import { expectTool } from '../support/run-tool.js';
import { WorkFolder } from '../support/work-folder.js';

const MIB = 1024 * 1024;
const VMX = `displayName = "esx1"
firmware = "efi"
memSize = "1024"
scsi0.present = "TRUE"
scsi0:0.present = "TRUE"
scsi0:0.fileName = "boot.vmdk"
ethernet0.present = "TRUE"
ethernet0.networkName = "VM Network"
ethernet0.generatedAddress = "00:0c:29:11:22:33"
`;
const CONF = `name: web
bios: ovmf
memory: 1024
scsi0: local:100/vm-100-disk-0.qcow2,size=5M
net0: virtio=BC:24:11:00:00:01,bridge=vmbr0
`;

function jobOf(name: string, plugin: PluginNamespace, networkMap: string): string {
  const { client, storage, pool } = SITE_NAMES;
  const line = pluginCommand(plugin, [{ key: 'network_map', value: networkMap }]);
  return `FileSet { Name = ${name}; Include { Plugin = ${directorString(line)} } }
Job {
  Name = ${name}; Type = Backup; Level = Full; Client = ${client}; FileSet = ${name}
  Storage = ${storage}; Pool = ${pool}; Messages = Standard
}
`;
}

describe('VMs of other hypervisors in a real Bacula', function () {
  this.timeout(240_000);
  let work: WorkFolder;
  let site: BaculaSite;

  before(async function () {
    needBacula(this);
    needTool(this, 'gcc', ...QEMU);
    work = new WorkFolder('bacula-conversion');
    await hvdr('lab', 'init', 'lab');
    await hvdr('lab', 'switch', 'lab', 'add', 'LAN');
    const lines = [`host=lab:${work.file('lab')}`, `state_dir=${work.file('state')}`];
    writeFileSync(
      work.file('backend.conf'),
      [...lines, `restore_roots=${work.path}`, ''].join('\n'),
      {
        mode: 0o600,
      },
    );
    // what the plugins start: the other product's backend while its script is there, otherwise ours
    const script = work.file('foreign.mjs');
    const ours = join(checkoutFolder, 'bin', 'podheitor-hyperv-backend');
    const choice = `[ -f '${script}' ] && exec '${process.execPath}' '${script}'\nexec '${ours}'`;
    writeFileSync(work.file('backend'), `#!/bin/sh\n${choice}\n`, { mode: 0o755 });
    site = await BaculaSite.create({
      resources:
        jobOf('Esx', 'podheitor-vsphere', 'VM Network=LAN') +
        jobOf('Pve', 'podheitor-proxmox', 'vmbr0=LAN'),
      environment: {
        HVDR_BACKEND: work.file('backend'),
        HVDR_BACKEND_CONF: work.file('backend.conf'),
      },
    });
    await expectTool(process.execPath, [
      join(checkoutFolder, 'bin', 'build-adapter.mjs'),
      ...['--platform', 'linux', '--folder', site.pluginFolder],
      ...['--plugin', 'podheitor-vsphere', '--plugin', 'podheitor-proxmox'],
    ]);
    await site.start();
  });

  after(async () => {
    await (site as BaculaSite | undefined)?.close();
    (work as WorkFolder | undefined)?.dispose();
  });

  async function hvdr(...args: readonly string[]): Promise<string> {
    const run = await runHvdr(args, { folder: work.path });
    expect(run.code, run.stderr).to.equal(0);
    return run.stdout.toString();
  }

  /** A guest's disk, raw and as the other hypervisor keeps it. */
  async function image(name: string, format: string, options?: string): Promise<string> {
    const bytes = Buffer.alloc(5 * MIB);
    randomBytes(MIB + 777).copy(bytes, 2 * MIB - 100);
    const raw = work.file(`${name}.raw`);
    writeFileSync(raw, bytes);
    const to = { file: work.file(name), format, ...(options === undefined ? {} : { options }) };
    await qemuConvert({ file: raw, format: 'raw' }, to);
    return raw;
  }

  async function backUp(job: string, files: readonly ForeignFile[]): Promise<JobResult> {
    writeForeignBackend(work.file('foreign.mjs'), files);
    const result = await site.run(job);
    rmSync(work.file('foreign.mjs'));
    expect(result, result.log).to.include({ status: 'T', errors: 0 });
    return result;
  }

  it('come back from VMware as a VM on the switch of the map, equal to the byte', async () => {
    const raw = await image('boot.vmdk', 'vmdk', 'subformat=streamOptimized');
    writeFileSync(work.file('esx1.vmx'), VMX);
    const { jobId } = await backUp('Esx', [
      { name: '/@vsphere/esx1/esx1.vmx', file: work.file('esx1.vmx') },
      { name: '/@vsphere/esx1/boot.vmdk', file: work.file('boot.vmdk') },
    ]);
    const where = work.file('from-esx');
    const restore = await site.restore({ of: { jobIds: [jobId] }, where });
    expect(restore, restore.log).to.include({ status: 'T', errors: 0 });
    expect(restore.log).to.match(/esx1 is registered as [0-9a-f-]{36}: generation 2, 1 disk/);
    await qemuCompare(raw, join(where, '@vsphere', 'esx1', 'esx1-0.vhdx'));
    expect(await hvdr('lab', 'show', 'lab', 'esx1')).to.match(/LAN/);
  });

  it('come back from Proxmox likewise', async () => {
    const raw = await image('vm-100-disk-0.qcow2', 'qcow2');
    writeFileSync(work.file('100.conf'), CONF);
    const { jobId } = await backUp('Pve', [
      { name: '/@proxmox_/web/config/100.conf', file: work.file('100.conf') },
      { name: '/@proxmox_/web/disks/vm-100-disk-0.qcow2', file: work.file('vm-100-disk-0.qcow2') },
    ]);
    const where = work.file('from-pve');
    const restore = await site.restore({ of: { jobIds: [jobId] }, where });
    expect(restore, restore.log).to.include({ status: 'T', errors: 0 });
    await qemuCompare(raw, join(where, '@proxmox_', 'web', 'web-0.vhdx'));
    expect(await hvdr('lab', 'show', 'lab', 'web')).to.match(/LAN/);
  });

  it('are none when a disk was not in the backup, and the restore is red', async () => {
    writeFileSync(work.file('esx1.vmx'), VMX.replace('"esx1"', '"esx2"'));
    const { jobId } = await backUp('Esx', [
      { name: '/@vsphere/esx2/esx1.vmx', file: work.file('esx1.vmx') },
    ]);
    const restore = await site.restore({ of: { jobIds: [jobId] }, where: work.file('half') });
    expect(restore.status, restore.log).to.equal('f');
    expect(restore.log).to.match(/esx2 was not converted: E_NOT_FOUND/);
    expect(await hvdr('lab', 'list', 'lab')).not.to.contain('esx2');
  });

  it('cannot be backed up by our own backend: the job is red and says who does', async () => {
    const job = await site.run('Esx');
    expect(job.status, job.log).to.equal('f');
    expect(job.log).to.contain('podheitor-vsphere restores only');
  });
});
