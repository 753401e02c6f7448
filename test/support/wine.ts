// Windows programs under Wine: a prefix of one's own for each test file, the genuine Node for Windows made fit for
// Wine 8, and a bridge that gives programs the pipes they know (wine/wbridge.c). What Wine cannot prove stands in
// docs/testing.md.

import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { checkoutFolder } from './checkout.js';
import { needTool } from './need.js';
import { expectTool, runTool, type ToolRun } from './run-tool.js';

const MINGW = 'x86_64-w64-mingw32-gcc';
const MINGW_FLAGS = ['-std=gnu11', '-O2', '-Wall', '-Wextra', '-Werror', '-static', '-s'];
/** Wine 8 has VirtualAlloc2 without what V8 wants of it; hidden, V8 does without. */
const HIDDEN_NAME = Buffer.from('\0VirtualAlloc2\0');
const HIDDEN_OFFSET = HIDDEN_NAME.length - 2;
const HIDDEN_BYTE = 'X'.charCodeAt(0);

/** No test runs for so long. */
const LEFTOVER_AGE_MS = 24 * 3600 * 1000;
/** A set-up that exchanges a running service takes a minute on a busy machine. */
const RUN_MS = 180_000;

const wineCache = join(checkoutFolder, '.cache', 'wine');

/** Goes on only when Windows programs can be compiled and run. */
export function needWine(context: Mocha.Context): void {
  needTool(context, 'wine', MINGW);
}

/** The path of a file as programs under Wine see it. */
export function windowsPath(path: string): string {
  return `Z:${path.replaceAll('/', '\\')}`;
}

/** Compiles C for Windows; a path ending in .dll makes a library. */
export async function compileForWindows(
  output: string,
  sources: readonly string[],
  flags: readonly string[] = [],
): Promise<void> {
  const shared = output.endsWith('.dll') ? ['-shared'] : [];
  await expectTool(MINGW, [...MINGW_FLAGS, ...shared, '-o', output, ...sources, ...flags]);
}

/** The Node of the Windows build, and koffi for it; see bin/windows-modules.mjs. */
export interface WindowsModules {
  readonly modules: string;
  readonly node: string;
  readonly koffi: string;
}

export async function windowsModules(): Promise<WindowsModules> {
  const script = join(checkoutFolder, 'bin', 'windows-modules.mjs');
  const run = await expectTool(process.execPath, [script]);
  // our own script
  return JSON.parse(run.text) as WindowsModules;
}

/** A copy of node.exe, or of an executable with Node inside, that starts under Wine 8. One byte is another. */
export function fitForWine(executable: Uint8Array): Buffer {
  const copy = Buffer.from(executable);
  const at = copy.indexOf(HIDDEN_NAME);
  if (at < 0)
    throw new Error('the executable does not name VirtualAlloc2: is it Node for Windows?');
  if (copy.includes(HIDDEN_NAME, at + 1)) throw new Error('VirtualAlloc2 is named twice');
  copy[at + HIDDEN_OFFSET] = HIDDEN_BYTE;
  return copy;
}

/** In how many bytes two files differ; they must be of one length. */
export function differingBytes(one: Uint8Array, other: Uint8Array): number {
  if (one.length !== other.length) throw new Error('the files differ in length');
  const step = 64 * 1024;
  let count = 0;
  for (let at = 0; at < one.length; at += step) {
    const [a, b] = [one, other].map((bytes) => Buffer.from(bytes.buffer, bytes.byteOffset + at));
    const end = Math.min(step, one.length - at);
    if (a === undefined || b?.compare(a, 0, end, 0, end) === 0) continue;
    for (let index = at; index < at + end; index++) if (one[index] !== other[index]) count++;
  }
  return count;
}

/** node-wine.exe beside the genuine one, which it must never be taken for. */
async function wineNode(): Promise<{ readonly node: string; readonly modules: string }> {
  const { node: genuine, modules } = await windowsModules();
  const node = join(dirname(genuine), 'node-wine.exe');
  const bytes = readFileSync(genuine);
  if (!existsSync(node)) {
    const fresh = `${node}.${String(process.pid)}`;
    writeFileSync(fresh, fitForWine(bytes), { mode: 0o755 });
    renameSync(fresh, node);
  }
  const count = differingBytes(bytes, readFileSync(node));
  if (count !== 1)
    throw new Error(`${node} differs from the genuine one in ${String(count)} bytes`);
  return { node, modules };
}

const BASE_ENVIRONMENT = {
  ...{ WINEARCH: 'win64', WINEDEBUG: '-all', DISPLAY: '', LC_ALL: 'C.UTF-8' },
  // no dialogs about Mono and Gecko
  WINEDLLOVERRIDES: 'mscoree,mshtml=',
  // of the Node that runs the tests, not of the one for Windows
  ...{ NODE_COMPILE_CACHE: '', NODE_OPTIONS: '' },
};

/** Ends the processes of this prefix only. */
async function endPrefix(environment: Readonly<Record<string, string>>): Promise<void> {
  const stop = 'wineserver -k || /usr/lib/wine/wineserver -k; true';
  await runTool('sh', ['-c', stop], { environment });
}

/** What killed test runs left behind. */
function removeLeftovers(): void {
  for (const name of readdirSync(wineCache)) {
    const path = join(wineCache, name);
    const isKept = name.startsWith('prefix-');
    const ageMs = Date.now() - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Date.now());
    if (!isKept && ageMs > LEFTOVER_AGE_MS) rmSync(path, { recursive: true, force: true });
  }
}

/**
 * A prefix that says it is Windows 10, made once for each version of Wine: the default is Windows 7, which Node refuses.
 * Its programs have ended, so that it can be copied.
 */
async function freshPrefix(): Promise<string> {
  const { text } = await expectTool('wine', ['--version']);
  const version = text.match(/[\w.-]+/g)?.join('-') ?? 'unknown';
  const path = join(wineCache, `prefix-${version}`);
  if (existsSync(path)) return path;
  mkdirSync(wineCache, { recursive: true });
  const fresh = mkdtempSync(join(wineCache, 'new-'));
  try {
    const environment = { ...BASE_ENVIRONMENT, WINEPREFIX: fresh };
    await expectTool('timeout', ['120', 'wine', 'wineboot', '-i'], { environment });
    await expectTool('timeout', ['60', 'wine', 'winecfg', '/v', 'win10'], { environment });
    await expectTool('sh', ['-c', 'wineserver -w || /usr/lib/wine/wineserver -w'], { environment });
    renameSync(fresh, path);
  } catch (error) {
    // another test file was quicker
    if (!existsSync(path)) throw error;
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
  return path;
}

export interface WineOptions {
  readonly folder?: string;
  readonly stdin?: Uint8Array;
  readonly environment?: Readonly<Record<string, string>>;
  /** Default: 60 seconds; then every program of the prefix is ended. */
  readonly timeoutMs?: number;
  /** As Node's children have them, or as those of a File Daemon. Default: named. */
  readonly pipes?: 'named' | 'anonymous';
}

export class WinePrefix {
  /** The prefix itself; its drive C is drive_c below it. */
  readonly path: string;
  /** For programs that are started without our help. */
  readonly environment: Readonly<Record<string, string>>;
  /** Node for Windows, fit for Wine. */
  readonly node: string;
  readonly #bridge: string;

  private constructor(path: string, node: string, modules: string) {
    this.path = path;
    this.node = node;
    this.#bridge = join(path, 'wbridge.exe');
    // koffi's addon for Windows is no package of ours: it is found by this path
    this.environment = {
      ...BASE_ENVIRONMENT,
      WINEPREFIX: path,
      NODE_PATH: windowsPath(modules),
    };
  }

  /** Files that programs cannot change in place are shared with the first prefix; the registry is copied. */
  static async create(): Promise<WinePrefix> {
    const template = await freshPrefix();
    removeLeftovers();
    const { node, modules } = await wineNode();
    const path = mkdtempSync(join(wineCache, 'run-'));
    await expectTool('cp', ['-al', `${template}/.`, path]);
    const registry = 'for f in *.reg; do cp "$f" "$f.own" && mv "$f.own" "$f"; done';
    await expectTool('sh', ['-c', registry], { folder: path });
    const prefix = new WinePrefix(path, node, modules);
    const source = join(checkoutFolder, 'test', 'support', 'wine', 'wbridge.c');
    await compileForWindows(prefix.#bridge, [source], ['-municode']);
    await prefix.#hold();
    return prefix;
  }

  /** Keeps Wine's services running: they take two seconds to start, and hold the streams of who starts them. */
  async #hold(): Promise<void> {
    const holder = spawn('wine', [this.#bridge, 'hold'], {
      env: { ...process.env, ...this.environment },
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    await new Promise<void>((resolve, reject) => {
      holder.stdout.once('data', () => {
        resolve();
      });
      holder.once('error', reject);
      holder.once('exit', (code) => {
        reject(new Error(`Wine does not start: exit code ${String(code)}`));
      });
    });
    holder.stdout.destroy();
    holder.unref();
  }

  /** A path of drive C as we see it: `file('Program Files/x')`. */
  file(name: string): string {
    return join(this.path, 'drive_c', name);
  }

  /** Starts a Windows program, by a path of ours or of Windows, with Win32 pipes. */
  spawn(
    program: string,
    args: readonly string[],
    options: WineOptions = {},
  ): ChildProcessWithoutNullStreams {
    const { folder, environment, pipes = 'named' } = options;
    const name = program.startsWith('/') ? windowsPath(program) : program;
    return spawn('wine', [this.#bridge, pipes, name, ...args], {
      ...(folder === undefined ? {} : { cwd: folder }),
      env: { ...process.env, ...this.environment, ...environment },
    });
  }

  /** Runs a Windows program to its end. @throws Error when it takes longer than timeoutMs */
  async run(program: string, args: readonly string[], options: WineOptions = {}): Promise<ToolRun> {
    const { timeoutMs = RUN_MS } = options;
    const child = this.spawn(program, args, options);
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => err.push(chunk));
    child.stdin.on('error', () => undefined); // a program that does not read to the end
    child.stdin.end(options.stdin);
    const ending: Promise<void>[] = [];
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      // the bridge's child, which is no child of ours, holds our pipes
      ending.push(endPrefix(this.environment));
    }, timeoutMs);
    const code = await new Promise<number>((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (exitCode) => {
        resolve(exitCode ?? -1);
      });
    }).finally(() => {
      clearTimeout(timer);
    });
    const stdout = Buffer.concat(out);
    const stderr = Buffer.concat(err).toString();
    if (ending.length > 0) {
      await Promise.all(ending);
      await this.#hold();
      throw new Error(`${program} took more than ${String(timeoutMs)} ms: ${stderr}`);
    }
    return { code, stdout, stderr, text: stdout.toString() };
  }

  /** Like run(), for a program that must succeed. */
  async expect(
    program: string,
    args: readonly string[],
    options: WineOptions = {},
  ): Promise<ToolRun> {
    const run = await this.run(program, args, options);
    if (run.code === 0) return run;
    const said = `${run.stderr.trim()} ${run.text.trim()}`;
    throw new Error(`${program} ${args.join(' ')} ended with ${String(run.code)}: ${said}`);
  }

  /** Ends what still runs in the prefix, and removes it. */
  async dispose(): Promise<void> {
    await endPrefix(this.environment);
    rmSync(this.path, { recursive: true, force: true });
  }
}
