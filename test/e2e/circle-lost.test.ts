// The primary is lost with its daemon in the middle of its work: an older point, back when the primary is
// there again, the newest one, for good, protected towards the former primary, and home without loss. Two
// lab sites with a receiver each, real processes; the guest's bytes are compared at every station.

import { expect } from 'chai';
import { CircleSite, DISK_COUNT, hashesOf, MAP } from '../support/circle-site.js';
import type { CliRun } from '../support/cli.js';
import { Site } from '../support/site.js';
import { WorkFolder } from '../support/work-folder.js';

interface Line {
  readonly event?: string;
  readonly state?: string;
  readonly home?: string;
  readonly bytesSent?: number;
}

const VM = 'LOST';
const MIB = 1024 * 1024;

/** What `--json` told, line by line. */
function linesOf({ stdout }: CliRun): Line[] {
  const lines = stdout.toString().trim().split('\n');
  // the contract of --json for long runs
  return lines.map((line) => JSON.parse(line) as Line);
}

describe('full circle of a primary that was lost', function () {
  this.timeout(240_000);
  const work = new WorkFolder('circle-lost');
  const both = new CircleSite(work.path);
  const { site } = both;
  /** The receiver that the former primary gets. */
  const atPrimary = new Site(work.path);
  let older: Buffer[] = [];
  let newest: Buffer[] = [];
  let olderPoint = '';
  let home: string[] = [];

  before(async () => {
    await both.prepare([VM]);
    await both.replicate([VM]);
  });

  after(async () => {
    await atPrimary.stopReceiver('SIGKILL');
    await both.dispose();
    work.dispose();
  });

  const comesBack = (): Promise<void> =>
    both.until('the agent of the primary', async () => {
      const plan = await both.run(['failover', 'undo'], VM, '--plan');
      return !plan.stdout.toString().includes('E_SOURCE_UNREACHABLE');
    });

  it('loses its power and its daemon, and runs at the DR site from an older point', async () => {
    older = await both.views('lab', VM);
    [olderPoint = ''] = await site.points(VM);
    await both.live('lab', VM, 20);
    newest = await both.views('lab', VM);
    await site.push(VM);
    // what no point has is lost with the primary
    await both.live('lab', VM, 4);
    await both.stopDaemon('SIGKILL');
    await site.hvdr('lab', 'stop', 'lab', VM, '--turn-off');
    await both.becomes('FAILED_OVER', ['failover', 'unplanned'], VM, '--point', olderPoint, ...MAP);
    await both.expectServes('dr', VM, older);
    await both.live('dr', VM, 5);
  });

  it('undo, when the primary is back: its disks are untouched, and cycles go on as deltas', async () => {
    const left = await both.views('lab', VM);
    await both.replicate([VM]);
    await comesBack();
    await both.becomes('PROTECTED', ['failover', 'undo'], VM, '--yes');
    await both.until('the fence is lifted', async () => !(await both.isFenced(VM)));
    await site.hvdr('lab', 'start', 'lab', VM);
    await both.expectServes('lab', VM, left);
    await both.live('lab', VM, 3);
    newest = await both.views('lab', VM);
    expect((await site.push(VM)).kind).to.equal('delta');
  });

  it('is lost again; the newest point runs, and stays', async () => {
    await both.stopDaemon('SIGKILL');
    await site.hvdr('lab', 'stop', 'lab', VM, '--turn-off');
    await both.becomes('FAILED_OVER', ['failover', 'unplanned'], VM, ...MAP);
    await both.expectServes('dr', VM, newest);
    await both.live('dr', VM, 8);
    const served = await both.views('dr', VM);
    await both.becomes('COMMITTED', ['failover', 'permanent'], VM, '--yes');
    await both.expectServes('dr', VM, served);
    expect(await site.pointHashes(VM, olderPoint, DISK_COUNT)).to.deep.equal(hashesOf(older));
    // the former primary hears that its VM is retired
    const pushed = await site.tryPush(VM);
    expect(pushed.code, pushed.stderr).to.equal(3);
    expect((await site.try('lab', 'start', 'lab', VM)).code).to.equal(25);
  });

  it('is protected towards the former primary: only what differs travels', async () => {
    await atPrimary.startReceiver('--store', 'store-a');
    const left = await both.views('lab', VM);
    const run = await site.hvdr(
      ...['reprotect', VM, '--host', 'lab:dr', '--state-dir', 'state-dr', '--principal', 'primary'],
      ...['--dr-host', '127.0.0.1', '--dr-port', String(atPrimary.port)],
      ...['--psk-file', 'keys/operator.psk', '--retired-host', '127.0.0.1', '--json'],
      ...['--retired-port', String(site.port), '--retired-psk-file', 'keys/operator.psk'],
    );
    const cycle = linesOf(run).find(({ event }) => event === 'cycle');
    expect(cycle?.bytesSent)
      .to.be.greaterThan(0)
      .and.lessThan(3 * MIB);
    home = linesOf(run).at(-1)?.home?.split(' ').slice(1) ?? [];
    expect(home).to.include('--replace-retired');
    const found = await both.views('lab', VM);
    expect(hashesOf(found)).to.deep.equal(hashesOf(left));
  });

  it('goes home without loss, with the networks that it had', async () => {
    await both.live('dr', VM, 6);
    const back = await both.views('dr', VM);
    const done = linesOf(await site.hvdr(...home, '--json')).at(-1);
    expect(done?.state).to.equal('FAILED_OVER');
    await both.expectServes('lab', VM, back);
    const adapters = await both.adaptersOf('lab', VM);
    expect(adapters.map(({ switchName }) => switchName)).to.deep.equal(['Prod', 'San']);
    expect((await site.try('lab', 'start', 'dr', VM)).code).to.equal(25);
  });
});
