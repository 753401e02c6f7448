// The plugin of the File Daemon in a host of our own (fd-host/): built once, then jobs of both layouts
// against a backend that follows a script. The host prints what a daemon would have seen.

import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { checkoutFolder } from './checkout.js';
import { expectTool, runTool } from './run-tool.js';
import { WorkFolder } from './work-folder.js';

const HOST_SOURCES = join(checkoutFolder, 'test', 'support', 'fd-host');
const C_FLAGS = ['-std=gnu99', '-g', '-Wall', '-Wextra', '-Werror'];
const SANITIZERS = ['-fsanitize=address,undefined', '-fno-sanitize-recover=all', '-g'];

/** What the FileSet of the tests says. */
export const COMMAND = 'podheitor-hyperv: vm=SQL01';
/** Script lines: the attributes of a file. */
export const fileLines = (name: string, stat: string): string[] => [
  `line FNAME:${name}`,
  `line STAT:${stat}`,
  'line TSTAMP:1795444060 1795444061 1795444062',
  'say F',
];
/** … of a disk of 300,000 bytes, without its data. */
export const DISK = fileLines('/@hyperv/SQL01/disks/x.vhdx', 'F 300000 0 0 100600 1');
/** … of a small file with its data. */
export const SMALL = [
  ...fileLines('/@hyperv/SQL01/config/vm.json', 'F 12 0 0 100600 1'),
  ...['line DATA', 'data 12 c', 'say F'],
];

/** Up to the loop: hello, the job, parameters, the start; each acknowledged. */
export const GREETING = [
  ...['take', 'line Hello Bacula', 'until', 'say F', 'until', 'say F', 'take', 'say F'],
];
/** END and T. */
export const PARTING = ['take', 'say F', 'take'];

/** One line of the host. */
export interface Seen {
  readonly job: number;
  readonly what: string;
  readonly [field: string]: string | number | null;
}

export interface AdapterRun {
  readonly seen: readonly Seen[];
  /** What the backend was sent, and what befell it. */
  readonly log: readonly string[];
  /** Messages in the job's log of one kind, without prefix and line end. */
  messages(kind: string): readonly string[];
  /** Lines of one kind. */
  all(what: string): readonly Seen[];
}

/** Limits of time in seconds that a plugin is compiled with. */
export interface ShortLimits {
  readonly handshake?: number;
  readonly silence?: number;
  readonly exit?: number;
  readonly cancel?: number;
}

export class AdapterRig {
  readonly #work = new WorkFolder('adapter');
  readonly #platform: 'linux' | 'windows';
  #runs = 0;

  private constructor(platform: 'linux' | 'windows') {
    this.#platform = platform;
  }

  /** Compiles host and backend. Linux comes with sanitizers: an error of memory ends the host. */
  static async build(platform: 'linux' | 'windows'): Promise<AdapterRig> {
    const rig = new AdapterRig(platform);
    const source = (name: string): string => join(HOST_SOURCES, `${name}.c`);
    const host = ['-o', rig.#host, source('fd-host')];
    const backend = ['-o', rig.backend, source('scripted-backend')];
    if (platform === 'linux') {
      await expectTool('gcc', [...C_FLAGS, ...SANITIZERS, ...host, '-ldl', '-lpthread']);
      await expectTool('gcc', [...C_FLAGS, ...backend]);
    } else {
      const compiler = 'x86_64-w64-mingw32-gcc';
      await expectTool(compiler, [...C_FLAGS, '-static', ...host, '-lpthread']);
      await expectTool(compiler, [...C_FLAGS, '-static', ...backend]);
    }
    return rig;
  }

  get backendName(): string {
    return `podheitor-hyperv-backend${this.#platform === 'windows' ? '.exe' : ''}`;
  }

  /** The scripted backend; its script stands beside it. */
  get backend(): string {
    return this.#work.file(this.backendName);
  }

  get #host(): string {
    return this.#work.file(this.#platform === 'windows' ? 'fd-host.exe' : 'fd-host');
  }

  /** A plugin in a folder of its own. */
  async plugin(name = 'podheitor-hyperv', limits: ShortLimits = {}): Promise<string> {
    const folder = this.#work.file(`plugin-${String(++this.#runs)}`);
    const defines = Object.entries(limits).map(
      ([key, seconds]) => `--define=${key.toUpperCase()}_SECONDS=${String(seconds)}`,
    );
    const flags = this.#platform === 'linux' ? SANITIZERS.map((flag) => `--flag=${flag}`) : [];
    const built = await expectTool(process.execPath, [
      join(checkoutFolder, 'bin', 'build-adapter.mjs'),
      ...['--platform', this.#platform, '--folder', folder, '--plugin', name],
      ...[...defines, ...flags],
    ]);
    return built.text.trim();
  }

  /** The plugin as it is shipped, without sanitizers, into a folder of plugins. */
  async release(folder: string): Promise<void> {
    await expectTool(process.execPath, [
      join(checkoutFolder, 'bin', 'build-adapter.mjs'),
      ...['--platform', this.#platform, '--folder', folder, '--plugin', 'podheitor-hyperv'],
    ]);
  }

  /** Runs jobs in the host; without a script there is no backend. */
  async run(
    plugin: string,
    script: readonly string[] | undefined,
    args: readonly string[],
    environment: Readonly<Record<string, string>> = {},
  ): Promise<AdapterRun> {
    const folder = this.#work.file(`run-${String(++this.#runs)}`);
    mkdirSync(folder);
    const fileName = plugin.replace(/^.*\//, '');
    copyFileSync(plugin, join(folder, fileName));
    const backend = join(folder, this.backendName);
    if (script !== undefined) {
      copyFileSync(this.backend, backend);
      writeFileSync(`${backend}.script`, `${script.join('\n')}\n`);
    }
    const isWindows = this.#platform === 'windows';
    const program = isWindows ? 'wine' : this.#host;
    const first = isWindows ? [this.#host, fileName] : [join(folder, fileName)];
    const run = await runTool(program, [...first, ...args], { folder, environment });
    if (run.code !== 0 && !run.text.startsWith('{')) {
      throw new Error(`the host ended with ${String(run.code)}: ${run.stderr}`);
    }
    if (/Sanitizer|runtime error/.test(run.stderr)) throw new Error(run.stderr);
    const log = existsSync(`${backend}.log`) ? readFileSync(`${backend}.log`, 'utf8') : '';
    return transcript(run.text, log);
  }

  dispose(): void {
    this.#work.dispose();
  }
}

function transcript(text: string, log: string): AdapterRun {
  // lines of our own host
  const seen = text
    .split(/\r?\n/)
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Seen);
  const all = (what: string): Seen[] => seen.filter((line) => line.what === what);
  return {
    seen,
    log: log.split(/\r?\n/).filter((line) => line !== ''),
    all,
    messages: (kind) =>
      all('message')
        .filter((line) => line['kind'] === kind)
        .map((line) =>
          String(line['text'])
            .replace(/^[a-z-]+: /, '')
            .trimEnd(),
        ),
  };
}
