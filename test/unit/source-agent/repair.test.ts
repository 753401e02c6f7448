// What a cycle gives back to a receiver in which cells rotted, what it owes it instead, and what a
// clean-up of the source removes: against a hypervisor and a receiver in memory.

import { expect } from 'chai';
import { guidToWire } from '../../../shared/bytes/index.js';
import { CELL_BYTES, hashCell } from '../../../shared/delta/index.js';
import { silentLog } from '../../../shared/log.js';
import {
  collectSourceGarbage,
  type SourceGarbage,
  type SourceGarbageOptions,
  withInspection,
} from '../../../source-agent/index.js';
import { takeVmLease } from '../../../source-agent/vm-lease.js';
import { type FakeVm, testGuid } from '../../support/fake-source-hypervisor.js';
import { HookedFileSystem } from '../../support/hooked-file.js';
import { SeededRandom } from '../../support/seeded-random.js';
import { AgentWorld, difference, STATE } from './agent-world.js';

const random = new SeededRandom(5);

async function seeded(): Promise<{ world: AgentWorld; vm: FakeVm }> {
  const world = new AgentWorld();
  const vm = world.hypervisor.addVm(1, 'SQL01', [20 * CELL_BYTES + 512, 3 * CELL_BYTES]);
  world.hypervisor.write(vm, 0, 2 * CELL_BYTES, random.bytes(10 * CELL_BYTES));
  world.hypervisor.write(vm, 0, 20 * CELL_BYTES, random.bytes(512));
  await world.cycle(vm);
  return { world, vm };
}

/** Says that a cell rotted at the receiver, with the hash that it has at the source now. */
function rot(world: AgentWorld, vm: FakeVm, cell: number, isInHead: boolean): void {
  const [disk] = vm.disks;
  if (disk === undefined) throw new Error('a disk');
  const bytes = disk.bytes.subarray(cell * CELL_BYTES, (cell + 1) * CELL_BYTES);
  world.receiver.wantedCells.push({
    diskId: guidToWire(disk.diskId),
    generation: 0,
    cell: BigInt(cell),
    hash: hashCell(bytes),
    isInHead,
  });
}

const dataBytes = (result: { disks: readonly { dataBytes: number }[] }): number =>
  result.disks.reduce((sum, disk) => sum + disk.dataBytes, 0);

describe('repair of a receiver', () => {
  it('gives back what is the same still, the short last cell included, and sends nothing anew', async () => {
    const { world, vm } = await seeded();
    rot(world, vm, 4, true);
    rot(world, vm, 20, false);
    const result = await world.cycle(vm);
    expect(world.receiver.wantedCells).to.deep.equal([]);
    expect(dataBytes(result)).to.equal(0);
    expect(result.warnings.map(({ code }) => code)).to.deep.equal(['W_REPAIR']);
    expect(result.warnings[0]?.text).to.contain('2 were mended, 0 are sent anew');
  });

  it('sends anew what changed here, when the newest point shows it', async () => {
    const { world, vm } = await seeded();
    rot(world, vm, 4, true);
    rot(world, vm, 5, true);
    rot(world, vm, 6, false);
    // without a word of the hypervisor, as if the ledger had it confirmed already
    for (const cell of [4, 6])
      vm.disks[0]?.bytes.fill(cell, cell * CELL_BYTES, (cell + 1) * CELL_BYTES);
    const result = await world.cycle(vm);
    expect(dataBytes(result)).to.equal(CELL_BYTES);
    expect(result.warnings[0]?.text).to.contain('1 were mended, 1 are sent anew');
    expect(world.receiver.head(vm.id)?.disks[0]?.bytes[4 * CELL_BYTES]).to.equal(4);
  });

  it('sends a disk whole that the receiver cannot read, the other one as ever', async () => {
    const { world, vm } = await seeded();
    const [first] = vm.disks;
    if (first === undefined) throw new Error('a disk');
    world.receiver.lostDiskIds = [guidToWire(first.diskId)];
    const result = await world.cycle(vm);
    expect(result.disks.map(({ how }) => how)).to.deep.equal(['whole', 'dirty']);
    expect(result.notes.join()).to.contain('cannot read its copy');
    expect(
      difference(
        world.receiver,
        vm.id,
        vm.disks.map(({ bytes }) => bytes),
      ),
    ).to.equal('');
    world.receiver.lostDiskIds = [];
    expect((await world.cycle(vm)).kind).to.equal('nothing');
  });

  it('costs no cycle when it fails', async () => {
    const { world, vm } = await seeded();
    rot(world, vm, 4, true);
    world.receiver.wantedCells.splice(0, 1, {
      ...(world.receiver.wantedCells[0] ?? { generation: 0, cell: 0n, isInHead: true }),
      diskId: Buffer.from('no id'),
      hash: Buffer.alloc(3),
    });
    const result = await world.cycle(vm);
    expect(result.warnings[0]?.code).to.equal('W_REPAIR');
    expect(result.warnings[0]?.text).to.contain('not mended');
    expect(world.receiver.points(vm.id)).to.have.length(2);
  });
});

describe('a look that makes no point', () => {
  it('removes the checkpoint of the operation that was killed in its folder, and no other', async () => {
    const { world, vm } = await seeded();
    const { files: fs, clock } = world;
    const killed = testGuid(79);
    await world.files.makeFolder('/elsewhere');
    const file = await fs.open(`/elsewhere/${vm.id}.lock`, { mode: 'create' });
    const record = { formatVersion: 1, operationId: killed, holder: 'a push', sinceMs: 1 };
    await file.write(0, Buffer.from(JSON.stringify(record)));
    await file.close();
    world.hypervisor.addForeignCheckpoint(vm, { protectionId: vm.id, operationId: killed });
    const living = world.hypervisor.addForeignCheckpoint(vm, {
      protectionId: vm.id,
      operationId: testGuid(80),
    });
    const { hypervisor, random: randomness } = world;
    const signal = new AbortController().signal;
    const seams = { hypervisor, fs, clock, random: randomness, log: silentLog, signal };
    await withInspection(vm, { ...seams, stateFolder: '/elsewhere' }, () => Promise.resolve());
    expect([...hypervisor.checkpoints.keys()]).to.deep.equal([living]);
    expect(hypervisor.referencePoints.size).to.equal(1);
    hypervisor.write(vm, 0, 0, random.bytes(CELL_BYTES));
    expect((await world.cycle(vm)).kind).to.equal('delta');
  });

  it('leaves a ledger that cannot be used to the next cycle, which tells it', async () => {
    const { world, vm } = await seeded();
    const { files: fs, clock, hypervisor, random: randomness } = world;
    const path = `${STATE}/${vm.id}.json`;
    const garbage = Buffer.from('no ledger');
    const file = await fs.open(path, { mode: 'write' });
    await file.truncate(0);
    await file.write(0, garbage);
    await file.close();
    const signal = new AbortController().signal;
    const seams = { hypervisor, fs, clock, random: randomness, log: silentLog, signal };
    const chains = await withInspection(vm, { ...seams, stateFolder: STATE }, ({ ledger }) =>
      Promise.resolve(ledger.chains.size),
    );
    expect(chains).to.equal(0);
    expect((await fs.status(path))?.sizeBytes).to.equal(garbage.length);
    const { kind, warnings } = await world.cycle(vm);
    expect(kind).to.equal('resync');
    expect(warnings.map(({ code }) => code)).to.deep.equal(['W_LEDGER']);
  });
});

describe('garbage of the source', () => {
  async function collect(
    world: AgentWorld,
    more: Partial<SourceGarbageOptions> = {},
  ): Promise<SourceGarbage[]> {
    await world.files.makeFolder(STATE);
    return collectSourceGarbage({
      hypervisor: world.hypervisor,
      fs: world.files,
      clock: world.clock,
      random: world.random,
      stateFolder: STATE,
      signal: new AbortController().signal,
      isPlan: false,
      isForgetting: false,
      ...more,
    });
  }

  const kinds = (items: readonly SourceGarbage[]): string[] =>
    items.map(({ kind, isRemoved }) => `${kind} ${isRemoved ? 'removed' : 'left'}`);

  it('is a checkpoint of ours whose cycle is dead, never a foreign one', async () => {
    const { world, vm } = await seeded();
    const foreign = world.hypervisor.addForeignCheckpoint(vm);
    const other = world.hypervisor.addForeignCheckpoint(vm, {
      protectionId: testGuid(77),
      operationId: testGuid(78),
    });
    const ours = world.hypervisor.addForeignCheckpoint(vm, {
      protectionId: vm.id,
      operationId: testGuid(79),
    });
    const plan = await collect(world, { isPlan: true });
    expect(plan.filter(({ isRemovable }) => isRemovable).map(({ what }) => what)).to.deep.equal([
      ours,
    ]);
    expect(world.hypervisor.checkpoints.size).to.equal(3);
    await collect(world);
    expect([...world.hypervisor.checkpoints.keys()]).to.deep.equal([foreign, other]);
    // the reference point that the ledger names stays
    expect(world.hypervisor.referencePoints.size).to.equal(1);
  });

  it('is nothing while a cycle of the VM lives', async () => {
    const { world, vm } = await seeded();
    world.hypervisor.addForeignCheckpoint(vm, { protectionId: vm.id, operationId: testGuid(79) });
    const lease = await takeVmLease(
      STATE,
      {
        vmId: vm.id,
        vmName: vm.name,
        operationId: testGuid(79),
        holder: 'a push',
        waitMs: 0,
        signal: new AbortController().signal,
      },
      { fs: world.files, clock: world.clock },
    );
    expect(await collect(world)).to.deep.equal([]);
    expect(world.hypervisor.checkpoints.size).to.equal(1);
    await lease.release();
    expect(kinds(await collect(world))).to.deep.equal(['checkpoint removed']);
  });

  it('is no mark of a VM of which this folder has no ledger, unless that is insisted on', async () => {
    const { world, vm } = await seeded();
    const elsewhere = { stateFolder: '/elsewhere' };
    await world.files.makeFolder('/elsewhere');
    expect(kinds(await collect(world, elsewhere))).to.deep.equal(['reference-point left']);
    expect(world.hypervisor.referencePoints.size).to.equal(1);
    expect((await world.cycle(vm)).kind).to.equal('nothing');
    await collect(world, { ...elsewhere, isForgetting: true });
    expect(world.hypervisor.referencePoints.size).to.equal(0);
  });

  it('makes the name of the ledger durable before a mark goes that it does not name', async () => {
    const { world, vm } = await seeded();
    const ours = world.hypervisor.addForeignCheckpoint(vm, {
      protectionId: vm.id,
      operationId: testGuid(79),
    });
    const calls: string[] = [];
    const fs = new HookedFileSystem(world.files, ({ kind, path }, run) => {
      calls.push(`${kind} ${path}`);
      return run();
    });
    world.hypervisor.onCall = (verb) => {
      calls.push(verb);
    };
    await collect(world, { fs });
    expect(world.hypervisor.checkpoints.has(ours)).to.equal(false);
    const before = calls.slice(0, calls.indexOf('removeCheckpoint'));
    const flushed = before.lastIndexOf(`flushFolder ${STATE}`);
    expect(flushed).to.be.at.least(0);
    expect(before.lastIndexOf(`open ${STATE}/${vm.id}.json`)).to.be.greaterThan(flushed);
  });

  it('is never a lease, also of a VM that is gone', async () => {
    const { world } = await seeded();
    const lease = `${STATE}/${testGuid(99)}.lock`;
    await (await world.files.open(lease, { mode: 'create' })).close();
    expect(await collect(world, { isForgetting: true })).to.deep.equal([]);
    expect(await world.files.status(lease)).not.to.equal(undefined);
  });

  it('is nothing in a folder that is not there', async () => {
    const { world } = await seeded();
    const plan = await collect(world, { stateFolder: '/nowhere', isPlan: true });
    expect(kinds(plan)).to.deep.equal(['reference-point left']);
    expect(await world.files.status('/nowhere')).to.equal(undefined);
  });

  it('is no reference point when the ledger cannot be read', async () => {
    const { world, vm } = await seeded();
    const file = await world.files.open(`${STATE}/${vm.id}.json`, { mode: 'write' });
    await file.write(0, Buffer.from('x'));
    await file.close();
    expect(kinds(await collect(world))).to.deep.equal(['reference-point left']);
  });
});
