// The numbers of Windows that this folder uses (hyperv.md § 2.3), and what its error codes mean for us.

import { guid } from '../../../bytes/index.js';
import type { ErrorCode } from '../../../errors.js';
import { VirtualDiskError, type VirtualDiskFault } from './port.js';

export const VENDOR_MICROSOFT = guid('ec984aec-a0f9-47e9-901f-71415a66345b');
export const DEVICE_VHDX = 3;

/** With parameters of version 2 the mask must be none. */
export const ACCESS_NONE = 0;
export const ACCESS_METAOPS = 0x20_0000;

/** Which member of the union in the parameters of a call is meant. */
export const OPEN_VERSION_1 = 1;
export const OPEN_VERSION_2 = 2;
export const CREATE_VERSION_2 = 2;
export const ATTACH_VERSION_1 = 1;
export const MERGE_VERSION_1 = 1;
export const RESIZE_VERSION_1 = 1;

export const ATTACH_READ_ONLY = 0x1;
/** The disk gets no device on the host: no volume is mounted, nothing else sees it. */
export const ATTACH_NO_LOCAL_HOST = 0x8;

export const INFO_SIZE = 1;
export const INFO_PARENT_LOCATION = 3;
export const INFO_PROVIDER_SUBTYPE = 7;
export const INFO_PHYSICAL_SECTOR = 10;
export const INFO_VIRTUAL_DISK_ID = 14;
export const INFO_CHANGE_TRACKING = 15;
export const SET_INFO_VIRTUAL_DISK_ID = 5;

/** ProviderSubtype of a VHDX. */
export const SUBTYPE_FIXED = 2;
export const SUBTYPE_DYNAMIC = 3;
export const SUBTYPE_DIFFERENCING = 4;

export const TRACKING_ID_CHARACTERS_MAX = 256;

export const ERROR_SUCCESS = 0;
export const ERROR_INSUFFICIENT_BUFFER = 122;
export const ERROR_IO_PENDING = 997;
export const ERROR_PRIVILEGE_NOT_HELD = 1314;
export const WAIT_OBJECT_0 = 0;

export const TOKEN_ADJUST_PRIVILEGES = 0x20;
export const TOKEN_QUERY = 0x8;
export const PRIVILEGE_ENABLED = 2;

interface Meaning {
  readonly name: string;
  readonly fault: VirtualDiskFault;
  readonly code: ErrorCode;
  readonly hint?: string;
}

const RIGHTS =
  'Run it as a member of Administrators or as LocalSystem: attaching a disk takes the privilege SeManageVolumePrivilege.';
const IN_USE = 'Another program holds the file (a backup, an antivirus, a merge); try again later.';
const MOVE =
  'The folder of the disk is compressed, encrypted or on a share of this very host; move the disk.';

const meaning = (
  name: string,
  fault: VirtualDiskFault,
  code: ErrorCode = 'E_HYPERVISOR',
  hint?: string,
): Meaning => ({ name, fault, code, ...(hint === undefined ? {} : { hint }) });

/** What the error codes mean that calls of ours are known to answer with. */
export const MEANINGS: ReadonlyMap<number, Meaning> = new Map([
  [1, meaning('ERROR_INVALID_FUNCTION', 'not-available')],
  [2, meaning('ERROR_FILE_NOT_FOUND', 'not-found', 'E_NOT_FOUND')],
  [3, meaning('ERROR_PATH_NOT_FOUND', 'not-found', 'E_NOT_FOUND')],
  [5, meaning('ERROR_ACCESS_DENIED', 'access-denied', 'E_HYPERVISOR', RIGHTS)],
  [6, meaning('ERROR_INVALID_HANDLE', 'refused')],
  [23, meaning('ERROR_CRC', 'refused', 'E_IO')],
  [32, meaning('ERROR_SHARING_VIOLATION', 'in-use', 'E_LOCKED', IN_USE)],
  [33, meaning('ERROR_LOCK_VIOLATION', 'in-use', 'E_LOCKED', IN_USE)],
  [38, meaning('ERROR_HANDLE_EOF', 'refused', 'E_IO')],
  [50, meaning('ERROR_NOT_SUPPORTED', 'not-available')],
  [80, meaning('ERROR_FILE_EXISTS', 'exists', 'E_EXISTS')],
  [87, meaning('ERROR_INVALID_PARAMETER', 'refused')],
  [112, meaning('ERROR_DISK_FULL', 'full', 'E_CAPACITY')],
  [120, meaning('ERROR_CALL_NOT_IMPLEMENTED', 'not-available')],
  [122, meaning('ERROR_INSUFFICIENT_BUFFER', 'bad-answer')],
  [183, meaning('ERROR_ALREADY_EXISTS', 'exists', 'E_EXISTS')],
  [618, meaning('ERROR_UNSUPPORTED_COMPRESSION', 'refused', 'E_HYPERVISOR', MOVE)],
  [665, meaning('ERROR_FILE_SYSTEM_LIMITATION', 'refused', 'E_HYPERVISOR', MOVE)],
  [995, meaning('ERROR_OPERATION_ABORTED', 'refused', 'E_IO')],
  [1117, meaning('ERROR_IO_DEVICE', 'refused', 'E_IO')],
  [1314, meaning('ERROR_PRIVILEGE_NOT_HELD', 'access-denied', 'E_HYPERVISOR', RIGHTS)],
  [1392, meaning('ERROR_FILE_CORRUPT', 'not-a-disk')],
  [6002, meaning('ERROR_FILE_ENCRYPTED', 'refused', 'E_HYPERVISOR', MOVE)],
  [0xc03a0004, meaning('ERROR_VHD_FORMAT_UNKNOWN', 'not-a-disk')],
  [0xc03a000d, meaning('ERROR_VHD_PARENT_VHD_NOT_FOUND', 'parent')],
  [0xc03a000e, meaning('ERROR_VHD_CHILD_PARENT_ID_MISMATCH', 'parent')],
  [0xc03a000f, meaning('ERROR_VHD_CHILD_PARENT_TIMESTAMP_MISMATCH', 'parent')],
  [0xc03a0014, meaning('ERROR_VIRTDISK_PROVIDER_NOT_FOUND', 'not-available')],
  [0xc03a0015, meaning('ERROR_VIRTDISK_NOT_VIRTUAL_DISK', 'not-a-disk')],
  [0xc03a0016, meaning('ERROR_VHD_PARENT_VHD_ACCESS_DENIED', 'access-denied')],
  [0xc03a0017, meaning('ERROR_VHD_CHILD_PARENT_SIZE_MISMATCH', 'parent')],
  [0xc03a0018, meaning('ERROR_VHD_DIFFERENCING_CHAIN_CYCLE_DETECTED', 'parent')],
  [0xc03a0019, meaning('ERROR_VHD_DIFFERENCING_CHAIN_ERROR_IN_PARENT', 'parent')],
  [0xc03a001a, meaning('ERROR_VIRTUAL_DISK_LIMITATION', 'refused', 'E_HYPERVISOR', MOVE)],
  [0xc03a0022, meaning('ERROR_CTLOG_VHD_CHANGED_OFFLINE', 'tracking-lost')],
  [0xc03a0029, meaning('ERROR_VHD_INVALID_CHANGE_TRACKING_ID', 'tracking-unknown-id')],
  [0xc03a002a, meaning('ERROR_VHD_CHANGE_TRACKING_DISABLED', 'tracking-off')],
  [0xc03a0030, meaning('ERROR_VHD_MISSING_CHANGE_TRACKING_INFORMATION', 'tracking-lost')],
  [0xc03a0034, meaning('ERROR_VHD_UNEXPECTED_ID', 'unexpected-id')],
]);

export interface FailureFacts {
  readonly call: string;
  readonly path: string;
  /** What had happened by then; default: nothing was changed. */
  readonly done?: string | undefined;
}

/** `5 (ERROR_ACCESS_DENIED)`, `0xc03a0029 (…)` */
function codeText(win32: number, name: string | undefined): string {
  const number = win32 < 0x1_0000 ? String(win32) : `0x${win32.toString(16)}`;
  return name === undefined ? number : `${number} (${name})`;
}

/** The error of a call that answered with a code of Windows. */
export function win32Failure(win32: number, { call, path, done }: FailureFacts): VirtualDiskError {
  const known = MEANINGS.get(win32);
  const text = `${call} of ${path} failed with ${codeText(win32, known?.name)}`;
  return new VirtualDiskError(known?.code ?? 'E_HYPERVISOR', text, known?.fault ?? 'refused', {
    context: { call, path, win32, ...(known === undefined ? {} : { win32Name: known.name }) },
    ...(done === undefined ? {} : { done }),
    ...(known?.hint === undefined ? {} : { hint: known.hint }),
  });
}

/** The error of an answer that contradicts itself. */
export function badAnswer(text: string, { call, path }: FailureFacts): VirtualDiskError {
  const message = `${call} of ${path} gave a wrong answer: ${text}`;
  return new VirtualDiskError('E_HYPERVISOR', message, 'bad-answer', { context: { call, path } });
}
