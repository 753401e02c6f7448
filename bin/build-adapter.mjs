// Compiles the plugins of the File Daemon (plugin-bridge/adapter, C) into dist/adapter: a .so for this
// Linux where gcc is, a .dll where mingw-w64 is. `npm run adapter` builds all of them. Tests name a platform:
//   --platform linux --folder DIR [--plugin NAME]… [--define NAME=VALUE]… [--flag=FLAG]…

import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { builtFolder, root } from './checkout.mjs';
import { SetUpError, note } from './steps.mjs';

const source = join(root, 'plugin-bridge', 'adapter');

/** One source, three plugins. */
const PLUGINS = {
  'podheitor-hyperv': [],
  'podheitor-vsphere': ['-DADAPTER_VSPHERE'],
  'podheitor-proxmox': ['-DADAPTER_PROXMOX'],
};

const WARNINGS = ['-Wall', '-Wextra', '-Werror', '-Wshadow', '-Wvla'];

const TARGETS = {
  linux: {
    compiler: 'gcc',
    package: 'gcc',
    suffix: '-fd.so',
    flags: [
      ...['-fPIC', '-fvisibility=hidden', '-D_POSIX_C_SOURCE=200809L', '-D_FILE_OFFSET_BITS=64'],
      ...['-Wl,-z,relro,-z,now', '-Wl,--build-id=none'],
    ],
    libraries: ['-ldl', '-lpthread'],
    leavesOut: 'process_windows.c',
  },
  windows: {
    compiler: 'x86_64-w64-mingw32-gcc',
    package: 'gcc-mingw-w64-x86-64',
    suffix: '-fd.dll',
    // a fixed base: ld derives one from the path of the output, and two builds differ
    flags: [
      ...['-fvisibility=hidden', '-static', '-D__USE_MINGW_ANSI_STDIO=1', '-D_WIN32_WINNT=0x0601'],
      ...['-Wl,--no-insert-timestamp', '-Wl,--image-base,0x180000000'],
      ...['-Wl,--dynamicbase,--nxcompat,--high-entropy-va', '-Wl,--exclude-all-symbols'],
    ],
    libraries: [],
    leavesOut: 'process_posix.c',
  },
};

function isPresent(program) {
  return spawnSync(program, ['--version'], { stdio: 'ignore' }).status === 0;
}

function compile(target, arguments_) {
  const run = spawnSync(target.compiler, arguments_, { encoding: 'utf8' });
  if (run.status === 0) return;
  throw new SetUpError(
    `${target.compiler} failed: ${run.error?.message ?? run.stderr}`,
    `install the package ${target.package} or look at the message`,
  );
}

/** Compiles plugins for one platform and answers with their paths. */
function build({ platform, folder, defines = [], flags = [], plugins = Object.keys(PLUGINS) }) {
  const target = TARGETS[platform];
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  mkdirSync(folder, { recursive: true });
  const files = readdirSync(source)
    .filter((name) => name.endsWith('.c') && name !== target.leavesOut)
    .sort()
    .map((name) => join(source, name));
  return plugins.map((plugin) => {
    const output = join(folder, `${plugin}${target.suffix}`);
    compile(target, [
      ...['-std=c99', '-O2', ...WARNINGS, ...target.flags, ...PLUGINS[plugin], ...flags],
      ...[`PLUGIN_VERSION="${version}"`, ...defines].map((define) => `-D${define}`),
      ...['-shared', '-o', output, ...files, ...target.libraries],
      ...(flags.length === 0 ? ['-s'] : []), // a sanitizer wants its symbols
    ]);
    return output;
  });
}

/** Builds for every platform whose compiler is here, and lays the licence beside. */
function buildAll() {
  const folder = join(builtFolder, 'adapter');
  const built = Object.keys(TARGETS).flatMap((platform) => {
    if (isPresent(TARGETS[platform].compiler)) return build({ platform, folder });
    note(`${TARGETS[platform].compiler} is not installed: no plugin for ${platform}`);
    return [];
  });
  if (built.length > 0) copyFileSync(join(source, 'LICENSE'), join(folder, 'LICENSE'));
  return built;
}

const { values } = parseArgs({
  options: {
    platform: { type: 'string' },
    folder: { type: 'string' },
    plugin: { type: 'string', multiple: true },
    define: { type: 'string', multiple: true },
    flag: { type: 'string', multiple: true },
  },
});
try {
  const { platform, folder, plugin: plugins, define: defines, flag: flags } = values;
  const isOne = platform !== undefined && folder !== undefined;
  const built = isOne ? build({ platform, folder, plugins, defines, flags }) : buildAll();
  for (const path of built) process.stdout.write(`${path}\n`);
} catch (error) {
  if (!(error instanceof SetUpError)) throw error;
  process.stderr.write(`${error.message}\n${error.remedy}\n`);
  process.exitCode = 1;
}
