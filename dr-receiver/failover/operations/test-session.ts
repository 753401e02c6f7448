// Test failover (failover.md § 4): a VM of its own, on disks of its own, in a network of its own. What
// replication, retention and the base notice of it is that the point stays listed and the base unfolded.
// Whatever goes wrong, T7 takes everything away.

import type { Guid } from '../../../shared/bytes/index.js';
import { DrError } from '../../../shared/errors.js';
import type { VmDesk } from '../../ingest/vm-desk.js';
import type { Point } from '../../store/point.js';
import { applyNetwork, ipMapOf } from '../../../shared/network/index.js';
import { definitionOf } from '../definition.js';
import { materialisePoint } from '../disks.js';
import { parseChecks } from '../drill/check-list.js';
import { runChecks } from '../drill/checks.js';
import { keepReport } from '../drill/report-store.js';
import { operationTable, runSteps, StepFailure } from '../engine.js';
import { instanceDiskPaths, removeInstanceDisks } from '../instance-files.js';
import { plannedDisks } from '../instance-plan.js';
import { powerOff, powerOn, register, tagOfInstance, unregister } from '../instance.js';
import type { Proof, TestSession } from '../model.js';
import { withAddressCheck } from '../network.js';
import { type FailoverSite, requireHost } from '../site.js';
import { TestBook, type TestPatch } from '../test-book.js';
import { checkLine } from './come-up.js';
import { drillReport } from './drill-words.js';
import { TestWork } from './test-work.js';
import { type Asked, valuesOf } from './work.js';

export interface TestOutcome {
  readonly operationId: Guid;
  readonly instanceName: string;
  /** undefined: the VM is gone again. */
  readonly instanceVmId: Guid | undefined;
  readonly pointId: Guid;
  readonly isPassed: boolean;
  /** Signed; empty when it came to none. */
  readonly reportJson: string;
}

export function testName(vmName: string, operationId: Guid): string {
  return `${vmName}-test-${operationId.slice(0, 8)}`;
}

/** A session as it is entered first. In a change of the VM. */
export function newSession(
  desk: VmDesk,
  point: Point,
  operationId: Guid,
  { parameters, by }: Asked,
  nowMs: number,
): TestSession {
  const { vm } = desk;
  const { keep, test_timeout: timeoutSeconds } = valuesOf(parameters);
  return {
    operationId,
    phase: 'starting',
    step: 'T1',
    startedAtMs: nowMs,
    deadlineMs: nowMs + timeoutSeconds * 1000,
    by,
    isKept: keep,
    parameters,
    instance: {
      operationId,
      pointId: point.pointId,
      vmName: testName(vm.protection.vmName, operationId),
      vmId: undefined,
      disks: plannedDisks(vm, point, operationId),
      poweredOnAtMs: 0,
      checks: 'pending',
      isPlanned: false,
      servedUntilMs: 0,
    },
    cause: undefined,
  };
}

async function makeVm(work: TestWork): Promise<TestPatch> {
  const { desk, host, site, book, point } = work;
  const { vm } = desk;
  const { instance, operationId } = book.session;
  await materialisePoint(vm, point, operationId, site.seams);
  const vmId = await register(host, tagOfInstance(vm.vmId, instance), {
    definition: { ...definitionOf(vm, point), isAutoStart: false },
    name: instance.vmName,
    diskPaths: instance.disks.map((disk) => instanceDiskPaths(vm.layout, disk).protective),
  });
  return { instance: { ...instance, vmId } };
}

function vmIdOf({ book }: TestWork): Guid {
  const { vmId } = book.session.instance;
  if (vmId === undefined)
    throw new Error('a test VM is registered before anything is done with it');
  return vmId;
}

async function isolate(work: TestWork): Promise<undefined> {
  const { desk, site, host, book, point } = work;
  const { parameters } = book.session;
  const wish = { purpose: 'test', parameters } as const;
  work.network = await site.planNetwork(definitionOf(desk.vm, point), wish);
  await applyNetwork(host, vmIdOf(work), work.network);
  return undefined;
}

async function check(work: TestWork): Promise<TestPatch> {
  const { site, host, book, values, desk, run, point } = work;
  const { operationId, instance } = book.session;
  const { clock, fs } = site.seams;
  const { adapters } = await host.describeVm(vmIdOf(work));
  const planned = adapters.map(({ id }, index) => ({
    adapterId: id,
    addresses: work.network[index]?.guest?.addresses ?? [],
  }));
  work.results = await runChecks(
    { vmId: vmIdOf(work), adapters: planned },
    withAddressCheck(parseChecks(values.checks.join(',')), work.network),
    { host, clock, fs, connect: site.connect, runScript: site.runScript },
    {
      bootTimeoutMs: values.boot_timeout * 1000,
      checkTimeoutMs: values.check_timeout * 1000,
      scriptFolder: site.scriptFolder,
      context: {
        kind: 'test',
        vm: desk.vm.protection.vmName,
        site: 'target',
        ipMap: ipMapOf(work.network),
        point: point.pointId,
        operationId,
      },
      signal: run.signal,
      onResult: (result) => {
        run.tell('T5', checkLine(result));
      },
    },
  );
  return { instance: { ...instance, checks: work.isPassed ? 'passed' : 'failed' } };
}

async function report(work: TestWork, problem?: string): Promise<undefined> {
  const { site, book } = work;
  const { fs, random } = site.seams;
  const seams = { fs, layout: site.layout, random };
  work.reportJson = await keepReport(book.session.operationId, drillReport(work, problem), seams);
  return undefined;
}

const TEST = operationTable<TestWork, TestPatch>(
  'test',
  {
    T2: { run: makeVm },
    T3: { run: isolate },
    T4: {
      intent: ({ book, site }) => {
        const { instance } = book.session;
        return { instance: { ...instance, poweredOnAtMs: site.seams.clock.now() } };
      },
      run: async (work) => {
        await powerOn(work.host, vmIdOf(work));
        return undefined;
      },
    },
    T5: { run: check },
    T6: { run: report },
  },
  () => ({}),
);

/** T7: nothing of the session is left. @throws DrError; the session stands as CLEANUP_FAILED then */
export async function cleanUp(
  site: FailoverSite,
  desk: VmDesk,
  book: TestBook,
  proof: Proof | undefined,
): Promise<void> {
  const { vm } = desk;
  const { instance, operationId, ...former } = book.session;
  const isAgain = former.phase === 'cleanup-failed' && proof === undefined;
  if (!isAgain) {
    await book.enter('T7', [{ phase: 'stopping', cause: undefined, ...(proof && { proof }) }]);
  }
  try {
    const host = requireHost(site);
    const tag = tagOfInstance(vm.vmId, instance);
    await powerOff(host, tag, instance.vmId);
    await unregister(host, tag, instance.vmId);
    await removeInstanceDisks(site.seams.fs, vm, operationId);
  } catch (error) {
    await noteCleanUpFailed(book, error instanceof Error ? error.message : String(error));
    throw error;
  }
  await book.end();
}

/** What is tried again and again is written down once. */
export async function noteCleanUpFailed(book: TestBook, message: string): Promise<void> {
  const cause = message.slice(0, 4000);
  const { session } = book;
  if (session.phase === 'cleanup-failed' && session.cause === cause) return;
  await book.enter('T7', [{ phase: 'cleanup-failed', cause }]);
}

/** Runs a session that was just entered. @throws what it failed with, after everything was taken away */
export async function runTest(work: TestWork): Promise<TestOutcome> {
  const { site, desk, book, run } = work;
  const { operationId, instance, isKept } = book.session;
  const tellAndNote = {
    signal: run.signal,
    tell: (step: string, what: string): void => {
      work.timeline.push({ step, what, atMs: site.seams.clock.now() });
      run.tell(step, what);
    },
  };
  let failure: DrError | undefined;
  try {
    await runSteps(TEST.steps, work, book, tellAndNote, 'T1');
  } catch (error) {
    const cause = error instanceof StepFailure ? error.cause : error;
    if (!(cause instanceof DrError)) throw error;
    failure = cause;
    // a test that came to no result is a result as well, as far as a report of it can be kept
    await report(work, failure.message).catch(() => undefined);
  }
  const isGood = failure === undefined && work.isPassed;
  const proof: Proof = {
    operationId,
    pointId: instance.pointId,
    testedAtMs: site.seams.clock.now(),
    isPassed: isGood,
  };
  const outcome = {
    operationId,
    instanceName: instance.vmName,
    pointId: instance.pointId,
    isPassed: isGood,
    reportJson: work.reportJson,
  };
  if (isGood && isKept) {
    await book.enter('T6', [{ phase: 'running', proof }]);
    return { ...outcome, instanceVmId: book.session.instance.vmId };
  }
  run.tell('T7', TEST.end.what);
  await cleanUp(site, desk, book, proof);
  if (failure !== undefined) throw asError(failure);
  return { ...outcome, instanceVmId: undefined };
}

function asError(failure: unknown): Error {
  return failure instanceof Error ? failure : new Error(String(failure));
}
