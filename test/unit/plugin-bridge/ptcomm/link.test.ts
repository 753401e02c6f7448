// What a conversation keeps: nothing of what has passed.

import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect } from 'chai';
import { JobGone, PluginLink } from '../../../../plugin-bridge/ptcomm/link.js';
import { systemClock } from '../../../../shared/clock.js';
import { refusal } from '../../../support/refusal.js';

/** A collection now, in a process that was not started for it. */
function collect(): void {
  setFlagsFromString('--expose-gc');
  // the flag makes the function appear in contexts that come after it
  (runInNewContext('gc') as () => void)();
}

/** Large ones, so that few are read ahead. */
async function* packets(): AsyncGenerator<Buffer> {
  const packet = Buffer.concat([Buffer.from('D060000\n'), Buffer.alloc(60_000)]);
  for (;;) {
    await Promise.resolve();
    yield packet;
  }
}

function link(input: AsyncIterable<Buffer>, cancel = new AbortController().signal): PluginLink {
  const output = {
    write: (_bytes: Uint8Array, done: () => void) => {
      done();
    },
  };
  return new PluginLink({ input, output, clock: systemClock, cancel });
}

describe('a conversation with the plugin', () => {
  it('keeps no packet that was read or sent', async () => {
    const count = 20_000;
    const plugin = link(packets());
    const pass = async (times: number): Promise<void> => {
      for (let index = 0; index < times; index++) {
        await plugin.read();
        await plugin.send('D', Buffer.from('ab'));
      }
    };
    await pass(2000);
    collect();
    const before = process.memoryUsage().heapUsed;
    await pass(count);
    collect();
    // a promise that waits for the end with each packet keeps some hundred bytes of each
    expect((process.memoryUsage().heapUsed - before) / count).to.be.below(50);
  });

  it('lets go who waits when the job is cancelled, and who comes later', async () => {
    const cancel = new AbortController();
    const silent = (async function* (): AsyncGenerator<Buffer> {
      await new Promise(() => undefined);
      yield Buffer.alloc(0);
    })();
    const plugin = link(silent, cancel.signal);
    const waiting = refusal(() => plugin.read());
    cancel.abort();
    expect(await waiting).to.be.instanceOf(JobGone);
    expect(await refusal(() => plugin.read())).to.be.instanceOf(JobGone);
    expect(await refusal(() => plugin.send('F'))).to.be.instanceOf(JobGone);
  });

  it('keeps room for errors: however much is said before, they colour the job', async () => {
    const written: string[] = [];
    const blocked: (() => void)[] = [];
    const output = {
      write: (bytes: Uint8Array, done: () => void) => {
        written.push(Buffer.from(bytes).toString());
        blocked.push(done);
      },
    };
    const plugin = new PluginLink({
      ...{ input: packets(), output, clock: systemClock },
      cancel: new AbortController().signal,
    });
    for (let index = 0; index < 1000; index++) plugin.say('info', `VM ${index}`);
    plugin.say('error', '1 VM has no new point');
    const end = plugin.send('F').then(() => 'sent');
    for (let isSent = false; !isSent;) {
      blocked.shift()?.();
      isSent = (await Promise.race([end, Promise.resolve('waits')])) === 'sent';
    }
    expect(written.at(-2)).to.match(/^Q\d{6}\n1 VM has no new point \(800 messages before it were/);
  });
});
