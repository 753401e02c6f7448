// What whoever edits FileSets may try with the backend, which runs with the file daemon's rights (channel.md
// § 6 and § 8 case 21): files of the system, the environment, addresses that nobody allowed. Each is refused,
// and nothing of what it aimed at comes out anywhere.

import { once } from 'node:events';
import { chmodSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { expect } from 'chai';
import { systemClock, systemRandom } from '../../shared/clock.js';
import { nodeFileSystem } from '../../shared/files/index.js';
import { Lab } from '../../shared/hypervisor/lab/index.js';
import { type BackendProcess, startBackend } from '../support/backend-process.js';
import { jobLines } from '../support/ptcomm-peer.js';
import { WorkFolder } from '../support/work-folder.js';

const CANARY = 'CANARY0123456789';

describe('the file daemon’s side, edited by somebody else', function () {
  this.timeout(120_000);
  let work: WorkFolder;
  let listener: Server;
  let connections = 0;
  let port = 0;
  /** A file of the system, which only the daemon can read. */
  let secretFile: string;

  before(async () => {
    work = new WorkFolder('bacula-side');
    const seams = { fs: nodeFileSystem, clock: systemClock, random: systemRandom };
    const lab = await Lab.create(work.file('lab'), seams);
    await lab.createVm({ name: 'SQL01', disks: [{ source: { sizeBytes: 1024 * 1024 } }] });
    await lab.close();
    listener = createServer((socket) => {
      connections++;
      socket.destroy();
    }).listen(0, '127.0.0.1');
    await once(listener, 'listening');
    ({ port } = listener.address() as AddressInfo);
    secretFile = work.file('shadow');
    // both as a config file and as a key it would be quoted by an error that quotes
    writeFileSync(secretFile, `vm=${CANARY}\n${CANARY}=1\ndr_psk=${CANARY}\n`, { mode: 0o600 });
    for (const folder of ['keys', 'configs']) {
      mkdirSync(work.file(folder), { mode: 0o700 });
      symlinkSync(secretFile, join(work.file(folder), 'link'));
    }
    const conf = [
      `host=lab:${work.file('lab')}`,
      `state_dir=${work.file('state')}`,
      `key_folder=${work.file('keys')}`,
      `config_folder=${work.file('configs')}`,
      'receivers=dr.example',
      'modes=backup,rct-push,replication-status',
      `log_file=${work.file('backend.log')}`,
    ];
    writeFileSync(work.file('backend.conf'), `${conf.join('\n')}\n`, { mode: 0o600 });
  });

  after(() => {
    listener.close();
    work.dispose();
  });

  const start = (): BackendProcess =>
    startBackend(work.file('backend.conf'), { HVDR_CANARY: CANARY });

  /** How a job with these words is refused. */
  async function refused(words: readonly string[], type: 'B' | 'E' = 'B'): Promise<string> {
    const { peer, exit, stderr } = start();
    await peer.hello();
    await peer.block('Job', jobLines(type, 'Level=F'));
    await peer.expect('F');
    await peer.block('Params', words);
    const text = await peer.expect('A');
    await peer.end();
    peer.close();
    await peer.untilEnd();
    expect(await exit).to.deep.equal([0, null]);
    const said = [text, ...peer.messages, stderr(), logged()].join('\n');
    expect(said, words.join(' ')).not.to.contain(CANARY);
    expect(connections, words.join(' ')).to.equal(0);
    return text;
  }

  const logged = (): string => {
    try {
      return readFileSync(work.file('backend.log'), 'utf8');
    } catch {
      return '';
    }
  };

  const push = (...words: readonly string[]): string[] => [
    'mode=rct-push',
    'push_apply_remote=yes',
    'dr_host=dr.example',
    ...words,
  ];

  it('case 21: gets no file of the system as a config file, by its path, a way round or a link', async () => {
    for (const value of [secretFile, '/etc/shadow', '../shadow', 'link', '.', '']) {
      const text = await refused([`config_file=${value}`]);
      expect(text, value).to.match(
        /^E_PARAMETER: config_file, Plugin string: it names no file in /,
      );
    }
  });

  it('case 21: gets none as a key or a certificate, in a backup and in an estimate', async () => {
    for (const name of [
      ...['dr_psk_file', 'dr_tls_ca', 'dr_tls_cert', 'dr_tls_key'],
      'retired_psk_file',
    ]) {
      for (const value of [secretFile, '../shadow', 'link']) {
        for (const type of ['B', 'E'] as const) {
          const text = await refused(push(`${name}=${value}`), type);
          expect(text).to.match(
            new RegExp(`^E_PARAMETER: ${name}, Plugin string: it names no file`),
          );
        }
      }
    }
  });

  it('case 21: gets nothing of the environment', async () => {
    for (const word of [
      'dr_psk=env:HVDR_CANARY',
      'dr_psk= env:HVDR_CANARY',
      'dr_psk=ENV:HVDR_CANARY',
      'dr_psk_file=env:HVDR_CANARY',
      'config_file=env:HVDR_CANARY',
      `dr_psk=file:shadow`,
    ]) {
      expect(await refused(push(word)), word).to.match(/^E_PARAMETER: /);
    }
  });

  it('case 21: reaches no address that the host does not allow', async () => {
    for (const place of [
      ['dr_host=127.0.0.1', `dr_port=${port}`],
      ['dr_host=localhost', `dr_port=${port}`],
      [`dr_host=127.0.0.1:${port}`],
      ['dr_host=dr.example@127.0.0.1', `dr_port=${port}`],
      ['dr_host=dr.example.', `dr_port=${port}`],
    ]) {
      const words = ['mode=rct-push', 'push_apply_remote=yes', 'dr_psk=abcdefghijklmnop', ...place];
      const text = await refused(words);
      expect(text, place.join(' ')).to.match(/^E_PARAMETER: dr_host/);
    }
    const text = await refused(push('retired_host=127.0.0.1', `retired_port=${port}`));
    expect(text).to.match(
      /^E_PARAMETER: retired_host, Plugin string: this receiver is not allowed/,
    );
  });

  it('case 21: a config file of the folder cannot do what a line cannot', async () => {
    const file = work.file(join('configs', 'job.conf'));
    for (const line of [`dr_host=127.0.0.1`, `host=lab:/elsewhere`, 'mode=failover-permanent']) {
      writeFileSync(file, `${line}\n`);
      chmodSync(file, 0o600);
      const text = await refused(['config_file=job.conf', `dr_port=${port}`]);
      expect(text, line).to.match(new RegExp(`^E_PARAMETER: ${line.split('=')[0] ?? ''}`));
      if (!line.startsWith('mode')) expect(text, line).to.match(/^\S+ \S+ config file: /);
    }
  });

  it('a restore needs nothing of the channel that its line names: this host may have none of it', async () => {
    const bare = work.file('bare.conf');
    writeFileSync(bare, `host=lab:${work.file('lab')}\nstate_dir=${work.file('state')}\n`, {
      mode: 0o600,
    });
    const { peer, exit } = startBackend(bare);
    const words = push('dr_psk_file=source.psk', 'host=hyperv', 'retired_psk_file=/etc/shadow');
    await peer.begin(jobLines('R', `Where=${work.file('where')}`), words);
    await peer.start('RestoreStart');
    await peer.command('FINISH');
    expect(await peer.answer()).to.equal('F');
    await peer.end();
    peer.close();
    await peer.untilEnd();
    expect(await exit).to.deep.equal([0, null]);
  });

  it('case 22: a passphrase of a line is in no answer, no log and no message', async () => {
    const { peer, exit, stderr } = start();
    await peer.begin(jobLines('B', 'Level=F'), ['vm=none*', `dr_psk=${CANARY}-canary-passphrase`]);
    await peer.start('BackupStart');
    const end = await peer.answer();
    expect(end).to.match(/^A E_NO_MATCH/);
    await peer.end();
    peer.close();
    await peer.untilEnd();
    expect(await exit).to.deep.equal([0, null]);
    expect(logged()).to.contain('run.started');
    expect([end, ...peer.messages, stderr(), logged()].join('\n')).not.to.contain(CANARY);
  });
});
