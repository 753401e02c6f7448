// Who may call what. The role comes from the receiver's own copy of the key; a method that does not
// stand here is called by nobody. A test holds this table against the service definitions.
//
// Ownership of VMs is not a matter of roles: the handlers check it (spec channel.md § 5).

import type { Role } from './service.js';

const PUSHERS: readonly Role[] = ['source', 'operator'];
const LOOKERS: readonly Role[] = ['viewer', 'drill', 'operator'];
const OPERATORS: readonly Role[] = ['operator'];

export const METHOD_ROLES: ReadonlyMap<string, readonly Role[]> = new Map([
  ['/podheitor.dr.v1.ReplicationService/Describe', PUSHERS],
  ['/podheitor.dr.v1.ReplicationService/Open', PUSHERS],
  ['/podheitor.dr.v1.ReplicationService/Push', PUSHERS],
  ['/podheitor.dr.v1.ReplicationService/Commit', PUSHERS],
  ['/podheitor.dr.v1.ReplicationService/Hashes', PUSHERS],
  ['/podheitor.dr.v1.ReplicationService/Abandon', PUSHERS],
  ['/podheitor.dr.v1.ReplicationService/Wanted', PUSHERS],
  ['/podheitor.dr.v1.ReplicationService/Repair', PUSHERS],
  ['/podheitor.dr.v1.SiteService/Attach', PUSHERS],
  ['/podheitor.dr.v1.SiteService/FailbackCells', PUSHERS],
  ['/podheitor.dr.v1.ControlService/Status', LOOKERS],
  ['/podheitor.dr.v1.ControlService/ListPoints', LOOKERS],
  ['/podheitor.dr.v1.ControlService/PinPoint', OPERATORS],
  ['/podheitor.dr.v1.ControlService/RemovePoint', OPERATORS],
  ['/podheitor.dr.v1.ControlService/Verify', OPERATORS],
  ['/podheitor.dr.v1.ControlService/ReadDisk', OPERATORS],
  ['/podheitor.dr.v1.ControlService/Pause', OPERATORS],
  ['/podheitor.dr.v1.ControlService/CollectGarbage', OPERATORS],
  ['/podheitor.dr.v1.ControlService/Seed', OPERATORS],
  ['/podheitor.dr.v1.ControlService/ImportDelta', OPERATORS],
  ['/podheitor.dr.v1.ControlService/Compact', OPERATORS],
  ['/podheitor.dr.v1.ControlService/Rebind', OPERATORS],
  ['/podheitor.dr.v1.ControlService/Unhalt', OPERATORS],
  ['/podheitor.dr.v1.ControlService/ClearAlarm', OPERATORS],
  ['/podheitor.dr.v1.ControlService/StatusPages', LOOKERS],
  ['/podheitor.dr.v1.ControlService/PointPages', LOOKERS],
  ['/podheitor.dr.v1.ControlService/ExplainNetwork', LOOKERS],
  // what is more than a test is refused by the handler
  ['/podheitor.dr.v1.ControlService/Operate', ['drill', 'operator']],
]);
