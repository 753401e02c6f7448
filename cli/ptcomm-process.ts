// The process of a backend of the Bacula plugin: stdin and stdout carry packets, stderr stays silent
// whatever happens, SIGUSR1 and the end of stdin cancel, and the process always ends (ptcomm.md § 3.5,
// 10-12).

import fs from 'node:fs';
import path from 'node:path';
import { releaseMemory } from '../shared/bytes/index.js';
import { systemClock, systemRandom } from '../shared/clock.js';
import { forbidCoreDumps, nodeFileSystem } from '../shared/files/index.js';
import { type Log, silentLog } from '../shared/log.js';
import { runBackend } from '../plugin-bridge/backend.js';
import { JOB_FUNCTIONS } from '../plugin-bridge/backend-jobs.js';
import { encodeHeader } from '../plugin-bridge/ptcomm/packet.js';
import { PipeInput } from '../plugin-bridge/ptcomm/pipe-input.js';
import { failureText } from '../plugin-bridge/ptcomm/session.js';
import { productVersion } from './product-version.js';
import { endWhenOverdue } from './overdue-cancel.js';
import { cancelJob, cancelSignal, takeSignals } from './early-cancel.js';

/** After T the plugin looks at stderr once more, and must find it open. */
const LINGER_MS = 200;
/** How long a last packet may take when the plugin does not read. */
const FLUSH_MS = 1000;

const EXIT_INTERNAL = 70;
const STDIN = 0;

/** Lines are added to `file`; undefined when it cannot be opened. */
function openLogFile(file: string): { write(line: string): void } | undefined {
  try {
    fs.mkdirSync(path.dirname(file), { recursive: true });
    const descriptor = fs.openSync(file, 'a', 0o600);
    return {
      write: (line) => {
        try {
          fs.writeSync(descriptor, line);
        } catch {
          // a full volume must not end a backup
        }
      },
    };
  } catch {
    return undefined;
  }
}

/** Nothing of the runtime may reach stderr: the plugin takes each byte for an error of the job. */
function silenceStderr(): void {
  process.removeAllListeners('warning');
  process.on('warning', () => undefined);
  process.stderr.write = () => true;
}

/** stdout first: when stderr closes before, the plugin floods the job's log. */
async function leave(exitCode: number): Promise<never> {
  const closed = new Promise<void>((resolve) => {
    process.stdout.end(() => {
      resolve();
    });
  });
  await Promise.race([closed, systemClock.sleep(FLUSH_MS)]);
  process.exit(exitCode);
}

/** The one of the job, once it is open: what is a bug of ours can be reported with it. */
let jobLog: Log = silentLog;

function noteFailure(error: unknown): void {
  const where = error instanceof Error ? error.stack?.split('\n').filter(isFrame) : undefined;
  jobLog.error('run.failed', { error, where });
}

/** The message stands in the error; a stack has it again. */
function isFrame(line: string): boolean {
  return /^\s+at /.test(line);
}

function leaveBroken(error: unknown): void {
  noteFailure(error);
  const text = Buffer.from(`${failureText(error)}\n`, 'utf8');
  process.stdout.write(Buffer.concat([encodeHeader('A', text.length), text]));
  void leave(EXIT_INTERNAL);
}

/** Serves the one job of this process and ends it. */
export async function standAsBackend(): Promise<never> {
  takeSignals();
  silenceStderr();
  process.removeAllListeners('uncaughtException');
  process.on('uncaughtException', leaveBroken);
  process.stdout.on('error', () => undefined);
  await forbidCoreDumps();

  void endWhenOverdue(cancelSignal, systemClock, () => {
    process.exit(0);
  });
  const { chunks, release } = standardInput();
  const end = await runBackend(
    {
      input: untilEnd(chunks, cancelJob),
      release,
      output: process.stdout,
      files: nodeFileSystem,
      clock: systemClock,
      random: systemRandom,
      environment: process.env,
      platform: process.platform,
      cancel: cancelSignal,
      openLogFile,
      takeLog: (log) => {
        jobLog = log;
      },
      programVersion: productVersion(),
    },
    JOB_FUNCTIONS,
  );
  if (end.error !== undefined && end.how !== 'gone') noteFailure(end.error);
  if (end.how === 'ended') {
    await Promise.race([end.inputEnded, systemClock.sleep(LINGER_MS)]);
  }
  return leave(end.how === 'broken' ? EXIT_INTERNAL : 0);
}

/** A pipe under the File Daemon; by hand it may be anything. */
function standardInput(): {
  readonly chunks: AsyncIterable<Uint8Array>;
  readonly release: (chunk: Buffer) => void;
} {
  try {
    const pipe = new PipeInput(STDIN);
    return {
      chunks: pipe,
      release: (chunk) => {
        pipe.release(chunk);
      },
    };
  } catch {
    return { chunks: process.stdin, release: releaseMemory };
  }
}

/** The input, and word of its end also while nobody reads packets. */
async function* untilEnd(
  chunks: AsyncIterable<Uint8Array>,
  ended: () => void,
): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of chunks) yield chunk;
  } finally {
    ended();
  }
}
