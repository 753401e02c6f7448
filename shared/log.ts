// The log: one JSON object a line (pino), readable text on a terminal. A line is an event out of
// log-events.ts with fields; whoever logs in a component holds a child that carries what its lines
// belong to. Every value passes log-redaction.ts first.
//
//   error   someone must act          info    a line that a person reads next morning
//   warn    degraded, we go on        debug   for us
//
// The packages are loaded when a log is opened, so that a command that logs nothing starts fast.

import type { Clock } from './clock.js';
import type { LogEvent } from './log-events.js';
import { Redactor } from './log-redaction.js';

export type LogLevel = 'error' | 'warn' | 'info' | 'debug';

export type LogFields = Readonly<Record<string, unknown>>;

/** What the lines of a child belong to. */
export interface LogBinding {
  readonly component?: string;
  readonly vmId?: string;
  readonly diskId?: string;
  readonly cycleId?: string;
  readonly epoch?: bigint;
}

export interface Log {
  error(event: LogEvent, fields?: LogFields): void;
  warn(event: LogEvent, fields?: LogFields): void;
  info(event: LogEvent, fields?: LogFields): void;
  debug(event: LogEvent, fields?: LogFields): void;
  child(binding: LogBinding): Log;
  /** Keeps a secret out of all lines of this log and its relatives from now on. */
  hide(secret: string | Uint8Array): void;
}

export interface LogOptions {
  /** Where whole lines go. */
  readonly destination: { write(line: string): unknown };
  readonly level: LogLevel;
  readonly clock: Clock;
  /** Readable text instead of JSON. Default false. */
  readonly isTerminal?: boolean;
}

interface LineWriter {
  isLevelEnabled(level: string): boolean;
  child(binding: object): LineWriter;
  error(fields: object, event: string): void;
  warn(fields: object, event: string): void;
  info(fields: object, event: string): void;
  debug(fields: object, event: string): void;
}

/** Opens a log. Lines are handed to the destination at once and in order. */
export async function openLog(options: LogOptions): Promise<Log> {
  const { default: pino } = await import('pino');
  const { clock } = options;
  const write = options.isTerminal === true ? await readable(options.destination) : undefined;
  const writer = pino(
    {
      level: options.level,
      base: null,
      messageKey: 'event',
      timestamp: () => `,"time":"${new Date(clock.now()).toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
    },
    {
      write: (line: string): void => {
        if (write === undefined) options.destination.write(line);
        else write(line);
      },
    },
  );
  return new RedactingLog(writer, new Redactor());
}

async function readable(destination: LogOptions['destination']): Promise<(line: string) => void> {
  const { default: pretty } = await import('pino-pretty');
  const format = pretty.prettyFactory({
    colorize: true,
    messageKey: 'event',
    translateTime: 'SYS:HH:MM:ss',
    singleLine: true,
    errorLikeObjectKeys: [],
  });
  return (line) => {
    destination.write(format(line));
  };
}

/** A log that goes nowhere, for callers that were given none. */
export const silentLog: Log = {
  error: () => undefined,
  warn: () => undefined,
  info: () => undefined,
  debug: () => undefined,
  child: () => silentLog,
  hide: () => undefined,
};

class RedactingLog implements Log {
  readonly #writer: LineWriter;
  readonly #redactor: Redactor;

  constructor(writer: LineWriter, redactor: Redactor) {
    this.#writer = writer;
    this.#redactor = redactor;
  }

  error(event: LogEvent, fields?: LogFields): void {
    this.#line('error', event, fields);
  }

  warn(event: LogEvent, fields?: LogFields): void {
    this.#line('warn', event, fields);
  }

  info(event: LogEvent, fields?: LogFields): void {
    this.#line('info', event, fields);
  }

  debug(event: LogEvent, fields?: LogFields): void {
    this.#line('debug', event, fields);
  }

  child(binding: LogBinding): Log {
    const fields = this.#redactor.fields({ ...binding });
    return new RedactingLog(this.#writer.child(fields), this.#redactor);
  }

  hide(secret: string | Uint8Array): void {
    this.#redactor.hide(secret);
  }

  #line(level: LogLevel, event: LogEvent, fields: LogFields = {}): void {
    if (!this.#writer.isLevelEnabled(level)) return;
    this.#writer[level](this.#redactor.fields(fields), this.#redactor.text(event));
  }
}
