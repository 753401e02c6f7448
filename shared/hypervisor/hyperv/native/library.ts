// virtdisk.dll and kernel32.dll by koffi. Each function is bound at its first use, one by one: a Windows without one of
// them lacks that capability and nothing else. Every structure is a buffer (layouts.ts), so that the same calls run
// against the test's double on any system.
//
// GetLastError belongs to a thread. A function whose failure it explains is therefore called synchronously, and
// asked about at once (koffi keeps the value for its thread): overlapped reads and writes, which only start there.
// Asynchronous calls are those that answer with the code itself, or with a wait's result.

import { VirtualDiskError } from './port.js';

export interface LibraryNames {
  readonly virtdisk: string;
  readonly kernel: string;
  /** Default: the kernel's. */
  readonly security?: string;
}

export const WINDOWS_LIBRARIES: LibraryNames = {
  virtdisk: 'virtdisk.dll',
  kernel: 'kernel32.dll',
  security: 'advapi32.dll',
};

/** A handle as Windows gives it; never 0 and never -1. */
export type Handle = bigint;

export type NativeArgument = Buffer | string | number | bigint | null;

/** Library, result and arguments. Enums and DWORDs are uint32_t, handles int64_t, anything pointed to void *. */
const SIGNATURES = {
  OpenVirtualDisk: [
    ...(['virtdisk', 'uint32_t'] as const),
    ['void *', 'str16', 'uint32_t', 'uint32_t', 'void *', 'void *'],
  ],
  CreateVirtualDisk: [
    ...(['virtdisk', 'uint32_t'] as const),
    [
      ...['void *', 'str16', 'uint32_t', 'void *', 'uint32_t'],
      ...['uint32_t', 'void *', 'void *', 'void *'],
    ],
  ],
  AttachVirtualDisk: [
    ...(['virtdisk', 'uint32_t'] as const),
    ['int64_t', 'void *', 'uint32_t', 'uint32_t', 'void *', 'void *'],
  ],
  DetachVirtualDisk: ['virtdisk', 'uint32_t', ['int64_t', 'uint32_t', 'uint32_t']],
  GetVirtualDiskInformation: ['virtdisk', 'uint32_t', ['int64_t', 'void *', 'void *', 'void *']],
  SetVirtualDiskInformation: ['virtdisk', 'uint32_t', ['int64_t', 'void *']],
  QueryChangesVirtualDisk: [
    ...(['virtdisk', 'uint32_t'] as const),
    ['int64_t', 'str16', 'uint64_t', 'uint64_t', 'uint32_t', 'void *', 'void *', 'void *'],
  ],
  MergeVirtualDisk: ['virtdisk', 'uint32_t', ['int64_t', 'uint32_t', 'void *', 'void *']],
  ResizeVirtualDisk: ['virtdisk', 'uint32_t', ['int64_t', 'uint32_t', 'void *', 'void *']],
  CloseHandle: ['kernel', 'int32_t', ['int64_t']],
  CreateEventW: ['kernel', 'int64_t', ['void *', 'int32_t', 'int32_t', 'void *']],
  ReadFile: ['kernel', 'int32_t', ['int64_t', 'void *', 'uint32_t', 'void *', 'void *']],
  WriteFile: ['kernel', 'int32_t', ['int64_t', 'void *', 'uint32_t', 'void *', 'void *']],
  FlushFileBuffers: ['kernel', 'int32_t', ['int64_t']],
  WaitForSingleObject: ['kernel', 'uint32_t', ['int64_t', 'uint32_t']],
  GetOverlappedResult: ['kernel', 'int32_t', ['int64_t', 'void *', 'void *', 'int32_t']],
  CancelIoEx: ['kernel', 'int32_t', ['int64_t', 'void *']],
  GetLastError: ['kernel', 'uint32_t', []],
  GetCurrentProcess: ['kernel', 'int64_t', []],
  OpenProcessToken: ['security', 'int32_t', ['int64_t', 'uint32_t', 'void *']],
  LookupPrivilegeValueW: ['security', 'int32_t', ['void *', 'str16', 'void *']],
  AdjustTokenPrivileges: [
    ...(['security', 'int32_t'] as const),
    ['int64_t', 'int32_t', 'void *', 'uint32_t', 'void *', 'void *'],
  ],
} as const satisfies Readonly<
  Record<string, readonly [keyof LibraryNames, string, readonly string[]]>
>;

export type FunctionName = keyof typeof SIGNATURES;

export const FUNCTION_SIGNATURES: Readonly<
  Record<FunctionName, readonly [keyof LibraryNames, string, readonly string[]]>
> = SIGNATURES;

interface NativeFunction {
  (...args: readonly NativeArgument[]): unknown;
  async(...args: readonly unknown[]): void;
}

type Koffi = typeof import('koffi').default;

export class NativeLibrary {
  readonly #koffi: Koffi;
  readonly #names: LibraryNames;
  readonly #loaded = new Map<string, ReturnType<Koffi['load']>>();
  readonly #functions = new Map<FunctionName, NativeFunction>();
  /** What calls under way point to; nothing of it may be collected. */
  readonly #inUse = new Set<readonly NativeArgument[]>();

  private constructor(koffi: Koffi, names: LibraryNames) {
    this.#koffi = koffi;
    this.#names = names;
  }

  /** koffi is imported here, so that a program that opens no disk does not pay for it. */
  static async load(names: LibraryNames): Promise<NativeLibrary> {
    try {
      return new NativeLibrary((await import('koffi')).default, names);
    } catch (error) {
      throw unavailable('the native interface (koffi) cannot be loaded here', error);
    }
  }

  /** @throws VirtualDiskError 'not-available' */
  require(name: FunctionName): void {
    this.#bind(name);
  }

  has(name: FunctionName): boolean {
    try {
      this.require(name);
      return true;
    } catch {
      return false;
    }
  }

  /** The result as the function returns it; blocks this thread. */
  call(name: FunctionName, ...args: readonly NativeArgument[]): number {
    return Number(this.#bind(name)(...args));
  }

  /** Like call(), on a thread of koffi's; what `args` point to is kept until the answer. */
  async callAsync(name: FunctionName, ...args: readonly NativeArgument[]): Promise<number> {
    const bound = this.#bind(name);
    this.#inUse.add(args);
    try {
      return await new Promise((resolve, reject) => {
        bound.async(...args, (error: Error | null, result: unknown) => {
          if (error === null) resolve(Number(result));
          else reject(error);
        });
      });
    } finally {
      this.#inUse.delete(args);
    }
  }

  /** Where the bytes of a buffer lie; valid as long as somebody refers to the buffer. */
  addressOf(bytes: Buffer): bigint {
    return this.#koffi.address(bytes);
  }

  #bind(name: FunctionName): NativeFunction {
    const known = this.#functions.get(name);
    if (known !== undefined) return known;
    const [part, result, args] = FUNCTION_SIGNATURES[name];
    const file = this.#names[part] ?? this.#names.kernel;
    try {
      const library = this.#loaded.get(file) ?? this.#koffi.load(file);
      this.#loaded.set(file, library);
      // koffi types every function as any; SIGNATURES is what it really takes
      const bound = library.func(name, result, [...args]) as unknown as NativeFunction;
      this.#functions.set(name, bound);
      return bound;
    } catch (error) {
      throw unavailable(`${name} of ${file} is not there`, error);
    }
  }
}

function unavailable(text: string, cause: unknown): VirtualDiskError {
  return new VirtualDiskError('E_HYPERVISOR', text, 'not-available', {
    hint: 'Run it on a Windows Server with Hyper-V, 2016 or newer.',
    cause,
  });
}
