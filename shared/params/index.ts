// The parameters of the product: one table, three ways to write them, one way to check them.

export {
  CONFIG_FILE_MAX,
  type ConfigSection,
  givenByFlags,
  type GivenParameter,
  type Origin,
  parseConfigFile,
  parseConfigSections,
  parsePluginString,
  type PluginNamespace,
} from './given.js';
export { parametersPage } from './page.js';
export { matchesPattern } from './pattern.js';
export { splitOutsideQuotes } from './quoted.js';
export {
  checkTls,
  doubtsOf,
  type OperationMode,
  OPERATIONS,
  type ParameterSet,
  type ParameterTexts,
  resolveParameters,
  TLS_PARAMETERS,
  type TlsParameters,
  wantedConsistency,
  wantedSchedule,
} from './resolve.js';
export { type GridRule, parseRetentionGrid } from './retention-grid.js';
export { type BandwidthSchedule, rateAt } from './schedule.js';
export {
  flagOf,
  isParameterName,
  PARAMETER_NAMES,
  type ParameterName,
  type ParameterRow,
  PARAMETERS,
  type ParameterValues,
  rowOf,
} from './table.js';
export { allowedOf } from './values.js';
