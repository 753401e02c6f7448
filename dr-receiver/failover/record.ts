// Failover as the journal has it (docs/on-disk.md "Journal"): the whole record of a protection with each
// step, so that whoever reads the last one knows everything. Every field is checked, and bounded.

import type { Guid } from '../../shared/bytes/index.js';
import { asText, Fields, Unusable } from '../store/fields.js';
import {
  type Command,
  COMMANDS,
  type CommitPolicy,
  type CommitTimer,
  type FailoverRecord,
  type HaltedStep,
  type Instance,
  type InstanceDisk,
  type Operation,
  type OperationKind,
  type Phase,
  type Proof,
  type Reprotected,
  type ReturnedPoint,
  type SourceDebt,
  type TestPhase,
  type TestSession,
} from './model.js';

const PHASES: readonly Phase[] = [
  'ordinary',
  'failing-over',
  'failed-over',
  'undoing',
  'committed',
  'failing-back',
  'failed-back',
  'split-brain',
  'halted',
];
const KINDS: readonly OperationKind[] = [
  'planned',
  'unplanned',
  'undo',
  'failback',
  'failback-commit',
  'failback-undo',
  'permanent',
  'resolve',
];
const POLICIES: readonly CommitPolicy[] = ['none', 'commit', 'rollback'];
const TEST_PHASES: readonly TestPhase[] = [
  ...(['starting', 'running', 'stopping', 'cleanup-failed', 'adopting'] satisfies TestPhase[]),
];
const CHECKS: readonly Instance['checks'][] = ['pending', 'passed', 'failed'];
const DEBTS: readonly SourceDebt['kind'][] = [
  'unfence',
  'start',
  'fence',
  'retire',
  'dropFailback',
  'commitFailback',
];
const VALUES_MAX = 200;
const TEXT_MAX = 16 * 1024;
const DISKS_MAX = 260;
const OWED_MAX = 64;
const STEP = /^[A-Za-z0-9-]{1,32}$/;
const ROOT = /^[0-9a-f]{64}$/;
/** A name in a folder, and nothing that leads out of it. */
const FILE_NAME = /^[0-9a-z][0-9a-z.-]{0,127}$/;

export function parseFailover(fields: Fields): FailoverRecord {
  return {
    phase: fields.choice('phase', PHASES),
    activeSite: fields.choice('activeSite', ['source', 'target']),
    operation: optional(fields, 'operation', parseOperation),
    instance: optional(fields, 'instance', parseInstance),
    replacement: optional(fields, 'replacement', parseInstance),
    commit: optional(fields, 'commit', parseTimer),
    halted: optional(fields, 'halted', parseHalted),
    isSourceStopped: fields.flag('isSourceStopped'),
    orphanEpoch: fields.has('orphanEpoch') ? fields.epoch('orphanEpoch') : undefined,
    owed: bounded(fields, 'owed', OWED_MAX, parseDebt),
    ...(fields.has('reprotected') ? { reprotected: parseReprotected(fields) } : {}),
  };
}

export function parseTest(fields: Fields): TestSession {
  return {
    operationId: fields.guid('operationId'),
    phase: fields.choice('phase', TEST_PHASES),
    step: stepIn(fields),
    startedAtMs: fields.number('startedAtMs'),
    deadlineMs: fields.number('deadlineMs'),
    by: shortText(fields, 'by'),
    isKept: fields.flag('isKept'),
    parameters: parseTexts(fields, 'parameters'),
    instance: parseInstance(fields.object('instance')),
    cause: textIn(fields, 'cause'),
  };
}

export function parseProof(fields: Fields): Proof {
  return {
    operationId: fields.guid('operationId'),
    pointId: fields.guid('pointId'),
    testedAtMs: fields.number('testedAtMs'),
    isPassed: fields.flag('isPassed'),
  };
}

function parseOperation(fields: Fields): Operation {
  return {
    operationId: fields.guid('operationId'),
    kind: fields.choice('kind', KINDS),
    step: stepIn(fields),
    startedAtMs: fields.number('startedAtMs'),
    by: shortText(fields, 'by'),
    keyId: textIn(fields, 'keyId'),
    parameters: parseTexts(fields, 'parameters'),
    pointId: guidIn(fields, 'pointId'),
    facts: parseTexts(fields, 'facts'),
  };
}

function parseInstance(fields: Fields): Instance {
  return {
    operationId: fields.guid('operationId'),
    pointId: fields.guid('pointId'),
    vmName: shortText(fields, 'vmName'),
    vmId: guidIn(fields, 'vmId'),
    disks: bounded(fields, 'disks', DISKS_MAX, parseDisk),
    poweredOnAtMs: fields.number('poweredOnAtMs'),
    checks: fields.choice('checks', CHECKS),
    // records of a release without failback do not say it: then every disk is compared
    isPlanned: fields.has('isPlanned') && fields.flag('isPlanned'),
    servedUntilMs: fields.has('servedUntilMs') ? fields.number('servedUntilMs') : 0,
    ...(fields.has('ranBesideAtMs') ? { ranBesideAtMs: fields.number('ranBesideAtMs') } : {}),
    ...(fields.has('failbackId') ? { failbackId: fields.guid('failbackId') } : {}),
    // instances of former versions do not tell it
    ...(fields.has('network') ? { network: parseTexts(fields, 'network') } : {}),
  };
}

function parseDisk(fields: Fields): InstanceDisk {
  return {
    diskId: fields.guid('diskId'),
    generation: fields.number('generation'),
    baseCycleId: fields.guid('baseCycleId'),
    materialised: fileName(fields, 'materialised'),
    protective: fileName(fields, 'protective'),
    // disks that did not go home do not have it, nor do those of former versions
    ...(fields.has('servedRoot') ? { servedRoot: rootIn(fields, 'servedRoot') } : {}),
  };
}

function stepIn(fields: Fields): string {
  const value = fields.text('step');
  if (!STEP.test(value)) throw new Unusable('"step" is no name of a step');
  return value;
}

function rootIn(fields: Fields, name: string): string {
  const value = fields.text(name);
  if (!ROOT.test(value)) throw new Unusable(`"${name}" is no root`);
  return value;
}

function fileName(fields: Fields, name: string): string {
  const value = fields.text(name);
  if (!FILE_NAME.test(value)) throw new Unusable(`"${name}" is no name of a file`);
  return value;
}

function parseTimer(fields: Fields): CommitTimer {
  return { policy: fields.choice('policy', POLICIES), deadlineMs: fields.number('deadlineMs') };
}

function parseHalted(fields: Fields): HaltedStep {
  return {
    phase: fields.choice('phase', PHASES),
    step: stepIn(fields),
    cause: shortText(fields, 'cause'),
    allowed: fields.list('allowed', (item): Command => {
      const command = COMMANDS.find((each) => each === item);
      if (command === undefined) throw new Unusable('an allowed command is none');
      return command;
    }),
  };
}

function parseReprotected(fields: Fields): Reprotected {
  const inside = fields.object('reprotected');
  return { atMs: inside.number('atMs'), safetyUntilMs: inside.number('safetyUntilMs') };
}

function parseDebt(fields: Fields): SourceDebt {
  return {
    kind: fields.choice('kind', DEBTS),
    operationId: fields.guid('operationId'),
    ...(fields.has('failbackId') ? { failbackId: fields.guid('failbackId') } : {}),
    ...(fields.has('mayHaveRun') ? { mayHaveRun: fields.flag('mayHaveRun') } : {}),
    ...(fields.has('point') ? { point: parseReturned(fields.object('point')) } : {}),
  };
}

function parseReturned(fields: Fields): ReturnedPoint {
  return { pointId: fields.guid('pointId'), consistentAtMs: fields.number('consistentAtMs') };
}

function parseTexts(fields: Fields, name: string): Readonly<Record<string, string>> {
  const entries = fields.object(name).entries();
  if (entries.length > VALUES_MAX) throw new Unusable(`"${name}" has too many values`);
  return Object.fromEntries(
    entries.map(([key, value]) => {
      const text = asText(value);
      if (text.length > TEXT_MAX) throw new Unusable(`"${key}" is too long`);
      return [key, text];
    }),
  );
}

function optional<T>(fields: Fields, name: string, parse: (fields: Fields) => T): T | undefined {
  return fields.has(name) ? parse(fields.object(name)) : undefined;
}

function bounded<T>(
  fields: Fields,
  name: string,
  max: number,
  parse: (fields: Fields) => T,
): readonly T[] {
  const items = fields.list(name, (item) => parse(new Fields(item, `an item of "${name}"`)));
  if (items.length > max) throw new Unusable(`"${name}" has too many items`);
  return items;
}

/** Long enough for whatever people or hypervisors write. */
function shortText(fields: Fields, name: string): string {
  const text = fields.text(name);
  if (text.length > TEXT_MAX) throw new Unusable(`"${name}" is too long`);
  return text;
}

function textIn(fields: Fields, name: string): string | undefined {
  return fields.has(name) ? shortText(fields, name) : undefined;
}

function guidIn(fields: Fields, name: string): Guid | undefined {
  return fields.has(name) ? fields.guid(name) : undefined;
}
