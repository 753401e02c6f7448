// The parameter table and its three ways of writing: every row through each of them, every refusal
// with key, value and what is allowed.

import { expect } from 'chai';
import { Command } from 'commander';
import fc from 'fast-check';
import { addParameterOptions, parametersOf, PUSH_PARAMETERS } from '../../../cli/agent-options.js';
import type { CliContext } from '../../../cli/context.js';
import { jobsIn } from '../../../source-agent/index.js';
import {
  allowedOf,
  givenByFlags,
  matchesPattern,
  PARAMETER_NAMES,
  type ParameterName,
  parametersPage,
  parseConfigFile,
  parseConfigSections,
  parsePluginString,
  resolveParameters,
  rowOf,
} from '../../../shared/params/index.js';
import { MemoryFileSystem } from '../../support/memory-file.js';
import { refusal } from '../../support/refusal.js';
import { readText } from '../../support/source-tree.js';

/** For each row: texts that are legal with the value they mean, and texts that are refused. */
const ROWS: Readonly<
  Record<
    ParameterName,
    { readonly good: readonly [string, unknown][]; readonly bad: readonly string[] }
  >
> = {
  vm: {
    good: [
      ['SQL*', 'SQL*'],
      ['my vm', 'my vm'],
    ],
    bad: ['', ' ', 'a\u0007b'],
  },
  exclude: {
    good: [
      ['a, b,,c', ['a', 'b', 'c']],
      ['', []],
    ],
    bad: ['x'.repeat(5000)],
  },
  quiesce: {
    good: [
      ['yes', true],
      ['no', false],
      ['TRUE', true],
      ['false', false],
      ['1', true],
      ['0', false],
    ],
    bad: ['', 'y', 'maybe', '2'],
  },
  consistency: {
    good: [
      ['require', 'require'],
      ['prefer', 'prefer'],
    ],
    bad: ['Require', '', 'none'],
  },
  online: { good: [['no', false]], bad: ['off'] },
  timeout: {
    good: [
      ['1', 1],
      ['2592000', 2592000],
    ],
    bad: ['0', '-1', '1.5', '1h', '2592001', ''],
  },
  new_vm_name: { good: [['copy of SQL', 'copy of SQL']], bad: [''] },
  restore_path: { good: [['C:\\restore here', 'C:\\restore here']], bad: [''] },
  restore_to: {
    good: [
      ['vm', 'vm'],
      ['disks', 'disks'],
      ['files', 'files'],
    ],
    bad: ['', 'folder'],
  },
  replace_vm: { good: [['yes', true]], bad: ['perhaps'] },
  abort_on_error: { good: [['yes', true]], bad: ['ja'] },
  on_partial: {
    good: [
      ['warn', 'warn'],
      ['fail', 'fail'],
    ],
    bad: ['ignore'],
  },
  config_file: { good: [['/etc/a.conf', '/etc/a.conf']], bad: [''] },
  mode: {
    good: [
      ['rct-push', 'rct-push'],
      ['failover-test', 'failover-test'],
    ],
    bad: ['rct_push', 'push', ''],
  },
  push_interval: { good: [['30', 30]], bad: ['0', 'x', '604801'] },
  push_cycles: {
    good: [
      ['0', 0],
      ['12', 12],
    ],
    bad: ['-1', '1e3', '9999999999999999'],
  },
  run_for: {
    good: [
      ['0', 0],
      ['3600', 3600],
    ],
    bad: ['-1', 'x', '1.5'],
  },
  rpo_seconds: { good: [['600', 600]], bad: ['0', '10m'] },
  overlap: { good: [['wait', 'wait']], bad: ['queue'] },
  push_apply_remote: { good: [['no', false]], bad: ['remote'] },
  dr_host: {
    good: [
      ['dr.example.com', 'dr.example.com'],
      ['[::1]', '[::1]'],
    ],
    bad: [''],
  },
  dr_port: {
    good: [
      ['1', 1],
      ['65535', 65535],
    ],
    bad: ['0', '65536', 'http'],
  },
  dr_psk: { good: [['env:KEY', 'env:KEY']], bad: ['', 'k\u0000'] },
  dr_psk_file: { good: [['/etc/a.psk', '/etc/a.psk']], bad: [''] },
  dr_psk_id: { good: [], bad: [''] },
  dr_tls_ca: { good: [['/etc/ca.crt', '/etc/ca.crt']], bad: ['', 'a\u0007'] },
  // these three are legal with others only: the rules are below
  dr_tls_cert: { good: [], bad: ['', 'a\u0007'] },
  dr_tls_key: { good: [], bad: ['', 'a\u0007'] },
  dr_tls_name: { good: [], bad: ['', 'a\u0007'] },
  bandwidth: {
    good: [
      ['0', 0],
      ['16384', 16384],
      ['5M', 5 * 2 ** 20],
      ['2g', 2 * 2 ** 30],
      ['64k', 65536],
    ],
    bad: ['10Mbit', '10mbps', '10Mb', '1', '100', '5T', '-1', '1.5M', 'fast', '9999999G'],
  },
  bandwidth_schedule: {
    good: [
      ['mon-fri 08-18=5M,*=0', 'mon-fri 08-18=5M,*=0'],
      [' SAT-mon  22-06 = 64k ', ' SAT-mon  22-06 = 64k '],
      ['* 0-24=1G', '* 0-24=1G'],
      ['fri 22-06=1M,sat 06-24=2M,*=0', 'fri 22-06=1M,sat 06-24=2M,*=0'],
    ],
    bad: [
      '',
      ',',
      '*=0,',
      '5M',
      '=5M',
      'mon',
      'mon=',
      'monday=5M',
      'mon-=5M',
      'mon-tue-wed=5M',
      'mon,tue=5M',
      '08-18=5M',
      'mon 8=5M',
      'mon 08-25=5M',
      'mon 24-06=5M',
      'mon 08-08=5M',
      'mon 08:00-18:00=5M',
      'mon 08-18 x=5M',
      'mon=5Mbit',
      'mon=1',
      'mon=5M=5M',
      '*=0,mon=5M',
      'mon-fri=1M,wed 08-18=2M',
      Array.from({ length: 65 }, () => 'mon 08-09=1M').join(','),
    ],
  },
  max_restore_points: { good: [['1', 1]], bad: ['0', '10001'] },
  retention_grid: {
    good: [
      ['24h/1h', '24h/1h'],
      ['24h/1h, 7d/1d,4w/1w', '24h/1h, 7d/1d,4w/1w'],
      ['1000h/1h', '1000h/1h'],
      ['3660d/4w', '3660d/4w'],
    ],
    bad: [
      ...['', '24h', '24h/', '/1h', '24h/1h,', '24/1', '24h/1m', '1.5d/1h', '-1d/1h', '24H/1H'],
      ...['24h/0h', '0h/1h', '1h/2h', '1001h/1h', '500h/1h,501d/1d', '3661d/52w', '99999999d/1d'],
      Array.from({ length: 9 }, () => '2d/1d').join(','),
    ],
  },
  network_map: {
    good: [
      ['a=b,c=', 'a=b,c='],
      ['*=dr', '*=dr'],
      ['"a,b"=c', '"a,b"=c'],
    ],
    bad: ['', 'a', '=b', 'a=b,A=c', '"a,b=c'],
  },
  reip_rules: {
    good: [
      ['web:10.0.0.5/24/10.0.0.1', 'web:10.0.0.5/24/10.0.0.1'],
      ['web:dhcp', 'web:dhcp'],
      ['a:*>10.0.0.5/24;dns=10.0.0.2,10.0.0.3', 'a:*>10.0.0.5/24;dns=10.0.0.2,10.0.0.3'],
    ],
    bad: ['', 'web', 'web:10.0.0.5', 'web:10.0.0.5/24,10.0.0.3'],
  },
  unmapped: { good: [['same-name', 'same-name']], bad: ['', 'drop'] },
  mac_policy: { good: [['new', 'new']], bad: ['', 'old'] },
  reip_rules_back: {
    good: [['web:10.0.0.5/24/10.0.0.1', 'web:10.0.0.5/24/10.0.0.1']],
    bad: ['', 'web'],
  },
  point: { good: [['last-clean', 'last-clean']], bad: [''] },
  test_network: { good: [['bubble', 'bubble']], bad: [''] },
  checks: { good: [['heartbeat,tcp:22', ['heartbeat', 'tcp:22']]], bad: [] },
  test_timeout: { good: [['60', 60]], bad: ['59', 'x'] },
  test_disk_limit: { good: [['1G', 2 ** 30]], bad: ['1Gbit'] },
  keep: { good: [['yes', true]], bad: ['perhaps'] },
  stop_tests: { good: [['yes', true]], bad: ['perhaps'] },
  replace_retired: { good: [['yes', true]], bad: ['perhaps'] },
  commit_policy: { good: [['commit', 'commit']], bad: ['', 'later'] },
  commit_after: { good: [['60', 60]], bad: ['59'] },
  shutdown_timeout: { good: [['1', 1]], bad: ['0'] },
  boot_timeout: { good: [['1', 1]], bad: ['0'] },
  check_timeout: { good: [['1', 1]], bad: ['0'] },
  force_off: { good: [['yes', true]], bad: ['perhaps'] },
  fence_source: { good: [['yes', true]], bad: ['perhaps'] },
  force: { good: [['no', false]], bad: ['perhaps'] },
  reason: { good: [['the site is gone', 'the site is gone']], bad: [''] },
  hold: { good: [['synced', 'synced']], bad: ['', 'never'] },
  keep_disk: { good: [['before-undo', 'before-undo']], bad: [''] },
  compare: { good: [['full', 'full']], bad: ['', 'none'] },
  stage: { good: [['sync', 'sync']], bad: ['', 'both'] },
  switch_window: { good: [['1', 1]], bad: ['0'] },
  urgent: { good: [['yes', true]], bad: ['perhaps'] },
  failback_to: { good: [['original', 'original']], bad: [''] },
  remote_actions: { good: [['shutdown, start', ['shutdown', 'start']]], bad: [] },
  safety_hold: { good: [['0', 0]], bad: ['-1'] },
  plan: { good: [['yes', true]], bad: ['maybe'] },
  confirm: {
    good: [['0123456789ab, cdef01234567', ['0123456789ab', 'cdef01234567']]],
    bad: ['x'.repeat(5000)],
  },
  principal: { good: [['dr1', 'dr1']], bad: [''] },
  retired_host: { good: [['dr1.example', 'dr1.example']], bad: [''] },
  retired_port: { good: [['9848', 9848]], bad: ['0', '65536'] },
  retired_psk_file: { good: [['dr.psk', 'dr.psk']], bad: [''] },
  hvr_server: { good: [['dr1.example', 'dr1.example']], bad: [''] },
  hvr_port: {
    good: [
      ['0', 0],
      ['8080', 8080],
    ],
    bad: ['-1', '65536', 'http'],
  },
  hvr_authentication: { good: [['certificate', 'certificate']], bad: ['', 'ntlm'] },
  hvr_certificate: { good: [['AB'.repeat(20), 'AB'.repeat(20)]], bad: [''] },
  hvr_interval: { good: [['30', '30']], bad: ['60', ''] },
  hvr_points: {
    good: [
      ['0', 0],
      ['24', 24],
    ],
    bad: ['25', '-1'],
  },
  hvr_vss_hours: { good: [['12', 12]], bad: ['13', ''] },
  host: { good: [['lab:./lab', 'lab:./lab']], bad: [''] },
  store: { good: [['/srv/dr', '/srv/dr']], bad: [''] },
  listen: { good: [['0.0.0.0:9847', '0.0.0.0:9847']], bad: [''] },
  state_dir: { good: [['/var/x', '/var/x']], bad: [''] },
};

const inPlugin = (name: string, text: string) =>
  parsePluginString(`podheitor-hyperv: ${name}="${text.replaceAll('"', '""')}"`).given;
const inFile = (name: string, text: string) =>
  parseConfigFile(`# a comment\n\n${name} = "${text.replaceAll('"', '""')}"\n`, 'a.conf');
const asFlag = (name: string, text: string) => givenByFlags({ [name.replaceAll('_', '-')]: text });

const WAYS = [
  {
    way: 'the Plugin string',
    resolve: (n: string, t: string) => resolveParameters(inPlugin(n, t)),
  },
  { way: 'a flag', resolve: (n: string, t: string) => resolveParameters(asFlag(n, t)) },
  { way: 'a config file', resolve: (n: string, t: string) => resolveParameters([], inFile(n, t)) },
] as const;

const code = async (action: () => unknown): Promise<string> =>
  (await refusal(() => Promise.resolve().then(action))).code;

describe('parameters', () => {
  for (const name of PARAMETER_NAMES) {
    it(`${name}: the three ways agree on what is legal`, async () => {
      for (const [text, value] of ROWS[name].good) {
        for (const { way, resolve } of WAYS) {
          if (name === 'config_file' && way === 'a config file') continue;
          const { values, origins } = resolve(name, text);
          expect(values[name], `${text} in ${way}`).to.deep.equal(value);
          expect(origins[name]).not.to.equal('default');
        }
      }
      for (const text of ROWS[name].bad) {
        for (const { way, resolve } of WAYS) {
          // a line break cannot stand in a line, nor an empty text without quotes
          const error = await refusal(() => Promise.resolve().then(() => resolve(name, text)));
          expect(error.code, `${text} in ${way}`).to.equal('E_PARAMETER');
          expect(error.message, way).to.contain(name);
          expect(error.hint).to.contain(allowedOf(rowOf(name)));
          if (name !== 'dr_psk' && text.length < 80 && !/[\0-\x1f]/.test(text)) {
            expect(error.message).to.contain(`"${text}"`);
          }
        }
      }
    });
  }

  it('have the defaults of the product', () => {
    const { values, origins } = resolveParameters([]);
    expect(values).to.include({
      vm: '*',
      quiesce: true,
      online: true,
      timeout: 3600,
      abort_on_error: false,
      mode: 'backup',
      push_interval: 300,
      push_cycles: 1,
      rpo_seconds: 900,
      push_apply_remote: false,
      dr_port: 9847,
      bandwidth: 0,
      max_restore_points: 5,
    });
    expect(new Set(Object.values(origins))).to.deep.equal(new Set(['default']));
  });

  it('go flag before config file before default, and say so', () => {
    const { values, origins } = resolveParameters(
      asFlag('push_cycles', '3'),
      parseConfigFile('push_cycles=5\npush_interval=60', 'a.conf'),
    );
    expect(values.push_cycles).to.equal(3);
    expect(values.push_interval).to.equal(60);
    expect([origins.push_cycles, origins.push_interval, origins.vm]).to.deep.equal([
      'flag',
      'config file',
      'default',
    ]);
  });

  it('are checked in the config file also where a flag overrules them', async () => {
    const act = () => resolveParameters(asFlag('timeout', '5'), inFile('timeout', 'soon'));
    expect(await code(act)).to.equal('E_PARAMETER');
  });

  it('suggest what was probably meant, and never echo an unknown key’s value', async () => {
    const given = parsePluginString('podheitor-hyperv: push_cycle=secret99').given;
    const error = await refusal(() => Promise.resolve().then(() => resolveParameters(given)));
    expect(error.hint).to.contain('push_cycles');
    expect(error.line).not.to.contain('secret99');
    const far = givenByFlags({ 'something-else-entirely': '1' });
    const other = await refusal(() => Promise.resolve().then(() => resolveParameters(far)));
    expect(other.hint).to.contain('dr_host');
  });

  it('never echo a secret', async () => {
    const text = 'hunter2\u0001';
    for (const { resolve } of WAYS) {
      const error = await refusal(() => Promise.resolve().then(() => resolve('dr_psk', text)));
      expect(error.line).not.to.contain('hunter2');
    }
  });

  it('are refused when given twice', async () => {
    const plugin = () => resolveParameters(parsePluginString('podheitor-hyperv: vm=a vm=b').given);
    const file = () => resolveParameters([], parseConfigFile('vm=a\nvm=b', 'a.conf'));
    expect(await code(plugin)).to.equal('E_PARAMETER');
    expect(await code(file)).to.equal('E_PARAMETER');
  });

  const TOGETHER: readonly (readonly [string, readonly string[]])[] = [
    ['push_apply_remote=yes', ['push_apply_remote', 'dr_host']],
    ['dr_psk=env:A dr_psk_file=/b', ['dr_psk', 'dr_psk_file']],
    ['dr_psk_id=k1', ['dr_psk_id', 'dr_psk']],
    ['dr_tls_ca=/a dr_tls_cert=/b', ['dr_tls_cert', 'dr_tls_key']],
    ['dr_tls_ca=/a dr_tls_key=/b', ['dr_tls_cert', 'dr_tls_key']],
    ['dr_tls_cert=/b dr_tls_key=/c', ['dr_tls_cert', 'dr_tls_ca']],
    ['dr_tls_name=dr.example', ['dr_tls_name', 'dr_tls_ca']],
    ['quiesce=no consistency=require', ['quiesce', 'consistency']],
    ['quiesce=no consistency=prefer', ['quiesce', 'consistency']],
    ['quiesce=yes consistency=crash', ['quiesce', 'consistency']],
    ['new_vm_name=x mode=rct-push', ['new_vm_name', 'mode']],
  ];
  for (const [text, names] of TOGETHER) {
    it(`are refused together: ${text}`, async () => {
      const { given } = parsePluginString(`podheitor-hyperv: ${text}`);
      const error = await refusal(() => Promise.resolve().then(() => resolveParameters(given)));
      expect(error.code).to.equal('E_PARAMETER');
      for (const name of names) expect(error.message).to.contain(name);
    });
  }

  it('let a key given one way overrule one that the file gives the other way', () => {
    const file = parseConfigFile('dr_psk=some passphrase\ndr_psk_id=k', 'a.conf');
    const { values } = resolveParameters(asFlag('dr_psk_file', '/a.psk'), file);
    expect(values.dr_psk).to.equal(undefined);
    expect(values.dr_psk_id).to.equal(undefined);
  });

  it('name no config file inside one', async () => {
    expect(await code(() => resolveParameters([], inFile('config_file', '/x')))).to.equal(
      'E_PARAMETER',
    );
  });

  it('warn of an RPO that cannot hold', () => {
    const given = parsePluginString('podheitor-hyperv: push_cycles=0 rpo_seconds=60').given;
    expect(resolveParameters(given).warnings).to.have.length(1);
    expect(resolveParameters([]).warnings).to.have.length(0);
  });

  it('stand in docs/parameters.md as the table has them', () => {
    expect(readText('docs/parameters.md'), 'run the command in its first lines').to.equal(
      parametersPage(),
    );
  });
});

describe('Plugin string', () => {
  it('takes quotes, doubled quotes and backslashes as they are', () => {
    const { namespace, given } = parsePluginString(
      `podheitor-vsphere:  vm='it''s "new"'\trestore_path="C:\\dir\\" exclude=a,b `,
    );
    expect(namespace).to.equal('podheitor-vsphere');
    expect(given.map(({ key, value }) => [key, value])).to.deep.equal([
      ['vm', 'it\'s "new"'],
      ['restore_path', 'C:\\dir\\'],
      ['exclude', 'a,b'],
    ]);
  });

  for (const text of [
    '',
    'vm=a',
    'other-plugin: vm=a',
    'podheitor-hyperv: vm',
    'podheitor-hyperv: vm="a',
    'podheitor-hyperv: vm="a"b',
    'podheitor-hyperv: =a',
    `podheitor-hyperv: vm=${'a'.repeat(70_000)}`,
  ]) {
    it(`refuses ${JSON.stringify(text.slice(0, 40))}`, async () => {
      expect(await code(() => parsePluginString(text))).to.equal('E_PARAMETER');
    });
  }

  it('answers any text with values or E_PARAMETER', () => {
    fc.assert(
      fc.property(
        fc.string({ maxLength: 60, unit: fc.constantFrom(...Array.from('ab="\' :\\\t#')) }),
        (text) => {
          try {
            parsePluginString(`podheitor-hyperv: ${text}`);
          } catch (error) {
            expect((error as { code?: string }).code).to.equal('E_PARAMETER');
          }
        },
      ),
    );
  });
});

describe('config file', () => {
  it('takes comments, blank lines, CRLF and a byte order mark', () => {
    const given = parseConfigFile('\ufeff# x\r\n\r\n  vm = a b \r\nexclude=#1\r\n', 'a.conf');
    expect(given.map(({ key, value }) => [key, value])).to.deep.equal([
      ['vm', 'a b'],
      ['exclude', '#1'],
    ]);
    expect(given[0]?.place).to.equal('line 3 of a.conf');
  });

  for (const text of ['vm', '=a', 'vm="a', 'vm="a" b', '[x]\nvm=a']) {
    it(`refuses ${JSON.stringify(text)}`, async () => {
      expect(await code(() => parseConfigFile(text, 'a.conf'))).to.equal('E_PARAMETER');
    });
  }

  it('of a daemon has a section for each job, with what stands before them', async () => {
    const jobs = jobsIn('dr_host=h\ntimeout=9\n[a]\nvm=A*\n[b]\ntimeout=7\n', 'd.conf');
    expect(
      jobs.map(({ name, values }) => [name, values.vm, values.timeout, values.dr_host]),
    ).to.deep.equal([
      ['a', 'A*', 9, 'h'],
      ['b', '*', 7, 'h'],
    ]);
    expect(jobs.every(({ values }) => values.push_cycles === 0)).to.equal(true);
    expect(jobsIn('vm=x', 'd.conf').map(({ name }) => name)).to.deep.equal(['all']);
    expect(await code(() => jobsIn('[a]\npush_cycles=4', 'd.conf'))).to.equal('E_PARAMETER');
    expect(await code(() => parseConfigSections('[a]\n[a]', 'd.conf'))).to.equal('E_PARAMETER');
  });
});

describe('flags', () => {
  const resolve = async (args: readonly string[], files = new MemoryFileSystem()) => {
    const command = addParameterOptions(new Command('push'), PUSH_PARAMETERS).exitOverride();
    command.parse(args, { from: 'user' });
    // the only parts of the context that are asked for
    const context = { files, folder: '/' } as unknown as CliContext;
    return parametersOf(command, PUSH_PARAMETERS, context);
  };

  it('reach the table from a command line, with the config file below', async () => {
    const files = new MemoryFileSystem();
    files.put('/p.conf', Buffer.from('vm=file\npush_interval=77\n'));
    const args = ['--vm', 'SQL*', '--psk-file', 'k.psk', '--config-file', 'p.conf'];
    const { values } = await resolve(args, files);
    expect([values.vm, values.dr_psk_file, values.push_interval]).to.deep.equal([
      'SQL*',
      'k.psk',
      77,
    ]);
  });

  it('are refused when given twice, also under the other name', async () => {
    const alias = ['--psk-file', 'a', '--dr-psk-file', 'b'];
    expect((await refusal(() => resolve(alias))).code).to.equal('E_PARAMETER');
    const twice = ['--psk-file', 'a', '--psk-file', 'b'];
    expect((await refusal(() => resolve(twice))).code).to.equal('E_PARAMETER');
    expect((await refusal(() => resolve(['--vm', 'a', '--vm', 'b']))).code).to.equal('E_PARAMETER');
  });

  it('name the config file that is missing', async () => {
    const error = await refusal(() => resolve(['--config-file', 'none.conf']));
    expect(error.code).to.equal('E_NOT_FOUND');
  });
});

describe('pattern', () => {
  it('matches as a naive matcher does', () => {
    const naive = (pattern: string, text: string): boolean => {
      if (pattern === '') return text === '';
      const [first = '', rest] = [pattern[0], pattern.slice(1)];
      if (first === '*') {
        return naive(rest, text) || (text !== '' && naive(pattern, text.slice(1)));
      }
      return text !== '' && (first === '?' || first === text[0]) && naive(rest, text.slice(1));
    };
    const word = fc.string({ maxLength: 8, unit: fc.constantFrom(...Array.from('ab*?')) });
    const name = fc.string({ maxLength: 8, unit: fc.constantFrom(...Array.from('ab')) });
    fc.assert(
      fc.property(word, name, (pattern, text) => {
        expect(matchesPattern(pattern, text)).to.equal(naive(pattern, text));
      }),
      { numRuns: 2000 },
    );
    expect(matchesPattern('sql*', 'SQL01')).to.equal(true);
    expect(matchesPattern(`${'*a'.repeat(200)}b`, 'a'.repeat(2000))).to.equal(false);
  });
});
