// Two hosts of Hyper-V with one VM between them, as Hyper-V Replica behaves: each cmdlet is legal in its states
// only, and what it leads to shows at both sides. Answers have the fields that recorded.json has, and no others;
// an operation that is not recorded fails.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { guid, type Guid } from '../../../shared/bytes/index.js';
import { DrError } from '../../../shared/errors.js';
import type {
  PowerState,
  SwitchInfo,
  VmDefinition,
  VmSummary,
} from '../../../shared/hypervisor/index.js';
import { Fields } from '../../../shared/hypervisor/fields.js';
import type {
  Arguments,
  Operation,
  OperationRunner,
} from '../../../shared/hypervisor/hyperv/powershell/operation.js';
import {
  HyperVReplica,
  type ReplicaVms,
} from '../../../shared/hypervisor/hyperv/replica/hyperv-replica.js';
import { checkoutFolder } from '../checkout.js';
import { FakeClock } from '../fake-clock.js';

type Item = Readonly<Record<string, unknown>>;

interface Recorded {
  readonly states: { readonly names: readonly string[] };
  readonly 'replica.get': { readonly item: Item };
  readonly 'replica.points': { readonly item: Item };
  readonly acts: { readonly names: readonly string[]; readonly answer: Item };
}

// our own checked-in file
export const RECORDED = JSON.parse(
  readFileSync(join(checkoutFolder, 'test/support/replica/recorded.json'), 'utf8'),
) as Recorded;

export const VM = guid('11111111-0000-4000-8000-000000000001');
export const TEST_VM = guid('11111111-0000-4000-8000-000000000002');
export const POINT = guid('22222222-0000-4000-8000-000000000001');
const ADAPTER = guid('33333333-0000-4000-8000-000000000001');

/** Cmdlets that take no relation. */
const OF_WHOLE_VM = [
  'enable',
  'accept',
  'prepare',
  'failover',
  'test',
  'stopFailover',
  'complete',
].map((act) => `replica.${act}`);

/** The process was ended between two calls. */
export class Killed extends Error {}

interface Relation {
  state: string;
  mode: string;
  health: string;
  lastType: string;
  lastReplicationAt: string | null;
  hasTest: boolean;
}

/** A record filled in: exactly the fields that it has. */
function filled(record: Item, values: Item): Item {
  const [wanted, given] = [record, values].map((each) => Object.keys(each).sort().join());
  if (wanted !== given) throw new Error(`recorded are ${wanted}, answered were ${given}`);
  return values;
}

function illegal(cmdlet: string, why: string): DrError {
  return new DrError('E_HYPERVISOR', `${cmdlet}: ${why}`, {
    context: { category: 'InvalidOperation' },
  });
}

export class ReplicaSide implements OperationRunner {
  readonly name: string;
  power: PowerState = 'off';
  testPower: PowerState | undefined;
  testSwitch: string | undefined;
  switches: SwitchInfo[] = [
    { name: 'Bubble', isPrivate: true },
    { name: 'LAN', isPrivate: false },
  ];
  relation: Relation | undefined;
  /** From this replica on to a third host, `hv3`. */
  extension: Relation | undefined;
  /** A guest that does not shut down. */
  isStubborn = false;
  readonly trace: string[] = [];
  readonly #pair: ReplicaPair;

  constructor(name: string, pair: ReplicaPair) {
    this.name = name;
    this.#pair = pair;
  }

  get other(): ReplicaSide {
    return this.#pair.otherOf(this);
  }

  /** A new process over the host as it is. */
  host(clock = new FakeClock()): HyperVReplica {
    return new HyperVReplica({ runner: this, vms: this.vms(), clock });
  }

  vms(): ReplicaVms {
    const call = <T>(name: string, effect: () => T): Promise<T> => this.#call(name, effect);
    return {
      name: 'hyperv',
      summaryOf: (id) => Promise.resolve(this.#summary(id)),
      describeVm: (id) => Promise.resolve(this.#definition(id)),
      listSwitches: () => Promise.resolve(this.switches),
      startVm: (id) =>
        call(`start ${id === VM ? 'VM' : 'test VM'}`, () => {
          this.#start(id);
        }),
      shutDownVm: () =>
        call('shut down', () => {
          if (this.isStubborn) throw new DrError('E_SHUTDOWN_TIMEOUT', 'the guest does not stop');
          this.power = 'off';
        }),
      turnOffVm: () =>
        call('turn off', () => {
          this.power = 'off';
        }),
    };
  }

  async run<A extends Arguments, R>(operation: Operation<A, R>, args: A): Promise<R> {
    const answer = await this.#answer(operation.name, args);
    const document = JSON.parse(JSON.stringify(answer)) as Readonly<Record<string, unknown>>;
    return operation.read(
      new Fields(
        document,
        (field, wanted) => new DrError('E_HYPERVISOR', `${field} is not ${wanted}`),
      ),
    );
  }

  async close(): Promise<void> {
    // nothing is open
  }

  async #answer(name: string, args: Arguments): Promise<Item> {
    if (args['vmId'] !== VM) throw new DrError('E_NOT_FOUND', 'no such VM');
    if (name === 'replica.get') return { relations: this.#relations() };
    if (name === 'replica.points') return { points: [this.#point()] };
    if (!RECORDED.acts.names.includes(name)) throw new Error(`${name} is not recorded`);
    return this.#call(name, () => {
      this.#act(name, args);
      return filled(RECORDED.acts.answer, { done: 'yes' });
    });
  }

  /** One call that changes something: the moment that a kill may fall before or after. */
  async #call<T>(name: string, effect: () => T): Promise<T> {
    this.#pair.countBefore();
    this.trace.push(name);
    const result = effect();
    this.#pair.countAfter();
    await Promise.resolve();
    return result;
  }

  #relations(): Item[] {
    const { relation, extension } = this;
    const isPrimary = relation?.mode === 'Primary';
    const [from, to] = isPrimary ? [this.name, this.other.name] : [this.other.name, this.name];
    return [
      // the host promises no order
      ...(extension === undefined
        ? []
        : [this.#relationItem(extension, 'Extended', [this.name, 'hv3'])]),
      ...(relation === undefined ? [] : [this.#relationItem(relation, 'Simple', [from, to])]),
    ];
  }

  #relationItem(
    relation: Relation,
    relationship: string,
    [from, to]: readonly [string, string],
  ): Item {
    return filled(RECORDED['replica.get'].item, {
      state: relation.state,
      health: relation.health,
      mode: relation.mode,
      relationship,
      primaryServer: `${from}.example`,
      replicaServer: `${to}.example`,
      intervalSeconds: 300,
      lastReplicationAt: relation.lastReplicationAt,
      lastReplicationType: relation.lastType,
      pendingBytes: '4096',
      errors: 0,
      missed: 0,
      healthDetails: [],
      testVmId: relation.hasTest ? TEST_VM : null,
    });
  }

  #point(): Item {
    return filled(RECORDED['replica.points'].item, {
      id: POINT,
      name: 'one',
      createdAt: '2026-01-01T00:00:00.0000000Z',
      type: 'AppConsistentReplica',
    });
  }

  #act(name: string, args: Arguments): void {
    const { other } = this;
    // without it the cmdlet may take either relation of a VM that has two
    const isOfOne = !OF_WHOLE_VM.includes(name);
    if (isOfOne && args['relationship'] !== 'Simple') throw illegal(name, 'another relation');
    switch (name) {
      case 'replica.enable':
        if (this.relation !== undefined) throw illegal(name, 'it is enabled already');
        this.relation = relationOf('ReadyForInitialReplication', 'Primary');
        other.relation ??= relationOf('WaitingForInitialReplication', 'Replica');
        return;
      case 'replica.accept':
        if (this.relation !== undefined) throw illegal(name, 'it is enabled already');
        this.relation = relationOf('WaitingForInitialReplication', 'Replica');
        return;
      case 'replica.startInitial':
        this.#require(name, 'Primary', ['ReadyForInitialReplication']);
        this.#pair.replicates(
          args['folder'] === '' ? 'Replicating' : 'InitialReplicationInProgress',
        );
        return;
      case 'replica.stopInitial':
        this.#require(name, 'Primary', ['InitialReplicationInProgress']);
        this.#set('ReadyForInitialReplication');
        return;
      case 'replica.importInitial':
        this.#require(name, 'Replica', [
          'InitialReplicationInProgress',
          'WaitingForInitialReplication',
        ]);
        this.#pair.replicates('Replicating');
        return;
      case 'replica.prepare':
        this.#require(name, 'Primary', ['Replicating']);
        if (this.power !== 'off') throw illegal(name, 'the VM is not off');
        this.#set('PreparedForFailover');
        if (this.#pair.replicaShowsPrepared) other.#set('PreparedForFailover');
        if (other.relation !== undefined) other.relation.lastType = 'Planned';
        return;
      case 'replica.failover':
        this.#require(name, 'Replica', [
          'Replicating',
          'PreparedForFailover',
          'Suspended',
          'Error',
        ]);
        if (this.relation?.hasTest === true) throw illegal(name, 'a test is open');
        this.#set('FailedOverWaitingCompletion');
        return;
      case 'replica.test':
        this.#require(name, 'Replica', ['Replicating', 'Suspended', 'Error']);
        if (this.relation === undefined || this.relation.hasTest)
          throw illegal(name, 'a test is open');
        this.relation.hasTest = true;
        this.testPower = 'off';
        return;
      case 'replica.stopFailover':
        this.#stopFailover(name);
        return;
      case 'replica.complete':
        this.#require(name, 'Replica', ['FailedOverWaitingCompletion']);
        this.#set('FailedOver');
        return;
      case 'replica.reverse': {
        this.#require(name, 'Replica', ['FailedOverWaitingCompletion', 'FailedOver']);
        if (other.power !== 'off') throw illegal(name, 'the VM of the other side is not off');
        const wasPlanned = this.relation?.lastType === 'Planned';
        this.relation = relationOf(
          wasPlanned ? 'Replicating' : 'ReadyForInitialReplication',
          'Primary',
        );
        other.relation = relationOf(
          wasPlanned ? 'Replicating' : 'WaitingForInitialReplication',
          'Replica',
        );
        return;
      }
      case 'replica.suspend':
        this.#require(name, undefined, ['Replicating', 'Resynchronizing', 'Error']);
        this.#set(
          this.relation?.state === 'Resynchronizing' ? 'ResynchronizeSuspended' : 'Suspended',
        );
        return;
      case 'replica.resume':
        if (args['resynchronizes'] === true) {
          this.#require(name, 'Primary', ['Suspended', 'Error', 'WaitingForStartResynchronize']);
          this.#set('Resynchronizing');
          return;
        }
        this.#require(name, undefined, ['Suspended', 'Error', 'ResynchronizeSuspended']);
        this.#set(
          this.relation?.state === 'ResynchronizeSuspended' ? 'Resynchronizing' : 'Replicating',
        );
        return;
      case 'replica.remove':
        if (this.relation === undefined) throw illegal(name, 'it is not replicated');
        this.relation = undefined;
        return;
      default:
        throw new Error(`no behaviour of ${name} is known`);
    }
  }

  #stopFailover(name: string): void {
    const { relation } = this;
    if (relation?.mode === 'Primary') {
      this.#require(name, 'Primary', ['PreparedForFailover']);
      this.#set('Replicating');
      if (this.other.relation?.state === 'PreparedForFailover') this.other.#set('Replicating');
    } else if (relation?.hasTest === true) {
      relation.hasTest = false;
      this.testPower = undefined;
    } else {
      this.#require(name, 'Replica', ['FailedOverWaitingCompletion']);
      this.power = 'off';
      this.#set('Replicating');
    }
  }

  #require(cmdlet: string, mode: string | undefined, states: readonly string[]): void {
    const { relation } = this;
    if (relation === undefined) throw illegal(cmdlet, 'it is not replicated');
    if (mode !== undefined && relation.mode !== mode)
      throw illegal(cmdlet, `mode ${relation.mode}`);
    if (!states.includes(relation.state)) throw illegal(cmdlet, `state ${relation.state}`);
  }

  #set(state: string): void {
    if (this.relation !== undefined) this.relation.state = state;
  }

  #start(id: Guid): void {
    if (id === TEST_VM) {
      this.testPower = 'running';
      return;
    }
    if (this.relation?.mode === 'Replica' && !this.relation.state.startsWith('FailedOver')) {
      throw illegal('Start-VM', 'a replica is not started');
    }
    if (this.relation?.state === 'PreparedForFailover') {
      throw illegal('Start-VM', 'it is prepared for a failover');
    }
    this.power = 'running';
  }

  #summary(id: Guid): VmSummary | undefined {
    if (id === VM) return { id, name: 'SQL01', powerState: this.power };
    if (this.testPower === undefined) return undefined;
    return { id, name: 'SQL01 - Test', powerState: this.testPower };
  }

  #definition(id: Guid): VmDefinition {
    const guest = { isDhcp: true, addresses: [], gateways: [], dnsServers: [] };
    return {
      ...{ id, name: 'SQL01 - Test', generation: 2, cpuCount: 1, memoryBytes: 2 ** 30 },
      ...{ isAutoStart: false, disks: [] },
      adapters: [
        {
          ...{ id: ADAPTER, name: 'Network Adapter', mac: '00155D000001', isMacStatic: true },
          ...{ switchName: this.testSwitch, vlan: undefined, guest },
        },
      ],
    };
  }
}

export class ReplicaPair {
  readonly primary = new ReplicaSide('hv1', this);
  readonly replica = new ReplicaSide('hv2', this);
  /** Whether the replica's own state tells of a preparation; what was sent last tells of it in any case. */
  replicaShowsPrepared = true;
  /** The process ends before (2n) or after (2n + 1) the n-th call that changes something. */
  killAt = -1;
  #moment = 0;

  /** A VM that runs at the primary and replicates. */
  static replicating(): ReplicaPair {
    const pair = new ReplicaPair();
    pair.primary.power = 'running';
    pair.primary.relation = relationOf('Replicating', 'Primary');
    pair.replica.relation = relationOf('Replicating', 'Replica');
    return pair;
  }

  otherOf(side: ReplicaSide): ReplicaSide {
    return side === this.primary ? this.replica : this.primary;
  }

  replicates(state: string): void {
    for (const { relation } of [this.primary, this.replica]) {
      if (relation === undefined) continue;
      relation.state = state;
      relation.lastReplicationAt = '2026-01-01T00:00:00.0000000Z';
    }
  }

  countBefore(): void {
    if (this.#moment++ === this.killAt) throw new Killed();
  }

  countAfter(): void {
    if (this.#moment++ === this.killAt) throw new Killed();
  }

  /** What stands at both sides, to compare two histories. */
  get outcome(): unknown {
    return [this.primary, this.replica].map(({ power, testPower, relation }) => ({
      ...{ power, testPower: testPower ?? 'none' },
      relation: relation === undefined ? null : { ...relation },
    }));
  }
}

export function relationOf(state: string, mode: string): Relation {
  const lastReplicationAt = state === 'Replicating' ? '2026-01-01T00:00:00.0000000Z' : null;
  return { state, mode, health: 'Normal', lastType: 'Regular', lastReplicationAt, hasTest: false };
}
