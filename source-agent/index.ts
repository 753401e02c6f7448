// The source agent: reads what changed on the VMs of a host and brings it to a DR receiver.
//
//   agent.ts      many VMs ─▶ turns.ts (pure) which one next ─▶ cycle.ts   one cycle, step by step
//     rpo-outlook.ts        whether the RPO can hold (pure)
//     bandwidth.ts          one budget for all
//     tracked-changes.ts    what changed, as far as tracking knows
//     plan.ts               what is sent and why (pure) · cycle-messages.ts, cycle-notes.ts
//     ledger.ts             what each receiver still lacks (pure) · ledger-store.ts · cells-file.ts
//     vm-lease.ts           one cycle of a VM at a time · checkpoint-lease.ts  always given back
//     pinned-store.ts       the store that a key is for
//     repair.ts             what rotted at the receiver, given back from the frozen disks
//     push.ts               stream and commit, over breaks ─▶ disk-stream.ts ─▶ batcher.ts
//
//   failback/     failback.ts, sync-back.ts     a VM comes back on protective disks over its own
//   heard.ts      which site is active, as a receiver says it at Describe
//   remote/       attached-agent.ts ─▶ order-desk.ts   what the DR site asks for, as far as it is allowed
//
//   inspect.ts    a frozen look without a point ─▶ against-source.ts, repair.ts, seed-medium.ts
//   garbage.ts    what killed runs left on the host and in the state folder
//
// Invariants: no change is lost (ledger.ts states the law); a checkpoint outlives its cycle only
// when the process dies, and then the next one finds it; bytes of two moments never meet in a point.

export { requireNoFailback } from './failback/leftovers.js';
export { compareWithReceiver, type ComparedDisk, pointNamed } from './against-source.js';
export { Agent, isMatched, type Job } from './agent.js';
export { Attachments, wantedRemoteActions } from './attachments.js';
export { Bandwidth, type BandwidthPlan } from './bandwidth.js';
export type { CycleSettings } from './cycle.js';
export { type CycleResult, CycleStopped, type CycleWarning } from './cycle-result.js';
export { type FileCycleSettings, runFileCycle } from './file-cycle.js';
export type { FileEntry, FileSink, PluginObject } from './file-sink.js';
export { type JobLevel as BackupLevel, type JobRequest } from './ledger-jobs.js';
export { type ConfigHooks, jobsIn, watchConfig } from './config-jobs.js';
export { noteJob } from './job-history.js';
export {
  type JobParameters,
  keyOfParameters,
  openSourceHypervisor,
  Ports,
  stateFolderOf,
} from './job-ports.js';
export { runJobs, type WatchJobs } from './job-run.js';
export { outcomeDocument, outcomeLine, totalsLine, vmDocument } from './outcome-text.js';
export { newestConfirmedMs } from './ledger-store.js';
export { addOutcome, requirePoint } from './run-report.js';
export { powerOf } from './start-block.js';
export { collectSourceGarbage, type SourceGarbage, type SourceGarbageOptions } from './garbage.js';
export { endHere, endOf } from './failback/end-here.js';
export type { EndSeams } from './failback/failback.js';
export { requireFailbackHost } from './failback/host.js';
export { ReturnFile, type ReturnRecord } from './failback/return-record.js';
export { type Inspection, type InspectSeams, withInspection, withVmLease } from './inspect.js';
export { pinToStore, type StorePin } from './pinned-store.js';
export { type ConnectReceiver, type ReceiverConnection, ReceiverLink } from './receiver-link.js';
export { AttachedAgent, type AttachOptions } from './remote/attached-agent.js';
export type { AttachSeams } from './remote/seams.js';
export { REMOTE_ACTIONS, type RemoteAction } from './remote/remote-actions.js';
export { repairReceiver, type RepairOutcome } from './repair.js';
export {
  type CycleOutcome,
  type RunReport,
  type SkipReason,
  verdict,
  type VmReport,
} from './run-report.js';
export { type SeedMediumResult, type SeedMediumSeams, writeVmMedium } from './seed-medium.js';
export { strangeFence } from './start-block.js';
export { presentStateFolder, stateFolder, type StateFolderSeams } from './state-folder.js';
