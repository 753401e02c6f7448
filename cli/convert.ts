// `hvdr convert`: a VMware or Proxmox VM in a folder becomes a Hyper-V VM, without Bacula.

import path from 'node:path';
import type { Command } from 'commander';
import { type Guid, randomGuid } from '../shared/bytes/index.js';
import { DrError } from '../shared/errors.js';
import type { ParameterName, ParameterValues } from '../shared/params/index.js';
import {
  type ConversionPlan,
  definitionOf,
  makeDisks,
  planConversion,
  planRegistration,
  previewOf,
  registerConverted,
} from '../plugin-bridge/convert/index.js';
import type { RestoreHost } from '../plugin-bridge/restore/index.js';
import { addParameterOptions, parametersOf } from './agent-options.js';
import type { CliContext } from './context.js';
import { examples } from './examples.js';
import type { JsonObject } from '../shared/json.js';
import { stoppable } from './pcbt-run.js';
import { startProgress } from './progress.js';
import { openSiteHost } from './site-host.js';
import { formatSize } from '../shared/sizes.js';

const CONVERT_PARAMETERS: readonly ParameterName[] = [
  'host',
  'new_vm_name',
  'restore_path',
  'network_map',
  'unmapped',
  'mac_policy',
];

interface Flags {
  readonly generation?: string;
  readonly filesOnly?: true;
  readonly plan?: true;
}

export function registerConvert(program: Command, context: CliContext): void {
  const command = program
    .command('convert')
    .summary('turn a VMware or Proxmox VM into a Hyper-V VM')
    .description(
      'Reads the configuration of a VM (.vmx, or Proxmox NNN.conf) and its images (VMDK, qcow2, raw, with\n' +
        'PCBT deltas beside them) and makes a VHDX of each, then registers the VM: BIOS becomes generation\n' +
        '1, UEFI generation 2. VMDK and qcow2 need qemu-img. The source is only read.',
    )
    .argument('<from>', 'the configuration file, or the folder that holds it');
  addParameterOptions(command, CONVERT_PARAMETERS)
    .option('--generation <1|2>', 'of the VM, whatever its firmware was')
    .option('--files-only', 'make the disks and register no VM')
    .option('--plan', 'print what would be done, and do nothing')
    .addHelpText(
      'after',
      examples(
        'hvdr convert /srv/esx/SQL01 --host hyperv --restore-path D:\\VMs --network-map "VM Network=LAN"',
        'hvdr convert 100.conf --files-only --restore-path out --plan',
      ),
    )
    .action((from: string, flags: Flags) =>
      stoppable(context, () => convert(context, command, from, flags)),
    );
}

async function convert(
  context: CliContext,
  command: Command,
  from: string,
  flags: Flags,
): Promise<void> {
  const { output, folder } = context;
  const { values, warnings } = await parametersOf(command, CONVERT_PARAMETERS, context);
  for (const warning of warnings) output.note(warning);
  const request = {
    from: path.resolve(folder, from),
    outFolder: path.resolve(folder, values.restore_path ?? '.'),
    newName: values.new_vm_name,
  };
  const generation = wantedGeneration(flags);
  const plan = await planConversion(request, { fs: context.files, random: context.random });
  if (flags.filesOnly === true) {
    if (flags.plan === true) show(context, plan, generation);
    else await run(context, plan, generation, () => Promise.resolve(undefined));
    return;
  }
  await withHost(context, values, async (host) => {
    const adapters = await planRegistration(host, previewOf(plan, generation), values);
    if (flags.plan === true) {
      show(context, plan, generation);
      return;
    }
    await run(context, plan, generation, async (disks) => {
      const newGuid = (): Guid => randomGuid(context.random);
      const definition = definitionOf(plan.foreign, disks, {
        name: plan.name,
        generation,
        newGuid,
      });
      return registerConverted(host, definition, adapters, context);
    });
  });
}

function wantedGeneration({ generation }: Flags): 1 | 2 | undefined {
  if (generation === undefined) return undefined;
  if (generation === '1') return 1;
  if (generation === '2') return 2;
  throw new DrError('E_USAGE', `--generation ${generation} is neither 1 nor 2`);
}

async function withHost(
  context: CliContext,
  { host: name }: ParameterValues,
  use: (host: RestoreHost) => Promise<void>,
): Promise<void> {
  if (name === undefined) {
    throw new DrError('E_PARAMETER', 'host: nothing says where the VM is to be registered', {
      context: { parameter: 'host' },
      hint: 'Give --host lab:DIR or --host hyperv, or --files-only.',
    });
  }
  const host = await openSiteHost(name, context);
  try {
    await use(host);
  } finally {
    await host.close();
  }
}

async function run(
  context: CliContext,
  plan: ConversionPlan,
  generation: 1 | 2 | undefined,
  register: (disks: Awaited<ReturnType<typeof makeDisks>>) => Promise<Guid | undefined>,
): Promise<void> {
  const { files: fs, random, clock, output } = context;
  let bar: ReturnType<typeof startProgress> | undefined;
  try {
    const disks = await makeDisks(
      plan,
      { fs, random },
      {
        signal: context.stopSignal(),
        onProgress: (doneBytes, totalBytes) => {
          bar ??= startProgress(output, clock, {
            label: `convert ${plan.name}`,
            total: totalBytes,
          });
          bar.set(doneBytes);
        },
      },
    );
    bar?.end();
    show(context, plan, generation, { vmId: await register(disks) });
  } finally {
    bar?.end();
  }
}

function show(
  { output }: CliContext,
  { foreign, name, folder, images, neededBytes }: ConversionPlan,
  generation: 1 | 2 | undefined,
  done?: { readonly vmId: Guid | undefined },
): void {
  const vmId = done?.vmId;
  const document: JsonObject = {
    vm: name,
    what: done === undefined ? 'planned' : 'converted',
    ...(vmId === undefined ? {} : { vmId }),
    generation: generation ?? (foreign.firmware === 'uefi' ? 2 : 1),
    folder,
    disks: images.map(({ slot, file, format, target, deltas }) => ({
      slot,
      file,
      format,
      target,
      deltas: deltas.length,
    })),
    notes: foreign.notes,
  };
  output.result(document, () =>
    [
      done === undefined
        ? `${name} would take about ${formatSize(neededBytes)} in ${folder}`
        : `${name} was made in ${folder}${vmId === undefined ? '' : ` and is registered as ${vmId}`}`,
      ...images.map(
        ({ slot, file, format, target, deltas }) =>
          `  ${slot}  ${file} (${format}${deltas.length === 0 ? '' : `, ${deltas.length} deltas`}) -> ${target}`,
      ),
      ...foreign.notes.map((note) => `  note: ${note}`),
    ].join('\n'),
  );
}
