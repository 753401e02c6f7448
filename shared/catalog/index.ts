// What a Bacula job holds of a VM (docs/bacula-catalog.md): names, and the two records that describe
// a point. Pure. The rest are files of other formats: sealed VHDX, PCBT deltas, manifests.

export {
  CatalogNames,
  type CatalogName,
  parseCatalogPath,
  receiverReport,
  SEQ_DIGITS_MAX,
  SEQ_MAX,
  seqText,
  REPLICA_STATUS_PATH,
  STATUS_PATH,
} from './names.js';
export { RECORD_BYTES_MAX } from './json-record.js';
export { encodeRctState, parseRctState, type RctDisk, type RctState } from './rct-state.js';
export { encodeVmConfig, parseVmConfig } from './vm-config.js';
export { encodeVmName, type NamedVm, parseVmFolder, type VmFolder, vmFolder } from './vm-folder.js';
