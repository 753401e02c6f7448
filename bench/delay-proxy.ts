// A line between two sites, as a process of its own: takes connections and passes their bytes on to
// a port of this machine, each way after a delay. Usage: delay-proxy.js PORT DELAY_MS

import { writeSync } from 'node:fs';
import { argv } from 'node:process';
import { assert } from '../shared/assert.js';
import { TcpProxy } from '../test/support/tcp-proxy.js';

const STDOUT = 1;

const port = Number(argv[2]);
const delayMs = Number(argv[3]);
assert(Number.isInteger(port) && Number.isInteger(delayMs), 'the arguments are a port and a delay');
const proxy = await TcpProxy.start({
  target: { host: '127.0.0.1', port },
  delayMs,
  isRecording: false,
});
writeSync(STDOUT, `listening ${proxy.host}:${proxy.port}\n`);
