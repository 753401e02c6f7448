// What is believed of Hyper-V and was never seen here: every fact that hyperv.md marks as inferred, with who can
// answer it. A probe of ./probes answers those that a host with an empty VM can answer, or one with a guest; the
// others have instructions for a person.

export type FactSource =
  /** a probe with an empty VM */
  | 'probe'
  /** a probe with a guest: --guest-image */
  | 'guest'
  /** a person, as `how` says */
  | 'hand';

export interface Fact {
  /** Where hyperv.md has it. */
  readonly section: string;
  readonly says: string;
  readonly source: FactSource;
  /** For a person; also what a refuted fact means for the operator. */
  readonly how: string;
}

export const FACTS = {
  'registered-from-parts': {
    section: '3.2',
    says: 'A VM is built over disks that stand ready, off, with no adapter connected and no automatic start.',
    source: 'probe',
    how: 'Refuted: no failover may be made on this host.',
  },
  'our-disk-opens': {
    section: '2.4',
    says: 'Windows opens a disk that our VHDX engine made, and reads the same bytes.',
    source: 'probe',
    how: 'Refuted: restored and replicated disks would not start.',
  },
  'disk-id-kept': {
    section: '2.4',
    says: 'The VirtualDiskId that we wrote is the one that Windows reports, at the VM and at its checkpoint.',
    source: 'probe',
    how: 'Refuted: disks are matched by this id; nothing may be replicated.',
  },
  'our-chain-opens': {
    section: '2.4',
    says: 'Windows opens a differencing disk of ours over a base of ours, with the id of its base.',
    source: 'probe',
    how: 'Refuted: points cannot be started; failover and tests would fail.',
  },
  'checkpoint-of-off-vm': {
    section: '3.5',
    says: 'A recovery checkpoint of a VM that is off works.',
    source: 'probe',
    how: 'Refuted: the last delta of a planned failover needs it.',
  },
  'frozen-read': {
    section: '1.2',
    says: 'The disk of a recovery checkpoint reads as the guest last wrote it, allocation map included.',
    source: 'probe',
    how: 'Refuted: replicas of this host are wrong; stop using it.',
  },
  'conversion-tracks': {
    section: '2.4',
    says: 'The first conversion of a checkpoint turns tracking on: the reference point has one id for each disk.',
    source: 'probe',
    how: 'Refuted: every cycle would compare whole disks.',
  },
  'merge-ends': {
    section: '1.6',
    says: 'After a conversion, and after a removal, the merge ends and the VM is on its base files again.',
    source: 'probe',
    how: 'Refuted: chains would grow; look for event 19100 in the log Hyper-V-VMMS-Admin.',
  },
  'known-writes-reported': {
    section: '1.3',
    says: 'Every byte that was written between two checkpoints lies in a range that is reported.',
    source: 'probe',
    how: 'Refuted: replicas of this host are wrong; stop using it.',
  },
  'running-writes-reported': {
    section: '1.3',
    says: 'What a running machine wrote, to the byte, lies in a range that is reported.',
    source: 'probe',
    how: 'Refuted: replicas of this host are wrong; stop using it.',
  },
  'offline-edit-safe': {
    section: '1.7',
    says: 'An edit of a disk while its VM is off is reported, or makes the id invalid; it is never missed.',
    source: 'probe',
    how: 'Refuted: never touch disks of a replicated VM by hand; run a compare afterwards.',
  },
  'providers-agree': {
    section: '1.4',
    says: 'Both ways to ask for changed ranges (virtdisk and WMI) give the same bytes.',
    source: 'probe',
    how: 'Refuted: the report has both; use the larger one and file a bug.',
  },
  'old-id-valid': {
    section: '1.3',
    says: 'After a second conversion the id of the first reference point still gives all changes since it.',
    source: 'probe',
    how: 'Refuted: a cycle that was cut off has to be followed by a compare.',
  },
  'old-point-destroyed': {
    section: '1.2',
    says: 'An older reference point of ours can be destroyed and is gone from the list.',
    source: 'probe',
    how: 'Refuted: old reference points hinder merges.',
  },
  'destroyed-id-safe': {
    section: '1.7',
    says: 'The id of a destroyed reference point gives all changes since it, or is refused as invalid.',
    source: 'probe',
    how: 'Refuted: removing reference points by other programs loses changes.',
  },
  'unknown-id-refused': {
    section: '1.7',
    says: 'An id that nobody gave out is refused as invalid.',
    source: 'probe',
    how: 'Refuted: a mixed-up ledger would not be noticed.',
  },
  'resize-seen': {
    section: '1.7',
    says: 'A disk that grew is seen: by its size, or by an id that is invalid.',
    source: 'probe',
    how: 'Refuted: a grown disk would be replicated at its old size.',
  },
  'revert-seen': {
    section: '1.7',
    says: "After a user's checkpoint was applied the id is invalid, or what the disk lost is reported.",
    source: 'probe',
    how: 'Refuted: run a compare after every revert.',
  },
  'user-checkpoints': {
    section: '1.2',
    says: "A VM with a checkpoint of its user's is read whole, and its checkpoint stays.",
    source: 'probe',
    how: 'Refuted: exclude VMs with checkpoints.',
  },
  'replaced-disk-seen': {
    section: '1.7',
    says: 'A disk that was replaced by another one under the same path has another id, and the former tracking id is invalid.',
    source: 'probe',
    how: 'Refuted: a restored disk could be taken for the one that is replicated.',
  },
  'copied-vm-known': {
    section: '1.7',
    says: 'A VM registered anew over the same disk has no reference points, and its disk has the same id.',
    source: 'probe',
    how: 'Refuted: exported and imported VMs may be taken for the former ones.',
  },
  'protective-disk': {
    section: '2.4',
    says: 'A VM takes a differencing disk over its own as its disk; what is written there is what lies above the base.',
    source: 'probe',
    how: 'Refuted: failback cannot be made on this host.',
  },
  'protective-disk-tracking': {
    section: '1.7',
    says: 'Over a protective disk an older id gives all changes, or is invalid. The evidence says which: `covered` or `a compare is needed`.',
    source: 'probe',
    how: 'Refuted: a committed failback has to be followed by a full compare, whatever the ledger says.',
  },
  'point-untouched': {
    section: '3.5',
    says: 'A VM over a differencing disk of ours starts and writes there; the point below stays the same to the byte.',
    source: 'probe',
    how: 'Refuted: a test failover changes the restore point that it tests; make none on this host.',
  },
  'test-vm-alone': {
    section: '3.5',
    says: 'A VM that was registered by us runs with every adapter unconnected.',
    source: 'probe',
    how: 'Refuted: a test VM could meet the one that it is a copy of; make no test failover on this host.',
  },
  'replica-answers': {
    section: '4.1',
    says: 'Hyper-V Replica tells that a VM is not replicated, and what is for replicas only is refused for it.',
    source: 'probe',
    how: 'Refuted: use neither `hvdr replica` nor mode=async-hvr on this host.',
  },
  'fence-holds': {
    section: '3.5',
    says: 'A fenced VM has no automatic start and no connected adapter, and is not started by us; unfencing restores it.',
    source: 'probe',
    how: 'Refuted: a VM could come back at both sites.',
  },
  'removal-leaves-disks': {
    section: '3.5',
    says: 'Removing a VM leaves the disk files that it was registered with.',
    source: 'probe',
    how: 'Refuted: an undone failover would delete points.',
  },
  'guest-writes-reported': {
    section: '1.3',
    says: 'Whatever a running guest changed between two checkpoints lies in a range that is reported.',
    source: 'guest',
    how: 'Refuted: replicas of this host are wrong; stop using it.',
  },
  'application-consistent': {
    section: '1.2',
    says: 'A running guest with integration services gives an application-consistent checkpoint.',
    source: 'guest',
    how: 'Refuted: look at the VSS writers, or at hv_vss_daemon, in the guest.',
  },
  'heartbeat-seen': {
    section: '3.4',
    says: 'A guest that was started shows its heartbeat.',
    source: 'guest',
    how: 'Refuted: checks of a failover would fail; look at the integration services.',
  },
  're-ip-applied': {
    section: '3.4',
    says: 'A guest takes the address that is set for one of two adapters, and only for that; it reads back.',
    source: 'guest',
    how: 'Refuted: leave `reip_rules` out on this host. Linux guests need hv_kvp_daemon and hv_set_ifconfig.',
  },
  'shut-down-asked': {
    section: '3.5',
    says: 'A guest that is asked to shut down is off afterwards, without a question to a person.',
    source: 'guest',
    how: 'Refuted: give `force_off=yes` to planned failovers.',
  },
  'preflight-states': {
    section: '1.2',
    says: 'A VM that is being changed (merged, migrated, backed up) shows it in its operational status.',
    source: 'hand',
    how: 'Begin a storage move of a test VM in Hyper-V Manager and run `hvdr push --vm NAME --host hyperv` meanwhile: it waits, or ends with E_STATE or E_CHECKPOINT, and the next one is good.',
  },
  'open-handle-blocks-merge': {
    section: '1.6',
    says: 'A handle on a frozen disk that is left open makes the merge fail.',
    source: 'hand',
    how: 'During a push of a test VM open its frozen .vhdx with `Mount-VHD -ReadOnly` in another window, end the push, and look for event 19100; dismount and see event 19080.',
  },
  'points-cost-nothing': {
    section: '1.6',
    says: 'A reference point that is left alone costs tracking data only.',
    source: 'hand',
    how: 'Pause the pushes of a busy test VM for a day and compare the sizes of its .vhdx, .rct and .mrt files.',
  },
  'crash-keeps-checkpoint': {
    section: '1.6',
    says: 'After our process was ended a checkpoint of ours is found and removed, and no handle stays.',
    source: 'hand',
    how: 'End `hvdr push` in the Task Manager while it reads, then run it again: its report names the checkpoint, and `Get-VMSnapshot -SnapshotType Recovery` is empty afterwards.',
  },
  'host-crash-keeps-tracking': {
    section: '1.7',
    says: 'Tracking survives a power loss of the host, or is invalid afterwards.',
    source: 'hand',
    how: 'Switch a test host off during guest writes, start it, run one push and `hvdr verify --source`: no difference.',
  },
  'live-migration-keeps-tracking': {
    section: '5',
    says: 'Ids stay valid over a live migration; a push during it is given up and repeated on the new owner.',
    source: 'hand',
    how: 'On a cluster: push, move the VM, push on the new node; the kind is `delta`. Move it during a push: E_LOCKED or E_HYPERVISOR, and the next one is good.',
  },
  'storage-migration-seen': {
    section: '5',
    says: 'After a storage migration the disk keeps its id; its tracking id is valid or refused.',
    source: 'hand',
    how: '`Move-VMStorage` of a test VM between two pushes, then `hvdr verify --source`: no difference.',
  },
  'owner-node-only': {
    section: '5',
    says: 'A node that does not own a VM does not touch it, and names the owner.',
    source: 'hand',
    how: 'Run a push on the other node of the cluster: the error names the owner, nothing is made.',
  },
  'cluster-paths': {
    section: '5',
    says: 'Reading over a redirected CSV is correct; an SMB path of the same host is refused with 665.',
    source: 'hand',
    how: 'Push a VM from a node that is not the coordinator of its volume and verify it; push one on a loopback share.',
  },
  'cluster-role': {
    section: '3.6',
    says: 'A clustered VM is started and stopped by its group, and removed role first.',
    source: 'hand',
    how: 'Test failover, failover and undo of a VM on a cluster; Failover Cluster Manager shows no failed role.',
  },
  'firmware-identity': {
    section: '3.2',
    says: 'BIOS GUID and serial numbers can be set on a VM that is built from parts.',
    source: 'hand',
    how: 'Fail a VM with a licence bound to them over, and compare `Get-CimInstance Win32_ComputerSystemProduct` in the guest.',
  },
  'switch-by-id': {
    section: '3.2',
    says: 'Adapters are connected by the id of a switch, where two switches share a name.',
    source: 'hand',
    how: 'Make two switches of one name and run a test failover with that name: it is refused or names one of them.',
  },
  'integration-services-by-id': {
    section: '3.2',
    says: 'Integration services are found by component id on a Windows of any language.',
    source: 'hand',
    how: 'Run this command with --guest-image on a host with another display language.',
  },
  'test-isolation': {
    section: '3.5',
    says: 'A test failover reaches neither the host nor the network.',
    source: 'hand',
    how: '`hvdr failover test VM --keep`, and in the guest: ping of the gateway and of production fails.',
  },
  'extended-replica': {
    section: '4.1',
    says: 'An extended replica takes intervals of 300 and 900 s only.',
    source: 'hand',
    how: 'Extend a replica with 30 s in Hyper-V Manager: it is not offered.',
  },
  'replica-repeats': {
    section: '4.3',
    says: 'Each order to Hyper-V Replica can be repeated: the state says what is done.',
    source: 'hand',
    how: 'docs/async-hvr.md lists the drill: planned there and back, test, unplanned and undo, each order given twice.',
  },
  'replica-test-alone': {
    section: '4.3',
    says: 'The test VM of Hyper-V Replica is not started while an adapter of it is on a switch that is not private.',
    source: 'hand',
    how: 'At the host of a replica: `hvdr replica failover test VM`, `--stop`; then with a test network that is not private: E_NOT_ISOLATED, and the test VM is off.',
  },
  'shell-start-cost': {
    section: '6',
    says: 'A new PowerShell with the Hyper-V module costs about a second; one is kept.',
    source: 'hand',
    how: '`Measure-Command { powershell -NoProfile -Command "Get-VM" }`, twice.',
  },
  rights: {
    section: '6',
    says: 'Hyper-V Administrators are enough for WMI, and not for attaching disks.',
    source: 'hand',
    how: 'Run this command under an account that is in Hyper-V Administrators only: `frozen-read` is refused with access denied.',
  },
  'change-vhdx': {
    section: '1.4',
    says: 'CreateVirtualDisk with USE_CHANGE_TRACKING_SOURCE_LIMIT makes a VHDX of the changes. This product does not use it.',
    source: 'hand',
    how: 'Nothing to do; it would be another way to read changes.',
  },
} as const satisfies Record<string, Fact>;

export type FactId = keyof typeof FACTS;

export const FACT_IDS: readonly FactId[] = Object.keys(FACTS).filter(isFactId);

function isFactId(text: string): text is FactId {
  return Object.hasOwn(FACTS, text);
}

/** The row of a fact, seen as any row. */
export function factOf(id: FactId): Fact {
  return FACTS[id];
}
