// `mode=daemon` as a job of Bacula: the jobs of a config file, from its folder at the host, until the job
// is cancelled or its time is over.

import { mkdirSync, writeFileSync } from 'node:fs';
import { expect } from 'chai';
import type { BackendJob, BackendProcess } from '../support/backend-process.js';
import { PushJobSite, reportsOf, until } from '../support/push-job-site.js';
import { WorkFolder } from '../support/work-folder.js';

describe('a job that is a daemon', function () {
  this.timeout(300_000);
  let work: WorkFolder;
  let site: PushJobSite;
  const confFolder = 'daemon.d';

  before(async () => {
    work = new WorkFolder('daemon-job');
    site = new PushJobSite(work.path);
    await site.prepare();
    mkdirSync(work.file(confFolder));
    for (const vm of ['SQL01', 'web']) {
      await site.hvdr('lab', 'create-vm', 'lab', vm, '--disk', '4M');
      await site.write(vm, 1);
    }
    await site.hvdr('lab', 'init', 'dr');
    site.drHost = 'lab:dr';
    site.allow('daemon', `config_folder=${work.file(confFolder)}`);
    await site.startReceiver();
  });

  after(async () => {
    await site.stopReceiver();
    work.dispose();
  });

  /** Writes the file; its receiver is the one that runs. */
  function file(name: string, ...sections: readonly string[]): void {
    const common = [
      ...['dr_host=127.0.0.1', `dr_port=${site.port}`, 'quiesce=no', 'push_interval=1'],
      ...[`dr_psk_file=${work.file('job-keys/source.psk')}`, 'rpo_seconds=60'],
    ];
    writeFileSync(work.file(`${confFolder}/${name}`), `${[...common, ...sections].join('\n')}\n`);
  }

  const daemon = (name: string, ...more: string[]): string[] => [
    ...['mode=daemon', `config_file=${name}`, ...more],
  ];
  const said = ({ messages }: Pick<BackendJob, 'messages'>): string => messages.join('\n');

  it('runs the jobs of its file, and takes over what changes', async () => {
    file('site.conf', '[databases]', 'vm=SQL*');
    const job = await site.job(daemon('site.conf'), {
      during: async ({ child, peer }: BackendProcess) => {
        await until(() => /^I SQL01 (seed|delta|nothing)/m.test(said(peer)));
        expect(said(peer)).not.to.match(/web/);
        file('site.conf', '[databases]', 'vm=SQL*', '[others]', 'exclude=SQL*');
        await until(() => /^I web (seed|delta|nothing)/m.test(said(peer)));
        file('site.conf', '[databases]', 'vm=SQL*', 'dr_host=evil.example');
        await until(() => /^Q the former/m.test(said(peer)));
        child.kill('SIGUSR1');
      },
    });
    expect(job, said(job)).to.include({ colour: 'cancelled', exitCode: 0, stderr: '' });
    expect(job.messages[0]).to.match(/^W mode=daemon has no end/);
    expect(said(job)).to.match(/^I running \[databases\]$/m);
    expect(said(job)).to.match(
      /^I the configuration has changed, running \[databases\] \[others\]$/m,
    );
    expect(said(job)).to.match(/^Q the former .* E_PARAMETER: dr_host, .* not allowed/m);
    expect(new Set(reportsOf(job.files).map(({ vm }) => vm))).to.deep.equal(
      new Set(['SQL01', 'web']),
    );
    for (const vm of ['SQL01', 'web']) await site.expectHead(vm, 1);
  });

  it('ends well when run_for is over', async () => {
    file('all.conf');
    await site.write('web', 2);
    const job = await site.job(daemon('all.conf', 'run_for=2'));
    expect(job, said(job)).to.include({ colour: 'green', exitCode: 0, stderr: '' });
    expect(said(job)).not.to.match(/has no end/);
    expect(job.messages.at(-1)).to.match(/^I 2 VMs: 2 done/);
    await site.expectHead('web', 1);
  });

  it('is red when no VM had a cycle', async () => {
    file('none.conf', '[none]', 'vm=X*');
    const job = await site.job(daemon('none.conf', 'run_for=1'));
    expect(job, said(job)).to.include({ colour: 'red', exitCode: 0 });
    expect(job.failure).to.match(/^E_NO_MATCH: /);
    expect(said(job)).to.match(/^W job none: no VM .* matches "X\*"$/m);
  });

  it('is attached: the DR site plans a failover through it, as far as its file allows', async () => {
    await site.hvdr('lab', 'start', 'lab', 'web');
    const plan = () => site.try('failover', 'planned', 'web', ...site.operator());
    file('web.conf', '[web]', 'push_interval=60', 'vm=web');
    const job = await site.job(daemon('web.conf'), {
      during: async ({ child, peer }: BackendProcess) => {
        await until(() => /^I web (seed|delta|nothing)/m.test(said(peer)));
        const refused = await plan();
        expect(refused.stderr).to.match(/remote_actions/);
        file('web.conf', '[web]', 'push_interval=60', 'vm=web', 'remote_actions=shutdown');
        await until(() => /^I the configuration has changed/m.test(said(peer)));
        const done = await plan();
        expect(done.code, done.stderr).to.equal(0);
        child.kill('SIGUSR1');
      },
    });
    expect(job.colour, said(job)).to.equal('cancelled');
    const shown = await site.hvdr('lab', 'show', 'dr', 'web');
    expect(shown.stdout.toString()).to.match(/running/);
  });

  it('is refused what a Plugin line may not say, and what its file may not say', async () => {
    file('site.conf', '[a]', 'vm=SQL*');
    file('evil.conf', '[a]', 'vm=SQL*', 'dr_host=evil.example');
    file('twice.conf', '[a]', 'push_cycles=3');
    file('other.conf', '[a]', 'host=lab:/elsewhere');
    file('folder.conf', '[a]', 'state_dir=/elsewhere');
    writeFileSync(work.file(`${confFolder}/bare.conf`), '[a]\nvm=SQL*\n');
    for (const [line, failure] of [
      [['mode=daemon'], /^E_PARAMETER: config_file: .* Give config_file=NAME/],
      [daemon('site.conf', 'vm=SQL*'), /^E_PARAMETER: vm: of a daemon it stands in/],
      [daemon('../backend.conf'), /^E_PARAMETER: config_file, .* names no file in/],
      [daemon('/etc/passwd'), /^E_PARAMETER: config_file, .* names no file in/],
      [daemon('site.conf', 'dr_host=evil.example'), /^E_PARAMETER: dr_host, .* not allowed/],
      [daemon('evil.conf'), /^E_PARAMETER: dr_host, config file: .* not allowed/],
      [daemon('other.conf'), /^E_PARAMETER: host, config file: it is another one/],
      [daemon('folder.conf'), /^E_PARAMETER: state_dir, config file: it stands in/],
      [daemon('twice.conf'), /^E_PARAMETER: push_cycles, job a: /],
      [daemon('bare.conf'), /^E_PARAMETER: dr_host: nothing says where/],
    ] as const) {
      const job = await site.job(line);
      expect(job, said(job)).to.include({ colour: 'red', exitCode: 0, stderr: '' });
      expect(job.failure).to.match(failure);
    }
    site.allow('rct-push');
    const job = await site.job(daemon('site.conf'));
    expect(job.failure).to.match(/^E_PARAMETER: mode, .* "daemon" is not allowed/);
  });
});
