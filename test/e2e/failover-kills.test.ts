// SIGKILL of the receiver as soon as its journal shows a step, for every command of failover, and of the
// agent of the primary in the steps of a failback that it has a part in. After the
// restart `hvdr status` says what is under way or that nothing is, `hvdr resume` and `hvdr abort` end it,
// and the guest's bytes are at the one site that has it. SLOW=1 kills in every step.

import { expect } from 'chai';
import { expectViews } from '../support/lab-model.js';
import { FailoverSite, type VmStatus } from '../support/failover-site.js';
import { WorkFolder } from '../support/work-folder.js';

const SLOW = process.env['SLOW'] === '1';
const VM = 'SQL01';
const STEP = /"step":"([A-Z]\d+)"/g;

/** The steps in which the receiver dies. */
function chosen(all: string, some: string): readonly string[] {
  return (SLOW ? all : some).split(' ');
}

const PLANNED = chosen('P1 P2 P3 P4 P5 P6 P7 P8 P9', 'P2 P3 P5 P7 P8');
const UNPLANNED = chosen('U1 U2 U3 U4 U5 U6 U7', 'U2 U4 U6');
const UNDO = chosen('N1 N2 N3 N4 N5 N6', 'N2 N4');
const TEST = chosen('T1 T2 T3 T4 T5 T6 T7', 'T2 T5');
const PERMANENT = chosen('C1 C2 C3 C4', 'C1 C2');
const FAILBACK = chosen('F1 F2 F3 F4 F5', 'F1 F2 F4');
const RETURN = chosen('F6 F7 F8 F9 F10', 'F7 F9');
const GOING_BACK = chosen('B1 B2 B3 B4', 'B1 B3');
/** The source dies in them. */
const AT_SOURCE = chosen('F1 F2 F3 F4', 'F1 F2 F4');
const COMMIT_AT_SOURCE = chosen('F6 F7 F8', 'F8');
const SETTLES_MAX = 100;

describe('hvdr failover: the receiver is killed', function () {
  this.timeout(SLOW ? 1_800_000 : 240_000);
  const work = new WorkFolder('failover-kills');
  const both = new FailoverSite(work.path);
  let seed = 100;

  before(async () => {
    await both.prepare([VM, ...PERMANENT.map((step) => `VM-${step}`)]);
    both.startDaemon();
    const all = [VM, ...PERMANENT.map((step) => `VM-${step}`)];
    await both.until('a point of each VM', async () => {
      const run = await both.site.try('status', ...both.operator, '--json');
      // the contract of `hvdr status --json`
      const { protections } = JSON.parse(run.stdout.toString()) as { protections: VmStatus[] };
      return protections.filter(({ state }) => state === 'PROTECTED').length === all.length;
    });
  });

  after(async () => {
    await both.dispose();
    work.dispose();
  });

  /** Begins the command, and kills the receiver when it says that it is at this step. */
  const killedAt = async (
    step: string,
    command: readonly string[],
    vm = VM,
    ...more: readonly string[]
  ): Promise<VmStatus> => {
    const running = both.begin(command, vm, ...more);
    await running.until(new RegExp(`"step":"${step}"`));
    await both.killReceiver();
    const { stdout, stderr } = await running.ended;
    const steps = [...stdout.matchAll(STEP)].map((match) => match[1]);
    expect(steps, stderr).to.include(step);
    await both.site.startReceiver();
    const status = await both.status(vm);
    const { state, operation, validCommands } = status;
    if (['FAILING_OVER', 'UNDOING', 'FAILING_BACK'].includes(state)) {
      expect(operation, `status after ${step}`).to.match(/, step [PUNFB]\d/);
      expect(validCommands, `after ${step}`).to.include('resume');
    }
    return status;
  };

  /** `hvdr resume`, as often as the other site was not there yet. */
  const settled = async (vm = VM, act = 'resume'): Promise<string> => {
    for (let count = 0; count < SETTLES_MAX; count++) {
      const { state, operation, tests } = await both.status(vm);
      if (operation === null && tests.length === 0) return state;
      await both.run([act], vm);
    }
    throw new Error(`${vm} does not come to an end`);
  };

  const expectHome = async (wanted: readonly Buffer[]): Promise<void> => {
    await both.until('it runs at the primary', async () => {
      return (await both.powerOf('lab', VM)) === 'running' && !(await both.isFenced(VM));
    });
    expect(await both.powerOf('dr', VM)).to.equal(undefined);
    expectViews(await both.views('lab', VM), wanted, 'at the primary');
  };

  const expectServes = async (wanted: readonly Buffer[], vm = VM): Promise<void> => {
    expect(await both.powerOf('dr', vm)).to.equal('running');
    expectViews(await both.views('dr', vm), wanted, 'at the DR site');
    await both.until('the source is fenced', () => both.isFenced(vm));
    expect(await both.powerOf('lab', vm)).to.equal('off');
  };

  const done = async (command: readonly string[], ...more: readonly string[]): Promise<void> => {
    const run = await both.run(command, VM, ...more);
    expect(run.code, run.stderr).to.equal(0);
  };
  const undo = (): Promise<void> => done(['failover', 'undo'], '--yes');

  /** It was failed over and has written here since; returns what it sees. */
  const failedOver = async (): Promise<readonly Buffer[]> => {
    await done(['failover', 'planned']);
    await both.write(VM, ++seed, 'dr');
    return both.views('dr', VM);
  };

  /** It runs at the primary by a failback that is not committed, and only there. */
  const expectServesHome = async (wanted: readonly Buffer[]): Promise<void> => {
    expect(await both.powerOf('lab', VM)).to.equal('running');
    expect(await both.isFenced(VM)).to.equal(false);
    expect(await both.powerOf('dr', VM)).to.equal('off');
    expectViews(await both.views('lab', VM), wanted, 'at the primary');
    expectViews(await both.views('dr', VM), wanted, 'kept at the DR site');
  };

  /** Kills the agent of the primary, and starts it when the command has ended. */
  const sourceKilledAt = async (step: string, ...command: readonly string[]): Promise<void> => {
    const running = both.begin(command, VM);
    await running.until(new RegExp(`"step":"${step}"`));
    await both.stopDaemon('SIGKILL');
    await running.ended;
    both.startDaemon();
  };

  /** Whichever way it ended, it goes home for good, and the next cycle is a delta. */
  const expectCommits = async (): Promise<void> => {
    const wanted = await both.views('lab', VM);
    if ((await both.status(VM)).state === 'FAILED_BACK') {
      await done(['failover', 'permanent'], '--yes', '--force', '--reason', 'a test');
    }
    await expectHome(wanted);
    await both.write(VM, ++seed);
    const pushed = await both.site.push(VM);
    expect(pushed.kind).to.equal('delta');
    expect(await both.site.pointHashes(VM, pushed.point, 2)).to.deep.equal(
      await both.site.guestHashes(VM, 2),
    );
  };

  for (const [index, step] of PLANNED.entries()) {
    const act = index % 2 === 0 ? 'resume' : 'abort';
    it(`at ${step} of planned: nothing is lost, or nothing happened; ${act} ends it`, async () => {
      await both.write(VM, ++seed);
      const wanted = await both.views('lab', VM);
      await killedAt(step, ['failover', 'planned'], VM);
      const state = await settled(VM, act);
      expect(state).to.be.oneOf(['PROTECTED', 'FAILED_OVER']);
      if (state === 'FAILED_OVER') {
        await expectServes(wanted);
        await undo();
      }
      await expectHome(wanted);
    });
  }

  for (const step of UNPLANNED) {
    it(`at ${step} of unplanned: the point runs, or nothing happened`, async () => {
      const wanted = await both.views('lab', VM);
      await killedAt(step, ['failover', 'unplanned'], VM, '--fence-source', '--yes');
      const state = await settled();
      expect(state).to.be.oneOf(['PROTECTED', 'FAILED_OVER']);
      if (state === 'FAILED_OVER') {
        await expectServes(wanted);
        await undo();
      }
      await expectHome(wanted);
    });
  }

  for (const step of UNDO) {
    it(`at ${step} of undo: it comes to its end`, async () => {
      const wanted = await both.views('lab', VM);
      await both.run(['failover', 'planned'], VM);
      await killedAt(step, ['failover', 'undo'], VM, '--yes');
      expect(await settled()).to.equal('PROTECTED');
      await expectHome(wanted);
    });
  }

  for (const step of TEST) {
    it(`at ${step} of a test: nothing of it stays`, async () => {
      await killedAt(step, ['failover', 'test'], VM);
      expect(await settled()).to.equal('PROTECTED');
      const left = await both.inLab('dr', (lab) => lab.listVms());
      expect(left.map(({ name }) => name)).to.deep.equal([]);
    });
  }

  it('goes on with a delta after all of it, and the point equals the guest', async () => {
    await both.write(VM, ++seed);
    const pushed = await both.site.push(VM);
    expect(pushed.kind).to.equal('delta');
    expect(await both.site.pointHashes(VM, pushed.point, 2)).to.deep.equal(
      await both.site.guestHashes(VM, 2),
    );
  });

  for (const [index, step] of FAILBACK.entries()) {
    const act = index % 2 === 0 ? 'resume' : 'abort';
    it(`at ${step} of failback: it is home, or served here; ${act} ends it`, async () => {
      const wanted = await failedOver();
      await killedAt(step, ['failback']);
      const state = await settled(VM, act);
      expect(state).to.be.oneOf(['FAILED_OVER', 'FAILED_BACK']);
      if (state === 'FAILED_OVER') {
        await expectServes(wanted);
        await done(['failback']);
      }
      await expectServesHome(wanted);
      await expectCommits();
    });
  }

  for (const step of RETURN) {
    it(`at ${step} of permanent of a failback: it is home for good, or nothing happened`, async () => {
      const wanted = await failedOver();
      await done(['failback']);
      await killedAt(step, ['failover', 'permanent'], VM, '--yes');
      const state = await settled();
      expect(state).to.be.oneOf(['FAILED_BACK', 'PROTECTED']);
      if (state === 'FAILED_BACK') await expectServesHome(wanted);
      else await expectHome(wanted);
      await expectCommits();
    });
  }

  for (const step of GOING_BACK) {
    it(`at ${step} of undo of a failback: it serves here as it did`, async () => {
      const wanted = await failedOver();
      await done(['failback']);
      await both.write(VM, ++seed);
      await killedAt(step, ['failover', 'undo'], VM, '--yes');
      expect(await settled()).to.equal('FAILED_OVER');
      await expectServes(wanted);
      await undo();
    });
  }

  for (const step of AT_SOURCE) {
    it(`the source at ${step} of failback: resume goes on when it is back`, async () => {
      const wanted = await failedOver();
      await sourceKilledAt(step, 'failback');
      expect(await settled()).to.equal('FAILED_BACK');
      await expectServesHome(wanted);
      await expectCommits();
    });
  }

  for (const step of COMMIT_AT_SOURCE) {
    it(`the source at ${step} of permanent of a failback: resume goes on when it is back`, async () => {
      const wanted = await failedOver();
      await done(['failback']);
      await sourceKilledAt(step, 'failover', 'permanent', '--yes');
      const state = await settled();
      expect(state).to.be.oneOf(['FAILED_BACK', 'PROTECTED']);
      if (state === 'PROTECTED') await expectHome(wanted);
      await expectCommits();
    });
  }

  for (const step of PERMANENT) {
    it(`at ${step} of permanent: it stays, or nothing happened`, async () => {
      const vm = `VM-${step}`;
      const wanted = await both.views('lab', vm);
      await both.run(['failover', 'planned'], vm);
      await killedAt(step, ['failover', 'permanent'], vm, '--yes');
      const state = await settled(vm);
      expect(state).to.be.oneOf(step === 'C1' ? ['FAILED_OVER', 'COMMITTED'] : ['COMMITTED']);
      await expectServes(wanted, vm);
    });
  }
});
