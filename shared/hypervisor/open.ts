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
 * for Hyper-V on another system than Windows
 */
export async function openHypervisor(
  specification: string,
  seams: HypervisorSeams,
): Promise<SourceHypervisor & TargetHypervisor> {
  if (specification.startsWith(LAB) && specification.length > LAB.length) {
    const { fs, clock, random } = seams;
    return Lab.open(specification.slice(LAB.length), { fs, clock, random });
  }
  if (specification === 'hyperv') {
    if (process.platform !== 'win32') {
      throw new DrError('E_HYPERVISOR', 'Hyper-V is on Windows only', {
        context: { host: specification, platform: process.platform },
        hint: 'Run this at the Hyper-V host, or give `--host lab:DIR`; `hvdr lab init DIR` makes a lab host in a folder.',
      });
    }
    // here only: nobody else waits for its files to be loaded
    const { openHyperV } = await import('./hyperv/index.js');
    return openHyperV(seams);
  }
  throw new DrError('E_USAGE', `${JSON.stringify(specification)} names no hypervisor`, {
    hint: 'Give `--host lab:DIR` or `--host hyperv`.',
  });
}
