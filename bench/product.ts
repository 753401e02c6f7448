// The product as a user runs it: the launcher bin/hvdr of this checkout, or another command line
// that is named for the bench (a build of another commit, or cli/main.js without the launcher).

import { join } from 'node:path';
import type { Command } from './command.js';

/** The helper programs: compiled files of this folder, by name. */
export type HelperName =
  | 'plain-pwrite'
  | 'delay-proxy'
  | 'transport-channel'
  | 'transport-plain'
  | 'early-warning-cost'
  | 'failover-rto';

export class Product {
  /** The launcher, or a compiled cli/main.js, which then runs on the Node of this process. */
  readonly entry: string;
  /** Folder of the compiled benches, for the helper programs beside this file. */
  readonly #builtFolder: string;

  constructor(entry: string, builtFolder: string) {
    this.entry = entry;
    this.#builtFolder = builtFolder;
  }

  /** `hvdr …` */
  hvdr(...words: string[]): Command {
    return this.entry.endsWith('.js')
      ? { program: process.execPath, arguments: [this.entry, ...words] }
      : { program: this.entry, arguments: words };
  }

  /** A helper program of the benches, on the Node of this process; compiled code is kept, as for `hvdr`. */
  helper(name: HelperName, ...words: string[]): Command {
    return {
      program: process.execPath,
      arguments: [join(this.#builtFolder, `${name}.js`), ...words],
      environment: {
        NODE_COMPILE_CACHE: join(this.#builtFolder, '..', '..', '.cache', 'compiled'),
      },
    };
  }
}
