// A receiver as a run of a plan sees it: VMs with states, commands that take their time and go on when
// their caller has gone. It outlives orchestrators, and remembers what was done when.

import { assert } from '../../shared/assert.js';
import { type Guid, randomGuid } from '../../shared/bytes/index.js';
import type { Clock } from '../../shared/clock.js';
import { DrError } from '../../shared/errors.js';
import type {
  VmAddress,
  VmCommands,
  VmLook,
  VmOrder,
  VmOutcome,
  VmPlan,
} from '../../shared/plan/index.js';
import { SeededRandom } from './seeded-random.js';

export interface FakeVm {
  readonly vmId: Guid;
  readonly vmName: string;
  state: string;
  /** Of the whole command. */
  durationMs: number;
  /** Fails in the middle of this command, each time until it is taken away. */
  failsAt: string | undefined;
  /** Refused at the check. */
  refusal: { readonly code: string; readonly message: string } | undefined;
  isTestBad: boolean;
  underWay:
    { readonly command: string; step: string; readonly end: Promise<VmOutcome> } | undefined;
  isHeld: boolean;
  provenAtMs: number;
  isProofPassed: boolean;
  readonly tests: Set<string>;
  addresses: readonly VmAddress[];
  changeCount: number;
}

export interface FakeEffect {
  readonly vm: string;
  /** `planned off`, `planned up`, `undo`, … as the effect takes place. */
  readonly what: string;
  readonly atMs: number;
}

const GOALS: Readonly<Record<string, string>> = {
  planned: 'FAILED_OVER',
  unplanned: 'FAILED_OVER',
  permanent: 'COMMITTED',
  failback: 'FAILED_BACK',
  undo: 'PROTECTED',
};

export class FakeVmCommands implements VmCommands {
  readonly vms = new Map<string, FakeVm>();
  readonly effects: FakeEffect[] = [];
  /** Commands under way, and the most there ever were. */
  busyCount = 0;
  busyMax = 0;
  readonly #clock: Clock;
  readonly #random = new SeededRandom(11);

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  add(vmName: string, change: Partial<FakeVm> = {}): FakeVm {
    const vm: FakeVm = {
      ...{ vmId: randomGuid(this.#random), vmName, state: 'PROTECTED', durationMs: 9000 },
      ...{ failsAt: undefined, refusal: undefined, isTestBad: false, underWay: undefined },
      ...{ isHeld: false, provenAtMs: 0, isProofPassed: false, tests: new Set<string>() },
      ...{ changeCount: 0, addresses: [], ...change },
    };
    this.vms.set(vmName, vm);
    return vm;
  }

  vm(name: string): FakeVm {
    const found = this.vms.get(name) ?? [...this.vms.values()].find(({ vmId }) => vmId === name);
    if (found === undefined) throw new DrError('E_NO_MATCH', `there is no VM ${name}`);
    return found;
  }

  /** When an effect took place, each time. */
  timesOf(vm: string, what: string): readonly number[] {
    return this.effects
      .filter((effect) => effect.vm === vm && effect.what === what)
      .map(({ atMs }) => atMs);
  }

  async look(name: string): Promise<VmLook> {
    await Promise.resolve();
    const vm = this.vm(name);
    const { vmId, vmName, state, underWay, provenAtMs, isProofPassed } = vm;
    return {
      ...{ vmId, vmName, state, provenAtMs, isProofPassed, instanceName: `${vmName}-dr` },
      operation: underWay === undefined ? '' : `${underWay.command} ${underWay.step}`,
      testOperationIds: [...vm.tests],
    };
  }

  async plan(name: string, command: string): Promise<VmPlan> {
    await Promise.resolve();
    const vm = this.vm(name);
    const goal = GOALS[command] ?? vm.state;
    return {
      ...{ fromState: vm.state, toState: goal, notes: [], lostSeconds: 0 },
      refusals: vm.refusal === undefined ? [] : [vm.refusal],
      isDestructive: command === 'undo' || command === 'permanent',
      hash: `${vm.vmId} ${vm.state} ${command} ${vm.changeCount}`,
      addresses: vm.addresses,
    };
  }

  run(order: VmOrder): Promise<VmOutcome> {
    const vm = this.vm(order.vm);
    const { stop } = order.parameters;
    if (order.command === 'test' && stop !== undefined) return this.#stopTest(vm, stop);
    const { underWay } = vm;
    if (underWay !== undefined) {
      if (order.command === 'resume' || order.command === underWay.command) return underWay.end;
      return Promise.reject(new DrError('E_LOCKED', `${vm.vmName} is busy`));
    }
    const isDestructive = ['undo', 'permanent'].includes(order.command);
    if (isDestructive && order.confirmedHash === undefined) {
      return Promise.reject(new DrError('E_CONFIRM', 'was not confirmed'));
    }
    const operationId = randomGuid(this.#random);
    const end = this.#work(vm, order, operationId).finally(() => {
      vm.underWay = undefined;
      this.busyCount--;
    });
    vm.underWay = { command: order.command, step: '1', end };
    this.busyCount++;
    this.busyMax = Math.max(this.busyMax, this.busyCount);
    end.catch(() => undefined);
    return end;
  }

  async #work(vm: FakeVm, order: VmOrder, operationId: string): Promise<VmOutcome> {
    const { command } = order;
    const part = vm.durationMs / 3;
    await Promise.resolve();
    switch (command) {
      case 'planned':
        assert(['PROTECTED', 'FAILING_OVER'].includes(vm.state), 'planned begins where it may');
        if (vm.isHeld) break;
        vm.state = 'FAILING_OVER';
        order.onStep('P1', operationId);
        await this.#clock.sleep(part);
        this.#failAt(vm, 'planned');
        this.#effect(vm, 'planned off');
        order.onStep('P5', operationId);
        await this.#clock.sleep(part);
        vm.isHeld = true;
        if (order.parameters['hold'] === undefined) await this.#comeUp(vm, part);
        break;
      case 'resume':
        assert(vm.state === 'FAILING_OVER', 'only what began is resumed');
        await this.#comeUp(vm, part);
        break;
      case 'abort':
        assert(vm.state === 'FAILING_OVER', 'only what began is given up');
        await this.#clock.sleep(part);
        this.#effect(vm, 'abort');
        vm.isHeld = false;
        vm.state = 'PROTECTED';
        break;
      case 'test':
        vm.tests.add(operationId);
        order.onStep('T1', operationId);
        await this.#clock.sleep(vm.durationMs);
        vm.provenAtMs = this.#clock.now();
        vm.isProofPassed = !vm.isTestBad;
        this.#effect(vm, 'test');
        break;
      case 'unplanned':
      case 'permanent':
      case 'failback':
      case 'undo':
        order.onStep('1', operationId);
        await this.#clock.sleep(vm.durationMs);
        this.#failAt(vm, command);
        this.#effect(vm, command);
        vm.state = GOALS[command] ?? vm.state;
    }
    return {
      ...{ operationId, state: vm.state, pointId: 'point', warnings: [] },
      ...{ isPassed: !vm.isTestBad, ipMap: { '10.0.0.1': '10.9.0.1' } },
    };
  }

  async #comeUp(vm: FakeVm, durationMs: number): Promise<void> {
    await this.#clock.sleep(durationMs);
    this.#failAt(vm, 'resume');
    vm.isHeld = false;
    vm.state = 'FAILED_OVER';
    this.#effect(vm, 'planned up');
  }

  async #stopTest(vm: FakeVm, operationId: string): Promise<VmOutcome> {
    await Promise.resolve();
    if (vm.failsAt === 'stop') throw new DrError('E_HYPERVISOR', 'the VM cannot be removed');
    vm.tests.delete(operationId);
    const nothing = { pointId: '', warnings: [], isPassed: false, ipMap: {} };
    return { operationId, state: vm.state, ...nothing };
  }

  #failAt(vm: FakeVm, command: string): void {
    if (vm.failsAt !== command) return;
    this.#effect(vm, `${command} failed`);
    throw new DrError('E_HYPERVISOR', `${vm.vmName} would not ${command}`);
  }

  #effect(vm: FakeVm, what: string): void {
    vm.changeCount++;
    this.effects.push({ vm: vm.vmName, what, atMs: this.#clock.monotonic() });
  }
}
