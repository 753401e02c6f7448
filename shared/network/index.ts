// The network of a VM at another site: which switch, which MAC policy, which addresses. Pure.

export { formatNetworkMap, invertMap, type NetworkMap, parseNetworkMap } from './network-map.js';
export {
  type NetworkPlan,
  type NetworkRequest,
  type PlannedAdapter,
  planNetwork,
  type TakenAddress,
} from './plan.js';
