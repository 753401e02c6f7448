// The backend as the file daemon starts it: the real program, real pipes, a lab host.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { systemClock, systemRandom } from '../../../../shared/clock.js';
import { nodeFileSystem } from '../../../../shared/files/index.js';
import { Lab } from '../../../../shared/hypervisor/lab/index.js';
import { type BackendProcess, startBackend } from '../../../support/backend-process.js';
import { jobLines } from '../../../support/ptcomm-peer.js';
import { WorkFolder } from '../../../support/work-folder.js';

const DISK_BYTES = 8 * 1024 * 1024;

describe('the backend as a process', () => {
  let work: WorkFolder;
  let folder: string;
  let conf: string;

  beforeEach(async () => {
    work = new WorkFolder('ptcomm');
    folder = work.path;
    conf = join(folder, 'backend.conf');
    const seams = { fs: nodeFileSystem, clock: systemClock, random: systemRandom };
    const lab = await Lab.create(join(folder, 'lab'), seams);
    for (const name of ['SQL01', 'web/1']) {
      await lab.createVm({ name, disks: [{ source: { sizeBytes: DISK_BYTES } }] });
    }
    await lab.close();
    writeFileSync(
      conf,
      `host=lab:${join(folder, 'lab')}\nstate_dir=${join(folder, 'state')}\nmodes=backup\n`,
      { mode: 0o600 },
    );
  });

  afterEach(() => {
    work.dispose();
  });

  const start = (environment: Readonly<Record<string, string>> = {}): BackendProcess =>
    startBackend(conf, environment);

  it('estimates whole disks, ends after T with exit code 0 and says nothing on stderr', async () => {
    const { peer, exit, stderr } = start();
    await peer.begin(jobLines('E', 'Level=F'), ['vm=*']);
    await peer.start('EstimateStart');
    const list = await peer.takeList();
    await peer.end();
    peer.close();
    expect(list.filter(({ name }) => name.endsWith('.vhdx')).map(({ size }) => size)).to.deep.equal(
      [DISK_BYTES, DISK_BYTES],
    );
    expect(list.map(({ name }) => name)).to.include('/@hyperv/web%2F1/config/vm.json');
    expect(await exit).to.deep.equal([0, null]);
    expect(stderr()).to.equal('');
  });

  it('lists one level at a time', async () => {
    const list = async (path: string): Promise<string[]> => {
      const { peer, exit } = start();
      await peer.begin(jobLines('E'), ['vm=*', `listing=${path}`]);
      await peer.start('ListingStart');
      const names = (await peer.takeList()).map(({ name }) => name);
      await peer.end();
      expect(await exit).to.deep.equal([0, null]);
      return names;
    };
    expect(await list('/')).to.deep.equal(['/SQL01/', '/web%2F1/']);
    expect(await list('/SQL01')).to.deep.equal([
      '/SQL01/config/',
      '/SQL01/disks/',
      '/SQL01/.meta/',
    ]);
    expect(await list('/@hyperv/SQL01/config/')).to.deep.equal(['/SQL01/config/vm.json']);
  });

  it('answers a query and is ended by T alone', async () => {
    const { peer, exit } = start();
    await peer.begin(jobLines('E'), ['vm=SQL*', 'query=vm']);
    await peer.start('QueryStart');
    expect(await peer.expect('C')).to.match(/^vm=SQL01,id=[0-9a-f-]{36},state=off$/);
    await peer.expect('F');
    await peer.send('T');
    expect(await exit).to.deep.equal([0, null]);
  });

  it('makes the job red when a parameter is wrong, and never shows a secret', async () => {
    const wrong: readonly (readonly [line: string, said: RegExp])[] = [
      ['vmx=1', /there is no parameter "vmx"/],
      ['timeout=soon', /timeout, Plugin string: "soon".*Allowed/],
      ['dr_psk=env:HVDR_SECRET', /dr_psk, Plugin string: a line may not read/],
      ['config_file=/etc/shadow', /no folder is open/],
      ['host=lab:/elsewhere', /it is another one/],
      ['mode=failover-permanent', /is not allowed on this host/],
      ['dr_host=evil.example', /this receiver is not allowed/],
    ];
    for (const [line, said] of wrong) {
      const { peer, exit, stderr } = start({ HVDR_SECRET: 'canary-in-the-environment' });
      await peer.hello();
      await peer.block('Job', jobLines('B', 'Level=F'));
      await peer.expect('F');
      await peer.block('Params', [line]);
      const text = await peer.expect('A');
      expect(text, line).to.match(said);
      expect(text).not.to.contain('canary');
      await peer.end();
      expect(await exit).to.deep.equal([0, null]);
      expect(stderr()).to.equal('');
    }
  });

  it('is red where nobody wrote a backend.conf', async () => {
    const { peer } = start({ HVDR_BACKEND_CONF: join(folder, 'none.conf') });
    await peer.hello();
    await peer.block('Job', jobLines('B', 'Level=F'));
    await peer.expect('F');
    await peer.block('Params', []);
    expect(await peer.expect('A')).to.match(/^E_NOT_FOUND: .*none\.conf is not there/);
    peer.close();
  });

  it('ends without a word when SIGUSR1 cancels it, and when the pipe is closed', async () => {
    for (const end of [
      ({ child }: BackendProcess) => child.kill('SIGUSR1'),
      ({ peer }: BackendProcess) => {
        peer.close();
      },
    ]) {
      const backend = start();
      await backend.peer.begin(jobLines('B', 'Level=F'), []);
      end(backend);
      await backend.peer.untilEnd();
      expect(await backend.exit).to.deep.equal([0, null]);
      expect(backend.peer.letters).not.to.contain('A');
      expect(backend.stderr()).to.equal('');
    }
  });

  it('takes a Full of every VM, the state last', async () => {
    const { peer, exit } = start();
    await peer.begin(jobLines('B', 'Level=F'), ['vm=SQL*', 'quiesce=no']);
    await peer.start('BackupStart');
    const names = (await peer.takeItems())
      .filter(({ is }) => is === 'file')
      .map(({ name }) => name);
    await peer.end();
    expect(names.at(0)).to.equal('/@hyperv/SQL01/config/vm.json');
    expect(names.at(-1)).to.equal('/@hyperv/SQL01/.meta/rct-state.json');
    expect(await exit).to.deep.equal([0, null]);
  });

  it('makes a VM of a Proxmox backup, for a plugin that says its namespace in its greeting alone', async () => {
    const { peer, exit, stderr } = start();
    await peer.hello('podheitor-proxmox');
    const where = join(folder, 'restored');
    const job = jobLines('R', `Where=${where}`, 'Replace=a').filter(
      (line) => !line.startsWith('Namespace='),
    );
    await peer.block('Job', job);
    await peer.expect('F');
    await peer.block('Params', []);
    await peer.expect('F');
    await peer.start('RestoreStart');
    const disk = Buffer.alloc(512 * 1024);
    disk.fill('guest', 70_000, 90_000);
    const conf = Buffer.from('name: web\nsata0: local:disk.raw\n');
    for (const [name, bytes] of [
      ['config/100.conf', conf],
      ['disks/disk.raw', disk],
    ] as const) {
      const whole = `${where}/@proxmox_/web/${name}`;
      expect(await peer.announce(whole, 'F', bytes.length)).to.equal('C OK');
      expect(await peer.data([bytes.subarray(0, 20), bytes.subarray(20)])).to.equal('C OK');
    }
    await peer.command('FINISH');
    await peer.expect('F');
    await peer.end();
    peer.close();
    expect(await exit).to.deep.equal([0, null]);
    expect(stderr()).to.equal('');
    const seams = { fs: nodeFileSystem, clock: systemClock, random: systemRandom };
    const lab = await Lab.open(join(folder, 'lab'), seams);
    const { id } = await lab.findVm('web');
    const guest = await lab.guestRead(id, 0, 0, disk.length);
    await lab.close();
    expect(guest.equals(disk)).to.equal(true);
  });

  it('serves two backends of one job at once', async () => {
    const both = [start(), start()];
    for (const { peer } of both) await peer.begin(jobLines('E', 'Level=F'), []);
    for (const { peer } of both.reverse()) {
      await peer.start('EstimateStart');
      expect(await peer.takeList()).to.have.length(6);
    }
    for (const { peer } of both) await peer.end();
    for (const { exit } of both) expect(await exit).to.deep.equal([0, null]);
  });

  it('ends after garbage with an A and nothing on stderr', async () => {
    const { peer, exit, stderr } = start();
    await peer.hello();
    await peer.raw('GET / HTTP/1.1\r\n\r\n');
    expect(await peer.expect('A')).to.match(/^E_PROTOCOL/);
    await peer.untilEnd();
    expect(await exit).to.deep.equal([70, null]);
    expect(stderr()).to.equal('');
  });
});
