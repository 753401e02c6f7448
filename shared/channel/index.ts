// The channel between the sites: typed services, and how their bytes travel.

export { connectDirectly } from './direct.js';
export { printable } from './final.js';
export { Outbox } from './outbox.js';
export {
  CollectGarbageRequest,
  CollectGarbageResponse,
  Alarm,
  ClearAlarmRequest,
  ClearAlarmResponse,
  CompactedVm,
  CompactProgress,
  CompactRequest,
  CompactResponse,
  DiskBytes,
  GarbageItem,
  ImportDeltaRequest,
  ImportDeltaResponse,
  ImportDone,
  ListPointsRequest,
  ListPointsResponse,
  OperateRequest,
  OperateResponse,
  OperationDone,
  OperationPlan,
  OperationProgress,
  PauseRequest,
  PauseResponse,
  PinPointRequest,
  PinPointResponse,
  PointDisk,
  PointPagesRequest,
  PointPagesResponse,
  ProtectionStatus,
  ReadDiskRequest,
  ReadDiskResponse,
  RebindRequest,
  RebindResponse,
  RestorePoint,
  ReprotectFacts,
  SeedDone,
  SeedFile,
  SeedHost,
  SeedRequest,
  SeedResponse,
  StatusPagesRequest,
  StatusPagesResponse,
  StatusRequest,
  StatusResponse,
  TestStatus,
  UnhaltRequest,
  UnhaltResponse,
  VerifyDone,
  VerifyFinding,
  VerifyProgress,
  VerifyRequest,
  VerifyResponse,
} from './gen/podheitor/dr/v1/control.js';
export {
  AbandonRequest,
  AbandonResponse,
  CommitRequest,
  CommitResponse,
  DescribeRequest,
  DescribeResponse,
  DiskGeometry,
  DiskPlace,
  DiskPosition,
  DiskTransfer,
  HashesRequest,
  HashesResponse,
  OpenAccepted,
  OpenDisk,
  OpenRequest,
  OpenResponse,
  ProtectionState,
  PushRequest,
  PushResponse,
  RepairRequest,
  RepairResponse,
  UnfinishedCycle,
  VmAdapter,
  VmDefinition,
  WantedCell,
  WantedRequest,
  WantedResponse,
} from './gen/podheitor/dr/v1/replication.js';
export {
  AttachedVm,
  AttachedVms,
  AttachRequest,
  AttachResponse,
  FailbackCellsRequest,
  FailbackCellsResponse,
  FailbackMode,
  Order,
  OrderAnswer,
  OrderDone,
  OrderFailed,
} from './gen/podheitor/dr/v1/site.js';
export {
  type CallContext,
  type Caller,
  type CallOptions,
  type Handler,
  type Handlers,
  type MethodCall,
  type MethodDefinition,
  type Role,
  type ServiceClient,
  type ServiceDefinition,
} from './service.js';
export {
  type ControlService,
  controlService,
  type ReplicationService,
  replicationService,
  siteService,
  type SiteService,
} from './services.js';
export { connect } from './connect.js';
export { open as openSealed, seal, type Suite, TAG_BYTES } from './aead.js';
export type {
  ChannelConnection,
  ChannelListener,
  ConnectOptions,
  ListenerStatus,
  ListenOptions,
  ServedService,
  TlsMaterial,
} from './endpoint.js';
export {
  type KeyEnvironment,
  type KeyRing,
  loadKey,
  loadKeyRing,
  loadSecret,
  type PreSharedKey,
} from './keys.js';
export { listen } from './listen.js';
export { loadTls, type TlsFiles } from './tls-files.js';
export { releaseMemory } from './release-memory.js';
export { METHOD_ROLES } from './method-roles.js';
export {
  estimateBits,
  keyFromPassphrase,
  PASSPHRASE_BITS_MIN,
  PASSPHRASE_BYTES_MAX,
} from './passphrase.js';
export { encodeKey, isKeyId, isPrincipal, isRole, parseKey } from './psk-format.js';
export { listenAdmin } from './admin.js';
export { type AdminListener, type AdminOptions, loopbackAddress } from './admin-address.js';
