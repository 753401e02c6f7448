// The network of a VM at another site: which switch, which MAC policy, which addresses. Pure, but for apply.ts.

export { type AdapterPlan, applyNetwork } from './apply.js';
export { ipMapOf } from './ip-map.js';
export {
  formatNetworkMap,
  invertMap,
  type NetworkMap,
  parseNetworkMap,
  targetOf,
} from './network-map.js';
export { isOneAddress, type TakenAddress } from './conflicts.js';
export { type NetworkPlan, type NetworkRequest, type PlannedAdapter, planNetwork } from './plan.js';
export type { AddressMove } from './readdress.js';
export { mapBack, rulesBack, type WayBackRequest } from './way-back.js';
