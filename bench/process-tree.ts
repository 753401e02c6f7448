// What /proc says about a process and all that it started, at one moment. Linux only.

import { readdirSync, readFileSync } from 'node:fs';
import { defined } from '../shared/assert.js';
import { parseChildren, parseChildTicks, parseOwnTicks, parsePeakRss } from './process-facts.js';

/** USER_HZ, part of the kernel's interface to programs on all machines that Node runs on. */
const TICKS_PER_SECOND = 100;

/** CPU time of the children that this process has waited for, theirs included. */
export function waitedChildCpuSeconds(): number {
  const ticks = parseChildTicks(readFileSync('/proc/self/stat', 'utf8'));
  return defined(ticks, 'the kernel tells the CPU time of children') / TICKS_PER_SECOND;
}

/** CPU time so far of the living processes under `root`, and of those that they waited for. */
export function treeCpuSeconds(root: number): number {
  let ticks = 0;
  forTree(root, (pid) => {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    ticks += (parseOwnTicks(stat) ?? 0) + (parseChildTicks(stat) ?? 0);
  });
  return ticks / TICKS_PER_SECOND;
}

/** Largest VmHWM in the tree under `root`; processes that ended meanwhile do not count. */
export function treePeakRss(root: number): number {
  let largest = 0;
  forTree(root, (pid) => {
    largest = Math.max(largest, parsePeakRss(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? 0);
  });
  return largest;
}

function forTree(root: number, visit: (pid: number) => void): void {
  const pending = [root];
  for (let pid = pending.pop(); pid !== undefined; pid = pending.pop()) {
    try {
      visit(pid);
      // a child belongs to the thread that started it
      for (const thread of readdirSync(`/proc/${pid}/task`)) {
        const children = readFileSync(`/proc/${pid}/task/${thread}/children`, 'utf8');
        pending.push(...parseChildren(children));
      }
    } catch (error) {
      // ENOENT and ESRCH: the process has ended between two looks
      if (!(error instanceof Error && 'code' in error)) throw error;
    }
  }
}
