// The rules of the tree that no compiler holds: dependency direction, package fences, names,
// packages, docs, and that nothing is left unfinished. Each failure lists every offender.

import { spawnSync } from 'node:child_process';
import { existsSync, lstatSync, readdirSync } from 'node:fs';
import { dirname, join, posix } from 'node:path';
import { expect } from 'chai';
import { EXIT_CODES } from '../cli/exit-codes.js';
import { errorsPage } from '../cli/explain.js';
import { failoverPage } from '../dr-receiver/index.js';
import { CATALOGUE } from '../shared/errors.js';
import { checkoutFolder } from './support/checkout.js';
import {
  type SourceFile,
  allFiles,
  codeOnly,
  findCycle,
  onlyReExports,
  reachable,
  readText,
  sourceFiles,
} from './support/source-tree.js';

const files = allFiles();
const sources = sourceFiles(files);
const isTest = ({ path }: SourceFile): boolean => path.startsWith('test/');
const isGenerated = ({ path }: SourceFile): boolean => path.includes('/gen/');
const PRODUCT_FOLDERS = ['shared', 'source-agent', 'dr-receiver', 'plugin-bridge', 'cli'];
const top = (path: string): string => path.split('/')[0] ?? '';
const product = sources.filter(({ path }) => PRODUCT_FOLDERS.includes(top(path)));

/** Codes of the catalogue that no code raises yet, each with its reason. */
const RESERVED_CODES: Readonly<Record<string, string>> = {};

/** Top folders that a top folder may import. */
const DIRECTION: Readonly<Record<string, readonly string[]>> = {
  shared: ['shared'],
  'source-agent': ['shared', 'source-agent'],
  'dr-receiver': ['shared', 'dr-receiver'],
  'plugin-bridge': ['shared', 'source-agent', 'dr-receiver', 'plugin-bridge'],
  cli: ['shared', 'source-agent', 'dr-receiver', 'plugin-bridge', 'cli'],
  bench: [...PRODUCT_FOLDERS, 'bench', 'test'],
  test: [...PRODUCT_FOLDERS, 'bench', 'test'],
};

/** Packages and node modules that only these files of the product may import. */
const FENCES: Readonly<Record<string, readonly RegExp[]>> = {
  koffi: [/^shared\/files\//, /^shared\/hypervisor\/hyperv\//],
  'libsodium-wrappers': [/^shared\/channel\//],
  '@grpc/grpc-js': [
    /^shared\/channel\//,
    /^dr-receiver\/server\.ts$/,
    /^source-agent\/client\.ts$/,
  ],
  '@bufbuild/protobuf': [/^shared\/channel\/gen\//],
  yaml: [/^shared\/plan\/yaml-text\.ts$/],
  commander: [/^cli\//],
  'node:fs': [
    /^shared\/files\//,
    /^cli\/bacula-site\//,
    /^cli\/(standard-streams|ptcomm-process|early-failure|own-program|find-program|demo(-[a-z]+)*)\.ts$/,
  ],
  'node:fs/promises': [/^shared\/files\//],
  'node:child_process': [
    /^shared\/image\//,
    /^shared\/hypervisor\/hyperv\//,
    /^shared\/probe\/run-script\.ts$/,
    /^cli\/demo-run\.ts$/,
    /^cli\/bacula-site\/daemon\.ts$/,
  ],
};

function expectNone(offenders: readonly string[]): void {
  expect(offenders, `\n  ${offenders.join('\n  ')}\n`).to.have.length(0);
}

describe('tidy: imports', () => {
  it('lead to files that are there', () => {
    const known = new Set(sources.map(({ path }) => path));
    expectNone(
      sources.flatMap(({ path, imports }) =>
        imports.filter((name) => !known.has(name)).map((name) => `${path} → ${name}`),
      ),
    );
  });

  it('follow the dependency direction', () => {
    expectNone(
      sources.flatMap(({ path, imports }) =>
        imports
          .filter((name) => !(DIRECTION[top(path)] ?? []).includes(top(name)))
          .map((name) => `${path} → ${name}`),
      ),
    );
  });

  it('form no cycle', () => {
    expect(findCycle(sources)?.join(' → ')).to.equal(undefined);
  });

  it('enter another folder through its index only', () => {
    expectNone(
      product
        .filter((source) => !isGenerated(source))
        .flatMap(({ path, folder, imports }) =>
          imports
            .filter((name) => {
              const target = dirname(name);
              const isInside = folder === target || folder.startsWith(`${target}/`);
              const hasIndex = files.includes(posix.join(target, 'index.ts'));
              return !isInside && hasIndex && !name.endsWith('/index.ts');
            })
            .map((name) => `${path} → ${name}`),
        ),
    );
  });

  it('of fenced packages stay behind the fence', () => {
    expectNone(
      product.flatMap(({ path, packages }) =>
        packages
          .filter((name) => FENCES[name]?.every((allowed) => !allowed.test(path)) === true)
          .map((name) => `${path} imports ${name}`),
      ),
    );
  });

  it('reach every file from a program or a test', () => {
    const roots = sources
      .map(({ path }) => path)
      .filter(
        (path) =>
          path.endsWith('.test.ts') ||
          [
            'cli/main.ts',
            'cli/backend-main.ts',
            'cli/executable-main.ts',
            'bench/main.ts',
          ].includes(path) ||
          path === 'test/support/reporter.ts',
      );
    const found = reachable(sources, roots);
    // started as child processes by path
    const isStartedByPath = (path: string): boolean =>
      sources.some(({ text }) => text.includes(`${posix.basename(path, '.ts')}.js`));
    expectNone(
      sources.map(({ path }) => path).filter((path) => !found.has(path) && !isStartedByPath(path)),
    );
  });

  it('put into index.ts are exports of other files and nothing else', () => {
    expectNone(
      product
        .filter(({ path }) => path.endsWith('/index.ts'))
        .filter((source) => !onlyReExports(source))
        .map(({ path }) => path),
    );
  });
});

describe('tidy: code', () => {
  const code = new Map(
    product
      .filter((source) => !isGenerated(source))
      .map(({ path, text }) => [path, codeOnly(text)]),
  );

  function usersOf(pattern: RegExp, isAllowed: (path: string) => boolean): string[] {
    return [...code]
      .filter(([path, text]) => !isAllowed(path) && pattern.test(text))
      .map(([path, text]) => `${path}: ${pattern.exec(text)?.[0] ?? ''}`);
  }

  it('asks for time and randomness in shared/clock.ts only', () => {
    const pattern =
      /\bDate\.now\b|\bnew Date\(\)|\bperformance\.now\b|\bMath\.random\b|\brandom(Bytes|UUID|Fill|FillSync|Int)\b|\bgetRandomValues\b|\bset(Timeout|Interval)\b/;
    expectNone(usersOf(pattern, (path) => path === 'shared/clock.ts'));
  });

  it('writes to the standard streams in cli only', () => {
    const pattern = /\bconsole\.|\bprocess\.(stdout|stderr|exit)\b/;
    expectNone(usersOf(pattern, (path) => path.startsWith('cli/')));
  });

  it('raises every code of the catalogue, or names it as reserved', () => {
    const text = product
      .filter(({ path }) => path !== 'shared/error-catalogue.ts')
      .map((source) => source.text)
      .join('\n');
    const isUsed = (name: string): boolean => new RegExp(`['"\`]${name}['"\`]`).test(text);
    const unused = Object.keys(CATALOGUE).filter((name) => !isUsed(name));
    expect(unused.sort()).to.deep.equal(Object.keys(RESERVED_CODES).sort());
  });

  it('ends with exit codes that the help explains', () => {
    const explained = new Set(EXIT_CODES.map(([exitCode]) => exitCode));
    expectNone(
      Object.entries(CATALOGUE)
        .filter(([, entry]) => !explained.has(entry.exitCode))
        .map(([name, entry]) => `${name}: ${entry.exitCode}`),
    );
  });
});

describe('tidy: names and texts', () => {
  const isText = (path: string): boolean =>
    /\.(ts|mjs|json|proto|md|yaml|sh)$/.test(path) || ['bin/hvdr', '.ci/run'].includes(path);
  const texts = files.filter(isText).filter((path) => path !== 'test/tidy.test.ts');

  it('are kebab-case', () => {
    const named = [
      ...sources.map(({ path }) => path),
      ...files.filter((path) => path.endsWith('.mjs')),
    ];
    expectNone(
      named.filter(
        (path) => !path.split('/').every((part) => /^[a-z0-9]+([-.][a-z0-9]+)*$/.test(part)),
      ),
    );
  });

  it('say what is inside', () => {
    expectNone(
      sources
        .map(({ path }) => path)
        .filter((path) => /(^|[/-])(utils?|helpers?|misc|common)([/.-]|$)/.test(path)),
    );
  });

  it('hold no words of unfinished work', () => {
    const pattern =
      /\b(TODO|FIXME|XXX|HACK|WIP)\b|\bnot (yet )?implemented\b|\bplaceholder\b|lorem ipsum/i;
    expectNone(
      texts
        .filter((path) => !path.endsWith('.json') && !path.includes('/gen/'))
        .flatMap((path) =>
          readText(path)
            .split('\n')
            .map((line, index) => ({ line, place: `${path}:${index + 1}` }))
            .filter(({ line }) => pattern.test(line) && !/TODO #\d+/.test(line))
            .map(({ line, place }) => `${place}: ${line.trim()}`),
        ),
    );
  });

  it('name no machine and no package registry', () => {
    const pattern = /\/work\/|registry\.[a-z]+js\.org|registry\.yarnpkg/;
    expectNone(texts.filter((path) => pattern.test(readText(path))));
  });

  it('select and skip no single test', () => {
    const pattern = /\b(it|describe)\.(only|skip)\(|\bx(it|describe)\(/;
    expectNone(
      sources
        .filter(isTest)
        .filter(({ text }) => pattern.test(codeOnly(text)))
        .map(({ path }) => path),
    );
  });

  it('make assertions as calls', () => {
    const pattern = /\.(true|false|null|undefined|empty|ok|exist|NaN);/;
    expectNone(
      sources.filter(isTest).flatMap(({ path, text }) =>
        codeOnly(text)
          .split('\n')
          .filter((line) => /\bexpect\(/.test(line) && pattern.test(line))
          .map((line) => `${path}: ${line.trim()}`),
      ),
    );
  });

  it('are scripts that parse', () => {
    const scripts = files.filter((path) => path.endsWith('.mjs') || path === 'bin/hvdr');
    const shells = files.filter((path) => path.endsWith('.sh') || path === '.ci/run');
    const isGood = (program: string, args: readonly string[]): boolean =>
      spawnSync(program, args, { cwd: checkoutFolder }).status === 0;
    expectNone([
      ...scripts.filter((path) => !isGood(process.execPath, ['--check', path])),
      ...shells.filter((path) => !isGood('bash', ['-n', path])),
    ]);
  });
});

interface Manifest {
  readonly scripts: Readonly<Record<string, string>>;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly optionalDependencies: Readonly<Record<string, string>>;
  readonly devDependencies: Readonly<Record<string, string>>;
}

describe('tidy: packages', () => {
  // our own checked-in file
  const manifest = JSON.parse(readText('package.json')) as Manifest;
  const all = {
    ...manifest.dependencies,
    ...manifest.optionalDependencies,
    ...manifest.devDependencies,
  };

  it('have exact versions', () => {
    expectNone(
      Object.entries(all)
        .filter(([, version]) => !/^\d+\.\d+\.\d+(-alpha\.\d+)?$/.test(version))
        .map(([name, version]) => `${name}@${version}`),
    );
  });

  it('are all used', () => {
    const imported = new Set(sources.flatMap(({ packages }) => packages));
    const scripts = [...files.filter((path) => path.endsWith('.mjs')), 'tsconfig.json']
      .map(readText)
      .join('\n');
    // a platform's package is chosen by a name made of platform and architecture
    const isUsed = (name: string): boolean =>
      imported.has(name) ||
      // a file of it, found by its path
      sources.some(({ text }) => text.includes(`'${name}/`)) ||
      new RegExp(`['"/]${name}['"/]`).test(scripts) ||
      /^node-(linux|win)-|^@bufbuild\/buf-linux-/.test(name) ||
      (name.startsWith('@types/') && new RegExp(`"${name.slice(7)}"`).test(scripts)) ||
      imported.has(name.replace('@types/', ''));
    expectNone(Object.keys(all).filter((name) => !isUsed(name)));
  });

  it('of the product are no packages of development', () => {
    expectNone(
      product.flatMap(({ path, packages }) =>
        packages
          .filter((name) => !name.startsWith('node:') && !(name in manifest.dependencies))
          .map((name) => `${path} imports ${name}`),
      ),
    );
  });

  it('stand in a lockfile without addresses of a registry', () => {
    const lock = readText('package-lock.json');
    expect(lock).not.to.match(/"resolved"|https?:\/\/[^"]*registry/);
    expect(lock).to.contain('"lockfileVersion": 3');
  });

  it('take about the space that the set-up announces', () => {
    const announced = /diskMegabytes: (\d+)/.exec(readText('bin/set-up.mjs'))?.[1];
    const used = folderBytes(join(checkoutFolder, 'node_modules')) / 1e6;
    expect(Number(announced)).to.be.within(used * 0.75, used * 1.25);
  });
});

function folderBytes(folder: string): number {
  return readdirSync(folder, { withFileTypes: true }).reduce((sum, entry) => {
    const path = join(folder, entry.name);
    return sum + (entry.isDirectory() ? folderBytes(path) : lstatSync(path).size);
  }, 0);
}

describe('tidy: docs', () => {
  const pages = files.filter((path) => path.endsWith('.md'));

  it('hold the error catalogue as it is', () => {
    expect(readText('docs/errors.md'), 'run the command in its first lines').to.equal(errorsPage());
  });

  it('hold states, commands and steps of failover as they are', () => {
    const [, printed = ''] = readText('docs/failover.md').split(/<!-- from here on .* -->\n\n/);
    expect(printed, '`bin/hvdr explain --states`').to.equal(`${failoverPage()}\n`);
  });

  it('link to files and headings that are there', () => {
    const anchorsOf = (path: string): string[] =>
      [...readText(path).matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
        heading
          .toLowerCase()
          .replace(/[^\p{L}\p{N} _-]/gu, '')
          .replaceAll(' ', '-'),
      );
    const isBroken = (page: string, target: string): boolean => {
      const [path = '', anchor] = target.split('#');
      const file = path === '' ? page : posix.join(dirname(page), path);
      if (!existsSync(join(checkoutFolder, file))) return true;
      return anchor !== undefined && file.endsWith('.md') && !anchorsOf(file).includes(anchor);
    };
    expectNone(
      pages.flatMap((page) =>
        [...readText(page).matchAll(/\]\(([^)\s]+)\)/g)]
          .map(([, target = '']) => target)
          .filter((target) => !/^(https?|mailto):/.test(target) && isBroken(page, target))
          .map((target) => `${page} → ${target}`),
      ),
    );
  });

  it('tell where every golden file comes from', () => {
    const golden = files.filter((path) => path.startsWith('test/golden/') && !path.endsWith('.md'));
    const provenance = pages
      .filter((path) => path.startsWith('test/golden/') && path.endsWith('PROVENANCE.md'))
      .map(readText)
      .join('\n');
    expectNone(
      golden.filter((path) => {
        const name = posix.basename(path);
        const family = name.replace(/\..*$/, '');
        return !provenance.includes(name) && !provenance.includes(family);
      }),
    );
  });
});
