// The source agent: reads what changed on the VMs of a host and brings it to a DR receiver.
//
//   agent.ts      many VMs ─▶ turns.ts (pure) which one next ─▶ cycle.ts   one cycle, step by step
//     rpo-outlook.ts        whether the RPO can hold (pure)
//     bandwidth.ts          one budget for all
//     plan.ts               what is sent and why (pure)
//     ledger.ts             what each receiver still lacks (pure) · ledger-store.ts · cells-file.ts
//     vm-lease.ts           one cycle of a VM at a time · checkpoint-lease.ts  always given back
//     pinned-store.ts       the store that a key is for
//     push.ts               stream and commit, over breaks ─▶ disk-stream.ts ─▶ cell-reader.ts, batcher.ts
//
// Invariants: no change is lost (ledger.ts states the law); a checkpoint outlives its cycle only
// when the process dies, and then the next one finds it; bytes of two moments never meet in a point.

export { Agent, type Job } from './agent.js';
export { Bandwidth, type BandwidthPlan } from './bandwidth.js';
export type { CycleResult, CycleSettings, CycleWarning } from './cycle.js';
export { pinToStore, type StorePin } from './pinned-store.js';
export { type ConnectReceiver, type ReceiverConnection, ReceiverLink } from './receiver-link.js';
export {
  type CycleOutcome,
  type RunReport,
  type SkipReason,
  verdict,
  type VmReport,
} from './run-report.js';
export { stateFolder, type StateFolderSeams } from './state-folder.js';
