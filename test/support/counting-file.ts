// Counts operations and bytes per file and kind, so that a test can state what an operation costs
// ("a merge reads and writes the child's bytes") instead of how long it took.

import { posixName } from './memory-file.js';
import type { FileSystem } from '../../shared/files/index.js';
import { type Call, type CallKind, HookedFileSystem } from './hooked-file.js';

export interface Tally {
  /** Calls made. */
  readonly count: number;
  /** Bytes asked to be read or written. */
  readonly lengthBytes: number;
}

export class CountingFileSystem extends HookedFileSystem {
  readonly #calls: { kind: CallKind; path: string; position: number; lengthBytes: number }[];

  constructor(inner: FileSystem) {
    const calls: { kind: CallKind; path: string; position: number; lengthBytes: number }[] = [];
    super(inner, <T>(call: Call, run: () => Promise<T>): Promise<T> => {
      calls.push({
        kind: call.kind,
        path: call.path,
        position: call.position ?? 0,
        lengthBytes: call.bytes?.length ?? 0,
      });
      return run();
    });
    this.#calls = calls;
  }

  /** Calls of one kind, over all files or those whose path is or matches `path`. */
  tally(kind: CallKind, path?: string | RegExp): Tally {
    let count = 0;
    let lengthBytes = 0;
    for (const call of this.#calls) {
      if (call.kind !== kind) continue;
      if (typeof path === 'string' && call.path !== path) continue;
      if (path instanceof RegExp && !path.test(posixName(call.path))) continue;
      count++;
      lengthBytes += call.lengthBytes;
    }
    return { count, lengthBytes };
  }

  /** All calls in order. */
  get calls(): readonly {
    readonly kind: CallKind;
    readonly path: string;
    readonly position: number;
    readonly lengthBytes: number;
  }[] {
    return this.#calls;
  }

  reset(): void {
    this.#calls.length = 0;
  }
}
