// The catalogue of error codes. A code is public: scripts, logs, exit codes and `hvdr explain` rely on
// it (failover.md § 6, cli.md). docs/errors.md is generated from here.

/** Who can make the operation succeed: nobody, a new connection, a resync, or a person. */
export type Retry = 'never' | 'reconnect' | 'resync' | 'operator';

export interface CatalogueEntry {
  /** Process exit code of a run that ends with this error. */
  readonly exitCode: number;
  readonly retry: Retry;
  /** gRPC status name, a hint for foreign tools only (channel.md § 3). */
  readonly grpc: string;
  /** What happened, one sentence. */
  readonly cause: string;
  /** What the operator does next, one or two sentences. */
  readonly remedy: string;
}

function damaged(cause: string, remedy: string): CatalogueEntry {
  return { exitCode: 15, retry: 'never', grpc: 'DATA_LOSS', cause, remedy };
}

const RESTORE_COPY =
  'Restore the file from a good copy; `hvdr vhdx check FILE` lists every finding.';
const FETCH_AGAIN =
  'Fetch the delta again from where it was made; `hvdr pcbt check FILE` shows the place.';

export const CATALOGUE = {
  E_USAGE: {
    exitCode: 2,
    retry: 'never',
    grpc: 'INVALID_ARGUMENT',
    cause: 'The command line or a value on it is not legal.',
    remedy: 'Compare with `hvdr COMMAND --help`.',
  },
  E_INTERNAL: {
    exitCode: 70,
    retry: 'operator',
    grpc: 'INTERNAL',
    cause: 'An invariant of this program did not hold: a bug, not your fault.',
    remedy:
      'Nothing was acknowledged. Report it with the log; run the command again with --log-level debug.',
  },
  E_IO: {
    exitCode: 16,
    retry: 'operator',
    grpc: 'INTERNAL',
    cause: 'The system refused to read, write or flush a file.',
    remedy: 'Look at the system error and the health of the volume, then run the command again.',
  },
  E_NOT_FOUND: {
    exitCode: 16,
    retry: 'operator',
    grpc: 'NOT_FOUND',
    cause: 'A file or folder that the command names is not there.',
    remedy: 'Check the path; paths are relative to the current folder.',
  },
  E_CAPACITY: {
    exitCode: 32,
    retry: 'operator',
    grpc: 'RESOURCE_EXHAUSTED',
    cause: 'The volume or a quota is full.',
    remedy: 'Free space on the volume that the message names, then run the command again.',
  },
  E_EXISTS: {
    exitCode: 33,
    retry: 'operator',
    grpc: 'ALREADY_EXISTS',
    cause: 'The target exists already and is not replaced without being asked to.',
    remedy: 'Choose another name, or remove the existing file first.',
  },
  E_DISK_MISMATCH: {
    exitCode: 33,
    retry: 'operator',
    grpc: 'INVALID_ARGUMENT',
    cause: 'Two disks, or a delta and a disk, do not fit each other.',
    remedy: 'Compare sizes and sector sizes with `hvdr vhdx info` and `hvdr pcbt info`.',
  },
  E_LOCKED: {
    exitCode: 11,
    retry: 'operator',
    grpc: 'ABORTED',
    cause: 'Another process works on the same thing.',
    remedy: 'Wait until it has ended, or stop it.',
  },
  E_DIFFERENT: {
    exitCode: 1,
    retry: 'never',
    grpc: 'OK',
    cause: 'A comparison found differences.',
    remedy: 'The output lists them.',
  },
  E_FILE_DAMAGED: damaged(
    'A file of this program (state, settings) is not readable as what it should be.',
    'Restore the file that the message names, or move it aside if the program can do without it.',
  ),
  E_FILE_VERSION: {
    exitCode: 15,
    retry: 'never',
    grpc: 'FAILED_PRECONDITION',
    cause: 'A file of this program has a format version that this release does not know.',
    remedy: 'Use the release that wrote the file, or a newer one; nothing of it was touched.',
  },
  E_TOOL_MISSING: {
    exitCode: 16,
    retry: 'operator',
    grpc: 'FAILED_PRECONDITION',
    cause: 'An outside program that this format needs is not installed.',
    remedy:
      'Install it (Debian: `apt-get install qemu-utils`) or convert the file to raw or VHDX elsewhere.',
  },
  E_TOOL_FAILED: {
    exitCode: 16,
    retry: 'operator',
    grpc: 'INTERNAL',
    cause: 'An outside program ended with an error.',
    remedy: 'Its own message is part of the error; run it by hand on the same file.',
  },
  E_IMAGE_FORMAT: {
    exitCode: 16,
    retry: 'never',
    grpc: 'INVALID_ARGUMENT',
    cause: 'The disk image is in a format that this command does not open by itself.',
    remedy: 'Convert it first: `hvdr vhdx convert SRC DST.vhdx`.',
  },
  E_IMAGE_REFERENCE: damaged(
    'A qcow2, VMDK or VHD image refers to another file, which is not followed.',
    'Flatten the image where it was made, for example with `qemu-img convert`, then convert the result.',
  ),

  // Protection and its state machine (failover.md § 6)
  E_CONVERT_CONFIG: {
    exitCode: 2,
    retry: 'never',
    grpc: 'INVALID_ARGUMENT',
    cause:
      'The configuration of a VMware or Proxmox VM cannot be read, or describes no VM that Hyper-V can run.',
    remedy:
      'The message names the file and what is wrong with it; take the configuration that the VM had when it ran.',
  },
  E_SEED_PATH: {
    exitCode: 2,
    retry: 'operator',
    grpc: 'INVALID_ARGUMENT',
    cause:
      "A seed is named that the receiver may not read: it lies outside of the receiver's seed folder.",
    remedy:
      'Put the files below the folder of `hvdr receiver --seed-dir`, as files and not as links, and name them by their path in it.',
  },
  E_SEED_MEDIUM: damaged(
    'A seed medium is damaged, not whole, or not sealed with a key that is here.',
    'Copy it again from where it was written, or make it again: `hvdr seed --to media:DIR`. What was staged of it before the damage is sound and is used.',
  ),
  E_SEED_BACKUP: {
    exitCode: 16,
    retry: 'operator',
    grpc: 'INVALID_ARGUMENT',
    cause: 'A backup that is to seed a VM is not there in the form that is read.',
    remedy:
      'Restore the Full and the later jobs of the VM to one folder, `.meta` included, and give `--from bacula:DIR`.',
  },
  E_RESTORE_PATH: {
    exitCode: 2,
    retry: 'operator',
    grpc: 'INVALID_ARGUMENT',
    cause:
      'A restore was asked to write where it may not: outside of its folder or of the restore roots, or under a name that no backup of ours gives.',
    remedy:
      'Give an absolute folder below one of the `restore_roots` of backend.conf, with forward slashes: `restore_path=D:/restore`.',
  },
  E_RESTORE_CHAIN: {
    exitCode: 16,
    retry: 'operator',
    grpc: 'FAILED_PRECONDITION',
    cause:
      'The files that were selected do not lead to one point: a base, a delta or a manifest is missing.',
    remedy:
      'Select the files that the message names as well, or the whole folder of the VM with the Full and all later jobs (`restore select current` in bconsole).',
  },
  E_RESTORE_CORRUPT: damaged(
    'What was restored does not have the hashes that were taken when it was backed up.',
    'Restore an earlier point, and verify the volumes of this one. `restore_to=files` hands out the files as they are.',
  ),
  E_RESTORE_VM: {
    exitCode: 33,
    retry: 'operator',
    grpc: 'ALREADY_EXISTS',
    cause:
      'The restored VM would take the place of one that runs, that is another one, or that uses the files.',
    remedy:
      'Give `new_vm_name=NAME` for a second VM, or `replace_vm=yes` to put the restored one in its place.',
  },
  E_STATE: {
    exitCode: 10,
    retry: 'operator',
    grpc: 'FAILED_PRECONDITION',
    cause: 'The command is not valid in the present state of the protection.',
    remedy: '`hvdr status --vm NAME` shows the state; the message lists what is valid now.',
  },
  E_NOT_PROTECTED: {
    exitCode: 10,
    retry: 'operator',
    grpc: 'FAILED_PRECONDITION',
    cause: 'The receiver knows no such VM, or it belongs to another principal.',
    remedy: 'Protect it with `hvdr push --vm NAME`, or check name and key.',
  },
  E_FAILED_OVER: {
    exitCode: 10,
    retry: 'operator',
    grpc: 'FAILED_PRECONDITION',
    cause: 'The VM runs at the DR site, so the primary must not replicate over it.',
    remedy: 'Undo the failover or fail back first; `hvdr status` shows the direction.',
  },
  E_NOT_FAILED_OVER: {
    exitCode: 10,
    retry: 'operator',
    grpc: 'FAILED_PRECONDITION',
    cause:
      'The VM does not run at the DR site, so there is nothing to make final or to bring back.',
    remedy: '`hvdr status --vm NAME` shows the state; fail over first.',
  },
  E_NOTHING_TO_UNDO: {
    exitCode: 10,
    retry: 'operator',
    grpc: 'FAILED_PRECONDITION',
    cause: 'No failover and no failback is open.',
    remedy: '`hvdr status --vm NAME` shows the state.',
  },
  E_COMMITTED: {
    exitCode: 10,
    retry: 'operator',
    grpc: 'FAILED_PRECONDITION',
    cause: 'The failover was made permanent: the VM belongs to the DR site now.',
    remedy:
      'Nothing takes it back. To go home, protect it at the DR site as a VM of its own: `hvdr push`, with a receiver at the primary site.',
  },
  E_UNCOMMITTED: {
    exitCode: 10,
    retry: 'operator',
    grpc: 'FAILED_PRECONDITION',
    cause: 'The failover is provisional, and the command wants a permanent one.',
    remedy: '`hvdr failover permanent VM` first, or `hvdr failover undo VM`.',
  },
  E_NO_POINT: {
    exitCode: 12,
    retry: 'operator',
    grpc: 'NOT_FOUND',
    cause: 'There is no such restore point, or none at all.',
    remedy: '`hvdr points VM` lists those that are there.',
  },
  E_NO_MATCH: {
    exitCode: 12,
    retry: 'operator',
    grpc: 'NOT_FOUND',
    cause: 'A pattern matched no VM.',
    remedy: 'Compare the pattern with the names of the VMs; `*` and `?` are wildcards.',
  },
  E_POINT_CORRUPT: {
    exitCode: 13,
    retry: 'operator',
    grpc: 'DATA_LOSS',
    cause: 'A restore point does not read back to its manifest.',
    remedy: 'Use one of the good points that the message lists; `hvdr verify VM --point all`.',
  },
  E_POINT_PINNED: {
    exitCode: 14,
    retry: 'operator',
    grpc: 'FAILED_PRECONDITION',
    cause: 'A pinned restore point would be removed.',
    remedy: 'Unpin it first: `hvdr points VM --unpin ID`.',
  },
  E_RETENTION_FLOOR: {
    exitCode: 14,
    retry: 'operator',
    grpc: 'FAILED_PRECONDITION',
    cause:
      'A restore point would be removed that is kept whatever anybody asks for: the newest, the last verified, the last clean one, or the first of its day.',
    remedy:
      'Remove another one; or make the VM owe it no longer: a newer point, `hvdr verify VM`, `hvdr points VM --clear-alarm ID`.',
  },
  E_STALE_EPOCH: {
    exitCode: 24,
    retry: 'operator',
    grpc: 'FAILED_PRECONDITION',
    cause: 'The source speaks for an epoch that has ended: the direction changed since.',
    remedy: 'Do not start the VM at this site; `hvdr status` at the DR site shows who is active.',
  },
  E_HALTED: {
    exitCode: 26,
    retry: 'operator',
    grpc: 'FAILED_PRECONDITION',
    cause:
      'A record of this protection is damaged or contradicts itself, or the store is older than its source, so nothing goes on alone.',
    remedy:
      'The message names the file and the place; restore it, or start a new protection. `hvdr unhalt` accepts an older store.',
  },
  E_BASE_LOST: {
    exitCode: 34,
    retry: 'resync',
    grpc: 'FAILED_PRECONDITION',
    cause: 'The changes since the last point of the DR site are not known any more.',
    remedy: 'Nothing to do: the next cycle compares the whole disk by hashes.',
  },
  E_CONSISTENCY: {
    exitCode: 35,
    retry: 'operator',
    grpc: 'FAILED_PRECONDITION',
    cause: 'An application-consistent checkpoint was required and the guest would not quiesce.',
    remedy: 'Look at the VSS writers in the guest, or allow less: `quiesce=no`.',
  },
  E_SOURCE_UNREACHABLE: {
    exitCode: 21,
    retry: 'reconnect',
    grpc: 'UNAVAILABLE',
    cause: 'The other site does not answer.',
    remedy: 'Check host, port and firewall; the command can be run again at any time.',
  },
  E_SOURCE_ALIVE: {
    exitCode: 20,
    retry: 'operator',
    grpc: 'FAILED_PRECONDITION',
    cause: 'The VM still runs at the primary site.',
    remedy:
      'Stop it there, or do a planned failover; `--fence-source` asks its agent to stop it, `--force` goes on regardless.',
  },
  E_REMOTE_ACTION: {
    exitCode: 20,
    retry: 'operator',
    grpc: 'FAILED_PRECONDITION',
    cause: 'The primary site does not let the DR site do this with the VM.',
    remedy:
      'Allow it there with `remote_actions`, or run the command at the primary site with `--host`.',
  },
  E_FINAL_SYNC_FAILED: {
    exitCode: 23,
    retry: 'operator',
    grpc: 'ABORTED',
    cause:
      'The last changes did not reach the DR site, so the failover was given up and the VM started again at the primary site.',
    remedy: 'Look at the cause in the message; `hvdr push` shows whether a cycle works.',
  },
  E_SPLIT_BRAIN: {
    exitCode: 25,
    retry: 'operator',
    grpc: 'FAILED_PRECONDITION',
    cause: 'The VM runs, or ran, at both sites.',
    remedy: 'Decide whose data counts: `hvdr resolve VM --keep source|replica`.',
  },
  E_FENCED: {
    exitCode: 25,
    retry: 'operator',
    grpc: 'FAILED_PRECONDITION',
    cause: 'The VM must not be started here, because it serves at the other site.',
    remedy:
      '`hvdr status` at the DR site shows who is active; undo the failover or fail back there.',
  },
  E_NET_UNMAPPED: {
    exitCode: 30,
    retry: 'operator',
    grpc: 'INVALID_ARGUMENT',
    cause: 'A network adapter is connected to a switch that has no counterpart at the DR site.',
    remedy:
      'Name one: `--network-map SWITCH=SWITCH` (among parameters `network_map=SWITCH=SWITCH`), or leave such adapters unconnected: `--unmapped disconnect`.',
  },
  E_NOT_ISOLATED: {
    exitCode: 30,
    retry: 'operator',
    grpc: 'INVALID_ARGUMENT',
    cause: 'The network of a test would reach production.',
    remedy: 'Give `test_network` a private switch that is not in `network_map`, or none.',
  },
  E_REIP_INVALID: {
    exitCode: 31,
    retry: 'operator',
    grpc: 'INVALID_ARGUMENT',
    cause: 'A re-IP rule is not legal.',
    remedy:
      'The message names the rule and the field; `hvdr reip explain VM` tries the rules and changes nothing.',
  },
  E_REIP_CONFLICT: {
    exitCode: 31,
    retry: 'operator',
    grpc: 'INVALID_ARGUMENT',
    cause: 'Two VMs would have one address.',
    remedy: 'The message names both; change one of the rules.',
  },
  E_REIP_GUEST: {
    exitCode: 31,
    retry: 'operator',
    grpc: 'INVALID_ARGUMENT',
    cause: 'The guest did not take its new address.',
    remedy: 'Leave `reip_rules` out, and set the address in the guest.',
  },
  E_RESYNC_RUNNING: {
    exitCode: 34,
    retry: 'operator',
    grpc: 'FAILED_PRECONDITION',
    cause:
      'The DR site is being compared with the primary, and its newest point is older than the failover wants.',
    remedy: 'Wait for the compare, or name an older point of an unplanned failover: `--point ID`.',
  },
  E_CONFIRM: {
    exitCode: 40,
    retry: 'operator',
    grpc: 'FAILED_PRECONDITION',
    cause:
      'The command destroys or decides something and was not confirmed, or the world has changed since its plan was printed.',
    remedy:
      '`--plan` prints the plan with its hash, `--confirm HASH` confirms it, `--yes` does both.',
  },
  E_SHUTDOWN_TIMEOUT: {
    exitCode: 22,
    retry: 'operator',
    grpc: 'DEADLINE_EXCEEDED',
    cause: 'The guest did not shut down in time.',
    remedy: 'Shut it down by hand, or allow turning it off.',
  },
  E_AUTH: {
    exitCode: 41,
    retry: 'operator',
    grpc: 'UNAUTHENTICATED',
    cause: 'The key was not accepted, or it may not do this.',
    remedy: 'Compare `hvdr psk inspect FILE` on both sides: id, principal, role.',
  },
  E_REPLAY: {
    exitCode: 41,
    retry: 'never',
    grpc: 'UNAUTHENTICATED',
    cause: 'A record or a call was seen before or did not open.',
    remedy: 'The session was ended; if it happens again, somebody interferes with the connection.',
  },
  E_VERSION: {
    exitCode: 41,
    retry: 'operator',
    grpc: 'UNIMPLEMENTED',
    cause: 'The two sides share no protocol version.',
    remedy: 'Upgrade the older side; the message names both versions.',
  },
  E_CHANNEL: {
    exitCode: 21,
    retry: 'reconnect',
    grpc: 'UNAVAILABLE',
    cause: 'The connection failed before the other side had given its sealed answer.',
    remedy: 'Run the command again: steps are idempotent and go on where they were.',
  },
  E_PROTOCOL: {
    exitCode: 41,
    retry: 'never',
    grpc: 'INVALID_ARGUMENT',
    cause: 'The other side sent a message that is not legal.',
    remedy: 'Compare the versions of both sides; report it with the log when they are equal.',
  },
  E_LIMIT: {
    exitCode: 41,
    retry: 'never',
    grpc: 'RESOURCE_EXHAUSTED',
    cause: 'A value is beyond what the receiver accepts.',
    remedy: 'The message names the value and the limit.',
  },
  E_STALLED: {
    exitCode: 42,
    retry: 'reconnect',
    grpc: 'DEADLINE_EXCEEDED',
    cause: 'An operation made no progress for the time that `timeout` allows.',
    remedy: 'Look at the side that the message names; the next run goes on where this one stopped.',
  },

  // Keys (channel.md § 1)
  E_KEY_FILE: {
    exitCode: 41,
    retry: 'operator',
    grpc: 'UNAUTHENTICATED',
    cause: 'A key file is not readable as one, or others may read it.',
    remedy: 'Make one with `hvdr psk generate --out FILE`; only its owner may read it.',
  },
  E_KEY_WEAK: {
    exitCode: 41,
    retry: 'operator',
    grpc: 'UNAUTHENTICATED',
    cause: 'A passphrase is too easy to guess for a key.',
    remedy: 'Make a key instead: `hvdr psk generate --out FILE`.',
  },
  E_TLS: {
    exitCode: 41,
    retry: 'operator',
    grpc: 'UNAUTHENTICATED',
    cause: 'Only one side asks for TLS, or a certificate does not fit.',
    remedy:
      'Give `dr_tls_ca` when the receiver runs with `--tls-cert`, and leave it out otherwise; compare names and authorities of the certificates.',
  },

  // Parameters (product.md § 5)
  E_PARAMETER: {
    exitCode: 2,
    retry: 'never',
    grpc: 'INVALID_ARGUMENT',
    cause: 'A parameter is unknown, has a wrong value, or does not go with another one.',
    remedy: 'The message names the parameter and what is allowed.',
  },

  // Hypervisor (hyperv.md § 1)
  E_HYPERVISOR: {
    exitCode: 16,
    retry: 'operator',
    grpc: 'INTERNAL',
    cause: 'The hypervisor refused an operation or failed in it.',
    remedy: 'Its own message is part of the error; look at the VM there.',
  },
  E_CHECKPOINT: {
    exitCode: 16,
    retry: 'operator',
    grpc: 'ABORTED',
    cause: 'A checkpoint could not be made, converted or removed.',
    remedy: 'Look at the VM in the hypervisor; nothing of ours stays behind.',
  },
  E_TRACKING_INVALID: {
    exitCode: 34,
    retry: 'resync',
    grpc: 'FAILED_PRECONDITION',
    cause: 'The hypervisor cannot say what changed since the reference point.',
    remedy: 'Nothing to do: the next cycle compares the whole disk by hashes.',
  },

  // A run over several VMs
  E_PARTIAL: {
    exitCode: 1,
    retry: 'operator',
    grpc: 'OK',
    cause: 'Some VMs are unprotected; the others were done.',
    remedy: 'The output names each VM with its error.',
  },
  E_TEST_FAILED: {
    exitCode: 1,
    retry: 'operator',
    grpc: 'OK',
    cause: 'A test failover came to its end, and what came up did not pass its checks.',
    remedy:
      'The report names each check; `hvdr failover test VM --keep` leaves the VM up to be looked at.',
  },

  // VHDX (spec vhdx.md; the section in each cause)
  E_VHDX_SIGNATURE: damaged(
    'The file is no VHDX: too short, or without its signature (§ 1.1).',
    'Check that this is the file you mean; `hvdr vhdx convert SRC DST.vhdx` makes a VHDX of a raw, qcow2, VMDK or VHD image.',
  ),
  E_VHDX_VERSION: damaged(
    'The VHDX has a version that this program does not know (§ 1.2).',
    'Use a newer release of this program.',
  ),
  E_VHDX_HEADER: damaged(
    'Neither header of the VHDX is usable, or they contradict each other (§ 1.2).',
    RESTORE_COPY,
  ),
  E_VHDX_REGION: damaged('The region table of the VHDX is damaged (§ 1.3).', RESTORE_COPY),
  E_VHDX_METADATA: damaged('The metadata region of the VHDX is damaged (§ 3).', RESTORE_COPY),
  E_VHDX_UNSUPPORTED: damaged(
    'The VHDX requires a feature that this program does not know.',
    'Use a newer release, or convert the file on Windows.',
  ),
  E_VHDX_INCOMPLETE: damaged(
    'The VHDX was still being created when its writer stopped.',
    'Create it again; an unfinished file holds no usable disk.',
  ),
  E_VHDX_LOCATOR: damaged(
    'The parent locator of a differencing VHDX is damaged (§ 3.1).',
    RESTORE_COPY,
  ),
  E_VHDX_BAT: damaged('A block allocation table entry is not legal (§ 5).', RESTORE_COPY),
  E_VHDX_BITMAP: damaged('A sector bitmap is missing or not legal (§ 5.2).', RESTORE_COPY),
  E_VHDX_OVERLAP: damaged('Two structures of the VHDX claim the same space (§ 9).', RESTORE_COPY),
  E_VHDX_TRUNCATED: damaged('The VHDX is shorter than its structures say.', RESTORE_COPY),
  E_VHDX_LOG: damaged('The log of the VHDX is dirty but cannot be replayed (§ 6).', RESTORE_COPY),
  E_VHDX_LIMIT: damaged('A value in the VHDX is beyond what this program accepts.', RESTORE_COPY),
  E_VHDX_PARENT_MISSING: damaged(
    'The parent of a differencing VHDX is not in its folder.',
    'Put the parent that the message names beside the child.',
  ),
  E_VHDX_PARENT_CHANGED: damaged(
    'The parent is not the one that the child was made from, or it was written to since.',
    'Bring back the parent as it was; a changed parent makes every child of it wrong.',
  ),
  E_VHDX_PATH: damaged(
    "A parent locator points out of the disk's folder.",
    'Move the parent beside the child; paths out of the folder are never followed.',
  ),
  E_VHDX_CHAIN: damaged(
    'A chain of differencing disks is too deep, runs in a circle, or its members do not fit.',
    'Merge the chain, or restore the member that the message names.',
  ),
  E_VHDX_POISONED: {
    exitCode: 16,
    retry: 'operator',
    grpc: 'INTERNAL',
    cause:
      'An earlier write or flush of this VHDX failed, so nothing more is written through this handle.',
    remedy: 'Mend the volume and open the file again; what had been acknowledged is intact.',
  },
  E_VHDX_READ_ONLY: {
    exitCode: 2,
    retry: 'never',
    grpc: 'FAILED_PRECONDITION',
    cause: 'The disk was opened for reading, or other disks depend on it.',
    remedy: 'Write to the topmost disk of the chain.',
  },
  E_VHDX_MERGE_PENDING: {
    exitCode: 10,
    retry: 'operator',
    grpc: 'FAILED_PRECONDITION',
    cause: 'A merge of this disk began and has not been finished.',
    remedy: 'Run `hvdr vhdx merge CHILD` again; it goes on where it stopped.',
  },
  E_VHDX_HAS_CHILDREN: {
    exitCode: 10,
    retry: 'operator',
    grpc: 'FAILED_PRECONDITION',
    cause: 'Another differencing disk depends on the disk that would be changed.',
    remedy: 'Merge or remove the other child first.',
  },

  // PCBT (product.md § 4)
  E_PCBT_MAGIC: damaged(
    'The file does not begin with "PCBT".',
    'Check that it is a delta of this product.',
  ),
  E_PCBT_VERSION: damaged(
    'The delta has a PCBT version other than 1.',
    'Use a newer release of this program.',
  ),
  E_PCBT_RESERVED: damaged('The reserved field of the PCBT header is not zero.', FETCH_AGAIN),
  E_PCBT_EMPTY_BLOCK: damaged('A block of the delta has the length 0.', FETCH_AGAIN),
  E_PCBT_BEYOND_DISK: damaged(
    'A block of the delta reaches beyond the end of the disk.',
    'Check that the delta belongs to this disk and that the disk was not resized.',
  ),
  E_PCBT_ORDER: damaged(
    'The blocks of the delta overlap or are not in ascending order.',
    FETCH_AGAIN,
  ),
  E_PCBT_TRUNCATED: damaged('The delta ends inside its header or an entry.', FETCH_AGAIN),
  E_PCBT_TRAILING: damaged('Bytes follow the last entry of the delta.', FETCH_AGAIN),

  // Manifest and delta (design.md § 1)
  E_DELTA_MANIFEST: damaged(
    'The manifest is damaged: structure, checksum or root hash.',
    FETCH_AGAIN,
  ),
  E_DELTA_VERSION: damaged(
    'The manifest has a format version that this program does not know.',
    'Use a newer release of this program.',
  ),
  E_DELTA_HASH: damaged(
    'The bytes of a cell do not have the hash that the manifest states.',
    FETCH_AGAIN,
  ),
  E_DELTA_COVERAGE: damaged(
    'Delta and manifest do not list the same cells.',
    'Use the manifest that was made with this delta.',
  ),
  E_DELTA_PARENT: damaged(
    "Two deltas are not adjacent, or the delta does not follow the disk's point.",
    'Apply the deltas in the order of their points.',
  ),
  E_DELTA_UNFINISHED: {
    exitCode: 10,
    retry: 'operator',
    grpc: 'FAILED_PRECONDITION',
    cause: 'An earlier apply onto this disk was interrupted, and this is another delta.',
    remedy: 'Apply the delta of the point that the message names again; that completes the disk.',
  },
  E_DELTA_UNSTABLE: {
    exitCode: 16,
    retry: 'operator',
    grpc: 'ABORTED',
    cause: 'A disk or delta gave other bytes when it was read for the second time.',
    remedy: 'Stop whoever writes to the file, or take a checkpoint, then run the command again.',
  },
} as const satisfies Record<string, CatalogueEntry>;
