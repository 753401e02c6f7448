// `mode=verify` as a job of Bacula: the VM is compared with its point at the receiver by hashes. Cells are
// written with bytes of their own, so that a test can find one in a file and turn a bit of it.

import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import type { BackendJob } from '../support/backend-process.js';
import { PushJobSite } from '../support/push-job-site.js';
import { SeededRandom } from '../support/seeded-random.js';
import { WorkFolder } from '../support/work-folder.js';

const VM = 'SQL01';
const OTHER = 'SQL02';
const CELL = 65_536;

describe('a job that verifies', function () {
  this.timeout(300_000);
  let work: WorkFolder;
  let site: PushJobSite;

  const image = (seed: number): Buffer => Buffer.from(new SeededRandom(seed).bytes(CELL));

  async function writeCell(vm: string, cell: number, seed: number): Promise<void> {
    writeFileSync(work.file('cell'), image(seed));
    const place = ['--disk', '0', '--offset', String(cell * CELL)];
    await site.hvdr('lab', 'write', 'lab', vm, ...place, '--file', 'cell');
  }

  /** Turns one bit of the cell with these bytes, in the file that holds it. */
  function turn(seed: number, ending: string, below: string): void {
    const wanted = image(seed).subarray(0, 512);
    const entries = readdirSync(work.file(below), { recursive: true, withFileTypes: true });
    for (const entry of entries) {
      if (!entry.isFile() || !entry.name.endsWith(ending)) continue;
      const file = join(entry.parentPath, entry.name);
      const bytes = readFileSync(file);
      const at = bytes.indexOf(wanted);
      if (at < 0) continue;
      bytes.writeUInt8(bytes.readUInt8(at + 100) ^ 4, at + 100);
      writeFileSync(file, bytes);
      return;
    }
    throw new Error(`no ${ending} holds the cell`);
  }

  const said = ({ messages }: Pick<BackendJob, 'messages'>): string => messages.join('\n');

  async function verify(
    colour: BackendJob['colour'],
    vm = VM,
    more: readonly string[] = [],
  ): Promise<BackendJob> {
    const job = await site.job([`vm=${vm}`, 'mode=verify', ...site.line(), ...more]);
    const all = [job.failure, said(job)].join('\n');
    expect(job, all).to.include({ colour, exitCode: 0, stderr: '' });
    for (const { name, bytes } of job.files) {
      expect(name).to.match(/^\/@hyperv\/[^/]+\/\.meta\/verify-\d{13}\.json$/);
      expect(bytes).to.be.below(65_536);
    }
    return job;
  }

  before(async () => {
    work = new WorkFolder('verify-job');
    site = new PushJobSite(work.path);
    await site.prepare();
    for (const [vm, seed] of [
      [VM, 0],
      [OTHER, 1000],
    ] as const) {
      await site.hvdr('lab', 'create-vm', 'lab', vm, '--disk', '4M');
      for (const cell of [3, 20, 40]) await writeCell(vm, cell, seed + cell);
    }
    site.allow('verify,rct-push');
    await site.startReceiver();
    for (const vm of [VM, OTHER]) expect((await site.directJob(vm)).colour).to.equal('green');
  });

  after(async () => {
    await site.stopReceiver();
    work.dispose();
  });

  it('is green when all agree, also with what changed since', async () => {
    const equal = await verify('green', 'SQL*');
    expect(said(equal)).to.match(
      /^I SQL01 agrees with its point: 1 disk, 4 MiB compared by hashes$/m,
    );
    expect(equal.messages.at(-1)).to.equal('I 2 VM(s) compared: 2 agree');
    expect(equal.files).to.have.length(2);
    await writeCell(VM, 30, 130);
    const changed = await verify('green');
    expect(said(changed)).to.match(/1 cell\(s\) differ, 1 of them are known as changed/);
    const shown = await site.hvdr('lab', 'show', 'lab', VM);
    expect(shown.stdout.toString(), 'the checkpoint was given back').not.to.contain('recovery');
    expect((await site.directJob(VM)).colour).to.equal('green');
    await site.expectHead(VM, 1);
  });

  it('compares an older point, from which nothing follows for sure', async () => {
    const [oldest = ''] = await site.points(VM);
    const unsure = await verify('warned', VM, [`point=${oldest.slice(0, 8)}`]);
    expect(said(unsure)).to.match(/^Q SQL01 cannot be told from its point for sure/m);
    expect(said(unsure)).to.match(/what changed since an older point is not known/);
    const none = await verify('red', VM, ['point=ffffffff-0000']);
    expect(none.failure).to.match(/^E_NO_POINT: /);
  });

  it('is red for a cell that differs and that nobody saw change, with VM, disk and offset', async () => {
    turn(3, '.vhdx', 'lab');
    const job = await verify('red', 'SQL*');
    const { stdout } = await site.hvdr('seed', '--vm', VM, '--host', 'lab:lab', '--json');
    // the contract of `hvdr seed --json`
    const { disks } = JSON.parse(stdout.toString()) as { disks: { id: string }[] };
    expect(said(job)).to.contain(
      `Q ${VM}, disk ${disks[0]?.id}, offset ${3 * CELL}: differs, and was never changed`,
    );
    expect(job.failure).to.match(
      /^E_DIFFERENT: 1 cell\(s\) differ: SQL01; nothing was changed; The lines/,
    );
    expect(said(job)).to.match(/^I SQL02 agrees/m);
  });

  it('is red for a cell that is known as damaged at the receiver', async () => {
    turn(1020, 'base.vhdx', 'store');
    expect((await site.try('verify', OTHER, ...site.operator())).code).to.equal(13);
    const job = await verify('red', OTHER);
    expect(said(job)).to.match(
      new RegExp(`^Q SQL02, disk [0-9a-f-]{36}, offset ${20 * CELL}: damaged at the receiver`, 'm'),
    );
  });

  it('is warned when one VM cannot be compared, red when none can', async () => {
    await site.hvdr('lab', 'create-vm', 'lab', 'new', '--disk', '2M');
    expect((await verify('red', 'new')).failure).to.match(/^E_NO_POINT: .* Push the VM first/);
    await site.hvdr('lab', 'create-vm', 'lab', 'SQL03', '--disk', '2M');
    expect((await site.directJob('SQL03')).colour).to.equal('green');
    const warned = await verify('warned', '*', ['exclude=SQL01,SQL02']);
    expect(said(warned)).to.match(/^Q new was not verified, E_NO_POINT: /m);
    expect(said(warned)).to.match(/^Q E_PARTIAL: VMs were not verified: new/m);
    expect((await verify('red', '*', ['exclude=SQL01,SQL02', 'on_partial=fail'])).failure).to.match(
      /^E_NO_POINT/,
    );
    await site.hvdr('lab', 'create-vm', 'lab', 'SQL09', '--disk', '1M');
    const aborted = await verify('red', 'SQL0*', ['exclude=SQL01,SQL02', 'abort_on_error=yes']);
    expect(said(aborted)).to.match(/^I SQL03 agrees/m);
    expect(aborted.failure).to.match(/^E_NO_POINT: .*SQL09/);
    expect((await verify('red', 'X*')).failure).to.match(/^E_NO_MATCH: /);
    await site.stopReceiver();
    expect((await verify('red', 'SQL03')).failure).to.match(/^E_SOURCE_UNREACHABLE: /);
    await site.startReceiver();
  });
});
