// `hvdr lab …`: a hypervisor in a folder, for tests, drills and rehearsals (docs/lab.md).

import type { Command } from 'commander';
import type { CliContext } from './context.js';
import { examples } from './examples.js';
import { registerLabChange } from './lab-change.js';
import { registerLabGuest } from './lab-guest.js';
import { registerLabVm } from './lab-vm.js';

export function registerLab(program: Command, context: CliContext): void {
  const lab = program
    .command('lab')
    .summary('a hypervisor in a folder: VMs, checkpoints, guest writes, faults')
    .description(
      'A hypervisor in a folder, with real VHDX files, checkpoints and change tracking.\n' +
        '`--host lab:DIR` of other commands names it. Several processes can use one lab at once.\n' +
        'Sizes and offsets are bytes, or numbers with K, M, G or T (powers of 1024).',
    )
    .addHelpText(
      'after',
      examples(
        'hvdr lab init site-a',
        'hvdr lab create-vm site-a SQL01 --disk 10G',
        'hvdr lab list site-a',
      ),
    );
  registerLabVm(lab, context);
  registerLabChange(lab, context);
  registerLabGuest(lab, context);
}
