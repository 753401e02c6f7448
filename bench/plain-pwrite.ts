// The peer of `hvdr pcbt apply`: reads a delta of 64 KiB blocks and writes each to its place in a
// raw file, then one fsync. No checks, no log, no allocation: what is left is the cost of the
// system calls. Usage: plain-pwrite.js DELTA TARGET

import { closeSync, fsyncSync, openSync, readSync, writeSync } from 'node:fs';
import { argv } from 'node:process';
import { assert, defined } from '../shared/assert.js';

const HEADER_BYTES = 16;
const ENTRY_BYTES = 16;
const BLOCK_BYTES = 64 * 1024;
const BLOCKS_PER_READ = 16;

const delta = openSync(defined(argv[2], 'the first argument is the delta'), 'r');
const target = openSync(defined(argv[3], 'the second argument is the target'), 'r+');
const entryBytes = ENTRY_BYTES + BLOCK_BYTES;
const buffer = Buffer.allocUnsafeSlow(entryBytes * BLOCKS_PER_READ);
for (let position = HEADER_BYTES; ; position += buffer.length) {
  const count = readSync(delta, buffer, 0, buffer.length, position);
  assert(count % entryBytes === 0, 'every block of the delta has 64 KiB');
  for (let start = 0; start < count; start += entryBytes) {
    assert(buffer.readBigUInt64LE(start + 8) === BigInt(BLOCK_BYTES), 'a block has 64 KiB');
    const offset = Number(buffer.readBigUInt64LE(start));
    writeSync(target, buffer, start + ENTRY_BYTES, BLOCK_BYTES, offset);
  }
  if (count < buffer.length) break;
}
fsyncSync(target);
closeSync(target);
closeSync(delta);
