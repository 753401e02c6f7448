export { BOOT_CLASSES } from './vm.js';
export type {
  AddressSettings,
  BootClass,
  BootDevice,
  FirmwareIds,
  HyperVSettings,
  IntegrationService,
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
export {
  replicaOf,
  type InitialReplication,
  type ReplicaHealth,
  type ReplicaHost,
  type ReplicaOrder,
  type ReplicaPhase,
  type ReplicaPlan,
  type ReplicaPoint,
  type ReplicaRelation,
  type ReplicaSettings,
  type ReplicaStep,
  type ReplicaVerb,
  type ReplicaView,
  type ReplicaWatch,
} from './replica.js';
export type {
  Heartbeat,
  RegisterRequest,
  SwitchInfo,
  TargetCapabilities,
  TargetHypervisor,
} from './target.js';
export { openHypervisor, type HypervisorSeams } from './open.js';
