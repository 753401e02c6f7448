// The state of a protection as records of kind `state`, with which a journal begins that was written
// anew (docs/on-disk.md "Journal"). One record may not hold it all, so they are parts of one list of
// items, none of which is divided; they are written at once, so all of them are there or the file is
// damaged. Whatever a record leaves behind in Protection has to be here, or a rewrite forgets it.

import { defined } from '../../shared/assert.js';
import type { Guid } from '../../shared/bytes/index.js';
import { type FailoverRecord, ORDINARY, type Proof, type TestSession } from '../failover/model.js';
import { parseFailover, parseProof, parseTest } from '../failover/record.js';
import { parseWarningRecord, type WarningRecord } from '../warning/warning-record.js';
import type { HistoryState } from './commit-history.js';
import type { JournalMark } from './journal-read.js';
import type { CommitAnswer, Point } from './point.js';
import { asNumber, asText, Fields, Unusable } from './fields.js';
import {
  type DiskGeometry,
  parseContent,
  parseDisk,
  parseGeometry,
  parseGrid,
  parseSegmentKey,
  parseTransfer,
  type SegmentKey,
} from './records.js';
import type { Folding, Segment, StoredLayer } from './segments.js';

/** What there is one of. */
export interface StateHead {
  readonly vmName: string;
  readonly owner: string;
  readonly epoch: string;
  readonly isPaused: boolean;
  readonly haltReason: string | null;
  readonly haltEpoch: string | null;
  readonly isCompareDue: boolean;
  readonly maxRestorePoints: number;
  readonly rpoSeconds: number;
  readonly retentionGrid: string;
  readonly history: HistoryState | undefined;
  readonly warning: WarningRecord | undefined;
  readonly failover: FailoverRecord;
  readonly proof: Proof | undefined;
  /** Number of parts. */
  readonly parts: number;
}

/** A point; its definition by its place in the list of definitions. */
export type StatePoint = Omit<Point, 'definition'> & { readonly definition: number };

export interface StateAnswer extends CommitAnswer {
  readonly cycleId: Guid;
}

export interface StateSegment extends DiskGeometry, SegmentKey {
  readonly folding: Folding | undefined;
  readonly layerCount: number;
}

export interface StateRecord {
  readonly kind: 'state';
  /** Of the last record for which it stands. */
  readonly atMs: number;
  /** From 1. */
  readonly part: number;
  /** Of part 1: the last record for which it stands. */
  readonly before: JournalMark | null;
  /** Of part 1. */
  readonly head: StateHead | null;
  readonly definitions: readonly string[];
  readonly points: readonly StatePoint[];
  readonly segments: readonly StateSegment[];
  /** Of the segments in their order, each base first. */
  readonly layers: readonly StoredLayer[];
  readonly answers: readonly StateAnswer[];
  readonly tests: readonly TestSession[];
}

/** What the parts say together. */
export interface State {
  readonly head: Omit<StateHead, 'parts'>;
  /** The oldest first; the last one is the head. */
  readonly points: readonly Point[];
  readonly segments: readonly Segment[];
  readonly answers: readonly StateAnswer[];
  readonly tests: readonly TestSession[];
}

/** Half of what a record may hold: the longest item, a VM definition or a point, fits besides. */
const PART_BYTES = 512 * 1024;

interface Lists {
  readonly definitions: string[];
  readonly points: StatePoint[];
  readonly segments: StateSegment[];
  readonly layers: StoredLayer[];
  readonly answers: StateAnswer[];
  readonly tests: TestSession[];
}

function noLists(): Lists {
  return { definitions: [], points: [], segments: [], layers: [], answers: [], tests: [] };
}

/** Puts items into lists; a new set of lists is begun whenever one is full. */
class Packer {
  readonly parts: Lists[] = [];
  readonly #partBytes: number;
  #usedBytes = 0;

  constructor(partBytes: number) {
    this.#partBytes = partBytes;
    this.#begin();
  }

  /** The lists that have room for an item. */
  roomFor(item: unknown): Lists {
    const itemBytes = Buffer.byteLength(JSON.stringify(item));
    if (this.#usedBytes > 0 && this.#usedBytes + itemBytes > this.#partBytes) this.#begin();
    this.#usedBytes += itemBytes;
    return defined(this.parts.at(-1), 'there is a part');
  }

  #begin(): void {
    this.#usedBytes = 0;
    this.parts.push(noLists());
  }
}

/** The state as records, in the order in which they are appended, behind the record `before`. */
export function encodeState(
  { head, points, segments, answers, tests }: State,
  atMs: number,
  before: JournalMark,
  partBytes = PART_BYTES,
): StateRecord[] {
  const packer = new Packer(partBytes);
  const definitions = new Map<string, number>();
  for (const { definition } of points) {
    if (definitions.has(definition)) continue;
    definitions.set(definition, definitions.size);
    packer.roomFor(definition).definitions.push(definition);
  }
  for (const point of points) {
    const definition = defined(definitions.get(point.definition), 'each definition has a place');
    const item = { ...point, definition };
    packer.roomFor(item).points.push(item);
  }
  for (const { layers, ...segment } of segments) {
    const item = { ...segment, layerCount: layers.length };
    packer.roomFor(item).segments.push(item);
  }
  for (const layer of segments.flatMap(({ layers }) => layers)) {
    packer.roomFor(layer).layers.push(layer);
  }
  for (const answer of answers) packer.roomFor(answer).answers.push(answer);
  for (const test of tests) packer.roomFor(test).tests.push(test);
  const { parts } = packer;
  return parts.map((lists, index) => ({
    kind: 'state',
    atMs,
    part: index + 1,
    before: index === 0 ? before : null,
    head: index === 0 ? { ...head, parts: parts.length } : null,
    ...lists,
  }));
}

/** Takes the parts of a state, one after the other. */
export class StateParts {
  #head: StateHead | undefined;
  #part = 0;
  readonly #lists = noLists();

  /** Returns why the record cannot be the next part. */
  add(record: StateRecord): string | undefined {
    if (record.part !== this.#part + 1) return `part ${record.part} follows part ${this.#part}`;
    this.#part = record.part;
    this.#head ??= record.head ?? undefined;
    if (this.#head === undefined) return 'the state has no head';
    if (this.#part > this.#head.parts) return 'the state has more parts than it says';
    // one by one: a list may have more items than a call may have arguments
    for (const item of record.definitions) this.#lists.definitions.push(item);
    for (const item of record.points) this.#lists.points.push(item);
    for (const item of record.segments) this.#lists.segments.push(item);
    for (const item of record.layers) this.#lists.layers.push(item);
    for (const item of record.answers) this.#lists.answers.push(item);
    for (const item of record.tests) this.#lists.tests.push(item);
    return undefined;
  }

  get isComplete(): boolean {
    return this.#part === this.#head?.parts;
  }

  /** What the parts say together, or why they contradict each other. */
  state(): State | { readonly wrong: string } {
    if (this.#head === undefined || !this.isComplete)
      return { wrong: 'the state has not all parts' };
    const { definitions, layers, answers, tests } = this.#lists;
    const points: Point[] = [];
    for (const { definition: place, ...point } of this.#lists.points) {
      const definition = definitions[place];
      if (definition === undefined) return { wrong: `there is no definition ${place}` };
      points.push({ ...point, definition });
    }
    const segments: Segment[] = [];
    let position = 0;
    for (const { layerCount, ...segment } of this.#lists.segments) {
      segments.push({ ...segment, layers: layers.slice(position, position + layerCount) });
      position += layerCount;
    }
    if (position !== layers.length) return { wrong: `${layers.length} layers for ${position}` };
    return { head: this.#head, points, segments, answers, tests };
  }
}

/**
 * The record in a JSON value; undefined when it is of another kind; or why it cannot be used.
 */
export function parseStateRecord(
  value: unknown,
): StateRecord | { readonly wrong: string } | undefined {
  try {
    const fields = new Fields(value, 'the record');
    return fields.text('kind') === 'state' ? parseState(fields) : undefined;
  } catch (error) {
    if (error instanceof Unusable) return { wrong: error.message };
    throw error;
  }
}

function parseState(fields: Fields): StateRecord {
  const items = <T>(name: keyof Lists, parse: (item: Fields) => T): readonly T[] =>
    fields.list(name, (item) => parse(new Fields(item, `an item of "${name}"`)));
  return {
    kind: 'state',
    atMs: fields.number('atMs'),
    part: fields.number('part'),
    before: fields.has('before') ? parseMark(fields.object('before')) : null,
    head: fields.has('head') ? parseHead(fields.object('head')) : null,
    definitions: fields.list('definitions', asText),
    points: items('points', parsePoint),
    segments: items('segments', parseSegment),
    layers: items('layers', parseLayer),
    answers: items('answers', parseAnswer),
    // journals of releases before failover have none
    tests: fields.has('tests') ? items('tests', parseTest) : [],
  };
}

function parseMark(fields: Fields): JournalMark {
  return { sequence: fields.number('sequence'), chain: fields.text('chain') };
}

function parseHead(fields: Fields): StateHead {
  return {
    vmName: fields.text('vmName'),
    owner: fields.text('owner'),
    epoch: fields.epoch(),
    isPaused: fields.flag('isPaused'),
    haltReason: fields.textOrNull('haltReason'),
    haltEpoch: fields.has('haltEpoch') ? fields.epoch('haltEpoch') : null,
    isCompareDue: fields.flag('isCompareDue'),
    maxRestorePoints: fields.number('maxRestorePoints'),
    rpoSeconds: fields.number('rpoSeconds'),
    retentionGrid: parseGrid(fields),
    history: fields.has('history') ? parseHistory(fields.object('history')) : undefined,
    warning: fields.has('warning') ? parseWarningRecord(fields.object('warning')) : undefined,
    // journals of releases before failover have neither
    failover: fields.has('failover') ? parseFailover(fields.object('failover')) : ORDINARY,
    proof: fields.has('proof') ? parseProof(fields.object('proof')) : undefined,
    parts: fields.number('parts'),
  };
}

function parseHistory(fields: Fields): HistoryState {
  return {
    intervalsMs: fields.list('intervalsMs', asNumber),
    violatedDays: fields.list('violatedDays', (item) => {
      const day = new Fields(item, 'a day');
      return { day: day.number('day'), violatedMs: day.number('violatedMs') };
    }),
    lastAtMs: fields.number('lastAtMs'),
    rpoMs: fields.number('rpoMs'),
  };
}

function parsePoint(fields: Fields): StatePoint {
  return {
    pointId: fields.guid('pointId'),
    parentPointId: fields.has('parentPointId') ? fields.guid('parentPointId') : undefined,
    cycleId: fields.guid('cycleId'),
    cycleKind: fields.text('cycleKind'),
    committedAtMs: fields.number('committedAtMs'),
    consistentAtMs: fields.number('consistentAtMs'),
    isApplicationConsistent: fields.flag('isApplicationConsistent'),
    disks: fields.list('disks', parseDisk),
    definition: fields.number('definition'),
    pinReason: fields.has('pinReason') ? fields.text('pinReason') : undefined,
    isPinAutomatic: fields.has('isPinAutomatic') && fields.flag('isPinAutomatic'),
    isDoubtful: fields.has('isDoubtful') && fields.flag('isDoubtful'),
    isFinal: fields.has('isFinal') && fields.flag('isFinal'),
    verifiedAtMs: fields.number('verifiedAtMs'),
    damage: fields.has('damage') ? fields.text('damage') : undefined,
  };
}

function parseSegment(fields: Fields): StateSegment {
  return {
    ...parseGeometry(fields),
    ...parseSegmentKey(fields),
    folding: fields.has('folding') ? parseFolding(fields.object('folding')) : undefined,
    layerCount: fields.number('layerCount'),
  };
}

function parseFolding(fields: Fields): Folding {
  return { pointId: fields.guid('pointId'), ...parseContent(fields) };
}

function parseLayer(fields: Fields): StoredLayer {
  return {
    pointId: fields.guid('pointId'),
    cycleId: fields.guid('cycleId'),
    transfer: parseTransfer(fields),
    ...parseContent(fields),
  };
}

function parseAnswer(fields: Fields): StateAnswer {
  return {
    cycleId: fields.guid('cycleId'),
    pointId: fields.guid('pointId'),
    committedAtMs: fields.number('committedAtMs'),
    pointCount: fields.number('pointCount'),
    warnings: fields.list('warnings', asText),
    hasRaisedAlarm: fields.has('hasRaisedAlarm') && fields.flag('hasRaisedAlarm'),
  };
}
