// Which release this is.

import { ownText } from './own-program.js';

/** Version of the product, from the package that this file is part of. */
export function productVersion(): string {
  const parsed: unknown = JSON.parse(ownText('package.json'));
  if (typeof parsed === 'object' && parsed !== null && 'version' in parsed) {
    return String(parsed.version);
  }
  return 'unknown';
}
