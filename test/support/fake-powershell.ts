// Stands for powershell.exe with host.ps1 in tests of the provider: greets, reads requests, answers each of them in turn. What
// it answers is the fake host's word (hyperv-host/service.ts); it knows no operation itself.
//
//   node fake-powershell.js PORT

import { once } from 'node:events';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import type { ServiceAnswer } from './hyperv-host/service.js';

const host = connect(Number(process.argv[2]), '127.0.0.1');
host.setNoDelay(true);
host.on('close', () => process.exit(1));
host.on('error', () => process.exit(1));
await once(host, 'connect');
const answers = createInterface({ input: host })[Symbol.asyncIterator]();

function say(message: unknown): void {
  const json = JSON.stringify(message);
  process.stdout.write(`${Buffer.from(json, 'utf8').toString('base64')}\n`);
}

interface Request {
  readonly id: number;
  readonly op: string;
  readonly args: unknown;
}

say({ hello: 'hvdr-powershell', version: 1 });
for await (const line of createInterface({ input: process.stdin })) {
  const { id, op, args } = JSON.parse(Buffer.from(line, 'base64').toString('utf8')) as Request;
  host.write(`${JSON.stringify({ op, args })}\n`);
  const next = await answers.next();
  // our own program
  const answer = JSON.parse(String(next.value)) as ServiceAnswer;
  if ('end' in answer) process.exit(1);
  if ('failure' in answer) say({ id, ok: false, error: answer.failure });
  else say({ id, ok: true, result: answer.result });
}
process.exit(0);
