// The provider of this Windows host, with the PowerShell, the scripts and the folder of an installed product.

import path from 'node:path';
import { isSea } from 'node:sea';
import { fileURLToPath } from 'node:url';
import type { Clock, Random } from '../../clock.js';
import type { FileSystem } from '../../files/index.js';
import type { Log } from '../../log.js';
import { HyperV } from './hyperv.js';
import { NativeVirtualDisks } from './native/index.js';
import { PowerShellHost, scriptsFolder, windowsPowerShell } from './powershell/host.js';

export interface WindowsSeams {
  readonly fs: FileSystem;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/** Nothing is started before the first call. */
export function openHyperV({ fs, clock, random, log }: WindowsSeams): HyperV {
  const systemRoot = process.env['SystemRoot'] ?? 'C:\\Windows';
  const programData = process.env['ProgramData'] ?? 'C:\\ProgramData';
  const program = windowsPowerShell({
    systemRoot,
    // seen from a bound program: in dist/programs of a checkout, else beside the executable
    scripts: scriptsFolder(isSea() ? process.execPath : fileURLToPath(import.meta.url)),
    temp: path.win32.join(systemRoot, 'Temp'),
  });
  return new HyperV({
    ...{ fs, clock, random },
    runner: new PowerShellHost({ program, clock, log }),
    virtualDisks: new NativeVirtualDisks(),
    stateFolder: path.win32.join(programData, 'PodHeitor', 'hyperv'),
  });
}
