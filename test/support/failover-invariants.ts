// The invariants of failover.md § 1, asserted over a pair of sites as they stand: the receiver's record, both
// labs, the ledger of the source. They hold after every command, crash and restart; what only holds once
// everything under way has ended is asked for by `isSettled`.

import { expect } from 'chai';
import type { Guid } from '../../shared/bytes/index.js';
import { systemClock } from '../../shared/clock.js';
import { CELL_BYTES } from '../../shared/delta/index.js';
import { Lab } from '../../shared/hypervisor/lab/index.js';
import { answerTo, rowOf } from '../../dr-receiver/failover/machine.js';
import type { FailoverRecord } from '../../dr-receiver/failover/model.js';
import { type DirtyCells, noCells, union } from '../../source-agent/dirty-cells.js';
import { openFailback, protectiveFiles } from '../../source-agent/failback/leftovers.js';
import type { Ledger } from '../../source-agent/ledger.js';
import { LedgerStore } from '../../source-agent/ledger-store.js';
import { changesSince } from '../../source-agent/tracked-changes.js';
import { readPoint } from '../unit/dr-receiver/source-double.js';
import { BYSTANDER, type FailoverPair, PAIR_STATE, PAIR_VM, PRIMARY_LAB } from './failover-pair.js';
import { LAB_REQUEST, labSeams, viewsOf } from './lab-model.js';
import type { MemoryFileSystem } from './memory-file.js';
import { SeededRandom } from './seeded-random.js';

export interface Moment {
  /** Nothing is under way, and the source, when it is there, has been told what it is owed. */
  readonly isSettled: boolean;
  /** The volume of the primary site, of which a copy is looked at; undefined: I3 is not asserted. */
  readonly primary?: MemoryFileSystem | undefined;
}

/** I1 to I5. @throws AssertionError that names the one that is broken */
export async function expectInvariants(pair: FailoverPair, moment: Moment): Promise<void> {
  await expectOneActive(pair, moment);
  await expectPointsRead(pair);
  if (moment.primary !== undefined) await expectChangesCovered(pair, moment.primary);
  await expectOnlyOurs(pair, moment);
  await expectStateSays(pair, moment);
}

/** I1. */
async function expectOneActive(pair: FailoverPair, { isSettled }: Moment): Promise<void> {
  const { epoch, failover } = (await pair.desk()).vm.protection;
  const { activeSite, phase, operation } = failover;
  const ledger = await ledgerOf(pair);
  for (const chain of ledger?.chains.values() ?? []) {
    expect(chain.epoch <= epoch, 'I1: the source knows a later epoch').to.equal(true);
    if (chain.epoch !== epoch) continue;
    // the record of a raised epoch comes before the source hears of it
    expect(chain.standing.activeSite, `I1: active site of epoch ${epoch}`).to.equal(activeSite);
  }
  const runsHere = (await ourVms(pair)).some(
    ({ name, powerState }) => name === PAIR_VM && powerState !== 'off',
  );
  const { powerState } = await pair.source.findVm(PAIR_VM);
  const areTalking = isSettled && pair.isAttached;
  if (areTalking && runsHere && powerState !== 'off') {
    // of one that is committed the source is retired: what runs there is no part of the pair any more
    expect(phase, 'I1: both run').to.be.oneOf(['split-brain', 'committed']);
    const isTold = pair.site.receiver.failovers.isRetiredRunning(pair.vmId);
    expect(isTold, 'I1: a retired one runs, and is told of').to.equal(phase === 'committed');
  }
  const isGoingHome = phase === 'failing-back' || phase === 'failed-back';
  // neither site starts it before the other has said that it is off
  if (isGoingHome)
    expect(runsHere && powerState !== 'off', `I1: both run, ${phase}`).to.equal(false);
  if (isSettled && phase === 'failed-back') {
    expect(powerState, 'I1: it runs at the primary').to.equal('running');
  }
  if (operation === undefined && phase === 'ordinary') {
    expect(runsHere, 'I1: it runs here while the source is active').to.equal(false);
  }
  if (runsHere) expect(activeSite === 'target' || phase === 'undoing', 'I1').to.equal(true);
}

/** I2: each disk of each point that is listed, to the byte. */
async function expectPointsRead(pair: FailoverPair): Promise<void> {
  const { listed } = (await pair.desk()).vm.protection;
  expect(listed.length, 'I2: there are points').to.be.greaterThan(0);
  for (const { pointId } of listed) {
    const views = pair.history.get(pointId);
    for (const [disk, view] of (views ?? (await pair.sourceViews())).entries()) {
      const read = await readPoint(pair.site, PAIR_VM, pointId, disk);
      if (views === undefined) continue;
      expect(read.equals(view), `I2: point ${pointId}, disk ${disk}`).to.equal(true);
    }
  }
}

/** I3: what the disks differ in from the receiver's newest point is what the next cycle would bring. */
async function expectChangesCovered(pair: FailoverPair, volume: MemoryFileSystem): Promise<void> {
  const ledger = await ledgerOf(pair);
  const head = (await pair.desk()).vm.protection.head?.pointId;
  const before = head === undefined ? undefined : pair.history.get(head);
  const [chain] = ledger?.chains.values() ?? [];
  if (ledger === undefined || chain === undefined || before === undefined) return;
  const known = [chain.confirmed, ...chain.offered, chain.inFlight];
  // else all of it is compared
  if (!known.some((point) => point?.pointId === head)) return;
  const lab = await Lab.open(PRIMARY_LAB, labSeams(volume.clone()));
  const checkpoint = await lab.createCheckpoint(pair.vmId, LAB_REQUEST);
  const frozen = { hypervisor: lab, vmId: pair.vmId, checkpointId: checkpoint.id };
  const changes = await changesSince(frozen, checkpoint.disks, ledger.reference);
  const now = await viewsOf(lab, pair.vmId);
  for (const [index, { diskId, changed }] of changes.entries()) {
    const debt = chain.disks.get(diskId);
    const owed = debt === undefined ? 'all' : union(debt.pending, debt.inFlight ?? noCells());
    const covered = union(changed, owed);
    const [old, view] = [before[index], now[index]];
    if (old === undefined || view === undefined) throw new Error(`no disk ${index}`);
    for (const cell of differingCells(old, view)) {
      expect(hasCell(covered, cell), `I3: disk ${index}, cell ${cell}`).to.equal(true);
    }
  }
  await lab.close();
}

function* differingCells(one: Buffer, other: Buffer): Generator<number> {
  for (let cell = 0; cell * CELL_BYTES < one.length; cell++) {
    const [start, end] = [cell * CELL_BYTES, (cell + 1) * CELL_BYTES];
    if (!one.subarray(start, end).equals(other.subarray(start, end))) yield cell;
  }
}

function hasCell(cells: DirtyCells, cell: number): boolean {
  if (cells === 'all') return true;
  return [...cells.ranges()].some(({ start, end }) => start <= cell && cell < end);
}

/** I4: nobody else's VM was touched, and nothing with our tag is there that no record names. */
async function expectOnlyOurs(pair: FailoverPair, { isSettled }: Moment): Promise<void> {
  for (const lab of [pair.source, pair.target]) {
    const { id, powerState, disks } = await lab.findVm(BYSTANDER);
    expect(powerState, 'I4: the bystander').to.equal('off');
    expect(disks.map(({ files }) => files.length)).to.deep.equal([1]);
    const [view] = await viewsOf(lab, id);
    const wanted = Buffer.alloc(view?.length ?? 0);
    wanted.fill(0xb5, 512, 1024);
    expect(view?.equals(wanted), 'I4: the disk of the bystander').to.equal(true);
  }
  if (!isSettled) return;
  await expectNoStrayDisks(pair);
  const { failover, tests } = (await pair.desk()).vm.protection;
  const instances = [failover.instance, ...[...tests.values()].map(({ instance }) => instance)];
  const named = new Set(instances.map((instance) => instance?.operationId));
  for (const { name, operationId } of await ourVms(pair)) {
    expect(named.has(operationId), `I4: ${name} of operation ${operationId}`).to.equal(true);
  }
  const fence = await pair.source.fenceOf(pair.vmId);
  if (failover.phase === 'failed-back') expect(fence, 'I4: it runs, fenced').to.equal(undefined);
  const mayBeFenced =
    failover.phase !== 'ordinary' || failover.owed.some(({ kind }) => kind === 'unfence');
  if (!mayBeFenced) expect(fence, 'I4: a fence that nobody will lift').to.equal(undefined);
}

/** I4: a protective disk at the primary is the VM's, or that of the failback whose record is there. */
async function expectNoStrayDisks({
  source,
  vmId,
  options,
  isAttached,
}: FailoverPair): Promise<void> {
  const seams = { fs: options.primary, random: new SeededRandom(1) };
  if (!isAttached || (await openFailback(vmId, PAIR_STATE, seams)) !== undefined) return;
  for (const { file, isStoodOn } of await protectiveFiles(vmId, source, seams)) {
    expect(isStoodOn, `I4: ${file}`).to.equal('yes');
  }
}

/** I5: the record says what is under way, and how it goes on. */
async function expectStateSays(pair: FailoverPair, { isSettled }: Moment): Promise<void> {
  const { failover } = (await pair.desk()).vm.protection;
  const { phase, operation, halted } = failover;
  const isAtWork = ['failing-over', 'undoing', 'failing-back'].includes(phase);
  if (isAtWork) expect(operation, `I5: ${phase}`).not.to.equal(undefined);
  if (phase === 'halted') expect(halted, 'I5: halted').not.to.equal(undefined);
  if (operation === undefined) return;
  const row = rowOf((await pair.stateName()) as Parameters<typeof rowOf>[0], failover);
  const { kind } = answerTo(row, 'resume', failover);
  // the first step of `permanent` is taken back by itself
  if (isSettled && operation.kind !== 'permanent') {
    expect(kind, `I5: resume of ${operation.kind} at ${operation.step}`).to.equal('resume');
  }
  if (isSettled) expectHolds(failover);
}

/** A VM of ours stands on disks that the record names. */
function expectHolds({ phase, instance }: FailoverRecord): void {
  if (['failed-over', 'committed', 'failing-back'].includes(phase)) {
    expect(instance, `I5: ${phase}`).not.to.equal(undefined);
  }
}

interface OurVm {
  readonly name: string;
  readonly powerState: string;
  readonly operationId: Guid;
}

/** VMs at the DR site that bear the tag of the protection. */
async function ourVms({ target, vmId }: FailoverPair): Promise<OurVm[]> {
  const found: OurVm[] = [];
  for (const { id, name, powerState } of await target.listVms()) {
    const tag = await target.tagOf(id);
    if (tag === undefined) {
      expect(name, 'I4: a VM without our tag').to.equal(BYSTANDER);
    } else if (tag.protectionId === vmId) {
      found.push({ name, powerState, operationId: tag.operationId });
    }
  }
  return found;
}

function ledgerOf({ options, vmId }: FailoverPair): Promise<Ledger | undefined> {
  return LedgerStore.look(PAIR_STATE, vmId, {
    fs: options.primary,
    random: new SeededRandom(1),
    now: () => systemClock.now(),
  });
}
