// The text of a plan: what it may say, and where each mistake is.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import fc from 'fast-check';
import { DrError } from '../../../shared/errors.js';
import { parsePlan } from '../../../shared/plan/index.js';
import { checkoutFolder } from '../../support/checkout.js';

const HEAD = 'version: 1\nname: P\n';

function refusalOf(text: string): string {
  try {
    parsePlan(text, 'p.yaml');
    return 'none';
  } catch (error) {
    if (!(error instanceof DrError)) throw error;
    expect(error.code).to.equal('E_PARAMETER');
    return error.message;
  }
}

const steps = (...lines: readonly string[]): string => `${HEAD}steps:\n${lines.join('\n')}\n`;

const edges = (text: string): Record<string, string> =>
  Object.fromEntries(
    parsePlan(text, 'p.yaml').steps.map(({ name, after, needs }) => [
      name,
      `after ${[...after].sort().join()} needs ${[...needs].sort().join()}`,
    ]),
  );

describe('text of a plan', () => {
  it('is that of the documentation', () => {
    const page = readFileSync(join(checkoutFolder, 'docs/failover/plans.md'), 'utf8');
    const [, example = ''] = /```yaml\n([\s\S]*?)```/.exec(page) ?? [];
    const plan = parsePlan(example, 'plans.md');
    const kinds = new Set(plan.steps.map(({ action }) => action.kind));
    expect([...kinds].sort()).to.deep.equal(['delay', 'message', 'script', 'vm', 'wait-for']);
    const vms = plan.steps.filter(({ action }) => action.kind === 'vm');
    expect(vms.length).to.be.greaterThan(4);
  });

  it('orders the steps of a plan one after the other, and those of a group beside each other', () => {
    const text = steps(
      '  - vm: DC01',
      '  - group: db',
      '    steps: [{vm: SQL01}, {vm: SQL02}]',
      '  - group: web',
      '    order: sequence',
      '    steps: [{vm: WEB01}, {vm: WEB02}]',
    );
    expect(edges(text)).to.deep.equal({
      DC01: 'after  needs ',
      SQL01: 'after DC01 needs ',
      SQL02: 'after DC01 needs ',
      WEB01: 'after SQL01,SQL02 needs ',
      WEB02: 'after SQL01,SQL02,WEB01 needs ',
    });
  });

  it('lets a step depend on steps and groups, whatever the case of their names', () => {
    const text = `${HEAD}order: parallel\nsteps:\n  - {vm: A, depends_on: [DB, c]}\n  - group: db\n    after: C\n    steps: [{vm: B1}, {vm: B2}]\n  - vm: C\n`;
    expect(edges(text)).to.deep.equal({
      C: 'after  needs ',
      B1: 'after C needs ',
      B2: 'after C needs ',
      A: 'after  needs B1,B2,C',
    });
  });

  it('hands parameters down, the innermost last', () => {
    const text = `${HEAD}parameters: {network_map: "a=b", force_off: yes}\nsteps:\n  - group: g\n    parameters: {network_map: "c=d"}\n    steps:\n      - vm: A\n        parameters: {boot_timeout: 30}\n`;
    const [step] = parsePlan(text, 'p.yaml').steps;
    expect(step?.action).to.deep.include({
      parameters: { network_map: 'c=d', force_off: 'yes', boot_timeout: '30' },
    });
  });

  it('takes defaults, and scripts in their short form', () => {
    const plan = parsePlan(steps('  - script: dns.sh', '  - delay: 2m'), 'p.yaml');
    expect(plan).to.include({ concurrency: 20, isPartial: false, description: '' });
    expect(plan.steps.map(({ name, onError }) => `${name} ${onError}`)).to.deep.equal([
      'dns.sh ask',
      'delay 2 ask',
    ]);
    expect(plan.steps[1]?.action).to.deep.equal({ kind: 'delay', durationMs: 120_000 });
  });

  const wrong: readonly (readonly [what: string, text: string, message: RegExp])[] = [
    ['no map', '- a', /p\.yaml:1:1: .*no map/],
    ['nothing', '', /no map/],
    ['no version', 'name: P\nsteps: []', /has no version/],
    ['another version', 'version: 2\nname: P\nsteps: []', /p\.yaml:1:10: version is not 1/],
    ['no steps', HEAD, /has no steps/],
    ['an unknown key', `${HEAD}stepz: []\n`, /p\.yaml:3:1: unknown key "stepz"/],
    [
      'an unknown key of a step',
      steps('  - vm: A', '    vmm: B'),
      /p\.yaml:5:5: unknown key "vmm"/,
    ],
    [
      'a key that the kind of step has not',
      steps('  - vm: A', '    order: sequence'),
      /p\.yaml:5:5: unknown key "order"/,
    ],
    ['two kinds in one step', steps('  - vm: A', '    delay: 3'), /p\.yaml:4:5: .*exactly one of/],
    ['a VM twice', steps('  - vm: A', '  - vm: a'), /p\.yaml:5:9: .*second time/],
    ['a name twice', steps('  - vm: A', '  - {vm: B, name: a}'), /give it another name/],
    ['a pattern', steps('  - vm: SQL*'), /is a pattern/],
    [
      'a circle',
      `${HEAD}order: parallel\nsteps:\n  - {vm: A, depends_on: B}\n  - {vm: B, depends_on: A}\n`,
      /waits for itself: A waits for B waits for A/,
    ],
    [
      'a circle with the order',
      steps('  - {vm: A, depends_on: B}', '  - vm: B'),
      /waits for itself/,
    ],
    [
      'a step that waits for its group',
      steps('  - group: g', '    steps: [{vm: A, after: g}]'),
      /wait for itself/,
    ],
    [
      'a name that nobody has',
      steps('  - {vm: A, depends_on: [nobody]}'),
      /p\.yaml:4:26: .*names nobody/,
    ],
    ['a script with a path', steps('  - script: ../x.sh'), /no file name of a script/],
    ['a script about no VM', steps('  - script: {name: x.sh, about: y}'), /no step of a VM/],
    ['a delay without end', steps('  - delay: 2d'), /no time/],
    ['a wait for nothing', steps('  - wait-for: {timeout: 3}'), /exactly one of: heartbeat/],
    ['a wait for a bad address', steps('  - wait-for: {tcp: "80"}'), /no address/],
    ['a concurrency of none', `${HEAD}concurrency: 0\nsteps: [{vm: A}]`, /whole number from 1/],
    ['an empty group', steps('  - group: g', '    steps: []'), /has no step/],
    [
      'a parameter of odd name',
      `${HEAD}parameters: {"A b": 1}\nsteps: [{vm: A}]`,
      /no name of a parameter/,
    ],
    ['an anchor', steps('  - vm: &a A'), /p\.yaml:4:12: .*anchor/],
    ['an alias', steps('  - vm: A', '  - *b'), /./],
    ['a tag', steps('  - vm: !!str A'), /tag/],
    ['a key twice', `${HEAD}name: Q\nsteps: [{vm: A}]`, /p\.yaml:3:1: .*unique/i],
    ['two documents', `${steps('  - vm: A')}---\n${steps('  - vm: B')}`, /document/],
    ['a broken text', `${HEAD}steps: [`, /p\.yaml:/],
    ['too many bytes', `${steps('  - vm: A')}#${'x'.repeat(1 << 20)}`, /more than/],
    ['deep nesting', `${HEAD}steps: ${'['.repeat(100_000)}`, /nested too deeply/],
    [
      'deep nesting by blanks',
      `${HEAD}steps:\n${Array.from({ length: 900 }, (_, i) => `${' '.repeat(i)}a:\n`).join('')}`,
      /./,
    ],
    ['deep nesting by dashes', `${HEAD}steps: \n${'- '.repeat(5000)}`, /nested too deeply/],
    ['a bomb of aliases', `a: &a [x,x,x]\nb: &b [*a,*a,*a]\nc: [*b,*b,*b]\n`, /./],
    [
      'too many steps',
      steps(...Array.from({ length: 1001 }, (_, i) => `  - vm: V${i}`)),
      /1000 steps/,
    ],
  ];
  for (const [what, text, message] of wrong) {
    it(`with ${what} is refused where that stands`, () => {
      expect(refusalOf(text)).to.match(message);
    });
  }

  it('is a plan or a typed refusal, whatever it is', () => {
    const word = fc.constantFrom(
      ...['version: 1', 'name: P', 'steps:', '- vm: A', '- group: g', '  steps:', 'depends_on: A'],
      ...[
        '{',
        '}',
        '[',
        ']',
        '&a',
        '*a',
        '!!x',
        '? ',
        ': ',
        '|',
        '>',
        '---',
        '%YAML 1.1',
        '\t',
        '"',
      ],
    );
    const text = fc.array(fc.oneof(word, fc.string({ maxLength: 5 })), { maxLength: 30 });
    fc.assert(
      fc.property(text, fc.constantFrom('\n', ' ', '\n  '), (words, join) => {
        refusalOf(words.join(join));
      }),
      { numRuns: 2000 },
    );
  });
});
