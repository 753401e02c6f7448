// How our objects are known again at a host: a checkpoint by its name, a VM by lines in its notes. The owner's
// own notes stay as they are. Texts that anybody can edit are no truth: what does not read as ours is not ours, nor is
// a mark of another VM, which came with the notes of its original into a copy.

import { parseGuid, type Guid } from '../../bytes/index.js';
import type { Consistency, Fence } from '../source.js';
import type { OwnerTag } from '../vm.js';

const CHECKPOINT_NAME = /^hvdr (\S{36}) (\S{36})( application)?$/;
const TAG_LINE = 'hvdr-vm: ';
const FENCE_LINE = 'hvdr-fence: ';
const BUILDING_NAME = /^hvdr unfinished (\S{36})$/;

/** Hyper-V does not tell of a checkpoint what was obtained, so its name does. */
export function checkpointName(
  { protectionId, operationId }: OwnerTag,
  consistency: Consistency,
): string {
  const level = consistency === 'application' ? ' application' : '';
  return `hvdr ${protectionId} ${operationId}${level}`;
}

export function consistencyOfCheckpointName(name: string): Consistency {
  return CHECKPOINT_NAME.exec(name)?.[3] === undefined ? 'crash' : 'application';
}

export function tagOfCheckpointName(name: string): OwnerTag | undefined {
  const [, protection = '', operation = ''] = CHECKPOINT_NAME.exec(name) ?? [];
  return tagOf(protection, operation);
}

/** What a VM is called until everything of it is in place. */
export function unfinishedName({ operationId }: OwnerTag): string {
  return `hvdr unfinished ${operationId}`;
}

export function isUnfinishedName(name: string): boolean {
  return BUILDING_NAME.test(name);
}

export function operationOfUnfinishedName(name: string): Guid | undefined {
  return guidOf(BUILDING_NAME.exec(name)?.[1]);
}

/** A VM with its notes. */
export interface Noted {
  readonly id: Guid;
  readonly notes: string;
}

/** A VM that we registered, and the files that it was registered over, in the order of its disks. */
export interface VmMark {
  readonly tag: OwnerTag;
  readonly diskPaths: readonly string[];
  /** Until everything of it is in place; whoever gives it another name before does not make it whole. */
  readonly isUnfinished?: boolean | undefined;
}

/** A fence, and what the VM had before it. */
export interface FenceMark extends Fence {
  readonly startAction: string;
  readonly connections: readonly { readonly adapterId: Guid; readonly switchId: string }[];
}

export function vmMarkOf(vm: Noted): VmMark | undefined {
  const value = lineOf(vm.notes, TAG_LINE);
  const tag = tagOf(value?.['protectionId'], value?.['operationId']);
  const diskPaths = textsOf(value?.['diskPaths']);
  if (guidOf(value?.['vmId']) !== vm.id) return undefined;
  const isUnfinished = value?.['isUnfinished'] === true;
  return tag && diskPaths && { tag, diskPaths, isUnfinished };
}

export function notesWithVmMark({ id, notes }: Noted, mark: VmMark | undefined): string {
  if (mark === undefined) return withLine(notes, TAG_LINE, undefined);
  const { tag, diskPaths, isUnfinished = false } = mark;
  const fields = { vmId: id, ...tag, diskPaths, ...(isUnfinished && { isUnfinished }) };
  return withLine(notes, TAG_LINE, fields);
}

export function fenceMarkOf({ id, notes }: Noted): FenceMark | undefined {
  const read = fenceOf(notes);
  return read?.vmId === id ? read.mark : undefined;
}

function fenceOf(notes: string): { readonly vmId: Guid; readonly mark: FenceMark } | undefined {
  const value = lineOf(notes, FENCE_LINE);
  const vmId = guidOf(value?.['vmId']);
  const tag = tagOf(value?.['protectionId'], value?.['operationId']);
  const { epoch, startAction, connections } = value ?? {};
  if (vmId === undefined || tag === undefined) return undefined;
  if (typeof epoch !== 'string' || !/^\d{1,20}$/.test(epoch)) return undefined;
  if (typeof startAction !== 'string' || !Array.isArray(connections)) return undefined;
  const places = connections.flatMap((item: unknown) => {
    if (!isObject(item) || typeof item['switchId'] !== 'string') return [];
    const adapterId = guidOf(item['adapterId']);
    return adapterId === undefined ? [] : [{ adapterId, switchId: item['switchId'] }];
  });
  return { vmId, mark: { tag, epoch: BigInt(epoch), startAction, connections: places } };
}

/** A line of a fence that somebody has edited: what it said is not known, and that there is one is. */
export function hasBrokenFence({ notes }: Noted): boolean {
  const isThere = notes.split(/\r?\n/).some((line) => line.startsWith(FENCE_LINE.trimEnd()));
  return isThere && fenceOf(notes) === undefined;
}

export function notesWithFence({ id, notes }: Noted, mark: FenceMark | undefined): string {
  if (mark === undefined) return withLine(notes, FENCE_LINE, undefined);
  const { tag, epoch, startAction, connections } = mark;
  const fields = { vmId: id, ...tag, epoch: epoch.toString(), startAction, connections };
  return withLine(notes, FENCE_LINE, fields);
}

export function isSameTag(a: OwnerTag | undefined, b: OwnerTag): boolean {
  return a?.protectionId === b.protectionId && a.operationId === b.operationId;
}

type Json = Readonly<Record<string, unknown>>;

function lineOf(notes: string, mark: string): Json | undefined {
  const line = notes.split(/\r?\n/).find((each) => each.startsWith(mark));
  if (line === undefined) return undefined;
  try {
    const value: unknown = JSON.parse(line.slice(mark.length));
    return isObject(value) ? value : undefined;
  } catch {
    // a user's edit: no mark of ours any more
    return undefined;
  }
}

function withLine(notes: string, mark: string, fields: Json | undefined): string {
  const lines = notes === '' ? [] : notes.split('\n');
  const others = lines.filter((line) => !line.startsWith(mark.trimEnd()));
  if (fields !== undefined) others.push(`${mark}${JSON.stringify(fields)}`);
  return others.join('\n');
}

function tagOf(protection: unknown, operation: unknown): OwnerTag | undefined {
  const protectionId = guidOf(protection);
  const operationId = guidOf(operation);
  if (protectionId === undefined || operationId === undefined) return undefined;
  return { protectionId, operationId };
}

function guidOf(value: unknown): Guid | undefined {
  return typeof value === 'string' ? parseGuid(value) : undefined;
}

function textsOf(value: unknown): readonly string[] | undefined {
  if (!Array.isArray(value)) return undefined;
  const items: readonly unknown[] = value;
  return items.every((item) => typeof item === 'string') ? items : undefined;
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
