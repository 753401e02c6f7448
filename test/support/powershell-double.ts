// A double of host.ps1 for the tests of the host process: a program that speaks the protocol and, by the names of the
// operations that it is asked, commits every fault that a host can have. How often it was started stands in a file.
//
//   node powershell-double.js STARTS-FILE [FAULT-AT-START]      FAULT-AT-START: silent, slow, flood, dead,
// quiet, wrong, old, deaf

import { appendFileSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

const [startsFile = '', fault = 'none'] = process.argv.slice(2);
appendFileSync(startsFile, 'x');
const starts = readFileSync(startsFile, 'utf8').length;

function encode(message: unknown): string {
  return Buffer.from(JSON.stringify(message), 'utf8').toString('base64');
}

const say = (message: unknown): void => {
  process.stdout.write(`${encode(message)}\n`);
};

interface Request {
  readonly id: number;
  readonly op: string;
  readonly args: Record<string, unknown>;
}

const FAULTS: Readonly<Record<string, (request: Request) => void>> = {
  'double.hang': () => undefined,
  'double.die': () => process.exit(3),
  'double.endQuietly': () => process.exit(0),
  'double.halfLine': ({ id }) => {
    process.stdout.write(encode({ id, ok: true, result: {} }).slice(0, 10));
  },
  'double.halfLineAndEnd': ({ id }) => {
    process.stdout.write(encode({ id, ok: true, result: {} }).slice(0, 10), () => process.exit(0));
  },
  'double.garbage': () => {
    process.stdout.write('WARNING: this is no message\n');
  },
  'double.otherId': ({ id }) => say({ id: id + 7, ok: true, result: {} }),
  'double.twice': ({ id }) => {
    const first = encode({ id, ok: true, result: { value: 'first' } });
    const second = encode({ id, ok: true, result: { value: 'second' } });
    process.stdout.write(`${first}\n${second}\n`);
  },
  'double.giant': () => {
    const piece = 'A'.repeat(1024 * 1024);
    const write = (left: number): void => {
      if (left > 0) process.stdout.write(piece, () => write(left - 1));
    };
    write(80);
  },
  'double.list': ({ id }) => say({ id, ok: true, result: [1, 2] }),
  'double.noOk': ({ id }) => say({ id, result: {} }),
  'double.empty': () => {
    process.stdout.write('\n');
  },
  'double.bytewise': ({ id }) => {
    void bytewise(`${encode({ id, ok: true, result: { value: 'Zürich ☂' } })}\r\n`);
  },
  'double.flood': ({ id }) => {
    process.stderr.write('noise '.repeat(200_000), () =>
      say({ id, ok: true, result: { value: 'after' } }),
    );
  },
  'double.echo': ({ id, args }) => say({ id, ok: true, result: args }),
  'double.starts': ({ id }) => say({ id, ok: true, result: { value: String(starts) } }),
  'double.failure': ({ id, args }) => say({ id, ok: false, error: args }),
  'host.ping': ({ id }) => {
    if (fault !== 'deaf') say({ id, ok: true, result: { done: 'yes' } });
  },
};

async function bytewise(text: string): Promise<void> {
  for (const letter of text) {
    process.stdout.write(letter);
    await sleep(0);
  }
}

if (fault === 'dead' && starts <= 2) process.exit(1);
if (fault === 'quiet') process.exit(0);
if (fault === 'slow') await sleep(300);
if (fault === 'flood') process.stderr.write('noise '.repeat(200_000));
if (fault === 'wrong') process.stdout.write('Windows PowerShell\n');
else if (fault === 'old') say({ hello: 'hvdr-powershell', version: 0 });
else if (fault !== 'silent') say({ hello: 'hvdr-powershell', version: 1 });

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(Buffer.from(line, 'base64').toString('utf8')) as Request;
  FAULTS[request.op]?.(request);
}
