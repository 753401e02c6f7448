// One cycle after the other against a hypervisor and a receiver in memory: what a cycle of each
// kind transfers, what each failure leaves behind, and that the replica is the guest at its
// checkpoint.

import { expect } from 'chai';
import { ProtectionState } from '../../../shared/channel/index.js';
import { CELL_BYTES } from '../../../shared/delta/index.js';
import { DrError } from '../../../shared/errors.js';
import { Bandwidth } from '../../../source-agent/bandwidth.js';
import { CycleStopped } from '../../../source-agent/cycle-result.js';
import { type FakeVm, testGuid } from '../../support/fake-source-hypervisor.js';
import { NaiveReceiver } from '../../support/naive-receiver.js';
import { refusal } from '../../support/refusal.js';
import { SeededRandom } from '../../support/seeded-random.js';
import { AgentWorld, difference, linkTo, STATE } from './agent-world.js';

const random = new SeededRandom(1);
const MIB = 2 ** 20;

interface Set {
  readonly world: AgentWorld;
  readonly vm: FakeVm;
}

/** A VM with two disks of odd sizes that was seeded, and has changed since. */
async function seeded(): Promise<Set> {
  const world = new AgentWorld();
  const vm = world.hypervisor.addVm(1, 'SQL01', [40 * CELL_BYTES + 512, 3 * CELL_BYTES]);
  world.hypervisor.write(vm, 0, 5 * CELL_BYTES, random.bytes(20 * CELL_BYTES));
  await world.cycle(vm);
  change(world, vm);
  return { world, vm };
}

function change(world: AgentWorld, vm: FakeVm): void {
  world.hypervisor.write(vm, 0, 40 * CELL_BYTES, random.bytes(512));
  world.hypervisor.write(vm, 0, 6 * CELL_BYTES, Buffer.alloc(CELL_BYTES));
  for (let cell = 10; cell < 34; cell += 3) {
    world.hypervisor.write(vm, 0, cell * CELL_BYTES + 77, random.bytes(1000));
  }
  world.hypervisor.write(vm, 1, 100, random.bytes(100));
}

function expectEqual({ world, vm }: Set, receiver = world.receiver): void {
  const disks = vm.disks.map(({ bytes }) => bytes);
  expect(difference(receiver, vm.id, disks)).to.equal('');
}

/** Nothing of ours is left but one reference point. */
function expectTidy({ world }: Set): void {
  expect(world.hypervisor.checkpoints.size).to.equal(0);
  expect(world.hypervisor.referencePoints.size).to.be.at.most(1);
}

describe('cycle', () => {
  it('seeds, sends what changed, and then an empty point', async () => {
    const world = new AgentWorld();
    const vm = world.hypervisor.addVm(1, 'SQL01', [40 * CELL_BYTES + 512, 3 * CELL_BYTES]);
    world.hypervisor.write(vm, 0, 5 * CELL_BYTES, random.bytes(20 * CELL_BYTES));
    const seed = await world.cycle(vm);
    expect(seed.kind).to.equal('seed');
    expectEqual({ world, vm });

    world.hypervisor.write(vm, 0, 40 * CELL_BYTES, random.bytes(512));
    world.hypervisor.write(vm, 0, 6 * CELL_BYTES, Buffer.alloc(CELL_BYTES));
    world.hypervisor.write(vm, 1, 100, random.bytes(100));
    const delta = await world.cycle(vm);
    expect(delta.kind).to.equal('delta');
    expect(delta.disks.map(({ dataBytes }) => dataBytes)).to.deep.equal([512, CELL_BYTES]);
    expectEqual({ world, vm });

    const nothing = await world.cycle(vm);
    expect(nothing.kind).to.equal('nothing');
    expect(nothing.disks.map(({ dataBytes }) => dataBytes)).to.deep.equal([0, 0]);
    expect(world.receiver.points(vm.id)).to.have.length(3);
    expectTidy({ world, vm });
    expect(world.hypervisor.referencePoints.size).to.equal(1);
  });

  it('freezes the moment: writes of the guest during the cycle wait for the next', async () => {
    const set = await seeded();
    const { world, vm } = set;
    const frozen = vm.disks.map(({ bytes }) => Buffer.from(bytes));
    world.hypervisor.onRead = () => {
      world.hypervisor.write(vm, 0, random.int(40) * CELL_BYTES, random.bytes(600));
    };
    await world.cycle(vm);
    expect(difference(world.receiver, vm.id, frozen)).to.equal('');
    world.hypervisor.onRead = () => undefined;
    await world.cycle(vm);
    expectEqual(set);
  });

  it('keeps a set for every receiver: each gets what it lacks itself', async () => {
    const set = await seeded();
    const { world, vm } = set;
    const second = new NaiveReceiver(testGuid(0xdef));
    await world.cycle(vm, {}, {}, second);
    expectEqual(set, second);
    change(world, vm);
    await world.cycle(vm);
    change(world, vm);
    await world.cycle(vm);
    const delta = await world.cycle(vm, {}, {}, second);
    expect(delta.kind).to.equal('delta');
    expectEqual(set, second);
    expectEqual(set);
  });

  it('compares when the ledger is lost, and sends only what differs', async () => {
    const set = await seeded();
    const { world, vm } = set;
    await world.files.remove(`${STATE}/${vm.id}.json`);
    const result = await world.cycle(vm);
    expect(result.kind).to.equal('resync');
    expect(result.warnings).to.deep.equal([
      { code: 'W_RESYNC', text: 'compared by hashes: no point of the receiver is known here' },
    ]);
    expect(result.disks.map(({ dataBytes }) => dataBytes)).to.deep.equal([
      8 * CELL_BYTES + 512,
      CELL_BYTES,
    ]);
    expectEqual(set);
    expect((await world.cycle(vm)).kind).to.equal('nothing');
  });

  it('sets a damaged ledger aside, says so, and compares', async () => {
    const set = await seeded();
    const { world, vm } = set;
    const file = await world.files.open(`${STATE}/${vm.id}.json`, { mode: 'write' });
    await file.write(20, Buffer.from('}'));
    await file.close();
    const result = await world.cycle(vm);
    expect(result.kind).to.equal('resync');
    expect(result.warnings.map(({ code }) => code)).to.deep.equal(['W_LEDGER']);
    expect((await world.files.list(STATE)).some((name) => name.includes('unusable'))).to.equal(
      true,
    );
    expectEqual(set);
  });

  it('compares when change tracking is not valid, and names the reason', async () => {
    const set = await seeded();
    set.world.hypervisor.breakTracking();
    const result = await set.world.cycle(set.vm);
    expect(result.kind).to.equal('resync');
    expect(result.disks[0]?.because).to.contain('not valid');
    expectEqual(set);
  });

  it('compares after the receiver was put back to an older point', async () => {
    const set = await seeded();
    const { world, vm } = set;
    await world.cycle(vm);
    world.receiver.protections.forEach((protection) => protection.points.pop());
    change(world, vm);
    const result = await world.cycle(vm);
    expect(result.kind).to.equal('resync');
    expectEqual(set);
    world.receiver.protections.clear();
    const again = await world.cycle(vm);
    expect(again.kind).to.equal('seed');
    expect(again.warnings).to.deep.equal([
      {
        code: 'W_RESYNC',
        text: `the receiver has lost its points: ${result.pointId} was confirmed before`,
      },
    ]);
    expectEqual(set);
  });

  it('gives an added disk a base, forgets a removed one, and a resized one a new generation', async () => {
    const set = await seeded();
    const { world, vm } = set;
    const added = world.hypervisor.addDisk(vm, 900, 5 * CELL_BYTES + 4096);
    world.hypervisor.write(vm, 2, 0, random.bytes(CELL_BYTES));
    expect((await world.cycle(vm)).disks.map(({ how }) => how)).to.deep.equal([
      'dirty',
      'dirty',
      'whole',
    ]);
    expectEqual(set);
    const [removed] = vm.disks.splice(1, 1);
    await world.cycle(vm);
    expectEqual(set);
    if (removed !== undefined) vm.disks.push(removed);
    world.hypervisor.resize(vm, 0, 44 * CELL_BYTES);
    await world.cycle(vm);
    expectEqual(set);
    const head = world.receiver.head(vm.id);
    expect(head?.disks.map(({ geometry }) => geometry.generation)).to.deep.equal([1, 0, 1]);
    expect(added.bytes.length).to.equal(5 * CELL_BYTES + 4096);
  });

  it('lowers the consistency with a warning, or refuses when it is required', async () => {
    const set = await seeded();
    const { world, vm } = set;
    world.hypervisor.onCall = (verb) => {
      if (verb !== 'createCheckpoint application') return;
      throw new DrError('E_CONSISTENCY', 'a VSS writer failed');
    };
    const error = await refusal(() => world.cycle(vm, { consistency: 'require' }));
    expect(error.code).to.equal('E_CONSISTENCY');
    expectTidy(set);
    const result = await world.cycle(vm);
    expect(result.consistency).to.equal('crash');
    expect(result.warnings.map(({ code }) => code)).to.deep.equal(['W_CRASH_CONSISTENT']);
    expect((await world.cycle(vm, { consistency: 'crash' })).warnings).to.have.length(0);
  });

  it('warns when the newest point had become older than the RPO', async () => {
    const set = await seeded();
    await set.world.clock.advance(1_000_000);
    const result = await set.world.cycle(set.vm);
    expect(result.ageSeconds).to.be.within(1000, 1010);
    expect(result.warnings.map(({ code }) => code)).to.deep.equal(['W_RPO']);
    await set.world.clock.advance(800_000);
    const near = await set.world.cycle(set.vm);
    expect(near.warnings).to.have.length(0);
    expect(near.notes[0]).to.contain('near the goal');
  });

  it('leaves foreign checkpoints alone and removes its own leftovers', async () => {
    const set = await seeded();
    const { world, vm } = set;
    const foreign = [
      world.hypervisor.addForeignCheckpoint(vm),
      world.hypervisor.addForeignCheckpoint(vm, {
        protectionId: testGuid(5),
        operationId: testGuid(6),
      }),
    ];
    world.hypervisor.addForeignCheckpoint(vm, { protectionId: vm.id, operationId: testGuid(6) });
    await world.cycle(vm);
    expect([...world.hypervisor.checkpoints.keys()]).to.deep.equal(foreign);
  });

  it('refuses a VM that another cycle works on, or waits for it', async () => {
    const set = await seeded();
    const { world, vm } = set;
    const path = `${STATE}/${vm.id}.lock`;
    const lock = await world.files.open(path, { mode: 'write', lock: 'exclusive' });
    const error = await refusal(() => world.cycle(vm));
    expect(error.code).to.equal('E_LOCKED');
    const waiting = world.cycle(vm, { overlap: 'wait' });
    await world.clock.advance(5000);
    await lock.close();
    expect((await waiting).kind).to.equal('delta');
  });

  it('refuses a disk that cannot be replicated before it waits for a merge or makes a checkpoint', async () => {
    const set = await seeded();
    const { world, vm } = set;
    const [, disk] = vm.disks;
    if (disk !== undefined) disk.unsupported = 'it is a pass-through disk';
    world.hypervisor.calls.length = 0;
    const error = await refusal(() => world.cycle(vm));
    expect(error.message).to.contain('pass-through');
    expect(world.hypervisor.calls).to.not.include('waitForMerge');
    expect(world.hypervisor.calls.filter((verb) => verb.startsWith('create'))).to.deep.equal([]);
    expectTidy(set);
  });

  it('refuses a VM without disks before it makes a checkpoint', async () => {
    const { world, vm } = await seeded();
    vm.disks = [];
    world.hypervisor.calls.length = 0;
    expect((await refusal(() => world.cycle(vm))).message).to.contain('has no disk');
    expect(world.hypervisor.calls.filter((verb) => verb.startsWith('create'))).to.deep.equal([]);
  });

  it('removes what a killed cycle left, also of a VM that it refuses now', async () => {
    const set = await seeded();
    const { world, vm } = set;
    const tag = { protectionId: vm.id, operationId: testGuid(0x99) };
    await world.hypervisor.createCheckpoint(vm.id, { tag, consistency: 'crash', timeoutMs: 1000 });
    const [disk] = vm.disks;
    if (disk !== undefined) disk.unsupported = 'it is shared with other VMs';
    expect((await refusal(() => world.cycle(vm))).message).to.contain('shared');
    expectTidy(set);
  });

  it('gives the checkpoint back when a disk cannot be replicated any more that could be before it', async () => {
    const set = await seeded();
    const { world, vm } = set;
    world.hypervisor.onCall = (verb) => {
      const [, disk] = vm.disks;
      if (verb.startsWith('createCheckpoint') && disk !== undefined)
        disk.unsupported = 'it is a VHD';
    };
    expect((await refusal(() => world.cycle(vm))).message).to.contain('it is a VHD');
    expect(world.hypervisor.calls).to.include('removeCheckpoint');
    expectTidy(set);
  });

  for (const [state, code] of [
    [ProtectionState.PROTECTION_STATE_FAILED_OVER, 'E_FAILED_OVER'],
    [ProtectionState.PROTECTION_STATE_PAUSED, 'E_STATE'],
    [ProtectionState.PROTECTION_STATE_HALTED, 'E_HALTED'],
  ] as const) {
    it(`makes no checkpoint when the receiver says ${code}`, async () => {
      const set = await seeded();
      set.world.receiver.state = state;
      set.world.hypervisor.calls.length = 0;
      expect((await refusal(() => set.world.cycle(set.vm))).code).to.equal(code);
      expect(set.world.hypervisor.calls.filter((verb) => verb.startsWith('create'))).to.have.length(
        0,
      );
    });
  }
});

describe('cycle: failures', () => {
  const VERBS = [
    'listCheckpoints',
    'waitForMerge',
    'createCheckpoint application',
    'describeVm',
    'changedRanges',
    'openCheckpointDisk',
  ];
  for (const verb of VERBS) {
    it(`loses nothing when ${verb} fails`, async () => {
      const set = await seeded();
      const { world, vm } = set;
      world.hypervisor.onCall = (called) => {
        if (called === verb) throw new DrError('E_HYPERVISOR', 'injected by the test');
      };
      expect((await refusal(() => world.cycle(vm))).code).to.equal('E_HYPERVISOR');
      expectTidy(set);
      world.hypervisor.onCall = () => undefined;
      change(world, vm);
      expect((await world.cycle(vm)).kind).to.equal('delta');
      expectEqual(set);
    });
  }

  it('keeps the older reference point when the conversion fails', async () => {
    const set = await seeded();
    const { world, vm } = set;
    world.hypervisor.onCall = (verb) => {
      if (verb === 'convertToReferencePoint') throw new DrError('E_CHECKPOINT', 'injected');
    };
    const result = await world.cycle(vm);
    expect(result.warnings.map(({ code }) => code)).to.deep.equal(['W_CHECKPOINT']);
    expectEqual(set);
    expectTidy(set);
    world.hypervisor.onCall = () => undefined;
    world.hypervisor.write(vm, 1, 0, random.bytes(10));
    expect((await world.cycle(vm)).kind).to.equal('delta');
    expectEqual(set);
  });

  it('loses nothing when a read fails', async () => {
    const set = await seeded();
    const { world, vm } = set;
    world.hypervisor.onRead = () => {
      throw new DrError('E_IO', 'injected');
    };
    expect((await refusal(() => world.cycle(vm))).code).to.equal('E_IO');
    expectTidy(set);
    world.hypervisor.onRead = () => undefined;
    await world.cycle(vm);
    expectEqual(set);
  });

  it('goes on after a broken stream, at the durable position, with the same checkpoint', async () => {
    const set = await seeded();
    const { world, vm } = set;
    world.hypervisor.write(vm, 0, 0, random.bytes(40 * CELL_BYTES));
    for (const [messages, lost] of [
      [0, 0],
      [1, 0],
      [1, 9],
      [2, 30],
      [3, 1],
    ] as const) {
      world.receiver.breakAfterMessages = world.receiver.messageCount + messages;
      world.receiver.lostCells = lost;
      const result = await world.cycle(vm);
      const repeated = result.disks.reduce((sum, disk) => sum + disk.repeatedBytes, 0);
      expect(repeated).to.be.at.most((lost + 16 + 16) * CELL_BYTES);
      if (lost > 0) expect(repeated).to.be.at.least(CELL_BYTES);
      expectEqual(set);
      expectTidy(set);
      world.hypervisor.write(vm, 0, 0, random.bytes(40 * CELL_BYTES));
    }
  });

  it('goes on after a broken compare', async () => {
    const set = await seeded();
    const { world, vm } = set;
    world.hypervisor.write(vm, 0, 0, random.bytes(40 * CELL_BYTES));
    world.hypervisor.breakTracking();
    world.receiver.breakAfterMessages = world.receiver.messageCount + 1;
    world.receiver.lostCells = 7;
    expect((await world.cycle(vm)).kind).to.equal('resync');
    expectEqual(set);
  });

  it('gives up a receiver that never comes back, and uses its cells again later', async () => {
    const set = await seeded();
    const { world, vm } = set;
    world.hypervisor.write(vm, 0, 0, random.bytes(40 * CELL_BYTES));
    world.receiver.breakAfterMessages = world.receiver.messageCount + 2;
    let isDown = false;
    world.receiver.onCall = (method) => {
      if (method === 'open' && isDown) throw new DrError('E_CHANNEL', 'down');
      if (method === 'push') isDown = true;
    };
    const error = await refusal(() => world.cycle(vm, { timeoutMs: 60_000 }));
    expect(error.code).to.equal('E_STALLED');
    expectTidy(set);
    world.receiver.onCall = () => undefined;
    const result = await world.cycle(vm);
    expect(result.disks[0]?.reusedBytes).to.be.at.least(16 * CELL_BYTES);
    expectEqual(set);
  });

  it('drops a receiver that answers nothing at all', async () => {
    const set = await seeded();
    const { world, vm } = set;
    world.receiver.onCall = (method) =>
      method === 'message' ? new Promise<void>(() => undefined) : undefined;
    const error = await refusal(() => world.cycle(vm, { timeoutMs: 30_000 }));
    expect(error.code).to.equal('E_STALLED');
    expectTidy(set);
  });

  it('takes a new connection when the one that idled has died, and fails when that breaks too', async () => {
    const set = await seeded();
    let broken = 1;
    set.world.receiver.onCall = (method) => {
      if (method === 'describe' && broken-- > 0) throw new DrError('E_CHANNEL', 'died');
    };
    expect((await set.world.cycle(set.vm)).kind).to.equal('delta');
    broken = 2;
    expect((await refusal(() => set.world.cycle(set.vm))).code).to.equal('E_CHANNEL');
    expectTidy(set);
  });

  it('asks again for a commit whose answer was lost', async () => {
    const set = await seeded();
    set.world.receiver.loseCommitAnswers = 2;
    expect((await set.world.cycle(set.vm)).kind).to.equal('delta');
    expectEqual(set);
    expect(set.world.receiver.points(set.vm.id)).to.have.length(2);
  });

  it('confirms afterwards a commit whose answer never came', async () => {
    const set = await seeded();
    const { world, vm } = set;
    world.receiver.loseCommitAnswers = 1000;
    expect((await refusal(() => world.cycle(vm, { timeoutMs: 20_000 }))).code).to.equal(
      'E_STALLED',
    );
    world.receiver.loseCommitAnswers = 0;
    expectTidy(set);
    world.hypervisor.write(vm, 1, 5, random.bytes(5));
    const result = await world.cycle(vm);
    expect(result.kind).to.equal('delta');
    expect(result.disks.map(({ dataBytes }) => dataBytes)).to.deep.equal([0, CELL_BYTES]);
    expectEqual(set);
  });

  it('sends again what a commit that failed carried', async () => {
    const set = await seeded();
    const { world, vm } = set;
    world.receiver.failCommits = 1000;
    expect((await refusal(() => world.cycle(vm, { timeoutMs: 20_000 }))).code).to.equal(
      'E_STALLED',
    );
    world.receiver.failCommits = 0;
    const result = await world.cycle(vm);
    expect(result.kind).to.equal('delta');
    expectEqual(set);
  });

  it('refuses a position that it never sent: bytes of two moments never meet', async () => {
    const set = await seeded();
    const { world, vm } = set;
    const { handlers } = world.receiver;
    const link = linkTo({
      handlers: {
        ...handlers,
        open: async (request: never, context: never) => {
          const answer = await handlers.open(request, context);
          if (answer.outcome?.$case === 'accepted') {
            answer.outcome.value.positions.forEach((position) => (position.nextCell = 3n));
          }
          return answer;
        },
      },
    } as unknown as NaiveReceiver);
    const error = await refusal(() => world.cycle(vm, {}, { link }));
    expect(error.code).to.equal('E_PROTOCOL');
    expectTidy(set);
    await world.cycle(vm);
    expectEqual(set);
  });

  it('ends at a safe point when it is asked to stop', async () => {
    const set = await seeded();
    const { world, vm } = set;
    const stop = new AbortController();
    world.hypervisor.onRead = () => {
      stop.abort();
    };
    let ended: unknown;
    try {
      await world.cycle(vm, {}, { signal: stop.signal });
    } catch (error) {
      ended = error;
    }
    expect(ended).to.be.instanceOf(CycleStopped);
    expectTidy(set);
    world.hypervisor.onRead = () => undefined;
    await world.cycle(vm);
    expectEqual(set);
  });

  it('waits for a merge as long as timeout says, and ends that when it is asked to stop', async () => {
    const set = await seeded();
    const { world, vm } = set;
    const { clock } = world;
    world.hypervisor.isMerging = true;
    let startedAt = clock.monotonic();
    const late = await refusal(() => world.cycle(vm, { timeoutMs: 60_000 }));
    expect(late.code).to.equal('E_STALLED');
    expect(clock.monotonic() - startedAt).to.be.within(60_000, 61_000);

    const stop = new AbortController();
    startedAt = clock.monotonic();
    void clock.sleep(10_000).then(() => {
      stop.abort();
    });
    let ended: unknown;
    try {
      await world.cycle(vm, { timeoutMs: 3_600_000 }, { signal: stop.signal });
    } catch (error) {
      ended = error;
    }
    expect(ended).to.be.instanceOf(CycleStopped);
    expect(clock.monotonic() - startedAt).to.be.within(10_000, 15_000);
    world.hypervisor.isMerging = false;
    await world.cycle(vm);
    expectEqual(set);
  });

  it('waits ten seconds for the answer to a commit when it is asked to stop, not for ever', async () => {
    const set = await seeded();
    const { world, vm } = set;
    const stop = new AbortController();
    world.receiver.loseCommitAnswers = 1_000_000;
    world.receiver.onCall = (method) => {
      if (method === 'commit') stop.abort();
    };
    const startedAt = world.clock.monotonic();
    let ended: unknown;
    try {
      await world.cycle(vm, { timeoutMs: 3_600_000 }, { signal: stop.signal });
    } catch (error) {
      ended = error;
    }
    expect(ended).to.be.instanceOf(CycleStopped);
    expect(world.clock.monotonic() - startedAt).to.be.within(10_000, 20_000);
    expectTidy(set);
    world.receiver.loseCommitAnswers = 0;
    world.receiver.onCall = () => undefined;
    expect((await world.cycle(vm)).kind).to.equal('nothing');
    expectEqual(set);
  });
});

describe('bandwidth', () => {
  it('lets exactly the budget leave over time, whoever sends', async () => {
    const world = new AgentWorld();
    const rate = MIB;
    const bandwidth = new Bandwidth(world.clock, { bytesPerSecond: rate });
    const { signal } = new AbortController();
    const send = async (): Promise<void> => {
      for (let i = 0; i < 20; i++) await bandwidth.take(MIB / 4, signal);
    };
    const startedAt = world.clock.monotonic();
    await world.running(Promise.all([send(), send()]), 1000);
    const seconds = (world.clock.monotonic() - startedAt) / 1000;
    expect(seconds).to.be.within(9.8, 10.2);
  });

  it('does not save up time that nobody used', async () => {
    const world = new AgentWorld();
    const bandwidth = new Bandwidth(world.clock, { bytesPerSecond: MIB });
    const { signal } = new AbortController();
    await world.clock.advance(60_000);
    const startedAt = world.clock.monotonic();
    await world.running(bandwidth.take(MIB, signal), 1000);
    expect(world.clock.monotonic() - startedAt).to.be.within(890, 1010);
  });
});
