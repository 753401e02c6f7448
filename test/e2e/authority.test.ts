// What a key can do over a real connection, and that names from outside stay names (channel.md § 5, 7;
// cases 15, 16 and 20): pushes as a user makes them, to a real receiver.

import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { Site } from '../support/site.js';

describe('keys and names over the wire', () => {
  let site: Site;

  beforeEach(async () => {
    site = new Site(mkdtempSync(join(tmpdir(), 'hvdr-authority-')));
    await site.prepare();
    await site.hvdr(
      ...['psk', 'generate', '--out', 'keys/other.psk', '--principal', 'other-host'],
      ...['--vms', 'SQL*'],
    );
    await site.startReceiver();
  });

  afterEach(async () => {
    await site.stopReceiver('SIGKILL');
    rmSync(site.folder, { recursive: true, force: true });
  });

  function pushAs(key: string, vm: string): string[] {
    return [
      ...['push', '--vm', vm, '--host', 'lab:lab', '--state-dir', `state-${key}`],
      ...['--dr-host', '127.0.0.1', '--dr-port', String(site.port)],
      ...['--psk-file', `keys/${key}.psk`, '--json'],
    ];
  }

  it("refuses another principal's VM, whatever its name, and changes nothing", async () => {
    await site.hvdr('lab', 'create-vm', 'lab', 'SQL01', '--disk', '2M');
    const { point } = await site.push('SQL01');
    const claim = await site.try(...pushAs('other', 'SQL01'));
    expect(claim.code, claim.stderr).to.equal(10);
    expect(claim.stderr).to.match(/^E_NOT_PROTECTED: /m);
    expect(await site.points('SQL01')).to.deep.equal([point]);
    // its own VM within the pattern is welcome, one outside is not
    await site.hvdr('lab', 'create-vm', 'lab', 'SQL02', '--disk', '1M');
    await site.hvdr('lab', 'create-vm', 'lab', 'WEB01', '--disk', '1M');
    expect((await site.try(...pushAs('other', 'SQL02'))).code).to.be.oneOf([0, 3]);
    const outside = await site.try(...pushAs('other', 'WEB01'));
    expect(outside.code).to.equal(10);
    expect(outside.stderr).to.match(/^E_NOT_PROTECTED: /m);
  });

  it('lets a source key neither list, read, verify, pin nor remove', async () => {
    await site.hvdr('lab', 'create-vm', 'lab', 'SQL01', '--disk', '1M');
    const { point } = await site.push('SQL01');
    const access = ['--dr-host', '127.0.0.1', '--dr-port', String(site.port)];
    const key = ['--psk-file', 'keys/source.psk'];
    for (const command of [
      ['status'],
      ['points', 'SQL01'],
      ['points', 'SQL01', '--pin', point],
      ['points', 'SQL01', '--remove', point, '--yes'],
      ['verify', 'SQL01', '--point', 'all'],
      ['export', 'SQL01', '--point', point, '--disk', '0', '--format', 'raw', '--out', 'x.raw'],
      ['pause', 'SQL01'],
      ['rebind', 'SQL01', '--to', 'primary'],
      ['unhalt', 'SQL01', '--yes'],
      ['compact', 'SQL01'],
    ]) {
      const run = await site.try(...command, ...access, ...key);
      expect(run.code, command.join(' ')).to.equal(41);
      expect(run.stderr, command.join(' ')).to.match(/^E_AUTH: /m);
    }
    expect(readdirSync(site.folder)).not.to.include('x.raw');
  });

  it('takes names of VMs for names and nothing else', async () => {
    const names = ['..\\..', 'CON', 'a:b', '$(touch x)', "';--", '<script>', '-rf', 'Ünï 💾'];
    const before = readdirSync(site.folder).sort();
    for (const name of names) {
      const made = await site.try('lab', 'create-vm', 'lab', '--disk', '1M', '--', name);
      expect(made.code, `${name}: ${made.stderr}`).to.equal(0);
    }
    const run = await site.tryPush('*');
    expect(run.code, run.stderr).to.be.oneOf([0, 3]);
    expect(run.vms.map(({ vm }) => vm).sort()).to.deep.equal([...names].sort());
    for (const vmFolder of readdirSync(join(site.folder, 'store', 'vms'))) {
      expect(vmFolder).to.match(/^[0-9a-f-]{36}$/);
    }
    const after = readdirSync(site.folder).filter((entry) => !['state', 'store'].includes(entry));
    expect(after.sort()).to.deep.equal(before.filter((entry) => entry !== 'store'));
    const status = await site.hvdr('status', ...site.operator());
    for (const name of names) expect(status.stdout.toString()).to.contain(name);
  });

  it('lets no control character of a name reach the terminal', async () => {
    const name = 'SQL\u001b[2J\u202eX\nSTAT: ok';
    const made = await site.try('lab', 'create-vm', 'lab', name, '--disk', '1M');
    if (made.code === 0) await site.push('*');
    else expect(made.stderr).to.match(/^E_(USAGE|PARAMETER|HYPERVISOR): /);
    const status = await site.try('status', ...site.operator());
    const output = `${made.stderr}${status.stdout.toString()}${status.stderr}`;
    expect(output).not.to.match(/[\u001b\u202e]|\nSTAT: ok/);
  });
});
