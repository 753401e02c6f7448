// `hvdr doctor --fd-config`: the plugins where the File Daemon of a machine loads them from, built here by the compiler.

import { copyFileSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { checkoutFolder } from '../support/checkout.js';
import { runHvdr } from '../support/cli.js';
import { needTool } from '../support/need.js';
import { expectTool } from '../support/run-tool.js';
import { WorkFolder } from '../support/work-folder.js';

const NAME = 'podheitor-hyperv-fd.so';

interface Finding {
  readonly check: string;
  readonly verdict: string;
  readonly detail: string;
  readonly remedy: string;
}

describe('hvdr doctor --fd-config', () => {
  const work = new WorkFolder('doctor-fd');
  const plugins = work.file('opt/bacula/plugins');
  const built = work.file('built');

  before(async function () {
    needTool(this, 'gcc');
    const script = join(checkoutFolder, 'bin', 'build-adapter.mjs');
    await expectTool(process.execPath, [script, '--platform', 'linux', '--folder', built]);
  });

  beforeEach(() => {
    rmSync(work.file('opt'), { recursive: true, force: true });
    mkdirSync(plugins, { recursive: true });
    writeFileSync(join(plugins, 'podheitor-hyperv-backend'), '');
    configured(`  Plugin Directory = "${plugins}"\n`);
  });

  after(() => {
    work.dispose();
  });

  /** The file of a daemon, as Bacula's packages have it, with this in its resource. */
  function configured(lines: string): void {
    writeFileSync(
      work.file('bacula-fd.conf'),
      'Director {\n  Name = dir\n  Password = "x"\n}\n' +
        `FileDaemon {  # this machine\n  Name = hv1-fd\n${lines}  Maximum Concurrent Jobs = 20\n}\n` +
        'Messages { Name = Standard; director = dir = all }\n',
    );
  }

  async function examine(): Promise<{ code: number; found: Record<string, Finding> }> {
    const args = ['doctor', '--fd-config', work.file('bacula-fd.conf'), '--json'];
    const run = await runHvdr(args);
    // the command's own document
    const { findings } = JSON.parse(run.stdout.toString()) as { findings: Finding[] };
    const found = Object.fromEntries(findings.map((finding) => [finding.check, finding]));
    return { code: run.code ?? -1, found };
  }

  const bring = (name = NAME) => {
    copyFileSync(join(built, name), join(plugins, name));
  };

  it('is content with plugins of this release and their backend', async () => {
    bring();
    bring('podheitor-vsphere-fd.so');
    const { found } = await examine();
    for (const check of ['plugin podheitor-hyperv', 'plugin podheitor-vsphere', 'backend']) {
      expect(found[check]?.verdict, check).to.equal('ok');
    }
    expect(found).not.to.have.property('plugin podheitor-proxmox');
  });

  it('names the folder in which a plugin is missing, and how it gets there', async () => {
    const { code, found } = await examine();
    expect(code).to.equal(1);
    const finding = found['plugin podheitor-hyperv'];
    expect(finding).to.include({ verdict: 'fail', detail: `${join(plugins, NAME)} is not there` });
    expect(finding?.remedy).to.contain(`install -m 644 /usr/lib/bacula/${NAME} ${plugins}/`);
  });

  it('warns of a plugin that an upgrade has left behind', async () => {
    const { version } = JSON.parse(readFileSync(join(checkoutFolder, 'package.json'), 'utf8')) as {
      version: string;
    };
    const bytes = readFileSync(join(built, NAME));
    const at = bytes.indexOf(`\0${version}\0`);
    expect(at, 'the plugin says its version').to.be.above(0);
    bytes.write(version.replaceAll(/\d/g, '9'), at + 1);
    writeFileSync(join(plugins, NAME), bytes);
    const { found } = await examine();
    const finding = found['plugin podheitor-hyperv'];
    expect(finding?.verdict).to.equal('warn');
    expect(finding?.detail).to.contain(`of another release than this program, ${version}`);
  });

  it('refuses a link, as the daemon does, and misses a backend', async () => {
    symlinkSync(join(built, NAME), join(plugins, NAME));
    rmSync(join(plugins, 'podheitor-hyperv-backend'));
    const { found } = await examine();
    expect(found['plugin podheitor-hyperv']?.detail).to.contain('is a link');
    const places = `there is no ${join(plugins, 'podheitor-hyperv-backend')} and no /usr/lib/podheitor/`;
    expect(found['backend']?.detail).to.contain(places);
  });

  it('says when the daemon loads no plugins, or the file is not of one', async () => {
    configured('');
    const file = work.file('bacula-fd.conf');
    expect((await examine()).found[file]?.detail).to.contain('names no Plugin Directory');
    writeFileSync(file, 'Storage { Name = sd }\n');
    expect((await examine()).found[file]?.detail).to.contain('no FileDaemon resource');
    rmSync(file);
    expect((await examine()).found[file]?.detail).to.match(/^E_NOT_FOUND: /);
  });
});
