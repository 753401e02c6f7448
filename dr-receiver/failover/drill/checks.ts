// Proves that a VM which came up serves: sign of life, address, ports, scripts (failover.md § 4, P8 and
// T5). One check after the other, each with a deadline of its own; a failed one does not keep the later
// ones from being made, because the report is to tell all that is known. Nothing is changed.

import type { Guid } from '../../../shared/bytes/index.js';
import type { Clock } from '../../../shared/clock.js';
import { DrError } from '../../../shared/errors.js';
import type { FileSystem } from '../../../shared/files/index.js';
import type { VmDefinition } from '../../../shared/hypervisor/index.js';
import {
  type ConnectTcp,
  findScript,
  type RunScript,
  type ScriptContext,
} from '../../../shared/probe/index.js';
import type { TargetHost } from '../ports.js';
import { type Check, checkName } from './check-list.js';

/** An adapter of the VM as the network plan wants it. */
export interface PlannedAdapter {
  readonly adapterId: Guid;
  /** `192.0.2.10/24`; none: the guest keeps what it has, or asks DHCP. */
  readonly addresses: readonly string[];
}

/** The VM that is to be proven. */
export interface CheckedVm {
  readonly vmId: Guid;
  readonly adapters: readonly PlannedAdapter[];
}

export interface CheckSeams {
  readonly host: Pick<
    TargetHost,
    'heartbeat' | 'describeVm' | 'listSwitches' | 'targetCapabilities'
  >;
  readonly clock: Clock;
  readonly fs: FileSystem;
  readonly connect: ConnectTcp;
  readonly runScript: RunScript;
}

export interface CheckOptions {
  /** For the heartbeat. */
  readonly bootTimeoutMs: number;
  /** For each of the others. */
  readonly checkTimeoutMs: number;
  /** Where the scripts of this side are; undefined: it has none. */
  readonly scriptFolder: string | undefined;
  /** What scripts are told. */
  readonly context: ScriptContext;
  /** Ends the checks; runChecks() then rejects with its reason. */
  readonly signal?: AbortSignal | undefined;
  /** Told as soon as a check has ended. */
  readonly onResult?: (result: CheckResult) => void;
}

export interface CheckResult {
  /** As the parameter `checks` names it. */
  readonly check: string;
  /** 'skipped': there was nothing to be asked; it proves nothing, and spoils nothing. */
  readonly outcome: 'passed' | 'failed' | 'skipped';
  readonly startedAtMs: number;
  readonly durationMs: number;
  readonly deadlineMs: number;
  /** What was found, for people; may hold what a guest or a script said. */
  readonly words: string;
}

/** What one look at the VM says: an answer, or why there is none yet. */
type Look = Pick<CheckResult, 'outcome' | 'words'> | { readonly outcome: 'wait'; words: string };

const LOOK_INTERVAL_MS = 1000;
/** A firewall that drops answers nothing; the next try may find it open. */
const CONNECT_TRY_MS = 5000;

/** True when nothing failed. */
export function isPassed(results: readonly CheckResult[]): boolean {
  return results.every(({ outcome }) => outcome !== 'failed');
}

/**
 * Makes the checks in their order; what goes wrong in one is its result.
 * @throws the reason of the signal, and nothing else
 */
export async function runChecks(
  vm: CheckedVm,
  checks: readonly Check[],
  seams: CheckSeams,
  options: CheckOptions,
): Promise<readonly CheckResult[]> {
  const results: CheckResult[] = [];
  for (const check of checks) {
    const result = await runCheck(vm, check, seams, options);
    results.push(result);
    options.onResult?.(result);
  }
  return results;
}

async function runCheck(
  vm: CheckedVm,
  check: Check,
  seams: CheckSeams,
  options: CheckOptions,
): Promise<CheckResult> {
  const { clock } = seams;
  const deadlineMs = check.kind === 'heartbeat' ? options.bootTimeoutMs : options.checkTimeoutMs;
  const startedAtMs = clock.now();
  const startedAt = clock.monotonic();
  const { outcome, words } = await answerOf(vm, check, seams, options, deadlineMs);
  const durationMs = Math.round(clock.monotonic() - startedAt);
  return { check: checkName(check), outcome, startedAtMs, durationMs, deadlineMs, words };
}

async function answerOf(
  vm: CheckedVm,
  check: Check,
  seams: CheckSeams,
  options: CheckOptions,
  deadlineMs: number,
): Promise<Pick<CheckResult, 'outcome' | 'words'>> {
  if (check.kind === 'script') return runCheckScript(check, seams, options);
  const look = (signal: AbortSignal): Promise<Look> => {
    switch (check.kind) {
      case 'heartbeat':
        return lookForHeartbeat(vm, seams);
      case 'address':
        return lookForAddresses(vm, seams);
      case 'tcp':
        return lookForPort(vm, check, seams, signal);
    }
  };
  return untilDeadline(look, deadlineMs, seams.clock, options.signal);
}

/** Looks again and again; a look that hangs is left behind when the time is over. */
async function untilDeadline(
  look: (signal: AbortSignal) => Promise<Look>,
  deadlineMs: number,
  clock: Clock,
  signal: AbortSignal | undefined,
): Promise<Pick<CheckResult, 'outcome' | 'words'>> {
  const settled = new AbortController();
  const stop = signal === undefined ? settled.signal : AbortSignal.any([settled.signal, signal]);
  let last = 'there was no answer at all';
  const over = clock.sleep(deadlineMs, stop).then(() => undefined);
  // told by the race below, unless an answer came first
  over.catch(() => undefined);
  const answered = async (): Promise<Pick<CheckResult, 'outcome' | 'words'>> => {
    for (;;) {
      const found = await lookOnce(look, stop);
      if (found.outcome !== 'wait') return { outcome: found.outcome, words: found.words };
      last = found.words;
      await clock.sleep(LOOK_INTERVAL_MS, stop);
    }
  };
  const answer = answered();
  answer.catch(() => undefined);
  try {
    signal?.throwIfAborted();
    const found = await Promise.race([answer, over]);
    return found ?? { outcome: 'failed', words: `not within ${deadlineMs / 1000} s: ${last}` };
  } catch (error) {
    signal?.throwIfAborted();
    return { outcome: 'failed', words: wordsOf(error) };
  } finally {
    settled.abort();
  }
}

async function lookOnce(
  look: (signal: AbortSignal) => Promise<Look>,
  signal: AbortSignal,
): Promise<Look> {
  try {
    return await look(signal);
  } catch (error) {
    const isGone = error instanceof DrError && error.code === 'E_NOT_FOUND';
    return { outcome: isGone ? 'failed' : 'wait', words: wordsOf(error) };
  }
}

function wordsOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

async function lookForHeartbeat({ vmId }: CheckedVm, { host }: CheckSeams): Promise<Look> {
  if ((await host.heartbeat(vmId)) === 'ok') return { outcome: 'passed', words: 'the guest is up' };
  return { outcome: 'wait', words: 'the guest gives no sign of life' };
}

async function lookForAddresses(vm: CheckedVm, { host }: CheckSeams): Promise<Look> {
  const planned = vm.adapters.filter(({ addresses }) => addresses.length > 0);
  if (planned.length === 0) {
    return { outcome: 'skipped', words: 'no address was planned that could be compared' };
  }
  if (!host.targetCapabilities.canSetGuestAddress) {
    return { outcome: 'skipped', words: 'this hypervisor tells no addresses of guests' };
  }
  const definition = await host.describeVm(vm.vmId);
  const missing: string[] = [];
  for (const { adapterId, addresses } of planned) {
    const adapter = definition.adapters.find(({ id }) => id === adapterId);
    if (adapter === undefined) {
      return { outcome: 'failed', words: `the VM has no adapter ${adapterId} any more` };
    }
    const told = adapter.guest.addresses.map(bareAddress);
    const wanted = addresses.filter((address) => !told.includes(bareAddress(address)));
    if (wanted.length === 0) continue;
    const has = told.length === 0 ? 'none' : told.join(', ');
    missing.push(`${adapter.name} should have ${wanted.join(', ')} and has ${has}`);
  }
  if (missing.length > 0) return { outcome: 'wait', words: missing.join('; ') };
  const all = planned.flatMap(({ addresses }) => addresses);
  return { outcome: 'passed', words: `the guest has ${all.join(', ')}` };
}

/** Without its length; of the many ways to write an IPv6 address, the shortest. */
function bareAddress(address: string): string {
  const bare = address.replace(/\/.*$/, '').toLowerCase();
  const url = bare.includes(':') ? URL.parse(`http://[${bare}]`) : null;
  return url === null ? bare : url.hostname.slice(1, -1);
}

async function lookForPort(
  vm: CheckedVm,
  check: Extract<Check, { kind: 'tcp' }>,
  seams: CheckSeams,
  signal: AbortSignal,
): Promise<Look> {
  const guest = check.host ?? (await addressOfGuest(vm, seams));
  if (typeof guest !== 'string') return guest;
  const place = guest.includes(':') ? `[${guest}]:${check.port}` : `${guest}:${check.port}`;
  const tryEnd = new AbortController();
  const { clock } = seams;
  const tryOver = clock.sleep(CONNECT_TRY_MS, AbortSignal.any([signal, tryEnd.signal])).then(
    () => {
      tryEnd.abort(new Error('no answer'));
    },
    () => undefined,
  );
  try {
    const address = { host: guest, port: check.port };
    await seams.connect(address, AbortSignal.any([signal, tryEnd.signal]));
    return { outcome: 'passed', words: `${place} took a connection` };
  } catch (error) {
    return { outcome: 'wait', words: `${place} took no connection: ${wordsOf(error)}` };
  } finally {
    tryEnd.abort();
    await tryOver;
  }
}

/** The guest's address that can be reached from here, or why there is none. */
async function addressOfGuest(vm: CheckedVm, { host }: CheckSeams): Promise<string | Look> {
  const unreachable = (why: string): Look => ({
    outcome: 'failed',
    words: `not reachable from here: ${why}; tcp:HOST:PORT names an address that is`,
  });
  if (host.targetCapabilities.canReachGuests === false) {
    return unreachable('no network leads to the guests of this host');
  }
  const { adapters } = await host.describeVm(vm.vmId);
  const switches = await host.listSwitches();
  const isOpen = ({ switchName }: VmDefinition['adapters'][number]): boolean =>
    switches.some(({ name, isPrivate }) => name === switchName && !isPrivate);
  const open = adapters.filter(isOpen);
  if (open.length === 0) {
    return unreachable('the VM is connected to private switches only, or to none');
  }
  const planned = vm.adapters.filter(({ adapterId }) => open.some(({ id }) => id === adapterId));
  const [address] = [
    ...planned.flatMap(({ addresses }) => addresses),
    ...open.flatMap(({ guest }) => guest.addresses),
  ].map(bareAddress);
  return address ?? { outcome: 'wait', words: 'the guest has no address yet' };
}

async function runCheckScript(
  check: Extract<Check, { kind: 'script' }>,
  { clock, fs, runScript }: CheckSeams,
  options: CheckOptions,
): Promise<Pick<CheckResult, 'outcome' | 'words'>> {
  let file: string;
  try {
    file = await findScript(fs, options.scriptFolder, check.name);
  } catch (error) {
    return { outcome: 'failed', words: wordsOf(error) };
  }
  const { exitCode, isTimedOut, output } = await runScript({
    ...{ file, args: check.args, context: options.context },
    ...{ timeoutMs: options.checkTimeoutMs, clock, signal: options.signal },
  });
  const said = output === '' ? '' : `: ${output}`;
  if (exitCode === 0) return { outcome: 'passed', words: `exit code 0${said}` };
  const how = isTimedOut
    ? `it was stopped after ${options.checkTimeoutMs / 1000} s`
    : exitCode === undefined
      ? 'it did not end by itself'
      : `exit code ${exitCode}`;
  return { outcome: 'failed', words: `${how}${said}` };
}
