// `hvdr lab …`: making labs and VMs, looking at them, their power, and their end.

import { createHash } from 'node:crypto';
import { isIP, isIPv4 } from 'node:net';
import path from 'node:path';
import type { Command } from 'commander';
import { DrError } from '../shared/errors.js';
import type { AddressSettings } from '../shared/hypervisor/index.js';
import {
  Lab,
  type NewAdapter,
  type NewDisk,
  type NewVm,
  type VmRecord,
} from '../shared/hypervisor/lab/index.js';
import type { CliContext } from './context.js';
import { parseWhole } from './lab-guest.js';
import { importedDisk, withLab, withLabVm } from './lab-open.js';
import { registerLabShow, vmDocument, vmText } from './lab-show.js';
import { formatSize, parseSize } from '../shared/sizes.js';

const SHUTDOWN_S = '300';
const KIB = 1024;

export function registerLabVm(lab: Command, context: CliContext): void {
  registerInit(lab, context);
  registerCreateVm(lab, context);
  registerList(lab, context);
  registerLabShow(lab, context);
  registerRename(lab, context);
  registerPower(lab, context);
  registerRemove(lab, context);
}

function registerInit(lab: Command, context: CliContext): void {
  lab
    .command('init')
    .summary('make an empty lab')
    .description('Makes an empty lab in a folder that is empty or does not exist.')
    .argument('<dir>', 'the folder to make')
    .addHelpText('after', '\nExample:\n  hvdr lab init site-a')
    .action(async (dir: string) => {
      const { files: fs, clock, random, folder, output } = context;
      const made = await Lab.create(path.resolve(folder, dir), { fs, clock, random });
      await made.close();
      output.result(
        { lab: dir },
        () => `${dir}: an empty lab. Next: hvdr lab create-vm ${dir} VM --disk 1G`,
      );
    });
}

interface CreateOptions {
  readonly import?: string[];
  readonly disk?: string[];
  readonly diskType?: string;
  readonly logicalSector?: string;
  readonly switch?: string;
  readonly vlan?: string;
  readonly ip?: string[];
  readonly generation?: string;
  readonly memory?: string;
  readonly cpus?: string;
  readonly autostart?: true;
}

function registerCreateVm(lab: Command, context: CliContext): void {
  lab
    .command('create-vm')
    .summary('make a VM')
    .description(
      'Makes a VM, off. Imported files (raw, VHDX; qcow2, VMDK and VHD by qemu-img) are copied and\n' +
        'become the first disks, then come the empty ones; disks count from 0. Switches that do not\n' +
        'exist are made.',
    )
    .argument('<dir>', 'the folder of the lab')
    .argument('<name>', 'name of the VM')
    .option('--import <file...>', 'disk images to copy in')
    .option('--disk <size...>', 'sizes of empty disks')
    .option('--disk-type <type>', 'dynamic or fixed (default: dynamic)')
    .option('--logical-sector <bytes>', 'of the empty disks: 512 or 4096 (default: 512)')
    .option('--switch <names>', 'an adapter for each of these switches, separated by commas')
    .option('--vlan <number>', 'VLAN of the adapters, 1 to 4094 (default: untagged)')
    .option('--ip <address/length,gateway...>', 'guest address of the adapters, in their order')
    .option('--generation <1|2>', '1: BIOS and IDE, 2: UEFI and SCSI (default: 2)')
    .option('--memory <size>', 'default: 2G')
    .option('--cpus <count>', 'default: 2')
    .option('--autostart', 'start with the host')
    .addHelpText(
      'after',
      '\nExamples:\n' +
        '  hvdr lab create-vm site-a SQL01 --import system.vhdx --disk 10G --switch lan --ip 192.0.2.10/24,192.0.2.1\n' +
        '  hvdr lab create-vm site-a WEB --disk 1G 500M --cpus 4 --memory 4G',
    )
    .action(async (dir: string, name: string, options: CreateOptions) => {
      const request: NewVm = { name, ...vmOptions(context, options) };
      const vm = await withLab(context, dir, async (host) => {
        await host.createVm(request);
        return host.findVm(name);
      });
      context.output.result({ ...vmDocument(vm) }, () => vmText(vm));
    });
}

function vmOptions(context: CliContext, options: CreateOptions): Omit<NewVm, 'name'> {
  const { diskType = 'dynamic', logicalSector = '512', generation = '2' } = options;
  if (diskType !== 'dynamic' && diskType !== 'fixed') {
    throw new DrError('E_USAGE', `--disk-type ${diskType} is not legal: dynamic and fixed are`);
  }
  if (logicalSector !== '512' && logicalSector !== '4096') {
    throw new DrError(
      'E_USAGE',
      `--logical-sector ${logicalSector} is not legal, 512 and 4096 are`,
    );
  }
  if (generation !== '1' && generation !== '2') {
    throw new DrError('E_USAGE', `--generation ${generation} is not legal, 1 and 2 are`);
  }
  const sector = logicalSector === '512' ? 512 : 4096;
  const imported = (options.import ?? []).map((file): NewDisk => ({
    ...importedDisk(context, file),
    type: diskType,
  }));
  const empty = (options.disk ?? []).map((size): NewDisk => ({
    source: { sizeBytes: parseDiskSize(size, sector) },
    type: diskType,
    logicalSectorBytes: sector,
  }));
  const { memory, cpus, autostart = false } = options;
  return {
    disks: [...imported, ...empty],
    adapters: adaptersOf(options),
    generation: generation === '1' ? 1 : 2,
    memoryBytes:
      memory === undefined ? undefined : parseSize(memory, '--memory', { min: KIB * KIB }),
    cpuCount: cpus === undefined ? undefined : parseWhole(cpus, '--cpus', 1, 2048),
    isAutoStart: autostart,
  };
}

/** A size that a VHDX can have. @throws DrError E_USAGE */
export function parseDiskSize(text: string, sectorBytes: number): number {
  const sizeBytes = parseSize(text, 'disk size', { min: sectorBytes });
  if (sizeBytes % sectorBytes === 0) return sizeBytes;
  throw new DrError(
    'E_USAGE',
    `disk size ${text} is not a whole number of sectors of ${sectorBytes} bytes`,
  );
}

function adaptersOf(options: CreateOptions): NewAdapter[] {
  const switches = options.switch === undefined ? [] : options.switch.split(',');
  if (switches.some((name) => name.trim() === '')) {
    throw new DrError('E_USAGE', `--switch ${options.switch ?? ''} holds an empty name`);
  }
  const addresses = (options.ip ?? []).map(parseAddress);
  const vlan = options.vlan === undefined ? undefined : parseWhole(options.vlan, '--vlan', 1, 4094);
  const count = Math.max(switches.length, addresses.length);
  return Array.from({ length: count }, (_, index) => ({
    switchName: switches[index],
    vlan,
    guest: addresses[index],
  }));
}

/** `192.0.2.10/24,192.0.2.1`; the gateway can be left out. @throws DrError E_USAGE */
export function parseAddress(text: string): AddressSettings {
  const refuse = (what: string): never => {
    throw new DrError('E_USAGE', `--ip ${text}: ${what}`, {
      hint: 'Write ADDRESS/LENGTH,GATEWAY, for example 192.0.2.10/24,192.0.2.1.',
    });
  };
  const [address = '', gateway, ...more] = text.split(',');
  const [host = '', length = '', ...rest] = address.split('/');
  if (more.length > 0 || rest.length > 0) refuse('too many parts');
  if (isIP(host) === 0) refuse(`${JSON.stringify(host)} is no address`);
  const lengthMax = isIPv4(host) ? 32 : 128;
  if (!/^\d{1,3}$/.test(length) || Number(length) > lengthMax) {
    refuse(`the length of the prefix is not a number from 0 to ${lengthMax}`);
  }
  if (gateway !== undefined && isIP(gateway) !== isIP(host)) {
    refuse(`${JSON.stringify(gateway)} is no gateway for it`);
  }
  return {
    isDhcp: false,
    addresses: [address],
    gateways: gateway === undefined ? [] : [gateway],
    dnsServers: [],
  };
}

function registerList(lab: Command, context: CliContext): void {
  lab
    .command('list')
    .summary('the VMs of a lab')
    .argument('<dir>', 'the folder of the lab')
    .addHelpText('after', '\nExample:\n  hvdr lab list site-a')
    .action(async (dir: string) => {
      const vms = await withLab(context, dir, async (host) => {
        const found: VmRecord[] = [];
        for (const { id } of await host.listVms()) found.push(await host.findVm(id));
        return found;
      });
      context.output.result({ lab: dir, vms: vms.map(vmDocument) }, () =>
        vms.length === 0
          ? `${dir} has no VM`
          : vms
              .map((vm) => {
                const disks = vm.disks.map(({ sizeBytes }) => formatSize(sizeBytes)).join(' + ');
                return `${vm.name.padEnd(20)} ${vm.powerState.padEnd(8)} ${disks}`;
              })
              .join('\n'),
      );
    });
}

function registerRename(lab: Command, context: CliContext): void {
  lab
    .command('rename')
    .summary('give a VM another name')
    .description(
      'Gives a VM another name; it stays the same VM. As on Hyper-V the name may be taken: then the\n' +
        'VMs of that name are told apart by their ids.',
    )
    .argument('<dir>', 'the folder of the lab')
    .argument('<name>', 'name or id of the VM')
    .argument('<new-name>', 'its new name')
    .addHelpText('after', '\nExample:\n  hvdr lab rename site-a SQL01 SQL01-old')
    .action(async (dir: string, name: string, newName: string) => {
      const vmId = await withLabVm(context, dir, name, async (host, vm) => {
        await host.renameVm(vm.id, newName);
        return vm.id;
      });
      context.output.result({ vm: newName, vmId, formerName: name }, () => `${name} is ${newName}`);
    });
}

function registerPower(lab: Command, context: CliContext): void {
  lab
    .command('start')
    .summary('start a VM')
    .argument('<dir>', 'the folder of the lab')
    .argument('<name>', 'name or id of the VM')
    .addHelpText('after', '\nExample:\n  hvdr lab start site-a SQL01')
    .action(async (dir: string, name: string) => {
      await withLabVm(context, dir, name, (host, vm) => host.startVm(vm.id));
      context.output.result({ vm: name, powerState: 'running' }, () => `${name} runs`);
    });
  lab
    .command('stop')
    .summary('shut a VM down, or turn it off')
    .argument('<dir>', 'the folder of the lab')
    .argument('<name>', 'name or id of the VM')
    .option('--turn-off', 'like pulling the plug')
    .option('--timeout <seconds>', 'how long the guest may take', SHUTDOWN_S)
    .addHelpText('after', '\nExample:\n  hvdr lab stop site-a SQL01 --turn-off')
    .action(async (dir: string, name: string, options: { turnOff?: true; timeout: string }) => {
      const timeoutMs = parseWhole(options.timeout, '--timeout', 0, 1_000_000) * 1000;
      await withLabVm(context, dir, name, (host, vm) =>
        options.turnOff === true ? host.turnOffVm(vm.id) : host.shutDownVm(vm.id, timeoutMs),
      );
      context.output.result({ vm: name, powerState: 'off' }, () => `${name} is off`);
    });
}

interface RemoveOptions {
  readonly plan?: boolean;
  readonly yes?: boolean;
  readonly confirm?: string;
}

function registerRemove(lab: Command, context: CliContext): void {
  lab
    .command('remove')
    .summary('remove a VM with its disks')
    .description(
      'Removes a VM that is off, with all of its disks in the lab; disks that stand elsewhere stay.\n' +
        'It wants to be confirmed: --plan shows what would go, with a hash; --confirm HASH does it if\n' +
        'nothing has changed since; --yes does both in one run.',
    )
    .argument('<dir>', 'the folder of the lab')
    .argument('<name>', 'name or id of the VM')
    .option('--plan', 'show what would be removed, and do nothing')
    .option('--yes', 'show it and do it')
    .option('--confirm <hash>', 'do what a plan with this hash said')
    .addHelpText(
      'after',
      '\nExamples:\n' +
        '  hvdr lab remove site-a SQL01 --plan\n' +
        '  hvdr lab remove site-a SQL01 --confirm 1f2e3d4c5b6a',
    )
    .action(async (dir: string, name: string, options: RemoveOptions) => {
      await withLabVm(context, dir, name, (host, vm) => remove(context, host, vm, options));
    });
}

async function remove(
  { output }: CliContext,
  lab: Lab,
  vm: VmRecord,
  { plan: isPlanOnly = false, yes = false, confirm }: RemoveOptions,
): Promise<void> {
  if ([isPlanOnly, yes, confirm !== undefined].filter(Boolean).length !== 1) {
    throw new DrError('E_USAGE', `removing the VM ${vm.name} wants to be confirmed`, {
      context: { vmId: vm.id },
      hint: 'Give --plan to see what would go, then --confirm HASH; or --yes for both.',
    });
  }
  const plan = removalPlan(vm);
  if (!isPlanOnly) {
    if (confirm !== undefined && confirm !== plan.hash) {
      throw new DrError('E_STATE', `the plan ${confirm} does not hold for the VM ${vm.name} now`, {
        context: { vmId: vm.id, hash: plan.hash },
        hint: 'Look at it again with --plan, then confirm its hash.',
      });
    }
    await lab.deleteVm(vm.id);
  }
  const { hash, removes, keeps, refusals } = plan;
  output.result(
    { vm: vm.name, vmId: vm.id, hash, removes, keeps, refusals, done: !isPlanOnly },
    () =>
      [
        ...removes.map((line) => `${isPlanOnly ? 'would remove' : 'removed'} ${line}`),
        ...keeps.map((line) => `keeps ${line}`),
        ...refusals.map((line) => `refused now: ${line}`),
        ...(isPlanOnly ? [`hash ${hash}`] : []),
      ].join('\n'),
  );
}

function removalPlan(vm: VmRecord): {
  hash: string;
  removes: string[];
  keeps: string[];
  refusals: string[];
} {
  const removes = [
    `the VM ${vm.name} (${vm.id})`,
    ...vm.disks
      .filter(({ isOwn }) => isOwn)
      .map((disk) => `disk ${disk.diskId}, ${formatSize(disk.sizeBytes)}`),
    ...[...vm.checkpoints, ...vm.userCheckpoints].map(({ id }) => `checkpoint ${id}`),
    ...vm.referencePoints.map(({ id }) => `reference point ${id}`),
  ];
  const keeps = vm.disks.filter(({ isOwn }) => !isOwn).map(({ leaf }) => leaf);
  const refusals = vm.powerState === 'off' ? [] : [`it is ${vm.powerState}`];
  const leaves = vm.disks.map(({ leaf }) => leaf);
  const text = JSON.stringify([removes, keeps, refusals, leaves]);
  const hash = createHash('sha256').update(text).digest('hex').slice(0, 12);
  return { hash, removes, keeps, refusals };
}
