// Services beside a measured command, with real processes of this Node.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect } from 'chai';
import { measure } from '../../../bench/measure.js';
import { freePort, LOOPBACK, Services } from '../../../bench/services.js';
import type { Command } from '../../../bench/command.js';
import { systemClock } from '../../../shared/clock.js';
import { skipBecause } from '../../support/need.js';
import { refusal } from '../../support/refusal.js';

const script = (text: string): Command => ({
  program: process.execPath,
  arguments: ['-e', text],
});

/** Burns 0.3 s of CPU as soon as somebody connects, then answers. */
const SERVER = `
  const server = require('node:net').createServer((socket) => {
    socket.on('error', () => undefined);
    const start = process.cpuUsage();
    while (process.cpuUsage(start).user + process.cpuUsage(start).system < 300000);
    socket.end('done');
  });
  server.listen(0, '127.0.0.1', () => console.log('listening 127.0.0.1:' + server.address().port));
`;
const CLIENT = (port: number): Command =>
  script(`require('node:net').connect(${port}, '127.0.0.1').resume()`);

describe('bench services', function () {
  this.timeout(60_000);

  let services: Services;
  beforeEach(() => {
    services = new Services(systemClock);
  });
  afterEach(() => services.stopAll());

  it('add what they spend during the work to the contender, and tell it apart', async function () {
    if (process.platform !== 'linux')
      skipBecause(this, 'the facts of a process are read from /proc, on Linux only');
    const { port } = await services.start({ command: script(SERVER), isCounted: true });
    const measured = await measure([CLIENT(port)], systemClock, services);
    expect(measured.services?.cpuSeconds).to.be.within(0.25, 5);
    expect(measured.cpuSeconds).to.be.at.least(measured.services?.cpuSeconds ?? 0);
    expect(measured.services?.peakRssBytes).to.be.greaterThan(2 ** 20);
    expect(measured.peakRssBytes).to.be.at.least(measured.services?.peakRssBytes ?? 0);
  });

  it('take in what others started, with the memory of its children that are gone', async function () {
    if (process.platform !== 'linux')
      skipBecause(this, 'the facts of a process are read from /proc, on Linux only');
    const big = 'const big = Buffer.alloc(96 * 2 ** 20, 1); setTimeout(() => big, 300)';
    const inThread = `require('node:child_process').spawn(process.execPath, ['-e', ${JSON.stringify(big)}])
      .on('close', () => console.log('over'))`;
    // a child of a thread, as the daemons of Bacula start theirs
    const parent = `process.stdin.once('data', () =>
      new (require('node:worker_threads').Worker)(${JSON.stringify(inThread)}, { eval: true }))`;
    const child = spawn(process.execPath, ['-e', parent], { stdio: ['pipe', 'pipe', 'inherit'] });
    try {
      services.adopt(child.pid ?? 0);
      const act = {
        act: 'waits for the child of a child',
        run: async () => {
          child.stdin.write('go\n');
          await once(child.stdout, 'data');
          return undefined;
        },
      };
      const measured = await measure([act], systemClock, services);
      expect(measured.services?.peakRssBytes).to.be.greaterThan(96 * 2 ** 20);
    } finally {
      child.kill('SIGKILL');
    }
  });

  it('that only stand for the network are not counted', async function () {
    if (process.platform !== 'linux')
      skipBecause(this, 'the facts of a process are read from /proc, on Linux only');
    const { port } = await services.start({ command: script(SERVER), isCounted: false });
    const measured = await measure([CLIENT(port)], systemClock, services);
    expect(measured.services).to.equal(undefined);
  });

  it('take the seconds of an act in place of those that passed', async () => {
    const act = { act: 'waits', run: () => Promise.resolve(42) };
    const measured = await measure([act], systemClock, services);
    expect(measured.wallSeconds).to.equal(42);
  });

  it('are ready when their port answers', async () => {
    const port = await freePort();
    const command = script(
      `setTimeout(() => require('node:net').createServer().listen(${port}, '${LOOPBACK}'), 200)`,
    );
    expect((await services.start({ command, port, isCounted: true })).port).to.equal(port);
  });

  it('that end before they are ready fail with what they said', async () => {
    const command = script(`console.error('no such key'); process.exit(3)`);
    const error = await refusal(() => services.start({ command, isCounted: true }));
    expect(error.code).to.equal('E_TOOL_FAILED');
    expect(error.message).to.contain('no such key');
  });

  it('that end during the work spoil the measurement', async () => {
    const { port } = await services.start({
      command: script(`
        const server = require('node:net').createServer(() => process.exit(1));
        server.listen(0, '127.0.0.1', () => console.log('listening 127.0.0.1:' + server.address().port));
      `),
      isCounted: true,
    });
    const client = script(
      `require('node:net').connect(${port}, '127.0.0.1').on('error', () => {}).on('close', () => {}).resume()`,
    );
    const error = await refusal(() => measure([client], systemClock, services));
    expect(error.code).to.equal('E_TOOL_FAILED');
  });

  it('that are no program are named as missing', async () => {
    const command = { program: 'hvdr-no-such-program', arguments: [] };
    const error = await refusal(() => services.start({ command, isCounted: true }));
    expect(error.code).to.equal('E_TOOL_MISSING');
  });
});
