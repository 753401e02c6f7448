// Plans: many VMs failed over, tested or taken back as one (failover.md § 8).
//
//   yaml-text ─▶ parse ─▶ link ─▶ Plan          check ──┐
//                                  └─▶ tasks ─▶ schedule ─▶ orchestrator ─▶ actions ─▶ VmCommands
//                                                              └─▶ run-file
//
// Invariants: nothing begins before it was written down; a step never begins before what it depends on
// was done; a VM is in one unfinished run; what a VM says of itself counts more than the record.

export { checkPlan, type PlanCheck } from './check.js';
export {
  isFinished,
  type Plan,
  PLAN_KINDS,
  type PlanKind,
  type RunRecord,
  type TaskRecord,
} from './model.js';
export { beginRun, resumeRun, type RunEnd, type RunSeams as PlanRunSeams } from './orchestrator.js';
export { parsePlan } from './parse.js';
export type {
  HeartbeatOf,
  VmAddress,
  VmCommand,
  VmCommands,
  VmLook,
  VmOrder,
  VmOutcome,
  VmPlan,
} from './ports.js';
export { listRuns, RunFile } from './run-file.js';
export type { RunChange } from './run-state.js';
export { PLAN_BYTES_MAX } from './yaml-text.js';
