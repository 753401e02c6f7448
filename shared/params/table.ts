// The parameters of the product, once (product.md § 5, failover.md § 7, channel.md § 1): the Plugin
// string, the config file, the command line, --help, docs/parameters.md and the validation are made
// from this table. Names are public.

interface RowBase {
  /** For people; one or two sentences. */
  readonly meaning: string;
  /** Never shown: not in errors, logs or reports. */
  readonly isSecret?: boolean;
  /** The text that stands for the value when none is given. */
  readonly default?: string;
}

export interface TextRow extends RowBase {
  readonly kind: 'text';
  /** What the text must look like, by name; see values.ts. Default: any text. */
  readonly form?: 'network-map' | 'reip-rules' | 'retention-grid' | 'bandwidth-schedule';
}

/** Comma-separated patterns. */
export interface ListRow extends RowBase {
  readonly kind: 'list';
}

export interface FlagRow extends RowBase {
  readonly kind: 'flag';
  readonly default: string;
}

export interface WholeRow extends RowBase {
  readonly kind: 'whole';
  readonly unit?: 's';
  readonly min: number;
  readonly max: number;
  readonly default: string;
}

/** Bytes per second, with K, M, G. */
export interface RateRow extends RowBase {
  readonly kind: 'rate';
  readonly default: string;
}

export interface ChoiceRow extends RowBase {
  readonly kind: 'choice';
  readonly choices: readonly string[];
}

export type ParameterRow = TextRow | ListRow | FlagRow | WholeRow | RateRow | ChoiceRow;

const DAY = 86_400;

export const PARAMETERS = {
  vm: {
    kind: 'text',
    default: '*',
    meaning: 'VM name or wildcard (`*`, `?`), whatever the case; one pattern a line.',
  },
  exclude: { kind: 'list', meaning: 'Comma-separated patterns of VMs to leave out.' },
  quiesce: {
    kind: 'flag',
    default: 'yes',
    meaning:
      'Application-consistent (VSS) checkpoint where the guest allows it, with a warning where it ' +
      'does not; `no` for guests without VSS.',
  },
  consistency: {
    kind: 'choice',
    choices: ['require', 'prefer', 'crash'],
    meaning:
      'Sharpens `quiesce`: `require` fails rather than lower, `prefer` is `quiesce=yes`, `crash` is ' +
      '`quiesce=no`.',
  },
  online: { kind: 'flag', default: 'yes', meaning: 'Take running VMs; `no` skips them.' },
  timeout: {
    kind: 'whole',
    unit: 's',
    min: 1,
    max: 30 * DAY,
    default: '3600',
    meaning:
      'An operation (checkpoint, streaming, …) without progress for so long is given up; the total ' +
      'time is not limited.',
  },
  new_vm_name: {
    kind: 'text',
    meaning: 'On restore: register under this name with a new GUID.',
  },
  restore_path: { kind: 'text', meaning: "Restore directory; default: the job's Where." },
  restore_to: {
    kind: 'choice',
    choices: ['vm', 'disks', 'files'],
    default: 'vm',
    meaning:
      'What a restore makes: `vm` the disks and, when its configuration was selected too, the VM over them; ' +
      '`disks` the disks at their point; `files` the files of the backup as they are.',
  },
  replace_vm: {
    kind: 'flag',
    default: 'no',
    meaning:
      'A restored VM takes the place of a VM of its name that runs, which is turned off, or that is another ' +
      'one. The one that was backed up, when it is off, is replaced in any case; the former disk files stay.',
  },
  abort_on_error: {
    kind: 'flag',
    default: 'no',
    meaning: 'Fail the whole job on the first VM that fails; else go on with the next.',
  },
  on_partial: {
    kind: 'choice',
    choices: ['warn', 'fail'],
    default: 'warn',
    meaning:
      'How a run ends in which some VMs failed: `warn` exit code 1 (Bacula: OK with warnings), ' +
      "`fail` the first failure's own code.",
  },
  config_file: {
    kind: 'text',
    meaning: 'File with parameters, one `key=value` a line, `#` comments.',
  },
  mode: {
    kind: 'choice',
    choices: [
      'backup',
      'rct-push',
      'verify',
      'seed',
      'async-hvr',
      'receiver',
      'replication-status',
      'daemon',
      'failback',
      'reprotect',
      'failover-planned',
      'failover-unplanned',
      'failover-test',
      'failover-undo',
      'failover-permanent',
    ],
    default: 'backup',
    meaning: 'What a Bacula job does; on the command line the command says it.',
  },
  push_interval: {
    kind: 'whole',
    unit: 's',
    min: 1,
    max: 7 * DAY,
    default: '300',
    meaning:
      'Seconds between cycles, start to start, when `push_cycles` is not 1. A cycle that takes ' +
      'longer is followed by the next at once.',
  },
  push_cycles: {
    kind: 'whole',
    min: 0,
    max: 1_000_000_000,
    default: '1',
    meaning: 'Cycles per job, counted when they start; 0 = for ever.',
  },
  run_for: {
    kind: 'whole',
    unit: 's',
    min: 0,
    max: 365 * DAY,
    default: '0',
    meaning:
      'A job of many cycles begins none after so many seconds, and ends well; so does a receiver. 0 = it ' +
      'ends with its cycles or when it is cancelled.',
  },
  rpo_seconds: {
    kind: 'whole',
    unit: 's',
    min: 1,
    max: 365 * DAY,
    default: '900',
    meaning:
      'Target RPO: the age that the newest point may reach; a cycle that finds it older warns.',
  },
  overlap: {
    kind: 'choice',
    choices: ['skip', 'wait'],
    default: 'skip',
    meaning:
      'When another process works on the VM: `skip` leaves it to that one (a failure only when the ' +
      'RPO does not hold), `wait` waits for up to `timeout`.',
  },
  push_apply_remote: {
    kind: 'flag',
    default: 'no',
    meaning: 'Push straight to the DR receiver instead of the SD; `hvdr push` always does.',
  },
  dr_host: { kind: 'text', meaning: "Receiver's host; an IPv6 address may stand in brackets." },
  dr_port: { kind: 'whole', min: 1, max: 65_535, default: '9847', meaning: "Receiver's port." },
  dr_psk: {
    kind: 'text',
    isSecret: true,
    meaning:
      'Pre-shared key: `file:PATH`, `env:NAME`, or a passphrase in clear (it then stands in ' +
      'FileSet, catalog and volumes; prefer `dr_psk_file`).',
  },
  dr_psk_file: { kind: 'text', meaning: 'Key file, made by `hvdr psk generate`.' },
  dr_psk_id: { kind: 'text', meaning: 'Key id that goes with a passphrase as `dr_psk`.' },
  dr_tls_ca: {
    kind: 'text',
    meaning:
      'Puts TLS below the seal: PEM file of the authority that signed the certificate of the ' +
      'receiver (`hvdr receiver --tls-cert`).',
  },
  dr_tls_cert: {
    kind: 'text',
    meaning: 'PEM file of the certificate to show to a receiver with `--tls-client-ca`.',
  },
  dr_tls_key: {
    kind: 'text',
    meaning: 'PEM file of its private key; only its owner may read it.',
  },
  dr_tls_name: {
    kind: 'text',
    meaning: "Name in the receiver's certificate, where it is not `dr_host`.",
  },
  bandwidth: {
    kind: 'rate',
    default: '0',
    meaning:
      'Cap in bytes per second for all VMs together, with K, M, G (powers of 1024); 0 = none, ' +
      'otherwise at least 16K.',
  },
  bandwidth_schedule: {
    kind: 'text',
    form: 'bandwidth-schedule',
    meaning:
      'Caps by day and hour of the local clock, `mon-fri 08-18=5M,*=0`; where no entry fits, ' +
      '`bandwidth` holds.',
  },
  max_restore_points: {
    kind: 'whole',
    min: 1,
    max: 10_000,
    default: '5',
    meaning: "Restore points kept at the DR site; the receiver's floor and policy rule.",
  },
  retention_grid: {
    kind: 'text',
    form: 'retention-grid',
    meaning:
      'Points kept besides: for so long back (SPAN), the oldest point of each STEP; for example ' +
      "`24h/1h,7d/1d,4w/1w`. The receiver's own grid is kept in any case.",
  },
  network_map: {
    kind: 'text',
    form: 'network-map',
    meaning: '`src_switch=dst_switch,…`; `*=dst` is the default, `src=` leaves it disconnected.',
  },
  unmapped: {
    kind: 'choice',
    choices: ['refuse', 'disconnect', 'same-name'],
    default: 'refuse',
    meaning: 'What becomes of a network adapter whose switch `network_map` does not name.',
  },
  mac_policy: {
    kind: 'choice',
    choices: ['keep', 'new'],
    meaning:
      'MAC addresses at the DR site; `keep` for failover, `new` for tests, unless it is given.',
  },
  reip_rules: {
    kind: 'text',
    form: 'reip-rules',
    meaning:
      '`vm:new_ip/mask/gw,…` for VMs with one adapter; `vm[#nic]:src>dst/prefix/gw[;dns=…][;vlan=…]` in ' +
      'full, `*` copies a part of the address, `dhcp` as dst, the first that fits holds.',
  },
  reip_rules_back: {
    kind: 'text',
    form: 'reip-rules',
    meaning: 'The rules for the way home by reprotect; default: `reip_rules` turned round.',
  },
  point: {
    kind: 'text',
    default: 'latest',
    meaning: 'Restore point: `latest`, `last-clean`, an id or its beginning, or a time (ISO 8601).',
  },
  test_network: {
    kind: 'text',
    meaning: 'Private switch of a test; without it a test VM has no network.',
  },
  checks: {
    kind: 'list',
    default: 'heartbeat',
    meaning: 'What proves that a VM serves: `heartbeat`, `address`, `tcp:PORT`, `script:NAME`.',
  },
  test_timeout: {
    kind: 'whole',
    unit: 's',
    min: 60,
    max: 30 * DAY,
    default: '14400',
    meaning: 'A test that is kept running is ended after so long.',
  },
  test_disk_limit: {
    kind: 'rate',
    default: '0',
    meaning: 'What a test VM may write, bytes with K, M, G; 0: as much as there is room for.',
  },
  keep: { kind: 'flag', default: 'no', meaning: 'Leave a test running until it is stopped.' },
  hold: {
    kind: 'choice',
    choices: ['synced'],
    meaning:
      'A planned failover waits after its last delta, with the VM off, until it is resumed; plans ' +
      'of many VMs use it.',
  },
  stop_tests: {
    kind: 'flag',
    default: 'no',
    meaning: 'A failover ends the running tests of the VM instead of being refused.',
  },
  commit_policy: {
    kind: 'choice',
    choices: ['none', 'commit', 'rollback'],
    default: 'none',
    meaning: 'What becomes of a provisional failover by itself after `commit_after`.',
  },
  commit_after: {
    kind: 'whole',
    unit: 's',
    min: 60,
    max: 30 * DAY,
    default: '3600',
    meaning: 'When `commit_policy` acts.',
  },
  shutdown_timeout: {
    kind: 'whole',
    unit: 's',
    min: 1,
    max: DAY,
    default: '900',
    meaning: 'A guest that is asked to shut down gets so long.',
  },
  boot_timeout: {
    kind: 'whole',
    unit: 's',
    min: 1,
    max: DAY,
    default: '600',
    meaning: 'A guest that was started gets so long for its first sign of life.',
  },
  check_timeout: {
    kind: 'whole',
    unit: 's',
    min: 1,
    max: DAY,
    default: '120',
    meaning: 'Each of the other `checks` gets so long.',
  },
  force_off: {
    kind: 'flag',
    default: 'no',
    meaning: 'Turn a guest off that does not shut down in time.',
  },
  fence_source: {
    kind: 'flag',
    default: 'no',
    meaning: 'An unplanned failover asks the primary site to stop the VM first, when it answers.',
  },
  force: {
    kind: 'flag',
    default: 'no',
    meaning: 'Go on although the VM runs at the primary site; wants `reason`.',
  },
  reason: { kind: 'text', meaning: 'Why something is forced; stands in the journal.' },
  keep_disk: {
    kind: 'text',
    meaning: 'An undo keeps what was written at the DR site under this name, as VHDX files.',
  },
  compare: {
    kind: 'choice',
    choices: ['auto', 'changed', 'full'],
    default: 'auto',
    meaning:
      'What a failback brings home: what both sides know as changed, or all that differs by hash.',
  },
  stage: {
    kind: 'choice',
    choices: ['sync', 'switch', 'all'],
    default: 'all',
    meaning: 'How far a failback goes: `sync` leaves the VM serving at the DR site.',
  },
  switch_window: {
    kind: 'whole',
    unit: 's',
    min: 1,
    max: DAY,
    default: '60',
    meaning: 'A failback is repeated until the rest would take less than this.',
  },
  urgent: {
    kind: 'flag',
    default: 'no',
    meaning: 'The last round of a failback, while nobody serves, does not keep to `bandwidth`.',
  },
  failback_to: {
    kind: 'text',
    default: 'original',
    meaning:
      'Which VM of the primary a failback brings home: `original`. Another one is reached by ' +
      '`permanent`, `reprotect` and a planned failover.',
  },
  remote_actions: {
    kind: 'list',
    meaning:
      'What the DR site may do with VMs of this source: `shutdown`, `start`, `failback`; nothing unless ' +
      'it is named.',
  },
  replace_retired: {
    kind: 'flag',
    default: 'no',
    meaning:
      'A planned failover takes the name of a VM that an earlier one left here: it is off and fenced by us. ' +
      'It is removed from the hypervisor when the new one is registered; its disk files stay.',
  },
  safety_hold: {
    kind: 'whole',
    unit: 's',
    min: 0,
    max: 30 * DAY,
    default: '86400',
    meaning: 'After a reprotect the old disks of the primary are kept for so long.',
  },
  plan: {
    kind: 'flag',
    default: 'no',
    meaning:
      'A job of a failover mode prints what it would do, with the hash of it, and does nothing; on the ' +
      'command line `--plan`.',
  },
  confirm: {
    kind: 'list',
    meaning:
      'Hashes of plans that were printed before, at least 12 digits of each; what destroys or decides ' +
      'something is done only as one of them says. One for each VM that the job is about.',
  },
  principal: {
    kind: 'text',
    meaning: 'Whose the protection is that a reprotect opens; default: whose key `dr_psk_file` is.',
  },
  retired_host: {
    kind: 'text',
    meaning: 'Of a reprotect: the receiver of this site, which has the retired protection.',
  },
  retired_port: {
    kind: 'whole',
    min: 1,
    max: 65_535,
    default: '9847',
    meaning: 'Its port.',
  },
  retired_psk_file: { kind: 'text', meaning: 'Operator key for it.' },
  hvr_server: {
    kind: 'text',
    meaning:
      'With `mode=async-hvr`: host, or broker of a cluster, that Hyper-V Replica sends to; a VM that Hyper-V ' +
      'does not replicate yet begins with it. Without it nothing is enabled.',
  },
  hvr_port: {
    kind: 'whole',
    min: 0,
    max: 65_535,
    default: '0',
    meaning: 'Its port; 0: 80 for Kerberos, 443 for a certificate.',
  },
  hvr_authentication: {
    kind: 'choice',
    choices: ['kerberos', 'certificate'],
    default: 'kerberos',
    meaning: 'How both hosts know each other; over Kerberos nothing is encrypted by Hyper-V.',
  },
  hvr_certificate: {
    kind: 'text',
    meaning: 'Thumbprint of the certificate of this host, for `hvr_authentication=certificate`.',
  },
  hvr_interval: {
    kind: 'choice',
    choices: ['30', '300', '900'],
    default: '300',
    meaning: 'Seconds between two sendings of Hyper-V Replica.',
  },
  hvr_points: {
    kind: 'whole',
    min: 0,
    max: 24,
    default: '4',
    meaning: 'Recovery points that the replica keeps besides the newest, one an hour.',
  },
  hvr_vss_hours: {
    kind: 'whole',
    min: 0,
    max: 12,
    default: '0',
    meaning: 'Hours between application-consistent recovery points; 0 = none.',
  },
  host: {
    kind: 'text',
    meaning: 'Hypervisor of this side: `lab:DIR` or `hyperv`.',
  },
  store: {
    kind: 'text',
    meaning: 'With `mode=receiver`: folder of the store, one of those that backend.conf lists.',
  },
  listen: {
    kind: 'text',
    meaning: 'With `mode=receiver`: `ADDR:PORT`, one of those that backend.conf lists.',
  },
  state_dir: {
    kind: 'text',
    meaning: 'Where ledgers and leases live; the default needs no root.',
  },
} as const satisfies Record<string, ParameterRow>;

export type ParameterName = keyof typeof PARAMETERS;

type ValueOf<R extends ParameterRow> = R extends { kind: 'flag' }
  ? boolean
  : R extends { kind: 'whole' | 'rate' }
    ? number
    : R extends { kind: 'list' }
      ? readonly string[]
      : R extends { kind: 'choice'; choices: readonly (infer C)[] }
        ? R extends { default: string }
          ? C
          : C | undefined
        : R extends { default: string }
          ? string
          : string | undefined;

export type ParameterValues = {
  readonly [K in ParameterName]: ValueOf<(typeof PARAMETERS)[K]>;
};

export const PARAMETER_NAMES: readonly ParameterName[] =
  Object.keys(PARAMETERS).filter(isParameterName);

export function isParameterName(text: string): text is ParameterName {
  return Object.hasOwn(PARAMETERS, text);
}

/** The row of a parameter, seen as any row. */
export function rowOf(name: ParameterName): ParameterRow {
  return PARAMETERS[name];
}

/** The flag of a parameter on the command line. */
export function flagOf(name: string): string {
  return `--${name.replaceAll('_', '-')}`;
}
