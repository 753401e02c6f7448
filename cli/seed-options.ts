// What `hvdr seed` can be told.

import type { ParameterName } from '../shared/params/index.js';
import type { AccessFlags } from './receiver-connection.js';

export const SEED_PARAMETERS: readonly ParameterName[] = [
  'vm',
  'host',
  'dr_host',
  'dr_port',
  'dr_psk_file',
  'dr_psk',
  'dr_psk_id',
  'dr_tls_ca',
  'dr_tls_cert',
  'dr_tls_key',
  'dr_tls_name',
  'quiesce',
  'consistency',
  'rpo_seconds',
  'timeout',
  'bandwidth',
  'bandwidth_schedule',
  'max_restore_points',
  'retention_grid',
  'state_dir',
  'config_file',
];

export interface SeedFlags extends AccessFlags {
  readonly vm?: string;
  readonly host?: string;
  readonly from?: readonly string[];
  readonly to?: string;
  readonly vmId?: string;
  readonly diskId?: readonly string[];
  readonly principal?: string;
  readonly restart?: true;
  readonly discard?: true;
  readonly force?: true;
}
