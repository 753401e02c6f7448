// What the single executable runs: the command line, or the backend of the File Daemon's plugin, as its name says. Each is
// loaded only when it is wanted.

import { isNamedBackend } from './own-program.js';

if (isNamedBackend(process.argv0, process.argv.slice(2))) void import('./backend-main.js');
else void import('./main.js');
