// One cycle after the other against a hypervisor and a receiver in memory: what a cycle of each
// kind transfers, and that the replica is the guest at its checkpoint.

import { expect } from 'chai';
import { CELL_BYTES } from '../../../shared/delta/index.js';
import { SeededRandom } from '../../support/seeded-random.js';
import { AgentWorld, difference } from './agent-world.js';

const random = new SeededRandom(1);

describe('cycle', () => {
  it('seeds, sends what changed, and then nothing', async () => {
    const world = new AgentWorld();
    const vm = world.hypervisor.addVm(1, 'SQL01', [40 * CELL_BYTES + 512, 3 * CELL_BYTES]);
    world.hypervisor.write(vm, 0, 5 * CELL_BYTES, random.bytes(20 * CELL_BYTES));
    const seed = await world.cycle(vm);
    expect(seed.kind).to.equal('seed');
    expect(
      difference(
        world.receiver,
        vm.id,
        vm.disks.map(({ bytes }) => bytes),
      ),
    ).to.equal('');

    world.hypervisor.write(vm, 0, 40 * CELL_BYTES, random.bytes(512));
    world.hypervisor.write(vm, 0, 6 * CELL_BYTES, Buffer.alloc(CELL_BYTES));
    world.hypervisor.write(vm, 1, 100, random.bytes(100));
    const delta = await world.cycle(vm);
    expect(delta.kind).to.equal('delta');
    expect(delta.disks.map(({ dataBytes }) => dataBytes)).to.deep.equal([512, CELL_BYTES]);
    expect(
      difference(
        world.receiver,
        vm.id,
        vm.disks.map(({ bytes }) => bytes),
      ),
    ).to.equal('');

    const nothing = await world.cycle(vm);
    expect(nothing.kind).to.equal('nothing');
    expect(world.receiver.points(vm.id)).to.have.length(3);
    expect(world.hypervisor.checkpoints.size).to.equal(0);
    expect(world.hypervisor.referencePoints.size).to.equal(1);
  });
});
