// What `npm run demo`, `npm test` and the other scripts of package.json start. Needs Node and
// nothing else: it sets the checkout up and then runs the wanted work under the pinned Node.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { builtFolder, modulesFolder, programsFolder, root } from './checkout.mjs';
import { setUp } from './set-up.mjs';
import { SetUpError, note, runProgram } from './steps.mjs';

/** Runs a script below the checkout with our streams; returns its exit code. */
async function runNode(runtime, script, args) {
  const run = await runProgram(runtime, [script, ...args], { inherit: true });
  return run.code ?? 1;
}

const tool = (...path) => join(modulesFolder, ...path);

/** Of bin/peer-tools.json, what the demo with Bacula starts. */
const BACULA_TOOLS = ['bacula-dir', 'bacula-sd', 'bacula-fd', 'bconsole', 'sqlite3', 'gcc'];

const COMMANDS = {
  async demo(args) {
    const runtime = await setUp();
    return runNode(runtime, join(programsFolder, 'main.js'), ['demo', ...args]);
  },
  async 'demo-bacula'(args) {
    const runtime = await setUp();
    const { ensurePeerTools } = await import('./peer-tools.mjs');
    await ensurePeerTools(BACULA_TOOLS);
    const words = ['demo', '--bacula', ...args];
    return runNode(runtime, join(programsFolder, 'main.js'), words);
  },
  async test(args) {
    const { runTests } = await import('./test.mjs');
    return runTests(args);
  },
  async bench(args) {
    const runtime = await setUp();
    const script = join(builtFolder, 'bench', 'main.js');
    if (!existsSync(script))
      throw new SetUpError('there is no bench in this checkout', 'update it');
    return runNode(runtime, script, args);
  },
  async 'fault-matrix'(args) {
    const runtime = await setUp();
    return runNode(runtime, join(builtFolder, 'test', 'fault-matrix', 'main.js'), args);
  },
  async simulate(args) {
    const runtime = await setUp();
    return runNode(runtime, join(builtFolder, 'test', 'simulation', 'main.js'), args);
  },
  async build() {
    await setUp();
    return 0;
  },
  async lint(args) {
    const runtime = await setUp({ withBuild: false });
    const paths = args.length === 0 ? [root] : args;
    const style = await runNode(runtime, tool('eslint', 'bin', 'eslint.js'), paths);
    const layout = await runNode(runtime, tool('prettier', 'bin', 'prettier.cjs'), [
      '--check',
      ...paths,
    ]);
    return Math.max(style, layout);
  },
  async format(args) {
    const runtime = await setUp({ withBuild: false });
    const paths = args.length === 0 ? [root] : args;
    return runNode(runtime, tool('prettier', 'bin', 'prettier.cjs'), ['--write', ...paths]);
  },
  async package(args) {
    const runtime = await setUp();
    const { makePackages } = await import('./package/main.mjs');
    return makePackages(runtime, args);
  },
  async proto(args) {
    await setUp({ withBuild: false });
    const { generate } = await import('./proto.mjs');
    return generate(args);
  },
};

const [name, ...args] = process.argv.slice(2);
const command = Object.hasOwn(COMMANDS, name ?? '') ? COMMANDS[name] : undefined;
if (command === undefined) {
  note(`usage: node bin/bootstrap.mjs ${Object.keys(COMMANDS).join('|')}`);
  process.exitCode = 2;
} else {
  try {
    const code = await command(args);
    process.exitCode ||= code;
  } catch (error) {
    if (!(error instanceof SetUpError)) throw error;
    note(`${name} failed: ${error.message}; ${error.remedy}`);
    process.exitCode ||= 16;
  }
}
