// The set-up for Windows under Wine, from the first installation to the last: what it lays down, upgrades, what happens
// when a step fails, and removal. Stand-ins of a few kilobytes take the place of the product, so that releases can be told
// apart, and one can be broken; windows-install.test.ts installs the real one.

import {
  chmodSync,
  chownSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { expect } from 'chai';
import { checkoutFolder } from '../support/checkout.js';
import { needTool, skipBecause } from '../support/need.js';
import { expectTool, type ToolRun } from '../support/run-tool.js';
import { compileForWindows, needWine, WinePrefix } from '../support/wine.js';
import { holdServices } from '../support/wine-services.js';
import { WorkFolder } from '../support/work-folder.js';

const PROGRAMS = 'Program Files/PodHeitor/HyperV';
const BACULA = 'Program Files/Bacula';
const CONFIG = 'ProgramData/PodHeitor';
const KEY = 'HKLM\\Software\\PodHeitor\\HyperV';
const SERVICE = 'HKLM\\SYSTEM\\CurrentControlSet\\Services\\PodHeitorReceiver';
const SESSION_MANAGER = 'HKLM\\SYSTEM\\CurrentControlSet\\Control\\Session Manager';
const ENVIRONMENT = `${SESSION_MANAGER}\\Environment`;
const STAND_IN = join(checkoutFolder, 'test', 'support', 'windows-service', 'child.c');
const SIDE_FILES = ['native/koffi.node', 'powershell/host.ps1'];

function filesBelow(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => !statSync(join(folder, name)).isDirectory())
    .sort();
}

/** Of product.md: what is always there, and what a component adds. */
const REQUIRED = [
  ...['podheitor-hyperv-backend.exe', 'hvdr.exe', 'phsvc.exe', 'uninstall.exe', ...SIDE_FILES],
  ...['README.md', 'MANUAL.txt', 'LICENSE.txt', 'THIRD-PARTY-LICENCES.txt', 'bacula/LICENSE.txt'],
  ...['bacula/podheitor-hyperv-fd.dll'],
  ...filesBelow(join(checkoutFolder, 'deploy', 'bacula')).map((name) => `examples/${name}`),
  ...['config/receiver.conf', 'config/agent.conf', 'config/backend.conf'],
];
const CONVERSION = ['bacula/podheitor-vsphere-fd.dll', 'bacula/podheitor-proxmox-fd.dll'];
const DOCUMENTATION = [
  ...filesBelow(join(checkoutFolder, 'docs')).filter((name) => name.endsWith('.md')),
  ...['CHANGELOG.md', 'SECURITY.md'],
].map((name) => `docs/${name}`);
const PLUGIN = ['podheitor-hyperv-fd.dll', 'podheitor-hyperv-backend.exe', ...SIDE_FILES];

describe('the set-up for Windows', () => {
  const work = new WorkFolder('windows-setup');
  let prefix: WinePrefix;

  before(async function () {
    needWine(this);
    needTool(this, 'makensis', 'osslsigncode', 'openssl');
    await buildSetup('1.0.0', 'first');
    await buildSetup('2.0.0', 'second');
    await buildSetup('3.0.0', 'broken');
  });

  after(() => {
    work.dispose();
  });

  it('has the same bytes whenever it is built, with plugins and service host', async () => {
    await packWindows('1.0.0', work.file('programs-1.0.0'), work.file('again'));
    const names = filesBelow(work.file('out-1.0.0'));
    const programs = [
      ...['phsvc.exe', 'podheitor-hyperv-backend.exe', 'LICENSE.txt', 'THIRD-PARTY-LICENCES.txt'],
      ...SIDE_FILES,
    ];
    expect(names).to.have.members([
      ...['SHA256SUMS', 'podheitor-hvdr-1.0.0-setup.exe'],
      ...[...programs, ...CONVERSION, 'bacula/podheitor-hyperv-fd.dll'].map(
        (name) => `windows-x64/${name}`,
      ),
    ]);
    expect(filesBelow(work.file('again'))).to.deep.equal(names);
    for (const name of names) {
      const [one, two] = ['out-1.0.0', 'again'].map((at) =>
        readFileSync(work.file(join(at, name))),
      );
      expect(one?.equals(two ?? Buffer.alloc(0)), name).to.equal(true);
    }
  });

  it('is signed with all its programs when a key is given', async () => {
    const [key, certificate] = [work.file('sign.key'), work.file('sign.pem')];
    await expectTool('openssl', [
      ...['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=Test'],
      ...['-addext', 'extendedKeyUsage=codeSigning', '-keyout', key, '-out', certificate],
    ]);
    const signing = ['--sign-certificate', certificate, '--sign-key', key];
    await packWindows('1.0.0', work.file('out-1.0.0/windows-x64'), work.file('signed'), ...signing);
    const programs = filesBelow(work.file('signed')).filter((name) => /\.(exe|dll)$/.test(name));
    expect(programs).to.have.length.at.least(6);
    for (const name of programs) {
      const file = work.file(join('signed', name));
      const run = await expectTool('osslsigncode', ['verify', '-CAfile', certificate, '-in', file]);
      expect(run.text + run.stderr, name).to.contain('Signature verification: ok');
    }
  });

  const setupFile = (release: string): string =>
    work.file(`out-${release}/podheitor-hvdr-${release}-setup.exe`);

  /** A set-up of a release whose program is a stand-in; plugins and service host are built once. */
  async function buildSetup(release: string, name: string): Promise<void> {
    const programs = work.file(`programs-${release}`);
    if (release !== '1.0.0')
      cpSync(work.file('out-1.0.0/windows-x64'), programs, { recursive: true });
    for (const file of SIDE_FILES) {
      mkdirSync(dirname(join(programs, file)), { recursive: true });
      writeFileSync(join(programs, file), `${file} of ${name}\n`);
    }
    const program = join(programs, 'podheitor-hyperv-backend.exe');
    await compileForWindows(program, [STAND_IN], [`-DRELEASE="${name}"`]);
    await packWindows(release, programs, work.file(`out-${release}`));
  }

  async function packWindows(
    release: string,
    programs: string,
    folder: string,
    ...words: string[]
  ): Promise<void> {
    await expectTool(process.execPath, [
      ...[join(checkoutFolder, 'bin', 'bootstrap.mjs'), 'package', '--only', 'windows'],
      ...['--out', folder, '--release', release, '--programs', programs, '--compress', 'off'],
      ...words,
    ]);
  }

  /** Runs a set-up as an administrator does in a script; unquoted, as /D= wants it. */
  function setup(release: string, words = ''): Promise<ToolRun> {
    const at = prefix.file(`setup-${release}.exe`);
    copyFileSync(setupFile(release), at);
    return batch(`C:\\setup-${release}.exe /S ${words}`);
  }

  /** A command line exactly as it is written. */
  function batch(line: string): Promise<ToolRun> {
    writeFileSync(prefix.file('run.bat'), `@${line}\r\n@exit %ERRORLEVEL%\r\n`);
    return prefix.run(prefix.file('windows/system32/cmd.exe'), ['/c', 'C:\\run.bat']);
  }

  async function expectSetup(release: string, words = ''): Promise<void> {
    const run = await setup(release, words);
    expect(run.code, said()).to.equal(0);
  }

  const uninstall = (folder = 'C:\\Program Files\\PodHeitor\\HyperV'): Promise<ToolRun> =>
    batch(`"${folder}\\uninstall.exe" /S _?=${folder}`);

  /** What the set-up wrote for people. */
  function said(): string {
    const users = prefix.file('users');
    const logs = readdirSync(users)
      .map((user) => join(users, user, 'Temp', 'podheitor-setup.log'))
      .filter((path) => existsSync(path))
      .map((path) => readFileSync(path, 'utf8'));
    return logs.join('');
  }

  const filesIn = (folder: string): string[] => filesBelow(prefix.file(folder));

  const phsvc = (...words: string[]): Promise<ToolRun> =>
    prefix.run(prefix.file(`${PROGRAMS}/phsvc.exe`), words);
  const receiverLog = (): string =>
    readFileSync(prefix.file(`${CONFIG}/log/receiver.log`), 'utf8').replaceAll('\r', '');

  async function registry(key: string, value: string): Promise<string | undefined> {
    const words = ['query', key, '/v', value, '/reg:64'];
    const run = await prefix.run(prefix.file('windows/system32/reg.exe'), words);
    return new RegExp(`${value}\\s+REG_\\w+\\s+(.*?)\\r?$`, 'm').exec(run.text)?.[1];
  }

  async function fileDaemon(): Promise<void> {
    mkdirSync(prefix.file(BACULA), { recursive: true });
    const path = '"C:\\Program Files\\Bacula\\bacula-fd.exe" /service -c "C:\\bacula-fd.conf"';
    await prefix.expect(prefix.file('windows/system32/reg.exe'), [
      ...['add', 'HKLM\\SYSTEM\\CurrentControlSet\\Services\\Bacula-fd'],
      ...['/v', 'ImagePath', '/t', 'REG_EXPAND_SZ', '/d', path, '/f'],
    ]);
  }

  describe('run under Wine', function () {
    // Wine on a busy machine now and then fails to start a child (error 1359); each try has a Windows of its own
    this.retries(2);

    beforeEach(async () => {
      prefix = await WinePrefix.create();
      await holdServices(prefix);
    });

    afterEach(async () => {
      await prefix.dispose();
    });

    it('lays down what the product has, and no more', async () => {
      await expectSetup('1.0.0');
      expect(filesIn(PROGRAMS)).to.have.members([...REQUIRED, ...DOCUMENTATION]);
      expect(filesIn(CONFIG)).to.deep.equal(['agent.conf', 'backend.conf', 'receiver.conf']);
      expect(existsSync(prefix.file(`${CONFIG}/keys`))).to.equal(true);
      expect((await phsvc('state', 'PodHeitorReceiver')).code, 'no service was asked for').to.equal(
        3,
      );
      expect(said()).to.contain('no File Daemon was found');
      const key = 'HKLM\\Software\\Microsoft\\Windows\\CurrentVersion\\Uninstall\\PodHeitorHyperV';
      expect(await registry(key, 'DisplayVersion')).to.equal('1.0.0');
      expect(await registry(key, 'QuietUninstallString')).to.equal(
        '"C:\\Program Files\\PodHeitor\\HyperV\\uninstall.exe" /S',
      );
    });

    it('takes components and a folder with blanks, and refuses names that it does not know', async () => {
      const folder = 'C:\\Disaster Recovery\\of ours';
      await expectSetup('1.0.0', `/COMPONENTS=conversion /D=${folder}`);
      expect(filesIn('Disaster Recovery/of ours')).to.have.members([...REQUIRED, ...CONVERSION]);
      expect(await registry(KEY, 'Components')).to.equal('conversion');
      const wrong = await setup('1.0.0', '/COMPONENTS=receiver,plugin');
      expect(wrong.code).to.equal(2);
      expect(said()).to.contain('wrong usage: /COMPONENTS=');
      const nowhere = await setup('1.0.0', '/BACULA=C:\\nowhere');
      expect(nowhere.code).to.equal(2);
      expect((await uninstall(folder)).code).to.equal(0);
      expect(filesIn('Disaster Recovery')).to.deep.equal(['of ours/uninstall.exe']);
    });

    it("puts the plugin and its backend where the File Daemon's service is", async () => {
      await fileDaemon();
      await expectSetup('1.0.0', '/COMPONENTS=conversion');
      const conversion = CONVERSION.map((name) => name.replace('bacula/', ''));
      expect(filesIn(`${BACULA}/plugins`)).to.have.members([...PLUGIN, ...conversion]);
      writeFileSync(prefix.file(`${BACULA}/plugins/other-fd.dll`), 'of somebody else');
      await expectSetup('2.0.0', '/COMPONENTS=none');
      expect(filesIn(`${BACULA}/plugins`)).to.have.members([...PLUGIN, 'other-fd.dll']);
      expect(readFileSync(prefix.file(`${BACULA}/plugins/native/koffi.node`), 'utf8')).to.equal(
        'native/koffi.node of second\n',
      );
      expect((await uninstall()).code).to.equal(0);
      expect(filesIn(BACULA)).to.deep.equal(['plugins/other-fd.dll']);
    });

    it('upgrades what is there: same components, configuration kept, the service runs on the new program', async () => {
      await expectSetup('1.0.0', '/COMPONENTS=receiver');
      expect((await phsvc('state', 'PodHeitorReceiver')).code, 'it is not started yet').to.equal(4);
      expect((await phsvc('start', 'PodHeitorReceiver')).code).to.equal(0);
      writeFileSync(prefix.file(`${CONFIG}/receiver.conf`), 'store=D:\\dr\n');
      await expectSetup('2.0.0');
      expect((await phsvc('state', 'PodHeitorReceiver')).code, said()).to.equal(0);
      expect(receiverLog()).to.match(/release first[^]*ending well[^]*release second/);
      expect(receiverLog()).to.contain(
        'word <--config>\nword <C:\\ProgramData\\PodHeitor\\receiver.conf>\nword <--stop-on-stdin-close>\n',
      );
      expect(readFileSync(prefix.file(`${CONFIG}/receiver.conf`), 'utf8')).to.equal(
        'store=D:\\dr\n',
      );
      expect(await registry(KEY, 'Version')).to.equal('2.0.0');
      expect(await registry(KEY, 'Components')).to.equal('receiver');
      expect(await registry(ENVIRONMENT, 'Path')).to.match(
        /^%SystemRoot%\\system32;[^]*;C:\\Program Files\\PodHeitor\\HyperV$/,
      );
      expect(filesIn(PROGRAMS)).to.have.members(REQUIRED);
      // the service that is not wanted any more goes
      await expectSetup('2.0.0', '/COMPONENTS=agent');
      expect((await phsvc('state', 'PodHeitorReceiver')).code).to.equal(3);
      expect((await phsvc('state', 'PodHeitorAgent')).code).to.equal(4);
    });

    it('is undone when the service does not run with the new program', async () => {
      await fileDaemon();
      await expectSetup('1.0.0', '/COMPONENTS=receiver');
      expect((await phsvc('start', 'PodHeitorReceiver')).code).to.equal(0);
      // what an administrator made of it, and what an earlier run left
      const line = (await registry(SERVICE, 'ImagePath')) ?? '';
      await batch(
        `"C:\\${PROGRAMS.replaceAll('/', '\\')}\\phsvc.exe" restore PodHeitorReceiver ` +
          `"Receiver of ours" -- ${line} --verbose`,
      );
      writeFileSync(prefix.file(`${PROGRAMS}/README.md.former`), 'of an earlier run');
      const [before, image] = [contentsOf(), await registry(SERVICE, 'ImagePath')];
      const run = await setup('3.0.0', '/COMPONENTS=receiver,agent,conversion');
      expect(run.code).to.equal(1);
      expect(said()).to.contain('PodHeitorReceiver does not run with the new files');
      const left = `${PROGRAMS}/README.md.former`;
      expect(existsSync(prefix.file(left))).to.equal(false);
      expect({ ...contentsOf(), [left]: before[left] }).to.deep.equal(before);
      expect(image).to.match(/--verbose$/);
      expect(await registry(SERVICE, 'ImagePath')).to.equal(image);
      expect(await registry(SERVICE, 'DisplayName')).to.equal('Receiver of ours');
      expect((await phsvc('state', 'PodHeitorReceiver')).code, said()).to.equal(0);
      expect((await phsvc('state', 'PodHeitorAgent')).code, 'it was not there before').to.equal(3);
      expect(receiverLog()).to.match(/release first[^]*ending well[^]*release first/);
      expect(await registry(KEY, 'Version')).to.equal('1.0.0');
    });

    it('is undone when a file cannot be replaced', async () => {
      await expectSetup('1.0.0', '/COMPONENTS=receiver');
      expect((await phsvc('start', 'PodHeitorReceiver')).code).to.equal(0);
      writeFileSync(prefix.file(`${PROGRAMS}/MANUAL.txt.former`), 'of an earlier run');
      writeFileSync(prefix.file(`${PROGRAMS}/phsvc.exe.former`), 'of an earlier run');
      const release = await hold('README.md');
      const before = contentsOf();
      const run = await setup('2.0.0', '/COMPONENTS=receiver,documentation');
      expect(run.code).to.equal(1);
      expect(said()).to.contain('README.md cannot be replaced');
      // files that the run came to have their former content; what it did not come to is as it was
      const isLeft = (name: string): boolean => name.endsWith('.former');
      const settled = Object.entries(contentsOf()).filter(([name]) => !isLeft(name));
      expect(settled).to.deep.equal(Object.entries(before).filter(([name]) => !isLeft(name)));
      expect((await phsvc('state', 'PodHeitorReceiver')).code, said()).to.equal(0);
      await release();
      await expectSetup('2.0.0');
      expect(await registry(KEY, 'Version')).to.equal('2.0.0');
    });

    it('changes nothing when its files cannot be unpacked', async () => {
      await expectSetup('1.0.0');
      writeFileSync(prefix.file(`${PROGRAMS}/.new`), 'a file in the place of the folder');
      const before = contentsOf();
      expect((await setup('2.0.0')).code).to.equal(1);
      expect(said()).to.contain('not all files could be unpacked; nothing was changed');
      expect(contentsOf()).to.deep.equal(before);
      expect(await registry(KEY, 'Version')).to.equal('1.0.0');
    });

    /** Keeps a program file from being replaced or removed; returns how that ends. */
    async function hold(name: string): Promise<() => Promise<void>> {
      const holder = prefix.file('hold.exe');
      await compileForWindows(holder, [STAND_IN]);
      const held = prefix.spawn(holder, ['hold', `C:\\${PROGRAMS.replaceAll('/', '\\')}\\${name}`]);
      await new Promise((resolve) => held.stdout.once('data', resolve));
      return async () => {
        held.stdin.end();
        await new Promise((resolve) => held.once('close', resolve));
      };
    }

    it('uses nothing that another account has laid into its folder for configuration', async function () {
      if (process.getuid?.() !== 0) skipBecause(this, 'only root makes files of another account');
      const planted = ['agent.conf', 'keys/evil.psk', 'store/deep/vms.json'];
      for (const name of planted) {
        const file = prefix.file(`${CONFIG}/${name}`);
        mkdirSync(dirname(file), { recursive: true });
        writeFileSync(file, 'planted');
        chownSync(file, 65534, 65534);
      }
      chmodSync(prefix.file(CONFIG), 0o777);
      // nothing in a store is renamed: with a hole it would be served as if it were whole
      expect((await setup('1.0.0')).code).to.equal(1);
      expect(said()).to.match(/vms\.json: it belongs to another account[^]*nothing was changed/);
      expect(filesIn(CONFIG)).to.have.members(planted);
      rmSync(prefix.file(`${CONFIG}/store`), { recursive: true });
      await expectSetup('1.0.0');
      expect(filesIn(CONFIG)).to.have.members([
        ...['agent.conf', 'backend.conf', 'receiver.conf', 'agent.conf.set-aside-1'],
        'keys/evil.psk.set-aside-1',
      ]);
      expect(readFileSync(prefix.file(`${CONFIG}/agent.conf`), 'utf8')).to.contain('host=hyperv');
      expect(said()).to.match(/NOTE: .*\\agent\.conf belonged to another account and is not used/);
      expect(statSync(prefix.file(CONFIG)).mode & 0o007, 'for nobody else').to.equal(0);
      // what is ours stays, and what was set aside is let alone
      writeFileSync(prefix.file(`${CONFIG}/agent.conf`), 'vm=*');
      const before = filesIn(CONFIG);
      await expectSetup('2.0.0');
      expect(filesIn(CONFIG)).to.deep.equal(before);
      expect(readFileSync(prefix.file(`${CONFIG}/agent.conf`), 'utf8')).to.equal('vm=*');
      // a service that is there goes on with no other configuration than its own
      await expectSetup('2.0.0', '/COMPONENTS=agent');
      chownSync(prefix.file(`${CONFIG}/agent.conf`), 65534, 65534);
      expect((await setup('2.0.0')).code).to.equal(1);
      expect(filesIn(CONFIG)).to.deep.equal(before);
      expect(said()).to.match(/agent\.conf: it belongs to another account/);
    });

    it('takes no folder for its programs where another account has laid something', async function () {
      if (process.getuid?.() !== 0) skipBecause(this, 'only root makes files of another account');
      mkdirSync(prefix.file('tools'));
      chmodSync(prefix.file('tools'), 0o777);
      await expectSetup('1.0.0', '/D=C:\\tools');
      expect(statSync(prefix.file('tools')).mode & 0o002, 'nobody else writes there').to.equal(0);
      writeFileSync(prefix.file('tools/version.dll'), 'planted');
      chownSync(prefix.file('tools/version.dll'), 65534, 65534);
      const before = filesIn('tools');
      expect((await setup('2.0.0', '/D=C:\\tools')).code).to.equal(1);
      expect(said()).to.match(/version\.dll: it belongs to another account[^]*nothing was changed/);
      expect(filesIn('tools')).to.deep.equal(before);
      expect(await registry(KEY, 'Version')).to.equal('1.0.0');
    });

    it('gives no plugin to a File Daemon whose folder users may change', async () => {
      await fileDaemon();
      chmodSync(prefix.file(BACULA), 0o777);
      expect((await setup('1.0.0')).code).to.equal(1);
      expect(said()).to.match(/users may change C:\\Program Files\\Bacula[^]*nothing was changed/);
      expect(filesIn(PROGRAMS)).to.deep.equal([]);
      await expectSetup('1.0.0', '/BACULA=none');
      expect(filesIn(BACULA)).to.deep.equal([]);
    });

    it('remembers where the plugin was put, also that it is not wanted', async () => {
      mkdirSync(prefix.file('Backup/Bacula'), { recursive: true });
      await expectSetup('1.0.0', '/BACULA=C:\\Backup\\Bacula');
      await fileDaemon();
      await expectSetup('2.0.0');
      expect(filesIn('Backup/Bacula/plugins')).to.have.members(PLUGIN);
      expect(readFileSync(prefix.file('Backup/Bacula/plugins/native/koffi.node'), 'utf8')).to.equal(
        'native/koffi.node of second\n',
      );
      expect(filesIn(BACULA)).to.deep.equal([]);
      await expectSetup('2.0.0', '/BACULA=none');
      await expectSetup('2.0.0');
      expect(filesIn('Backup/Bacula')).to.deep.equal([]);
      expect(filesIn(BACULA)).to.deep.equal([]);
    });

    it('marks no name for removal at the next start of the machine that a later set-up gives to a file', async () => {
      await expectSetup('1.0.0');
      const runs = prefix.spawn(prefix.file(`${PROGRAMS}/hvdr.exe`), ['daemon']);
      await new Promise((resolve) => runs.stdout.once('data', resolve));
      await expectSetup('2.0.0');
      const pending = (await registry(SESSION_MANAGER, 'PendingFileRenameOperations')) ?? '';
      const names = pending.split('\\0').filter((name) => name !== '');
      expect(names.length, pending).to.be.above(0);
      for (const name of names)
        expect(name).to.match(/\\(hvdr|podheitor[^\\]*)\.exe\.[^\\]*\.old$/);
      const old = filesIn(PROGRAMS).filter((name) => name.endsWith('.old'));
      expect(old).to.have.length(names.length);
      // the second time in the same uptime, with the first program still running
      await expectSetup('1.0.0');
      expect(filesIn(PROGRAMS)).to.include.members(old);
      runs.stdin.end();
      await new Promise((resolve) => runs.once('close', resolve));
    });

    it('says which files stay when they cannot be removed', async () => {
      await expectSetup('1.0.0');
      const release = await hold('README.md');
      expect((await uninstall()).code).to.equal(1);
      expect(said()).to.match(/these stay:[^]*HyperV\\README\.md/);
      expect(said()).not.to.contain('removed; configuration');
      expect(filesIn(PROGRAMS)).to.have.members(['README.md', 'uninstall.exe']);
      await release();
    });

    /** Every file of ours with its content, but for the uninstaller, which Windows' clock gets into. */
    function contentsOf(): Record<string, string> {
      const folders = [PROGRAMS, `${BACULA}/plugins`];
      const names = folders.flatMap((folder) => filesIn(folder).map((name) => `${folder}/${name}`));
      return Object.fromEntries(
        names.map((name) => [name, readFileSync(prefix.file(name)).toString('base64')]),
      );
    }

    it('removes services, plugins and its own files, and keeps what people made', async () => {
      await fileDaemon();
      await expectSetup('1.0.0', '/COMPONENTS=receiver,agent,conversion,documentation');
      expect((await phsvc('start', 'PodHeitorReceiver')).code).to.equal(0);
      writeFileSync(prefix.file(`${CONFIG}/keys/site-a.psk`), 'key');
      writeFileSync(prefix.file(`${PROGRAMS}/notes.txt`), 'of an administrator');
      rmSync(prefix.file(`${PROGRAMS}/MANUAL.txt`));
      expect((await uninstall()).code, said()).to.equal(0);
      // the uninstaller itself stays when it is run in its place
      expect(filesIn(PROGRAMS)).to.have.members(['notes.txt', 'uninstall.exe']);
      expect(filesIn(BACULA)).to.deep.equal([]);
      expect(filesIn(CONFIG)).to.have.members([
        ...['receiver.conf', 'agent.conf', 'backend.conf', 'keys/site-a.psk', 'log/receiver.log'],
      ]);
      expect(await registry(ENVIRONMENT, 'Path')).to.match(
        /^%SystemRoot%\\system32;(?!.*PodHeitor)/,
      );
      const services = 'HKLM\\SYSTEM\\CurrentControlSet\\Services';
      expect(await registry(`${services}\\PodHeitorReceiver`, 'ImagePath')).to.equal(undefined);
      const events = `${services}\\EventLog\\Application\\PodHeitorReceiver`;
      expect(await registry(events, 'EventMessageFile')).to.equal(undefined);
      expect(await registry(KEY, 'InstallDir')).to.equal(undefined);
    });
  });
});
