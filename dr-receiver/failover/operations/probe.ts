// Whether the VM runs at the primary site, as far as its agent says.

import { DrError } from '../../../shared/errors.js';
import type { SourceVm } from '../ports.js';
import type { Work } from './work.js';

/** What the source says of itself; undefined: it does not answer. */
export async function probeSource({
  source,
  vm,
}: Pick<Work, 'source' | 'vm'>): Promise<SourceVm | undefined> {
  try {
    return await source?.describe(vm.vmId);
  } catch (error) {
    if (error instanceof DrError && error.code === 'E_SOURCE_UNREACHABLE') return undefined;
    throw error;
  }
}

export function isAlive(found: SourceVm | undefined): boolean {
  return found !== undefined && found.powerState !== 'off';
}
