// The plugin in C against backends that do wrong, packets of another size, cancels, and limits of time; in a
// host that calls it as a File Daemon does.

import { chmodSync } from 'node:fs';
import { expect } from 'chai';
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
import { needTool } from '../support/need.js';
import { expectTool } from '../support/run-tool.js';
import { WorkFolder } from '../support/work-folder.js';
describe('the plugin of the File Daemon in trouble', function () {
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

  describe('a backend that does wrong', () => {
    const wrongs: readonly (readonly [title: string, script: readonly string[], says: RegExp])[] = [
      ['says no hello', ['take', 'line Hello World', 'wait'], /is no backend/],
      ['refuses the hello', ['take', 'say E wrong version', 'wait'], /wrong version/],
      ['ends at once', ['exit 1'], /ended/],
      [
        'is killed by its own exit in the job block',
        ['take', 'line Hello Bacula', 'exit 1'],
        /ended/,
      ],
      [
        'refuses the job',
        ['take', 'line Hello Bacula', 'until', 'say E no', 'wait'],
        /the job: no/,
      ],
      [
        'refuses with A',
        ['take', 'line Hello Bacula', 'until', 'say A E_PSK: no key', 'wait'],
        /E_PSK/,
      ],
      ['says E where an item was due', [...GREETING, ...SMALL, 'say E lost', 'wait'], /lost/],
      [
        'says A in the middle',
        [...GREETING, ...DISK, 'line DATA', 'data 9 x', 'say A gone', 'wait'],
        /gone/,
      ],
      [
        'dies in the middle of a file',
        [...GREETING, ...DISK, 'line DATA', 'data 70000 x', 'exit 1'],
        /ended/,
      ],
      [
        'dies in the middle of a packet',
        [...GREETING, ...DISK, 'line DATA', 'raw 443030303130300a78', 'exit 0'],
        /ended/,
      ],
      ['sends garbage', [...GREETING, 'raw 6e6f6e73656e73650a0a0a0a', 'wait'], /no packet/],
      [
        'sends a letter that nobody knows',
        [...GREETING, 'raw 583030303030300a', 'wait'],
        /no packet/,
      ],
      ['sends a length with a sign', [...GREETING, 'raw 432d30303030310a', 'wait'], /no packet/],
      ['sends an F with a payload', [...GREETING, 'raw 463030303030310a78', 'wait'], /no packet/],
      ['sends an empty command', [...GREETING, 'raw 433030303030300a', 'wait'], /empty command/],
      [
        'sends an empty data packet',
        [...GREETING, ...DISK, 'line DATA', 'raw 443030303030300a', 'wait'],
        /empty data/,
      ],
      [
        'sends a command that is too long',
        [...GREETING, 'raw 433939393939390a', 'wait'],
        /999999 bytes/,
      ],
      [
        'sends a zero in a command',
        [...GREETING, 'raw 433030303030330a410042', 'wait'],
        /cannot be a text/,
      ],
      ['sends an unknown command', [...GREETING, 'line METADATA', 'wait'], /does not know/],
      ['sends data where an item was due', [...GREETING, 'data 3 x', 'wait'], /data where an item/],
      [
        'sends a file without STAT',
        [...GREETING, 'line FNAME:/@hyperv/x', 'say F', 'wait'],
        /without STAT/,
      ],
      [
        'names a file outside of its namespace',
        [...GREETING, ...fileLines('/etc/passwd', 'F 1 0 0 100600 1'), 'wait'],
        /outside/,
      ],
      [
        'ends a file like a folder',
        [...GREETING, ...fileLines('/@hyperv/x/', 'F 1 0 0 100600 1'), 'wait'],
        /differ/,
      ],
      [
        'sends a STAT with a size below zero',
        [...GREETING, ...fileLines('/@hyperv/x', 'F -1 0 0 100600 1'), 'wait'],
        /STAT/,
      ],
      [
        'sends a STAT with a tail',
        [...GREETING, ...fileLines('/@hyperv/x', 'F 1 0 0 100600 1 0 z'), 'wait'],
        /STAT/,
      ],
      [
        'sends a command within data',
        [...GREETING, ...DISK, 'line DATA', 'line FNAME:/@hyperv/y', 'wait'],
        /within the content/,
      ],
      [
        'sends an F too many before the content',
        [...GREETING, ...DISK, 'say T', 'wait'],
        /no packet/,
      ],
      [
        'sends a restore object of another length',
        [...GREETING, 'line RESTOREOBJ:a', 'line RESTOREOBJ_LEN:4', 'data 5 r', 'say F', 'wait'],
        /another length/,
      ],
      [
        'sends an item without end',
        [
          ...GREETING,
          'line FNAME:/@hyperv/x',
          ...Array.from({ length: 80 }, () => 'line TSTAMP:1 1 1'),
          'wait',
        ],
        /without end/,
      ],
    ];
    for (const [title, script, says] of wrongs) {
      it(`makes the job red when it ${title}`, async () => {
        const run = await rig.run(plugin, script, ['14', 'backup', COMMAND]);
        expect(run.messages('fatal')).to.have.length(1);
        expect(run.messages('fatal')[0]).to.match(says);
        expect(status(run)).to.equal('f');
      });
    }

    it('is missing, is a folder or cannot be run: the job is red, with the places', async () => {
      const run = await rig.run(plugin, undefined, ['14', 'backup', COMMAND]);
      expect(run.messages('fatal').join()).to.match(/podheitor-hyperv-backend beside the plugin/);
      expect(run.all('call')[0]).to.include({ name: 'command', rc: 2 });
    });

    it('may stand where the environment of the daemon says', async () => {
      const work = new WorkFolder('adapter-elsewhere');
      try {
        const path = work.file('elsewhere');
        await expectTool('sh', ['-c', `printf '#!/bin/sh\\nexit 7\\n' > ${path}`]);
        const args = ['14', 'backup', COMMAND];
        const refused = await rig.run(plugin, undefined, args, { HVDR_BACKEND: path });
        expect(refused.messages('fatal').join(), 'not executable').to.contain('no executable file');
        chmodSync(path, 0o755);
        const run = await rig.run(plugin, undefined, args, { HVDR_BACKEND: path });
        expect(run.messages('fatal').join(), 'it ran').to.contain('ended');
        const relative = await rig.run(plugin, undefined, args, { HVDR_BACKEND: 'elsewhere' });
        expect(relative.messages('fatal').join(), 'relative').to.contain('no executable file');
      } finally {
        work.dispose();
      }
    });

    it('marks one file as truncated with E between its data; the next one follows', async () => {
      const loop = [...DISK, 'line DATA', 'data 70000 x', 'say E read error', ...SMALL, 'say F'];
      const run = await backup([...loop, ...PARTING]);
      expect(run.messages('error')).to.deep.equal(['/@hyperv/SQL01/disks/x.vhdx: read error']);
      expect(run.all('content').map((line) => line['status'])).to.deep.equal([-1, 0]);
      expect(run.all('call').at(-1)).to.include({ name: 'endBackupFile', rc: 0 });
    });

    it('stops the job there with abort_on_error, and not with abort_on_error=0', async () => {
      const script = [...GREETING, ...DISK, 'say E read error', ...SMALL, 'say F', ...PARTING];
      const stopped = await rig.run(plugin, script, ['14', 'backup', `${COMMAND} abort_on_error`]);
      expect(stopped.messages('fatal')).to.have.length(1);
      const goes = await rig.run(plugin, script, ['14', 'backup', `${COMMAND} abort_on_error=0`]);
      expect(goes.messages('fatal')).to.deep.equal([]);
      expect(goes.all('content').at(-1)).to.include({ bytes: 12 });
    });

    it('shows what it says on stderr as errors, and does not hang on much of it', async () => {
      const noise = Array.from({ length: 3000 }, () => `stderr ${'n'.repeat(80)}`);
      const run = await backup([...noise, ...SMALL, 'say F', ...PARTING]);
      const errors = run.messages('error');
      expect(errors.length).to.be.within(1, 51);
      expect(errors[0]).to.match(/^backend: n+$/);
      expect(run.all('content')[0]).to.include({ bytes: 12 });
    });

    it('is named with its exit code when it ends with one', async () => {
      const run = await backup([...SMALL, 'say F', ...PARTING, 'exit 4']);
      expect(run.messages('error').join()).to.contain('exit code 4');
    });
  });

  describe('packets of another size', () => {
    for (const version of ['14', '23']) {
      it(`are refused with a fatal message before anything is touched (version ${version})`, async () => {
        for (const wrong of ['save', 'io', 'xacl']) {
          const script = [...GREETING, ...SMALL, 'wait'];
          const run = await rig.run(plugin, script, [version, 'backup', COMMAND, '--wrong', wrong]);
          expect(run.messages('fatal'), wrong).to.have.length(1);
        }
        for (const wrong of ['restore', 'object']) {
          const args = ['--wrong', wrong, '--object', 'a:b', '--file', 'F:/@hyperv/x:3'];
          const script = [...GREETING, 'until', 'line SKIP', 'wait'];
          const run = await rig.run(plugin, script, [version, 'restore', COMMAND, ...args]);
          expect(run.messages('fatal').length, wrong).to.be.greaterThan(0);
        }
      });
    }
  });

  describe('a cancel', () => {
    it('in mid-stream ends a waiting read at once, by SIGUSR1 and the end of the input', async () => {
      const loop = [...DISK, 'line DATA', 'data 131072 d', 'wait'];
      const run = await backup(loop, '--cancel-at', '65536');
      expect(run.log.at(-1)).to.match(/SIGUSR1|end of input/);
      expect(run.messages('fatal'), 'the core tells it').to.deep.equal([]);
      expect(run.log).to.not.include('C END');
    });

    it('in a restore ends a waiting write at once', async () => {
      const script = [...GREETING, 'until', 'line OK', 'pause'];
      const args = ['--file', 'F:/@hyperv/x:9000000', '--cancel-at', '0'];
      const run = await rig.run(plugin, script, ['14', 'restore', COMMAND, ...args]);
      expect(run.log.at(-1)).to.equal('SIGUSR1');
      expect(run.log).to.not.include('C FINISH');
      expect(run.messages('fatal'), 'the core tells it').to.deep.equal([]);
    });

    it('of a job that the core left half-way gives the backend its signal', async () => {
      const run = await backup(
        [...DISK, 'line DATA', 'data 131072 d', 'wait'],
        '--stop-at',
        '65536',
      );
      expect(run.log.at(-1)).to.match(/SIGUSR1|end of input/);
      expect(run.log).to.not.include('C END');
    });
  });

  describe('limits of time', () => {
    it('end a hello that does not come', async () => {
      const hasty = await rig.plugin('podheitor-hyperv', { handshake: 1, cancel: 1 });
      const run = await rig.run(hasty, ['take', 'wait'], ['14', 'backup', COMMAND]);
      expect(run.messages('fatal').join()).to.contain('silent for 1 s');
    });

    it('end a silence, and kill a backend that hears nothing', async () => {
      const hasty = await rig.plugin('podheitor-hyperv', { silence: 1, cancel: 1, exit: 1 });
      const args = ['14', 'backup', COMMAND];
      const silent = await rig.run(hasty, [...GREETING, 'stubborn'], args);
      expect(silent.messages('fatal').join()).to.contain('silent for 1 s');
      expect(silent.messages('warning').join()).to.contain('was killed');
      const stays = await rig.run(
        hasty,
        [...GREETING, ...SMALL, 'say F', ...PARTING, 'stubborn'],
        args,
      );
      expect(stays.messages('fatal')).to.deep.equal([]);
      expect(stays.messages('warning').join()).to.contain('was killed');
    });
  });

  it('is three plugins out of one source', async () => {
    for (const [name, namespace] of [
      ['podheitor-vsphere', '@vsphere'],
      ['podheitor-proxmox', '@proxmox_'],
    ] as const) {
      const other = await rig.plugin(name);
      const file = fileLines(`/${namespace}/vm/`, 'D 0 0 0 40755 1');
      const script = [...GREETING, ...file, 'say F', 'say F', ...PARTING];
      const run = await rig.run(other, script, ['14', 'backup', `${name}: vm=x`]);
      expect(run.log).to.include.members([`C Hello ${name} 4`, `C Namespace=${namespace}`]);
      expect(run.all('file').at(-1)?.['name']).to.equal(`/${namespace}/vm/`);
    }
  });
});
