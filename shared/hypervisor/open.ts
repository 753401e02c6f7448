// Which hypervisor `--host` means.

import type { Clock, Random } from '../clock.js';
import { DrError } from '../errors.js';
import type { FileSystem } from '../files/index.js';
import type { Log } from '../log.js';
import type { SourceHypervisor } from './source.js';
import type { TargetHypervisor } from './target.js';

export interface HypervisorSeams {
  readonly fs: FileSystem;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/**
 * The hypervisor that `specification` names: `lab:DIR` or `hyperv`.
 * @throws DrError E_USAGE for anything else, E_NOT_FOUND when the folder is no lab
 */
export function openHypervisor(
  specification: string,
  _seams: HypervisorSeams,
): Promise<SourceHypervisor & TargetHypervisor> {
  return Promise.reject(
    new DrError('E_USAGE', `${specification} names no hypervisor`, {
      hint: 'Give `--host lab:DIR` or `--host hyperv`.',
    }),
  );
}
