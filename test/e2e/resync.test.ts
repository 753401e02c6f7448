// Whenever the source does not know what the receiver lacks, hashes are compared and only the cells
// that differ travel. Each way to come there, with its bytes counted and its points compared.

import { cpSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { CELL_BYTES } from '../../shared/delta/index.js';
import { Site } from '../support/site.js';

const VM = 'SQL01';

describe('resync', function () {
  this.timeout(240_000);
  let site: Site;

  beforeEach(async () => {
    site = new Site(mkdtempSync(join(tmpdir(), 'hvdr-resync-')));
    await site.prepare();
    await site.hvdr('lab', 'create-vm', 'lab', VM, '--disk', '32M');
    await write(300, 1);
    await site.startReceiver();
  });

  afterEach(async () => {
    await site.stopReceiver('SIGKILL');
    rmSync(site.folder, { recursive: true, force: true });
  });

  const at = (...names: string[]): string => join(site.folder, ...names);

  async function write(count: number, seed: number, vm = VM, disk = 0): Promise<void> {
    await site.hvdr(
      ...['lab', 'write', 'lab', vm, '--disk', String(disk), '--random', String(count)],
      ...['--block', '64K', '--seed', String(seed)],
    );
  }

  /** Pushes, and expects that about `cells` of data travelled and that the point is the guest. */
  async function expectResync(cells: number): Promise<void> {
    const pushed = await site.push(VM);
    expect(pushed.kind).to.equal('resync');
    expect(pushed.bytesSent).to.be.at.most(cells * CELL_BYTES + 16 * 1024);
    expect(pushed.bytesSent).to.be.at.least((cells - 2) * CELL_BYTES);
    const hashes = await site.guestHashes(VM, 1);
    expect(await site.pointHashes(VM, pushed.point, 1)).to.deep.equal(hashes);
    // from here on it is known again what changed
    await write(1, 999);
    const next = await site.push(VM);
    expect(next.kind).to.equal('delta');
    expect(await site.pointHashes(VM, next.point, 1)).to.deep.equal(await site.guestHashes(VM, 1));
    await site.hvdr('verify', VM, '--point', 'all', ...site.operator());
  }

  it('after the receiver was restored from an older copy', async () => {
    await site.push(VM);
    await site.stopReceiver();
    cpSync(at('store'), at('copy'), { recursive: true });
    await site.startReceiver();
    await write(5, 2);
    await site.push(VM);
    await write(6, 3);
    await site.push(VM);
    await site.stopReceiver();
    rmSync(at('store'), { recursive: true });
    cpSync(at('copy'), at('store'), { recursive: true });
    await site.startReceiver();
    await write(4, 4);
    await expectResync(15);
    expect(await site.points(VM)).to.have.length(3);
  });

  it('after the ledger was lost', async () => {
    await site.push(VM);
    await write(7, 2);
    rmSync(at('state'), { recursive: true });
    await expectResync(7);
  });

  it('after an older ledger came back', async () => {
    await site.push(VM);
    cpSync(at('state'), at('old-state'), { recursive: true });
    await write(7, 2);
    await site.push(VM);
    await write(5, 3);
    await site.push(VM);
    rmSync(at('state'), { recursive: true });
    cpSync(at('old-state'), at('state'), { recursive: true });
    await write(3, 4);
    await expectResync(3);
  });

  it('with the ledger of another VM, which is set aside', async () => {
    await site.hvdr('lab', 'create-vm', 'lab', 'WEB01', '--disk', '32M');
    await site.push(VM);
    await site.push('WEB01');
    const ledgers = readdirSync(at('state')).filter((name) => name.endsWith('.json'));
    const ids = JSON.parse(
      (await site.hvdr('seed', '--vm', VM, '--host', 'lab:lab', '--json')).stdout.toString(),
    ) as { vmId: string };
    const own = `${ids.vmId}.json`;
    const foreign = ledgers.find((name) => name !== own) ?? '';
    cpSync(at('state', foreign), at('state', own));
    await write(4, 2);
    await expectResync(4);
  });

  it('after the hypervisor lost its tracking', async () => {
    await site.push(VM);
    await write(6, 2);
    await site.hvdr('lab', 'fault', 'lab', VM, 'set', 'tracking-lost');
    const pushed = await site.push(VM);
    expect(pushed.kind).to.equal('resync');
    expect(pushed.bytesSent).to.be.at.most(6 * CELL_BYTES + 16 * 1024);
    await site.hvdr('lab', 'fault', 'lab', VM, 'clear', 'tracking-lost');
    expect(await site.pointHashes(VM, pushed.point, 1)).to.deep.equal(
      await site.guestHashes(VM, 1),
    );
  });

  it('sends next to nothing to a second receiver that holds a copy of the store', async () => {
    // the same store id: a copy is the same store to the source
    await site.push(VM);
    await write(2, 2);
    await site.stopReceiver();
    cpSync(at('store'), at('copy'), { recursive: true });
    await site.startReceiver();
    await site.push(VM);
    await site.stopReceiver();
    rmSync(at('store'), { recursive: true });
    cpSync(at('copy'), at('store'), { recursive: true });
    await site.startReceiver();
    await expectResync(2);
  });

  it('of a disk that was away for a while names the cells of the point that still has it', async () => {
    await site.hvdr('vhdx', 'create', 'moving.vhdx', '--size', '16M');
    await site.hvdr('lab', 'disk', 'lab', VM, 'attach', 'moving.vhdx');
    await write(150, 7, VM, 1);
    const with_ = await site.push(VM);
    const before = await site.guestHashes(VM, 2);
    await site.hvdr('lab', 'disk', 'lab', VM, 'remove', '1');
    await site.push(VM);
    await site.hvdr('lab', 'disk', 'lab', VM, 'attach', 'moving.vhdx');
    await write(5, 8, VM, 1);
    const pushed = await site.push(VM);
    expect(pushed.bytesSent).to.be.at.most(5 * CELL_BYTES + 32 * 1024);
    expect(await site.pointHashes(VM, pushed.point, 2)).to.deep.equal(
      await site.guestHashes(VM, 2),
    );
    expect(await site.pointHashes(VM, with_.point, 2)).to.deep.equal(before);
    await site.hvdr('verify', VM, '--point', 'all', ...site.operator());
  });
});
