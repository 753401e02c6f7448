// What a console asks: the size of a backup, the tree of a `.ls`, the answers of a `.query`. Read from
// the definitions of the VMs; nothing is frozen or changed for it.

import { CatalogNames, vmFolder } from '../shared/catalog/index.js';
import type { Clock } from '../shared/clock.js';
import { DrError } from '../shared/errors.js';
import type { SourceHypervisor, VmDefinition, VmSummary } from '../shared/hypervisor/index.js';
import { matchesPattern, type ParameterValues } from '../shared/params/index.js';
import type { Attributes } from './ptcomm/attributes.js';

export type ListingValues = Pick<ParameterValues, 'vm' | 'exclude' | 'online' | 'mode'>;

export interface ListingPorts {
  readonly hypervisor: SourceHypervisor;
  readonly clock: Clock;
}

/** A configuration and a state are small; how small is not known before they are written. */
const RECORD_BYTES = 4096;

interface Found {
  readonly vm: VmSummary;
  readonly folder: string;
}

async function matching(values: ListingValues, { hypervisor }: ListingPorts): Promise<Found[]> {
  const all = await hypervisor.listVms();
  return all
    .filter(({ name }) => matchesPattern(values.vm, name))
    .filter(({ name }) => !values.exclude.some((pattern) => matchesPattern(pattern, name)))
    .filter(({ powerState }) => values.online || powerState === 'off')
    .map((vm) => ({ vm, folder: vmFolder(vm, all) }));
}

/** Whole disks, also for an Incremental: what changed is not known without a checkpoint. */
export async function* estimateOf(
  values: ListingValues,
  namespace: string,
  ports: ListingPorts,
): AsyncGenerator<Attributes> {
  const found = await matching(values, ports);
  if (found.length === 0) throw new DrError('E_NO_MATCH', `no VM matches ${values.vm}`);
  for (const { vm, folder } of found) {
    const definition = await ports.hypervisor.describeVm(vm.id);
    for (const { path, sizeBytes } of filesOf(definition, folder)) {
      yield file(`/${namespace}/${path}`, sizeBytes, ports.clock);
    }
  }
}

function filesOf(vm: VmDefinition, folder: string): { path: string; sizeBytes: number }[] {
  const names = new CatalogNames(folder);
  return [
    { path: names.config, sizeBytes: RECORD_BYTES },
    ...vm.disks
      .filter(({ unsupported }) => unsupported === undefined)
      .map(({ diskId, sizeBytes }) => ({ path: names.base(diskId), sizeBytes })),
    { path: names.state, sizeBytes: RECORD_BYTES },
  ];
}

/**
 * One level: VMs at the top, then the folders of a VM, then their files; the same names as in the
 * catalog, with or without the namespace in front.
 */
export async function* listingOf(
  path: string,
  values: ListingValues,
  namespace: string,
  ports: ListingPorts,
): AsyncGenerator<Attributes> {
  const parts = path.split('/').filter((part) => part !== '');
  if (parts[0] === namespace) parts.shift();
  const [wanted, ...below] = parts;
  const found = await matching(values, ports);
  if (wanted === undefined) {
    for (const { folder } of found) yield directory(`/${folder}/`, ports.clock);
    return;
  }
  const one = found.find(({ folder }) => folder === wanted);
  if (one === undefined) {
    throw new DrError('E_NOT_FOUND', `there is no ${JSON.stringify(wanted)} to list`, {
      hint: 'List `/` for the VMs that match.',
    });
  }
  const prefix = [wanted, ...below].join('/');
  const seen = new Set<string>();
  const definition = await ports.hypervisor.describeVm(one.vm.id);
  for (const { path: name, sizeBytes } of filesOf(definition, one.folder)) {
    if (!name.startsWith(`${prefix}/`)) continue;
    const [first = '', ...rest] = name.slice(prefix.length + 1).split('/');
    if (seen.has(first)) continue;
    seen.add(first);
    if (rest.length === 0) yield file(`/${prefix}/${first}`, sizeBytes, ports.clock);
    else yield directory(`/${prefix}/${first}/`, ports.clock);
  }
}

type Pairs = readonly (readonly [key: string, value: string])[];

/** `.query parameter=`: vm, disk, mode. @throws DrError E_PARAMETER for another question */
export async function* answersOf(
  question: string,
  values: ListingValues,
  ports: ListingPorts,
): AsyncGenerator<Pairs> {
  switch (question) {
    case 'vm':
      for (const { vm } of await matching(values, ports)) {
        yield [
          ['vm', vm.name],
          ['id', vm.id],
          ['state', vm.powerState],
        ];
      }
      return;
    case 'disk':
      for (const { vm } of await matching(values, ports)) {
        for (const disk of (await ports.hypervisor.describeVm(vm.id)).disks) {
          yield [
            ['vm', vm.name],
            ['disk', disk.diskId],
            ['size', String(disk.sizeBytes)],
            ['unsupported', disk.unsupported ?? 'no'],
          ];
        }
      }
      return;
    case 'mode':
      yield [
        ['mode', values.mode],
        ['host', ports.hypervisor.name],
      ];
      return;
    default:
      throw new DrError('E_PARAMETER', 'query: this is no question of the plugin', {
        context: { parameter: 'query' },
        hint: 'Allowed: vm, disk, mode.',
      });
  }
}

function file(name: string, sizeBytes: number, clock: Clock): Attributes {
  return { name, kind: 'file', sizeBytes, modifiedAtMs: clock.now() };
}

function directory(name: string, clock: Clock): Attributes {
  return { name, kind: 'folder', sizeBytes: 0, modifiedAtMs: clock.now() };
}
