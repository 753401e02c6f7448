// A checkout of a few files with our real bin/ folder, for tests of the set-up: it installs with a
// scripted npm (offline, with faults) and builds with the real compiler in about two seconds.

import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkoutFolder } from './checkout.js';

/** What the scripted npm does. */
export type NpmFault = 'none' | 'offline' | 'hang-half-way' | 'leave-out-node';

export interface FinishedRun {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface StartedRun {
  readonly pid: number;
  kill(signal: NodeJS.Signals): void;
  /** Resolves when stderr holds `text`. */
  saw(text: string): Promise<void>;
  readonly finished: Promise<FinishedRun>;
}

const WRITTEN_AT_SECONDS = 1_700_000_000;

const FAKE_NPM = `
const fs = require('node:fs');
const path = require('node:path');
const real = process.env.MINI_REAL_MODULES;
const modules = path.join(process.cwd(), 'node_modules');
fs.appendFileSync('npm-calls.log', process.argv.slice(2).join(' ') + '\\n');
const fault = fs.readFileSync('npm-fault', 'utf8');
if (fault === 'offline') {
  console.error('npm error code ENOTFOUND');
  process.exit(1);
}
fs.rmSync(modules, { recursive: true, force: true });
fs.mkdirSync(modules);
for (const name of ['typescript', 'esbuild']) {
  fs.symlinkSync(path.join(real, name), path.join(modules, name));
}
if (fault === 'hang-half-way') {
  console.error('half-way');
  setTimeout(() => process.exit(1), 60000);
} else {
  if (fault !== 'leave-out-node') {
    const name = process.env.MINI_RUNTIME_PACKAGE;
    fs.symlinkSync(path.join(real, name), path.join(modules, name));
  }
}
`;

const MAIN = `
declare const process: any, console: any, setTimeout: any;
const [what, value] = process.argv.slice(2);
if (what === 'exit') process.exit(Number(value));
if (what === 'wait') {
  process.on('SIGTERM', () => { console.log('got SIGTERM'); process.exit(143); });
  setTimeout(() => process.exit(1), 60000);
  console.error('waiting');
} else if (what === 'die') {
  process.kill(process.pid, 'SIGKILL');
} else {
  console.log(process.version, ...process.argv.slice(2));
}
`;

interface Manifest {
  readonly optionalDependencies: Readonly<Record<string, string>>;
}

export class MiniCheckout {
  readonly folder: string = join(tmpdir(), `hvdr-mini-${randomUUID()}`);
  readonly #runtimePackage = `node-${process.platform}-${process.arch}`;

  /** A new checkout, or a copy of `origin` with everything that was made in it. */
  constructor(origin?: MiniCheckout) {
    if (origin !== undefined) {
      cpSync(origin.folder, this.folder, {
        recursive: true,
        preserveTimestamps: true,
        verbatimSymlinks: true,
      });
      return;
    }
    mkdirSync(join(this.folder, 'cli'), { recursive: true });
    cpSync(join(checkoutFolder, 'bin'), join(this.folder, 'bin'), { recursive: true });
    chmodSync(join(this.folder, 'bin', 'hvdr'), 0o755);
    // our own checked-in file
    const manifest = JSON.parse(
      readFileSync(join(checkoutFolder, 'package.json'), 'utf8'),
    ) as Manifest;
    const version = manifest.optionalDependencies[this.#runtimePackage] ?? '';
    this.write(
      'package.json',
      JSON.stringify({
        type: 'module',
        optionalDependencies: { [this.#runtimePackage]: version },
      }),
    );
    this.write('package-lock.json', JSON.stringify({ packages: { '': {} } }));
    this.write(
      'tsconfig.json',
      JSON.stringify({
        compilerOptions: {
          module: 'node20',
          target: 'es2023',
          types: [],
          rootDir: '.',
          outDir: 'dist',
          skipLibCheck: true,
          incremental: true,
          tsBuildInfoFile: 'dist/.tsbuildinfo',
        },
        include: ['cli'],
      }),
    );
    this.write('cli/main.ts', MAIN);
    this.write('cli/second.ts', 'export const second = 2;\n');
    // whole seconds, which a copy keeps exactly: it must be as fresh as its origin
    for (const path of ['tsconfig.json', 'cli/main.ts', 'cli/second.ts']) {
      utimesSync(join(this.folder, path), WRITTEN_AT_SECONDS, WRITTEN_AT_SECONDS);
    }
    mkdirSync(join(this.folder, 'npm'));
    this.write('npm/package.json', '{ "type": "commonjs" }');
    this.write('npm/npm-cli.js', FAKE_NPM);
    this.npm('none');
  }

  write(path: string, text: string): void {
    writeFileSync(join(this.folder, path), text);
  }

  has(path: string): boolean {
    return existsSync(join(this.folder, path));
  }

  remove(path: string): void {
    rmSync(join(this.folder, path), { recursive: true });
  }

  link(target: string, path: string): void {
    symlinkSync(target, join(this.folder, path));
  }

  /** Sets the behaviour of the next npm calls. */
  npm(fault: NpmFault): void {
    this.write('npm-fault', fault);
  }

  /** How often npm was called. */
  get npmCalls(): number {
    const log = join(this.folder, 'npm-calls.log');
    return existsSync(log) ? readFileSync(log, 'utf8').trim().split('\n').length : 0;
  }

  /** Writes a set-up lock as another process would have left it. */
  lockAs(owner: { readonly pid: number; readonly start: string }): void {
    mkdirSync(join(this.folder, '.cache'), { recursive: true });
    this.write('.cache/set-up.lock', JSON.stringify({ id: 'x', host: hostname(), process: owner }));
  }

  /** Process id of the npm or tsc that holds the set-up lock. */
  lockedChild(): number {
    const text = readFileSync(join(this.folder, '.cache', 'set-up.lock'), 'utf8');
    // written by bin/set-up-lock.mjs
    return (JSON.parse(text) as { child: { pid: number } }).child.pid;
  }

  /** Starts `node <script> …args` in the checkout with the Node that runs the tests. */
  start(script: string, ...args: string[]): StartedRun {
    const child = spawn(process.execPath, [join(this.folder, script), ...args], {
      cwd: this.folder,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        PATH: process.env['PATH'],
        npm_execpath: join(this.folder, 'npm', 'npm-cli.js'),
        MINI_REAL_MODULES: join(checkoutFolder, 'node_modules'),
        MINI_RUNTIME_PACKAGE: this.#runtimePackage,
      },
    });
    let stdout = '';
    let stderr = '';
    const watchers = new Set<() => void>();
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
      for (const watcher of watchers) watcher();
    });
    const finished = new Promise<FinishedRun>((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (code, signal) => {
        resolve({ code, signal, stdout, stderr });
      });
    });
    return {
      pid: child.pid ?? 0,
      kill: (signal) => child.kill(signal),
      saw: async (text) => {
        await new Promise<void>((resolve, reject) => {
          const look = (): void => {
            if (!stderr.includes(text)) return;
            watchers.delete(look);
            resolve();
          };
          watchers.add(look);
          look();
          void finished.then(() => {
            reject(new Error(`ended without "${text}":\n${stderr}`));
          });
        });
      },
      finished,
    };
  }

  run(script: string, ...args: string[]): Promise<FinishedRun> {
    return this.start(script, ...args).finished;
  }

  dispose(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
