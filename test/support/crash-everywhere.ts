// Runs an operation once to count its steps, then again with a power cut at every step and once
// more with a power cut after its end, and shows each state that may be found then to a check.

import { AssertionError } from '../../shared/assert.js';
import type { FileSystem } from '../../shared/files/index.js';
import { CrashFileSystem, SURVIVOR_STYLES, type SurvivorStyle } from './crash-file.js';
import type { MemoryFileSystem } from './memory-file.js';
import { SeededRandom } from './seeded-random.js';

export interface CrashPlace {
  /** Operation during which the power went, from 1; `operationCount + 1` means after the end. */
  readonly operation: number;
  readonly operationCount: number;
  readonly style: SurvivorStyle;
  readonly seed: number;
  /** True when run() had returned successfully: only the new state is allowed then. */
  readonly hasFinished: boolean;
}

export interface CrashTrial {
  /** The volume before; taken anew for each crash. */
  readonly volume: MemoryFileSystem;
  readonly run: (fileSystem: FileSystem) => Promise<void>;
  /** Throws when the state is not allowed. The volume is the check's own; it may write to it. */
  readonly check: (found: MemoryFileSystem, place: CrashPlace) => Promise<void>;
  readonly styles?: readonly SurvivorStyle[];
  /** States per crash for the styles with chance in them (prefix, random). Default 4. */
  readonly seedCount?: number;
  /** When the run has more operations, so many of them are tried, spread by chance. */
  readonly operationsMax?: number | undefined;
  readonly firstSeed?: number;
}

/** Returns the number of states checked. */
export async function crashEverywhere(trial: CrashTrial): Promise<number> {
  const rehearsal = new CrashFileSystem({ volume: trial.volume });
  await trial.run(rehearsal);
  const operationCount = rehearsal.operationCount;
  const firstSeed = trial.firstSeed ?? 1;
  let stateCount = 0;
  for (const operation of operationsToTry(operationCount, trial.operationsMax, firstSeed)) {
    const fileSystem = new CrashFileSystem({ volume: trial.volume, crashAt: operation });
    const hasFinished = await runUntilCrash(fileSystem, trial.run);
    fileSystem.crashNow();
    for (const style of trial.styles ?? SURVIVOR_STYLES) {
      const isRandom = style === 'prefix' || style === 'random';
      for (let i = 0; i < (isRandom ? (trial.seedCount ?? 4) : 1); i++) {
        const seed = firstSeed + operation * 1000 + i;
        const place: CrashPlace = { operation, operationCount, style, seed, hasFinished };
        try {
          await trial.check(fileSystem.survivors(seed, style), place);
        } catch (error) {
          const last = fileSystem.lastOperation;
          const text = error instanceof Error ? error.message : String(error);
          throw new Error(
            `power cut at operation ${operation} of ${operationCount} (${last}), ` +
              `style ${style}, seed ${seed}, finished ${hasFinished}: ${text}`,
            { cause: error },
          );
        }
        stateCount++;
      }
    }
  }
  return stateCount;
}

/** True when the run ended well. Errors after the crash are its consequence; others are not. */
export async function runUntilCrash(
  fileSystem: CrashFileSystem,
  run: (fileSystem: FileSystem) => Promise<void>,
): Promise<boolean> {
  try {
    await run(fileSystem);
    return true;
  } catch (error) {
    if (!fileSystem.hasCrashed || error instanceof AssertionError) throw error;
    return false;
  }
}

function operationsToTry(count: number, most: number | undefined, seed: number): number[] {
  const all = Array.from({ length: count + 1 }, (_, index) => index + 1);
  if (most === undefined || all.length <= most) return all;
  const random = new SeededRandom(seed);
  const chosen = new Set<number>([1, count, count + 1]);
  while (chosen.size < most) chosen.add(random.pick(all));
  return [...chosen].sort((a, b) => a - b);
}
