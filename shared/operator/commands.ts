// The commands of the failover state machine that people and jobs give, and the parameters that each of
// them takes.

import { DrError } from '../errors.js';
import {
  type OperationMode,
  type OPERATIONS,
  type ParameterName,
  type ParameterSet,
  rowOf,
} from '../params/index.js';

const NETWORK = ['network_map', 'unmapped', 'mac_policy', 'reip_rules'] as const;
const PROOF = ['checks', 'boot_timeout', 'check_timeout'] as const;
const PROVISIONAL = ['commit_policy', 'commit_after'] as const;
const SHUTDOWN = ['shutdown_timeout', 'force_off'] as const;

export type OperatorCommand = (typeof OPERATIONS)[OperationMode];

/** In the order of --help. */
export const COMMAND_PARAMETERS: Readonly<Record<OperatorCommand, readonly ParameterName[]>> = {
  planned: [...NETWORK, ...PROOF, ...PROVISIONAL, ...SHUTDOWN, 'stop_tests', 'replace_retired'],
  unplanned: [
    ...(['point', ...NETWORK, ...PROOF, ...PROVISIONAL] as const),
    ...(['fence_source', ...SHUTDOWN, 'force', 'reason'] as const),
  ],
  test: [
    ...(['point', 'test_network', 'network_map', 'mac_policy', 'reip_rules'] as const),
    ...([...PROOF, 'keep', 'test_timeout', 'test_disk_limit', 'force'] as const),
  ],
  undo: ['keep_disk', 'force', 'reason'],
  permanent: ['force', 'reason'],
  failback: [
    ...(['stage', 'compare', 'switch_window', 'urgent', 'failback_to'] as const),
    ...([...SHUTDOWN, 'boot_timeout', ...PROVISIONAL] as const),
  ],
  reprotect: [
    ...(['network_map', 'safety_hold', 'principal'] as const),
    ...(['retired_host', 'retired_port', 'retired_psk_file'] as const),
  ],
};

const ALL: ReadonlySet<ParameterName> = new Set(Object.values(COMMAND_PARAMETERS).flat());

/**
 * What a receiver is told with a command: what was given for it, as text. A flag is told when it is set,
 * so that a plan is the same one whoever asks for it.
 * @throws DrError E_PARAMETER for what the command does not take
 */
export function commandParameters(
  command: OperatorCommand,
  { texts, values, origins }: Pick<ParameterSet, 'texts' | 'values' | 'origins'>,
): Record<string, string> {
  const told: Record<string, string> = {};
  for (const name of ALL) {
    const text = texts[name];
    if (text === undefined) continue;
    if (!COMMAND_PARAMETERS[command].includes(name)) {
      if (origins[name] === 'config file') continue;
      throw new DrError('E_PARAMETER', `${name}, ${origins[name]}: ${command} takes none`, {
        context: { parameter: name },
        hint: `It takes ${COMMAND_PARAMETERS[command].join(', ')}.`,
      });
    }
    const value = rowOf(name).kind === 'flag' ? (values[name] === true ? 'yes' : undefined) : text;
    if (value !== undefined) told[name] = value;
  }
  return told;
}
