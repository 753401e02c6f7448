// The test sessions of a receiver, several of a VM beside each other: begun, stopped, ended when their
// time has come or their disks have grown too large, and taken away when a crash cut them off.

import { randomGuid, type Guid } from '../../shared/bytes/index.js';
import { DrError } from '../../shared/errors.js';
import type { VmDesk } from '../ingest/vm-desk.js';
import type { Point } from '../store/point.js';
import { instanceFiles } from './instance-files.js';
import type { TestSession } from './model.js';
import { adopt } from './operations/adopt.js';
import { cleanUp, newSession, runTest, type TestOutcome } from './operations/test-session.js';
import { TestWork } from './operations/test-work.js';
import { type Asked, valuesOf } from './operations/work.js';
import { Run } from './run.js';
import type { FailoverSite } from './site.js';
import { TestBook } from './test-book.js';

/** Between two tries at taking away what could not be taken away. */
const CLEANUP_AGAIN_MS = 60_000;

export class Tests {
  readonly #site: FailoverSite;
  readonly #runs = new Map<Guid, Run<TestOutcome>>();
  /** Sessions whose VM is being given away; nobody else does anything with them. */
  readonly #adopting = new Set<Guid>();
  /** When what failed to be taken away is tried again, by the clock that nobody sets. */
  readonly #nextCleanUp = new Map<Guid, number>();

  constructor(site: FailoverSite) {
    this.#site = site;
  }

  #bookOf({ vm }: VmDesk, { operationId, by }: Pick<TestSession, 'operationId' | 'by'>): TestBook {
    return new TestBook(vm, this.#site.seams.clock, operationId, { by });
  }

  /** Begins a session; durable on return. `check` throws when the VM is in no state for it any more. */
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
   * not be taken away; what is left of them is a leftover then. @throws DrError E_HYPERVISOR, E_IO, …;
   *   E_LOCKED while its VM is being adopted
   */
  async stop(desk: VmDesk, session: TestSession, isForced = false): Promise<void> {
    const { operationId } = session;
    if (this.#isAdopting(session)) {
      throw new DrError('E_LOCKED', `${session.instance.vmName} is being adopted`, {
        context: { operationId },
      });
    }
    const reason = new DrError('E_STATE', `test ${operationId} was stopped`);
    await this.#runs.get(operationId)?.stop(reason);
    const left = desk.vm.protection.tests.get(operationId);
    if (left === undefined) return;
    const book = this.#bookOf(desk, left);
    try {
      await cleanUp(this.#site, desk, book, undefined);
    } catch (error) {
      if (!isForced) throw error;
      await book.end();
    }
  }

  /** Before a failover: production does not wait for a test. */
  async endAll(desk: VmDesk): Promise<void> {
    for (const session of desk.vm.protection.tests.values()) {
      // it is nearly nobody's test any more, and in no failover's way
      if (!this.#isAdopting(session)) await this.stop(desk, session);
    }
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
      await this.#byItself(desk, session, () =>
        session.phase === 'adopting' ? this.adopt(desk, session) : this.stop(desk, session),
      );
    }
  }

  /** Deadlines, sizes, and what could not be taken away. */
  async tick(desk: VmDesk): Promise<void> {
    for (const session of desk.vm.protection.tests.values()) {
      const { operationId, deadlineMs, parameters } = session;
      if (this.#isAdopting(session)) continue;
      if (session.phase === 'cleanup-failed') {
        await this.#cleanUpAgain(desk, session);
        continue;
      }
      const isOver = deadlineMs !== 0 && deadlineMs <= this.#site.seams.clock.now();
      const limitBytes = valuesOf(parameters).test_disk_limit;
      const isFull = limitBytes > 0 && (await this.usedBytes(desk, operationId)) > limitBytes;
      if (!isOver && !isFull) continue;
      const why = isFull
        ? `its disks have taken more than ${limitBytes} bytes`
        : 'its time is over';
      const reason = new DrError(
        isFull ? 'E_CAPACITY' : 'E_STALLED',
        `test ${operationId} was ended: ${why}`,
      );
      const run = this.#runs.get(operationId);
      if (run === undefined) {
        await this.#byItself(desk, session, () => this.stop(desk, session));
      } else {
        await run.stop(reason);
      }
    }
  }

  async #cleanUpAgain(desk: VmDesk, session: TestSession): Promise<void> {
    const { operationId } = session;
    const nowMs = this.#site.seams.clock.monotonic();
    const nextMs = this.#nextCleanUp.get(operationId) ?? nowMs;
    if (nextMs > nowMs) return;
    this.#nextCleanUp.set(operationId, nowMs + CLEANUP_AGAIN_MS);
    await this.#byItself(desk, session, () => this.stop(desk, session));
    if (!desk.vm.protection.tests.has(operationId)) this.#nextCleanUp.delete(operationId);
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

  /** What fails stands in the record, as CLEANUP_FAILED, and is tried again. */
  async #byItself(desk: VmDesk, session: TestSession, act: () => Promise<void>): Promise<void> {
    try {
      await act();
    } catch (error) {
      if (!(error instanceof DrError)) throw error;
      const { vmId } = desk.vm;
      const { operationId } = session;
      this.#site.log.warn('drill.cleanup-failed', { vmId, operationId, reason: error.message });
    }
  }

  async close(): Promise<void> {
    const reason = new DrError('E_STATE', 'the receiver ends');
    await Promise.all([...this.#runs.values()].map((run) => run.stop(reason)));
  }
}
