// The seam between the provider and Windows PowerShell. An operation is a fixed piece of script that a
// host process of ours runs by name: data goes in, data comes out, and no script text ever crosses
// (hyperv.md § 6). Each area declares its operations in operations/, beside the checks of what comes back;
// the scripts stand in scripts/, one file an area.

import type { Fields } from '../../fields.js';

/** What an argument may be. 64-bit numbers are decimal texts, as in the answers. */
export type Argument =
  | string
  | number
  | boolean
  | null
  | readonly Argument[]
  | { readonly [name: string]: Argument | undefined };

export type Arguments = Readonly<Record<string, Argument | undefined>>;

export interface Operation<A extends Arguments, R> {
  /** As the scripts know it: `checkpoint.create`. */
  readonly name: string;
  /** After so long without an answer the host is given up; what the operation did is then unknown. */
  readonly timeoutMs: number;
  /** Checks the answer, field by field. @throws DrError E_HYPERVISOR by way of `fields` */
  readonly read: (fields: Fields) => R;
  /** Carries the type of the arguments; no value at run time. */
  readonly takes?: A;
}

/** Whatever runs operations: the host process, and its doubles in tests. */
export interface OperationRunner {
  /**
   * @throws DrError E_HYPERVISOR when the host refuses (context: category, fqid, hresult, returnValue) or
   *   answers in another shape, E_NOT_FOUND when what `args` names is not there, E_STALLED without an answer
   */
  run<A extends Arguments, R>(operation: Operation<A, R>, args: A): Promise<R>;
  close(): Promise<void>;
}
