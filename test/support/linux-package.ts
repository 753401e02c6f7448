// The packages as `npm run package` makes them.

import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { checkoutFolder } from './checkout.js';
import { expectTool } from './run-tool.js';

const BOOTSTRAP = join(checkoutFolder, 'bin', 'bootstrap.mjs');

/** `npm run package -- …args`; returns the files that it says it made. */
export async function makePackages(...args: string[]): Promise<string[]> {
  const run = await expectTool(process.execPath, [BOOTSTRAP, 'package', ...args]);
  return run.text.trim().split('\n');
}

/** The file of a folder whose name ends so. */
export const onlyFile = (folder: string, ending: string): string =>
  join(folder, readdirSync(folder).find((name) => name.endsWith(ending)) ?? '');

/**
 * Makes of a .deb the one of a later release: programs whose parts have other names, as after any change of the sources.
 */
export async function laterRelease(package_: string, folder: string): Promise<string> {
  const later = join(folder, 'later.deb');
  const script = `
    cd "$1" && dpkg-deb -R "$2" later
    cd later/usr/lib/podheitor/dist/programs
    sed -i -E 's/-([A-Z0-9]{7})[A-Z0-9]\\.js/-\\1_.js/g' *.js
    for part in *-????????.js; do mv "$part" "\${part%?.js}_.js"; done
    cd "$1/later"
    sed -i 's/^Version: .*/Version: 99.0.0/' DEBIAN/control
    sed -i 's/^build=.*/build=99.0.0-of-the-test/' DEBIAN/postinst
    find usr -type f -exec md5sum {} + > DEBIAN/md5sums
    sed -i 's/"version": ".*"/"version": "99.0.0"/' usr/lib/podheitor/package.json
    cd "$1" && dpkg-deb --root-owner-group -Znone --build later later.deb
  `;
  await expectTool('sh', ['-euc', script, 'sh', folder, package_]);
  return later;
}
