// The DR site: takes the cycles of sources, keeps their restore points, gives them back.
//
//   server ─▶ replication-service ─▶ receiver ─▶ ingest/vm-desk ─▶ ingest/incoming-cycle
//          ├▶ attach/site-service ─▶ attach/attached-sources: agents of primary sites that take orders
//          └▶ control-service ─────────┘    ├──▶ store/vm-store ─▶ journal, protection
//                                           └──▶ maintenance ─▶ reclaim/ (compact, fold, drop)
//
// Invariants: what was acknowledged survives a power cut; a point is listed by one journal record, all
// of its disks or none; nothing that a source sends is written before it was checked; what is not
// understood stops one VM and no other.

export { siteHandlers } from './attach/site-service.js';
export { controlHandlers } from './control-service.js';
export { failoverPage } from './failover/page.js';
export { parsePublicKey, publicKeyOfStore } from './failover/drill/report-key.js';
export { reportPage, verifyPage } from './failover/drill/report-page.js';
export { type SignedReport, verifyReport } from './failover/drill/report.js';
export { healthOf } from './health.js';
export { DEFAULT_SCRUB, Scrub, type ScrubOptions } from './maintenance/scrub.js';
export { receiverSettings, type ReceiverTexts } from './receiver-settings.js';
export { addressText, type ReceiverPlaces, standReceiver } from './stand.js';
export {
  DEFAULT_POLICY,
  Receiver,
  type ReceiverOptions,
  type ReceiverPolicy,
  type SeedAccess,
} from './receiver.js';
export { replicationHandlers } from './replication-service.js';
export type { RetentionPolicy } from './store/retention.js';
export { StoreLayout } from './store/layout.js';
export { type ServedReceiver, serveReceiver, type ServeOptions } from './server.js';
