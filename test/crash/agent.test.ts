// Power cuts at every durable step of ledger, lease and cycle. The host's memory and the agent are
// gone, the hypervisor's objects and the receiver's acknowledged state stay; the guest writes on.
// Afterwards the next cycle must make a replica that equals the guest at its checkpoint, and every
// point that was ever listed must be one moment of the guest - never a mixture of two.

import { expect } from 'chai';
import { connectDirectly, replicationService } from '../../shared/channel/index.js';
import { CELL_BYTES, CellSet } from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import type { FileSystem } from '../../shared/files/index.js';
import type { SourceHypervisor } from '../../shared/hypervisor/index.js';
import { silentLog } from '../../shared/log.js';
import { Bandwidth } from '../../source-agent/bandwidth.js';
import { runCycle } from '../../source-agent/cycle.js';
import { emptyLedger, type Ledger, newChain, withChain } from '../../source-agent/ledger.js';
import { LedgerStore } from '../../source-agent/ledger-store.js';
import { ReceiverLink } from '../../source-agent/receiver-link.js';
import { CrashError, CrashFileSystem } from '../support/crash-file.js';
import { crashEverywhere } from '../support/crash-everywhere.js';
import { FaultFileSystem } from '../support/fault-file.js';
import { FakeClock } from '../support/fake-clock.js';
import { FakeSourceHypervisor, type FakeVm, testGuid } from '../support/fake-source-hypervisor.js';
import { MemoryFileSystem } from '../support/memory-file.js';
import { NaiveReceiver } from '../support/naive-receiver.js';
import { refusal } from '../support/refusal.js';
import { SeededRandom } from '../support/seeded-random.js';
import { SETTINGS } from '../unit/source-agent/agent-world.js';

const STATE = '/state';
const SLOW = process.env['SLOW'] === '1';
const DISK_CELLS = 12;
const CALLER = {
  principal: 'a',
  keyId: 'k',
  role: 'source',
  vmPattern: '*',
  address: 'direct',
} as const;

/** The guest, the hypervisor and the receiver: what outlives the agent. */
class World {
  readonly clock = new FakeClock();
  readonly hypervisor = new FakeSourceHypervisor(this.clock);
  readonly receiver = new NaiveReceiver(testGuid(0xabc));
  readonly vm: FakeVm;
  readonly #random: SeededRandom;
  /** Every moment of the guest at which a checkpoint was made. */
  readonly moments: string[] = [];
  /** Set when the process is dead: its calls reach nobody any more. */
  isDead: () => boolean = () => false;
  /** Set to die at the n-th call of the agent to the outside. */
  dieAtCall = Number.POSITIVE_INFINITY;
  callCount = 0;
  #hasDied = false;

  constructor(seed: number) {
    this.#random = new SeededRandom(seed);
    this.vm = this.hypervisor.addVm(1, 'SQL01', [DISK_CELLS * CELL_BYTES - 512, 3 * CELL_BYTES]);
    this.hypervisor.onCall = (verb) => {
      if (verb.startsWith('createCheckpoint') && verb !== 'createCheckpoint done') {
        this.moments.push(this.fingerprint());
      }
      this.#outside();
    };
    this.hypervisor.onRead = () => {
      this.guestWrites(1);
      this.#outside();
    };
    this.receiver.onCall = () => {
      this.#outside();
    };
  }

  guestWrites(count: number): void {
    for (let i = 0; i < count; i++) {
      const disk = this.#random.int(2);
      const size = this.vm.disks[disk]?.bytes.length ?? 0;
      const length = this.#random.pick([512, 4096, CELL_BYTES]);
      const at = this.#random.int(Math.floor((size - length) / 512)) * 512;
      const bytes = this.#random.chance(0.2) ? Buffer.alloc(length) : this.#random.bytes(length);
      this.hypervisor.write(this.vm, disk, at, bytes);
    }
  }

  fingerprint(): string {
    return this.vm.disks.map(({ bytes }) => bytes.toString('base64')).join('|');
  }

  revive(): void {
    this.#hasDied = false;
    this.dieAtCall = Number.POSITIVE_INFINITY;
    this.isDead = () => false;
    this.hypervisor.closeHandles();
  }

  /** A killed process neither calls nor hears anything. */
  #outside(): void {
    this.callCount++;
    if (this.callCount >= this.dieAtCall) this.#hasDied = true;
    if (this.#hasDied || this.isDead()) throw new CrashError('the process is dead');
  }

  get hasDied(): boolean {
    return this.#hasDied;
  }

  async cycle(fs: FileSystem): Promise<void> {
    await fs.makeFolder(STATE);
    const { id, name, powerState } = this.vm;
    const link = new ReceiverLink(() =>
      Promise.resolve({
        client: connectDirectly(replicationService, this.receiver.handlers, CALLER),
        close: () => Promise.resolve(),
      }),
    );
    const hypervisor: SourceHypervisor = this.hypervisor;
    await runCycle({ id, name, powerState }, SETTINGS, {
      hypervisor,
      link,
      fs,
      clock: this.clock,
      random: this.#random,
      log: silentLog,
      bandwidth: new Bandwidth(this.clock, { bytesPerSecond: 0 }),
      stateFolder: STATE,
      signal: new AbortController().signal,
    });
  }

  /** The newest point is the guest at the last checkpoint; every point is some moment of it. */
  check(): void {
    const points = this.receiver
      .points(this.vm.id)
      .map(({ disks }) => disks.map(({ bytes }) => bytes.toString('base64')).join('|'));
    const known = new Set(this.moments);
    for (const [index, point] of points.entries()) {
      if (!known.has(point)) throw new Error(`point ${index} is a mixture of two moments`);
    }
    expect(points.at(-1) === this.moments.at(-1), 'the newest point is the last moment').to.equal(
      true,
    );
  }

  checkTidy(): void {
    expect(this.hypervisor.checkpoints.size, 'checkpoints left behind').to.equal(0);
    expect(this.hypervisor.referencePoints.size, 'reference points').to.be.at.most(1);
  }
}

/** A seeded world with a durable state folder, the same for every trial. */
async function prepared(seed: number): Promise<{ world: World; volume: MemoryFileSystem }> {
  const world = new World(seed);
  const volume = new MemoryFileSystem();
  world.guestWrites(20);
  await world.cycle(volume);
  world.guestWrites(6);
  await world.cycle(volume);
  world.guestWrites(6);
  return { world, volume };
}

async function untilDeath(work: Promise<void>): Promise<'finished' | 'died'> {
  try {
    await work;
    return 'finished';
  } catch (error) {
    if (error instanceof CrashError || isCausedByDeath(error)) return 'died';
    throw error;
  }
}

/** What the death of the process looks like where a layer translated it. */
function isCausedByDeath(error: unknown): boolean {
  if (error instanceof CrashError) return true;
  return error instanceof DrError && isCausedByDeath(error.cause);
}

describe('agent: power cuts', () => {
  it('at every durable step of a cycle: the next replica is the guest', async function () {
    this.timeout(SLOW ? 600_000 : 60_000);
    let stateCount = 0;
    for (const seed of SLOW ? [1, 2, 3, 4, 5] : [1]) {
      const rehearsal = await prepared(seed);
      const counting = new CrashFileSystem({ volume: rehearsal.volume });
      await rehearsal.world.cycle(counting);
      rehearsal.world.check();
      expect(counting.operationCount).to.be.greaterThan(15);
      for (let operation = 1; operation <= counting.operationCount + 1; operation++) {
        for (const style of ['none', 'all', 'prefix', 'random', 'names', 'data'] as const) {
          if (!SLOW && (operation + style.length) % 2 === 0) continue;
          const { world, volume } = await prepared(seed);
          const crash = new CrashFileSystem({ volume, crashAt: operation });
          world.isDead = () => crash.hasCrashed;
          await untilDeath(world.cycle(crash));
          crash.crashNow();
          world.revive();
          const found = crash.survivors(operation * 7 + seed, style);
          world.guestWrites(5);
          try {
            await world.cycle(found);
            world.check();
            world.checkTidy();
            world.guestWrites(3);
            await world.cycle(found);
            world.check();
            world.checkTidy();
          } catch (error) {
            const text = error instanceof Error ? error.message : String(error);
            throw new Error(
              `seed ${seed}, operation ${operation} (${crash.lastOperation}), ${style}: ${text}`,
              { cause: error },
            );
          }
          stateCount++;
        }
      }
    }
    expect(stateCount).to.be.greaterThan(40);
  });

  it('never costs a compare: ledger and reference point stay one unit', async () => {
    const rehearsal = await prepared(3);
    const counting = new CrashFileSystem({ volume: rehearsal.volume });
    await rehearsal.world.cycle(counting);
    for (let operation = 1; operation <= counting.operationCount; operation++) {
      const { world, volume } = await prepared(3);
      const crash = new CrashFileSystem({ volume, crashAt: operation });
      world.isDead = () => crash.hasCrashed;
      await untilDeath(world.cycle(crash));
      world.revive();
      // what a journalling file system leaves: everything up to the cut
      await world.cycle(crash.survivors(operation, 'prefix'));
      world.check();
      const kinds = world.receiver.points(world.vm.id).map(({ kind }) => kind);
      expect(kinds, `operation ${operation}: ${crash.lastOperation}`).not.to.include('resync');
    }
  });

  it('kill of the agent at every call, its checkpoint gone, the guest writing on: no mixed image', async function () {
    this.timeout(SLOW ? 600_000 : 60_000);
    for (const seed of SLOW ? [1, 2, 3, 4, 5, 6, 7, 8] : [1, 2]) {
      const rehearsal = await prepared(seed);
      const before = rehearsal.world.callCount;
      await rehearsal.world.cycle(rehearsal.volume);
      const calls = rehearsal.world.callCount - before;
      expect(calls).to.be.greaterThan(12);
      for (let call = 1; call <= calls + 1; call++) {
        const { world, volume } = await prepared(seed);
        world.dieAtCall = world.callCount + call;
        // a kill keeps what was written, but nobody tidies up: locks end, files stay
        const crash = new CrashFileSystem({ volume });
        world.isDead = () => crash.hasCrashed;
        const end = await untilDeath(
          world.cycle(crash).catch((error: unknown) => {
            crash.crashNow();
            throw error;
          }),
        );
        expect(end).to.equal(world.hasDied ? 'died' : 'finished');
        world.revive();
        // a second checkpoint of another moment: the first is removed by tag
        world.guestWrites(8);
        const found = crash.survivors(seed, 'all');
        try {
          await world.cycle(found);
          world.check();
          world.checkTidy();
        } catch (error) {
          const text = error instanceof Error ? error.message : String(error);
          throw new Error(`seed ${seed}, call ${call} of ${calls}: ${text}`, { cause: error });
        }
      }
    }
  });

  it('many kills in a row, at random, with and without progress', async function () {
    this.timeout(SLOW ? 600_000 : 60_000);
    const random = new SeededRandom(99);
    for (let round = 0; round < (SLOW ? 200 : 12); round++) {
      const { world, volume } = await prepared(round);
      let current: MemoryFileSystem = volume;
      for (let kill = 0; kill < 6; kill++) {
        const crash = new CrashFileSystem({ volume: current, crashAt: random.between(1, 40) });
        world.isDead = () => crash.hasCrashed;
        if (random.chance(0.5)) world.dieAtCall = world.callCount + random.between(1, 60);
        await untilDeath(world.cycle(crash));
        crash.crashNow();
        current = crash.survivors(
          random.int(1000),
          random.pick(['all', 'prefix', 'random', 'none']),
        );
        world.revive();
        world.guestWrites(random.int(6));
      }
      await world.cycle(current);
      world.check();
      world.checkTidy();
    }
  });
});

describe('ledger store: power cuts', () => {
  const vmId = testGuid(1);

  function ledgerWith(count: number, cell: number): Ledger {
    let ledger = emptyLedger(vmId, 'SQL01');
    for (let number = 0; number < count; number++) {
      const pending = new CellSet();
      for (let i = 0; i < 3000; i++) pending.add(cell + i * 5, cell + i * 5 + 1);
      const geometry = { sizeBytes: 2 ** 40, logicalSectorBytes: 512, physicalSectorBytes: 4096 };
      const debt = { generation: 0, geometry, pending, because: '', inFlight: undefined };
      const disks = new Map([[testGuid(500), debt]]);
      ledger = withChain(ledger, { ...newChain(`dr:${number}`, 1n), disks });
    }
    const reference = { id: `reference-${cell}`, createdAtMs: cell, disks: [] };
    return { ...ledger, reference };
  }

  const seams = (fs: FileSystem) => ({ fs, random: new SeededRandom(5), now: () => 0 });
  const cellOf = (ledger: Ledger): string => {
    const set = [...ledger.chains.values()][0]?.disks.get(testGuid(500))?.pending;
    const [first] = set === undefined || set === 'all' ? [] : [...set.pageRanges()];
    return `${ledger.reference?.id ?? 'none'} ${first?.start ?? 'none'}`;
  };

  it('never goes back behind a ledger that was read', async () => {
    const crash = new CrashFileSystem();
    await crash.makeFolder(STATE);
    const first = await LedgerStore.open(STATE, vmId, 'SQL01', seams(crash));
    await first.store.save(ledgerWith(1, 7));
    const faulty = new FaultFileSystem(crash);
    const second = await LedgerStore.open(STATE, vmId, 'SQL01', seams(faulty));
    faulty.inject({ kind: 'flushFolder' });
    const same = { ...second.ledger, reference: ledgerWith(1, 8).reference };
    expect((await refusal(() => second.store.save(same))).code).to.equal('E_IO');
    // it has its name, and whoever reads it removes the reference point of the one before
    const { ledger } = await LedgerStore.open(STATE, vmId, 'SQL01', seams(crash));
    expect(ledger.reference?.id).to.equal('reference-8');
    crash.crashNow();
    const found = crash.survivors(1, 'none');
    const again = await LedgerStore.open(STATE, vmId, 'SQL01', seams(found));
    expect(again.ledger.reference?.id).to.equal('reference-8');
  });

  it('leaves the old ledger or the new one, sets and reference point together', async () => {
    const volume = new MemoryFileSystem();
    await volume.makeFolder(STATE);
    const first = await LedgerStore.open(STATE, vmId, 'SQL01', seams(volume));
    await first.store.save(ledgerWith(2, 7));
    const states = await crashEverywhere({
      volume,
      run: async (fs) => {
        const { store } = await LedgerStore.open(STATE, vmId, 'SQL01', seams(fs));
        await store.save(ledgerWith(3, 8));
        await store.save({ ...ledgerWith(3, 9), reference: undefined });
        await store.save(ledgerWith(1, 10));
      },
      check: async (found, place) => {
        const { ledger, setAside } = await LedgerStore.open(STATE, vmId, 'SQL01', seams(found));
        expect(setAside, setAside?.error.message).to.equal(undefined);
        const allowed = place.hasFinished
          ? ['reference-10 10']
          : ['reference-7 7', 'reference-8 8', 'none 9', 'reference-10 10'];
        expect(allowed).to.include(cellOf(ledger));
        // and nothing else is left
        const names = (await found.list(STATE)).filter((name) => name.endsWith('.cells'));
        expect(names).to.have.length(1);
      },
    });
    expect(states).to.be.greaterThan(100);
  });
});
