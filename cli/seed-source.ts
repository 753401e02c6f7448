// `hvdr seed` at the source: the first cycle over the network, a sealed medium, or what is there.

import path from 'node:path';
import type { Command } from 'commander';
import { DrError } from '../shared/errors.js';
import type { SourceHypervisor, VmSummary } from '../shared/hypervisor/index.js';
import { matchesPattern, type ParameterValues, wantedConsistency } from '../shared/params/index.js';
import {
  keyOfParameters,
  openSourceHypervisor,
  stateFolderOf,
  writeVmMedium,
} from '../source-agent/index.js';
import { parametersOf } from './agent-options.js';
import { reportRun, runJobs } from './agent-run.js';
import type { CliContext } from './context.js';
import { stoppable } from './pcbt-run.js';
import { startProgress } from './progress.js';
import { SEED_PARAMETERS, type SeedFlags } from './seed-options.js';
import { formatSize } from '../shared/sizes.js';

/** The first cycle of every VM that matches; one that has points already is refused. */
export async function seedOverNetwork(context: CliContext, command: Command): Promise<void> {
  const startedAt = context.clock.monotonic();
  context.output.expectEvents();
  const { values, warnings } = await parametersOf(command, SEED_PARAMETERS, context);
  for (const warning of warnings) context.output.note(warning);
  const report = await runJobs([{ name: 'seed', values, isSeedOnly: true }], context);
  reportRun(context, report, values, { startedAt, isWarned: warnings.length > 0 });
}

/** Runs `use` with the one VM that the parameters name. @throws DrError E_NO_MATCH, E_USAGE */
async function withVm<T>(
  context: CliContext,
  command: Command,
  use: (vm: VmSummary, hypervisor: SourceHypervisor, values: ParameterValues) => Promise<T>,
): Promise<T> {
  const { values, warnings } = await parametersOf(command, SEED_PARAMETERS, context);
  for (const warning of warnings) context.output.note(warning);
  const hypervisor = await openSourceHypervisor(values, context);
  try {
    const vms = (await hypervisor.listVms()).filter(({ name }) => matchesPattern(values.vm, name));
    const [vm] = vms;
    if (vm !== undefined && vms.length === 1) return await use(vm, hypervisor, values);
    if (vm === undefined) throw new DrError('E_NO_MATCH', `no VM is named ${values.vm}`);
    throw new DrError('E_USAGE', `${vms.length} VMs match ${values.vm}, and one is meant`, {
      hint: 'Give --vm NAME.',
    });
  } finally {
    await hypervisor.close();
  }
}

/** Prints what the DR site has to be told of a VM that it does not know. */
export function showIdentity(context: CliContext, command: Command): Promise<void> {
  return withVm(context, command, async (vm, hypervisor) => {
    const { disks } = await hypervisor.describeVm(vm.id);
    const shown = disks.map(({ diskId, sizeBytes, path: file }) => ({
      id: diskId,
      sizeBytes,
      file,
    }));
    context.output.result({ vm: vm.name, vmId: vm.id, disks: shown }, () =>
      [
        `vm      ${vm.id}  ${vm.name}`,
        ...shown.map(
          ({ id, sizeBytes, file }, index) =>
            `disk ${index}  ${id}  ${formatSize(sizeBytes)}  ${file}`,
        ),
      ].join('\n'),
    );
  });
}

/** `--to media:DIR`. */
export async function exportSeed(
  context: CliContext,
  command: Command,
  flags: SeedFlags,
  to: string,
): Promise<void> {
  const { files: fs, clock, random, folder, output } = context;
  const [, name] = /^media:(.+)$/s.exec(to) ?? [];
  if (name === undefined) {
    throw new DrError('E_USAGE', `--to ${to} names no place`, { hint: 'Give --to media:DIR.' });
  }
  const write = (): Promise<void> =>
    withVm(context, command, async (vm, hypervisor, values) => {
      const key = await keyOfParameters(values, context);
      let bar: ReturnType<typeof startProgress> | undefined;
      try {
        const { file, disks, dataBytes } = await writeVmMedium(
          vm,
          {
            folder: path.resolve(folder, name),
            isReplacing: flags.force === true,
            key,
            consistency: wantedConsistency(values),
            timeoutMs: values.timeout * 1000,
          },
          {
            hypervisor,
            fs,
            clock,
            random,
            log: await context.log(),
            stateFolder: await stateFolderOf(values, context),
            signal: context.stopSignal(),
            onProgress: (doneBytes, totalBytes) => {
              bar ??= startProgress(output, clock, { label: 'seed', total: totalBytes });
              bar.set(doneBytes);
            },
          },
        );
        output.result(
          { vm: vm.name, vmId: vm.id, file, keyId: key.keyId, disks: disks.length, dataBytes },
          () =>
            `${vm.name}: ${disks.length} disk(s), ${formatSize(dataBytes)} sealed with ${key.keyId} -> ${file}`,
        );
      } finally {
        bar?.end();
      }
    });
  await stoppable(context, write);
}
