import { mkdirSync, writeFileSync } from 'node:fs';
import { expect } from 'chai';
import { authorised } from '../../../plugin-bridge/backend-authority.js';
import { parseBackendConf } from '../../../plugin-bridge/backend-conf.js';
import { nodeFileSystem } from '../../../shared/files/index.js';
import { type ParameterValues, parsePluginString } from '../../../shared/params/index.js';
import { refusal } from '../../support/refusal.js';
import { WorkFolder } from '../../support/work-folder.js';

describe('the key files of a job', () => {
  let work: WorkFolder;
  beforeEach(() => {
    work = new WorkFolder('authority');
    for (const folder of ['keys', 'configs']) mkdirSync(work.file(folder));
    writeFileSync(work.file('keys/a.psk'), '');
  });
  afterEach(() => {
    work.dispose();
  });

  async function valuesOf(
    line: string,
    config: string,
    folders = [`key_folder=${work.file('keys')}`],
  ): Promise<ParameterValues> {
    writeFileSync(work.file('configs/job.conf'), config);
    const places = [...folders, `config_folder=${work.file('configs')}`];
    const conf = parseBackendConf(['host=lab:/lab', ...places].join('\n'), 'backend.conf');
    const { given } = parsePluginString(`podheitor-hyperv: ${line}`);
    const { values } = await authorised(given, conf, { fs: nodeFileSystem, isRestore: false });
    return values;
  }

  it('are those of the key folder, named in the line or in the config file', async () => {
    const wanted = work.file('keys/a.psk');
    expect((await valuesOf('dr_psk_file=a.psk', '')).dr_psk_file).to.equal(wanted);
    const inFile = await valuesOf('config_file=job.conf', 'dr_psk_file=a.psk\n');
    expect(inFile.dr_psk_file).to.equal(wanted);
  });

  it('are anywhere for the config file, which is the administrator’s own', async () => {
    for (const file of ['/srv/keys/b.psk', 'env:KEY']) {
      const { dr_psk_file: named } = await valuesOf(
        'config_file=job.conf',
        `dr_psk_file=${file}\n`,
      );
      expect(named).to.equal(file);
    }
  });

  it('are in the key folder when a config file names one by `file:` and a relative path', async () => {
    const wanted = `file:${work.file('keys/a.psk')}`;
    for (const name of ['dr_psk_file', 'dr_psk'] as const) {
      const values = await valuesOf('config_file=job.conf', `${name}=file:a.psk\n`);
      expect(values[name], name).to.equal(wanted);
    }
    const clear = await valuesOf('config_file=job.conf', 'dr_psk=a passphrase that is long\n');
    expect(clear.dr_psk).to.equal('a passphrase that is long');
  });

  it('are refused with a relative path where there is no key folder, and never looked for in /', async () => {
    for (const words of ['dr_psk_file=a.psk', 'dr_psk_file=file:a.psk', 'dr_psk=file:keys/a.psk']) {
      const error = await refusal(() => valuesOf('config_file=job.conf', `${words}\n`, []));
      expect(error.code, words).to.equal('E_PARAMETER');
      expect(error.message).to.contain('is a relative path, and a job has no folder of its own');
      expect(error.hint).to.contain('key_folder');
    }
    const whole = await valuesOf('config_file=job.conf', 'dr_psk=file:/srv/a.psk\n', []);
    expect(whole.dr_psk).to.equal('file:/srv/a.psk');
  });
});
