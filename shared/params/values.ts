// Text to value, by the kind of the row, and in words what is allowed. Pure.

import { splitOutsideQuotes } from './quoted.js';
import { BadValue, parseRate } from './rate.js';
import { parseRetentionGrid } from './retention-grid.js';
import { parseSchedule } from './schedule.js';
import type { ParameterRow, TextRow } from './table.js';

export type ParameterValue = string | number | boolean | readonly string[];

const TEXT_MAX = 4096;

const FORMS = {
  'network-map': 'pairs source=target separated by commas, each source once',
  'reip-rules':
    'rules vm:address/mask/gateway or vm[#nic]:source>target/prefix/gateway separated by commas',
  'retention-grid':
    'parts SPAN/STEP separated by commas, each a number with h, d or w, at most 1000 steps together',
  'bandwidth-schedule':
    'entries DAYS [HOURS]=RATE separated by commas, the first that fits holds: days *, mon or ' +
    'mon-fri, hours like 08-18 or 22-06, rates as of bandwidth',
} as const satisfies Record<NonNullable<TextRow['form']>, string>;

/** What a row allows, for messages and the documentation. */
export function allowedOf(row: ParameterRow): string {
  switch (row.kind) {
    case 'flag':
      return 'yes or no (also true/false, 1/0)';
    case 'whole':
      return `a whole number from ${row.min} to ${row.max}${row.unit === 's' ? ', in seconds' : ''}`;
    case 'rate':
      return '0, or bytes per second from 16K to 1024G with K, M or G (powers of 1024)';
    case 'choice':
      return `one of ${row.choices.join(', ')}`;
    case 'list':
      return 'patterns separated by commas';
    case 'text':
      return row.form === undefined ? 'a text that is not empty' : FORMS[row.form];
  }
}

export function parseValue(row: ParameterRow, text: string): ParameterValue | BadValue {
  if (text.length > TEXT_MAX) return new BadValue(`has more than ${TEXT_MAX} characters`);
  if (hasControl(text)) return new BadValue('holds control characters');
  switch (row.kind) {
    case 'flag':
      return parseFlag(text);
    case 'whole':
      return parseWhole(text, row.min, row.max);
    case 'rate':
      return parseRate(text);
    case 'choice':
      return row.choices.includes(text) ? text : new BadValue('is none of the choices');
    case 'list':
      return text
        .split(',')
        .map((part) => part.trim())
        .filter((part) => part !== '');
    case 'text':
      if (text.trim() === '') return new BadValue('is empty');
      return row.form === undefined ? text : parseForm(row.form, text);
  }
}

function hasControl(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code < 32 || code === 127) return true;
  }
  return false;
}

function parseFlag(text: string): boolean | BadValue {
  switch (text.toLowerCase()) {
    case 'yes':
    case 'true':
    case '1':
      return true;
    case 'no':
    case 'false':
    case '0':
      return false;
    default:
      return new BadValue('is neither yes nor no');
  }
}

function parseWhole(text: string, min: number, max: number): number | BadValue {
  if (!/^\d{1,15}$/.test(text)) return new BadValue('is not a whole number');
  const value = Number(text);
  return value < min || value > max ? new BadValue('is out of range') : value;
}

function parseForm(form: keyof typeof FORMS, text: string): string | BadValue {
  if (form === 'bandwidth-schedule') {
    const schedule = parseSchedule(text);
    return schedule instanceof BadValue ? schedule : text;
  }
  if (form === 'retention-grid') {
    const rules = parseRetentionGrid(text);
    return 'wrong' in rules ? new BadValue(rules.wrong) : text;
  }
  if (form === 'reip-rules') return parseReipForm(text);
  if (text.split('"').length % 2 === 0) return new BadValue('holds a quote that is not closed');
  const parts = splitOutsideQuotes(text, ',').map((part) => part.trim());
  const sources = new Set<string>();
  for (const part of parts) {
    const at = part.indexOf('=');
    const source = part.slice(0, Math.max(0, at)).trim().toLowerCase();
    if (source === '') return new BadValue('holds a pair without a source');
    if (sources.has(source)) return new BadValue('names one source twice');
    sources.add(source);
  }
  return text;
}

/** Whether it looks like rules; what each of them says is read by shared/network. */
function parseReipForm(text: string): string | BadValue {
  const parts = text.split(',').map((part) => part.trim());
  const bad = parts.find((part, index) => {
    if (part.includes('>') || /^[^:/]+:\s*dhcp\s*(;|$)/i.test(part)) return false;
    if (/^[^:/]+:[^/]+(\/[^/]+){1,2}$/.test(part)) return false;
    // a second address of `;dns=`, and what stands after it
    const isAddress = /^(?:[\d.]+|\[?[\da-f:.]+\]?)(?:;|$)/i.test(part);
    return !isAddress || !parts.slice(0, index).some((before) => /;\s*dns\s*=/i.test(before));
  });
  return bad === undefined ? text : new BadValue('holds a rule without address and mask');
}
