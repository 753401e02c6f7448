// The line between the sites, or the source itself, goes away in the steps of a planned failover that need
// the source, and the line in those of a failback and its commit. While it is away at most one site has the VM; when it is back the operation goes on or is
// taken back, or, when an unplanned failover took its place, the source is fenced, or a split brain is
// seen. SLOW=1 tries every step.

import { expect } from 'chai';
import { expectViews } from '../support/lab-model.js';
import { FailoverSite } from '../support/failover-site.js';
import { TcpProxy } from '../support/tcp-proxy.js';
import { WorkFolder } from '../support/work-folder.js';

const SLOW = process.env['SLOW'] === '1';
const VM = 'SQL01';
const CUT_AT = SLOW ? ['P1', 'P2', 'P3', 'P4', 'P5'] : ['P2', 'P3', 'P5'];
const FAILBACK_CUT_AT = SLOW ? ['F1', 'F2', 'F3', 'F4'] : ['F1', 'F2'];
const KILLED_AT = ['P1', 'P2', 'P3', 'P4', 'P5'];
const TRIES_MAX = 100;

describe('hvdr failover: the source is cut off', function () {
  this.timeout(SLOW ? 1_800_000 : 240_000);
  const work = new WorkFolder('failover-partition');
  const both = new FailoverSite(work.path);
  let proxy: TcpProxy;
  let seed = 50;

  before(async () => {
    await both.prepare([VM]);
    const target = { host: '127.0.0.1', port: both.site.port };
    proxy = await TcpProxy.start({ target, isRecording: false });
    both.startDaemon(proxy.port);
    await both.until('a point', async () => {
      const run = await both.site.try('status', ...both.operator, '--json');
      return run.stdout.toString().includes('"PROTECTED"');
    });
  });

  after(async () => {
    await both.dispose();
    await proxy.close();
    work.dispose();
  });

  /** A planned failover, or another command, that is disturbed as soon as it is at this step. */
  const disturbedAt = async (
    step: string,
    disturb: () => unknown,
    command: readonly string[] = ['failover', 'planned'],
  ): Promise<void> => {
    const running = both.begin(command, VM);
    await running.until(new RegExp(`"step":"${step}"`));
    await disturb();
    await running.ended;
  };

  /** The record and what runs say the same: one site, or people have been asked to decide. */
  const expectOneActive = async (areTalking = true): Promise<string> => {
    const { state } = await both.status(VM);
    const runsAt = { lab: await both.powerOf('lab', VM), dr: await both.powerOf('dr', VM) };
    if (areTalking && runsAt.lab === 'running' && runsAt.dr === 'running') {
      expect(state).to.equal('SPLIT_BRAIN');
    }
    if (['PROTECTED', 'FAILING_OVER'].includes(state)) {
      expect(runsAt.dr, state).to.not.equal('running');
    }
    return state;
  };

  const expectHome = async (wanted: readonly Buffer[]): Promise<void> => {
    await both.until('it runs at the primary', async () => {
      return (await both.powerOf('lab', VM)) === 'running' && !(await both.isFenced(VM));
    });
    expect(await both.powerOf('dr', VM)).to.equal(undefined);
    expectViews(await both.views('lab', VM), wanted, 'at the primary');
  };

  /** As soon as the agent is there again. */
  const done = async (command: readonly string[], ...more: readonly string[]): Promise<void> => {
    let last = '';
    for (let count = 0; count < TRIES_MAX; count++) {
      const run = await both.run(command, VM, ...more);
      last = run.stderr;
      if (run.code === 0) return;
      expect(last).to.match(/E_SOURCE_UNREACHABLE|E_LOCKED/);
    }
    throw new Error(`${command.join(' ')} does not work: ${last}`);
  };

  const cut = (): void => {
    proxy.refuse(true);
    proxy.cut();
  };

  /** It was failed over, has written since, and nobody else has these bytes. */
  const failedOver = async (): Promise<readonly Buffer[]> => {
    await done(['failover', 'planned']);
    await both.write(VM, ++seed, 'dr');
    return both.views('dr', VM);
  };

  const expectNotBoth = async (): Promise<void> => {
    const powers = [await both.powerOf('lab', VM), await both.powerOf('dr', VM)];
    expect(powers).to.not.deep.equal(['running', 'running']);
  };

  for (const step of FAILBACK_CUT_AT) {
    it(`the line is cut at ${step} of failback, and comes back: resume goes on`, async () => {
      const wanted = await failedOver();
      await disturbedAt(step, cut, ['failback']);
      await expectNotBoth();
      proxy.refuse(false);
      if ((await both.status(VM)).state === 'FAILING_BACK') await done(['resume']);
      expect((await both.status(VM)).state).to.equal('FAILED_BACK');
      await expectNotBoth();
      expectViews(await both.views('lab', VM), wanted, 'at the primary');
      await done(['failover', 'permanent'], '--yes');
      await expectHome(wanted);
    });
  }

  it('the line is cut at F8 of a failback, and comes back: the same command goes on', async () => {
    const wanted = await failedOver();
    await done(['failback']);
    await disturbedAt('F8', cut, ['failover', 'permanent', '--yes']);
    await expectNotBoth();
    proxy.refuse(false);
    if ((await both.status(VM)).state === 'FAILED_BACK') {
      await done(['failover', 'permanent'], '--yes');
    }
    await expectHome(wanted);
    await both.write(VM, ++seed);
    const pushed = await both.site.push(VM);
    expect(pushed.kind).to.equal('delta');
    expect(await both.site.pointHashes(VM, pushed.point, 2)).to.deep.equal(
      await both.site.guestHashes(VM, 2),
    );
  });

  for (const [index, step] of CUT_AT.entries()) {
    it(`the line is cut at ${step}, and comes back: nothing is lost, or nothing happened`, async () => {
      await both.write(VM, ++seed);
      const wanted = await both.views('lab', VM);
      await disturbedAt(step, cut);
      const stands = await expectOneActive(false);
      expect(stands).to.be.oneOf(['PROTECTED', 'FAILING_OVER', 'FAILED_OVER']);
      proxy.refuse(false);
      const act = index % 2 === 0 ? 'abort' : 'resume';
      if (stands === 'FAILING_OVER') await done([act]);
      const state = await expectOneActive();
      expect(state).to.be.oneOf(['PROTECTED', 'FAILED_OVER']);
      if (state === 'FAILED_OVER') {
        expectViews(await both.views('dr', VM), wanted, 'at the DR site');
        await done(['failover', 'undo'], '--yes');
      }
      await expectHome(wanted);
    });
  }

  for (const step of KILLED_AT) {
    it(`the source dies at ${step}: unplanned takes its place, and the source does not come back into the pair`, async () => {
      await both.write(VM, ++seed);
      const wanted = await both.views('lab', VM);
      await disturbedAt(step, () => both.stopDaemon('SIGKILL'));
      if ((await expectOneActive(false)) !== 'FAILED_OVER') {
        await done(['failover', 'unplanned'], '--yes');
      }
      const { epoch, instance } = await both.status(VM);
      expect(instance).to.equal(VM);
      const wasRunning = (await both.powerOf('lab', VM)) === 'running';
      both.startDaemon(proxy.port);
      if (wasRunning) {
        await both.until('the split brain is seen', async () => {
          return (await both.status(VM)).state === 'SPLIT_BRAIN';
        });
        // nothing was done to either VM
        expect(await both.powerOf('lab', VM)).to.equal('running');
        expect(await both.powerOf('dr', VM)).to.equal('running');
      } else {
        await both.until('the source is fenced', () => both.isFenced(VM));
        expect(await expectOneActive()).to.equal('FAILED_OVER');
        expect((await both.site.try('lab', 'start', 'lab', VM)).code).to.equal(25);
      }
      const refused = await both.site.tryPush(VM);
      // failed over, or an older epoch
      expect(refused.code, refused.stderr).to.be.oneOf(wasRunning ? [25] : [10, 24]);
      expect((await both.status(VM)).epoch).to.equal(epoch);
      if (wasRunning) await done(['resolve'], '--keep', 'source', '--yes');
      else await done(['failover', 'undo'], '--yes');
      await expectHome(wanted);
      const pushed = await both.site.push(VM);
      expect(await both.site.pointHashes(VM, pushed.point, 2)).to.deep.equal(
        await both.site.guestHashes(VM, 2),
      );
    });
  }
});
