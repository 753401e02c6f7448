// What a cycle transfers, by table: every combination of ledger and receiver that the plan tells
// apart, with kind, way of each disk, and reason.

import { expect } from 'chai';
import type { Guid } from '../../../shared/bytes/index.js';
import { CellSet } from '../../../shared/delta/index.js';
import type { CheckpointDisk } from '../../../shared/hypervisor/index.js';
import type { DirtyCells } from '../../../source-agent/dirty-cells.js';
import { type Chain, type DiskDebt, newChain } from '../../../source-agent/ledger.js';
import { checkReceiver, planCycle } from '../../../source-agent/plan.js';
import type { ReceiverState, ReceiverView } from '../../../source-agent/receiver-view.js';
import { testGuid } from '../../support/fake-source-hypervisor.js';
import { refusal } from '../../support/refusal.js';

const [DISK_A, DISK_B] = [testGuid(1), testGuid(2)];
const [HEAD, OTHER] = [testGuid(11), testGuid(12)];
const CYCLE = testGuid(21);
const MIB = 1024 * 1024;

const shape = (sizeBytes: number) => ({
  sizeBytes,
  logicalSectorBytes: 512,
  physicalSectorBytes: 4096,
});
const frozen = (diskId: Guid, sizeBytes = MIB): CheckpointDisk => ({ diskId, ...shape(sizeBytes) });
const atReceiver = (diskId: Guid, sizeBytes = MIB, generation = 0) => ({
  diskId,
  generation,
  geometry: shape(sizeBytes),
});

function set(...cells: number[]): CellSet {
  const made = new CellSet();
  for (const cell of cells) made.add(cell, cell + 1);
  return made;
}

function view(part: Partial<ReceiverView>): ReceiverView {
  return {
    storeId: testGuid(99),
    state: 'protected',
    epoch: 1n,
    headPointId: HEAD,
    disks: [atReceiver(DISK_A)],
    wantedCellCount: 0,
    lostDiskIds: [],
    earlierDisks: [],
    isSourceActive: false,
    unfinished: undefined,
    ...part,
  };
}

function chain(
  debts: readonly (readonly [Guid, DirtyCells, number?, number?])[],
  confirmed: Guid = HEAD,
): Chain {
  const disks = new Map<Guid, DiskDebt>(
    debts.map(([diskId, pending, sizeBytes = MIB, generation = 0]) => [
      diskId,
      {
        generation,
        geometry: shape(sizeBytes),
        pending,
        because: pending === 'all' ? 'tracking is off' : '',
        inFlight: undefined,
      },
    ]),
  );
  const point = { pointId: confirmed, consistentAtMs: 1 };
  return { ...newChain('dr:x', 1n), confirmed: point, disks };
}

interface Row {
  readonly title: string;
  readonly disks?: readonly CheckpointDisk[];
  readonly chain: Chain;
  readonly receiver?: Partial<ReceiverView>;
  readonly kind: string;
  /** way, generation, reason, reuse */
  readonly plans: readonly (readonly [string, number, RegExp, boolean?])[];
}

const ROWS: readonly Row[] = [
  {
    title: 'no point yet: seed',
    chain: newChain('dr:x', 1n),
    receiver: { headPointId: undefined, disks: [] },
    kind: 'seed',
    plans: [['whole', 0, /no point yet/]],
  },
  {
    title: 'no point yet although the ledger knows one (a new store of that id): seed',
    chain: chain([[DISK_A, set(1)]]),
    receiver: { headPointId: undefined, disks: [] },
    kind: 'seed',
    plans: [['whole', 0, /no point yet/]],
  },
  {
    title: 'an unfinished seed: its cells are used again',
    chain: newChain('dr:x', 1n),
    receiver: {
      headPointId: undefined,
      disks: [],
      unfinished: { cycleId: CYCLE, disks: [atReceiver(DISK_A)] },
    },
    kind: 'seed',
    plans: [['whole', 0, /no point yet/, true]],
  },
  {
    title: 'the head is the confirmed point: delta of the set',
    chain: chain([[DISK_A, set(1, 5)]]),
    kind: 'delta',
    plans: [['dirty', 0, /2 cells changed/]],
  },
  {
    title: 'nothing changed: nothing',
    chain: chain([[DISK_A, set()]]),
    kind: 'nothing',
    plans: [['dirty', 0, /no cell changed/]],
  },
  {
    title: 'all cells owed: compare, with the reason of the ledger',
    chain: chain([[DISK_A, 'all']]),
    kind: 'resync',
    plans: [['compare', 0, /tracking is off/]],
  },
  {
    title: 'the receiver asks for a comparison: compare, whatever the set says',
    chain: chain([[DISK_A, set(1)]]),
    receiver: { state: 'resync' },
    kind: 'resync',
    plans: [['compare', 0, /asks for a comparison/]],
  },
  {
    title: 'the head is another point: compare',
    chain: chain([[DISK_A, set(1)]], OTHER),
    kind: 'resync',
    plans: [['compare', 0, /not the one known here/]],
  },
  {
    title: 'the ledger was lost: compare',
    chain: newChain('dr:x', 1n),
    kind: 'resync',
    plans: [['compare', 0, /no point of the receiver is known/]],
  },
  {
    title: 'another generation at the receiver than in the ledger: compare',
    chain: chain([[DISK_A, set(1), MIB, 1]]),
    receiver: { disks: [atReceiver(DISK_A, MIB, 2)] },
    kind: 'resync',
    plans: [['compare', 2, /another generation/]],
  },
  {
    title: 'a disk was added: a base for it, a delta for the other',
    disks: [frozen(DISK_A), frozen(DISK_B)],
    chain: chain([[DISK_A, set(3)]]),
    kind: 'delta',
    plans: [
      ['dirty', 0, /1 cells/],
      ['whole', 0, /new to the receiver/],
    ],
  },
  {
    title: 'a disk was removed: a delta even when nothing changed',
    chain: chain([
      [DISK_A, set()],
      [DISK_B, set()],
    ]),
    receiver: { disks: [atReceiver(DISK_A), atReceiver(DISK_B)] },
    kind: 'delta',
    plans: [['dirty', 0, /no cell changed/]],
  },
  {
    title: 'the receiver cannot read a disk any more: a base for it, a delta for the other',
    disks: [frozen(DISK_A), frozen(DISK_B)],
    chain: chain([
      [DISK_A, set(1)],
      [DISK_B, set(2)],
    ]),
    receiver: { disks: [atReceiver(DISK_A), atReceiver(DISK_B)], lostDiskIds: [DISK_A] },
    kind: 'delta',
    plans: [
      ['whole', 1, /cannot read its copy/],
      ['dirty', 0, /1 cells changed/],
    ],
  },
  {
    title: 'a disk was resized: a new generation with a base of its own',
    disks: [frozen(DISK_A, 2 * MIB)],
    chain: chain([[DISK_A, 'all']]),
    receiver: { disks: [atReceiver(DISK_A, MIB, 4)] },
    kind: 'delta',
    plans: [['whole', 5, /another shape/]],
  },
  {
    title: 'the set of the ledger is for another size: the receiver decides',
    chain: chain([[DISK_A, 'all', 2 * MIB, 0]]),
    kind: 'resync',
    plans: [['compare', 0, /tracking is off/]],
  },
  {
    title: 'a disk came back that was confirmed once: a generation that nobody used',
    disks: [frozen(DISK_A), frozen(DISK_B)],
    chain: {
      ...chain([[DISK_A, set()]]),
      generations: new Map([[DISK_B, { generation: 3, geometry: shape(MIB), isUsed: true }]]),
    },
    kind: 'delta',
    plans: [
      ['dirty', 0, /no cell/],
      ['whole', 4, /new to the receiver/],
    ],
  },
  {
    title: 'a base that never was confirmed is begun again under its number',
    disks: [frozen(DISK_A), frozen(DISK_B)],
    chain: {
      ...chain([[DISK_A, set()]]),
      generations: new Map([[DISK_B, { generation: 3, geometry: shape(MIB), isUsed: false }]]),
    },
    receiver: { unfinished: { cycleId: CYCLE, disks: [atReceiver(DISK_B, MIB, 3)] } },
    kind: 'delta',
    plans: [
      ['dirty', 0, /no cell/],
      ['whole', 3, /new to the receiver/, true],
    ],
  },
  {
    title: 'an unfinished delta: its cells are used again, unless the shape differs',
    disks: [frozen(DISK_A), frozen(DISK_B)],
    chain: chain([
      [DISK_A, set(1)],
      [DISK_B, set(1)],
    ]),
    receiver: {
      disks: [atReceiver(DISK_A), atReceiver(DISK_B)],
      unfinished: { cycleId: CYCLE, disks: [atReceiver(DISK_A), atReceiver(DISK_B, 2 * MIB)] },
    },
    kind: 'delta',
    plans: [
      ['dirty', 0, /1 cells/, true],
      ['dirty', 0, /1 cells/, false],
    ],
  },
];

describe('plan', () => {
  for (const row of ROWS) {
    it(row.title, () => {
      const disks = row.disks ?? [frozen(DISK_A)];
      const receiver = view(row.receiver ?? {});
      const plan = planCycle({ disks, chain: row.chain, receiver });
      expect(plan.kind).to.equal(row.kind);
      expect(plan.parentPointId).to.equal(receiver.headPointId);
      expect(plan.disks).to.have.length(row.plans.length);
      for (const [index, [how, generation, because, isReusing = false]] of row.plans.entries()) {
        const disk = plan.disks[index];
        expect(disk?.send.how).to.equal(how);
        expect(disk?.generation).to.equal(generation);
        expect(disk?.because).to.match(because);
        expect(disk?.reuseCycleId).to.equal(isReusing ? CYCLE : undefined);
      }
    });
  }

  const ADMITTED: readonly (readonly [ReceiverState, string])[] = [
    ['unprotected', ''],
    ['seeding', ''],
    ['protected', ''],
    ['resync', ''],
    ['paused', 'E_STATE'],
    ['failed-over', 'E_FAILED_OVER'],
    ['committed', 'E_FAILED_OVER'],
    ['halted', 'E_HALTED'],
    ['split-brain', 'E_SPLIT_BRAIN'],
    ['returning', 'E_LOCKED'],
  ];
  for (const [state, code] of ADMITTED) {
    it(`a receiver that is ${state}: ${code === '' ? 'goes on' : code}`, async () => {
      const check = () => checkReceiver(view({ state }), newChain('dr:x', 1n), 'SQL01');
      if (code === '') check();
      else expect((await refusal(() => Promise.resolve().then(check))).code).to.equal(code);
    });
  }

  it('stops at another epoch, in either direction', async () => {
    const at = (mine: bigint, theirs: bigint) =>
      refusal(() =>
        Promise.resolve().then(() => {
          checkReceiver(view({ epoch: theirs }), newChain('dr:x', mine), 'SQL01');
        }),
      );
    expect((await at(1n, 2n)).code).to.equal('E_STALE_EPOCH');
    expect((await at(2n, 1n)).code).to.equal('E_HALTED');
  });
});
