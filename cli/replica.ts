// `hvdr replica`: the replication that Hyper-V has of its own. Every command is about one host, that of
// --host; the other side has commands of its own.

import path from 'node:path';
import { type Command, Option } from 'commander';
import { parseGuid } from '../shared/bytes/index.js';
import { DrError } from '../shared/errors.js';
import {
  replicaOf,
  type InitialReplication,
  type ReplicaHost,
  type ReplicaOrder,
  type SourceHypervisor,
  type VmSummary,
} from '../shared/hypervisor/index.js';
import {
  replicaDocument,
  replicaLine,
  replicaPlanDocument,
  replicaPlanText,
  replicaSettings,
  type ReplicaStatus,
  replicaStatus,
  type ReplicaVerdict,
} from '../shared/operator/replica.js';
import {
  matchesPattern,
  PARAMETERS,
  type ParameterName,
  resolveParameters,
} from '../shared/params/index.js';
import { addParameterOptions, givenOf } from './agent-options.js';
import type { CliContext } from './context.js';
import { findVmAt, openSiteHost } from './site-host.js';

interface HostFlags {
  readonly host: string;
}

export interface OrderFlags extends HostFlags {
  readonly plan?: true;
  readonly yes?: true;
  readonly confirm?: string;
}

interface OrderOptions {
  readonly point?: string;
  readonly stop?: true;
  readonly folder?: string;
  readonly initial?: string;
  readonly excludeDisk?: readonly string[];
  readonly forceOff?: true;
  readonly shutdownTimeout?: string;
  readonly start?: true;
}

interface OrderCommand {
  readonly name: string;
  readonly summary: string;
  readonly description: string;
  readonly options?: (command: Command) => Command;
  readonly order: (options: OrderOptions, command: Command, context: CliContext) => ReplicaOrder;
}

const ENABLE_PARAMETERS: readonly ParameterName[] = [
  'hvr_server',
  'hvr_port',
  'hvr_authentication',
  'hvr_certificate',
  'hvr_interval',
  'hvr_points',
  'hvr_vss_hours',
];
const EXIT_CRITICAL = 1;
const EXIT_WARNINGS = 3;
/** A hash with fewer digits confirms nothing. */
const SHORTEST_HASH = 12;

const POINT: readonly [string, string] = [
  '--point <id>',
  'recovery point, as `hvdr replica points` lists them (default: the newest)',
];

const FAILOVER: readonly OrderCommand[] = [
  {
    name: 'prepare',
    summary: 'at the primary: shut the VM down and send what is left',
    description:
      'The first half of a planned failover, at the host that the VM leaves. The second half is\n' +
      '`planned` at the other host; `hvdr replica cancel` takes it back.',
    options: (command) =>
      command
        .option('--shutdown-timeout <seconds>', PARAMETERS.shutdown_timeout.meaning)
        .option('--force-off', PARAMETERS.force_off.meaning),
    order: ({ forceOff, shutdownTimeout }) => ({
      verb: 'prepare',
      shutdownMs: 1000 * secondsOf(shutdownTimeout ?? PARAMETERS.shutdown_timeout.default),
      mayTurnOff: forceOff === true,
    }),
  },
  {
    name: 'planned',
    summary: 'at the replica: start the VM without loss, and replicate back',
    description:
      'The second half of a planned failover: the primary has to be prepared. The VM fails over, its\n' +
      'replication is turned round, and it is started.',
    order: () => ({ verb: 'planned' }),
  },
  {
    name: 'unplanned',
    summary: 'at the replica: start the VM from a recovery point',
    description:
      'The primary is lost, or is given up: nobody here can see whether its VM still runs. What happened\n' +
      'after the point is lost. Wants confirmation.',
    options: (command) => command.option(...POINT),
    order: ({ point }) => ({ verb: 'unplanned', pointId: pointOf(point) }),
  },
  {
    name: 'test',
    summary: 'at the replica: start a VM of its own from a recovery point',
    description:
      'Replication goes on. The test VM is not started while an adapter of it is connected to a switch\n' +
      'that is not private. It stays until --stop.',
    options: (command) => command.option(...POINT).option('--stop', 'delete the test VM'),
    order: ({ point, stop }) =>
      stop === true ? { verb: 'test-stop' } : { verb: 'test', pointId: pointOf(point) },
  },
  {
    name: 'undo',
    summary: 'at the replica: take a failover back',
    description:
      'Turns the VM off and throws away what it wrote here. The primary goes on with\n' +
      '`hvdr replica resume`. Wants confirmation.',
    order: () => ({ verb: 'undo' }),
  },
  {
    name: 'complete',
    summary: 'at the replica: let the VM stay',
    description: 'Its other recovery points go, and there is no way back. Wants confirmation.',
    order: () => ({ verb: 'complete' }),
  },
];

const ORDERS: readonly OrderCommand[] = [
  {
    name: 'enable',
    summary: 'replicate a VM to another host',
    description:
      'Tries the connection, enables the replication, and begins the first copy: over the network, to a\n' +
      'folder that is carried to the other host (`hvdr replica import` there), or from a copy that the\n' +
      'other host has restored (`hvdr replica accept` there, first).',
    options: (command) =>
      addParameterOptions(command, ENABLE_PARAMETERS)
        .option('--initial <way>', 'network, media:DIR or backup', 'network')
        .option('--exclude-disk <file...>', 'disk files of the VM that are not replicated'),
    order: ({ initial = 'network', excludeDisk = [] }, command, { folder }) => ({
      verb: 'enable',
      settings: replicaSettings(
        resolveParameters(givenOf(command, ENABLE_PARAMETERS)).values,
        excludeDisk.map((file) => path.resolve(folder, file)),
      ),
      initial: initialOf(initial, folder),
    }),
  },
  {
    name: 'accept',
    summary: 'take a restored VM as the replica of its original',
    description: 'At the other host, before `enable --initial backup` at the primary.',
    order: () => ({ verb: 'accept' }),
  },
  {
    name: 'import',
    summary: 'take the first copy from a folder',
    description: 'At the other host, after `enable --initial media:DIR` at the primary.',
    options: (command) => command.requiredOption('--folder <dir>', 'where the copy stands'),
    order: ({ folder = '' }, _command, context) => ({
      verb: 'import',
      folder: path.resolve(context.folder, folder),
    }),
  },
  {
    name: 'reverse',
    summary: 'at the side that serves: replicate to the former primary',
    description:
      'After a failover. The VM of the former primary has to be off. Wants confirmation.',
    order: () => ({ verb: 'reverse' }),
  },
  {
    name: 'cancel',
    summary: 'at the primary: take a preparation, or a first copy, back',
    description: 'The VM stays off, unless --start is given.',
    options: (command) => command.option('--start', 'start the VM again'),
    order: ({ start }) => ({ verb: 'cancel', startsVm: start === true }),
  },
  {
    name: 'pause',
    summary: 'send nothing until it is resumed',
    description: 'Changes gather at the primary meanwhile.',
    order: () => ({ verb: 'pause' }),
  },
  {
    name: 'resume',
    summary: 'send changes again',
    description: 'After a pause, after an error, and at the primary after an undone failover.',
    order: () => ({ verb: 'resume' }),
  },
  {
    name: 'resync',
    summary: 'at the primary: compare both sides',
    description: 'Both disks are read whole; what differs is sent.',
    order: () => ({ verb: 'resync' }),
  },
  {
    name: 'remove',
    summary: 'end the replication at this side',
    description:
      'The VM and its files stay, at both sides; the other side is told by the same command there.\n' +
      'Wants confirmation.',
    order: () => ({ verb: 'remove' }),
  },
];

export function registerReplica(program: Command, context: CliContext): void {
  const replica = program
    .command('replica')
    .summary('drive Hyper-V Replica instead of our own transport')
    .description(
      'The replication that Hyper-V has of its own (docs/async-hvr.md). Each command is about the host of\n' +
        '--host; the other side is asked there. Protect a VM by one of the two, not by both.',
    )
    .addHelpText('after', '\nExample:\n  hvdr replica status --host hyperv --rpo-seconds 900\n');
  registerStatus(replica, context);
  registerPoints(replica, context);
  const failover = replica
    .command('failover')
    .summary('move a VM to its replica, test that, take it back')
    .description('Failovers of Hyper-V Replica, each half at its own host.')
    .addHelpText(
      'after',
      '\nExample:\n  hvdr replica failover test SQL01 --host hyperv\n  hvdr replica failover test SQL01 --stop --host hyperv\n',
    );
  for (const each of FAILOVER) registerOrder(failover, 'replica failover', each, context);
  for (const each of ORDERS) registerOrder(replica, 'replica', each, context);
}

function withHost(command: Command): Command {
  return command.requiredOption('--host <host>', 'hypervisor of this side: hyperv');
}

function registerStatus(replica: Command, context: CliContext): void {
  withHost(
    replica
      .command('status')
      .summary('state, health and age against the RPO of each VM')
      .description(
        'Ends with 0 when all is well, 3 with warnings, 1 when a VM is critical. VMs that Hyper-V does not\n' +
          'replicate are left out, unless a pattern names them.',
      )
      .argument('[vm]', 'name or wildcard pattern'),
  )
    .option('--rpo-seconds <n>', PARAMETERS.rpo_seconds.meaning, PARAMETERS.rpo_seconds.default)
    .addHelpText('after', "\nExample:\n  hvdr replica status 'SQL*' --host hyperv\n")
    .action((vm: string | undefined, flags: HostFlags & { readonly rpoSeconds: string }) => {
      const rpoSeconds = secondsOf(flags.rpoSeconds);
      return withReplica(context, flags.host, (replicaHost, hypervisor) =>
        status(context, replicaHost, hypervisor, { pattern: vm, rpoSeconds }),
      );
    });
}

function registerPoints(replica: Command, context: CliContext): void {
  withHost(
    replica
      .command('points')
      .summary('at the replica: its recovery points')
      .description('Oldest first. An id is what `--point` of a failover takes.')
      .argument('<vm>', 'name or id of the VM'),
  )
    .addHelpText('after', '\nExample:\n  hvdr replica points SQL01 --host hyperv\n')
    .action((vm: string, { host }: HostFlags) =>
      withReplica(context, host, async (replicaHost, hypervisor) => {
        const { id, name } = await findVmAt(hypervisor, vm);
        const points = (await replicaHost.points(id)).map((point) => ({
          id: point.id,
          createdAt: new Date(point.createdAtMs).toISOString(),
          isApplicationConsistent: point.isApplicationConsistent,
          name: point.name,
        }));
        context.output.result({ vm: name, points }, () =>
          points.length === 0
            ? `${name} has no recovery point here`
            : points
                .map(({ id: pointId, createdAt, isApplicationConsistent }) =>
                  [pointId, createdAt, ...(isApplicationConsistent ? ['application'] : [])].join(
                    '  ',
                  ),
                )
                .join('\n'),
        );
      }),
    );
}

function registerOrder(
  parent: Command,
  place: string,
  { name, summary, description, options, order }: OrderCommand,
  context: CliContext,
): void {
  const command = withHost(
    parent
      .command(name)
      .summary(summary)
      .description(description)
      .argument('<vm>', 'name or id of the VM'),
  );
  options?.(command);
  command
    .option('--plan', 'print what would be done, and do nothing')
    .addOption(new Option('--yes', 'confirm the plan as it is now').conflicts('plan'))
    .option('--confirm <hash>', 'confirm a plan that was printed before')
    .addHelpText(
      'after',
      `\nExample:\n  hvdr ${place} ${name} SQL01 ${exampleOf(name)}--host hyperv\n`,
    )
    .action((vm: string, flags: OrderFlags & OrderOptions) => {
      const wish = order(flags, command, context);
      return withReplica(context, flags.host, async (replicaHost, hypervisor) => {
        const found = await findVmAt(hypervisor, vm);
        await runReplicaOrder(context, replicaHost, found, wish, flags);
      });
    });
}

function exampleOf(name: string): string {
  if (name === 'enable') return '--hvr-server dr1.example ';
  return name === 'import' ? '--folder E:\\seed ' : '';
}

/** Exported for what opens the host in another way. */
export async function runReplicaOrder(
  { output, stopSignal }: Pick<CliContext, 'output' | 'stopSignal'>,
  replica: ReplicaHost,
  vm: VmSummary,
  order: ReplicaOrder,
  flags: Omit<OrderFlags, 'host'>,
): Promise<void> {
  const plan = await replica.plan(vm.id, order);
  if (flags.plan === true) {
    output.result(replicaPlanDocument(plan), () => replicaPlanText(plan));
    return;
  }
  if (plan.refusal !== undefined) throw plan.refusal;
  const confirmed = flags.yes === true ? plan.hash : (flags.confirm ?? '').toLowerCase();
  const isConfirmed = confirmed.length >= SHORTEST_HASH && plan.hash.startsWith(confirmed);
  if ((plan.isDestructive || flags.confirm !== undefined) && !isConfirmed) {
    throw new DrError('E_CONFIRM', `${order.verb} of ${vm.name} was not confirmed`, {
      context: { hash: plan.hash, steps: plan.steps.map(({ name }) => name).join(', ') },
    });
  }
  output.event({ event: 'plan', ...replicaPlanDocument(plan) }, () => replicaPlanText(plan));
  const signal = stopSignal();
  try {
    const view = await replica.carryOut(vm.id, order, {
      onStep: ({ name, what }) => {
        output.event({ event: 'step', step: name, what }, () => `${name}  ${what}`);
      },
      signal,
    });
    const state = view.relation?.state ?? 'not replicated';
    const { powerState } = view;
    output.event(
      { event: 'result', vm: vm.name, vmId: vm.id, verb: order.verb, state, powerState },
      () => `${vm.name}: ${order.verb} is done; ${state}, ${powerState}`,
    );
  } catch (error) {
    if (!signal.aborted || error !== signal.reason) throw error;
    output.note(`${vm.name}: stopped between two steps; the same command goes on from there`);
  }
}

async function status(
  { output, clock }: CliContext,
  replica: ReplicaHost,
  hypervisor: SourceHypervisor,
  { pattern, rpoSeconds }: { readonly pattern: string | undefined; readonly rpoSeconds: number },
): Promise<void> {
  const wanted = (await hypervisor.listVms()).filter(
    ({ name }) => pattern === undefined || matchesPattern(pattern, name),
  );
  if (pattern !== undefined && wanted.length === 0) {
    throw new DrError('E_NO_MATCH', `${hypervisor.name} has no VM ${pattern}`);
  }
  const found: ReplicaStatus[] = [];
  for (const { id } of wanted) {
    const view = await replica.view(id);
    const isReplicated = view.relation !== undefined || view.extension !== undefined;
    if (!isReplicated && pattern === undefined) continue;
    found.push(replicaStatus(view, { rpoSeconds, nowMs: clock.now() }));
  }
  const has = (wantedVerdict: ReplicaVerdict): boolean =>
    found.some(({ verdict }) => verdict === wantedVerdict);
  if (has('critical')) output.exitCode = EXIT_CRITICAL;
  else if (has('warn')) output.exitCode = EXIT_WARNINGS;
  output.result({ host: hypervisor.name, vms: found.map(replicaDocument) }, () =>
    found.length === 0
      ? `${hypervisor.name} replicates no VM by itself`
      : found.map(replicaLine).join('\n'),
  );
}

async function withReplica(
  context: CliContext,
  host: string,
  work: (replica: ReplicaHost, hypervisor: SourceHypervisor) => Promise<void>,
): Promise<void> {
  const hypervisor = await openSiteHost(host, context);
  try {
    await work(replicaOf(hypervisor), hypervisor);
  } finally {
    await hypervisor.close();
  }
}

function pointOf(text: string | undefined): Extract<ReplicaOrder, { verb: 'test' }>['pointId'] {
  if (text === undefined) return undefined;
  const id = parseGuid(text);
  if (id !== undefined) return id;
  throw new DrError('E_USAGE', `--point ${text} is no id of a recovery point`, {
    hint: '`hvdr replica points VM --host hyperv` lists them.',
  });
}

function initialOf(text: string, folder: string): InitialReplication {
  if (text === 'network' || text === 'backup') return { by: text };
  if (text.startsWith('media:') && text.length > 6) {
    return { by: 'media', folder: path.resolve(folder, text.slice(6)) };
  }
  throw new DrError('E_USAGE', `--initial ${text} is no way of a first copy`, {
    hint: 'Give network, media:DIR or backup.',
  });
}

function secondsOf(text: string): number {
  const seconds = Number(text);
  if (/^\d+$/.test(text) && seconds >= 1 && seconds <= 365 * 86_400) return seconds;
  throw new DrError('E_USAGE', `${text} is no number of seconds`, {
    hint: 'Give a whole number from 1 on.',
  });
}
