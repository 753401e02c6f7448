// Running the steps of a set-up or a test run: a line when a step begins, one every few seconds
// while it works, one when it ends. Everything goes to stderr; stdout belongs to the command.

import { spawn } from 'node:child_process';

const LINE_EVERY_MS = 5000;
const TERMINAL_EVERY_MS = 1000;
const TAIL_BYTES = 64 * 1024;

/** A failure that the user can act on: printed without a stack. */
export class SetUpError extends Error {
  constructor(message, remedy) {
    super(message);
    this.name = 'SetUpError';
    this.remedy = remedy;
  }
}

export function note(line) {
  process.stderr.write(`hvdr: ${line}\n`);
}

const seconds = (startedAt) => ((performance.now() - startedAt) / 1000).toFixed(1);

/** Runs `work` and reports its beginning, its time and its end. */
export async function step(label, work) {
  const startedAt = performance.now();
  const isTerminal = process.stderr.isTTY === true;
  note(`${label} …`);
  const timer = setInterval(
    () => {
      const line = `hvdr: ${label}, ${((performance.now() - startedAt) / 1000).toFixed(0)} s`;
      process.stderr.write(isTerminal ? `\r${line}` : `${line}\n`);
    },
    isTerminal ? TERMINAL_EVERY_MS : LINE_EVERY_MS,
  );
  const finish = (state) => {
    clearInterval(timer);
    if (isTerminal) process.stderr.write('\r\u001b[K');
    note(`${label}: ${state} in ${seconds(startedAt)} s`);
  };
  try {
    const result = await work();
    finish('done');
    return result;
  } catch (error) {
    finish('failed');
    throw error;
  }
}

const running = new Set();
let hasHandlers = false;

/** A signal to us reaches the children first; then we end as the signal says. */
function passSignalsOn() {
  if (hasHandlers) return;
  hasHandlers = true;
  for (const [signal, number] of [
    ['SIGINT', 2],
    ['SIGTERM', 15],
    ['SIGHUP', 1],
  ]) {
    process.on(signal, () => {
      if (running.size === 0) process.exit(128 + number);
      for (const child of running) child.kill(signal);
      // the steps fail as their children end; that failure ends us
      process.exitCode = 128 + number;
    });
  }
}

/**
 * Runs a program to its end. Returns { code, signal, output }; output is the tail of both streams
 * unless `inherit` lets them through to ours.
 */
export function runProgram(file, args, options = {}) {
  passSignalsOn();
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, {
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
      shell: options.shell ?? false,
      stdio: options.inherit ? 'inherit' : ['ignore', 'pipe', 'pipe'],
    });
    running.add(child);
    if (child.pid !== undefined) options.onStart?.(child.pid);
    let output = '';
    const collect = (chunk) => {
      output = (output + chunk).slice(-TAIL_BYTES);
    };
    child.stdout?.setEncoding('utf8').on('data', collect);
    child.stderr?.setEncoding('utf8').on('data', collect);
    child.on('error', (error) => {
      running.delete(child);
      reject(error);
    });
    child.on('close', (code, signal) => {
      running.delete(child);
      options.onEnd?.();
      resolve({ code, signal, output });
    });
  });
}
