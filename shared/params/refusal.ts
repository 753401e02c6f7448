// How a parameter is refused: key, value (only of known keys that are no secret), what is allowed.

import { DrError } from '../errors.js';
import { flagOf, PARAMETER_NAMES, type ParameterName, rowOf } from './table.js';
import { allowedOf } from './values.js';

/** How much of a value is shown. */
const SHOWN = 80;

/** The text of a value for messages; never that of a secret. */
export function shownValue(name: ParameterName, text: string): string {
  if (rowOf(name).isSecret === true) return 'its value';
  const short = text.length > SHOWN ? `${text.slice(0, SHOWN)}…` : text;
  // Control characters must not reach a terminal.
  const visible = Array.from(short, (char) => (char < ' ' || char === '\u007f' ? '?' : char));
  return `"${visible.join('')}"`;
}

export function badValue(name: ParameterName, text: string, why: string, place: string): DrError {
  return new DrError('E_PARAMETER', `${name}, ${place}: ${shownValue(name, text)} ${why}`, {
    context: { parameter: name, place },
    hint: `Allowed: ${allowedOf(rowOf(name))}.`,
  });
}

export function unknownKey(key: string, place: string): DrError {
  const shown = key.slice(0, SHOWN).replace(/[^\x20-\x7e]/g, '?');
  const near = nearest(key);
  const hint =
    near === undefined
      ? `Known are ${PARAMETER_NAMES.join(', ')}.`
      : `Did you mean ${near}? ${flagOf(near)} on the command line.`;
  return new DrError('E_PARAMETER', `${place}: there is no parameter "${shown}"`, {
    context: { place },
    hint,
  });
}

export function badSyntax(message: string, place: string, hint: string): DrError {
  return new DrError('E_PARAMETER', `${place}: ${message}`, { context: { place }, hint });
}

/** The parameter that was probably meant. */
function nearest(key: string): ParameterName | undefined {
  const wanted = key.toLowerCase().replaceAll('-', '_');
  if (wanted.length > 64) return undefined;
  const scored = PARAMETER_NAMES.map((name) => ({ name, distance: distance(wanted, name) }));
  const best = scored.reduce((one, other) => (other.distance < one.distance ? other : one));
  return best.distance <= Math.max(1, Math.floor(wanted.length / 3)) ? best.name : undefined;
}

/** Number of insertions, removals and replacements between two words. */
function distance(one: string, other: string): number {
  let row = Array.from({ length: other.length + 1 }, (_, index) => index);
  for (let i = 1; i <= one.length; i++) {
    const next = [i];
    for (let j = 1; j <= other.length; j++) {
      const same = one[i - 1] === other[j - 1] ? 0 : 1;
      next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, (row[j - 1] ?? 0) + same));
    }
    row = next;
  }
  return row[other.length] ?? 0;
}
