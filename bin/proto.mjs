// `npm run proto`: checks proto/ and generates shared/channel/gen from it, with the compiler and
// the generator of node_modules and without the network. `--out DIR` writes elsewhere, which is how
// a test finds out whether the checked-in files are up to date.

import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { cacheFolder, modulesFolder, root, runtimePath } from './checkout.mjs';
import { SetUpError, runProgram } from './steps.mjs';

const OPTIONS = [
  'env=node',
  'esModuleInterop=true',
  'importSuffix=.js',
  'forceLong=bigint',
  'oneof=unions-value',
  'enumsAsLiterals=true',
  'useOptionals=none',
  'outputServices=grpc-js',
];

function findBuf() {
  const arch = process.arch === 'arm64' ? 'aarch64' : process.arch;
  const path = join(modulesFolder, '@bufbuild', `buf-${process.platform}-${arch}`, 'bin', 'buf');
  if (existsSync(path)) return path;
  throw new SetUpError(
    `there is no protocol compiler for ${process.platform}-${process.arch} in node_modules`,
    'run this on Linux x64 or arm64',
  );
}

async function buf(args) {
  const run = await runProgram(findBuf(), args, {
    cwd: join(root, 'proto'),
    env: { BUF_CACHE_DIR: join(cacheFolder, 'buf') },
  });
  if (run.code === 0) return;
  process.stderr.write(run.output);
  throw new SetUpError(`buf ${args[0]} ended with exit code ${run.code}`, 'see above');
}

/** Generates the TypeScript files. Returns the exit code. */
export async function generate(args) {
  const target = args[0] === '--out' ? resolve(args[1]) : join(root, 'shared', 'channel', 'gen');
  await buf(['lint']);
  rmSync(target, { recursive: true, force: true });
  mkdirSync(target, { recursive: true });
  const template = {
    version: 'v2',
    plugins: [
      {
        local: [runtimePath(), join(modulesFolder, 'ts-proto', 'protoc-gen-ts_proto')],
        out: target,
        opt: OPTIONS,
      },
    ],
  };
  await buf(['generate', '--template', JSON.stringify(template)]);
  return 0;
}
