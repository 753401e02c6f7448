// The services of the product as typed definitions. They are ts-proto's own, but for the push
// stream, whose requests are framed by hand (shared/delta/cell-batch.ts) and pass as bytes.

import { ControlServiceService } from './gen/podheitor/dr/v1/control.js';
import { ReplicationServiceService } from './gen/podheitor/dr/v1/replication.js';
import { SiteServiceService } from './gen/podheitor/dr/v1/site.js';

const asIs = (bytes: Buffer): Buffer => bytes;

export const replicationService = {
  ...ReplicationServiceService,
  push: {
    ...ReplicationServiceService.push,
    requestSerialize: asIs,
    requestDeserialize: asIs,
  },
} as const;
export type ReplicationService = typeof replicationService;

export const controlService = ControlServiceService;
export type ControlService = typeof controlService;
export const siteService = SiteServiceService;
export type SiteService = typeof siteService;
