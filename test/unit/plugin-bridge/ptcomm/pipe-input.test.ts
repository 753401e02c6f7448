import { spawn } from 'node:child_process';
import { closeSync, constants, openSync, readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { PipeInput } from '../../../../plugin-bridge/ptcomm/pipe-input.js';
import { expectTool } from '../../../support/run-tool.js';
import { SeededRandom } from '../../../support/seeded-random.js';
import { WorkFolder } from '../../../support/work-folder.js';

const MIB = 1024 * 1024;
const SIZE_BYTES = 24 * MIB + 7;

describe('standard input in large chunks', () => {
  const work = new WorkFolder('pipe-input');
  const content = work.file('content');

  before(() => {
    writeFileSync(content, new SeededRandom(3).bytes(SIZE_BYTES));
  });

  after(() => {
    work.dispose();
  });

  /** What `cat` says of the content comes through a pipe. */
  async function pipeOf(name: string): Promise<PipeInput> {
    const fifo = work.file(name);
    await expectTool('mkfifo', [fifo]);
    const descriptor = openSync(fifo, constants.O_RDONLY | constants.O_NONBLOCK);
    const writer = openSync(fifo, 'w');
    spawn('cat', [content], { stdio: ['ignore', writer, 'ignore'] });
    // else the end of the pipe would wait for this process
    closeSync(writer);
    return new PipeInput(descriptor);
  }

  for (const { pace, held, isSlow } of [
    { pace: 'at once', held: 0, isSlow: false },
    { pace: 'a few later', held: 5, isSlow: false },
    { pace: 'slower than they come', held: 2, isSlow: true },
  ]) {
    it(`gives each byte in order, in few pieces of memory, when they are released ${pace}`, async () => {
      const input = await pipeOf(pace);
      const memories = new Set<ArrayBufferLike>();
      const open: Buffer[] = [];
      const copies: Buffer[] = [];
      const finish = (chunk: Buffer | undefined): void => {
        if (chunk === undefined) return;
        copies.push(Buffer.from(chunk));
        input.release(chunk);
      };
      for await (const chunk of input) {
        memories.add(chunk.buffer);
        open.push(chunk);
        if (isSlow && copies.length < 40) await sleep(2);
        if (open.length > held) finish(open.shift());
      }
      for (const chunk of open) finish(chunk);
      expect(Buffer.concat(copies).equals(readFileSync(content))).to.equal(true);
      expect(memories.size).to.be.within(1, 3);
    });
  }

  it('takes no file for a pipe', () => {
    expect(() => new PipeInput(openSync(content, 'r'))).to.throw(/fd type/);
  });
});
