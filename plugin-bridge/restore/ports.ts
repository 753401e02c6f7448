// What a restore needs to know and to have.

import type { JobInfo } from '../job-info.js';
import type { ParameterValues } from '../../shared/params/index.js';
import type { NetworkWish } from './network.js';
import type { RestoreHost } from './register.js';
import type { SessionSeams } from './session.js';

export type RestoreJob = Pick<JobInfo, 'name' | 'jobId' | 'where' | 'regexWhere' | 'replace'>;

/** What the operator may change when the job is run (RestoreOptions). */
export const RESTORE_OPTIONS = [
  ...(['new_vm_name', 'restore_path', 'restore_to', 'replace_vm'] as const),
  'network_map',
] as const;

export type RestoreValues = NetworkWish & Pick<ParameterValues, (typeof RESTORE_OPTIONS)[number]>;

export interface RestorePorts extends SessionSeams {
  /** Where sessions lie; of this product alone. */
  readonly stateFolder: string;
  /** `restore_roots` of backend.conf; undefined: it does not limit them. */
  readonly roots: readonly string[] | undefined;
  /** Opened when it is needed; the caller closes it. @throws DrError where there is none */
  readonly host: () => Promise<RestoreHost>;
  readonly say: (kind: 'info' | 'warning' | 'error', text: string) => void;
}
