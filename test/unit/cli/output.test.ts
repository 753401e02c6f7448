import { expect } from 'chai';
import { Output, OutputClosed, type StandardStreams } from '../../../cli/output.js';
import { toJson } from '../../../shared/json.js';
import { startProgress } from '../../../cli/progress.js';
import { DrError } from '../../../shared/errors.js';
import { FakeClock } from '../../support/fake-clock.js';

interface Captured {
  readonly streams: StandardStreams;
  readonly output: Output;
  readonly out: () => string;
  readonly err: () => string;
}

function capture(options: { readonly isTerminal?: boolean; readonly fail?: Error } = {}): Captured {
  let out = '';
  let err = '';
  const streams: StandardStreams = {
    writeOut(chunk) {
      if (options.fail !== undefined) return Promise.reject(options.fail);
      out += Buffer.from(chunk).toString();
      return Promise.resolve();
    },
    writeError(text) {
      err += text;
    },
    errorIsTerminal: options.isTerminal ?? false,
    errorColumns: 60,
  };
  return { streams, output: new Output(streams), out: () => out, err: () => err };
}

async function rejection(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (error: unknown) => error,
  );
}

describe('Output', () => {
  it('prints text for people, or one document', async () => {
    const people = capture();
    people.output.result({ size: 1 }, () => 'size 1');
    await people.output.flush();
    expect(people.out()).to.equal('size 1\n');

    const machine = capture();
    machine.output.json = true;
    machine.output.result({ size: 2n ** 63n }, () => 'size');
    await machine.output.flush();
    expect(JSON.parse(machine.out())).to.deep.equal({ size: '9223372036854775808' });
  });

  it('ends a run of events with the result', async () => {
    const { output, out } = capture();
    output.json = true;
    output.event({ event: 'step', name: 'one' }, () => 'one');
    output.result({ good: true }, () => 'good');
    await output.flush();
    const lines = out().trimEnd().split('\n');
    expect(lines.map((line): unknown => JSON.parse(line))).to.deep.equal([
      { event: 'step', name: 'one' },
      { event: 'result', good: true },
    ]);
  });

  it('ends a failed run of events with an error as its result', async () => {
    const { output, out, err } = capture();
    output.json = true;
    output.event({ event: 'step' }, () => '');
    output.failure(new DrError('E_IO', 'the disk is gone'));
    await output.flush();
    expect(out()).to.match(/\n\{"event":"result","error":\{"code":"E_IO"/);
    expect(err()).to.match(/^E_IO: the disk is gone; nothing was changed; .*\n$/);
  });

  it("lets nobody's name steer the terminal", async () => {
    const { output, out, err } = capture();
    const name = 'SQL\u001b[2J\u009b1A\u202e01\r';
    output.result({ vm: name }, () => `${name}\n\tsecond line`);
    output.note(name);
    await output.flush();
    const shown = 'SQL\\u001b[2J\\u009b1A\\u202e01\\u000d\n';
    expect(out()).to.equal(`${shown}\tsecond line\n`);
    expect(err()).to.equal(shown);
  });

  it('keeps an error on one line', () => {
    const { output, err } = capture();
    output.failure(new DrError('E_TOOL_FAILED', 'qemu-img said:\n  no\n  such file'));
    expect(err().split('\n')).to.have.length(2);
    expect(err()).to.contain('qemu-img said: no such file;');
  });

  it('adds no document to raw bytes', async () => {
    const { output, out } = capture();
    output.json = true;
    await output.bytes(Buffer.from('raw'));
    output.failure(new DrError('E_IO', 'gone'));
    await output.flush();
    expect(out()).to.equal('raw');
  });

  it('reports a lost reader and a failed stdout at the next chance', async () => {
    const lost = capture({ fail: new OutputClosed('gone') });
    expect(await rejection(lost.output.bytes(Buffer.from('x')))).to.be.instanceOf(OutputClosed);
    const full = capture({ fail: new Error('no space') });
    expect(await rejection(full.output.bytes(Buffer.from('x')))).to.include({ code: 'E_IO' });
  });
});

describe('toJson', () => {
  it('writes a bigint as a decimal string', () => {
    expect(toJson({ epoch: 18446744073709551615n })).to.equal('{"epoch":"18446744073709551615"}');
  });
});

describe('progress', () => {
  it('prints a line every five seconds elsewhere than on a terminal', async () => {
    const { output, err } = capture();
    const clock = new FakeClock();
    const progress = startProgress(output, clock, { label: 'copy', total: 4096 });
    progress.advance(1024);
    expect(err()).to.equal('');
    await clock.advance(5000);
    progress.advance(1024);
    expect(err()).to.equal('copy: 50 % · 2 KiB of 4 KiB, 5 s, 410 B/s\n');
    progress.advance(1024);
    expect(err().split('\n')).to.have.length(2);
  });

  it('says nothing about work that ends at once', () => {
    const { output, err } = capture();
    const progress = startProgress(output, new FakeClock(), { label: 'copy', total: 10 });
    progress.advance(10);
    progress.end();
    expect(err()).to.equal('');
  });

  it('draws a bar on a terminal that fits its width, and takes it away', async () => {
    const { output, err } = capture({ isTerminal: true });
    const clock = new FakeClock();
    const progress = startProgress(output, clock, { label: 'convert a.vhdx', total: 100 });
    await clock.advance(200);
    progress.set(50);
    const drawn = err().replace('\r\u001b[K', '');
    expect(drawn).to.contain('[##########..........] 50 %');
    expect(drawn.length).to.be.lessThan(60);
    progress.end();
    expect(err()).to.match(/\r\u001b\[K$/);
  });
});
