// A plan of its YAML text. docs/failover/plans.md describes the keys; test/unit/plan reads its example.

import { DrError } from '../errors.js';
import { isScriptName, parseTcpAddress } from '../probe/index.js';
import type { Action, Condition, OnError, Order, Plan, ScriptCall } from './model.js';
import { linkSteps, type StepTree } from './link.js';
import { readYaml, type YamlValue } from './yaml-text.js';

const STEPS_MAX = 1000;
const CONCURRENCY_DEFAULT = 20;
const CONCURRENCY_MAX = 1000;
const SCRIPT_TIMEOUT_MS = 120_000;
const WAIT_TIMEOUT_MS = 600_000;
const NAME_CHARACTERS_MAX = 100;
const MESSAGE_CHARACTERS_MAX = 4000;

const PLAN_KEYS = [
  ...(['version', 'name', 'description', 'concurrency', 'on_error', 'partial'] as const),
  ...(['consistent', 'order', 'parameters', 'steps'] as const),
];
const COMMON_KEYS = ['name', 'depends_on', 'after', 'on_error'] as const;
const VM_KEYS = ['vm', 'parameters', ...COMMON_KEYS] as const;
const GROUP_KEYS = [
  ...(['group', 'order', 'concurrency', 'parameters', 'steps', ...COMMON_KEYS] as const),
];
const SCRIPT_KEYS = ['script', ...COMMON_KEYS] as const;
const MESSAGE_KEYS = ['message', ...COMMON_KEYS] as const;
const DELAY_KEYS = ['delay', ...COMMON_KEYS] as const;
const WAIT_KEYS = ['wait-for', ...COMMON_KEYS] as const;
const KINDS = ['vm', 'group', 'script', 'message', 'delay', 'wait-for'] as const;
const ANY_STEP_KEYS = [...KINDS, 'order', 'concurrency', 'parameters', 'steps', ...COMMON_KEYS];

const ON_ERROR: readonly OnError[] = ['ask', 'continue', 'stop'];
const ORDER: readonly Order[] = ['sequence', 'parallel'];

/** What a step takes over from what is around it. */
interface Around {
  readonly onError: OnError;
  readonly parameters: Readonly<Record<string, string>>;
}

/**
 * Reads a plan. `file` is for messages.
 * @throws DrError E_PARAMETER, with line and column of what is wrong
 */
export function parsePlan(text: string, file: string): Plan {
  const root = readYaml(text, file);
  const fields = root.fields(PLAN_KEYS);
  const { version, name, steps } = fields;
  if (version === undefined) throw root.error('has no version; this program reads version: 1');
  if (version.text() !== '1') throw version.error('is not 1, the version that this program reads');
  if (name === undefined) throw root.error('has no name');
  if (steps === undefined) throw root.error('has no steps');
  const around: Around = {
    onError: fields.on_error?.choice(ON_ERROR) ?? 'ask',
    parameters: fields.parameters?.texts() ?? {},
  };
  const reader = new StepReader();
  const children = reader.steps(steps, around);
  const order = fields.order?.choice(ORDER) ?? 'sequence';
  return {
    name: nameOf(name),
    description: fields.description?.text(MESSAGE_CHARACTERS_MAX) ?? '',
    concurrency: fields.concurrency?.whole(1, CONCURRENCY_MAX) ?? CONCURRENCY_DEFAULT,
    groupConcurrency: reader.groupConcurrency,
    isPartial: fields.partial?.flag() ?? false,
    isGroupConsistent: fields.consistent?.choice(['group', 'none']) === 'group',
    steps: linkSteps(children, order),
  };
}

function nameOf(value: YamlValue): string {
  const name = value.text(NAME_CHARACTERS_MAX);
  if (name.trim() === name && !/\p{Cc}/u.test(name)) return name;
  throw value.error('has blanks at its ends, or controls');
}

class StepReader {
  readonly groupConcurrency = new Map<string, number>();
  readonly #names = new Map<string, string>();
  readonly #vms = new Set<string>();
  #count = 0;

  steps(list: YamlValue, around: Around): readonly StepTree[] {
    const items = list.items();
    if (items.length === 0) throw list.error('has no step');
    return items.map((item) => this.#step(item, around));
  }

  #step(step: YamlValue, around: Around): StepTree {
    if (++this.#count > STEPS_MAX) throw step.error(`is beyond the ${STEPS_MAX} steps of a plan`);
    const given = step.fields(ANY_STEP_KEYS);
    const kinds = KINDS.filter((kind) => given[kind] !== undefined);
    const [kind] = kinds;
    if (kind === undefined || kinds.length > 1) {
      throw step.error(`must be exactly one of: ${KINDS.join(', ')}`);
    }
    switch (kind) {
      case 'vm': {
        const { vm = step, parameters, ...common } = step.fields(VM_KEYS);
        const vmName = this.#vmName(vm);
        const own = { ...around.parameters, ...parameters?.texts() };
        return this.#leaf(step, vmName, common, around, {
          ...{ kind, vm: vmName, parameters: own },
        });
      }
      case 'group':
        return this.#group(step, around);
      case 'script': {
        const { script = step, ...common } = step.fields(SCRIPT_KEYS);
        const call = scriptCall(script);
        return this.#leaf(step, call.name, common, around, { kind, script: call });
      }
      case 'message': {
        const { message = step, ...common } = step.fields(MESSAGE_KEYS);
        const text = message.text(MESSAGE_CHARACTERS_MAX);
        return this.#leaf(step, `message ${this.#count}`, common, around, { kind, text });
      }
      case 'delay': {
        const { delay = step, ...common } = step.fields(DELAY_KEYS);
        const durationMs = delay.durationMs();
        return this.#leaf(step, `delay ${this.#count}`, common, around, { kind, durationMs });
      }
      case 'wait-for': {
        const { 'wait-for': condition = step, ...common } = step.fields(WAIT_KEYS);
        const action = waitFor(condition);
        return this.#leaf(step, `wait ${this.#count}`, common, around, action);
      }
    }
  }

  #group(step: YamlValue, around: Around): StepTree {
    const fields = step.fields(GROUP_KEYS);
    const { group = step, steps, order, concurrency, parameters } = fields;
    if (steps === undefined) throw step.error('is a group without steps');
    const name = this.#name(step, fields.name, nameOf(group));
    if (concurrency !== undefined) {
      this.groupConcurrency.set(name, concurrency.whole(1, CONCURRENCY_MAX));
    }
    const inside: Around = {
      onError: fields.on_error?.choice(ON_ERROR) ?? around.onError,
      parameters: { ...around.parameters, ...parameters?.texts() },
    };
    return {
      ...{ name, where: step, ...references(fields) },
      order: order?.choice(ORDER) ?? 'parallel',
      children: this.steps(steps, inside),
    };
  }

  #leaf(
    step: YamlValue,
    defaultName: string,
    common: Partial<Record<(typeof COMMON_KEYS)[number], YamlValue>>,
    around: Around,
    action: Action,
  ): StepTree {
    return {
      ...{ name: this.#name(step, common.name, defaultName), where: step, ...references(common) },
      ...{ action, onError: common.on_error?.choice(ON_ERROR) ?? around.onError },
    };
  }

  #name(step: YamlValue, given: YamlValue | undefined, defaultName: string): string {
    const name = given === undefined ? defaultName : nameOf(given);
    const other = this.#names.get(name.toLowerCase());
    if (other !== undefined) {
      throw (given ?? step).error(`is named ${name}, as ${other} is; give it another name`);
    }
    this.#names.set(name.toLowerCase(), step.place);
    return name;
  }

  #vmName(vm: YamlValue): string {
    const name = nameOf(vm);
    if (/[*?]/.test(name)) throw vm.error('is a pattern; a plan names each VM');
    if (this.#vms.has(name.toLowerCase())) throw vm.error(`names ${name} for the second time`);
    this.#vms.add(name.toLowerCase());
    return name;
  }
}

function references(common: {
  readonly depends_on?: YamlValue;
  readonly after?: YamlValue;
}): Pick<StepTree, 'needs' | 'after'> {
  const named = (list: YamlValue | undefined): StepTree['needs'] =>
    (list?.itemOrItems() ?? []).map((value) => ({ name: value.text(), where: value }));
  return { needs: named(common.depends_on), after: named(common.after) };
}

/** `NAME`, or a map. */
function scriptCall(value: YamlValue): ScriptCall {
  const fields = value.isMap ? value.fields(['name', 'args', 'timeout', 'about']) : { name: value };
  const { name } = fields;
  if (name === undefined) throw value.error('has no name');
  if (!isScriptName(name.text())) throw name.error('is no file name of a script');
  return {
    name: name.text(),
    args: fields.args?.items().map((item) => item.text()) ?? [],
    timeoutMs: fields.timeout?.durationMs() ?? SCRIPT_TIMEOUT_MS,
    about: fields.about?.text(),
  };
}

function waitFor(value: YamlValue): Action {
  const fields = value.fields(['heartbeat', 'tcp', 'script', 'timeout']);
  const { heartbeat, tcp, script, timeout } = fields;
  const conditions: Condition[] = [];
  if (heartbeat !== undefined) conditions.push({ kind: 'heartbeat', step: heartbeat.text() });
  if (tcp !== undefined) conditions.push({ kind: 'tcp', ...tcpAddress(tcp) });
  if (script !== undefined) conditions.push({ kind: 'script', script: scriptCall(script) });
  const [condition, second] = conditions;
  if (condition === undefined || second !== undefined) {
    throw value.error('must be exactly one of: heartbeat, tcp, script');
  }
  const timeoutMs = timeout?.durationMs() ?? WAIT_TIMEOUT_MS;
  return { kind: 'wait-for', condition, timeoutMs };
}

function tcpAddress(value: YamlValue): { readonly host: string; readonly port: number } {
  try {
    const { host, port } = parseTcpAddress(value.text(), value.place);
    if (host !== undefined) return { host, port };
  } catch (error) {
    if (!(error instanceof DrError)) throw error;
  }
  throw value.error('is no address: HOST:PORT or [IPV6]:PORT');
}
