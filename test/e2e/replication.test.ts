// The main job as a user does it: lab host, receiver, push, points, export; every restore point
// compared with what the guest had at that moment.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { expect } from 'chai';
import { CELL_BYTES } from '../../shared/delta/index.js';
import { runHvdr } from '../support/cli.js';
import { needTool, sampleFile } from '../support/need.js';
import { expectTool } from '../support/run-tool.js';
import { SeededRandom } from '../support/seeded-random.js';
import { Site } from '../support/site.js';
import { TcpProxy } from '../support/tcp-proxy.js';

const VM = 'SQL01';

interface Moment {
  readonly point: string;
  readonly hashes: readonly string[];
}

describe('replication', () => {
  let site: Site;

  beforeEach(async () => {
    site = new Site(mkdtempSync(join(tmpdir(), 'hvdr-replication-')));
    await site.prepare();
  });

  afterEach(async () => {
    await site.stopReceiver('SIGKILL');
    rmSync(site.folder, { recursive: true, force: true });
  });

  async function moment(diskCount: number): Promise<Moment> {
    const hashes = await site.guestHashes(VM, diskCount);
    const { point } = await site.push(VM);
    return { point, hashes };
  }

  async function expectPoints(moments: readonly Moment[]): Promise<void> {
    expect(await site.points(VM)).to.deep.equal(moments.map(({ point }) => point));
    for (const { point, hashes } of moments) {
      expect(await site.pointHashes(VM, point, hashes.length), point).to.deep.equal(hashes);
    }
  }

  it('gives back each point of a VM with disks of odd sizes, 4096-byte sectors and checkpoints', async function () {
    needTool(this, 'qemu-img');
    this.timeout(300_000);
    const { folder } = site;
    // made by qemu-img, with data in it
    writeFileSync(join(folder, 'data.raw'), new SeededRandom(1).bytes(5 * 1024 * 1024 + 512 * 7));
    await expectTool('qemu-img', ['convert', '-O', 'vhdx', 'data.raw', 'qemu.vhdx'], { folder });
    await site.hvdr('vhdx', 'create', 'native.vhdx', '--size', '37M', '--logical-sector', '4096');
    await site.hvdr(
      ...['lab', 'create-vm', 'lab', VM, '--import', 'qemu.vhdx', 'native.vhdx'],
      ...['--disk', String(20 * 1024 * 1024 + 512)],
    );
    await site.hvdr('lab', 'start', 'lab', VM);
    await site.startReceiver();

    const moments = [await moment(3)];
    for (const disk of ['0', '1', '2']) {
      const random = ['--random', '20', '--block', '4K', '--seed', `1${disk}`];
      await site.hvdr('lab', 'write', 'lab', VM, '--disk', disk, ...random);
    }
    moments.push(await moment(3));
    await site.hvdr('lab', 'checkpoint', 'lab', VM, 'add', 'before the update');
    await site.hvdr('lab', 'write', 'lab', VM, '--disk', '1', '--zero', '1M,3M');
    await site.hvdr(
      ...['lab', 'write', 'lab', VM, '--disk', '2', '--random', '5', '--block', '64K'],
      ...['--seed', '99'],
    );
    moments.push(await moment(3));
    await site.hvdr('lab', 'checkpoint', 'lab', VM, 'remove', 'before the update');
    await site.hvdr(
      ...['lab', 'write', 'lab', VM, '--disk', '0', '--random', '3', '--block', '512'],
      ...['--seed', '5'],
    );
    moments.push(await moment(3));
    moments.push(await moment(3));

    await expectPoints(moments);
    // another program as the judge of an exported VHDX
    const last = moments.at(-1)?.point ?? '';
    await site.hvdr(
      ...['export', VM, '--point', last, '--disk', '0', '--format', 'vhdx', '--out', 'last.vhdx'],
      ...site.operator(),
    );
    const guest = await site.hvdr('lab', 'read', 'lab', VM, '--disk', '0');
    writeFileSync(join(folder, 'guest.raw'), guest.stdout);
    await expectTool('qemu-img', ['compare', '-f', 'raw', '-F', 'vhdx', 'guest.raw', 'last.vhdx'], {
      folder,
    });
  });

  it('compares by hashes after a checkpoint was applied, and sends what differs only', async () => {
    await site.hvdr('lab', 'create-vm', 'lab', VM, '--disk', '64M');
    await site.hvdr('lab', 'write', 'lab', VM, ...write(0, 200, 1));
    await site.startReceiver();
    const moments = [await moment(1)];
    await site.hvdr('lab', 'checkpoint', 'lab', VM, 'add', 'good');
    await site.hvdr('lab', 'write', 'lab', VM, ...write(0, 10, 2));
    moments.push(await moment(1));
    await site.hvdr('lab', 'checkpoint', 'lab', VM, 'apply', 'good');
    const hashes = await site.guestHashes(VM, 1);
    const pushed = await site.push(VM);
    expect(pushed.kind).to.equal('resync');
    expect(pushed.bytesSent).to.be.below(2 * 1024 * 1024);
    moments.push({ point: pushed.point, hashes });
    await expectPoints(moments);
  });

  it('follows disks that are resized, added and removed, and keeps the older points whole', async () => {
    await site.hvdr('lab', 'create-vm', 'lab', VM, '--disk', '20M', '--disk', '4M');
    await site.hvdr('lab', 'write', 'lab', VM, ...write(0, 64, 1));
    await site.hvdr('lab', 'write', 'lab', VM, ...write(1, 10, 2));
    await site.startReceiver();
    const moments = [await moment(2)];
    const before = await site.hvdr('lab', 'read', 'lab', VM, '--disk', '0');
    await site.hvdr('lab', 'disk', 'lab', VM, 'resize', '0', '24M');
    const grown = await site.hvdr('lab', 'read', 'lab', VM, '--disk', '0', '--length', '20M');
    expect(grown.stdout.equals(before.stdout), 'growing keeps the bytes').to.equal(true);
    moments.push(await moment(2));
    await site.hvdr('lab', 'disk', 'lab', VM, 'add', '2M');
    await site.hvdr('lab', 'write', 'lab', VM, ...write(2, 5, 3));
    moments.push(await moment(3));
    // smaller and larger again: what was cut off never comes back
    await site.hvdr('lab', 'disk', 'lab', VM, 'resize', '0', '9M');
    moments.push(await moment(3));
    await site.hvdr('lab', 'disk', 'lab', VM, 'resize', '0', '20M');
    moments.push(await moment(3));
    await site.hvdr('lab', 'disk', 'lab', VM, 'remove', '2');
    moments.push(await moment(2));
    await expectPoints(moments);
    await site.hvdr('verify', VM, '--point', 'all', ...site.operator());
  });

  it('takes its key from a file or from the environment, said either way', async () => {
    await site.hvdr('lab', 'create-vm', 'lab', VM, '--disk', '1M');
    await site.startReceiver();
    const key = readFileSync(join(site.folder, 'keys/source.psk'), 'utf8');
    for (const reference of ['keys/source.psk', 'file:keys/source.psk', 'env:SITE_KEY']) {
      const run = await runHvdr(
        [
          ...['push', '--vm', VM, '--host', 'lab:lab', '--state-dir', 'state'],
          ...['--dr-host', '127.0.0.1', '--dr-port', String(site.port), '--psk-file', reference],
        ],
        { folder: site.folder, environment: { SITE_KEY: key } },
      );
      expect(run.code, `${reference}: ${run.stderr}`).to.be.oneOf([0, 3]);
    }
    expect(await site.points(VM)).to.have.length(3);
  });

  it('takes disks that Windows made', async function () {
    this.timeout(300_000);
    for (const name of ['win10-fixed-10M', 'win2012-dynamic-1G']) {
      const packed = readFileSync(sampleFile(this, `vhdx/${name}.vhdx.gz`));
      writeFileSync(join(site.folder, `${name}.vhdx`), gunzipSync(packed));
    }
    await site.hvdr(
      ...['lab', 'create-vm', 'lab', VM],
      ...['--import', 'win10-fixed-10M.vhdx', 'win2012-dynamic-1G.vhdx'],
    );
    await site.startReceiver();
    const seeded = await site.push(VM);
    for (const [disk, name] of ['win10-fixed-10M', 'win2012-dynamic-1G'].entries()) {
      await site.hvdr(
        ...['export', VM, '--point', seeded.point, '--disk', String(disk), '--format', 'vhdx'],
        ...['--out', `${disk}.vhdx`, ...site.operator()],
      );
      await site.hvdr('vhdx', 'compare', `${name}.vhdx`, `${disk}.vhdx`);
    }
  });

  it('shows a wiretap no byte of the guest, and no key', async () => {
    // as text, and as bytes that no compression takes out of the stream
    const text = Buffer.from('the guest keeps this sentence for itself. '.repeat(2000));
    const noise = new SeededRandom(3).bytes(CELL_BYTES);
    writeFileSync(join(site.folder, 'secret'), Buffer.concat([noise, text]));
    await site.hvdr('lab', 'create-vm', 'lab', VM, '--disk', '8M');
    await site.hvdr(
      'lab',
      'write',
      'lab',
      VM,
      ...['--disk', '0', '--offset', '65536', '--file', 'secret'],
    );
    await site.startReceiver();
    const proxy = await TcpProxy.start({
      target: { host: '127.0.0.1', port: site.port },
      isRecording: true,
    });
    try {
      site.pushPort = proxy.port;
      const { bytesSent } = await site.push(VM);
      expect(bytesSent).to.be.above(CELL_BYTES);
      const recorded = Buffer.concat([proxy.recorded('to-server'), proxy.recorded('to-client')]);
      expect(recorded.length).to.be.above(CELL_BYTES);
      for (const word of ['the guest keeps', VM]) {
        expect(recorded.includes(word), word).to.equal(false);
      }
      for (let at = 0; at < noise.length; at += 4096) {
        expect(recorded.includes(noise.subarray(at, at + 16)), `at ${at}`).to.equal(false);
      }
      for (const file of ['keys/source.psk', 'keys/operator.psk']) {
        const key = readFileSync(join(site.folder, file), 'utf8').trim();
        expect(recorded.includes(key), file).to.equal(false);
      }
    } finally {
      await proxy.close();
    }
  });

  it('refuses a second receiver on one store, and a push that matches no VM', async () => {
    await site.hvdr('lab', 'create-vm', 'lab', VM, '--disk', '1M');
    await site.startReceiver();
    const second = await site.try(
      ...['receiver', '--store', 'store', '--host', 'lab:lab', '--listen', '127.0.0.1:0'],
      ...['--psk-file', 'keys'],
    );
    expect(second.code).to.equal(11);
    expect(second.stderr).to.match(/^E_LOCKED: /m);
    const none = await site.tryPush('NOBODY*');
    expect(none.code).to.equal(12);
    expect(none.stderr).to.match(/^E_NO_MATCH: /m);
    // the last line is the result, whatever came before
    const last = none.stdout.toString().trimEnd().split('\n').at(-1) ?? '';
    expect(JSON.parse(last)).to.have.property('event', 'result');
    writeFileSync(join(site.folder, 'daemon.conf'), 'vm=*\nhost=lab:lab\ndr_host=127.0.0.1\n', {
      mode: 0o600,
    });
    const daemon = await site.try('daemon', '--config', 'daemon.conf', '--dr-psk-file', 'no.psk');
    expect(daemon.code, 'a daemon without its key does not start').to.equal(16);
    expect(daemon.stderr).to.match(/^E_NOT_FOUND: /m);
    const wrong = await site.tryPush(VM, '--rpo-seconds', 'soon');
    expect(wrong.code).to.equal(2);
    const refused = wrong.stdout.toString().trimEnd();
    expect(JSON.parse(refused)).to.have.property('event', 'result');
  });
});

function write(disk: number, count: number, seed: number): string[] {
  return [
    ...['--disk', String(disk), '--random', String(count)],
    ...['--block', '64K', '--seed', String(seed)],
  ];
}
