// One VM of a job of a failover mode: its plan, its steps as lines of the job, its end, and the record of
// all that as a file.

import { reportPage, verifyReport } from '../../dr-receiver/index.js';
import type { OperationDone, OperationPlan } from '../../shared/channel/index.js';
import { CatalogNames } from '../../shared/catalog/index.js';
import { DrError } from '../../shared/errors.js';
import { errorDocument, type JsonObject, toJson } from '../../shared/json.js';
import {
  carryOutOperation,
  doneDocument,
  doneText,
  isVerdict,
  type Operation,
  type OperationStep,
  planDocument,
  planOperation,
  planText,
} from '../../shared/operator/operation.js';
import type { OperatorAccess } from '../../shared/operator/receiver-access.js';
import type { FileSink } from '../../source-agent/index.js';
import type { JobPorts } from '../backend.js';
import { sendText } from './job-file.js';

export type VmOutcome =
  | { readonly kind: 'planned' | 'done' | 'stopped' }
  | { readonly kind: 'failed'; readonly error: DrError };

export interface VmOrder {
  readonly operation: Operation;
  readonly vmName: string;
  /** Of the VM in the catalog. */
  readonly folder: string;
  /** Name of the job, and its mode. */
  readonly job: string;
  readonly mode: string;
  readonly isPlanOnly: boolean;
  /** Hashes of plans that were printed before. */
  readonly confirmed: readonly string[];
}

/** A hash with fewer digits confirms nothing. */
const SHORTEST_HASH = 12;
const RECORD_FORMAT = 1;

export class VmOperation {
  readonly #order: VmOrder;
  readonly #access: OperatorAccess;
  readonly #sink: FileSink;
  readonly #ports: Pick<JobPorts, 'clock' | 'signal'>;
  readonly #steps: JsonObject[] = [];
  #at: OperationStep | undefined;
  #isBegun = false;
  #plan: OperationPlan | undefined;

  constructor(
    order: VmOrder,
    access: OperatorAccess,
    sink: FileSink,
    ports: Pick<JobPorts, 'clock' | 'signal'>,
  ) {
    this.#order = order;
    this.#access = access;
    this.#sink = sink;
    this.#ports = ports;
  }

  /** Whatever comes of it; only bugs and a sink that fails are thrown. */
  async run(): Promise<VmOutcome> {
    const { operation, isPlanOnly } = this.#order;
    const { signal } = this.#ports;
    try {
      const plan = await planOperation(this.#access.control, operation, { signal });
      this.#plan = plan;
      if (isPlanOnly) {
        this.#sayPlan(plan);
        await this.#record({});
        return { kind: 'planned' };
      }
      const done = await this.#carryOut(plan);
      return await this.#end(done);
    } catch (error) {
      if (signal.aborted) return this.#stopped();
      if (!(error instanceof DrError)) throw error;
      const told = this.#asOfJob(error);
      await this.#record(errorDocument(told));
      return { kind: 'failed', error: told };
    }
  }

  async #carryOut(plan: OperationPlan): Promise<OperationDone> {
    const { operation, confirmed } = this.#order;
    this.#isBegun = true;
    return carryOutOperation(this.#access.control, operation, {
      confirmedHash: confirmationOf(plan.hash, confirmed),
      signal: this.#ports.signal,
      onPlan: (held) => {
        this.#plan = held;
        const isToBeRead = held.isDestructive || held.refusals.length > 0;
        if (isToBeRead) this.#sayPlan(held);
        else this.#sink.say('info', firstLineOf(held));
      },
      onStep: (step) => {
        const { name, what } = step;
        // a job that is cancelled is not heard any more: the Director has turned away
        if (this.#at === undefined) this.#sink.say('info', this.#goesOn(step));
        this.#at = step;
        this.#steps.push({
          at: new Date(this.#ports.clock.now()).toISOString(),
          step: name,
          what,
        });
        this.#sink.say('info', `${this.#order.vmName}: ${name}  ${what}`);
      },
    });
  }

  async #end(done: OperationDone): Promise<VmOutcome> {
    const { operation, vmName } = this.#order;
    const named = { ...operation, vm: vmName };
    for (const line of doneText(named, done).split('\n')) this.#sink.say('info', line);
    for (const warning of done.warnings) this.#sink.say('warning', `${vmName}: ${warning}`);
    await this.#record({ result: doneDocument(named, done) });
    if (!isVerdict(operation)) return { kind: 'done' };
    const problems = await this.#report(done.reportJson);
    if (done.isPassed) return { kind: 'done' };
    const why = problems.length === 0 ? 'the report has no reason' : problems.join(', ');
    const id = this.#at?.operationId ?? '';
    const error = new DrError('E_TEST_FAILED', `the test of ${vmName} failed: ${why}`, {
      done: 'replication goes on',
      hint: `reports/${id}.html in the store of ${this.#access.place} names each check.`,
    });
    return { kind: 'failed', error };
  }

  /** The signed report as files of the job; what it says did not pass. */
  async #report(reportJson: string): Promise<string[]> {
    if (reportJson === '') return [];
    const signed = verifyReport(reportJson, 'the answer of the receiver');
    const nowMs = this.#ports.clock.now();
    const names = new CatalogNames(this.#order.folder).drill(nowMs);
    await sendText(this.#sink, names.json, reportJson, nowMs);
    await sendText(this.#sink, names.page, reportPage(signed), nowMs);
    const { checks, problem } = signed.report;
    const failed = checks
      .filter(({ outcome }) => outcome !== 'passed')
      .map(({ check, words }) => `${check} (${words})`);
    return problem === undefined ? failed : [problem, ...failed];
  }

  async #record(end: JsonObject): Promise<void> {
    const { job, mode, vmName, folder, operation } = this.#order;
    const nowMs = this.#ports.clock.now();
    const record = {
      ...{ format: RECORD_FORMAT, job, mode, vm: vmName, vmId: operation.vm },
      receiver: this.#access.place,
      plan: this.#plan === undefined ? null : planDocument(this.#plan),
      steps: this.#steps,
      ...end,
    };
    const path = new CatalogNames(folder).operation(nowMs);
    await sendText(this.#sink, path, `${toJson(record, 2)}\n`, nowMs);
  }

  #sayPlan(plan: OperationPlan): void {
    for (const line of planText(plan).split('\n')) {
      this.#sink.say(/^ {2}refused: /.test(line) ? 'warning' : 'info', line);
    }
  }

  /** What a command line is told to do about a plan is said as a Plugin line has it. */
  #asOfJob(error: DrError): DrError {
    if (error.code !== 'E_CONFIRM') return error;
    const { message, context, done } = error;
    const hash = this.#plan?.hash ?? '';
    return new DrError('E_CONFIRM', message, {
      ...{ context, done, cause: error },
      hint: `Read the plan in the log of this job; confirm=${hash} in the Plugin line confirms it, as long as nothing changes.`,
    });
  }

  /** The receiver goes on without whoever listened. */
  #stopped(): VmOutcome {
    const { vmName } = this.#order;
    const at = this.#at;
    const what = !this.#isBegun
      ? `${vmName}: the job was cancelled before anything was done`
      : at === undefined
        ? `${vmName}: the job was cancelled before the first step; \`hvdr status --vm ${vmName}\` shows whether it was begun`
        : `the job was cancelled at ${at.name}; ${this.#goesOn(at)}`;
    this.#sink.say('error', what);
    return { kind: 'stopped' };
  }

  #goesOn({ operationId = '' }: OperationStep): string {
    const { vmName, operation } = this.#order;
    const where = `${vmName}: operation ${operationId} stands at ${this.#access.place} and goes on there without this job`;
    return operation.command === 'test'
      ? `${where} until the test has ended; \`hvdr failover test ${vmName} --stop ${operationId}\` ends it before`
      : `${where}; \`hvdr status --vm ${vmName}\` shows how far it is, \`hvdr resume ${vmName}\` goes on when it waits`;
  }
}

function firstLineOf(plan: OperationPlan): string {
  const [head = '', ...below] = planText({ ...plan, steps: [], hash: '' }).split('\n');
  return [head, ...below.map((line) => line.trim())].join('; ');
}

/** Of several hashes the one that is meant; none that fits: the first, for the receiver to refuse it. */
export function confirmationOf(hash: string, confirmed: readonly string[]): string {
  const found = confirmed.find(
    (each) => each.length >= SHORTEST_HASH && hash.startsWith(each.toLowerCase()),
  );
  return found === undefined ? (confirmed[0] ?? '') : hash;
}
