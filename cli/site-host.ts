// The hypervisor of the DR site, as `--host` names it.

import path from 'node:path';
import { DrError } from '../shared/errors.js';
import {
  openHypervisor,
  type SourceHypervisor,
  type TargetHypervisor,
  type VmSummary,
} from '../shared/hypervisor/index.js';
import type { CliContext } from './context.js';

/** @throws DrError E_USAGE, E_NOT_FOUND, E_HYPERVISOR */
export async function openSiteHost(
  name: string,
  context: CliContext,
): Promise<SourceHypervisor & TargetHypervisor> {
  const { files: fs, clock, random, folder } = context;
  if (!/^(lab:.+|hyperv)$/.test(name)) {
    throw new DrError('E_USAGE', `--host ${name} names no hypervisor`, {
      hint: 'Give --host lab:DIR or --host hyperv.',
    });
  }
  const place = name.startsWith('lab:') ? `lab:${path.resolve(folder, name.slice(4))}` : name;
  return openHypervisor(place, { fs, clock, random, log: await context.log() });
}

/** By name or id, whatever its case. @throws DrError E_NO_MATCH, E_USAGE */
export async function findVmAt(hypervisor: SourceHypervisor, name: string): Promise<VmSummary> {
  const wanted = name.toLowerCase();
  const vms = await hypervisor.listVms();
  const found = vms.filter(
    (vm) => vm.id.toLowerCase() === wanted || vm.name.toLowerCase() === wanted,
  );
  const [vm] = found;
  if (vm !== undefined && found.length === 1) return vm;
  if (vm === undefined) throw new DrError('E_NO_MATCH', `${hypervisor.name} has no VM ${name}`);
  throw new DrError('E_USAGE', `${found.length} VMs are named ${name}`, {
    hint: `Give one of the ids: ${found.map(({ id }) => id).join(', ')}`,
  });
}
