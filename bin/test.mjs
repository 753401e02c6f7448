// `npm test`: set-up, peer programs, layout, lint, then every test under the pinned Node. The last
// line on stdout is always `N passed, N failed`, whatever went wrong before; the gates count as one
// check each.
//
//   npm test                         everything
//   npm run test:quick               unit, property and conformance tests: no peers, no processes
//   npm test -- test/unit/x.test.ts  these files only; further options go to mocha (--grep …)

import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { builtFolder, cacheFolder, listFiles, modulesFolder, root } from './checkout.mjs';
import { ensurePeerTools } from './peer-tools.mjs';
import { setUp } from './set-up.mjs';
import { SetUpError, note, runProgram, step } from './steps.mjs';

const QUICK_FOLDERS = ['unit', 'property', 'conformance', 'contract'];
const TIMEOUT_MS = 240_000;
const JOBS = 2;

/** The built file of a test given as source or built path. */
function builtTest(path) {
  return join(builtFolder, relative(root, resolve(path)).replace(/\.ts$/, '.js'));
}

function testFiles(isQuick) {
  const folders = isQuick
    ? QUICK_FOLDERS.map((folder) => join(builtFolder, 'test', folder))
    : [join(builtFolder, 'test')];
  return folders.flatMap((folder) => listFiles(folder, '.test.js')).sort();
}

/** A check that is no mocha test: passes silently, fails with the tool's own words. */
async function gate(label, runtime, script, args) {
  try {
    await step(label, async () => {
      const run = await runProgram(runtime, [join(modulesFolder, ...script), ...args], {
        cwd: root,
      });
      if (run.code === 0) return;
      process.stderr.write(run.output);
      throw new SetUpError(`${label} found something`, 'see above');
    });
    return true;
  } catch (error) {
    if (!(error instanceof SetUpError)) throw error;
    return false;
  }
}

/** Runs mocha; returns its counts as test/support/reporter.ts wrote them. */
async function runMocha(runtime, files, args) {
  mkdirSync(cacheFolder, { recursive: true });
  const summary = join(cacheFolder, `test-summary.${process.pid}.json`);
  const skipLog = join(cacheFolder, `test-skips.${process.pid}.jsonl`);
  rmSync(summary, { force: true });
  rmSync(skipLog, { force: true });
  try {
    const run = await runProgram(
      runtime,
      [
        join(modulesFolder, 'mocha', 'bin', 'mocha.js'),
        '--enable-source-maps',
        ...(process.stdout.isTTY ? [] : ['--no-color']),
        `--timeout=${TIMEOUT_MS}`,
        `--reporter=${join(builtFolder, 'test', 'support', 'reporter.js')}`,
        ...(files.length > 1 ? ['--parallel', `--jobs=${JOBS}`] : []),
        ...args,
        ...files,
      ],
      {
        cwd: root,
        inherit: true,
        env: {
          HVDR_TEST_SUMMARY: summary,
          HVDR_SKIP_LOG: skipLog,
          // hundreds of tests start the command line
          NODE_COMPILE_CACHE: join(cacheFolder, 'compiled'),
        },
      },
    );
    const counts = JSON.parse(readFileSync(summary, 'utf8'));
    // mocha may fail without a failed test, for example when a file cannot be loaded
    if (run.code !== 0 && counts.failed === 0) counts.failed = 1;
    return counts;
  } catch (error) {
    if (error.code !== 'ENOENT') throw error;
    note('mocha ended before it could report');
    return { passed: 0, failed: 1, skipped: 0 };
  } finally {
    rmSync(summary, { force: true });
    rmSync(skipLog, { force: true });
  }
}

async function runAll(args, total) {
  const isQuick = args.includes('--quick');
  const chosen = args.filter((word) => /\.test\.[tj]s$/.test(word)).map(builtTest);
  const options = args.filter((word) => word !== '--quick' && !/\.test\.[tj]s$/.test(word));
  const isWhole = !isQuick && chosen.length === 0 && options.length === 0;

  const runtime = await setUp();
  total.passed += 1; // the build: strict types over all sources
  if (!isQuick) await ensurePeerTools();
  if (isWhole) {
    const gates = await Promise.all([
      gate('layout (prettier)', runtime, ['prettier', 'bin', 'prettier.cjs'], ['--check', '.']),
      gate('lint (eslint)', runtime, ['eslint', 'bin', 'eslint.js'], ['--max-warnings=0', '.']),
    ]);
    for (const isGood of gates) total[isGood ? 'passed' : 'failed'] += 1;
  }
  const counts = await runMocha(runtime, chosen.length > 0 ? chosen : testFiles(isQuick), options);
  total.passed += counts.passed;
  total.failed += counts.failed;
  total.skipped += counts.skipped;
}

/** Runs the tests that `args` choose. Returns the exit code. */
export async function runTests(args) {
  const total = { passed: 0, failed: 0, skipped: 0 };
  try {
    await runAll(args, total);
  } catch (error) {
    total.failed += 1;
    if (!(error instanceof SetUpError)) throw error;
    note(`${error.message}; ${error.remedy}`);
  } finally {
    const skipped = total.skipped === 0 ? '' : `, ${total.skipped} skipped`;
    process.stdout.write(`${total.passed} passed, ${total.failed} failed${skipped}\n`);
  }
  return total.failed === 0 ? 0 : 1;
}
