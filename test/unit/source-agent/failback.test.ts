// A failback at the primary: disks brought level, the VM started on them, committed or undone, by the
// orders of the receiver.

import { expect } from 'chai';
import { join } from 'node:path';
import { defined } from '../../../shared/assert.js';
import { type Guid, guidFromWire } from '../../../shared/bytes/index.js';
import { FailbackMode } from '../../../shared/channel/index.js';
import { systemClock } from '../../../shared/clock.js';
import { CELL_BYTES } from '../../../shared/delta/index.js';
import { DrError } from '../../../shared/errors.js';
import { openVhdx } from '../../../shared/vhdx/index.js';
import { collectSourceGarbage } from '../../../source-agent/index.js';
import { testGuid } from '../../support/fake-source-hypervisor.js';
import { Gate } from '../../support/gate.js';
import { expectViews } from '../../support/lab-model.js';
import { HookedFileSystem } from '../../support/hooked-file.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { refusal } from '../../support/refusal.js';
import { takeVmLease } from '../../../source-agent/vm-lease.js';
import { STATE } from './agent-world.js';
import { FailbackWorld, OPERATION } from './failback-world.js';

describe('failback at the primary', function () {
  this.timeout(60_000);
  let world: FailbackWorld;

  beforeEach(async () => {
    world = await FailbackWorld.planned();
  });
  afterEach(() => world.close());

  const power = async (): Promise<string | undefined> => (await world.lab.listVms())[0]?.powerState;
  const start = async (): Promise<bigint> => {
    const epoch = await world.makeActive();
    await world.source.failbackStart(world.vm.id, await world.order({ epoch }));
    return epoch;
  };
  /** Level, and the serving VM off; returns what it had. */
  const level = async (): Promise<Buffer[]> => {
    await world.sync();
    await world.stopServing();
    await world.sync({ isLast: true });
    return world.servingViews();
  };
  const undo = async (epoch: bigint): Promise<void> =>
    world.source.failbackUndo(world.vm.id, {
      ...(await world.order({ epoch })),
      ...{ failbackId: OPERATION, dropsWrites: true },
    });

  it('brings the disks level, starts the VM on them, and goes on from there with a delta', async () => {
    expect(await world.sync()).to.equal(3);
    await world.servingWrites(0, 4);
    await world.stopServing();
    expect(await world.sync({ isLast: true })).to.equal(1);
    const wanted = await world.servingViews();
    // the commit is an operation of its own
    const order = await world.order({ operationId: testGuid(0x4321), epoch: await start() });
    expect(await power()).to.equal('running');
    expectViews(await world.views(), wanted, 'after the start');
    expect((await refusal(() => world.cycle())).code).to.equal('E_STATE');

    const point = await world.recordPoint(wanted);
    await world.guestWrites(0, 7);
    await world.attach([]);
    await world.source.failbackCommit(world.vm.id, { ...order, failbackId: OPERATION }, point);
    await world.source.failbackCommit(world.vm.id, { ...order, failbackId: OPERATION }, point);
    const { kind, disks } = await world.cycle();
    expect({ kind, how: disks.map(({ how }) => how) }).to.deep.equal({
      kind: 'delta',
      how: ['dirty', 'dirty'],
    });
    expect(disks[0]?.dataBytes).to.equal(CELL_BYTES);
  });

  it('carries little more over the wire than the cells that changed', async () => {
    await level();
    expect(world.wireBytes).to.be.greaterThan(3 * CELL_BYTES);
    expect(world.wireBytes).to.be.at.most(1.1 * 3 * CELL_BYTES);
  });

  it('fetches cells of its own round alone: one that was frozen anew is fetched by its own order', async () => {
    const gate = new Gate();
    const second = defined((await world.lab.describeVm(world.vm.id)).disks[1], 'it has two disks');
    world.onCells = async ({ mode, diskId }) => {
      const isSecond = guidFromWire(diskId) === second.diskId;
      if (isSecond && mode === FailbackMode.FAILBACK_MODE_CHANGED) await gate.pass();
    };
    const order = await world.order();
    const round = {
      ...(await world.points()),
      ...({ compare: 'changed', isLast: false, isUrgent: false } as const),
    };
    const fetch = (roundId: Guid): Promise<number> =>
      world.source.failbackSync(world.vm.id, order, { ...round, roundId });
    let before: Promise<DrError> | undefined;
    await refusal(() =>
      world.inRound(async (roundId) => {
        before = refusal(() => fetch(roundId));
        await gate.reached;
        throw new DrError('E_SOURCE_UNREACHABLE', 'the attachment broke, the data link lives');
      }),
    );
    for (const disk of [0, 1]) await world.servingWrites(disk, 2);
    const anew = world.inRound(fetch);
    gate.open();
    expect((await before)?.code).to.equal('E_STATE');
    await anew;
    await world.stopServing();
    expect(await world.sync({ isLast: true })).to.equal(0);
  });

  it('keeps to the bandwidth of this site, but for a last round that is urgent', async () => {
    const taken: number[] = [];
    const { bandwidth } = world;
    const take = bandwidth.take.bind(bandwidth);
    bandwidth.take = (bytes, signal) => {
      taken.push(bytes);
      return take(bytes, signal);
    };
    await world.sync();
    const bytes = taken.reduce((sum, each) => sum + each, 0);
    expect(bytes).to.be.within(3 * CELL_BYTES, 1.1 * 3 * CELL_BYTES);
    await world.servingWrites(0, 4);
    await world.stopServing();
    taken.length = 0;
    expect(await world.sync({ isLast: true, isUrgent: true })).to.equal(1);
    expect(taken).to.deep.equal([]);
  });

  it('owes all cells to every other store after the commit', async () => {
    const other = testGuid(0x77);
    await world.tellOfStore(other, { epoch: 1n, isSourceActive: true });
    const wanted = await level();
    const order = await world.order({ epoch: await start() });
    const point = await world.recordPoint(wanted);
    await world.attach([]);
    await world.source.failbackCommit(world.vm.id, { ...order, failbackId: OPERATION }, point);
    const { chains } = await world.ledger();
    const debts = [...(chains.get(`dr:${other}`)?.disks.values() ?? [])];
    expect(debts.map(({ pending }) => pending)).to.deep.equal(['all', 'all']);
  });

  it('compares everything when it is told to, and when the newest point is none that it knows', async () => {
    await world.detach();
    await world.files.remove(join(STATE, `${world.vm.id}.json`));
    await world.attach(['failback']);
    // three cells that were written where it serves; one of them is not told as changed
    expect(await world.sync()).to.equal(3);
    const hashes = world.wireBytes - 3 * CELL_BYTES;
    expect(hashes).to.be.greaterThan(6 * 40);
    expectViews(
      await (async () => {
        await world.stopServing();
        await world.sync({ isLast: true });
        await start();
        return world.views();
      })(),
      await world.servingViews(),
      'after the start',
    );
  });

  describe('undone', () => {
    let before: readonly Buffer[];
    let ledger: string;

    beforeEach(async () => {
      before = await world.views();
      ledger = await world.ledgerText();
    });

    const expectAsBefore = async (epoch: bigint): Promise<void> => {
      expectViews(await world.views(), before, 'after the undo');
      expect(await world.filesOfFailback()).to.deep.equal([]);
      expect(await power()).to.equal('off');
      expect((await world.lab.fenceOf(world.vm.id))?.epoch).to.equal(epoch);
      expect(await world.lab.listCheckpoints(world.vm.id)).to.deep.equal([]);
    };

    it('leaves nothing behind while the disks are brought level', async () => {
      await world.sync();
      expect(await world.filesOfFailback()).to.have.length(2);
      const epoch = await world.epoch();
      await undo(epoch);
      await undo(epoch);
      await expectAsBefore(epoch);
      expect(await world.ledgerText()).to.equal(ledger);
    });

    it('turns the VM off, puts the former disks back and the fence on, and can begin anew', async () => {
      await level();
      await start();
      await world.guestWrites(0, 3);
      const epoch = (await world.epoch()) + 2n;
      const word = { operationId: OPERATION, epoch, isSourceActive: false, isRetired: false };
      await world.source.tellEpoch(world.vm.id, word);
      // the undo is an operation of its own
      const order = { operationId: testGuid(0x4321), epoch, failbackId: OPERATION };
      const kept = { ...order, dropsWrites: false };
      const error = await refusal(() => world.source.failbackUndo(world.vm.id, kept));
      expect(error.message).to.contain('ran here');
      const other = { ...order, failbackId: testGuid(0x98), dropsWrites: true };
      expect(
        (await refusal(() => world.source.failbackUndo(world.vm.id, other))).message,
      ).to.contain(`another failback, ${OPERATION}`);
      expect(await power()).to.equal('running');
      await world.source.failbackUndo(world.vm.id, { ...order, dropsWrites: true });
      await undo(epoch);
      await expectAsBefore(epoch);
      const operationId = testGuid(0x1234);
      world.since = undefined;
      await world.sync({ operationId, epoch });
      await world.sync({ operationId, epoch, isLast: true });
      const next = { operationId, epoch: epoch + 1n };
      await world.source.tellEpoch(world.vm.id, {
        ...next,
        isSourceActive: true,
        isRetired: false,
      });
      await world.source.failbackStart(world.vm.id, next);
      expectViews(await world.views(), await world.servingViews(), 'after another failback');
    });

    it('is done when nothing was begun', async () => {
      await undo(await world.epoch());
      expectViews(await world.views(), before, 'after the undo');
      expect(await world.ledgerText()).to.equal(ledger);
    });
  });

  describe('refused before anything is made', () => {
    const expectUntouched = async (): Promise<void> => {
      expect(await world.filesOfFailback()).to.deep.equal([]);
      expect(await world.files.status(join(STATE, `${world.vm.id}.failback.json`))).to.equal(
        undefined,
      );
    };

    it('while the VM is not off', async () => {
      await world.lab.unfenceVm(world.vm.id);
      await world.lab.startVm(world.vm.id);
      expect((await refusal(() => world.sync())).code).to.equal('E_SOURCE_ALIVE');
      await expectUntouched();
    });

    it('while it has a checkpoint of its user', async () => {
      await world.lab.addUserCheckpoint(world.vm.id, 'before the update');
      const error = await refusal(() => world.sync());
      expect(error.code).to.equal('E_STATE');
      expect(error.message).to.contain('checkpoints');
      await expectUntouched();
    });

    it('when its disks are not those that serve', async () => {
      const { disks } = await world.lab.describeVm(world.vm.id);
      await world.lab.resizeDisk(world.vm.id, 0, 16 * CELL_BYTES);
      await world.lab.addDisk(world.vm.id, { source: { sizeBytes: CELL_BYTES } });
      const error = await refusal(() => world.sync());
      expect(error.code).to.equal('E_DISK_MISMATCH');
      expect(error.message).to.contain(disks[0]?.diskId).and.to.contain('primary site only');
      await expectUntouched();
    });

    it('when there is too little room for what would come', async () => {
      await world.detach();
      const { files } = world;
      world.files = new HookedFileSystem(files, (call, run) =>
        call.kind === 'freeBytes' ? (Promise.resolve(4096) as ReturnType<typeof run>) : run(),
      );
      await world.attach(['failback']);
      expect((await refusal(() => world.sync())).code).to.equal('E_CAPACITY');
      await expectUntouched();
    });

    it('unless this site lets itself be written to; ending needs nothing more', async () => {
      await world.detach();
      await world.attach(['start', 'shutdown']);
      expect((await refusal(() => world.sync())).code).to.equal('E_REMOTE_ACTION');
      await undo(await world.epoch());
      await expectUntouched();
      const stop = await world.attach([], { isAtCommand: true });
      await level();
      await stop();
      const refused = await refusal(start);
      expect(refused.code).to.equal('E_REMOTE_ACTION');
      await undo((await world.epoch()) + 1n);
      await expectUntouched();
    });

    it('when it is to compare in a way that nobody knows', async () => {
      const compare = 'auto' as 'full';
      expect((await refusal(() => world.sync({ compare }))).code).to.equal('E_PROTOCOL');
      await expectUntouched();
    });

    it('while the failback of another store is open', async () => {
      await world.sync();
      await world.changeRecord({ storeId: testGuid(0x99) });
      const operationId = testGuid(0x1235);
      expect((await refusal(() => world.sync({ operationId }))).code).to.equal('E_STATE');
      expect(await world.filesOfFailback()).to.have.length(2);
    });
  });

  it('waits for a cycle that is under way when its order comes', async () => {
    const { files: fs } = world;
    const request = { vmId: world.vm.id, vmName: 'SQL01', operationId: testGuid(0x55) };
    const { signal } = new AbortController();
    const held = { ...request, holder: 'a cycle', waitMs: 0, signal };
    const lease = await takeVmLease(STATE, held, { fs, clock: systemClock });
    const syncing = world.sync();
    syncing.catch(() => undefined);
    await lease.release();
    expect(await syncing).to.equal(3);
  });

  it('an order whose epoch ended while it waited for a cycle changes nothing', async () => {
    await world.sync();
    const { storeId } = world.site.receiver.store;
    const epoch = await world.epoch();
    await world.detach();
    const files = world.files;
    // the epoch ends after the desk has looked, when the lease is taken
    world.files = new HookedFileSystem(files, async (call, run) => {
      const result = await run();
      if (call.path.endsWith('.lock') && call.kind === 'write') {
        await world.tellOfStore(storeId, { epoch: epoch + 1n, isSourceActive: false });
      }
      return result;
    });
    await world.attach(['failback']);
    expect((await refusal(() => undo(epoch))).code).to.equal('E_STALE_EPOCH');
    expect(await world.stage(files)).to.equal('syncing');
  });

  it('is not started before the disks are level and this site is said to be the active one', async () => {
    await world.sync();
    const epoch = await world.epoch();
    const early = await world.order({ epoch: epoch + 1n });
    expect((await refusal(() => world.source.failbackStart(world.vm.id, early))).code).to.equal(
      'E_STATE',
    );
    await world.makeActive();
    const error = await refusal(() => world.source.failbackStart(world.vm.id, early));
    expect(error.message).to.contain('not ready');
    expect(await power()).to.equal('off');
  });

  it('is never level when a byte differs, names the place, and a comparison mends it', async () => {
    await world.sync();
    const { disks } = await world.lab.describeVm(world.vm.id);
    const files = await world.filesOfFailback();
    const file = files.find((name) => name.includes(`${disks[0]?.diskId}.`)) ?? '';
    const seams = { fs: world.files, random: world.random };
    const disk = await openVhdx(file, { ...seams, isWritable: true });
    await disk.write(10 * CELL_BYTES, Buffer.alloc(512, 1));
    await disk.flush();
    await disk.close();
    await world.stopServing();
    const error = await refusal(() => world.sync({ isLast: true }));
    expect(error.code).to.equal('E_DIFFERENT');
    expect(error.message).to.contain(`offset ${10 * CELL_BYTES}`);
    expect(await world.stage()).to.equal('syncing');
    const again = await world.sync({ compare: 'full', isLast: true });
    expect(again, 'cells that a comparison of everything brings').to.equal(1);
    await start();
    expectViews(await world.views(), await world.servingViews(), 'after the start');
  });

  it('is level again only after another look when the serving VM ran in between', async () => {
    await level();
    const { id } = await world.targetLab.findVm('SQL01');
    await world.targetLab.startVm(id);
    await world.servingWrites(0, 8);
    await world.sync();
    expect(await world.stage()).to.equal('syncing');
    await world.stopServing();
    await world.sync({ isLast: true });
    expect(await world.stage()).to.equal('level');
    await start();
    expectViews(await world.views(), await world.servingViews(), 'after the start');
  });

  it('refuses to start or to unfence the VM but by the failback while one is open', async () => {
    await world.sync();
    const epoch = (await world.epoch()) + 1n;
    const order = await world.order({ epoch });
    for (const work of [
      () => world.source.unfence(world.vm.id, order),
      () => world.source.start(world.vm.id, order),
    ]) {
      expect((await refusal(work)).code).to.equal('E_LOCKED');
    }
    expect(await world.lab.fenceOf(world.vm.id)).not.to.equal(undefined);
  });

  it('does not take a VM that somebody started on its former disks for one that is back', async () => {
    await level();
    await world.lab.unfenceVm(world.vm.id);
    await world.lab.startVm(world.vm.id);
    const epoch = await world.makeActive();
    const order = await world.order({ epoch });
    const error = await refusal(() => world.source.failbackStart(world.vm.id, order));
    expect(error.code).to.equal('E_SOURCE_ALIVE');
    await undo(epoch);
    expect(await power()).to.equal('running');
  });

  it('is not started after its fence was lifted since the last round, until that is repeated', async () => {
    const wanted = await level();
    const steps = await world.stepsOn(world.files);
    await world.lab.unfenceVm(world.vm.id);
    await world.lab.startVm(world.vm.id);
    await world.lab.turnOffVm(world.vm.id);
    const error = await refusal(start);
    expect(error.code).to.equal('E_STATE');
    expect(error.message).to.contain('fence');
    expect([await power(), await world.stage()]).to.deep.equal(['off', 'syncing']);
    await world.inRound(() => steps.sync(true));
    expect((await world.lab.fenceOf(world.vm.id))?.tag.operationId).to.equal(OPERATION);
    await start();
    expectViews(await world.views(), wanted, 'after the start');
  });

  describe('gc at the primary', () => {
    const collect = async (isPlan: boolean): Promise<string[]> => {
      const { files: fs, random, lab: hypervisor } = world;
      const { signal } = new AbortController();
      const items = await collectSourceGarbage({
        ...{ hypervisor, fs, clock: systemClock, random, stateFolder: STATE, signal, isPlan },
        isForgetting: false,
      });
      return items.map(({ kind, isRemovable }) => `${kind} ${isRemovable}`);
    };
    const loseRecord = (): Promise<void> =>
      world.files.remove(join(STATE, `${world.vm.id}.failback.json`));

    it('takes nothing of a failback under way, whose mark is kept as well', async () => {
      await world.sync();
      expect(await collect(false)).to.deep.equal(['failback-record false']);
      expect(await world.filesOfFailback()).to.have.length(2);
      await world.stopServing();
      await world.sync({ isLast: true });
      await start();
      expect(await collect(false)).to.deep.equal(['failback-record false']);
      expect(await world.lab.listReferencePoints(world.vm.id)).to.have.length(2);
    });

    it('takes protective files whose record is gone, and lists them first', async () => {
      await world.sync();
      await loseRecord();
      const wanted = ['protective-file true', 'protective-file true'];
      expect(await collect(true)).to.deep.equal(wanted);
      expect(await world.filesOfFailback()).to.have.length(2);
      expect(await collect(false)).to.deep.equal(wanted);
      expect(await world.filesOfFailback()).to.deep.equal([]);
    });

    it('never takes one on which a VM stands, through a checkpoint of its user as well', async () => {
      const wanted = await level();
      await start();
      await loseRecord();
      await world.lab.addUserCheckpoint(world.vm.id, 'later');
      const kinds = await collect(false);
      expect(kinds.filter((kind) => kind.startsWith('protective'))).to.deep.equal([]);
      expectViews(await world.views(), wanted, 'after gc');
    });
  });

  it('says how the guest is only when it is asked', async () => {
    expect((await world.source.describe(world.vm.id)).heartbeat).to.equal(undefined);
    await level();
    await start();
    expect((await world.source.describe(world.vm.id)).heartbeat).to.equal('ok');
  });

  it('begins from whatever an unplanned failover left at the primary', async () => {
    await world.close();
    world = await FailbackWorld.make(new MemoryFileSystem());
    await world.guestWrites(0, 10);
    await world.lab.turnOffVm(world.vm.id);
    await world.operate('unplanned', { force: 'yes', reason: 'the site is gone' });
    world.site.receiver.sources.onClaim = undefined;
    await world.servingWrites(0, 11);
    await world.attach(['failback']);
    // what the guest wrote last here goes back to what serves
    await world.sync();
    await world.stopServing();
    await world.sync({ isLast: true });
    await start();
    expectViews(await world.views(), await world.servingViews(), 'after the start');
  });
});
