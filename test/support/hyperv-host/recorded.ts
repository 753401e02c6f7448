// The documents that the fake host answers in. It fills in values; a field that a record does not have, or that is
// missing from an answer, is a mistake of the fake and fails the test, and so does an operation without a record.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { checkoutFolder } from '../checkout.js';

type Json = Readonly<Record<string, unknown>>;

interface Recorded {
  readonly source: string;
  readonly answer: Json;
}

const FILE = join(checkoutFolder, 'test', 'support', 'hyperv-host', 'recorded.json');
const RECORDS = JSON.parse(readFileSync(FILE, 'utf8')) as Readonly<Record<string, Recorded>>;

/** The answer, in the shape of the record. A value that Windows leaves out is null, as on the line. */
export function answerOf(operation: string, answer: Json): Json {
  const record = RECORDS[operation];
  if (record === undefined) throw new Error(`there is no recorded answer of ${operation}`);
  compare(operation, answer, record.answer);
  return answer;
}

function compare(place: string, value: unknown, recorded: unknown): void {
  if (value === null || recorded === null) return;
  if (Array.isArray(recorded)) {
    if (!Array.isArray(value)) throw new Error(`${place} is no list`);
    const items: readonly unknown[] = value;
    for (const item of items) compare(`${place}[]`, item, recorded[0]);
    return;
  }
  if (typeof recorded !== 'object') {
    if (typeof value === typeof recorded) return;
    throw new Error(`${place} is a ${typeof value}, recorded is a ${typeof recorded}`);
  }
  if (typeof value !== 'object') throw new Error(`${place} is no object`);
  const names = Object.keys(value).toSorted().join(', ');
  const wanted = Object.keys(recorded).toSorted().join(', ');
  if (names !== wanted) throw new Error(`${place} has ${names}; recorded are ${wanted}`);
  for (const [name, field] of Object.entries(recorded)) {
    compare(`${place}.${name}`, (value as Json)[name], field);
  }
}
