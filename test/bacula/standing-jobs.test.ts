// The modes that stand for as long as their job runs, in a real Bacula: one job is the receiver, others of
// the same file daemon seed it and push to it.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { directorString, pluginCommand } from '../../plugin-bridge/plugin-string.js';
import { AdapterRig } from '../support/adapter-rig.js';
import { SITE_NAMES } from '../support/bacula-config.js';
import { BaculaSite, type JobResult, needBacula } from '../support/bacula-site.js';
import { checkoutFolder } from '../support/checkout.js';
import { freePort } from '../support/free-port.js';
import { needTool } from '../support/need.js';
import { PushJobSite, until } from '../support/push-job-site.js';
import { WorkFolder } from '../support/work-folder.js';

const VM = 'SQL01';

function resources(name: string, words: readonly string[]): string {
  const given = words.map((word) => {
    const [key = '', value = ''] = word.split('=');
    return { key, value };
  });
  const plugin = directorString(pluginCommand('podheitor-hyperv', given));
  const { client, storage, pool } = SITE_NAMES;
  return `FileSet { Name = ${name}; Include { Plugin = ${plugin} } }
Job {
  Name = ${name}; Type = Backup; Level = Full; Client = ${client}; FileSet = ${name}
  Storage = ${storage}; Pool = ${pool}; Messages = Standard; Maximum Concurrent Jobs = 5
}
`;
}

describe('jobs of a real Bacula that stand', function () {
  this.timeout(240_000);
  let work: WorkFolder;
  let rig: AdapterRig;
  let bacula: BaculaSite;
  let site: PushJobSite;

  before(async function () {
    needBacula(this);
    needTool(this, 'gcc');
    work = new WorkFolder('bacula-standing');
    site = new PushJobSite(work.path);
    await site.prepare();
    site.port = await freePort();
    await site.hvdr('lab', 'create-vm', 'lab', VM, '--disk', '8M');
    await site.write(VM, 1);
    mkdirSync(work.file('daemon.d'));
    writeFileSync(
      work.file('daemon.d/site.conf'),
      [
        ...['dr_host=127.0.0.1', `dr_port=${site.port}`, 'quiesce=no', 'push_interval=1'],
        ...[`dr_psk_file=${work.file('job-keys/source.psk')}`, `vm=${VM}`, ''],
      ].join('\n'),
    );
    site.allow(
      'seed,daemon,receiver',
      `config_folder=${work.file('daemon.d')}`,
      `store=${work.file('store')}`,
      `listen=127.0.0.1:${site.port}`,
      `receiver_keys=${work.file('keys')}`,
    );
    bacula = await BaculaSite.create({
      resources: [
        resources('Receiver', ['mode=receiver']),
        resources('Seed', [`vm=${VM}`, 'mode=seed', ...site.line()]),
        resources('Daemon', ['mode=daemon', 'config_file=site.conf', 'run_for=3']),
      ].join(''),
      environment: {
        HVDR_BACKEND: join(checkoutFolder, 'bin', 'podheitor-hyperv-backend'),
        HVDR_BACKEND_CONF: site.conf,
      },
    });
    rig = await AdapterRig.build('linux');
    await rig.release(bacula.pluginFolder);
    await bacula.start();
  });

  after(async () => {
    await (bacula as BaculaSite | undefined)?.close();
    (rig as AdapterRig | undefined)?.dispose();
    (work as WorkFolder | undefined)?.dispose();
  });

  const namesOf = async ({ jobId }: JobResult): Promise<string[]> =>
    (await bacula.catalog.files(jobId)).map(({ name }) => name.replace(/\d{13}/, 'N'));

  it('one is the receiver; another seeds it, a third is the daemon; a cancel ends it', async () => {
    const receiver = await bacula.begin('Receiver');
    const log = (): Promise<string> => bacula.catalog.log(receiver);
    await until(async () => (await log()).includes(`listening 127.0.0.1:${site.port}`));

    const seeded = await bacula.run('Seed');
    expect(seeded, seeded.log).to.include({ status: 'T', errors: 0 });
    expect(seeded.log).to.match(/SQL01 seed /);
    expect(await namesOf(seeded)).to.deep.equal([`/@hyperv/${VM}/.meta/push-N.json`]);
    await site.expectHead(VM, 1);

    const refused = await bacula.run('Seed');
    expect(refused.status, refused.log).to.equal('f');

    await site.write(VM, 2);
    const daemon = await bacula.run('Daemon');
    expect(daemon, daemon.log).to.include({ status: 'T', errors: 0 });
    expect(daemon.log).to.match(/SQL01 delta /);
    await site.expectHead(VM, 1);

    await bacula.cancel(receiver);
    const ended = await bacula.end(receiver);
    expect(ended.status, ended.log).to.equal('A');
    // nobody serves any more, and what came is whole
    const points = await site.hvdr('verify', VM, '--point', 'all', '--store', 'store');
    expect(points.stdout.toString()).to.match(/^SQL01: good: \d+ point\(s\)/);
  });
});
