// The command line's two streams. stdout carries the answer and nothing else: text for people, one
// JSON document (or one JSON line per event) with --json, or raw bytes. stderr carries progress,
// notes and errors. Writes to stdout are strictly in the order of the calls.

import { assert } from '../shared/assert.js';
import { DrError } from '../shared/errors.js';
import { errorDocument, type JsonObject, toJson } from '../shared/json.js';

/** Standard streams as seen by Output; the real ones are in standard-streams.ts. */
export interface StandardStreams {
  /** Settles when the bytes are handed to the system; the buffer is then the caller's again. */
  writeOut(chunk: Uint8Array): Promise<void>;
  writeError(text: string): void;
  readonly errorIsTerminal: boolean;
  /** Width of the terminal on stderr. */
  readonly errorColumns: number;
}

/** Whoever read our stdout has gone (EPIPE). The run ends without a word. */
export class OutputClosed extends Error {
  override readonly name = 'OutputClosed';
}

/** One line of a long run with --json. */
export interface JsonEvent extends JsonObject {
  readonly event: string;
}

export type LogLevel = 'error' | 'warn' | 'info' | 'debug';

/**
 * C0 and C1 but for tab and line end, and the marks that turn the direction of writing. Names and
 * messages come from the other side, and must not steer the terminal.
 */
const STEERING = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

function harmless(text: string): string {
  return text.replace(
    STEERING,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

export class Output {
  /** Set from the command line before a command runs. */
  json = false;
  logLevel: LogLevel = 'info';
  /** Exit code of a run that ends without an error, for example 1 when a check found something. */
  exitCode = 0;

  #tail: Promise<void> = Promise.resolve();
  #failure: unknown;
  #form: 'nothing' | 'document' | 'events' | 'raw' = 'nothing';

  readonly #streams: StandardStreams;

  constructor(streams: StandardStreams) {
    this.#streams = streams;
  }

  get errorIsTerminal(): boolean {
    return this.#streams.errorIsTerminal;
  }

  get errorColumns(): number {
    return this.#streams.errorColumns;
  }

  /**
   * The answer of a command: with --json `document`, else the lines of `text()`. Once per run;
   * after event() it becomes the last line, with `"event":"result"`.
   */
  result(document: JsonObject, text: () => string): void {
    assert(this.#form === 'nothing' || this.#form === 'events', 'a run has one result');
    if (!this.json) {
      const answer = harmless(text());
      if (answer !== '') this.#queue(Buffer.from(answer.endsWith('\n') ? answer : `${answer}\n`));
    } else if (this.#form === 'events') {
      this.#queue(Buffer.from(`${toJson({ event: 'result', ...document })}\n`));
    } else {
      this.#queue(Buffer.from(`${toJson(document, 2)}\n`));
    }
    this.#form = 'document';
  }

  /** Says that this run answers in events, also when it fails before the first of them. */
  expectEvents(): void {
    if (this.#form === 'nothing') this.#form = 'events';
  }

  /** One step of a long run: a JSON line with --json, else the line of `text()`. */
  event(document: JsonEvent, text: () => string): void {
    assert(this.#form === 'nothing' || this.#form === 'events', 'events come before the result');
    this.#form = 'events';
    this.#queue(Buffer.from(this.json ? `${toJson(document)}\n` : `${harmless(text())}\n`));
  }

  /**
   * Raw bytes to stdout, for commands that stream a disk. Waits for a slow reader. The buffer may
   * be reused once the promise settled.
   * @throws OutputClosed, DrError E_IO
   */
  async bytes(chunk: Uint8Array): Promise<void> {
    assert(this.#form === 'nothing' || this.#form === 'raw', 'raw bytes do not mix with text');
    this.#form = 'raw';
    this.#queue(chunk);
    await this.flush();
  }

  /** Text that is neither result nor event: help and version. */
  plain(text: string): void {
    this.#queue(Buffer.from(text));
  }

  /** A line for people on stderr. */
  note(line: string): void {
    this.#streams.writeError(`${harmless(line)}\n`);
  }

  /** Text to stderr without a line end, for the progress bar. */
  noteRaw(text: string): void {
    this.#streams.writeError(text);
  }

  /** Reports a failed run: one line on stderr, with --json also a document on stdout. */
  failure(error: DrError): void {
    this.note(error.line.replace(/\s*\n\s*/g, ' '));
    if (this.logLevel === 'debug') this.note(stackOf(error));
    if (!this.json || this.#form === 'document' || this.#form === 'raw') return;
    const document = errorDocument(error);
    this.#queue(
      Buffer.from(
        this.#form === 'events'
          ? `${toJson({ event: 'result', ...document })}\n`
          : `${toJson(document, 2)}\n`,
      ),
    );
    this.#form = 'document';
  }

  /** Settles when everything so far was handed to the system. @throws OutputClosed, DrError E_IO */
  async flush(): Promise<void> {
    await this.#tail;
    if (this.#failure === undefined) return;
    if (this.#failure instanceof OutputClosed) throw this.#failure;
    throw new DrError('E_IO', 'standard output cannot be written', { cause: this.#failure });
  }

  #queue(chunk: Uint8Array): void {
    this.#tail = this.#tail.then(async () => {
      if (this.#failure !== undefined) return;
      try {
        await this.#streams.writeOut(chunk);
      } catch (error) {
        this.#failure = error;
      }
    });
  }
}

function stackOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const stack = error.stack ?? error.message;
  return error.cause === undefined ? stack : `${stack}\ncaused by ${stackOf(error.cause)}`;
}
