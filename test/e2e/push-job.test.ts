// `mode=rct-push push_apply_remote=yes` and `mode=seed` as jobs of Bacula: the real backend, driven by a
// peer that plays the plugin, a lab host and a real receiver. After each job the exported disks are the
// guest's.

import { readdirSync, readFileSync } from 'node:fs';
import { expect } from 'chai';
import type { BackendJob, BackendProcess } from '../support/backend-process.js';
import { PushJobSite, reportsOf, until } from '../support/push-job-site.js';
import { WorkFolder } from '../support/work-folder.js';

const VM = 'SQL01';
const OTHER = 'SQL02';

/** The lines of cycles among what the job said. */
function cycleLines({ messages }: Pick<BackendJob, 'messages'>): string[] {
  return messages.filter((text) => /^I SQL\d\d (seed|delta|nothing|resync) /.test(text));
}

describe('a job that pushes to the receiver', function () {
  this.timeout(300_000);
  let work: WorkFolder;
  let site: PushJobSite;
  let seed = 100;

  before(async () => {
    work = new WorkFolder('push-job');
    site = new PushJobSite(work.path);
    await site.prepare();
    await site.hvdr('lab', 'create-vm', 'lab', VM, '--disk', '8M', '--disk', '3M');
    await site.hvdr('lab', 'create-vm', 'lab', OTHER, '--disk', '4M');
    for (const vm of [VM, OTHER]) await site.write(vm, 1);
    site.allow('rct-push,seed');
    await site.startReceiver();
  });

  after(async () => {
    await site.stopReceiver();
    work.dispose();
  });

  function expectColour(job: BackendJob, colour: BackendJob['colour']): void {
    const said = [job.failure, ...job.messages].join('\n');
    expect(job, said).to.include({ colour, exitCode: 0, stderr: '' });
  }

  const fault = (vm: string, ...words: string[]) => site.hvdr('lab', 'fault', 'lab', vm, ...words);

  it('mode=seed brings the first points, and refuses a VM that has some', async () => {
    const job = await site.job(['vm=SQL*', 'mode=seed', ...site.line()]);
    expectColour(job, 'green');
    const [line = ''] = cycleLines(job);
    expect(line).to.match(
      /^I SQL0[12] seed .* disks?, crash-consistent, RPO .*, point [0-9a-f]{4}/,
    );
    expect(job.messages.at(-1)).to.match(/^I 2 VMs: 2 done; .* sent/);
    const reports = reportsOf(job.files);
    expect(reports.map(({ vm, kind }) => `${vm} ${kind}`).sort()).to.deep.equal([
      'SQL01 seed',
      'SQL02 seed',
    ]);
    expect(reports[0]).to.include({ job: 'direct.2026-11-26_20.00.00_01' });
    for (const { vm, point } of reports) expect(await site.points(vm)).to.deep.equal([point]);
    await site.expectHead(VM, 2);
    await site.expectHead(OTHER, 1);
    const again = await site.job([`vm=${VM}`, 'mode=seed', ...site.line()]);
    expectColour(again, 'red');
    expect(again.failure).to.match(/^E_EXISTS: /);
  });

  it('brings what changed, with a line and a report for each VM and cycle', async () => {
    await site.write(VM, ++seed);
    const job = await site.directJob('SQL*', ['push_cycles=2', 'push_interval=1']);
    expectColour(job, 'green');
    expect(cycleLines(job)).to.have.length(4);
    const reports = reportsOf(job.files);
    expect(reports.map(({ vm, kind }) => `${vm} ${kind}`).sort()).to.deep.equal([
      'SQL01 delta',
      'SQL01 nothing',
      'SQL02 nothing',
      'SQL02 nothing',
    ]);
    expect(new Set(reports.map(({ seq }) => seq))).to.have.length(4);
    await site.expectHead(VM, 2);
    await site.expectHead(OTHER, 1);
  });

  it('leaves what it brings to nobody else: direct pushes and jobs take turns', async () => {
    await site.write(VM, ++seed);
    const direct = await site.tryPush(VM);
    expect(direct.vms[0]?.kind).to.equal('delta');
    await site.write(VM, ++seed);
    const job = await site.directJob(VM);
    expect(reportsOf(job.files)[0]).to.include({ kind: 'delta' });
    await site.expectHead(VM, 2);
  });

  it('leaves a VM to the push that works on it, or waits for that', async () => {
    const lease = (): string => {
      const locks = readdirSync(work.file('state')).filter((name) => name.endsWith('.lock'));
      return locks.map((name) => readFileSync(work.file(`state/${name}`), 'utf8')).join();
    };
    await fault(VM, 'set', 'checkpoint-slow', '4000');
    for (const overlap of ['skip', 'wait']) {
      await site.write(VM, ++seed);
      const before = lease();
      const pushing = site.startPush(VM);
      await until(() => lease() !== before);
      const job = await site.directJob(VM, [`overlap=${overlap}`]);
      expectColour(job, 'green');
      expect((await pushing.done).code).to.be.oneOf([0, 3]);
      if (overlap === 'skip') {
        expect(job.messages.join('\n')).to.match(/^W SQL01 skipped: /m);
        expect(reportsOf(job.files)[0]).to.include({ kind: 'skipped' });
      } else {
        expect(reportsOf(job.files)[0]).to.include({ kind: 'nothing' });
      }
    }
    await fault(VM, 'clear', 'checkpoint-slow');
    await site.expectHead(VM, 2);
  });

  it('is warned or red when one VM fails, as on_partial and abort_on_error say', async () => {
    await fault(OTHER, 'set', 'checkpoint-fails');
    await site.write(VM, ++seed);
    const warned = await site.directJob('SQL*');
    expectColour(warned, 'warned');
    expect(warned.messages.join('\n')).to.match(/^Q SQL02 failed, E_CHECKPOINT: /m);
    expect(warned.messages.join('\n')).to.match(/^Q E_PARTIAL: 1 VM has no new point: SQL02/m);
    const failed = reportsOf(warned.files).find(({ vm }) => vm === OTHER);
    expect(failed?.error?.code).to.equal('E_CHECKPOINT');
    await site.expectHead(VM, 2);

    const red = await site.directJob('SQL*', ['on_partial=fail']);
    expectColour(red, 'red');
    expect(red.failure).to.match(/^E_CHECKPOINT: /);
    const aborted = await site.directJob('SQL*', ['abort_on_error=yes', 'push_cycles=50']);
    expectColour(aborted, 'red');
    expect(aborted.failure).to.match(/^E_CHECKPOINT: /);
    await fault(OTHER, 'clear', 'checkpoint-fails');
    expectColour(await site.directJob('SQL*'), 'green');
  });

  it('is red without a receiver, with a key that it does not know, or one that may not push', async () => {
    const parameters = (key: string) => [`vm=${VM}`, 'mode=rct-push', ...site.line(key)];
    for (const [key, said] of [
      ['stranger.psk', /^E_AUTH: .* Compare /],
      ['viewer.psk', /^E_AUTH: /],
      ['nobody.psk', /^E_PARAMETER: dr_psk_file, .* Name a file /],
    ] as const) {
      const job = await site.job([...parameters(key), 'push_apply_remote=yes', 'timeout=5']);
      expectColour(job, 'red');
      expect(job.failure, key).to.match(said);
    }
    await site.write(VM, ++seed);
    await site.stopReceiver();
    const lonely = await site.directJob(VM, ['timeout=2']);
    await site.startReceiver();
    expectColour(lonely, 'red');
    expect(lonely.failure).to.match(/^E_(CHANNEL|STALLED|SOURCE_UNREACHABLE|RECEIVER)/);
    expectColour(await site.directJob(VM), 'green');
    await site.expectHead(VM, 2);
  });

  it('is red when the line names no receiver, or one that backend.conf does not', async () => {
    const job = [`vm=${VM}`, 'mode=rct-push', 'push_apply_remote=yes'];
    for (const [more, said] of [
      [[], /^E_PARAMETER: push_apply_remote and dr_host: /],
      [['dr_host=127.0.0.1'], /^E_PARAMETER: dr_psk_file: nothing says which key/],
      [['dr_host=127.0.0.2'], /^E_PARAMETER: dr_host, .* this receiver is not allowed/],
      [['dr_host=127.0.0.1', 'dr_psk_file=/etc/shadow'], /^E_PARAMETER: dr_psk_file, /],
      [['dr_host=127.0.0.1', 'dr_psk=env:HOME'], /^E_PARAMETER: dr_psk, /],
    ] as const) {
      const red = await site.job([...job, ...more]);
      expectColour(red, 'red');
      expect(red.failure).to.match(said);
    }
    const nobody = await site.directJob('X*');
    expectColour(nobody, 'red');
    expect(nobody.failure).to.match(/^E_NO_MATCH: /);
  });

  it('without an end warns, goes on until it is cancelled, and leaves nothing at the host', async () => {
    await site.write(VM, ++seed);
    const endless = ['push_cycles=0', 'push_interval=1', 'rpo_seconds=60'];
    const job = await site.directJob(VM, endless, {
      during: async ({ child, peer }: BackendProcess) => {
        await until(() => cycleLines(peer).length >= 3);
        child.kill('SIGUSR1');
      },
    });
    expectColour(job, 'cancelled');
    expect(job.messages[0]).to.match(/^W push_cycles=0 has no end: .*run_for=SECONDS/);
    expect(reportsOf(job.files).length).to.be.at.least(2);
    const shown = await site.hvdr('lab', 'show', 'lab', VM);
    expect(shown.stdout.toString()).not.to.contain('recovery');
    await site.write(VM, ++seed);
    expectColour(await site.directJob(VM), 'green');
    await site.expectHead(VM, 2);
  });

  it('ends well when run_for is over', async () => {
    await site.write(VM, ++seed);
    const job = await site.directJob('SQL*', ['push_cycles=0', 'push_interval=1', 'run_for=3']);
    expectColour(job, 'green');
    expect(job.messages.join('\n')).not.to.match(/has no end/);
    expect(cycleLines(job).length).to.be.at.least(2);
    expect(job.messages.at(-1)).to.match(/^I 2 VMs: 2 done/);
    await site.expectHead(VM, 2);
  });
});
