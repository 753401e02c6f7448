// Where the checkout is, seen from a compiled file of it or from a program that it was bound into.

import { existsSync } from 'node:fs';
import path from 'node:path';

function folderWithManifest(from: string): string | undefined {
  if (existsSync(path.join(from, 'package.json'))) return from;
  const parent = path.dirname(from);
  return parent === from ? undefined : folderWithManifest(parent);
}

/** The single executable stands below none: what needs a checkout is not offered there. */
export const CHECKOUT = folderWithManifest(import.meta.dirname) ?? import.meta.dirname;
