// The privilege that attaching a disk takes. Administrators and LocalSystem hold it, but a process may have to switch it
// on for itself (hyperv.md § 1.5).

import type { NativeLibrary } from './library.js';
import { MEMBER_BYTES, nativeBytes, newStruct, offsetOf, setUint32 } from './layouts.js';
import { ERROR_SUCCESS, PRIVILEGE_ENABLED, TOKEN_ADJUST_PRIVILEGES, TOKEN_QUERY } from './win32.js';

const MANAGE_VOLUME = 'SeManageVolumePrivilege';
const TOKEN_ADJUST_AND_QUERY = TOKEN_ADJUST_PRIVILEGES | TOKEN_QUERY;

/** Switches it on for this process; false when the account does not hold it, or nobody can tell. */
export function enableManageVolume(library: NativeLibrary): boolean {
  const names = ['OpenProcessToken', 'LookupPrivilegeValueW', 'AdjustTokenPrivileges'] as const;
  if (!names.every((name) => library.has(name)) || !library.has('GetCurrentProcess')) return false;
  const token = nativeBytes(8);
  const process = BigInt(library.call('GetCurrentProcess'));
  if (library.call('OpenProcessToken', process, TOKEN_ADJUST_AND_QUERY, token) === 0) return false;
  try {
    const wanted = newStruct('TOKEN_PRIVILEGES');
    const luid = nativeBytes(MEMBER_BYTES.luid);
    if (library.call('LookupPrivilegeValueW', null, MANAGE_VOLUME, luid) === 0) return false;
    setUint32(wanted, 'TOKEN_PRIVILEGES', 'PrivilegeCount', 1);
    luid.copy(wanted, offsetOf('TOKEN_PRIVILEGES', 'Privileges.Luid'));
    setUint32(wanted, 'TOKEN_PRIVILEGES', 'Privileges.Attributes', PRIVILEGE_ENABLED);
    const args = [token.readBigInt64LE(0), 0, wanted, 0, null, null];
    // it succeeds also when it switched nothing on: the error code says which
    return (
      library.call('AdjustTokenPrivileges', ...args) !== 0 &&
      library.call('GetLastError') === ERROR_SUCCESS
    );
  } finally {
    library.call('CloseHandle', token.readBigInt64LE(0));
  }
}
