// Which hypervisor `--host` means.

import type { Clock, Random } from '../clock.js';
import { DrError } from '../errors.js';
import type { FileSystem } from '../files/index.js';
import type { Log } from '../log.js';
import { Lab } from './lab/index.js';
import type { SourceHypervisor } from './source.js';
import type { TargetHypervisor } from './target.js';

export interface HypervisorSeams {
  readonly fs: FileSystem;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

const LAB = 'lab:';

/**
 * The hypervisor that `specification` names: `lab:DIR` or `hyperv`.
 * @throws DrError E_USAGE for anything else, E_NOT_FOUND when the folder is no lab, E_HYPERVISOR
 * when this build has no provider for it
 */
export async function openHypervisor(
  specification: string,
  { fs, clock, random }: HypervisorSeams,
): Promise<SourceHypervisor & TargetHypervisor> {
  if (specification.startsWith(LAB) && specification.length > LAB.length) {
    return Lab.open(specification.slice(LAB.length), { fs, clock, random });
  }
  if (specification === 'hyperv') {
    throw new DrError('E_HYPERVISOR', 'this build has no provider for Hyper-V', {
      context: { host: specification, platform: process.platform },
      hint: 'Give `--host lab:DIR`; `hvdr lab init DIR` makes a lab host in a folder.',
    });
  }
  throw new DrError('E_USAGE', `${JSON.stringify(specification)} names no hypervisor`, {
    hint: 'Give `--host lab:DIR` or `--host hyperv`.',
  });
}
