// The report of a drill: what was started, from which point, how long it took, which checks it passed.
// Its canonical JSON is signed with the key of the store (report-key.ts), so that an auditor sees that
// nobody changed it afterwards. docs/on-disk.md "Report of a drill" says what each field means.

import { createHash, type KeyObject, sign, verify } from 'node:crypto';
import { assert } from '../../../shared/assert.js';
import { DrError } from '../../../shared/errors.js';
import type { CheckResult } from './checks.js';
import { reportFault } from './report-shape.js';

export const REPORT_FORMAT = 'hvdr drill report';
export const REPORT_VERSION = 1;
export const REPORT_BYTES_MAX = 4 << 20;
const SIGNED_AS = `${REPORT_FORMAT}/${REPORT_VERSION}\0`;

/** All times are milliseconds since 1970 by the receiver's clock; all numbers are whole. */
export interface DrillReport {
  readonly format: typeof REPORT_FORMAT;
  readonly formatVersion: typeof REPORT_VERSION;
  /** Version of the program that made it. */
  readonly program: string;
  readonly kind: 'test' | 'planned' | 'unplanned';
  readonly verdict: 'passed' | 'failed';
  /** Why it failed although, or before, checks were made; absent when checks alone decided. */
  readonly problem?: string;
  readonly operationId: string;
  readonly storeId: string;
  readonly site: string;
  /** Principal that asked for it. */
  readonly by: string;
  readonly vm: {
    readonly id: string;
    readonly name: string;
    /** Name of the VM that came up. */
    readonly instanceName: string;
    readonly diskCount: number;
    readonly diskBytes: number;
  };
  readonly point: {
    readonly id: string;
    readonly consistentAtMs: number;
    readonly isApplicationConsistent: boolean;
    /** Of the point when the drill began: what would have been lost. */
    readonly ageMs: number;
  };
  readonly startedAtMs: number;
  readonly endedAtMs: number;
  /** From the start to the last check that passed; absent when it failed. */
  readonly recoveryTimeMs?: number;
  /** Target for the age of the newest point. */
  readonly rpoTargetMs: number;
  /** `switch` or `none`, and address before → address in the drill. */
  readonly network: {
    readonly testNetwork: string;
    readonly ipMap: Readonly<Record<string, string>>;
  };
  readonly checks: readonly CheckResult[];
  readonly timeline: readonly ReportStep[];
  readonly warnings: readonly string[];
}

export interface ReportStep {
  readonly atMs: number;
  /** `T1` … `T7`, as failover.md § 4 names them. */
  readonly step: string;
  readonly what: string;
}

export interface SignedReport {
  readonly report: DrillReport;
  readonly signature: ReportSignature;
}

export interface ReportSignature {
  readonly algorithm: 'Ed25519';
  /** keyIdOf(). */
  readonly keyId: string;
  /** The 32 bytes of the public key, base64. */
  readonly publicKey: string;
  /** The 64 bytes over the canonical JSON, base64. */
  readonly value: string;
}

type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

/**
 * The one text of a value: keys in the order of their code units, no blanks, whole numbers (RFC 8785,
 * as far as it concerns such values). Fields that are undefined are left out.
 */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(sorted(value));
}

function sorted(value: unknown): Json {
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return value;
  if (typeof value === 'number') {
    assert(Number.isSafeInteger(value), 'numbers in a canonical text are whole');
    return value;
  }
  if (Array.isArray(value)) return value.map(sorted);
  assert(typeof value === 'object', 'a canonical text holds JSON values only');
  const fields = Object.entries(value)
    .filter(([, item]) => item !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, item]) => [name, sorted(item)] as const);
  return Object.fromEntries(fields);
}

/** The raw 32 bytes of an Ed25519 public key. */
export function publicKeyBytes(publicKey: KeyObject): Buffer {
  const { x } = publicKey.export({ format: 'jwk' });
  assert(typeof x === 'string', 'an Ed25519 key has one coordinate');
  return Buffer.from(x, 'base64url');
}

/** Names a key for people: the first 16 hexadecimal digits of its SHA-256. */
export function keyIdOf(rawPublicKey: Uint8Array): string {
  return createHash('sha256').update(rawPublicKey).digest('hex').slice(0, 16);
}

function signedBytes(report: unknown): Buffer {
  return Buffer.from(SIGNED_AS + canonicalJson(report));
}

/** Signs a report with the key pair of the store. */
export function signReport(
  report: DrillReport,
  key: { readonly privateKey: KeyObject; readonly publicKey: KeyObject },
): SignedReport {
  const raw = publicKeyBytes(key.publicKey);
  const value = sign(null, signedBytes(report), key.privateKey).toString('base64');
  const named = { keyId: keyIdOf(raw), publicKey: raw.toString('base64') };
  return { report, signature: { algorithm: 'Ed25519', ...named, value } };
}

/**
 * Controls but for tab and line end, the marks that turn the direction of writing, and halves of
 * characters, which no file would give back. What a guest said may hold them.
 */
const STEERING =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069\p{Cs}]/gu;

/** With `\\u001b` and the like in place of what steers a display. */
export function withoutSteering(text: string): string {
  return text.replace(
    STEERING,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** The file of a signed report: readable JSON that holds exactly the signed values. */
export function reportText(signed: SignedReport): string {
  return `${withoutSteering(JSON.stringify(sorted(signed), undefined, 2))}\n`;
}

function refused(where: string, why: string, cause?: unknown): DrError {
  return new DrError('E_FILE_DAMAGED', `${where} is no report that can be trusted: ${why}`, {
    context: { path: where },
    done: 'nothing of it was believed',
    hint: 'Take the report from the folder `reports` of the store, where it was written first.',
    cause,
  });
}

/**
 * The report in a text, whose signature fits. That says who signed it only to the one who knows the
 * key: compare `signature.publicKey`.
 * @throws DrError E_FILE_DAMAGED, E_FILE_VERSION; `where` is for messages
 */
export function verifyReport(text: string, where: string): SignedReport {
  if (Buffer.byteLength(text) > REPORT_BYTES_MAX) throw refused(where, 'it is too long');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw refused(where, 'it is no JSON', error);
  }
  // A name that stands twice, or a number in another form, would be read otherwise by others.
  const withoutBlanks = text.replace(/("(?:[^"\\]|\\.)*")|\s+/g, '$1');
  if (withoutSteering(withoutBlanks) !== withoutSteering(JSON.stringify(value))) {
    throw refused(where, 'a name stands twice in it, or a value in an unusual form');
  }
  const { report, signature } = fieldsOf(value, where);
  checkHead(report, where);
  checkSignature(report, signature, where);
  const fault = reportFault(report);
  if (fault !== undefined) throw refused(where, `the field ${fault} is missing or not legal`);
  // every field was looked at
  return value as SignedReport;
}

function fieldsOf(
  value: unknown,
  where: string,
): { report: object; signature: Readonly<Record<string, unknown>> } {
  if (typeof value === 'object' && value !== null) {
    const { report, signature, ...others } = value as Record<string, unknown>;
    const isObject = (item: unknown): item is Record<string, unknown> =>
      typeof item === 'object' && item !== null && !Array.isArray(item);
    if (isObject(report) && isObject(signature) && Object.keys(others).length === 0) {
      return { report, signature };
    }
  }
  throw refused(where, 'it does not hold a report and its signature');
}

function checkHead(report: object, where: string): void {
  const { format, formatVersion } = report as Record<string, unknown>;
  if (format !== REPORT_FORMAT) throw refused(where, 'it is no report of a drill');
  if (formatVersion === REPORT_VERSION) return;
  throw new DrError(
    'E_FILE_VERSION',
    `${where} is a report of version ${String(formatVersion)}; this program knows ${REPORT_VERSION}`,
    { context: { path: where } },
  );
}

function checkSignature(
  report: object,
  signature: Readonly<Record<string, unknown>>,
  where: string,
): void {
  const { algorithm, keyId, publicKey, value, ...others } = signature;
  const raw = bytesOf(publicKey, 32);
  const signatureBytes = bytesOf(value, 64);
  if (
    algorithm !== 'Ed25519' ||
    raw === undefined ||
    signatureBytes === undefined ||
    keyId !== keyIdOf(raw) ||
    Object.keys(others).length > 0
  ) {
    throw refused(where, 'its signature has no legal form');
  }
  let message: Buffer;
  try {
    message = signedBytes(report);
  } catch (error) {
    throw refused(where, 'a number in it is not whole', error);
  }
  const isGood = verify(null, message, keyOfBytes(raw), signatureBytes);
  if (!isGood) throw refused(where, 'it was changed after it had been signed');
}

function bytesOf(text: unknown, lengthBytes: number): Buffer | undefined {
  if (typeof text !== 'string') return undefined;
  const bytes = Buffer.from(text, 'base64');
  return bytes.length === lengthBytes && bytes.toString('base64') === text ? bytes : undefined;
}

/** Head of an Ed25519 key in SubjectPublicKeyInfo (RFC 8410). */
const SPKI_HEAD = Buffer.from('302a300506032b6570032100', 'hex');

function keyOfBytes(raw: Uint8Array): { key: Buffer; format: 'der'; type: 'spki' } {
  return { key: Buffer.concat([SPKI_HEAD, raw]), format: 'der', type: 'spki' };
}
