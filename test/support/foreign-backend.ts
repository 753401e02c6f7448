// A backend of another product, as far as a backup needs one: a script that sends files through the
// plugin of the File Daemon into a job. What it sends is none of ours.

import { writeFileSync } from 'node:fs';

export interface ForeignFile {
  /** With the namespace: `/@vsphere/esx1/esx1.vmx`. */
  readonly name: string;
  /** Whose bytes it has. */
  readonly file: string;
}

/** Writes the script; run it with Node. */
export function writeForeignBackend(script: string, files: readonly ForeignFile[]): void {
  writeFileSync(script, `const FILES = ${JSON.stringify(files)};\n${SOURCE}`);
}

const SOURCE = `
import fs from 'node:fs';

function take(length) {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; ) {
    const count = fs.readSync(0, bytes, at, length - at, null);
    if (count === 0) process.exit(0);
    at += count;
  }
  return bytes;
}
function read() {
  const header = take(8).toString('latin1');
  return header[0] + ' ' + take(Number(header.slice(1, 7))).toString('utf8').trimEnd();
}
function until(wanted) {
  while (read().trimEnd() !== wanted);
}
function put(bytes) {
  for (let at = 0; at < bytes.length; ) at += fs.writeSync(1, bytes, at);
}
function send(letter, payload = Buffer.alloc(0)) {
  const bytes = Buffer.from(payload);
  put(Buffer.from(letter + String(bytes.length).padStart(6, '0') + '\\n'));
  put(bytes);
}

read();
send('C', 'Hello Bacula\\n');
until('F'); // the job
send('F');
until('F'); // its parameters
send('F');
until('C BackupStart');
send('F');
for (const { name, file } of FILES) {
  const bytes = fs.readFileSync(file);
  send('C', 'FNAME:' + name + '\\n');
  send('C', 'STAT:F ' + bytes.length + ' 0 0 100600 1\\n');
  send('C', 'TSTAMP:1795444060 1795444060 1795444060\\n');
  send('F');
  send('C', 'DATA\\n');
  for (let at = 0; at < bytes.length; at += 60000) send('D', bytes.subarray(at, at + 60000));
  send('F');
}
send('F');
until('C END');
send('F');
until('T');
`;
