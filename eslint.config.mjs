// One flat configuration for the whole tree. The import fences are rules of the design made
// executable: a folder may only import what the dependency direction allows, and a fenced package
// only where its seam lives. test/tidy.test.ts reads the same from the import graph.
import prettier from 'eslint-config-prettier';
import tseslint from 'typescript-eslint';

const KOFFI = {
  name: 'koffi',
  message: 'koffi belongs to shared/files and shared/hypervisor/hyperv',
};
const SODIUM = { name: 'libsodium-wrappers', message: 'libsodium belongs to shared/channel' };
const GRPC = {
  name: '@grpc/grpc-js',
  message: "gRPC belongs to shared/channel, dr-receiver/server.ts and the agent's client",
};
const FENCED = [KOFFI, SODIUM, GRPC];

const folders = (...names) =>
  names.map((name) => ({
    group: [`**/${name}/**`],
    message: `this folder must not import ${name}`,
  }));

/** Files that may not import these packages and folders. Later entries replace earlier ones. */
const fence = (files, paths, ...forbiddenFolders) => ({
  files,
  rules: {
    'no-restricted-imports': ['error', { paths, patterns: folders(...forbiddenFolders) }],
  },
});

const SHARED_BARS = ['source-agent', 'dr-receiver', 'plugin-bridge', 'cli', 'test', 'bench'];
const AGENT_BARS = ['dr-receiver', 'plugin-bridge', 'cli', 'test', 'bench'];
const RECEIVER_BARS = ['source-agent', 'plugin-bridge', 'cli', 'test', 'bench'];

export default tseslint.config(
  { ignores: ['dist/**', 'dist-*/**', 'node_modules/**', '.cache/**', '.demo/**', '**/gen/**'] },
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.strictTypeChecked, tseslint.configs.stylisticTypeChecked, prettier],
    languageOptions: {
      parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      '@typescript-eslint/switch-exhaustiveness-check': 'error',
      '@typescript-eslint/restrict-template-expressions': [
        'error',
        { allowNumber: true, allowBoolean: true },
      ],
      '@typescript-eslint/return-await': ['error', 'in-try-catch'],
      // also bars `return wrong(…)` of functions that are typed to return undefined
      '@typescript-eslint/no-confusing-void-expression': 'off',
      '@typescript-eslint/consistent-type-definitions': ['error', 'interface'],
      '@typescript-eslint/no-non-null-assertion': 'error',
      'no-console': 'error',
      'no-restricted-imports': ['error', { paths: FENCED }],
    },
  },
  {
    // stdout carries packets or JSON, stderr may have to stay silent: only composition roots write
    files: [
      'shared/**/*.ts',
      'source-agent/**/*.ts',
      'dr-receiver/**/*.ts',
      'plugin-bridge/**/*.ts',
    ],
    rules: {
      'no-restricted-properties': [
        'error',
        ...['stdout', 'stderr', 'exit'].map((property) => ({
          object: 'process',
          property,
          message: 'standard streams and the end of the process belong to the composition roots',
        })),
      ],
    },
  },
  {
    // one file each: the clock seam and nothing else asks the system
    files: ['shared/**/*.ts', 'source-agent/**/*.ts', 'dr-receiver/**/*.ts', 'cli/**/*.ts'],
    ignores: ['shared/clock.ts', '**/gen/**'],
    rules: {
      'no-restricted-syntax': [
        'error',
        {
          selector:
            'MemberExpression[object.name="Date"][property.name="now"], MemberExpression[object.name="Math"][property.name="random"], MemberExpression[object.name="performance"][property.name="now"], NewExpression[callee.name="Date"][arguments.length=0]',
          message: 'time and randomness come from shared/clock.ts',
        },
      ],
    },
  },
  fence(['cli/**/*.ts'], FENCED, 'test', 'bench'),
  fence(['plugin-bridge/**/*.ts'], FENCED, 'cli', 'test', 'bench'),
  fence(['source-agent/**/*.ts'], FENCED, ...AGENT_BARS),
  fence(['dr-receiver/**/*.ts'], FENCED, ...RECEIVER_BARS),
  fence(['shared/**/*.ts'], FENCED, ...SHARED_BARS),
  fence(['dr-receiver/server.ts'], [KOFFI, SODIUM], ...RECEIVER_BARS),
  fence(['source-agent/client.ts'], [KOFFI, SODIUM], ...AGENT_BARS),
  fence(
    ['shared/files/**/*.ts', 'shared/hypervisor/hyperv/**/*.ts'],
    [SODIUM, GRPC],
    ...SHARED_BARS,
  ),
  fence(['shared/channel/**/*.ts'], [KOFFI], ...SHARED_BARS),
  { files: ['test/**/*.ts'], rules: { 'no-restricted-imports': 'off' } },
  {
    files: ['**/*.mjs', 'bin/hvdr'],
    languageOptions: { ecmaVersion: 2023, sourceType: 'module' },
    rules: {
      'no-unused-vars': 'error',
      'prefer-const': 'error',
      'no-var': 'error',
      eqeqeq: 'error',
    },
  },
);
