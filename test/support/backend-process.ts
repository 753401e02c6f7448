// The backend as a file daemon starts it, and one job of it from greeting to end.

import { type ChildProcess, type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { checkoutFolder } from './checkout.js';
import { PtcommPeer, type TakenFile } from './ptcomm-peer.js';

export interface BackendProcess {
  readonly child: ChildProcess;
  readonly peer: PtcommPeer;
  readonly stderr: () => string;
  readonly exit: Promise<readonly [code: number | null, signal: string | null]>;
}

export function startBackend(
  conf: string,
  environment: Readonly<Record<string, string>> = {},
): BackendProcess {
  const child = spawn(join(checkoutFolder, 'bin', 'podheitor-hyperv-backend'), [], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, HVDR_BACKEND_CONF: conf, NODE_OPTIONS: '', ...environment },
  });
  return backendOf(child);
}

/** A backend that was started, with somebody to talk to it. */
export function backendOf(child: ChildProcessWithoutNullStreams): BackendProcess {
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const peer = new PtcommPeer({ toBackend: child.stdin, fromBackend: child.stdout });
  const exit = once(child, 'close') as Promise<[number | null, string | null]>;
  return { child, peer, stderr: () => stderr, exit };
}

/** What Bacula would make of a job. */
export interface BackendJob {
  readonly colour: 'green' | 'warned' | 'red' | 'cancelled';
  /** Why it is red. */
  readonly failure: string;
  readonly files: readonly TakenFile[];
  /** `I text`, `W text`, `Q text`, in their order. */
  readonly messages: readonly string[];
  readonly exitCode: number | null;
  readonly stderr: string;
}

export interface BackendJobWishes {
  readonly name?: string;
  readonly level?: 'F' | 'I' | 'D';
  /** Starts the backend in another way than startBackend(). */
  readonly start?: (conf: string) => BackendProcess;
  /** Called once the loop has begun. */
  readonly during?: (backend: BackendProcess) => Promise<void>;
}

/** A job while it runs. */
export interface RunningBackendJob {
  readonly backend: BackendProcess;
  readonly ended: Promise<BackendJob>;
}

/** One job of type backup. */
export function beginBackendJob(
  conf: string,
  parameters: readonly string[],
  wishes: BackendJobWishes = {},
): RunningBackendJob {
  const backend = (wishes.start ?? startBackend)(conf);
  return { backend, ended: toItsEnd(backend, parameters, wishes) };
}

async function toItsEnd(
  backend: BackendProcess,
  parameters: readonly string[],
  wishes: BackendJobWishes,
): Promise<BackendJob> {
  const { peer, exit, stderr } = backend;
  const { name = 'push.2026-11-26_20.00.00_01', level = 'F', during } = wishes;
  const files: TakenFile[] = [];
  let failure: string | undefined;
  await peer.hello();
  for (const [title, lines] of [
    ['Job', [`Name=${name}`, 'JobID=7', 'Type=B', `Level=${level}`, 'Namespace=@hyperv']],
    ['Params', parameters],
  ] as const) {
    await peer.block(title, lines);
    const [letter = '', ...text] = (await peer.answer()).split(' ');
    if (letter !== 'F') failure ??= text.join(' ');
  }
  if (failure === undefined) {
    await peer.start('BackupStart');
    const acting = during?.(backend);
    // nobody would end the job then
    acting?.catch(() => backend.child.kill('SIGKILL'));
    failure = await takeLoop(peer, files);
    await acting;
  }
  const isGone = failure === 'the end';
  if (!isGone) await peer.end();
  peer.close();
  await peer.untilEnd();
  const [exitCode] = await exit;
  const isWarned = peer.messages.some((message) => message.startsWith('Q'));
  const ended = failure === undefined ? (isWarned ? 'warned' : 'green') : 'red';
  return {
    colour: isGone ? 'cancelled' : ended,
    failure: failure ?? '',
    files,
    messages: peer.messages,
    exitCode,
    stderr: stderr(),
  };
}

/** undefined: the lone F; otherwise what stands in the A, or `the end` of the pipe. */
async function takeLoop(peer: PtcommPeer, files: TakenFile[]): Promise<string | undefined> {
  try {
    for (;;) {
      const item = await peer.takeItem();
      if (item === undefined) return undefined;
      if (item.is === 'file') files.push(item);
    }
  } catch (error) {
    const text = error instanceof Error ? error.message : '';
    if (text.startsWith('A ')) return text.replace(/^A /, '').replace(/ at an item$/, '');
    if (text.includes('the end')) return 'the end';
    throw error;
  }
}
