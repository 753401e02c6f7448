export type {
  AddressSettings,
  OwnerTag,
  PowerState,
  VmAdapter,
  VmDefinition,
  VmDisk,
  VmInventory,
  VmPower,
  VmSummary,
} from './vm.js';
export type {
  ByteRange,
  Checkpoint,
  CheckpointDisk,
  CheckpointRequest,
  Consistency,
  Fence,
  ReferencePoint,
  SourceCapabilities,
  SourceHypervisor,
} from './source.js';
export type {
  Heartbeat,
  RegisterRequest,
  SwitchInfo,
  TargetCapabilities,
  TargetHypervisor,
} from './target.js';
export { openHypervisor, type HypervisorSeams } from './open.js';
