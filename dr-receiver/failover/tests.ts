// The test sessions of a receiver, several of a VM beside each other: begun, stopped, ended when their
// time has come or their disks have grown too large, and taken away when a crash cut them off.

import { randomGuid, type Guid } from '../../shared/bytes/index.js';
import { DrError } from '../../shared/errors.js';
import type { VmDesk } from '../ingest/vm-desk.js';
import type { Point } from '../store/point.js';
import { listedPoint } from '../store/point-sources.js';
import { BackOff } from './back-off.js';
import { instanceFiles } from './instance-files.js';
import type { TestSession } from './model.js';
import { adopt } from './operations/adopt.js';
import {
  cleanUp,
  newSession,
  noteCleanUpFailed,
  runTest,
  type TestOutcome,
} from './operations/test-session.js';
import { TestWork } from './operations/test-work.js';
import { type Asked, valuesOf } from './operations/work.js';
import { Run } from './run.js';
import type { FailoverSite } from './site.js';
import { TestBook } from './test-book.js';

/** How long the end of a session keeps others waiting. */
const END_PATIENCE_MS = 30_000;

export class Tests {
  readonly #site: FailoverSite;
  readonly #runs = new Map<Guid, Run<TestOutcome>>();
  readonly #tries: BackOff;
  /** Sessions whose VM is being given away; nobody else does anything with them. */
  readonly #adopting = new Set<Guid>();

  constructor(site: FailoverSite) {
    this.#site = site;
    this.#tries = new BackOff(site.seams.clock);
  }

  #bookOf({ vm }: VmDesk, { operationId, by }: Pick<TestSession, 'operationId' | 'by'>): TestBook {
    return new TestBook(vm, this.#site.seams.clock, operationId, { by });
  }

  /**
   * Begins a session; durable on return. `check` throws when the VM is in no state for it any more.
   * @throws DrError E_NO_POINT
   */
  async begin(
    desk: VmDesk,
    point: Point,
    asked: Asked,
    check: () => void,
  ): Promise<Run<TestOutcome>> {
    const { clock, random } = this.#site.seams;
    const operationId = randomGuid(random);
    const book = this.#bookOf(desk, { operationId, by: asked.by });
    await desk.vm.change(async () => {
      check();
      // retention may have forgotten it since it was chosen
      listedPoint(desk.vm, point.pointId);
      await book.begin(newSession(desk, point, operationId, asked, clock.now()));
    });
    const { vmId, protection } = desk.vm;
    const fields = { vmId, vmName: protection.vmName, operationId };
    this.#site.log.info('drill.began', fields);
    const run = new Run<TestOutcome>(operationId);
    this.#runs.set(operationId, run);
    return run.start(async () => {
      try {
        return await runTest(new TestWork(this.#site, desk, book, run));
      } finally {
        this.#runs.delete(operationId);
        this.#site.log.info('drill.ended', fields);
      }
    });
  }

  /** The session that an id or its beginning means. @throws DrError E_NOT_FOUND */
  find({ vm }: VmDesk, name: string): TestSession {
    const wanted = name.toLowerCase();
    const { tests, vmName } = vm.protection;
    const found = [...tests.values()].filter(({ operationId }) => operationId.startsWith(wanted));
    const [only] = found;
    if (only !== undefined && found.length === 1 && wanted !== '') return only;
    throw new DrError('E_NOT_FOUND', `${vmName} has no test ${name}`, {
      hint: `\`hvdr status --vm ${vmName}\` lists its tests.`,
    });
  }

  /**
   * Ends a session, whatever it is at. With `isForced` it is forgotten although its VM or its disks could
   * not be taken away: what is left holds its base, and gc removes it when the hypervisor has no VM on it
   * any more. @throws DrError E_HYPERVISOR, E_IO, …; E_LOCKED while its VM is being adopted
   */
  async stop(desk: VmDesk, session: TestSession, isForced = false): Promise<void> {
    const { operationId } = session;
    if (this.#adopting.has(operationId) || (session.phase === 'adopting' && !isForced)) {
      throw new DrError('E_LOCKED', `${session.instance.vmName} is being adopted`, {
        context: { operationId },
      });
    }
    if (session.phase === 'adopting') {
      await this.#leave(desk, session, 'its adoption was given up');
      return;
    }
    if (!isForced) {
      await this.#stop(desk, session);
      return;
    }
    try {
      await this.#within(this.#stop(desk, session));
    } catch (error) {
      await this.#leave(desk, session, String(error));
    }
  }

  /** Forgets the session; what is left of it holds its base. */
  async #leave(desk: VmDesk, session: TestSession, reason: string): Promise<void> {
    const { vm } = desk;
    const { operationId } = session;
    vm.baseHolds.leave(operationId, session.instance.disks);
    await this.#bookOf(desk, session).end();
    this.#site.log.warn('drill.left-behind', { vmId: vm.vmId, operationId, reason });
  }

  async #stop(desk: VmDesk, { operationId }: TestSession): Promise<void> {
    const reason = new DrError('E_STATE', `test ${operationId} was stopped`);
    await this.#runs.get(operationId)?.stop(reason);
    const left = desk.vm.protection.tests.get(operationId);
    if (left === undefined) return;
    await cleanUp(this.#site, desk, this.#bookOf(desk, left), undefined);
  }

  /** What does not end in time may end later. @throws DrError E_STALLED; what the work failed with */
  async #within(work: Promise<void>): Promise<void> {
    const ended = new AbortController();
    const late = this.#site.seams.clock.sleep(END_PATIENCE_MS, ended.signal).then(() => {
      const seconds = END_PATIENCE_MS / 1000;
      throw new DrError('E_STALLED', `the test did not end within ${seconds} s`);
    });
    late.catch(() => undefined);
    work.catch(() => undefined);
    try {
      await Promise.race([work, late]);
    } finally {
      ended.abort();
    }
  }

  /**
   * Before a failover: production does not wait for a test. With `isUrgent` neither for one that cannot
   * be ended; it stands as CLEANUP_FAILED, and what it stands on stays held.
   * @throws DrError E_HYPERVISOR, E_IO, …, unless it is urgent
   */
  async endAll(desk: VmDesk, isUrgent: boolean): Promise<void> {
    // one that is being adopted is nearly nobody's test any more, and in no failover's way
    const { tests } = desk.vm.protection;
    const sessions = [...tests.values()].filter((session) => !this.#isAdopting(session));
    if (isUrgent) {
      await Promise.all(sessions.map((session) => this.#end(desk, session)));
      return;
    }
    for (const session of sessions) await this.stop(desk, session);
  }

  #isAdopting({ operationId, phase }: TestSession): boolean {
    return phase === 'adopting' || this.#adopting.has(operationId);
  }

  /**
   * Keeps the VM of a session for good: it is off, its disks stand alone afterwards, and nothing of ours
   * counts or touches it any more. Begun again after a failure it goes on.
   * @throws DrError E_STATE, E_LOCKED, E_CAPACITY, E_IO, E_HYPERVISOR
   */
  async adopt(desk: VmDesk, session: TestSession): Promise<void> {
    const { operationId, phase, instance } = session;
    if (phase !== 'running' && phase !== 'adopting') {
      throw new DrError('E_STATE', `test ${operationId} is ${phase}: its VM does not stay`, {
        hint: 'Keep a test running with `hvdr failover test VM --keep`, and adopt that one.',
      });
    }
    if (this.#adopting.has(operationId)) {
      throw new DrError('E_LOCKED', `${instance.vmName} is being adopted already`);
    }
    this.#adopting.add(operationId);
    try {
      await adopt(this.#site, desk, this.#bookOf(desk, session));
    } finally {
      this.#adopting.delete(operationId);
    }
    const { vmId } = desk.vm;
    this.#site.log.info('drill.adopted', { vmId, vmName: instance.vmName, operationId });
  }

  /** What a crash cut off is taken away, or given away; what was left running goes on. */
  async resume(desk: VmDesk): Promise<void> {
    for (const session of desk.vm.protection.tests.values()) {
      if (session.phase === 'running') continue;
      if (session.phase === 'adopting') await this.#goOnAdopting(desk, session);
      else await this.#end(desk, session);
    }
  }

  /** Deadlines, sizes, and what could not be taken away. */
  async tick(desk: VmDesk): Promise<void> {
    for (const session of desk.vm.protection.tests.values()) {
      const { operationId, deadlineMs, parameters, phase } = session;
      if (this.#isAdopting(session)) continue;
      const isOver = deadlineMs !== 0 && deadlineMs <= this.#site.seams.clock.now();
      const limitBytes = valuesOf(parameters).test_disk_limit;
      const isFull = limitBytes > 0 && (await this.usedBytes(desk, operationId)) > limitBytes;
      if (!isOver && !isFull && phase !== 'cleanup-failed') continue;
      if (!this.#tries.isDue(operationId)) continue;
      this.#tries.tried(operationId);
      const why = isFull
        ? `its disks have taken more than ${limitBytes} bytes`
        : 'its time is over';
      const reason = new DrError(
        isFull ? 'E_CAPACITY' : 'E_STALLED',
        `test ${operationId} was ended: ${why}`,
      );
      const run = this.#runs.get(operationId);
      if (run === undefined) await this.#end(desk, session);
      else await this.#within(run.stop(reason)).catch(() => undefined);
    }
  }

  async #goOnAdopting(desk: VmDesk, session: TestSession): Promise<void> {
    const { operationId } = session;
    await this.adopt(desk, session).catch((error: unknown) => {
      const reason = error instanceof Error ? error.message : String(error);
      this.#site.log.warn('drill.cleanup-failed', { vmId: desk.vm.vmId, operationId, reason });
    });
  }

  /** What the test VM has written, with the files that its hypervisor put above. */
  async usedBytes({ vm }: VmDesk, operationId: Guid): Promise<number> {
    const { fs } = this.#site.seams;
    let sum = 0;
    for (const file of await instanceFiles(fs, vm.layout)) {
      if (file.operationId !== operationId || /^[0-9a-f-]{36}\.\d+\.vhdx$/.test(file.name))
        continue;
      sum += (await fs.status(`${file.folder}/${file.name}`))?.sizeBytes ?? 0;
    }
    return sum;
  }

  /** By itself: what cannot be taken away stands as CLEANUP_FAILED, and is tried again. */
  async #end(desk: VmDesk, session: TestSession): Promise<void> {
    const { operationId } = session;
    try {
      await this.#within(this.#stop(desk, session));
      this.#tries.forget(operationId);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      const { vmId, protection } = desk.vm;
      if (protection.tests.has(operationId)) {
        await noteCleanUpFailed(this.#bookOf(desk, session), reason);
      }
      this.#site.log.warn('drill.cleanup-failed', { vmId, operationId, reason });
    }
  }

  async close(): Promise<void> {
    const reason = new DrError('E_STATE', 'the receiver ends');
    await Promise.all([...this.#runs.values()].map((run) => run.stop(reason)));
  }
}
