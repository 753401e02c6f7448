// What fails while the backend is being loaded (a file of the installation is gone, or is not the one of
// this release): the plugin gets it as a packet, and stderr stays silent. Uses nothing of the product.

import fs from 'node:fs';

const EXIT_INTERNAL = 70;
const TEXT_MAX = 1000;

/** Until whoever stands as the backend takes over. */
export function tellEarlyFailure(): void {
  process.on('uncaughtException', (error: unknown) => {
    const cause = error instanceof Error ? error.message : 'unknown';
    const line = cause.replace(/[\0-\x1f\x7f]+/g, ' ').slice(0, TEXT_MAX);
    const text = Buffer.from(
      `E_INTERNAL: the backend could not be loaded: ${line}; the job did not begin; Install the product again.\n`,
    );
    try {
      fs.writeSync(1, `A${String(text.length).padStart(6, '0')}\n`);
      fs.writeSync(1, text);
    } catch {
      // nobody reads
    }
    process.exit(EXIT_INTERNAL);
  });
}
