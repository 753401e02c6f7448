// Code that a real process of ours runs before its own, by Node's `--import`: how a test brings trouble
// into a program that has no switch for it.

/** NODE_OPTIONS with which a process begins with this module. */
export function preloading(source: string): string {
  return `--import=data:text/javascript,${encodeURIComponent(source)}`;
}

/** Environment: notes each change of a name in `log`, and dies by SIGKILL before the n-th (from 1). */
export function dyingAtChange(n: number, log: string): Readonly<Record<string, string>> {
  const source = `
import fs from 'node:fs';
let count = 0;
for (const name of ['rename', 'unlink', 'rmdir']) {
  const real = fs.promises[name];
  fs.promises[name] = (...args) => {
    fs.appendFileSync(${JSON.stringify(log)}, name + ' ' + args.at(-1) + '\\n');
    if (++count !== ${String(n)}) return real(...args);
    process.kill(process.pid, 'SIGKILL');
    return new Promise(() => undefined);
  };
}`;
  return { NODE_OPTIONS: preloading(source) };
}
