// What `hvdr bacula fileset` writes, read by the real Director.

import { writeFileSync } from 'node:fs';
import { expect } from 'chai';
import { fileSetText, pluginCommand } from '../../plugin-bridge/plugin-string.js';
import { BaculaSite, needBacula } from '../support/bacula-site.js';
import { runHvdr, runHvdrJson } from '../support/cli.js';
import { hostileValues } from '../support/plugin-values.js';

describe('a Plugin line in the Director', function () {
  this.timeout(120_000);
  let site: BaculaSite;
  const command = pluginCommand(
    'podheitor-hyperv',
    hostileValues.map((value, index) => ({ key: `key${index}`, value })),
  );
  const long = pluginCommand('podheitor-hyperv', [
    { key: 'exclude', value: Array.from({ length: 370 }, (_, n) => `VM "${n}"`).join(',') },
  ]);

  before(async function () {
    needBacula(this);
    site = await BaculaSite.create({
      resources: [
        fileSetText({ name: 'Hostile', commands: [command] }),
        fileSetText({ name: 'Long', commands: [long] }),
      ].join('\n'),
    });
    await site.start();
  });

  after(async () => {
    await (site as BaculaSite | undefined)?.close();
  });

  it('arrives as it was meant, whatever is in its values', async () => {
    const shown = await site.console('show fileset=Hostile');
    expect(shown).to.contain(`P ${command}\n`);
  });

  it('arrives whole when it is long', async () => {
    expect(await site.console('show fileset=Long')).to.contain(`P ${long}\n`);
  });

  it('of the command line is taken by the Director and by doctor', async () => {
    const words = ['vm=Köln "1"', 'dr_psk_file=D:\\keys\\site a.psk', 'dr_host=dr.example'];
    const { run, document } = await runHvdrJson(['bacula', 'fileset', '--name', 'DR', ...words]);
    expect(run.code, run.stderr).to.equal(0);
    const { text, command: wanted } = document as { text: string; command: string };
    const plain = await runHvdr(['bacula', 'fileset', '--name', 'DR', ...words]);
    expect(plain.stdout.toString()).to.equal(`${text}\n`);

    const file = `${site.folder}/dr.conf`;
    writeFileSync(file, text);
    const other = await BaculaSite.create({ resources: `@${file}` });
    try {
      expect(await other.check()).to.equal('');
      await other.start();
      expect(await other.console('show fileset=DR')).to.contain(`P ${wanted}\n`);
    } finally {
      await other.close();
    }
    const doctor = await runHvdr(['doctor', '--bacula-config', file]);
    expect(doctor.stdout.toString()).to.contain(`ok    ${file}: 1 Plugin line is well`);
  });

  it('that is wrong is found by doctor, with file, line and FileSet', async () => {
    const file = `${site.folder}/wrong.conf`;
    const line = 'Plugin = "podheitor-hyperv: mode=pushh"';
    writeFileSync(file, `FileSet {\n  Name = Bad\n  Include {\n    ${line}\n  }\n}\n`);
    const doctor = await runHvdr(['doctor', '--bacula-config', file]);
    expect(doctor.code).to.equal(1);
    expect(doctor.stdout.toString()).to.contain(`fail  ${file}:4, FileSet Bad: mode`);
  });

  it('with a key in it is not written', async () => {
    const refused = await runHvdr(['bacula', 'fileset', 'vm=a', 'dr_psk=geheim']);
    expect(refused.code).not.to.equal(0);
    expect(refused.stderr).to.contain('E_PARAMETER').and.not.contain('geheim');
  });
});
