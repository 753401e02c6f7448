// The plugin in C, in a host that calls it as a File Daemon does, against a backend that follows a
// script: both layouts and every kind of job.

import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { RESTORE_OPTIONS } from '../../plugin-bridge/restore/ports.js';
import {
  AdapterRig,
  type AdapterRun,
  COMMAND,
  DISK,
  fileLines,
  GREETING,
  PARTING,
  SMALL,
} from '../support/adapter-rig.js';
import { checkoutFolder } from '../support/checkout.js';
import { findTool, needTool } from '../support/need.js';
import { expectTool } from '../support/run-tool.js';
import { WorkFolder } from '../support/work-folder.js';

/** What a File Daemon says that it loaded; it is ended with the third of them, or ends by itself. */
function pluginsLoadedBy(daemon: string, config: string): Promise<string[]> {
  return new Promise((resolve, reject) => {
    const child = spawn(daemon, ['-f', '-d', '150', '-c', config]);
    let said = '';
    const listen = (chunk: Buffer): void => {
      said += chunk.toString();
      if (loaded().length >= 3) child.kill('SIGKILL');
    };
    const loaded = (): string[] =>
      Array.from(said.matchAll(/Loaded plugin: (\S+)/g), ([, name = '']) => name);
    child.stdout.on('data', listen);
    child.stderr.on('data', listen);
    child.on('error', reject);
    child.on('close', () => {
      resolve(loaded());
    });
  });
}

describe('the plugin of the File Daemon', function () {
  let rig: AdapterRig;
  let plugin: string;

  before(async function () {
    needTool(this, 'gcc');
    rig = await AdapterRig.build('linux');
    plugin = await rig.plugin();
  });

  after(() => {
    rig.dispose();
  });

  const backup = (loop: readonly string[], ...args: string[]): Promise<AdapterRun> =>
    rig.run(plugin, [...GREETING, ...loop], ['14', 'backup', COMMAND, ...args]);
  const status = (run: AdapterRun): unknown => run.all('end')[0]?.['status'];

  describe('loading', () => {
    for (const [version, size] of [
      [14, 128],
      [21, 144],
      [22, 152],
      [23, 168],
    ]) {
      it(`answers interface version ${String(version)} with that version and its table`, async () => {
        const run = await rig.run(plugin, undefined, [String(version), 'load']);
        expect(run.seen[0]).to.include({
          ...{ rc: 0, version, functionsSize: size, infoSize: 56 },
          ...{ magic: '*FDPluginData*', license: 'AGPLv3' },
        });
      });
    }

    it('refuses a version that nobody measured', async () => {
      for (const version of ['13', '20', '24', '0']) {
        const run = await rig.run(plugin, undefined, [version, 'load']);
        expect(run.seen[0]?.['rc'], version).to.equal(2);
      }
    });

    it('counts names of its namespace as seen, and no others', async () => {
      const run = await rig.run(plugin, undefined, ['23', 'load']);
      expect(run.seen[0]).to.include({ seen: 5, seenBare: 5, other: 0 });
    });

    it('exports the two symbols that a daemon looks for and nothing else', async function () {
      needTool(this, 'nm');
      const work = new WorkFolder('adapter-exports');
      try {
        const script = join(checkoutFolder, 'bin', 'build-adapter.mjs');
        const args = ['--platform', 'linux', '--folder', work.path];
        const built = await expectTool(process.execPath, [script, ...args]);
        const paths = built.text.trim().split('\n');
        expect(paths).to.have.length(3);
        for (const path of paths) {
          const names = await expectTool('nm', ['-D', '--defined-only', path]);
          expect(names.text.match(/\S+$/gm), path).to.deep.equal(['loadPlugin', 'unloadPlugin']);
        }
        const first = readFileSync(paths[0] ?? '');
        await expectTool(process.execPath, [script, ...args]);
        expect(readFileSync(paths[0] ?? '').equals(first), 'the same bytes again').to.equal(true);
      } finally {
        work.dispose();
      }
    });

    it('is loaded by the real File Daemon under its three names', async function () {
      needTool(this, 'bacula-fd');
      const work = new WorkFolder('adapter-fd');
      try {
        const script = join(checkoutFolder, 'bin', 'build-adapter.mjs');
        await expectTool(process.execPath, [script, '--platform', 'linux', '--folder', work.path]);
        writeFileSync(
          work.file('fd.conf'),
          'Director { Name = d; Password = "x" }\n' +
            'FileDaemon { Name = f; FDport = 39103; FDAddress = 127.0.0.1; ' +
            `WorkingDirectory = ${work.path}; Pid Directory = ${work.path}; ` +
            `Plugin Directory = ${work.path} }\n` +
            'Messages { Name = Standard; director = d = all }\n',
        );
        const loaded = await pluginsLoadedBy(findTool('bacula-fd') ?? '', work.file('fd.conf'));
        expect(loaded).to.have.members([
          ...['podheitor-hyperv-fd.so', 'podheitor-proxmox-fd.so', 'podheitor-vsphere-fd.so'],
        ]);
      } finally {
        work.dispose();
      }
    });
  });

  describe('a backup', () => {
    for (const version of ['14', '21', '22', '23']) {
      it(`hands files, attributes and objects to the core of version ${version}`, async () => {
        const script = [
          ...GREETING,
          ...['line RESTOREOBJ:conf', 'line RESTOREOBJ_LEN:5', 'data 5 r', 'say F'],
          ...['line PLUGINOBJ:/@hyperv/SQL01', 'line PLUGINOBJ_CAT:Virtual Machine'],
          ...['line PLUGINOBJ_NAME:SQL01', 'line PLUGINOBJ_SIZE:300000', 'say F'],
          ...[...SMALL, 'line ACL', 'data 9 a', 'say F', 'line FileIndex', 'take'],
          ...[...DISK, 'line DATA', 'data 200000 d', 'say I half', 'data 100000 d', 'say F'],
          ...['line XATTR', 'data 3 y', 'say F'],
          ...[...fileLines('/@hyperv/SQL01/empty', 'E 0 0 0 100600 1'), 'say F'],
          ...[...fileLines('/@hyperv/SQL01/', 'D 0 0 0 40755 1'), 'say F', 'say F', ...PARTING],
        ];
        const run = await rig.run(plugin, script, [version, 'backup', COMMAND]);
        const files = run.all('file').map((file) => [file['name'], file['type'], file['size']]);
        expect(files).to.deep.equal([
          ['RestoreOptions', 27, 0],
          ['conf', 25, 0],
          ...(Number(version) >= 22 ? [['/@hyperv/SQL01', 29, 0]] : []),
          ['/@hyperv/SQL01/config/vm.json', 3, 12],
          ['/@hyperv/SQL01/disks/x.vhdx', 3, 300000],
          ['/@hyperv/SQL01/empty', 2, 0],
          ['/@hyperv/SQL01/', 5, 0],
        ]);
        expect(run.all('file')[1]).to.include({ objectName: 'conf', object: 'rrrrr' });
        const contents = run.all('content');
        expect(contents[0]).to.include({ bytes: 12, status: 0, fill: 'c' });
        expect(contents[1]).to.include({ bytes: 300000, status: 0, fill: 'd' });
        expect(run.all('acl')[0]).to.include({ text: 'aaaaaaaaa' });
        expect(run.all('xattr')[0]).to.include({ text: 'yyy' });
        expect(run.messages('info')).to.deep.equal(['half']);
        expect(run.log.slice(-3)).to.deep.equal(['C 5', 'C END', 'T ']);
        expect(status(run)).to.equal('R');
      });
    }

    it('tells the backend the job, and the parameters as they were meant', async () => {
      const command = String.raw`podheitor-hyperv:  vm="SQL \"1\" ä€😀" path=D:\\x\ y flag a=b=c,# empty= ''`;
      const args = ['--level', 'I', '--since', '1795444083', '--accurate', '--previous', 'old'];
      const script = [...GREETING, ...SMALL, 'say F', ...PARTING];
      const run = await rig.run(plugin, script, ['23', 'backup', command, ...args]);
      expect(run.log).to.deep.equal([
        ...[
          'inherits 0',
          'C Hello podheitor-hyperv 4',
          'C Job',
          'C Name=job.2026-11-26_20.00.00_01',
        ],
        ...['C JobID=7', 'C Type=B', 'C Level=I', 'C Since=1795444083', 'C Namespace=@hyperv'],
        ...['C PrevJobName=old', 'C WorkingDir=/var/dir', 'C SysconfigPath=/etc/core/'],
        ...['C ExePath=/usr/sbin/', 'F ', 'C Params', 'C vm=SQL "1" ä€😀', 'C path=D:\\x y'],
        ...['C flag=1', 'C a=b=c,#', 'C empty=', "C ''=1", 'C Accurate=1', 'F ', 'C BackupStart'],
        ...['C END', 'T '],
      ]);
    });

    it('refuses a command whose quotes or backslashes are open', async () => {
      for (const command of ['podheitor-hyperv: vm="SQL', 'podheitor-hyperv: vm=SQL\\']) {
        const run = await rig.run(plugin, GREETING, ['14', 'backup', command]);
        expect(run.messages('fatal'), command).to.have.length(1);
        expect(run.log).to.deep.equal([]);
      }
    });

    it('starts one backend before its turn, and ends it without a word when the job ends before', async () => {
      const early = await rig.run(plugin, ['wait'], ['14', 'backup', COMMAND, '--idle']);
      expect(early.log).to.deep.equal(['inherits 0', 'SIGUSR1']);
      expect(early.seen.filter(({ what }) => what === 'message')).to.deep.equal([]);
      const used = await backup([...SMALL, 'say F', ...PARTING]);
      expect(used.log.filter((line) => line.startsWith('inherits'))).to.have.length(1);
    });

    it('starts a backend for each Plugin line, and refuses the same line twice', async () => {
      const script = [...GREETING, ...SMALL, 'say F', ...PARTING];
      const two = await rig.run(plugin, script, ['14', 'backup', COMMAND, `${COMMAND} x=1`]);
      expect(two.all('content')).to.have.length(2);
      expect(two.log.filter((line) => line === 'C END')).to.have.length(2);
      const twice = await rig.run(plugin, script, ['14', 'backup', COMMAND, COMMAND]);
      expect(twice.messages('fatal').join()).to.contain('twice');
    });

    it('passes over content and attributes that the core does not read', async () => {
      const run = await backup([
        ...[
          ...fileLines('/@hyperv/SQL01/', 'D 0 0 0 40755 1'),
          'say F',
          'line ACL',
          'data 3 a',
          'say F',
        ],
        ...[
          ...fileLines('/@hyperv/SQL01/e', 'E 0 0 0 100600 1'),
          'line DATA',
          'data 70000 e',
          'say F',
        ],
        ...[...SMALL, 'say F', ...PARTING],
      ]);
      expect(run.all('file').slice(1)).to.have.length(3);
      expect(run.messages('fatal')).to.deep.equal([]);
    });

    it('runs two jobs at once, each with its own backend', async () => {
      const loop = [...DISK, 'line DATA', 'data 900000 d', 'data 900000 d', 'say F', 'say F'];
      const run = await backup([...loop, ...PARTING], '--jobs', '2');
      const contents = run.all('content').map((line) => [line.job, line['bytes'], line['fill']]);
      expect(contents.sort()).to.deep.equal([
        [0, 1_800_000, 'd'],
        [1, 1_800_000, 'd'],
      ]);
      expect(run.log.filter((line) => line === 'T ')).to.have.length(2);
    });

    it('warns loudly when a backend had nothing to save', async () => {
      const run = await backup(['say F', ...PARTING]);
      expect(run.all('call').at(-1)).to.include({ name: 'startBackupFile', rc: 9999 });
      expect(run.messages('error')).to.deep.equal(['the backend had nothing to save']);
    });

    it('logs every kind of message under its own class in both numberings', async () => {
      const says = ['Q q', 'W w', 'I i', 'S s', 'N n', 'P p', 'O o'].map((text) => `say ${text}`);
      for (const version of ['14', '23']) {
        const script = [...GREETING, ...says, ...SMALL, 'say F', ...PARTING];
        const run = await rig.run(plugin, script, [version, 'backup', COMMAND]);
        const kinds = run.all('message').map((line) => line['kind']);
        const wanted = ['error', 'warning', 'info', 'saved', 'notsaved', 'skipped', 'mount'];
        expect(kinds, version).to.deep.equal(wanted);
      }
    });
  });

  describe('an estimate, a listing and a query', () => {
    it('asks for attributes alone', async () => {
      const loop = [
        ...DISK,
        ...fileLines('/@hyperv/SQL01/', 'D 0 0 0 40755 1'),
        'say F',
        ...PARTING,
      ];
      const run = await rig.run(plugin, [...GREETING, ...loop], ['14', 'estimate', COMMAND]);
      expect(run.all('file').map((file) => file['size'])).to.deep.equal([300000, 0]);
      expect(run.log).to.include.members(['C Type=E', 'C EstimateStart', 'C END', 'T ']);
    });

    it('becomes a listing by its parameter; names are free there', async () => {
      const loop = [...fileLines('SQL01', 'D 0 0 0 40755 1'), 'say F', ...PARTING];
      const args = ['14', 'estimate', 'podheitor-hyperv: listing=/'];
      const run = await rig.run(plugin, [...GREETING, ...loop], args);
      expect(run.all('file').map((file) => file['name'])).to.deep.equal(['SQL01']);
      expect(run.log).to.include.members(['C listing=/', 'C ListingStart']);
    });

    it('answers a query line by line and says T without END', async () => {
      const script = [...GREETING, 'line vm=SQL01', 'line vm=SQL02,state=Running', 'say F', 'take'];
      const run = await rig.run(plugin, script, ['23', 'query', 'podheitor-hyperv:']);
      expect(run.all('answer').map((line) => line['text'])).to.deep.equal([
        'vm=SQL01\n',
        'vm=SQL02,state=Running\n',
      ]);
      expect(run.log).to.include('C query=vm');
      expect(run.log.slice(-2)).to.deep.equal(['C QueryStart', 'T ']);
    });
  });

  describe('a restore', () => {
    const FILES = [
      '--file',
      'F:/r/@hyperv/SQL01/d.vhdx:1200000',
      '--file',
      'E:/r/@hyperv/SQL01/e:0',
    ];
    const restore = (loop: readonly string[], ...args: string[]): Promise<AdapterRun> =>
      rig.run(plugin, [...GREETING, ...loop], ['14', 'restore', COMMAND, ...args]);

    for (const version of ['14', '23']) {
      it(`sends objects, attributes, gathered data and ACLs from version ${version}`, async () => {
        const loop = [
          'until',
          'line OK',
          'until',
          'line OK',
          'until',
          'line OK',
          'until',
          'line OK',
        ];
        const more = ['until', 'line OK', 'until', 'line OK', 'until FINISH', 'say F', ...PARTING];
        const args = ['--where', '/r', '--object', 'conf:bytes', '--acl', 'acl', ...FILES];
        const script = [...GREETING, ...loop, ...more];
        const run = await rig.run(plugin, script, [version, 'restore', COMMAND, ...args]);
        const start = run.log.indexOf('C RestoreStart');
        expect(run.log.slice(start + 1)).to.deep.equal([
          ...['C RESTOREOBJ:conf', 'C RESTOREOBJ_LEN:5', 'D bytes', 'F '],
          'C FNAME:/r/@hyperv/SQL01/d.vhdx',
          ...['C STAT:F 1200000 0 0 100600 1 0', 'C TSTAMP:0 1795444060 0', 'F ', 'C DATA'],
          ...['D 524288 of x', 'D 524288 of x', 'D 151424 of x', 'F ', 'C ACL', 'D acl', 'F '],
          ...['C FNAME:/r/@hyperv/SQL01/e', 'C STAT:E 0 0 0 100600 1 0', 'C TSTAMP:0 1795444060 0'],
          ...['F ', 'C ACL', 'D acl', 'F ', 'C FINISH', 'C END', 'T '],
        ]);
        expect(run.log).to.include.members(['C Type=R', 'C Where=/r', 'C Replace=a']);
        expect(run.log.filter((line) => line.startsWith('C Level'))).to.deep.equal([]);
        expect(run.all('restored').map((file) => file['created'])).to.deep.equal([3, 4]);
        expect(status(run)).to.equal('R');
      });
    }

    it('offers with each Full, and only there, what an operator may change', async () => {
      const script = [...GREETING, ...SMALL, 'say F', ...PARTING];
      const full = await rig.run(plugin, script, ['14', 'backup', COMMAND]);
      const offer = full.all('file')[0];
      expect(offer).to.include({ name: 'RestoreOptions', type: 27 });
      const keys = String(offer?.['object']).match(/^\w+(?==@STR@$)/gm);
      expect(keys).to.have.members([...RESTORE_OPTIONS]);
      const args = ['14', 'backup', COMMAND, '--level', 'I', '--since', '1795444083'];
      const incremental = await rig.run(plugin, script, args);
      expect(incremental.all('file')).to.have.length(1);
    });

    it('puts the answers of the operator into the place of the parameters of the backup', async () => {
      const answers = [
        ...['# Plugin configuration file', '# Version 1', 'OptPrompt="Register"', 'OptDefault="x"'],
        String.raw`new_vm_name="SQL \"2\" ä"`,
        ...['restore_path = /r/new ', 'dr_host=evil', 'mode=failover-permanent'],
        ...['network_map="Production=LAN 2,*=Spare"', ''],
      ];
      const command = 'podheitor-hyperv: vm=SQL01 new_vm_name=Old dr_host=dr';
      const loop = [...GREETING, 'until', 'line SKIP', 'until FINISH', 'say F', ...PARTING];
      for (const version of ['14', '23']) {
        const args = ['--answers', answers.join('\n'), ...FILES.slice(0, 2)];
        const run = await rig.run(plugin, loop, [version, 'restore', command, ...args]);
        const from = run.log.indexOf('C Params');
        expect(run.log.slice(from + 1, run.log.indexOf('F ', from))).to.deep.equal([
          ...['C vm=SQL01', 'C dr_host=dr', 'C new_vm_name=SQL "2" ä', 'C restore_path=/r/new'],
          ...['C network_map=Production=LAN 2,*=Spare'],
        ]);
      }
      for (const lost of ['new_vm_name="x', 'estoreOptions', '']) {
        const args = ['14', 'restore', COMMAND, '--answers', lost, ...FILES.slice(0, 2)];
        const refused = await rig.run(plugin, loop, args);
        expect(refused.messages('fatal').join(), lost).to.contain('Plugin Options');
      }
    });

    it('says Where empty when the operator asked for the root', async () => {
      const run = await restore(
        ['until', 'line SKIP', 'until FINISH', 'say F', ...PARTING],
        '--where',
        '/',
        ...FILES.slice(0, 2),
      );
      expect(run.log).to.include('C Where=');
    });

    it('skips a file, or leaves it to the core, as the backend says', async () => {
      const loop = [
        'until',
        'line SKIP',
        'until',
        'line CORE',
        'until FINISH',
        'say F',
        ...PARTING,
      ];
      const run = await restore(loop, ...FILES);
      expect(
        run.all('restored').map((file) => [file['created'], file['attributes']]),
      ).to.deep.equal([
        [1, 0],
        [5, 5],
      ]);
    });

    it('goes on with the next file after an E, commits the rest, and is red', async () => {
      const loop = [
        'until',
        'say E no room',
        'until',
        'line OK',
        'until FINISH',
        'say F',
        ...PARTING,
      ];
      const run = await restore(loop, ...FILES);
      expect(run.messages('warning')).to.deep.equal(['/r/@hyperv/SQL01/d.vhdx: no room']);
      // an error before the end, of the core or of ours, would keep FINISH from being said
      expect(run.messages('error')).to.deep.equal([]);
      expect(run.all('restored').map((file) => file['created'])).to.deep.equal([1, 4]);
      expect(run.log).to.include('C FINISH');
      expect(run.messages('fatal')).to.deep.equal([
        'the restore is not whole; errors that are told above as warnings: 1',
      ]);
    });

    it('makes an E after the data an error of that file', async () => {
      const loop = ['until', 'line OK', 'until', 'say E hash differs', 'until', 'line OK'];
      const run = await restore([...loop, 'until FINISH', 'say F', ...PARTING], ...FILES);
      expect(run.messages('warning')).to.deep.equal(['the data of a file: hash differs']);
      expect(run.all('restored')[0]).to.include({ created: 3, closed: 0 });
      expect(run.messages('fatal')).to.have.length(1);
    });

    it('makes an E fatal with abort_on_error', async () => {
      const script = [...GREETING, 'until', 'say E no room', 'wait'];
      const args = ['14', 'restore', `${COMMAND} abort_on_error`, ...FILES];
      const run = await rig.run(plugin, script, args);
      expect(run.messages('fatal')).to.have.length(1);
      expect(run.log).to.not.include('C FINISH');
    });

    it('makes the job red when FINISH is refused', async () => {
      for (const letter of ['A', 'E']) {
        const loop = ['until', 'line SKIP', 'until FINISH', `say ${letter} not verified`, 'wait'];
        const run = await restore(loop, ...FILES.slice(0, 2));
        expect(run.messages('fatal'), letter).to.deep.equal(['not verified']);
      }
    });

    it('never says FINISH to a job that is lost', async () => {
      for (const lost of ['A', 'f', 'E']) {
        const run = await restore(
          ['until', 'line SKIP', 'wait'],
          '--status',
          lost,
          ...FILES.slice(0, 2),
        );
        expect(run.log, lost).to.not.include('C FINISH');
        expect(run.log.at(-1), lost).to.match(/SIGUSR1|end of input/);
      }
    });

    it('tries a backend that could not start once, not for each file', async () => {
      const run = await rig.run(plugin, undefined, ['14', 'restore', COMMAND, ...FILES]);
      expect(run.messages('fatal')).to.have.length(1);
      expect(run.all('call').map((line) => line['rc'])).to.deep.equal([2, 2]);
    });
  });
});
