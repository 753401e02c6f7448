// SIGKILL of either side at random moments, again and again: after every kill the next push makes a
// point that equals the guest, and nothing of ours stays at the host. SLOW=1 kills 200 times.

import { readFileSync } from 'node:fs';
import { expect } from 'chai';
import { systemClock, systemRandom } from '../../shared/clock.js';
import { nodeFileSystem } from '../../shared/files/index.js';
import { openHypervisor } from '../../shared/hypervisor/index.js';
import { silentLog } from '../../shared/log.js';
import { runHvdr } from '../support/cli.js';
import { HvdrProcess } from '../support/hvdr-process.js';
import { SeededRandom } from '../support/seeded-random.js';
import { WorkFolder } from '../support/work-folder.js';

const SLOW = process.env['SLOW'] === '1';
const KILLS = SLOW ? 200 : 4;

describe('hvdr push: kills at random', function () {
  this.timeout(SLOW ? 3_600_000 : 120_000);
  const work = new WorkFolder('kills');
  const lab = work.file('lab');
  const store = work.file('store');
  const key = work.file('source.psk');
  let receiver: HvdrProcess | undefined;
  // below the range from which the system gives ports to others while the receiver is down
  const port = 10_001 + (process.pid % 9_000);

  const good = async (...args: readonly string[]): Promise<Buffer> => {
    const { code, stdout, stderr } = await runHvdr(args);
    expect(code, `${args.join(' ')}: ${stderr}`).to.equal(0);
    return stdout;
  };
  const start = async (): Promise<void> => {
    const args = ['--store', store, '--host', `lab:${lab}`, '--listen', `127.0.0.1:${port}`];
    receiver = new HvdrProcess(['receiver', ...args, '--psk-file', key]);
    await receiver.until(/^listening \S+:\d+\n/);
  };
  const push = (...more: readonly string[]): string[] => [
    ...['push', '--vm', 'web', '--host', `lab:${lab}`, '--dr-host', '127.0.0.1'],
    ...['--dr-port', `${port}`, '--psk-file', key, '--state-dir', work.file('state'), ...more],
  ];

  before(async () => {
    await good('psk', 'generate', '--out', key, '--principal', 'site-a');
    await good('lab', 'init', lab);
    await good('lab', 'create-vm', lab, 'web', '--disk', '24M');
    await good('lab', 'start', lab, 'web');
    await start();
  });

  after(async () => {
    await receiver?.stop('SIGKILL');
    work.dispose();
  });

  it(`loses nothing in ${KILLS} kills`, async () => {
    const seed = systemRandom.fill(Buffer.alloc(4)).readUInt32LE(0);
    const random = new SeededRandom(seed);
    for (let kill = 1; kill <= KILLS; kill++) {
      const place = `seed ${seed}, kill ${kill}`;
      const write = ['--random', '60', '--block', '64K', '--seed', `${kill}`];
      await good('lab', 'write', lab, 'web', '--disk', '0', ...write);
      const pushing = new HvdrProcess(push('--bandwidth', '3M'));
      await systemClock.sleep(random.between(200, 2500));
      if (random.chance(0.5)) {
        await pushing.stop('SIGKILL');
        const more = ['--random', '3', '--block', '4K', '--seed', `${kill + 1000}`];
        await good('lab', 'write', lab, 'web', '--disk', '0', ...more);
      } else {
        await receiver?.stop('SIGKILL');
        await start();
        // it goes on by itself, unless it had not yet reached the receiver
        const { code } = await pushing.ended;
        expect(code, place).to.be.oneOf([0, 21]);
      }
      await good(...push());
      await receiver?.stop('SIGTERM');
      const guest = await good('lab', 'read', lab, 'web', '--disk', '0');
      const out = work.file('out.raw');
      const what = ['--point', 'latest', '--disk', '0', '--format', 'raw', '--out', out, '--force'];
      await good('export', 'web', '--store', store, ...what);
      expect(readFileSync(out).equals(guest), place).to.equal(true);
      await start();
      await expectTidy(place);
    }
  });

  async function expectTidy(place: string): Promise<void> {
    const seams = {
      fs: nodeFileSystem,
      clock: systemClock,
      random: systemRandom,
      log: silentLog,
    };
    const host = await openHypervisor(`lab:${lab}`, seams);
    try {
      for (const { id } of await host.listVms()) {
        expect(await host.listCheckpoints(id), place).to.have.length(0);
        expect(await host.listReferencePoints(id), place).to.have.length(1);
      }
    } finally {
      await host.close();
    }
  }
});
