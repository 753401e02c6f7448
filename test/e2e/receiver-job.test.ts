// `mode=receiver` as a job of Bacula: the receiver lives as long as the job, takes what `hvdr push` sends,
// and uses nothing that backend.conf does not list.

import { expect } from 'chai';
import type { BackendJob, BackendProcess } from '../support/backend-process.js';
import { PushJobSite, until } from '../support/push-job-site.js';
import { WorkFolder } from '../support/work-folder.js';

const VM = 'SQL01';

describe('a job that is a receiver', function () {
  this.timeout(300_000);
  let work: WorkFolder;
  let site: PushJobSite;

  before(async () => {
    work = new WorkFolder('receiver-job');
    site = new PushJobSite(work.path);
    await site.prepare();
    await site.hvdr('lab', 'create-vm', 'lab', VM, '--disk', '4M', '--disk', '3M');
    await site.write(VM, 1);
  });

  beforeEach(() => {
    allow('receiver');
  });

  after(() => {
    work.dispose();
  });

  function allow(modes: string, ...more: readonly string[]): void {
    const places = [`store=${work.file('store')}`, `listen=127.0.0.1:0, 127.0.0.1:${site.port}`];
    site.allow(modes, ...places, `receiver_keys=${work.file('keys')}`, ...more);
  }

  const said = ({ messages }: Pick<BackendJob, 'messages'>): string => messages.join('\n');

  /** Resolves when it serves; from then on commands of the site reach it. */
  async function listening({ peer }: BackendProcess): Promise<void> {
    const line = /^I listening 127\.0\.0\.1:(\d+), store \S+\/store$/m;
    await until(() => line.test(said(peer)));
    site.port = Number(line.exec(said(peer))?.[1]);
  }

  it('takes pushes and tests a failover until it is cancelled, and again in the next job', async () => {
    for (const port of ['any', 'the same']) {
      const line = port === 'any' ? [] : [`listen=127.0.0.1:${site.port}`];
      if (port !== 'any') allow('receiver');
      const job = await site.job(['mode=receiver', ...line], {
        during: async (backend) => {
          await listening(backend);
          await site.write(VM, site.port);
          await site.push(VM);
          await site.expectHead(VM, 2);
          await site.hvdr('failover', 'test', VM, ...site.operator());
          backend.child.kill('SIGUSR1');
        },
      });
      expect(job, said(job)).to.include({ colour: 'cancelled', exitCode: 0, stderr: '' });
      expect(job.messages[0]).to.match(/^W mode=receiver has no end/);
      expect(job.files).to.deep.equal([]);
    }
    const run = await site.hvdr('verify', VM, '--point', 'all', '--store', 'store');
    expect(run.stdout.toString()).to.match(/good: 2 point\(s\)/);
  });

  it('ends well when run_for is over', async () => {
    const job = await site.job(['mode=receiver', `store=${work.file('store')}`, 'run_for=2']);
    expect(job, said(job)).to.include({ colour: 'green', exitCode: 0, stderr: '' });
    expect(said(job)).not.to.match(/has no end/);
    const [report] = job.files;
    expect(report?.name).to.match(/^\/@hyperv\/\.meta\/receiver-\d{13}\.json$/);
    expect(JSON.parse(report?.content.toString() ?? '')).to.include({ store: work.file('store') });
    expect(job.messages.at(-1)).to.match(/^I the receiver has ended at a safe point$/);
  });

  it('opens no other folder, no other port, and no store that another one works on', async () => {
    for (const [line, failure] of [
      [['store=/tmp'], /^E_PARAMETER: store, Plugin string: it is none .*backend\.conf lists/],
      [['store=/srv/../etc'], /^E_PARAMETER: store, /],
      [['listen=0.0.0.0:22'], /^E_PARAMETER: listen, Plugin string: it is none/],
    ] as const) {
      const job = await site.job(['mode=receiver', ...line]);
      expect(job, said(job)).to.include({ colour: 'red', exitCode: 0, stderr: '' });
      expect(job.failure).to.match(failure);
    }
    for (const [conf, failure] of [
      [
        () => {
          site.allow('receiver');
        },
        /^E_PARAMETER: store, .* nothing says/,
      ],
      [
        () => {
          // those that it shows to others, in key_folder, open nothing here
          site.allow('receiver', `store=${work.file('store')}`, 'listen=127.0.0.1:0');
        },
        /^E_PARAMETER: backend\.conf names no keys/,
      ],
      [
        () => {
          allow('rct-push');
        },
        /^E_PARAMETER: mode, .* "receiver" is not allowed/,
      ],
      [
        () => {
          allow('receiver', 'receiver_quota=much');
        },
        /^E_USAGE: receiver_quota/,
      ],
    ] as const) {
      conf();
      const job = await site.job(['mode=receiver']);
      expect(job, said(job)).to.include({ colour: 'red', exitCode: 0, stderr: '' });
      expect(job.failure).to.match(failure);
    }
    allow('receiver');
    await site.startReceiver();
    const second = await site.job(['mode=receiver']);
    await site.stopReceiver();
    expect(second, said(second)).to.include({ colour: 'red', exitCode: 0, stderr: '' });
    expect(second.failure).to.match(/^E_LOCKED: /);
  });
});
