// A folder for one suite's real files, removed when the suite ends.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export class WorkFolder {
  readonly path: string;

  constructor(name: string) {
    this.path = mkdtempSync(join(tmpdir(), `hvdr-${name}-`));
  }

  /** The absolute path of `name` in the folder. */
  file(name: string): string {
    return join(this.path, name);
  }

  remove(name: string): void {
    rmSync(this.file(name));
  }

  dispose(): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}
