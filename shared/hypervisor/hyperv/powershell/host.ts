// Runs operations in Windows PowerShell 5.1: one long-lived host for what answers soon, and a second one for
// what blocks for long, so that a look at a VM never waits behind a failover that ships its last log.

import path from 'node:path';
import type { Clock } from '../../../clock.js';
import { DrError } from '../../../errors.js';
import { type Log, silentLog } from '../../../log.js';
import { Fields } from '../../fields.js';
import type { HostProgram } from './host-process.js';
import { Lane, PAUSE_MS } from './lane.js';
import type { Arguments, Operation, OperationRunner } from './operation.js';

/** An operation that may take longer has its own host. */
const LONG_MS = 300_000;

export interface PowerShellOptions {
  readonly program: HostProgram;
  readonly clock: Clock;
  readonly log?: Log | undefined;
  /** Before a lost host is replaced; grows while hosts keep failing. */
  readonly pauseMs?: number | undefined;
}

export class PowerShellHost implements OperationRunner {
  readonly #soon: Lane;
  readonly #long: Lane;

  constructor({ program, clock, log = silentLog, pauseMs = PAUSE_MS }: PowerShellOptions) {
    const lane = { program, clock, log: log.child({ component: 'powershell' }), pauseMs };
    this.#soon = new Lane(lane);
    this.#long = new Lane(lane);
  }

  async run<A extends Arguments, R>(operation: Operation<A, R>, args: A): Promise<R> {
    const { name, timeoutMs } = operation;
    const lane = timeoutMs > LONG_MS ? this.#long : this.#soon;
    const result = await lane.run(name, args, timeoutMs);
    const refusal = (field: string, wanted: string): DrError =>
      new DrError(
        'E_HYPERVISOR',
        `${name} was answered in another shape: ${field} is not ${wanted}`,
        {
          context: { op: name, field },
          done: 'the operation took effect; its answer was not used',
          hint: 'Compare the version of Windows with those that docs/hyperv.md names, and report the message.',
        },
      );
    return operation.read(new Fields(result, refusal));
  }

  async close(): Promise<void> {
    await Promise.all([this.#soon.close(), this.#long.close()]);
  }
}

export interface WindowsPlaces {
  /** Folder of Windows. */
  readonly systemRoot: string;
  /** Of the .ps1 files (scriptsFolder). */
  readonly scripts: string;
  /** For what cmdlets write in passing; that of the service. */
  readonly temp: string;
}

/** Windows PowerShell by its absolute path, with an environment in which no module of a user is found. */
export function windowsPowerShell({ systemRoot, scripts, temp }: WindowsPlaces): HostProgram {
  const { win32 } = path;
  const folder = win32.join(systemRoot, 'System32', 'WindowsPowerShell', 'v1.0');
  const systemDrive = win32.parse(systemRoot).root.replace(/\\$/, '');
  return {
    program: win32.join(folder, 'powershell.exe'),
    args: [
      ...['-NoLogo', '-NoProfile', '-NonInteractive', '-ExecutionPolicy', 'Bypass'],
      // else PowerShell reads standard input itself, as objects for the script's pipeline
      ...['-InputFormat', 'None'],
      ...['-File', win32.join(scripts, 'host.ps1')],
    ],
    environment: {
      SystemRoot: systemRoot,
      windir: systemRoot,
      SystemDrive: systemDrive,
      ProgramFiles: win32.join(`${systemDrive}\\`, 'Program Files'),
      ProgramData: win32.join(`${systemDrive}\\`, 'ProgramData'),
      PATH: [win32.join(systemRoot, 'System32'), systemRoot, folder].join(';'),
      PSModulePath: win32.join(folder, 'Modules'),
      TEMP: temp,
      TMP: temp,
    },
  };
}

/** Where the scripts are: in `powershell` beside the program, in a checkout as in an installed build. */
export function scriptsFolder(program: string): string {
  return path.join(path.dirname(program), 'powershell');
}
