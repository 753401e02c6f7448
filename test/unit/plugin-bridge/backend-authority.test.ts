import { mkdirSync, writeFileSync } from 'node:fs';
import { expect } from 'chai';
import { authorised } from '../../../plugin-bridge/backend-authority.js';
import { parseBackendConf } from '../../../plugin-bridge/backend-conf.js';
import { nodeFileSystem } from '../../../shared/files/index.js';
import { type ParameterValues, parsePluginString } from '../../../shared/params/index.js';
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

  async function valuesOf(line: string, config: string): Promise<ParameterValues> {
    writeFileSync(work.file('configs/job.conf'), config);
    const places = [`key_folder=${work.file('keys')}`, `config_folder=${work.file('configs')}`];
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
});
