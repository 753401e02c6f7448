// `hvdr replica` on the command line: plans, confirmation, exit codes, and a host that has none of it.

import { expect } from 'chai';
import { runReplicaOrder } from '../../../cli/replica.js';
import { Output } from '../../../cli/output.js';
import { Lab } from '../../../shared/hypervisor/lab/index.js';
import type { ReplicaOrder } from '../../../shared/hypervisor/index.js';
import { nodeFileSystem } from '../../../shared/files/index.js';
import { systemClock, systemRandom } from '../../../shared/clock.js';
import { runInProcess } from '../../support/cli.js';
import { refusal } from '../../support/refusal.js';
import { ReplicaPair, VM } from '../../support/replica/pair.js';
import { WorkFolder } from '../../support/work-folder.js';

const UNPLANNED: ReplicaOrder = { verb: 'unplanned', pointId: undefined };

/** The order at the replica, with these flags; what was printed as JSON lines. */
async function order(
  pair: ReplicaPair,
  wish: ReplicaOrder,
  flags: Parameters<typeof runReplicaOrder>[4],
  stopSignal = new AbortController().signal,
): Promise<readonly Record<string, unknown>[]> {
  let text = '';
  const output = new Output({
    writeOut: (chunk) => {
      text += Buffer.from(chunk).toString();
      return Promise.resolve();
    },
    writeError: () => undefined,
    errorIsTerminal: false,
    errorColumns: 80,
  });
  output.json = true;
  const vm = { id: VM, name: 'SQL01', powerState: 'off' } as const;
  const context = { output, stopSignal: () => stopSignal };
  await runReplicaOrder(context, pair.replica.host(), vm, wish, flags);
  await output.flush();
  const documents = flags.plan === true ? [text] : text.trim().split('\n');
  // the command's own documents
  return documents.map((each) => JSON.parse(each) as Record<string, unknown>);
}

describe('hvdr replica', () => {
  it('prints a plan, wants its hash for what decides something, and does it then', async () => {
    const pair = ReplicaPair.replicating();
    const [plan] = await order(pair, UNPLANNED, { plan: true });
    expect(plan).to.include({ verb: 'unplanned', state: 'Replicating', isDestructive: true });
    expect(plan?.['losesAfter']).to.equal('2026-01-01T00:00:00.000Z');
    for (const flags of [
      {},
      { confirm: 'ffffffffffff' },
      { confirm: String(plan?.['hash']).slice(0, 8) },
    ]) {
      const error = await refusal(() => order(pair, UNPLANNED, flags));
      expect(error.code).to.equal('E_CONFIRM');
    }
    expect(pair.replica.trace).to.deep.equal([]);
    const events = await order(pair, UNPLANNED, { confirm: String(plan?.['hash']).slice(0, 12) });
    expect(events.map(({ event }) => event)).to.deep.equal(['plan', 'step', 'step', 'result']);
    expect(events.at(-1)).to.include({
      state: 'FailedOverWaitingCompletion',
      powerState: 'running',
    });
  });

  it('refuses a hash when the world has changed, and what is done already wants none', async () => {
    const pair = ReplicaPair.replicating();
    const [plan] = await order(pair, UNPLANNED, { plan: true });
    Object.assign(pair.replica.relation ?? {}, { state: 'Suspended' });
    const stale = await refusal(() => order(pair, UNPLANNED, { confirm: String(plan?.['hash']) }));
    expect(stale.code).to.equal('E_CONFIRM');
    await order(pair, UNPLANNED, { yes: true });
    expect((await order(pair, UNPLANNED, {})).at(-1)).to.include({ event: 'result' });
  });

  it('shows in a plan why an order is refused, and gives the error when it is not a plan', async () => {
    const pair = ReplicaPair.replicating();
    const [plan] = await order(pair, { verb: 'undo' }, { plan: true });
    expect(plan?.['refusal']).to.include({ code: 'E_NOTHING_TO_UNDO' });
    expect((await refusal(() => order(pair, { verb: 'undo' }, { yes: true }))).exitCode).to.equal(
      10,
    );
  });

  it('does no further step once it is stopped', async () => {
    const pair = ReplicaPair.replicating();
    const stop = new AbortController();
    stop.abort(new Error('stopped'));
    const events = await order(pair, UNPLANNED, { yes: true }, stop.signal);
    expect(events.map(({ event }) => event)).to.deep.equal(['plan']);
    expect(pair.replica.trace).to.deep.equal([]);
  });

  describe('with the lab', () => {
    let work: WorkFolder;
    beforeEach(async () => {
      work = new WorkFolder('replica');
      const seams = { fs: nodeFileSystem, clock: systemClock, random: systemRandom };
      const lab = await Lab.create(work.file('lab'), seams);
      await lab.createVm({ name: 'SQL01', disks: [{ source: { sizeBytes: 1024 * 1024 } }] });
      await lab.close();
    });
    afterEach(() => {
      work.dispose();
    });

    for (const args of [
      ['status'],
      ['points', 'SQL01'],
      ['enable', 'SQL01', '--hvr-server', 'hv2'],
      ['failover', 'planned', 'SQL01', '--plan'],
    ]) {
      it(`${args.join(' ')} is refused with the way that there is`, async () => {
        const run = await runInProcess(['replica', ...args, '--host', 'lab:lab'], {
          folder: work.path,
        });
        expect(run.code).to.equal(16);
        expect(run.stderr).to.contain('E_HYPERVISOR').and.to.contain('`hvdr push` replicates');
      });
    }

    it('names what is wrong with a flag before it opens a host', async () => {
      for (const [args, word] of [
        [['enable', 'SQL01'], 'hvr_server'],
        [['failover', 'test', 'SQL01', '--point', 'latest'], 'no id of a recovery point'],
        [['status', '--rpo-seconds', 'soon'], 'no number of seconds'],
      ] as const) {
        const run = await runInProcess(['replica', ...args, '--host', 'lab:lab'], {
          folder: work.path,
        });
        expect(run.code, run.stderr).to.equal(2);
        expect(run.stderr).to.contain(word);
      }
    });
  });
});
