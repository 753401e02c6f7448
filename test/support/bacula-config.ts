export { SITE_NAMES } from '../../cli/bacula-site/index.js';
