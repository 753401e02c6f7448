// One host at a time and a queue before it. A host with a fault is replaced for the next operation, after a
// pause that grows while hosts keep failing. Only the operation that the lost host was working on fails: what
// it did is unknown. Those that wait have not been sent, and go to the new one.

import type { Clock } from '../../../clock.js';
import { DrError } from '../../../errors.js';
import type { JsonFields } from '../../../files/index.js';
import type { Log } from '../../../log.js';
import { HostLost, HostProcess, type HostProgram } from './host-process.js';
import type { Arguments } from './operation.js';
import { type Answer, failureError, REQUEST_CHARACTERS_MAX } from './protocol.js';

/** PowerShell and the Hyper-V module take seconds on a busy host. */
const START_TIMEOUT_MS = 120_000;
const STARTS_MAX = 3;
export const PAUSE_MS = 1000;
const PAUSE_MAX_MS = 30_000;
/** A host that was idle so long is asked for a sign first, so that no operation is lost in a dead one. */
const IDLE_MS = 30_000;
const PING_TIMEOUT_MS = 15_000;
const CLOSE_GRACE_MS = 3000;

export interface LaneOptions {
  readonly program: HostProgram;
  readonly clock: Clock;
  readonly log: Log;
  /** Before the second start; each further failure doubles it. */
  readonly pauseMs: number;
}

export class Lane {
  readonly #options: LaneOptions;
  #host: HostProcess | undefined;
  #lastHeardMs = 0;
  /** Hosts lost one after another without a single answer. */
  #failures = 0;
  #tail: Promise<unknown> = Promise.resolve();
  readonly #closing = new AbortController();

  constructor(options: LaneOptions) {
    this.#options = options;
  }

  /** In turn. @throws DrError as OperationRunner.run() */
  run(op: string, args: Arguments, timeoutMs: number): Promise<JsonFields> {
    const turn = this.#tail.then(() => this.#run(op, args, timeoutMs));
    this.#tail = turn.catch(() => undefined);
    return turn;
  }

  /** What is under way has some seconds to end; nothing is begun any more. */
  async close(): Promise<void> {
    this.#closing.abort(new Error('closed'));
    await this.#host?.close(CLOSE_GRACE_MS);
    await this.#tail;
    // one that was being started meanwhile
    await this.#host?.close(CLOSE_GRACE_MS);
    this.#host = undefined;
  }

  async #run(op: string, args: Arguments, timeoutMs: number): Promise<JsonFields> {
    const { clock, log } = this.#options;
    if (JSON.stringify(args).length > REQUEST_CHARACTERS_MAX) {
      throw new DrError('E_HYPERVISOR', `${op} was asked with more than a host takes`, {
        context: { op },
      });
    }
    const host = await this.#usableHost(op);
    const startedMs = clock.monotonic();
    const took = (): number => Math.round(clock.monotonic() - startedMs);
    let answer: Answer;
    try {
      answer = await host.ask(op, args, timeoutMs);
    } catch (error) {
      if (!(error instanceof HostLost)) throw error;
      this.#drop(op, error);
      throw unknownEffect(op, error);
    }
    this.#failures = 0;
    this.#lastHeardMs = clock.monotonic();
    if ('failure' in answer) {
      const { category, fqid, hresult, cimStatus } = answer.failure;
      const said = { category, fqid, hresult, cimStatus };
      log.info('hypervisor.call', { op, ms: took(), isRefused: true, ...said });
      throw failureError(op, answer.failure);
    }
    log.debug('hypervisor.call', { op, ms: took(), ...told(answer.result) });
    return answer.result;
  }

  async #usableHost(op: string): Promise<HostProcess> {
    const { clock, log, program } = this.#options;
    const closing = this.#closing.signal;
    if (!closing.aborted) await this.#checkIdle();
    let lost: HostLost | undefined;
    for (let start = 0; start < STARTS_MAX; start += 1) {
      if (this.#host?.isUsable === true) break;
      if (this.#failures > 0) {
        const pauseMs = Math.min(PAUSE_MAX_MS, this.#options.pauseMs * 2 ** (this.#failures - 1));
        await clock.sleep(pauseMs, closing).catch(() => undefined);
      }
      if (closing.aborted) break;
      try {
        this.#host = await HostProcess.start(program, clock, log, START_TIMEOUT_MS);
        this.#lastHeardMs = clock.monotonic();
        log.debug('hypervisor.host-started', { program: program.program });
      } catch (error) {
        if (!(error instanceof HostLost)) throw error;
        lost = error;
        this.#drop(op, error);
      }
    }
    if (closing.aborted) {
      throw new DrError('E_STALLED', `${op} was not begun: the program is ending`, {
        context: { op },
      });
    }
    if (this.#host?.isUsable === true) return this.#host;
    throw new DrError(
      'E_HYPERVISOR',
      `Windows PowerShell (${program.program}) cannot be used: ${lost?.message ?? 'it ended at once'}`,
      { context: { op }, done: `${op} was not begun`, cause: lost },
    );
  }

  async #checkIdle(): Promise<void> {
    const { clock } = this.#options;
    const host = this.#host;
    if (host?.isUsable !== true || clock.monotonic() - this.#lastHeardMs < IDLE_MS) return;
    try {
      await host.ask('host.ping', {}, PING_TIMEOUT_MS);
      this.#lastHeardMs = clock.monotonic();
    } catch (error) {
      if (!(error instanceof HostLost)) throw error;
      this.#drop('host.ping', error);
    }
  }

  #drop(op: string, error: HostLost): void {
    this.#host = undefined;
    this.#failures += 1;
    this.#options.log.warn('hypervisor.host-lost', { op, reason: error.message });
  }
}

function unknownEffect(op: string, lost: HostLost): DrError {
  return new DrError(
    lost.isSilent ? 'E_STALLED' : 'E_HYPERVISOR',
    `the PowerShell host was lost during ${op}: ${lost.message}`,
    {
      context: { op, effect: 'unknown' },
      done: 'the host was ended and is replaced; whether the operation took effect is unknown',
      cause: lost,
    },
  );
}

/** What of an answer is worth a line: numbers of a method's verdict, nothing that a guest or an operator wrote. */
function told(result: JsonFields): JsonFields {
  const { returnValue, errorCode, state } = result;
  return Object.fromEntries(
    Object.entries({ returnValue, errorCode, state }).filter(([, value]) => value !== undefined),
  );
}
