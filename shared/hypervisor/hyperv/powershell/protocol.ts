// What goes over the pipes of a host process: one message a line, base64 of UTF-8 JSON both ways, so that
// neither code pages nor line ends inside of values can hurt (hyperv.md § 6).
//
//   host → us   {hello: 'hvdr-powershell', version}                    once, when it can take requests
//   us → host   {id, op, args}
//   host → us   {id, ok: true, result} or {id, ok: false, error}
//
// Whatever else arrives is babble: the host that wrote it is not trusted with another request.

import { DrError } from '../../../errors.js';
import type { JsonFields } from '../../../files/index.js';
import { Fields } from '../../fields.js';
import type { Arguments } from './operation.js';

/** Of the scripts that belong to this program; host.ps1 says the same. */
export const SCRIPT_VERSION = 1;
const HELLO = 'hvdr-powershell';

/** A request holds paths and numbers; an answer the changed ranges of one window of a disk. */
export const REQUEST_CHARACTERS_MAX = 1024 * 1024;
export const ANSWER_CHARACTERS_MAX = 64 * 1024 * 1024;

/** A host said something that the protocol does not know. */
export class Babble extends Error {}

/** What a script says about its failure. */
export interface HostFailure {
  readonly message: string;
  /** Of the ErrorRecord: `ObjectNotFound`, `PermissionDenied` … */
  readonly category: string;
  /** FullyQualifiedErrorId. */
  readonly fqid: string;
  readonly hresult: number;
  /** Of a CimException: its NativeErrorCode, as `AccessDenied`; else empty. */
  readonly cimStatus: string;
}

export type Answer =
  | { readonly id: number; readonly result: JsonFields }
  | { readonly id: number; readonly failure: HostFailure };

export function encodeRequest(id: number, op: string, args: Arguments): string {
  return encodeLine({ id, op, args });
}

function encodeLine(message: object): string {
  return `${Buffer.from(JSON.stringify(message), 'utf8').toString('base64')}\n`;
}

/** The greeting of a host: throws Babble when it is none, or that of other scripts. */
export function checkHello(line: string): void {
  const fields = fieldsOf(line);
  if (fields.string('hello', 64) !== HELLO)
    throw new Babble('its greeting is that of another program');
  const version = fields.whole('version');
  if (version !== SCRIPT_VERSION) {
    throw new Babble(`its scripts are version ${version}, this program needs ${SCRIPT_VERSION}`);
  }
}

/** @throws Babble */
export function decodeAnswer(line: string): Answer {
  const message = decodeLine(line);
  const fields = new Fields(message, babble);
  const id = fields.whole('id');
  if (fields.boolean('ok')) {
    fields.object('result', () => undefined);
    return { id, result: message['result'] as JsonFields };
  }
  return {
    id,
    failure: fields.object('error', (error) => ({
      message: error.string('message', 64 * 1024),
      category: error.string('category', 256),
      fqid: error.string('fqid', 1024),
      hresult: error.whole('hresult', 0, 0xffff_ffff),
      cimStatus: error.optionalString('cimStatus') ?? '',
    })),
  };
}

function fieldsOf(line: string): Fields {
  return new Fields(decodeLine(line), babble);
}

function decodeLine(line: string): JsonFields {
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(line)) throw new Babble('a line is not base64');
  let message: unknown;
  try {
    message = JSON.parse(Buffer.from(line, 'base64').toString('utf8'));
  } catch {
    throw new Babble('a line holds no JSON');
  }
  if (typeof message !== 'object' || message === null || Array.isArray(message)) {
    throw new Babble('a line holds no JSON object');
  }
  return message as JsonFields;
}

/** Fields throws what it is given; the caller only ever sees Babble. */
function babble(field: string, wanted: string): never {
  throw new Babble(`${field} of a message is not ${wanted}`);
}

/** Cuts what arrives into lines; refuses one that is longer than any answer may be. */
export class LineCutter {
  readonly #lengthMax: number;
  #parts: string[] = [];
  #length = 0;

  constructor(lengthMax = ANSWER_CHARACTERS_MAX) {
    this.#lengthMax = lengthMax;
  }

  /** Whole lines, without their ends. @throws Babble */
  push(text: string): string[] {
    const lines: string[] = [];
    let from = 0;
    for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n', from)) {
      this.#take(text.slice(from, end));
      lines.push(this.#parts.join('').replace(/\r$/, ''));
      this.#parts = [];
      this.#length = 0;
      from = end + 1;
    }
    this.#take(text.slice(from));
    return lines;
  }

  #take(part: string): void {
    this.#length += part.length;
    if (this.#length > this.#lengthMax) {
      throw new Babble(`a line is longer than ${this.#lengthMax} characters`);
    }
    if (part !== '') this.#parts.push(part);
  }
}

const isMissing = ({ category, fqid }: HostFailure): boolean =>
  (category === 'ObjectNotFound' && !fqid.startsWith('CommandNotFoundException')) ||
  fqid.startsWith('ObjectNotFound,') ||
  fqid === 'InvalidParameter,Microsoft.HyperV.PowerShell.Commands.GetVM';

/** The error of an operation that a script refused or failed in. */
export function failureError(op: string, failure: HostFailure): DrError {
  const { message, category, fqid, hresult, cimStatus } = failure;
  const code = isMissing(failure) ? 'E_NOT_FOUND' : 'E_HYPERVISOR';
  const isModuleMissing = fqid.startsWith('CommandNotFoundException');
  return new DrError(code, `Hyper-V: ${op}: ${message}`, {
    context: {
      ...{ op, category, fqid, hresult: `0x${hresult.toString(16).padStart(8, '0')}` },
      ...(cimStatus === '' ? {} : { cimStatus }),
    },
    done: 'what was begun by it is looked at again by the next run',
    ...(isModuleMissing ? { hint: 'Install the Hyper-V module for Windows PowerShell.' } : {}),
    ...(code === 'E_NOT_FOUND'
      ? { hint: 'Look with `Get-VM` whether it still exists on this host.' }
      : {}),
  });
}
