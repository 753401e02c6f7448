// SIGKILL of the receiver as soon as its journal shows a step, for every command of failover. After the
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
    if (['FAILING_OVER', 'UNDOING'].includes(state)) {
      expect(operation, `status after ${step}`).to.match(/, step [PUN]\d/);
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

  const undo = async (): Promise<void> => {
    const run = await both.run(['failover', 'undo'], VM, '--yes');
    expect(run.code, run.stderr).to.equal(0);
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
