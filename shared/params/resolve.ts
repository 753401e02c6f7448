// Puts together what was given: flag or Plugin string before config file before default. Checks
// every value, also those that are overridden, and what does not go together.

import { assert } from '../assert.js';
import { DrError } from '../errors.js';
import type { GivenParameter, Origin } from './given.js';
import { badSyntax, badValue, unknownKey } from './refusal.js';
import {
  isParameterName,
  PARAMETER_NAMES,
  type ParameterName,
  type ParameterValues,
  rowOf,
} from './table.js';
import { BadValue } from './rate.js';
import { type BandwidthSchedule, parseSchedule } from './schedule.js';
import { type ParameterValue, parseValue } from './values.js';

export interface ParameterSet {
  readonly values: ParameterValues;
  /** Where each value comes from. */
  readonly origins: Readonly<Record<ParameterName, Origin>>;
  /** As it was written, of what is no default. */
  readonly texts: ParameterTexts;
  /** What is legal and probably not meant. */
  readonly warnings: readonly string[];
}

export type ParameterTexts = Readonly<Partial<Record<ParameterName, string>>>;

interface Chosen {
  /** undefined: nobody gave it. */
  readonly text: string | undefined;
  readonly value: ParameterValue | undefined;
  readonly origin: Origin;
  readonly place: string;
}

/**
 * The values that are in force. `given` is what the Plugin string or the flags say, `fromFile` what
 * the config file says.
 * @throws DrError E_PARAMETER, names key, value and what is allowed
 */
export function resolveParameters(
  given: readonly GivenParameter[],
  fromFile: readonly GivenParameter[] = [],
): ParameterSet {
  const above = readLevel(given);
  const below = readLevel(fromFile);
  const nested = below.get('config_file');
  if (nested !== undefined) {
    const hint = 'Name one config file, in the Plugin string or as --config-file.';
    throw badSyntax('a config file names another one', nested.place, hint);
  }
  dropOverruledKey(above, below);
  const chosen = new Map<ParameterName, Chosen>();
  for (const name of PARAMETER_NAMES) {
    chosen.set(name, above.get(name) ?? below.get(name) ?? defaultOf(name));
  }
  const values = Object.fromEntries([...chosen].map(([name, { value }]) => [name, value]));
  const origins = Object.fromEntries([...chosen].map(([name, { origin }]) => [name, origin]));
  const texts = Object.fromEntries([...chosen].map(([name, { text }]) => [name, text]));
  const set = {
    // each value was made by the row of its name
    values: values as ParameterValues,
    origins: origins as Record<ParameterName, Origin>,
    texts,
  };
  checkTogether(set);
  return { ...set, warnings: doubtsOf(set.values) };
}

function readLevel(given: readonly GivenParameter[]): Map<ParameterName, Chosen> {
  const level = new Map<ParameterName, Chosen>();
  for (const { key, value, origin, place } of given) {
    if (!isParameterName(key)) throw unknownKey(key, place);
    if (level.has(key)) {
      throw badSyntax(`${key} is given twice`, place, 'Give each parameter once.');
    }
    const parsed = parseValue(rowOf(key), value);
    if (parsed instanceof BadValue) throw badValue(key, value, parsed.why, place);
    level.set(key, { text: value, value: parsed, origin, place });
  }
  return level;
}

function defaultOf(name: ParameterName): Chosen {
  const row = rowOf(name);
  const place = 'default';
  if (row.default === undefined) {
    const none = row.kind === 'list' ? [] : undefined;
    return { text: undefined, value: none, origin: 'default', place };
  }
  const value = parseValue(row, row.default);
  if (value instanceof BadValue) throw badValue(name, row.default, value.why, place);
  return { text: undefined, value, origin: 'default', place };
}

/** A key that is given one way above overrules one that is given the other way below. */
function dropOverruledKey(
  above: ReadonlyMap<ParameterName, Chosen>,
  below: Map<ParameterName, Chosen>,
): void {
  if (!above.has('dr_psk') && !above.has('dr_psk_file')) return;
  for (const name of ['dr_psk', 'dr_psk_file', 'dr_psk_id'] as const) below.delete(name);
}

function together(names: readonly ParameterName[], why: string, allowed: string): DrError {
  return new DrError('E_PARAMETER', `${names.join(' and ')}: ${why}`, {
    context: { parameter: names.join(',') },
    hint: allowed,
  });
}

function checkTogether({ values, origins }: Pick<ParameterSet, 'values' | 'origins'>): void {
  const isGiven = (name: ParameterName): boolean => origins[name] !== 'default';
  const { consistency } = values;
  if (values.push_apply_remote && values.dr_host === undefined) {
    throw together(
      ['push_apply_remote', 'dr_host'],
      'a push to the receiver needs its host',
      'Give dr_host, or push_apply_remote=no.',
    );
  }
  if (values.dr_psk !== undefined && values.dr_psk_file !== undefined) {
    throw together(['dr_psk', 'dr_psk_file'], 'one key is given twice', 'Give one of the two.');
  }
  if (values.dr_psk_id !== undefined && values.dr_psk === undefined) {
    throw together(
      ['dr_psk_id', 'dr_psk'],
      'a key id goes with a passphrase only',
      'A key file names its own id: leave dr_psk_id out.',
    );
  }
  checkTls(values);
  if (isGiven('quiesce') && consistency !== undefined) {
    if (values.quiesce === (consistency === 'crash')) {
      throw together(
        ['quiesce', 'consistency'],
        `quiesce=${values.quiesce ? 'yes' : 'no'} and consistency=${consistency} contradict each other`,
        'consistency=crash goes with quiesce=no, the others with quiesce=yes.',
      );
    }
  }
  if (values.new_vm_name !== undefined && !['backup', 'seed'].includes(values.mode)) {
    throw together(
      ['new_vm_name', 'mode'],
      `a new name is for restores, not for mode=${values.mode}`,
      'Leave new_vm_name out.',
    );
  }
}

/** Modes that give a command of the failover state machine. */
export const OPERATIONS = {
  'failover-planned': 'planned',
  'failover-unplanned': 'unplanned',
  'failover-test': 'test',
  'failover-undo': 'undo',
  'failover-permanent': 'permanent',
  failback: 'failback',
  reprotect: 'reprotect',
} as const satisfies Partial<Record<ParameterValues['mode'], string>>;

export type OperationMode = keyof typeof OPERATIONS;

export const TLS_PARAMETERS = ['dr_tls_ca', 'dr_tls_cert', 'dr_tls_key', 'dr_tls_name'] as const;

export type TlsParameters = Pick<ParameterValues, (typeof TLS_PARAMETERS)[number]>;

/**
 * TLS is asked for with an authority; a certificate goes with its key.
 * @throws DrError E_PARAMETER
 */
export function checkTls(values: TlsParameters): void {
  if ((values.dr_tls_cert === undefined) !== (values.dr_tls_key === undefined)) {
    throw together(
      ['dr_tls_cert', 'dr_tls_key'],
      'a certificate and its key go together',
      'Give both or none.',
    );
  }
  if (values.dr_tls_ca !== undefined) return;
  for (const name of ['dr_tls_cert', 'dr_tls_name'] as const) {
    if (values[name] === undefined) continue;
    throw together(
      [name, 'dr_tls_ca'],
      "TLS needs the authority of the receiver's certificate",
      'Give dr_tls_ca as well.',
    );
  }
}

/** What is legal and probably not meant. */
export function doubtsOf({
  push_cycles: cycles,
  push_interval: interval,
  rpo_seconds: rpo,
}: Pick<ParameterValues, 'push_cycles' | 'push_interval' | 'rpo_seconds'>): string[] {
  if (cycles === 1 || rpo >= interval) return [];
  return [
    `rpo_seconds=${rpo} cannot hold with push_interval=${interval}: raise the one or lower the other`,
  ];
}

/** What a guest's consistency is wanted to be: `consistency`, or what `quiesce` says. */
export function wantedConsistency(values: ParameterValues): 'require' | 'prefer' | 'crash' {
  return values.consistency ?? (values.quiesce ? 'prefer' : 'crash');
}

/** What `bandwidth_schedule` says, by the hour; undefined: it is not given. */
export function wantedSchedule({
  bandwidth_schedule: text,
}: ParameterValues): BandwidthSchedule | undefined {
  if (text === undefined) return undefined;
  const schedule = parseSchedule(text);
  assert(!(schedule instanceof BadValue), 'the value was checked when it was read');
  return schedule;
}
