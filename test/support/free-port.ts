export { freePort } from '../../cli/bacula-site/index.js';
