// A guest whose files are encrypted, as its operators live through it: what push, status, points and the
// receiver's log say, what last-clean gives back, and how the alarm ends.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { Guest, noise } from '../support/guest-life.js';
import { Site } from '../support/site.js';
import { PlainVolume } from '../support/volume.js';

const VM = 'FILES01';
const MIB = 1024 * 1024;

interface StatusDocument {
  readonly protections: readonly {
    readonly health: string;
    readonly reasons: readonly string[];
    readonly pinned: number;
    readonly alarm: { readonly id: string; readonly lastCleanBefore: string } | null;
    readonly lastClean: string;
  }[];
}

describe('early warning', function () {
  this.timeout(300_000);
  let site: Site;

  before(async () => {
    site = new Site(mkdtempSync(join(tmpdir(), 'hvdr-warning-')));
    await site.prepare();
    const volume = new PlainVolume(24 * MIB);
    const sizes = { textFiles: 300, officeFiles: 0, programFiles: 4, databaseMib: 2 };
    new Guest(volume, 1, sizes).install();
    writeFileSync(join(site.folder, 'guest.raw'), volume.image());
    await site.hvdr('lab', 'create-vm', 'lab', VM, '--import', 'guest.raw');
    await site.hvdr('lab', 'start', 'lab', VM);
    await site.startReceiver();
  });

  after(async () => {
    await site.stopReceiver('SIGKILL');
    rmSync(site.folder, { recursive: true, force: true });
  });

  async function guestWrites(offset: number, bytes: Buffer): Promise<void> {
    writeFileSync(join(site.folder, 'bytes.bin'), bytes);
    await site.hvdr(
      ...['lab', 'write', 'lab', VM, '--disk', '0'],
      ...['--offset', String(offset), '--file', 'bytes.bin'],
    );
  }

  async function status(): Promise<StatusDocument['protections'][number]> {
    const run = await site.hvdr('status', '--vm', VM, ...site.operator(), '--json');
    // the contract of `hvdr status --json`
    const { protections } = JSON.parse(run.stdout.toString()) as StatusDocument;
    const [only] = protections;
    if (only === undefined) throw new Error(run.stdout.toString());
    return only;
  }

  it('is raised by the first cycle, names the last clean point and keeps it', async () => {
    await site.push(VM);
    await guestWrites(5 * MIB, Buffer.from('a line that somebody wrote\n'.repeat(3000)));
    const clean = await site.push(VM);
    const [hash] = await site.guestHashes(VM, 1);
    expect((await status()).health).to.equal('ok');
    expect((await status()).lastClean).to.equal(clean.point);

    await guestWrites(2 * MIB, noise(99, 8 * MIB));
    const run = await site.tryPush(VM);
    expect(run.code, run.stderr).to.equal(3);
    expect(run.stdout.toString()).to.contain('W_ENCRYPTION');
    expect(run.stdout.toString()).to.contain('the data look as if they were being encrypted');
    const raised = run.vms[0]?.point ?? '';
    // and it goes on
    for (let n = 0; n < 3; n++) {
      await guestWrites(12 * MIB + n * 65_536, noise(n, 65_536));
      await site.push(VM);
    }

    const told = await status();
    expect(told.health).to.equal('critical');
    expect(told.alarm?.id).to.equal(raised);
    expect(told.alarm?.lastCleanBefore).to.equal(clean.point);
    expect(told.lastClean).to.equal(clean.point);
    expect((await site.try('status', '--check', ...site.operator())).code).to.equal(2);
    const lines = (await site.hvdr('points', VM, ...site.operator())).stdout.toString().split('\n');
    const lineOf = (point: string): string => lines.find((line) => line.startsWith(point)) ?? '';
    expect(lineOf(clean.point)).to.contain('pinned');
    expect(lineOf(raised)).to.contain('ALARM');
    expect(lines.filter((line) => line.includes('doubtful')).length).to.be.at.least(1);

    expect(await site.pointHashes(VM, 'last-clean', 1)).to.deep.equal([hash]);
    await site.hvdr('verify', VM, '--point', 'last-clean', ...site.operator());
  });

  it('ends when an operator clears it, and by nobody else', async () => {
    const { alarm } = await status();
    const clear = ['points', VM, '--clear-alarm', alarm?.id ?? ''];
    const source = ['--dr-host', '127.0.0.1', '--dr-port', String(site.port)];
    const refused = await site.try(...clear, ...source, '--psk-file', 'keys/source.psk');
    expect(refused.code).to.equal(41);
    const wrong = await site.try('points', VM, '--clear-alarm', 'ffffffff', ...site.operator());
    expect(wrong.code).to.equal(10);
    expect(wrong.stderr).to.contain(alarm?.id);
    const cleared = await site.hvdr(...clear, ...site.operator());
    expect(cleared.stderr).to.contain('stays so until --unpin');
    const ended = await site.stopReceiver();
    expect(ended?.stderr).to.contain('alarm.raised').and.to.contain('alarm.cleared');
    await site.startReceiver();
    const after = await status();
    expect(after.alarm).to.equal(null);
    expect(after.health).to.equal('ok');
    expect(after.pinned).to.equal(1);
    expect(after.lastClean).not.to.equal(alarm?.lastCleanBefore);
  });
});
