// The system calls that Node does not offer: flock(2), lseek(2) with SEEK_DATA/SEEK_HOLE, fallocate(2), and those that
// switch core dumps off. koffi is imported at the first use, so that a command that opens no file does not pay for it
// (about 20 ms). All calls are short and made synchronously: errno belongs to the thread.

export interface NativeResult {
  readonly value: number;
  /** Name of errno ("EWOULDBLOCK") when the call failed. */
  readonly failure: string | undefined;
}

export interface NativePosix {
  flock(descriptor: number, operation: number): NativeResult;
  /** Moves the descriptor's own position, which reads and writes with a position do not use. */
  lseek(descriptor: number, offset: number, whence: number): NativeResult;
  /** Sets room aside for the bytes [0, length) of a file; undefined where there is no such call. */
  readonly fallocate: ((descriptor: number, lengthBytes: number) => NativeResult) | undefined;
  /** Soft and hard limit of core files: none, for this process and its children. */
  limitCoreFiles(): NativeResult;
  /**
   * The kernel keeps no image of this process for anybody, core pattern or not, and other users
   * than root may not attach to it. undefined where the system has no such call (macOS).
   */
  readonly makeUndumpable: (() => NativeResult) | undefined;
  readonly seekData: number;
  readonly seekHole: number;
}

export const LOCK_SHARED = 1;
export const LOCK_EXCLUSIVE = 2;
export const LOCK_NON_BLOCKING = 4;
/** The same number on Linux and macOS. */
const RLIMIT_CORE = 4;
const PR_SET_DUMPABLE = 4;

let loaded: Promise<NativePosix | undefined> | undefined;

/** The calls, or undefined where the system has none (Windows) or koffi has no build for it. */
export function nativePosix(): Promise<NativePosix | undefined> {
  loaded ??= load();
  return loaded;
}

async function load(): Promise<NativePosix | undefined> {
  const isLinux = process.platform === 'linux';
  if (!isLinux && process.platform !== 'darwin') return undefined;
  // off_t is 64 bits wide on every 64-bit system; on others lseek would need another name.
  if (process.arch !== 'x64' && process.arch !== 'arm64') return undefined;
  let koffi: typeof import('koffi').default;
  try {
    koffi = (await import('koffi')).default;
  } catch {
    return undefined;
  }
  // The program itself is linked to the C library, whatever its file is called (glibc, musl, macOS).
  const library = koffi.load(null);
  const flock = library.func('int flock(int descriptor, int operation)');
  const lseek = library.func('int64_t lseek(int descriptor, int64_t offset, int whence)');
  const fallocate = isLinux
    ? library.func('int fallocate(int descriptor, int mode, int64_t offset, int64_t length)')
    : undefined;
  const setrlimit = library.func('int setrlimit(int resource, const uint64_t *limits)');
  const prctl = isLinux
    ? library.func('int prctl(int option, uint64_t a, uint64_t b, uint64_t c, uint64_t d)')
    : undefined;
  const names = new Map<number, string>();
  for (const [name, number] of Object.entries(koffi.os.errno)) {
    if (!names.has(number)) names.set(number, name);
  }
  const result = (returned: unknown): NativeResult => {
    const value = Number(returned);
    if (value !== -1) return { value, failure: undefined };
    const number = koffi.errno();
    // EAGAIN and EWOULDBLOCK are one number on both systems; one name for them is enough.
    const isBusy = number === koffi.os.errno['EWOULDBLOCK'];
    return { value, failure: isBusy ? 'EWOULDBLOCK' : (names.get(number) ?? `errno ${number}`) };
  };
  return {
    flock: (descriptor, operation) => result(flock(descriptor, operation)),
    lseek: (descriptor, offset, whence) => result(lseek(descriptor, offset, whence)),
    fallocate:
      fallocate && ((descriptor, lengthBytes) => result(fallocate(descriptor, 0, 0, lengthBytes))),
    limitCoreFiles: () => result(setrlimit(RLIMIT_CORE, [0, 0])),
    makeUndumpable: prctl && (() => result(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))),
    seekData: isLinux ? 3 : 4,
    seekHole: isLinux ? 4 : 3,
  };
}
