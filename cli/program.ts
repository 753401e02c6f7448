// The command line as a value: builds the program from its commands and runs one command line in
// it. main.ts gives it the real process, tests give it doubles.

import { Command, CommanderError, Option } from 'commander';
import { DrError } from '../shared/errors.js';
import type { LogFields } from '../shared/log.js';
import { registerBacula } from './bacula.js';
import type { CliContext } from './context.js';
import { registerCompletion } from './completion.js';
import { registerCompact } from './compact.js';
import { registerConvert } from './convert.js';
import { registerDaemon } from './daemon.js';
import { registerDemo } from './demo.js';
import { registerDoctor } from './doctor.js';
import { registerDrill } from './drill.js';
import { EXIT_OUTPUT_CLOSED, exitCodesHelp } from './exit-codes.js';
import { registerExplain } from './explain.js';
import { registerExport } from './export.js';
import { registerFailback } from './failback.js';
import { registerFailoverActs } from './failover-acts.js';
import { registerFailover } from './failover.js';
import { registerGc } from './gc.js';
import { registerImport } from './import.js';
import { registerLab } from './lab.js';
import { registerManual } from './manual.js';
import { registerNetworkExplain } from './network-explain.js';
import { type LogLevel, OutputClosed } from './output.js';
import { overview } from './overview.js';
import { registerParameters } from './parameters.js';
import { registerPause } from './pause.js';
import { registerRebind } from './rebind.js';
import { registerEndFailback } from './end-failback.js';
import { registerUnfence } from './unfence.js';
import { registerUnhalt } from './unhalt.js';
import { registerPlan } from './plan.js';
import { registerPcbt } from './pcbt.js';
import { registerPoints } from './points.js';
import { productVersion } from './product-version.js';
import { registerPsk } from './psk.js';
import { registerPtcomm } from './ptcomm.js';
import { registerPush } from './push.js';
import { registerReceiver } from './receiver.js';
import { registerReplica } from './replica.js';
import { registerReprotect } from './reprotect.js';
import { registerSeed } from './seed.js';
import { CHECK_UNKNOWN, registerStatus } from './status.js';
import { registerVerify } from './verify.js';
import { registerVhdx } from './vhdx.js';

type Register = (program: Command, context: CliContext) => void;

/** All commands, in the order of the help. */
const COMMANDS: readonly (readonly [heading: string, commands: readonly Register[]])[] = [
  [
    'Replication:',
    [
      registerPush,
      registerSeed,
      registerDaemon,
      registerParameters,
      registerReceiver,
      registerPause,
      registerRebind,
      registerUnhalt,
    ],
  ],
  [
    'Points:',
    [
      registerStatus,
      registerPoints,
      registerVerify,
      registerExport,
      registerImport,
      registerCompact,
      registerGc,
    ],
  ],
  [
    'Failover:',
    [
      registerFailover,
      registerFailback,
      registerReprotect,
      registerFailoverActs,
      registerUnfence,
      registerEndFailback,
      registerPlan,
      registerDrill,
      registerNetworkExplain,
      registerReplica,
    ],
  ],
  ['Disks, and a lab:', [registerConvert, registerVhdx, registerPcbt, registerLab]],
  [
    'Set-up and help:',
    [
      registerDemo,
      registerDoctor,
      registerPsk,
      registerBacula,
      registerPtcomm,
      registerExplain,
      registerManual,
      registerCompletion,
    ],
  ],
];

const LOG_LEVELS: readonly LogLevel[] = ['error', 'warn', 'info', 'debug'];

/** All commands, registered on one program whose output goes to the context. */
export function buildProgram(context: CliContext): Command {
  const { output } = context;
  const program = new Command('hvdr');
  program
    .description('Disaster recovery for Microsoft Hyper-V')
    .version(`hvdr ${productVersion()}`, '--version', 'print the version')
    .helpOption('-h, --help', 'print help')
    .option('--json', 'one JSON document on stdout (long runs: one JSON line per event)')
    .addOption(
      new Option('--log-level <level>', 'what is logged on stderr')
        .choices(LOG_LEVELS)
        .default('info'),
    )
    .exitOverride()
    .configureOutput({
      writeOut: (text) => {
        output.plain(text);
      },
      // help that was not asked for; wrong usage itself is reported by run()
      writeErr: (text) => {
        if (!text.startsWith('error:')) output.note(text);
      },
    })
    .addHelpText('afterAll', exitCodesHelp())
    .hook('preAction', async (_program, action) => {
      const options: { json?: true; logLevel?: LogLevel } = action.optsWithGlobals();
      output.json = options.json === true;
      output.logLevel = options.logLevel ?? 'info';
      if (output.logLevel !== 'debug') return;
      // The name only: arguments may hold what does not belong into a log.
      const command = [action.parent?.name(), action.name()].join(' ');
      (await context.log()).debug('run.started', { command, version: productVersion() });
    });
  for (const [heading, commands] of COMMANDS) {
    program.commandsGroup(heading);
    for (const register of commands) register(program, context);
  }
  program.helpCommand('help [command]', 'print help of a command');
  return program;
}

function usageError(error: CommanderError): DrError {
  if (error.code === 'commander.help') {
    return new DrError('E_USAGE', 'no command was given', { cause: error });
  }
  const message = error.message.replace(/^error: /, '');
  const [what = message, suggestion] = message.split('\n');
  return new DrError('E_USAGE', what, {
    ...(suggestion === undefined ? {} : { hint: suggestion.replace(/[()]/g, '') }),
    cause: error,
  });
}

/** Every failure as the catalogue knows it; what is no DrError is a bug of ours. */
export function asDrError(error: unknown): DrError {
  if (error instanceof DrError) return error;
  if (error instanceof CommanderError) return usageError(error);
  const message = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return new DrError('E_INTERNAL', message, {
    done: 'the run was stopped',
    cause: error,
  });
}

/**
 * Runs one command line (`args` without program name). Returns the exit code and never rejects:
 * every failure has been reported on the context's output.
 */
export async function run(args: readonly string[], context: CliContext): Promise<number> {
  const { clock, output } = context;
  const startedAt = clock.monotonic();
  const logEnd = async (event: 'run.ended' | 'run.failed', fields: LogFields): Promise<void> => {
    if (output.logLevel !== 'debug') return;
    const durationMs = Math.round(clock.monotonic() - startedAt);
    (await context.log()).debug(event, { ...fields, durationMs });
  };
  try {
    const exitCode = await runCommand(args, context);
    await output.flush();
    await logEnd('run.ended', { exitCode });
    return exitCode;
  } catch (error) {
    if (error instanceof OutputClosed) return EXIT_OUTPUT_CLOSED;
    const failure = asDrError(error);
    output.failure(failure);
    await output.flush().catch(() => undefined);
    const exitCode = isStatusCheck(args) ? CHECK_UNKNOWN : failure.exitCode;
    await logEnd('run.failed', { code: failure.code, exitCode });
    return exitCode;
  }
}

/** A command line that may be wrong is meant for monitoring, which reads 2 as critical. */
function isStatusCheck(args: readonly string[]): boolean {
  return args.includes('status') && args.includes('--check');
}

async function runCommand(args: readonly string[], context: CliContext): Promise<number> {
  const { output } = context;
  // wrong usage is found before a command can set these
  const optionPart = args.includes('--') ? args.slice(0, args.indexOf('--')) : args;
  output.json = optionPart.includes('--json');
  if (args.length === 0) {
    output.plain(overview());
    return 0;
  }
  try {
    await buildProgram(context).parseAsync(args, { from: 'user' });
    return output.exitCode;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0;
    throw error;
  }
}
