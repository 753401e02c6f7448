// The hostile suites' promise for every case: whatever a client does, memory stays within bounds. Heap
// and buffers of this process, in which the receiver under attack runs beside its attacker.

import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect } from 'chai';

const MIB = 1024 * 1024;
/** Far above what any case keeps, far below what one message in each of its connections would take. */
const GROWTH_MAX_MIB = 128;

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** What is kept: garbage that nobody has collected yet is no case's fault. */
function usedBytes(): number {
  collectGarbage();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/** To be called in a `describe`: holds each of its cases to the bound. */
export function boundMemory(): void {
  let before = 0;

  beforeEach(() => {
    before = usedBytes();
  });

  afterEach(() => {
    const grownMib = Math.round((usedBytes() - before) / MIB);
    expect(grownMib, 'MiB that the case left behind').to.be.at.most(GROWTH_MAX_MIB);
  });
}
