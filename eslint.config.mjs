// One flat configuration for the whole tree. The import fences are STYLE rules made executable:
// a folder may only import what the dependency direction allows, and a fenced package only where
// its seam lives. test/tidy repeats the direction on the built graph.
import prettier from 'eslint-config-prettier';
import tseslint from 'typescript-eslint';

const fenced = [
  { name: 'koffi', message: 'koffi belongs to shared/files and shared/hypervisor/hyperv' },
  { name: 'libsodium-wrappers', message: 'libsodium belongs to shared/channel' },
  { name: '@grpc/grpc-js', message: 'gRPC belongs to shared/channel and the two ends' },
];
const roles = (...names) =>
  names.map((name) => ({ group: [`**/${name}/**`], message: `this folder must not import ${name}` }));

export default tseslint.config(
  { ignores: ['dist/**', 'dist-*/**', 'node_modules/**', '**/gen/**'] },
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.strictTypeChecked, tseslint.configs.stylisticTypeChecked, prettier],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
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
      'no-restricted-imports': ['error', { paths: fenced }],
    },
  },
  {
    files: ['shared/**/*.ts'],
    rules: {
      'no-restricted-imports': [
        'error',
        {
          paths: fenced,
          patterns: roles('source-agent', 'dr-receiver', 'plugin-bridge', 'cli', 'test', 'bench'),
        },
      ],
    },
  },
  {
    files: ['source-agent/**/*.ts'],
    rules: {
      'no-restricted-imports': [
        'error',
        { paths: fenced, patterns: roles('dr-receiver', 'plugin-bridge', 'cli', 'test', 'bench') },
      ],
    },
  },
  {
    files: ['dr-receiver/**/*.ts'],
    rules: {
      'no-restricted-imports': [
        'error',
        { paths: fenced, patterns: roles('source-agent', 'plugin-bridge', 'cli', 'test', 'bench') },
      ],
    },
  },
  {
    files: ['shared/files/**/*.ts', 'shared/hypervisor/hyperv/**/*.ts', 'shared/channel/**/*.ts'],
    rules: { 'no-restricted-imports': 'off' },
  },
  { files: ['test/**/*.ts'], rules: { 'no-restricted-imports': 'off' } },
);
