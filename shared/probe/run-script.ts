// Runs a script of the operator (find-script.ts says which file that is). No shell, a bare environment,
// JSON on standard input, bounded output, and an end: when its time is over, the script and what it
// started in its process group are killed.

import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';
import { StringDecoder } from 'node:string_decoder';
import type { Clock } from '../clock.js';

/** What a script is told on standard input, as JSON. */
export interface ScriptContext {
  readonly kind: 'test' | 'planned' | 'unplanned' | 'permanent' | 'undo' | 'failback';
  /** Name of the VM; absent for a script that a plan runs for no VM. */
  readonly vm?: string | undefined;
  readonly site: 'source' | 'target';
  /** Address before → address at this site. */
  readonly ipMap: Readonly<Record<string, string>>;
  readonly point?: string | undefined;
  readonly operationId: string;
}

export interface ScriptRun {
  /** Absolute, of a file that findScript() found. */
  readonly file: string;
  readonly args: readonly string[];
  readonly context: ScriptContext;
  readonly timeoutMs: number;
  readonly clock: Clock;
  /** Kills the script as its deadline does; the run then rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

export interface ScriptEnd {
  /** undefined: it did not end by itself, or could not be started. */
  readonly exitCode: number | undefined;
  readonly isTimedOut: boolean;
  /** The end of what it said on both of its outputs, or why it could not be started. */
  readonly output: string;
}

export type RunScript = (run: ScriptRun) => Promise<ScriptEnd>;

/** What of a script's output goes into messages and reports. */
export const MESSAGE_CHARACTERS_MAX = 2000;

/** A process that the script left running may hold its outputs open; nobody waits longer for that. */
const OUTPUT_GRACE_MS = 500;

/** A killed process ends at once, unless the system holds it. */
const KILL_WAIT_MS = 5000;

const POSIX_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export interface ScriptPlatform {
  readonly platform: NodeJS.Platform;
  /** Folder of Windows. */
  readonly systemRoot: string;
}

const thisPlatform: ScriptPlatform = {
  platform: process.platform,
  systemRoot: process.env['SystemRoot'] ?? 'C:\\Windows',
};

/** The program and arguments for a script: itself, or PowerShell for a `.ps1`. */
export function commandOf(
  file: string,
  args: readonly string[],
  { platform, systemRoot }: ScriptPlatform,
): { readonly program: string; readonly args: readonly string[] } {
  if (platform !== 'win32' || !/\.ps1$/i.test(file)) return { program: file, args };
  return {
    program: path.win32.join(systemRoot, 'System32', 'WindowsPowerShell', 'v1.0', 'powershell.exe'),
    args: [
      ...['-NoLogo', '-NoProfile', '-NonInteractive', '-ExecutionPolicy', 'Bypass', '-File'],
      file,
      ...args,
    ],
  };
}

/** Nothing of our own environment: it may hold keys. */
export function environmentOf({
  platform,
  systemRoot,
}: ScriptPlatform): Readonly<Record<string, string>> {
  if (platform !== 'win32') return { PATH: POSIX_PATH, LC_ALL: 'C.UTF-8' };
  return {
    SystemRoot: systemRoot,
    PATH: `${path.win32.join(systemRoot, 'System32')};${systemRoot}`,
  };
}

/** The last characters of a stream of bytes. */
class OutputTail {
  readonly #decoder = new StringDecoder('utf8');
  #text = '';

  add(bytes: Buffer): void {
    this.#text = (this.#text + this.#decoder.write(bytes)).slice(-MESSAGE_CHARACTERS_MAX);
  }

  get text(): string {
    return this.#text.trim();
  }
}

/** Rejects with the reason of the signal alone; whatever the script does is a ScriptEnd. */
export const runScript: RunScript = async (run) => {
  const { clock, signal } = run;
  signal?.throwIfAborted();
  const command = commandOf(run.file, run.args, thisPlatform);
  let child: ChildProcess;
  try {
    child = spawn(command.program, command.args, {
      cwd: path.dirname(run.file),
      env: { ...environmentOf(thisPlatform) },
      stdio: ['pipe', 'pipe', 'pipe'],
      shell: false,
      windowsHide: true,
      // a group of its own, which is killed as a whole
      detached: thisPlatform.platform !== 'win32',
    });
  } catch (error) {
    return notStarted(error);
  }
  const tail = new OutputTail();
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (bytes: Buffer) => {
      tail.add(bytes);
    });
  }
  child.stdin?.on('error', () => undefined); // it need not read its input
  child.stdin?.end(`${JSON.stringify(run.context)}\n`);

  const settled = new AbortController();
  const ended = endOf(child, clock);
  // looked at below; a failure to start must not count as unhandled meanwhile
  ended.catch(() => undefined);
  const whenOver = clock
    .sleep(run.timeoutMs, settled.signal)
    .then((): 'over' => 'over')
    .catch((): 'settled' => 'settled');
  const abort = (): void => {
    killGroup(child);
  };
  signal?.addEventListener('abort', abort, { once: true });
  try {
    const first = await Promise.race([ended, whenOver]);
    if (first === 'over') {
      killGroup(child);
      await Promise.race([ended, clock.sleep(KILL_WAIT_MS, settled.signal)]);
    }
    signal?.throwIfAborted();
    const isTimedOut = first === 'over';
    const exitCode = typeof first === 'number' ? first : undefined;
    return { exitCode, isTimedOut, output: tail.text };
  } catch (error) {
    if (signal?.aborted === true) throw error;
    return notStarted(error);
  } finally {
    signal?.removeEventListener('abort', abort);
    settled.abort();
  }
};

function notStarted(error: unknown): ScriptEnd {
  const text = error instanceof Error ? error.message : String(error);
  return { exitCode: undefined, isTimedOut: false, output: `it could not be started: ${text}` };
}

/** Exit code, or undefined when a signal ended it; rejects when it could not be started. */
function endOf(child: ChildProcess, clock: Clock): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => {
      resolve(code ?? undefined);
    });
    child.once('exit', (code) => {
      void clock.sleep(OUTPUT_GRACE_MS).then(() => {
        child.stdout?.destroy();
        child.stderr?.destroy();
        resolve(code ?? undefined);
      });
    });
  });
}

function killGroup(child: ChildProcess): void {
  const { pid } = child;
  if (pid === undefined) return;
  try {
    if (thisPlatform.platform === 'win32') child.kill('SIGKILL');
    else process.kill(-pid, 'SIGKILL');
  } catch {
    // it has ended meanwhile
  }
}
