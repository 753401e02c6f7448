// `hvdr compact`: reclaims what forgotten points left, now.

import type { Command } from 'commander';
import { guidFromWire } from '../shared/bytes/index.js';
import type { CompactedVm } from '../shared/channel/index.js';
import type { CliContext } from './context.js';
import { type AccessFlags, withAccess, withAccessOptions } from './receiver-connection.js';
import { formatSize } from '../shared/sizes.js';

export function registerCompact(program: Command, context: CliContext): void {
  withAccessOptions(
    program
      .command('compact')
      .summary('reclaim the space of forgotten points now')
      .description(
        'Merges the deltas of points that are not listed any more, folds the oldest ones into their base\n' +
          'and removes what nothing stands on. A receiver does this by itself when it is worth its cost;\n' +
          'this does it now, whatever it gives back, and says what is in use and has to wait. No listed\n' +
          'point is changed.',
      )
      .argument('[vm]', 'name, id or wildcard pattern (default: all)'),
  )
    .addHelpText(
      'after',
      '\nExamples:\n  hvdr compact SQL01 --dr-host dr1 --psk-file operator.psk\n  hvdr compact --store /srv/dr\n',
    )
    .action((vm: string | undefined, flags: AccessFlags) => compact(context, vm ?? '', flags));
}

async function compact(context: CliContext, vm: string, flags: AccessFlags): Promise<void> {
  const { output } = context;
  const signal = context.stopSignal();
  const vms: CompactedVm[] = [];
  await withAccess(context, flags, 'write', async ({ control }) => {
    for await (const { step } of control.compact({ vm }, { signal })) {
      if (step?.$case === 'done') vms.push(step.value);
    }
  });
  output.result(
    {
      vms: vms.map((each) => ({
        vm: each.vmName,
        vmId: guidFromWire(each.vmId) ?? '',
        bytesBefore: Number(each.bytesBefore),
        bytesAfter: Number(each.bytesAfter),
        waiting: each.waiting,
      })),
    },
    () => {
      if (vms.length === 0) return 'no VM is protected here';
      return vms
        .flatMap(({ vmName, bytesBefore, bytesAfter, waiting }) => [
          `${vmName}: ${formatSize(Number(bytesBefore))} before, ${formatSize(Number(bytesAfter))} now`,
          ...waiting.map((what) => `    waits: ${what}`),
        ])
        .join('\n');
    },
  );
}
