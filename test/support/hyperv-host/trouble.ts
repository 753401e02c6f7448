// What goes wrong at the fake host, as a test asks for it.

/** What goes wrong at the host; each holds until it is taken back. */
export interface HostTrouble {
  /** The operation's job ends as exception, with this text and code. */
  readonly jobFails: Map<string, { readonly text: string; readonly code: number }>;
  /** The operation's method refuses with this number, so many times. */
  readonly refusals: Map<string, { readonly returnValue: number; times: number }>;
  /** Jobs have vanished when they are asked for. */
  areJobsForgotten: boolean;
  /** The level that a checkpoint comes out with. */
  obtained: 'application' | 'crash' | 'unknown' | undefined;
  /** OperationalStatus beside the first number. */
  activities: number[];
  /** A reference point has no tracking id for its last disk. */
  isTrackingIdMissing: boolean;
  /** The changes of more than so much at a time are too many for one answer. */
  windowBytesMax: number;
  ownerNode: string;
  refusesTpm: boolean;
  refusesRoles: boolean;
  /** A role that is taken offline stays pending as long as its VM has power. */
  rolesWaitForGuest: boolean;
  /** The PowerShell process ends at its next operation of this name: before it, or after it and before the answer. */
  readonly hostDies: Map<string, 'before' | 'after'>;
  /** See delayMerges(). */
  merges: MergeDelay | undefined;
}

export interface MergeDelay {
  /** A merge is done after the VM's status was asked for so many times; Infinity: it never is. */
  readonly looks: number;
  /** The status tells of it. Windows need not: a merge that waits, or failed, leaves no sign there. */
  readonly isSeen: boolean;
}

export function noTrouble(): HostTrouble {
  return {
    jobFails: new Map(),
    refusals: new Map(),
    areJobsForgotten: false,
    obtained: undefined,
    activities: [],
    isTrackingIdMissing: false,
    windowBytesMax: Infinity,
    ownerNode: 'HV01',
    refusesTpm: false,
    refusesRoles: false,
    rolesWaitForGuest: false,
    hostDies: new Map(),
    merges: undefined,
  };
}
