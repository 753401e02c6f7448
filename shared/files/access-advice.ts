// The command that keeps others away from a file, for the hint of an error.

import type { FileStatus } from './block-file.js';

/** `read`: only the owner may read it. `change`: others may read it, but not change it. */
export function accessAdvice(
  path: string,
  what: 'read' | 'change',
  platform: NodeJS.Platform = process.platform,
): string {
  if (platform !== 'win32') return `chmod ${what === 'read' ? '600' : 'go-w'} ${path}`;
  // by number: the names of these accounts are translated
  const [system, administrators, users] = ['*S-1-5-18:F', '*S-1-5-32-544:F', '*S-1-5-32-545:RX'];
  // the owner, and not who types this: he need not be the one who reads it
  const others = what === 'read' ? '*S-1-3-4:F' : users;
  return `icacls "${path}" /inheritance:r /grant:r ${system} ${administrators} ${others}`;
}

/** What keeps others from reading a file; on Windows its owner among them, whose own file it is on Linux. */
export function keepAdvice(
  path: string,
  { isOwnedByAnother }: FileStatus,
  platform: NodeJS.Platform = process.platform,
): string {
  const advice = accessAdvice(path, 'read', platform);
  return platform === 'win32' && isOwnedByAnother === true
    ? `${ownerAdvice(path, platform)}, then ${advice}`
    : advice;
}

/** The command that gives a file to the administrators. */
export function ownerAdvice(path: string, platform: NodeJS.Platform = process.platform): string {
  return platform === 'win32' ? `icacls "${path}" /setowner *S-1-5-32-544` : `chown root ${path}`;
}
