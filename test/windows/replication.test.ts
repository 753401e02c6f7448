// The Windows executable under Wine replicates with Linux, both ways, and is both sites of a failover. What the guest
// has is compared byte for byte at each station.

import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { systemClock } from '../../shared/clock.js';
import { runHvdr } from '../support/cli.js';
import { HvdrProcess } from '../support/hvdr-process.js';
import { SeededRandom } from '../support/seeded-random.js';
import { type WineService, WindowsProduct } from '../support/windows-product.js';
import { needWine, windowsPath, WinePrefix } from '../support/wine.js';
import { WorkFolder } from '../support/work-folder.js';

const MIB = 1024 * 1024;
const LAB = 'C:\\labs\\primary';
const DR_LAB = 'C:\\labs\\dr site';
const STORE = 'C:\\dr\\store';
const KEYS = 'C:\\keys';

describe('the Windows executable replicates', function () {
  this.timeout(60_000);
  let work: WorkFolder;
  let windows: WindowsProduct;
  const leftovers: (() => Promise<void> | void)[] = [];

  before(async function () {
    needWine(this);
    work = new WorkFolder('windows-replication');
    leftovers.push(() => {
      work.dispose();
    });
    const prefix = await WinePrefix.create();
    leftovers.unshift(() => prefix.dispose());
    windows = await WindowsProduct.install(prefix);
    const image = work.file('disk.raw');
    writeFileSync(image, Buffer.concat([new SeededRandom(7).bytes(3 * MIB), Buffer.alloc(MIB)]));
    for (const [name, role] of [
      ['source', 'source'],
      ['operator', 'operator'],
    ] as const) {
      await windows.hvdr([
        ...['psk', 'generate', '--out', `${KEYS}\\${name}.psk`, '--role', role],
        ...['--principal', name],
      ]);
    }
    await windows.hvdr(['lab', 'init', LAB]);
    await windows.hvdr(['lab', 'create-vm', LAB, 'SQL01', '--import', windowsPath(image)]);
    await windows.hvdr(['lab', 'start', LAB, 'SQL01']);
  });

  after(async () => {
    for (const remove of leftovers) await remove();
  });

  const key = (name: string): string => `${KEYS}\\${name}.psk`;
  /** A copy for Linux: Wine shows the rights of administrators as those of a group. */
  const keyFile = (name: string): string => {
    const copy = work.file(`${name}.psk`);
    writeFileSync(copy, readFileSync(windows.prefix.file(`keys/${name}.psk`)), { mode: 0o600 });
    return copy;
  };
  const labFile = (): string => windows.prefix.file('labs/primary');
  const guestWrites = (lab: string, vm: string, seed: number): Promise<unknown> =>
    windows.hvdr([
      ...['lab', 'write', lab, vm, '--disk', '0', '--random', '9'],
      ...['--block', '64K', '--seed', String(seed)],
    ]);
  const guestBytes = async (lab: string, vm: string): Promise<Buffer> =>
    (await windows.hvdr(['lab', 'read', lab, vm, '--disk', '0'])).stdout;
  const linux = async (...args: readonly string[]): Promise<Buffer> => {
    const { code, stdout, stderr } = await runHvdr(args);
    expect(code, `${args.join(' ')}: ${stderr}`).to.equal(0);
    return stdout;
  };
  const pushArgs = (port: number): string[] => [
    ...['push', '--vm', 'SQL01', '--host', `lab:${LAB}`, '--dr-host', '127.0.0.1'],
    ...['--dr-port', String(port), '--psk-file', key('source'), '--state-dir', 'C:\\state'],
  ];
  const push = async (port: number): Promise<unknown> => {
    const { vms } = await windows.json(pushArgs(port));
    return (vms as { kind: string }[])[0]?.kind;
  };

  it('from Windows to a receiver on Linux', async () => {
    const store = work.file('store');
    const receiver = new HvdrProcess([
      ...['receiver', '--store', store, '--listen', '127.0.0.1:0', '--psk-file', keyFile('source')],
    ]);
    try {
      const [, port] = await receiver.until(/^listening \S+:(\d+)\n/);
      expect(await push(Number(port))).to.equal('seed');
      await guestWrites(LAB, 'SQL01', 1);
      expect(await push(Number(port))).to.equal('delta');
    } finally {
      await receiver.stop('SIGTERM');
    }
    const out = work.file('out.raw');
    await linux(
      ...['export', 'SQL01', '--store', store, '--point', 'latest', '--disk', '0'],
      ...['--format', 'raw', '--out', out],
    );
    expect(readFileSync(out).equals(await guestBytes(LAB, 'SQL01'))).to.equal(true);
  });

  describe('to Windows', () => {
    let receiver: (WineService & { port: number }) | undefined;
    const start = async (port = 0): Promise<number> => {
      receiver = await windows.serve([
        ...[
          'receiver',
          '--store',
          STORE,
          '--host',
          `lab:${DR_LAB}`,
          '--listen',
          `127.0.0.1:${port}`,
        ],
        ...['--psk-file', key('source'), '--psk-file', key('operator')],
      ]);
      return receiver.port;
    };
    const operator = (): string[] => [
      ...['--dr-host', '127.0.0.1', '--dr-port', String(receiver?.port)],
      ...['--psk-file', key('operator')],
    ];
    const becomes = async (state: string, ...args: readonly string[]): Promise<unknown> => {
      const told = await windows.json([...args, ...operator()]);
      expect(told['state'], args.join(' ')).to.equal(state);
      return told;
    };
    const atPrimary = ['--host', `lab:${LAB}`, '--state-dir', 'C:\\state'];

    before(() => windows.hvdr(['lab', 'init', DR_LAB]));
    after(() => receiver?.stop());

    it('from a source on Linux, whose receiver is terminated in the midst and started again', async () => {
      const lab = work.file('lab');
      await linux('lab', 'init', lab);
      await linux('lab', 'create-vm', lab, 'APP01', '--import', work.file('disk.raw'));
      await linux('lab', 'start', lab, 'APP01');
      const port = await start();
      const slow = new HvdrProcess([
        ...['push', '--vm', 'APP01', '--host', `lab:${lab}`, '--dr-host', '127.0.0.1'],
        ...['--dr-port', String(port), '--psk-file', keyFile('source')],
        ...['--state-dir', work.file('state'), '--bandwidth', '1M'],
      ]);
      await Promise.race([
        untilBytes(windows.prefix.file('dr/store'), MIB),
        slow.ended.then(({ stderr }) => {
          throw new Error(`the push ended: ${stderr}`);
        }),
      ]);
      await receiver?.kill();
      await start(port);
      expect((await slow.ended).code).to.equal(0);
      await windows.hvdr(['verify', 'APP01', '--point', 'all', ...operator()]);
      expect(await receiver?.stop()).to.equal(0);
      const out = 'C:\\out.raw';
      await windows.hvdr([
        ...['export', 'APP01', '--store', STORE, '--point', 'latest', '--disk', '0'],
        ...['--format', 'raw', '--out', out],
      ]);
      const guest = await linux('lab', 'read', lab, 'APP01', '--disk', '0');
      expect(readFileSync(windows.prefix.file('out.raw')).equals(guest)).to.equal(true);
    });

    it('and one receiver at a time works on a store', async () => {
      await start();
      const second = await windows.run(['receiver', '--store', STORE, '--psk-file', key('source')]);
      expect(second.code).to.equal(11);
      expect(second.stderr).to.contain('E_LOCKED');
    });

    it('moves there, and comes home with all that was written there', async () => {
      expect(await push(receiver?.port ?? 0)).to.equal('seed');
      await becomes('PROTECTED', 'failover', 'test', 'SQL01');
      await guestWrites(LAB, 'SQL01', 2);
      await becomes('FAILED_OVER', 'failover', 'planned', 'SQL01', ...atPrimary);
      const left = await guestBytes(LAB, 'SQL01');
      expect((await guestBytes(DR_LAB, 'SQL01')).equals(left)).to.equal(true);
      await guestWrites(DR_LAB, 'SQL01', 3);
      await becomes('FAILING_BACK', 'failback', 'SQL01', '--stage', 'sync', ...atPrimary);
      await guestWrites(DR_LAB, 'SQL01', 4);
      const last = await guestBytes(DR_LAB, 'SQL01');
      await becomes('FAILED_BACK', 'failback', 'SQL01', ...atPrimary);
      expect((await guestBytes(LAB, 'SQL01')).equals(last)).to.equal(true);
      await becomes('PROTECTED', 'failover', 'permanent', 'SQL01', '--yes', ...atPrimary);
      // the lab on the other system's disk is the same lab
      expect((await linux('lab', 'read', labFile(), 'SQL01', '--disk', '0')).equals(last)).to.equal(
        true,
      );
    });
  });
});

function folderBytes(folder: string): number {
  let sum = 0;
  for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true })) {
    if (entry.isFile()) sum += readFileSync(join(entry.parentPath, entry.name)).length;
  }
  return sum;
}

async function untilBytes(folder: string, bytes: number): Promise<void> {
  while (folderBytes(folder) < bytes) await systemClock.sleep(50);
}
