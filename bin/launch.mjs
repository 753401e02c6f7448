// Starts a program of the product under the pinned Node and stands for it: same arguments, same
// streams, same exit code or signal. Sets the checkout up first when it is missing or stale. This
// runs on every start, so the set-up's own code is loaded only when it has work.

import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { builtFolder, cacheFolder, hasSources, isReady, runtimePath } from './checkout.mjs';

const PASSED_ON = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'];

/** The Node to use, after a set-up where one was needed; undefined when that failed. */
async function prepare() {
  if (isReady()) {
    const runtime = runtimePath();
    if (runtime !== undefined) return runtime;
  }
  const { setUp } = await import('./set-up.mjs');
  const { note } = await import('./steps.mjs');
  try {
    return await setUp();
  } catch (error) {
    if (error.name !== 'SetUpError') throw error;
    note(`set-up failed: ${error.message}; ${error.remedy}`);
    return undefined;
  }
}

/** In a checkout, compiled code is kept beside the build: a quarter of the time of a start. */
function environment() {
  if (!hasSources() || process.env.NODE_COMPILE_CACHE !== undefined) return process.env;
  return { ...process.env, NODE_COMPILE_CACHE: join(cacheFolder, 'compiled') };
}

/** Runs `program` (a path below dist) and ends this process as it ended. */
export async function launch(program, args) {
  const runtime = await prepare();
  if (runtime === undefined) {
    process.exitCode = 16;
    return;
  }
  const path = join(builtFolder, program);
  if (runtime === process.execPath) {
    process.argv.splice(1, process.argv.length - 1, path, ...args);
    await import(path);
    return;
  }
  const child = spawn(runtime, [path, ...args], { stdio: 'inherit', env: environment() });
  for (const signal of PASSED_ON) process.on(signal, () => child.kill(signal));
  child.on('error', (error) => {
    process.stderr.write(`hvdr: ${runtime} cannot be started: ${error.message}\n`);
    process.exitCode = 16;
  });
  child.on('exit', (code, signal) => {
    if (signal === null) {
      process.exitCode = code ?? 16;
      return;
    }
    for (const name of PASSED_ON) process.removeAllListeners(name);
    process.kill(process.pid, signal);
  });
}
