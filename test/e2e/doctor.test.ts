// `hvdr doctor` tells a sound machine from one that lacks something, and says how to mend it.

import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { Site } from '../support/site.js';

interface Finding {
  readonly check: string;
  readonly verdict: string;
  readonly detail: string;
  readonly remedy: string;
}

describe('hvdr doctor', () => {
  let site: Site;

  beforeEach(async () => {
    site = new Site(mkdtempSync(join(tmpdir(), 'hvdr-doctor-')));
    await site.prepare();
  });

  afterEach(async () => {
    await site.stopReceiver('SIGKILL');
    rmSync(site.folder, { recursive: true, force: true });
  });

  async function examine(...args: string[]): Promise<{ code: number | null; found: Finding[] }> {
    const run = await site.try('doctor', ...args, '--json');
    // the command's own document
    const { findings } = JSON.parse(run.stdout.toString()) as { findings: Finding[] };
    return { code: run.code, found: findings };
  }

  const verdictOf = (found: readonly Finding[], check: string): string | undefined =>
    found.find((finding) => finding.check === check)?.verdict;

  it('finds both sites fit when they are', async () => {
    await site.hvdr('lab', 'create-vm', 'lab', 'SQL01', '--disk', '1M');
    await site.startReceiver();
    for (const key of ['keys/source.psk', 'keys/operator.psk']) {
      const { code, found } = await examine(
        ...['--host', 'lab:lab', '--state-dir', 'keys', '--store', 'store', '--psk-file', key],
        ...['--dr-host', '127.0.0.1', '--dr-port', String(site.port)],
      );
      expect(code, JSON.stringify(found)).to.be.oneOf([0, 3]);
      for (const check of ['runtime', 'hypervisor', 'state folder', 'store', 'receiver']) {
        expect(verdictOf(found, check), check).to.equal('ok');
      }
      expect(found.find(({ check }) => check === 'hypervisor')?.detail).to.contain('1 VMs');
    }
  });

  it('names what would stop the work, with the remedy, and ends with 1', async () => {
    chmodSync(join(site.folder, 'keys/source.psk'), 0o644);
    const { code, found } = await examine(
      ...['--host', 'lab:nowhere', '--psk-file', 'keys/source.psk', 'keys/operator.psk'],
      ...['--dr-host', '127.0.0.1', '--dr-port', '1'],
    );
    expect(code).to.equal(1);
    for (const check of ['hypervisor', 'key keys/source.psk', 'receiver']) {
      const finding = found.find((each) => each.check === check);
      expect(finding?.verdict, check).to.equal('fail');
      expect(finding?.detail, check).to.match(/^E_[A-Z_]+: /);
      expect(finding?.remedy.length, check).to.be.above(10);
    }
    expect(verdictOf(found, 'key keys/operator.psk')).to.equal('ok');
  });

  it('prints a line for each check and an arrow before each remedy', async () => {
    const run = await site.try('doctor', '--store', 'nowhere');
    expect(run.code).to.equal(3);
    expect(run.stdout.toString()).to.match(/^ok {4}runtime: Node \d+/m);
    expect(run.stdout.toString()).to.match(/^warn {2}store: nowhere is not there yet\n {6}→ /m);
  });
});
