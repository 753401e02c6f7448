// `mode=verify`: compares VMs with their points at the receiver by the hashes of cells; no data moves, and
// nothing is changed on either side (docs/protocol.md, Verify). Any difference makes the job red.

import { DrError } from '../../shared/errors.js';
import type { VmSummary } from '../../shared/hypervisor/index.js';
import { errorDocument, type JsonObject } from '../../shared/json.js';
import type { ParameterValues } from '../../shared/params/index.js';
import {
  type ComparedDisk,
  compareWithReceiver,
  CycleStopped,
  type FileSink,
  isMatched,
  type Job,
  pointNamed,
  Ports,
  withInspection,
} from '../../source-agent/index.js';
import type { JobPorts } from '../backend.js';
import type { JobInfo } from '../job-info.js';
import { requireReceiver } from './require-receiver.js';
import { surroundingsOf } from './surroundings.js';
import { badCells, type Judgement, judgementOf, placeLines, summaryLines } from './verify-text.js';
import { VmReports } from './vm-reports.js';

/** How it went with one VM. */
interface Verified {
  readonly vm: VmSummary;
  readonly judgement: Judgement | 'failed';
  readonly disks: readonly ComparedDisk[];
  readonly error: DrError | undefined;
}

function documentOf({ vm, judgement, disks, error }: Verified, job: string): JsonObject {
  return {
    ...{ job, vm: vm.name, vmId: vm.id, result: judgement },
    disks: disks.map((disk) => ({ ...disk, divergedCells: disk.divergedCells ?? null })),
    ...(error === undefined ? {} : errorDocument(error)),
  };
}

/** @throws DrError E_DIFFERENT, E_NO_MATCH, E_PARAMETER; with on_partial=fail or abort_on_error, or when all failed: the failure */
export async function runVerify(
  info: JobInfo,
  values: ParameterValues,
  sink: FileSink,
  ports: JobPorts,
): Promise<void> {
  requireReceiver(values);
  const reports = new VmReports('verify', sink, ports);
  const made = new Ports(surroundingsOf(ports), ports.hypervisor);
  try {
    for (const job of await made.jobs([{ name: 'verify', values }])) {
      const all = await verifyAll(job, values, sink, ports);
      for (const one of all) reports.add(one.vm, documentOf(one, info.name));
      await reports.ended();
      sink.signal.throwIfAborted();
      colour(all, values, sink);
    }
  } finally {
    await made.close();
  }
}

async function verifyAll(
  job: Job,
  values: ParameterValues,
  sink: FileSink,
  ports: JobPorts,
): Promise<Verified[]> {
  const vms = await ports.hypervisor.listVms();
  const matched = vms.filter((vm) => isMatched(job, vm));
  if (matched.length === 0) {
    const text = `no VM of ${ports.hypervisor.name} matches "${job.vmPattern}"`;
    throw new DrError('E_NO_MATCH', `${text}; it has ${vms.length} VMs`);
  }
  const all: Verified[] = [];
  for (const vm of matched) {
    if (sink.signal.aborted) break;
    const one = await verifyOne(vm, job, values.point, sink, ports);
    all.push(one);
    if (values.abort_on_error && ['differs', 'failed'].includes(one.judgement)) break;
  }
  return all;
}

async function verifyOne(
  vm: VmSummary,
  job: Job,
  point: string,
  sink: FileSink,
  ports: JobPorts,
): Promise<Verified> {
  try {
    const disks = await compared(vm, job, point, ports);
    const judgement = judgementOf(disks);
    const [first = '', ...more] = summaryLines(vm.name, disks);
    sink.say(judgement === 'equal' ? 'info' : 'error', first);
    for (const line of more) sink.say('info', line);
    for (const line of placeLines(vm.name, disks)) sink.say('error', line);
    return { vm, judgement, disks, error: undefined };
  } catch (error) {
    if (error instanceof CycleStopped) sink.signal.throwIfAborted();
    if (!(error instanceof DrError)) throw error;
    sink.say('error', `${vm.name} was not verified, ${error.line}`);
    return { vm, judgement: 'failed', disks: [], error };
  }
}

/** Holds the VM's lease and a checkpoint while it looks. */
async function compared(
  vm: VmSummary,
  { link, stateFolder }: Job,
  point: string,
  ports: JobPorts,
): Promise<ComparedDisk[]> {
  const { files: fs, clock, random, log, hypervisor, signal } = ports;
  const { client } = await link.connection();
  const pointId = await pointNamed(vm, point, { client, signal });
  const seams = { hypervisor, fs, clock, random, log, stateFolder, signal };
  return withInspection(vm, seams, (inspection) =>
    compareWithReceiver(inspection, {
      ...{ client, hypervisor, pointId, signal },
      onCompared: () => undefined,
    }),
  );
}

function colour(
  all: readonly Verified[],
  { on_partial: onPartial, abort_on_error: isAborting }: ParameterValues,
  sink: FileSink,
): void {
  const namesOf = (judgement: Verified['judgement']): string[] =>
    all.filter((one) => one.judgement === judgement).map(({ vm }) => vm.name);
  const differing = namesOf('differs');
  sink.say('info', `${all.length} VM(s) compared: ${namesOf('equal').length} agree`);
  if (differing.length > 0) {
    const cells = all.flatMap(({ disks }) => disks).reduce((sum, disk) => sum + badCells(disk), 0);
    throw new DrError('E_DIFFERENT', `${cells} cell(s) differ: ${shortened(differing)}`, {
      done: 'nothing was changed',
      hint: 'The lines before name VM, disk and offset. Mend the receiver with `hvdr verify VM --repair`; what differs at the source is sent anew when its ledger is moved out of state_dir.',
    });
  }
  const failed = all.filter(({ error }) => error !== undefined);
  const [first] = failed;
  const isRed = onPartial === 'fail' || isAborting || failed.length === all.length;
  if (first?.error !== undefined && isRed) throw first.error;
  if (failed.length === 0) return;
  const names = shortened(namesOf('failed'));
  sink.say('error', new DrError('E_PARTIAL', `VMs were not verified: ${names}`).line);
}

function shortened(names: readonly string[]): string {
  const more = names.length > 8 ? ` and ${names.length - 8} more` : '';
  return `${names.slice(0, 8).join(', ')}${more}`;
}
