import { expect } from 'chai';
import { DrError } from '../../shared/errors.js';
import { LOG_EVENTS, type LogEvent } from '../../shared/log-events.js';
import { openLog, silentLog, type Log, type LogLevel } from '../../shared/log.js';
import { isSecretName, Redactor } from '../../shared/log-redaction.js';
import { FakeClock } from '../support/fake-clock.js';

const KEY = 'correct-horse+battery/staple42';

type Line = Readonly<Record<string, unknown>>;

async function logTo(
  lines: string[],
  options: { level?: LogLevel; isTerminal?: boolean } = {},
): Promise<Log> {
  return openLog({
    destination: { write: (line: string) => lines.push(line) },
    level: options.level ?? 'debug',
    clock: new FakeClock(Date.UTC(2026, 4, 1, 12)),
    ...(options.isTerminal === undefined ? {} : { isTerminal: options.isTerminal }),
  });
}

function parse(line: string | undefined): Line {
  return JSON.parse(line ?? '') as Line;
}

describe('log', () => {
  it('writes one JSON object a line: time, level, event, what it belongs to, fields', async () => {
    const lines: string[] = [];
    const log = (await logTo(lines)).child({ component: 'agent', vmId: 'v1' }).child({ epoch: 7n });
    log.info('run.started', { exitCode: 0 });
    expect(lines).to.have.length(1);
    expect(lines[0]?.endsWith('\n')).to.equal(true);
    expect(parse(lines[0])).to.deep.equal({
      level: 'info',
      time: '2026-05-01T12:00:00.000Z',
      component: 'agent',
      vmId: 'v1',
      epoch: '7',
      exitCode: 0,
      event: 'run.started',
    });
  });

  it('leaves out what is below its level', async () => {
    const lines: string[] = [];
    const log = await logTo(lines, { level: 'warn' });
    log.debug('run.started');
    log.info('run.started');
    log.warn('run.started');
    log.error('run.started');
    expect(lines.map((line) => parse(line)['level'])).to.deep.equal(['warn', 'error']);
  });

  it('tells of an error its code, context and causes', async () => {
    const lines: string[] = [];
    const cause = Object.assign(new Error('no space'), { systemCode: 'ENOSPC' });
    const error = new DrError('E_CAPACITY', 'cannot write', { context: { offset: 5n }, cause });
    (await logTo(lines)).error('run.failed', { error });
    const logged = parse(lines[0])['error'] as Line;
    expect(logged).to.deep.include({ code: 'E_CAPACITY', message: 'cannot write' });
    expect(logged['context']).to.deep.equal({ offset: '5' });
    expect(logged['cause']).to.deep.include({ message: 'no space', systemCode: 'ENOSPC' });
    // where in our code it came up is told of bugs only, and of what was not foreseen
    expect(logged).not.to.have.property('stack');
    expect(logged['cause']).to.have.property('stack').that.is.a('string');
  });

  it('is readable on a terminal', async () => {
    const lines: string[] = [];
    (await logTo(lines, { isTerminal: true })).warn('run.failed', { vmId: 'v1' });
    expect(lines.join('')).to.contain('run.failed');
    expect(lines.join('')).to.contain('WARN');
    expect(() => parse(lines[0])).to.throw();
  });

  it('says nothing when it is silent', () => {
    silentLog.child({ component: 'x' }).error('run.failed');
    silentLog.hide(KEY);
  });

  it('explains every event in a sentence', () => {
    for (const [event, meaning] of Object.entries(LOG_EVENTS)) {
      expect(event).to.match(/^[a-z]+\.[a-z-]+$/);
      expect(meaning).to.match(/^[A-Z].*\.$/);
    }
  });
});

describe('log: no key ever shows', () => {
  const bytes = Buffer.from(KEY);
  const circular: Record<string, unknown> = { psk: KEY };
  circular['self'] = circular;
  const throwing = Object.defineProperty({}, 'bad', {
    enumerable: true,
    get: () => {
      throw new Error(KEY);
    },
  });

  /** Shapes that the first two nets (names and forms) have to catch, without knowing the key. */
  const unknownKey: [string, Record<string, unknown>][] = [
    ['a field', { psk: KEY }],
    ['a field in another spelling', { drPsk: KEY, DR_PSK: KEY, 'api-token': KEY, apiKeys: [KEY] }],
    ['a nested field', { a: { b: [{ passphrase: KEY }] } }],
    ['a field that holds an object', { secret: { value: KEY } }],
    ['a map', { settings: new Map([['password', KEY]]) }],
    ['a plugin string', { text: `hyperv: vm=a dr_psk=${KEY} dr_port=9847` }],
    ['a quoted value with blanks', { text: `dr_psk="one ${KEY} two" x=1` }],
    ['JSON inside a string', { text: JSON.stringify({ psk: KEY }) }],
    ['an unclosed quote', { text: `dr_psk="one ${KEY} two` }],
    ['JSON inside JSON', { text: JSON.stringify({ a: JSON.stringify({ psk: KEY }) }) }],
    ['a key file', { text: `read hvdrpsk1:${KEY}` }],
    ['a URL', { url: new URL(`https://user:${encodeURIComponent(KEY)}@host/?token=${KEY}`) }],
    ['a header', { text: `Authorization: Bearer ${KEY}` }],
    ['a PEM block', { text: `-----BEGIN PRIVATE KEY-----\n${KEY}\n-----END PRIVATE KEY-----` }],
    ['an array', { list: [`psk=${KEY}`, { token: KEY }] }],
    ['a set', { list: new Set([`psk: ${KEY}`]) }],
    ['an error message', { error: new Error(`bad dr_psk=${KEY}`) }],
    ['an error cause', { error: new Error('x', { cause: new Error(`psk=${KEY}`) }) }],
    ['an error context', { error: new DrError('E_IO', 'x', { context: { psk: KEY } }) }],
    ['a field of an error', { error: Object.assign(new Error('x'), { password: KEY }) }],
    ['errors together', { error: new AggregateError([new Error(`psk=${KEY}`)], 'x') }],
    ['a buffer', { data: bytes, view: new DataView(bytes.buffer), list: [new Uint8Array(bytes)] }],
    ['an array buffer', { data: new Uint8Array(bytes).buffer }],
    ['a circle', circular],
    ['a getter that throws', { throwing }],
  ];
  /** Shapes that only a program that knows its key can recognise. */
  const knownKey: [string, Record<string, unknown>][] = [
    ['bare text', { text: `tried ${KEY} in vain` }],
    ['hex', { text: bytes.toString('hex'), upper: bytes.toString('hex').toUpperCase() }],
    ['base64', { text: bytes.toString('base64'), url: bytes.toString('base64url') }],
    ['the name of a field', { [KEY]: 1 }],
    ['an error message', { error: new Error(KEY), list: [new Error('x', { cause: KEY })] }],
    ['text that is cut', { text: 'x'.repeat(8180) + KEY }],
  ];
  const traces = [KEY, encodeURIComponent(KEY), 'battery', bytes.toString('hex').slice(0, 12)];
  traces.push(
    bytes.toString('hex').slice(0, 12).toUpperCase(),
    bytes.toString('base64').slice(0, 12),
  );
  traces.push(bytes.join(','), bytes.join(',').slice(0, 20));

  for (const isTerminal of [false, true]) {
    for (const [isKnown, shapes] of [
      [false, unknownKey],
      [true, knownKey],
    ] as const) {
      for (const [where, fields] of shapes) {
        const how = `${isTerminal ? 'terminal' : 'JSON'}${isKnown ? ', key known' : ''}`;
        it(`in ${where} (${how})`, async () => {
          const lines: string[] = [];
          const log = await logTo(lines, { isTerminal });
          if (isKnown) log.hide(KEY);
          log.info('run.started', fields);
          const child = log.child(fields);
          child.error('run.failed', fields);
          expect(lines).to.have.length(2);
          for (const trace of traces) expect(lines.join('')).to.not.contain(trace);
        });
      }
    }
  }

  it('in the message', async () => {
    const lines: string[] = [];
    const log = await logTo(lines);
    // The compiler refuses this; a caller that goes round it must not leak either.
    log.info(`started with psk=${KEY}` as LogEvent);
    expect(lines.join('')).to.not.contain(KEY);
    expect(lines.join('')).to.contain('started with');
  });

  it('and names that only speak about keys stay readable', () => {
    for (const name of ['psk', 'dr_psk', 'apiKey', 'KEYS', 'private-key', 'tokens', 'dbPassword']) {
      expect(isSecretName(name), name).to.equal(true);
    }
    for (const name of ['dr_psk_file', 'keyId', 'monkey', 'keyboard', 'passwordless', 'path']) {
      expect(isSecretName(name), name).to.equal(false);
    }
    const text = 'dr_psk_file=/etc/hvdr/psk vm=monkey start:5';
    expect(new Redactor().text(text)).to.equal(text);
  });
});

describe('log: bounded and harmless', () => {
  const redactor = new Redactor();

  it('cuts long text, long lists and deep objects', () => {
    expect(redactor.text('x'.repeat(1_000_000)).length).to.be.below(9000);
    expect(redactor.value(new Array(1000).fill(1))).to.have.length(101);
    let deep: unknown = 1;
    for (let i = 0; i < 1000; i++) deep = { deep };
    expect(JSON.stringify(redactor.value(deep))).to.contain('[deeper]');
  });

  it('ends soon with hostile text', () => {
    const texts = [
      'a'.repeat(65_536),
      'psk'.repeat(20_000),
      '"='.repeat(30_000),
      'psk="'.repeat(12_000),
      'psk='.repeat(16_000),
      '://:'.repeat(16_000),
    ];
    texts.push('-----BEGIN PRIVATE KEY-----'.repeat(2000), 'key '.repeat(16_000) + '=');
    // A search that looks at the same bytes again and again would run into the test's time limit.
    for (const text of texts) expect(redactor.text(text).length).to.be.below(9000);
  });

  it('lets no control character through to a terminal', () => {
    expect(redactor.text('a\u001b[2Jb\u009bc\r\n\td')).to.equal('a\\x1b[2Jb\\x9bc\\x0d\n\td');
  });

  it('keeps ordinary values as they are', () => {
    const value = { a: 1, b: 'text', c: [true, null], d: { e: 1.5 } };
    expect(redactor.value(value)).to.deep.equal(value);
    expect(redactor.value(10n)).to.equal('10');
    expect(redactor.value(new Date(0))).to.equal('1970-01-01T00:00:00.000Z');
    expect(redactor.value(Number.NaN)).to.equal('NaN');
  });
});
