// A real daemon that is attached to a receiver over real sockets: what the DR site asks for happens on
// the lab host.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import type { Guid } from '../../shared/bytes/index.js';
import { loadKeyRing } from '../../shared/channel/index.js';
import { systemClock, systemRandom } from '../../shared/clock.js';
import { DrError } from '../../shared/errors.js';
import { nodeFileSystem } from '../../shared/files/index.js';
import { silentLog } from '../../shared/log.js';
import { Receiver, type ServedReceiver, serveReceiver } from '../../dr-receiver/index.js';
import type { SourceSite } from '../../dr-receiver/failover/ports.js';
import { testGuid } from '../support/fake-source-hypervisor.js';
import { HvdrProcess } from '../support/hvdr-process.js';
import { refusal } from '../support/refusal.js';
import { Site } from '../support/site.js';

const HOW = { timeoutMs: 30_000, mayTurnOff: false };
const ORDER = { operationId: testGuid(0xe2e), epoch: 1n };

describe('e2e: attach', function () {
  this.timeout(240_000);
  let site: Site;
  let receiver: Receiver;
  let served: ServedReceiver;
  let daemon: HvdrProcess | undefined;
  let port = 0;

  const serve = async (): Promise<void> => {
    const seams = { fs: nodeFileSystem, clock: systemClock, random: systemRandom, log: silentLog };
    receiver = await Receiver.open({ ...seams, storeFolder: join(site.folder, 'store') });
    const keys = await loadKeyRing([join(site.folder, 'keys')], {
      fs: nodeFileSystem,
      environment: {},
      log: silentLog,
    });
    served = await serveReceiver(receiver, { host: '127.0.0.1', port, keys });
    ({ port } = served);
  };

  beforeEach(async () => {
    site = new Site(mkdtempSync(join(tmpdir(), 'hvdr-attach-')));
    await site.prepare();
    await site.hvdr('lab', 'create-vm', 'lab', 'web', '--disk', '4M');
    await site.hvdr('lab', 'start', 'lab', 'web');
    await serve();
  });

  afterEach(async () => {
    await daemon?.stop('SIGKILL');
    daemon = undefined;
    await served.close();
    rmSync(site.folder, { recursive: true, force: true });
  });

  const start = (...more: string[]): HvdrProcess => {
    const config = join(site.folder, 'daemon.conf');
    const lines = [
      `host=lab:${join(site.folder, 'lab')}`,
      'dr_host=127.0.0.1',
      `dr_port=${port}`,
      `dr_psk_file=${join(site.folder, 'keys/source.psk')}`,
      `state_dir=${join(site.folder, 'state')}`,
      'push_interval=3600',
      'vm=web',
      ...more,
    ];
    writeFileSync(config, `${lines.join('\n')}\n`);
    daemon = new HvdrProcess(['daemon', '--config', config, '--json']);
    return daemon;
  };

  /** The agent of the VM, once it is attached. */
  const attached = async (): Promise<{ vmId: Guid; source: SourceSite }> => {
    for (let count = 0; count < 600; count++) {
      for (const { vm } of await receiver.allDesks()) {
        const source = receiver.sources.find(vm.vmId, vm.protection.owner);
        if (source !== undefined && vm.protection.head !== undefined)
          return { vmId: vm.vmId, source };
      }
      await systemClock.sleep(100);
    }
    throw new Error('no agent came');
  };

  const labState = async (): Promise<string> =>
    (await site.hvdr('lab', 'show', 'lab', 'web', '--json')).stdout.toString();

  it('shuts down, fences and brings the last changes of a VM, as far as its job allows', async () => {
    const running = start('remote_actions=shutdown');
    const { vmId, source } = await attached();
    expect(await source.describe(vmId)).to.deep.include({ powerState: 'running', isFenced: false });
    await site.hvdr('lab', 'write', 'lab', 'web', '--random', '3', '--seed', '1');
    await source.presync(vmId, ORDER);
    await source.shutDown(vmId, ORDER, HOW);
    await source.fence(vmId, ORDER);
    expect(await labState()).to.contain('"off"');
    const refused = await site.try('lab', 'start', 'lab', 'web');
    expect(refused.stderr).to.contain('E_FENCED');
    const { pointId } = await source.finalCycle(vmId, ORDER);
    const desk = await receiver.desk(vmId);
    expect(desk?.vm.protection.head?.pointId).to.equal(pointId);
    // the abort of a planned failover
    await source.unfence(vmId, ORDER);
    await source.start(vmId, ORDER);
    expect((await source.describe(vmId)).powerState).to.equal('running');
    expect((await running.stop('SIGTERM')).code).to.equal(143);
    const gone = await refusal(() => source.describe(vmId));
    expect(gone.code).to.equal('E_SOURCE_UNREACHABLE');
  });

  it('allows nothing when its job names nothing, and comes again to a receiver that was away', async () => {
    start();
    const { vmId, source } = await attached();
    const error = await refusal(() => source.shutDown(vmId, ORDER, HOW));
    expect(error).to.be.instanceOf(DrError);
    expect(error.code).to.equal('E_REMOTE_ACTION');
    await served.close();
    await serve();
    const again = await attached();
    expect((await again.source.describe(vmId)).powerState).to.equal('running');
  });
});
