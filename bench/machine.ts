// On what a result was measured. Figures of two machines, or of two commits, are never compared
// without these facts beside them.

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { availableParallelism, release } from 'node:os';
import { parseMemoryTotal, parseMountOf, parseProcessorModel } from './process-facts.js';

export interface Machine {
  readonly processor: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly kernel: string;
  readonly node: string;
  readonly fileSystem: string;
}

export interface Revision {
  readonly commit: string;
  /** Whether tracked files differ from the commit. */
  readonly isModified: boolean;
}

export function describeMachine(folder: string): Machine {
  const mount = parseMountOf(readFileSync('/proc/self/mounts', 'utf8'), folder);
  return {
    processor: parseProcessorModel(readFileSync('/proc/cpuinfo', 'utf8')) ?? 'unknown',
    cores: availableParallelism(),
    memoryBytes: parseMemoryTotal(readFileSync('/proc/meminfo', 'utf8')) ?? 0,
    kernel: release(),
    node: process.version,
    fileSystem: mount?.fileSystem ?? 'unknown',
  };
}

/** The commit of the checkout; a copy without git has none. */
export function describeRevision(checkout: string): Revision {
  const git = (...words: string[]): string =>
    execFileSync('git', ['-C', checkout, ...words], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
  try {
    return {
      commit: git('rev-parse', '--short=12', 'HEAD'),
      isModified: git('status', '--porcelain', '--untracked-files=no') !== '',
    };
  } catch {
    return { commit: 'unknown', isModified: false };
  }
}
