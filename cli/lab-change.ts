// `hvdr lab switch|checkpoint|disk|fault`: what a user changes on a host, and what goes wrong there.

import path from 'node:path';
import type { Command } from 'commander';
import { DrError } from '../shared/errors.js';
import { FAULTS, type Lab, type VmRecord } from '../shared/hypervisor/lab/index.js';
import type { CliContext } from './context.js';
import { parseWhole } from './lab-guest.js';
import { importedDisk, withLab, withLabVm } from './lab-open.js';
import { parseDiskSize } from './lab-vm.js';
import { formatSize } from '../shared/sizes.js';

export function registerLabChange(lab: Command, context: CliContext): void {
  registerSwitch(lab, context);
  registerCheckpoint(lab, context);
  registerDisk(lab, context);
  registerFault(lab, context);
}

function wrongAction(action: string, legal: string): DrError {
  return new DrError('E_USAGE', `${JSON.stringify(action)} is not legal here`, {
    hint: `Legal are ${legal}.`,
  });
}

function wanted(value: string | undefined, what: string): string {
  if (value !== undefined) return value;
  throw new DrError('E_USAGE', `${what} is missing`);
}

function registerSwitch(lab: Command, context: CliContext): void {
  lab
    .command('switch')
    .summary('add, remove or list virtual switches')
    .argument('<dir>', 'the folder of the lab')
    .argument('<action>', 'add, remove or list')
    .argument('[name]', 'name of the switch')
    .option('--private', 'with add: it reaches neither the host nor the network')
    .addHelpText(
      'after',
      '\nExamples:\n  hvdr lab switch site-b add dr-lan\n  hvdr lab switch site-b add bubble --private\n  hvdr lab switch site-b list',
    )
    .action(
      async (
        dir: string,
        action: string,
        name: string | undefined,
        options: { private?: true },
      ) => {
        const switches = await withLab(context, dir, async (host) => {
          if (action === 'add') {
            const added = wanted(name, 'the name of the switch');
            await host.addSwitch({ name: added, isPrivate: options.private === true });
          } else if (action === 'remove') {
            await host.removeSwitch(wanted(name, 'the name of the switch'));
          } else if (action !== 'list') {
            throw wrongAction(action, 'add, remove and list');
          }
          return host.listSwitches();
        });
        context.output.result({ lab: dir, switches: switches.map((item) => ({ ...item })) }, () =>
          switches.length === 0
            ? `${dir} has no switch`
            : switches
                .map((item) => `${item.name}${item.isPrivate ? ' (private)' : ''}`)
                .join('\n'),
        );
      },
    );
}

function registerCheckpoint(lab: Command, context: CliContext): void {
  lab
    .command('checkpoint')
    .summary('add, apply, remove or list checkpoints of a user')
    .description(
      'Checkpoints as a user makes them. apply takes the VM back; what was written since is lost.',
    )
    .argument('<dir>', 'the folder of the lab')
    .argument('<name>', 'name or id of the VM')
    .argument('<action>', 'add, apply, remove or list')
    .argument('[checkpoint]', 'its name (add: default checkpoint-N) or id')
    .addHelpText(
      'after',
      '\nExamples:\n  hvdr lab checkpoint site-a SQL01 add before-update\n  hvdr lab checkpoint site-a SQL01 apply before-update',
    )
    .action(async (dir: string, name: string, action: string, checkpoint: string | undefined) => {
      const { made, vm } = await withLabVm(context, dir, name, async (host, found) => {
        const record = await changeCheckpoint(host, found, action, checkpoint);
        return { made: record, vm: await host.findVm(found.id) };
      });
      const checkpoints = vm.userCheckpoints.map((item) => ({
        id: item.id,
        name: item.name,
        createdAtMs: item.createdAtMs,
        current: item.id === vm.currentCheckpointId,
      }));
      const done = made === undefined ? undefined : { id: made.id, name: made.name };
      context.output.result({ vm: vm.name, action, checkpoint: done, checkpoints }, () =>
        made === undefined
          ? checkpoints.map((item) => `${item.name} (${item.id})`).join('\n') ||
            `${vm.name} has no checkpoint`
          : `${vm.name}: checkpoint ${made.name} ${PAST[action] ?? ''}`,
      );
    });
}

const PAST: Readonly<Record<string, string>> = {
  add: 'added',
  apply: 'applied',
  remove: 'removed',
};

async function changeCheckpoint(
  lab: Lab,
  vm: VmRecord,
  action: string,
  checkpoint: string | undefined,
): Promise<{ id: string; name: string } | undefined> {
  switch (action) {
    case 'add':
      return lab.addUserCheckpoint(vm.id, checkpoint);
    case 'apply':
      return lab.applyUserCheckpoint(vm.id, wanted(checkpoint, 'the checkpoint'));
    case 'remove':
      return lab.removeUserCheckpoint(vm.id, wanted(checkpoint, 'the checkpoint'));
    case 'list':
      return undefined;
    default:
      throw wrongAction(action, 'add, apply, remove and list');
  }
}

interface DiskOptions {
  readonly import?: string;
  readonly type?: string;
  readonly logicalSector?: string;
}

function registerDisk(lab: Command, context: CliContext): void {
  lab
    .command('disk')
    .summary('add, attach, remove or resize a disk')
    .description(
      'add SIZE, or add --import FILE: a new disk behind the others. attach FILE: the disk of a VHDX,\n' +
        'where it stands and with the id that it has. remove N: the disk goes, and its file unless it was\n' +
        'attached. resize N SIZE: what lies behind a smaller size is lost.',
    )
    .argument('<dir>', 'the folder of the lab')
    .argument('<name>', 'name or id of the VM')
    .argument('<action>', 'add, attach, remove or resize')
    .argument('[values...]', 'add: SIZE; attach: FILE; remove: N; resize: N SIZE')
    .option('--import <file>', 'with add: copy this image')
    .option('--type <type>', 'with add: dynamic or fixed (default: dynamic)')
    .option('--logical-sector <bytes>', 'with add SIZE: 512 or 4096 (default: 512)')
    .addHelpText(
      'after',
      '\nExamples:\n  hvdr lab disk site-a SQL01 add 10G\n  hvdr lab disk site-a SQL01 resize 1 20G\n  hvdr lab disk site-a SQL01 remove 1',
    )
    .action(
      async (dir: string, name: string, action: string, values: string[], options: DiskOptions) => {
        const { diskId, vm } = await withLabVm(context, dir, name, async (host, found) => ({
          diskId: await changeDisk(context, host, found, action, values, options),
          vm: await host.findVm(found.id),
        }));
        const disks = vm.disks.map((disk, index) => ({
          index,
          diskId: disk.diskId,
          sizeBytes: disk.sizeBytes,
        }));
        context.output.result({ vm: vm.name, action, diskId, disks }, () =>
          disks.length === 0
            ? `${vm.name} has no disk`
            : disks
                .map((disk) => `disk ${disk.index}: ${formatSize(disk.sizeBytes)}, ${disk.diskId}`)
                .join('\n'),
        );
      },
    );
}

function changeDisk(
  context: CliContext,
  lab: Lab,
  vm: VmRecord,
  action: string,
  values: readonly string[],
  options: DiskOptions,
): Promise<string> {
  const count = { add: options.import === undefined ? 1 : 0, attach: 1, remove: 1, resize: 2 }[
    action
  ];
  if (count === undefined) throw wrongAction(action, 'add, attach, remove and resize');
  if (values.length !== count) {
    throw new DrError('E_USAGE', `disk ${action} wants ${count} value(s), not ${values.length}`, {
      hint: 'add SIZE, add --import FILE, attach FILE, remove N, resize N SIZE.',
    });
  }
  const [first = '', second = ''] = values;
  if (action === 'add') return addDisk(context, lab, vm, first, options);
  if (action === 'attach') return lab.attachDisk(vm.id, path.resolve(context.folder, first));
  const index = parseWhole(first, 'the number of the disk', 0, 1000);
  if (action === 'remove') return lab.removeDisk(vm.id, index);
  return lab.resizeDisk(
    vm.id,
    index,
    parseDiskSize(second, vm.disks[index]?.logicalSectorBytes ?? 512),
  );
}

function addDisk(
  context: CliContext,
  lab: Lab,
  vm: VmRecord,
  size: string,
  { import: file, type = 'dynamic', logicalSector = '512' }: DiskOptions,
): Promise<string> {
  if (type !== 'dynamic' && type !== 'fixed') {
    throw new DrError('E_USAGE', `--type ${type} is not legal: dynamic and fixed are`);
  }
  if (logicalSector !== '512' && logicalSector !== '4096') {
    throw new DrError(
      'E_USAGE',
      `--logical-sector ${logicalSector} is not legal, 512 and 4096 are`,
    );
  }
  const sector = logicalSector === '512' ? 512 : 4096;
  const from =
    file === undefined
      ? { source: { sizeBytes: parseDiskSize(size, sector) } }
      : importedDisk(context, file);
  return lab.addDisk(vm.id, { ...from, type, logicalSectorBytes: sector });
}

function registerFault(lab: Command, context: CliContext): void {
  const rows = Object.entries(FAULTS).map(([name, { argument, effect }]) => {
    const usage = argument === undefined ? name : `${name} ${argument.toUpperCase()}`;
    return `  ${usage.padEnd(30)} ${effect}`;
  });
  lab
    .command('fault')
    .summary('set, clear or list scripted faults')
    .description(
      'What is to go wrong, for one VM or, without NAME, for all. It stays until cleared.',
    )
    .argument('<dir>', 'the folder of the lab')
    .argument('[words...]', '[NAME] set|clear FAULT [ARGUMENT], or list')
    .addHelpText(
      'after',
      `\nFaults:\n${rows.join('\n')}\n` +
        '\nExamples:\n  hvdr lab fault site-a SQL01 set checkpoint-slow 5000\n' +
        '  hvdr lab fault site-a set die-before convertToReferencePoint\n' +
        '  hvdr lab fault site-a SQL01 clear checkpoint-slow\n  hvdr lab fault site-a list',
    )
    .action(async (dir: string, words: string[]) => {
      const isAction = (word: string | undefined): boolean =>
        word === 'set' || word === 'clear' || word === 'list';
      const hasName = words.length > 0 && (isAction(words[1]) || !isAction(words[0]));
      const name = hasName ? words[0] : undefined;
      const [action = 'list', fault, argument, ...more] = words.slice(hasName ? 1 : 0);
      if (!isAction(action)) throw wrongAction(action, 'set, clear and list');
      if (more.length > 0) throw new DrError('E_USAGE', `${more.join(' ')} is too much`);
      const faults = await withLab(context, dir, async (host) => {
        const vmId = name === undefined ? undefined : (await host.findVm(name)).id;
        if (action === 'set') await host.setFault(wanted(fault, 'the fault'), argument, vmId);
        if (action === 'clear') await host.clearFault(wanted(fault, 'the fault'), vmId);
        return host.listFaults();
      });
      context.output.result({ lab: dir, faults: faults.map((item) => ({ ...item })) }, () =>
        faults.length === 0
          ? `${dir}: no fault is set`
          : faults
              .map((item) =>
                `${item.vmId ?? 'all VMs'}: ${item.fault} ${item.argument ?? ''}`.trim(),
              )
              .join('\n'),
      );
    });
}
