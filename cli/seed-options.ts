// What `hvdr seed` can be told.

import type { ParameterName } from '../shared/params/index.js';
import { PUSH_PARAMETERS } from './agent-options.js';
import type { AccessFlags } from './receiver-connection.js';

/** What is about many VMs or many cycles. */
const OF_RUNS: ReadonlySet<ParameterName> = new Set([
  'exclude',
  'online',
  'push_cycles',
  'push_interval',
  'overlap',
  'abort_on_error',
  'on_partial',
]);

export const SEED_PARAMETERS: readonly ParameterName[] = PUSH_PARAMETERS.filter(
  (name) => !OF_RUNS.has(name),
);

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
