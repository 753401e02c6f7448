// A process that holds keys leaves no core dump (Linux: read from /proc).

import { readdirSync, readFileSync, statSync } from 'node:fs';
import { expect } from 'chai';
import { skipBecause } from '../support/need.js';
import { runHvdr } from '../support/cli.js';
import { HvdrProcess } from '../support/hvdr-process.js';
import { WorkFolder } from '../support/work-folder.js';

describe('core dumps', () => {
  const work = new WorkFolder('core-dumps');
  let receiver: HvdrProcess | undefined;

  after(async () => {
    await receiver?.stop('SIGKILL');
    work.dispose();
  });

  it('are off in a receiver, which can still be watched and works', async function () {
    if (process.platform !== 'linux')
      skipBecause(this, 'limits are read from /proc, on Linux only');
    const key = work.file('operator.psk');
    const made = await runHvdr(['psk', 'generate', '--out', key, '--role', 'operator']);
    expect(made.code, made.stderr).to.equal(0);
    receiver = new HvdrProcess([
      ...['receiver', '--store', work.file('store'), '--listen', '127.0.0.1:0'],
      ...['--psk-file', key],
    ]);
    const port = (await receiver.until(/^listening \S+:(\d+)\n/))[1] ?? '';
    const place = `/proc/${receiver.pid}`;
    const limits = readFileSync(`${place}/limits`, 'utf8');
    expect(limits).to.match(/^Max core file size\s+0\s+0\s/m);
    // what monitoring and the benchmarks read of other processes
    expect(readFileSync(`${place}/stat`, 'utf8')).to.match(/^\d+ \(\w+\) [RSD] /);
    expect(readFileSync(`${place}/status`, 'utf8')).to.match(/^VmHWM:\s+\d+ kB$/m);
    expect(readdirSync(`${place}/task`)).to.include(String(receiver.pid));
    // an undumpable process belongs to root, whoever started it; for root itself that shows nothing
    if (process.getuid?.() !== 0) expect(statSync(`${place}/stat`).uid).to.equal(0);
    const status = await runHvdr([
      ...['status', '--psk-file', key, '--dr-host', '127.0.0.1', '--dr-port', port],
    ]);
    expect(status.code, status.stderr).to.equal(0);
    expect(status.stderr).not.to.contain('run.core-dumps-on');
  });
});
