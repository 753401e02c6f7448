// The Windows build of the product, installed into a Wine prefix: the executable that is shipped, but for the one byte that Wine 8
// wants otherwise, and what lies beside it. Commands are run as the tests run them on Linux.

import { once } from 'node:events';
import { cpSync, linkSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { builtFolder, checkoutFolder } from './checkout.js';
import { expectTool, type ToolRun } from './run-tool.js';
import { fitForWine, WinePrefix, type WineOptions } from './wine.js';

const COMMAND_LINE = 'hvdr.exe';
const BACKEND = 'podheitor-hyperv-backend.exe';
/** A name with blanks, as it has on a real host. */
const INSTALLED = 'Program Files/PodHeitor';

/** For test files of ours. */
const RUN_LIMIT_MS = process.env['SLOW'] === '1' ? 900_000 : 180_000;

/** Builds an executable into `folder`; returns the paths of all that was made. */
export async function makeExecutable(
  platform: 'win32' | 'linux',
  folder: string,
): Promise<readonly string[]> {
  const script = join(checkoutFolder, 'bin', 'package', 'executable.mjs');
  const args = [script, '--platform', platform, '--out', folder];
  return (await expectTool(process.execPath, args)).text.trim().split('\n');
}

/** A receiver or an agent under Wine. */
export interface WineService {
  readonly stdout: () => string;
  /** Closes its standard input, as the service host does. Returns its exit code. */
  readonly stop: () => Promise<number>;
  /** TerminateProcess, as the Task Manager does. */
  readonly kill: () => Promise<void>;
}

export class WindowsProduct {
  readonly prefix: WinePrefix;
  readonly #folder: string;
  readonly #hvdr: string;
  readonly #backend: string;

  private constructor(prefix: WinePrefix) {
    this.prefix = prefix;
    this.#folder = prefix.file(INSTALLED);
    // not below the checkout, as it is by its path on drive Z
    this.#hvdr = `C:\\${INSTALLED.replaceAll('/', '\\')}\\${COMMAND_LINE}`;
    this.#backend = `C:\\${INSTALLED.replaceAll('/', '\\')}\\${BACKEND}`;
  }

  static async install(prefix: WinePrefix): Promise<WindowsProduct> {
    const product = new WindowsProduct(prefix);
    const made = prefix.file('made');
    await makeExecutable('win32', made);
    mkdirSync(product.#folder, { recursive: true });
    for (const name of readdirSync(made)) {
      if (name.endsWith('.exe')) continue;
      cpSync(join(made, name), join(product.#folder, name), { recursive: true });
    }
    const program = join(product.#folder, BACKEND);
    writeFileSync(program, fitForWine(readFileSync(join(made, BACKEND))), { mode: 0o755 });
    linkSync(program, join(product.#folder, COMMAND_LINE));
    // while a program runs the next ones start in a tenth of the time; this one ends with the prefix
    const idle = prefix.spawn(prefix.node, ['-e', 'console.log(1); process.stdin.resume()']);
    await once(idle.stdout, 'data');
    return product;
  }

  /** Runs `hvdr …args`. */
  run(args: readonly string[], options: WineOptions = {}): Promise<ToolRun> {
    return this.prefix.run(this.#hvdr, args, options);
  }

  /** Runs `hvdr …args`, which must end with this code. */
  async hvdr(args: readonly string[], code = 0): Promise<ToolRun> {
    const run = await this.run(args);
    expect(run.code, `${args.join(' ')}: ${run.stderr}${run.text}`).to.equal(code);
    return run;
  }

  /** Last JSON line or document of `hvdr …args --json`. */
  async json(args: readonly string[]): Promise<Readonly<Record<string, unknown>>> {
    const { text } = await this.hvdr([...args, '--json']);
    const document = text.startsWith('{\n') ? text : (text.trim().split('\n').at(-1) ?? '');
    // the contract of --json
    return JSON.parse(document) as Readonly<Record<string, unknown>>;
  }

  startBackend(options: WineOptions): ReturnType<WinePrefix['spawn']> {
    return this.prefix.spawn(this.#backend, [], options);
  }

  /** Starts a command that runs until it is told to end, and waits until it listens; returns its port too. */
  async serve(args: readonly string[]): Promise<WineService & { readonly port: number }> {
    const child = this.prefix.spawn(this.#hvdr, [...args, '--stop-on-stdin-close']);
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8');
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    const ended = once(child, 'close').then(([code]) => Number(code));
    const port = await new Promise<number>((resolve, reject) => {
      child.stdout.on('data', (text: string) => {
        stdout += text;
        const listening = /^listening \S+:(\d+)\r?\n/m.exec(stdout);
        if (listening !== null) resolve(Number(listening[1]));
      });
      void ended.then((code) => {
        reject(new Error(`${args.join(' ')} ended with ${code}: ${stderr}`));
      });
    });
    return {
      port,
      stdout: () => stdout,
      stop: () => {
        child.stdin.end();
        return ended;
      },
      kill: async () => {
        const { environment } = this.prefix;
        await expectTool('wine', ['taskkill', '/F', '/IM', COMMAND_LINE], { environment });
        child.stdin.end();
        await ended;
      },
    };
  }

  /** Runs test files of ours by Node for Windows; returns what mocha said, with its code. */
  runTests(
    files: readonly string[],
    more: readonly string[] = [],
    environment: Readonly<Record<string, string>> = {},
  ): Promise<ToolRun> {
    const mocha = join('node_modules', 'mocha', 'bin', 'mocha.js').replaceAll('/', '\\');
    const tests = files.map((file) =>
      join(builtFolder, 'test', file).slice(checkoutFolder.length + 1),
    );
    return this.prefix.run(
      this.prefix.node,
      [mocha, '--enable-source-maps', '--timeout=60000', ...more, ...tests],
      { folder: checkoutFolder, environment, timeoutMs: RUN_LIMIT_MS },
    );
  }
}
