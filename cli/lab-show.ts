// `hvdr lab show`: all that a lab knows of a VM, for people and as JSON.

import type { Command } from 'commander';
import type { AddressSettings, SwitchInfo } from '../shared/hypervisor/index.js';
import type { PendingMerge, VmRecord } from '../shared/hypervisor/lab/index.js';
import type { CliContext } from './context.js';
import { withLabVm } from './lab-open.js';
import type { JsonObject } from '../shared/json.js';
import { formatSize } from '../shared/sizes.js';

export function registerLabShow(lab: Command, context: CliContext): void {
  lab
    .command('show')
    .summary('everything about a VM')
    .argument('<dir>', 'the folder of the lab')
    .argument('<name>', 'name or id of the VM')
    .addHelpText('after', '\nExample:\n  hvdr lab show site-a SQL01 --json')
    .action(async (dir: string, name: string) => {
      const document = await withLabVm(context, dir, name, async (host, vm) => ({
        vm,
        switches: await host.listSwitches(),
        heartbeat: await host.heartbeat(vm.id),
        files: (await host.describeVm(vm.id)).disks.map((disk) => disk.path),
        merges: await host.pendingMerges(vm.id),
      }));
      const { vm, switches, heartbeat, files, merges } = document;
      context.output.result(
        {
          ...vmDocument(vm),
          switches: switches.map((each) => ({ ...each })),
          heartbeat,
          files,
          pendingMerges: merges.map(({ failure, ...merge }) => ({
            ...merge,
            failure: failure === undefined ? undefined : { ...failure },
          })),
        },
        () =>
          [
            vmText(vm),
            ...switches.map((each) => switchLine(vm, each)),
            `heartbeat: ${heartbeat}`,
            ...files.map((file) => `file: ${file}`),
            ...merges.map((merge) => mergeLine(vm, merge)),
          ].join('\n'),
      );
    });
}

/** A VM as the command line shows it. */
export function vmDocument(vm: VmRecord): JsonObject {
  const { id, name, powerState, generation, cpuCount, memoryBytes, isAutoStart } = vm;
  return {
    id,
    name,
    powerState,
    generation,
    cpuCount,
    memoryBytes,
    autoStart: isAutoStart,
    tag: vm.tag === undefined ? undefined : { ...vm.tag },
    fence: vm.fence === undefined ? undefined : fenceDocument(vm.fence),
    disks: vm.disks.map((disk, index) => ({
      index,
      diskId: disk.diskId,
      sizeBytes: disk.sizeBytes,
      logicalSectorBytes: disk.logicalSectorBytes,
      physicalSectorBytes: disk.physicalSectorBytes,
      files: disk.files.length,
    })),
    adapters: vm.adapters.map(({ nextGuest, guest, ...adapter }) => ({
      ...adapter,
      guest: { ...guest },
      nextGuest: nextGuest === undefined ? undefined : { ...nextGuest },
    })),
    checkpoints: vm.userCheckpoints.map((checkpoint) => ({
      id: checkpoint.id,
      name: checkpoint.name,
      createdAtMs: checkpoint.createdAtMs,
      parentId: checkpoint.parentId,
      current: checkpoint.id === vm.currentCheckpointId,
    })),
    recoveryCheckpoints: vm.checkpoints.map(
      ({ id: checkpointId, createdAtMs, consistency, tag }) => ({
        id: checkpointId,
        createdAtMs,
        consistency,
        tag: tag === undefined ? undefined : { ...tag },
      }),
    ),
    referencePoints: vm.referencePoints.map(({ id: pointId, createdAtMs }) => ({
      id: pointId,
      createdAtMs,
    })),
  };
}

/** What keeps the VM from being started, and what it gets back when that ends. */
function fenceDocument({
  tag,
  epoch,
  isAutoStart,
  connections,
}: NonNullable<VmRecord['fence']>): JsonObject {
  return {
    tag: { ...tag },
    epoch: epoch.toString(),
    before: { autoStart: isAutoStart, connections: connections.map((each) => ({ ...each })) },
  };
}

function addressText({ isDhcp, addresses, gateways, dnsServers }: AddressSettings): string {
  if (isDhcp) return 'DHCP';
  const parts = [addresses.join(' ')];
  if (gateways.length > 0) parts.push(`gateway ${gateways.join(' ')}`);
  if (dnsServers.length > 0) parts.push(`DNS ${dnsServers.join(' ')}`);
  return parts.join(', ');
}

/** `merge of disk 0: pending; the last attempt failed at …` */
function mergeLine(vm: VmRecord, { diskId, state, notBeforeMs, failure }: PendingMerge): string {
  const index = vm.disks.findIndex((disk) => disk.diskId === diskId);
  const what = `merge of disk ${index}: ${state === 'begun' ? 'begun and not finished' : 'pending'}`;
  const parts = [what];
  if (notBeforeMs !== undefined) {
    parts.push(`held up until ${new Date(notBeforeMs).toISOString()}`);
  }
  if (failure !== undefined) {
    const { code, message, atMs } = failure;
    parts.push(`the last attempt failed at ${new Date(atMs).toISOString()}: ${code}: ${message}`);
  }
  return parts.join('; ');
}

/** A switch that the VM is connected to, or could be. */
function switchLine(vm: VmRecord, { name, isPrivate }: SwitchInfo): string {
  const count = vm.adapters.filter(({ switchName }) => switchName === name).length;
  const kind = isPrivate ? 'private' : 'external';
  return `switch ${name}: ${kind}, ${count} of its ${vm.adapters.length} adapters`;
}

export function vmText(vm: VmRecord): string {
  const lines = [
    `${vm.name}: ${vm.powerState}, generation ${vm.generation}, ${vm.cpuCount} CPUs, ${formatSize(vm.memoryBytes)}`,
    `id: ${vm.id}`,
  ];
  if (vm.fence !== undefined) {
    lines.push(`fenced by operation ${vm.fence.tag.operationId}, epoch ${vm.fence.epoch}`);
  }
  if (vm.tag !== undefined) lines.push(`made by operation ${vm.tag.operationId}`);
  for (const [index, disk] of vm.disks.entries()) {
    lines.push(
      `disk ${index}: ${formatSize(disk.sizeBytes)}, sectors of ${disk.logicalSectorBytes}, id ${disk.diskId}`,
    );
  }
  for (const { name, mac, switchName, vlan, guest, nextGuest } of vm.adapters) {
    const network = switchName === undefined ? 'not connected' : `on ${switchName}`;
    const tagged = vlan === undefined ? '' : `, VLAN ${vlan}`;
    const next = nextGuest === undefined ? '' : `; from its next start: ${addressText(nextGuest)}`;
    lines.push(`${name}: ${mac}, ${network}${tagged}, ${addressText(guest)}${next}`);
  }
  for (const { id, name } of vm.userCheckpoints) {
    const current = id === vm.currentCheckpointId ? ', current' : '';
    lines.push(`checkpoint ${name} (${id})${current}`);
  }
  for (const { id, consistency, tag } of vm.checkpoints) {
    lines.push(`recovery checkpoint ${id}, ${consistency}${tag === undefined ? ', foreign' : ''}`);
  }
  for (const { id } of vm.referencePoints) lines.push(`reference point ${id}`);
  return lines.join('\n');
}
