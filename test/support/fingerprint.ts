// What a file in memory holds, as a value that tests compare; holes cost nothing, so that a sparse
// file of many TiB can be compared, too.

import { createHash } from 'node:crypto';
import type { MemoryFileSystem } from './memory-file.js';

export function fingerprint(fs: MemoryFileSystem, path: string): string {
  const bytes = fs.nodeAt(path)?.bytes;
  if (bytes === undefined) return 'missing';
  const hash = createHash('sha256').update(`size ${bytes.sizeBytes}`);
  let position = 0;
  for (;;) {
    const data = bytes.nextData(position);
    if (data === undefined) return hash.digest('hex');
    const chunk = Buffer.alloc(data.end - data.start);
    bytes.read(data.start, chunk);
    hash.update(` ${data.start} `).update(chunk);
    position = data.end;
  }
}

/** All files of a volume with their fingerprints. */
export function volumeFingerprint(fs: MemoryFileSystem): Record<string, string> {
  return Object.fromEntries(fs.paths.map((path) => [path, fingerprint(fs, path)]));
}
