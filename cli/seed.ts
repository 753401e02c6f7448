// `hvdr seed`: the first copy of a VM by a cheaper road than the network. One command with four sides:
//
//   at the source   --from network   the first cycle, as push does it      seed-source.ts
//                   --to media:DIR   a sealed copy of the disks
//                   neither          which VM and disks there are
//   at the DR site  --from vhdx:FILE, raw:FILE, media:DIR, bacula:DIR, host:VM   seed-receiver.ts
//                   --discard

import { type Command, Option } from 'commander';
import { DrError } from '../shared/errors.js';
import { addParameterOptions } from './agent-options.js';
import type { CliContext } from './context.js';
import { SEED_PARAMETERS, type SeedFlags } from './seed-options.js';
import { discardSeed, seedReceiver } from './seed-receiver.js';
import { exportSeed, seedOverNetwork, showIdentity } from './seed-source.js';

const EXAMPLES = `
Examples:
  (at the source)
  hvdr seed --vm SQL01 --host hyperv --from network --dr-host dr1 --psk-file site-a.psk
  hvdr seed --vm SQL01 --host hyperv --to media:E:/seed --psk-file site-a.psk
  (the ids of a VM and its disks)
  hvdr seed --vm SQL01 --host hyperv
  (at the DR site: a receiver with --seed-dir, or its store while it does not run)
  hvdr seed --vm SQL01 --from media:SQL01 --dr-host 127.0.0.1 --psk-file operator.psk
  hvdr seed --vm SQL01 --from vhdx:c.vhdx --from vhdx:d.vhdx --vm-id 5f0e… --principal site-a --store /srv/dr
  hvdr seed --vm SQL01 --from bacula:/restore --principal site-a --store /srv/dr
  hvdr seed --vm SQL01 --from host:SQL01-old --vm-id 5f0e… --principal site-a --store /srv/dr --host lab:lab
  hvdr seed --vm SQL01 --discard --store /srv/dr
`;

const many = (value: string, all: readonly string[] | undefined): string[] => [
  ...(all ?? []),
  value,
];

export function registerSeed(program: Command, context: CliContext): void {
  const command = program
    .command('seed')
    .summary('bring the first copy of a VM by file, medium, backup or network')
    .description(
      'Brings the first copy of a VM to the DR site. A seed from files, media or a backup is staged, not\n' +
        'trusted: the first push compares every cell by its hash and sends those that differ. It is no\n' +
        'restore point by itself.',
    );
  addParameterOptions(command, SEED_PARAMETERS)
    .addOption(
      new Option(
        '--from <place>',
        'network, vhdx:FILE, raw:FILE (repeated, one for each disk), media:DIR, bacula:DIR, or host:VM, a VM\n' +
          'of the DR site that is off',
      ).argParser(many),
    )
    .option('--to <place>', 'media:DIR: write a sealed copy to carry to the DR site')
    .option('--vm-id <id>', 'GUID of the VM, when the DR site does not know it')
    .addOption(
      new Option(
        '--disk-id <id>',
        'GUID of the disk in a file, in the order of --from; default: the one that a VHDX carries',
      ).argParser(many),
    )
    .option('--principal <name>', 'whose VM it is, when the DR site does not know it')
    .option('--restart', 'stage anew instead of going on with an earlier, unfinished seed')
    .option('--discard', 'remove what an earlier seed staged')
    .option('--force', 'with --to: replace a copy that is there')
    .option('--store <dir>', 'work on the store itself, while no receiver runs on it')
    .addHelpText('after', EXAMPLES)
    .action(async (flags: SeedFlags) => {
      await seed(context, command, flags);
    });
}

async function seed(context: CliContext, command: Command, flags: SeedFlags): Promise<void> {
  const { from = [], to, discard } = flags;
  if ([from.length > 0, to !== undefined, discard === true].filter(Boolean).length > 1) {
    throw new DrError('E_USAGE', '--from, --to and --discard do not go together');
  }
  if (discard === true) {
    await discardSeed(context, flags);
  } else if (to !== undefined) {
    await exportSeed(context, command, flags, to);
  } else if (from.length === 1 && from[0] === 'network') {
    await seedOverNetwork(context, command);
  } else if (from.length > 0) {
    await seedReceiver(context, flags, from);
  } else if (flags.host !== undefined) {
    await showIdentity(context, command);
  } else {
    throw new DrError('E_USAGE', 'nothing says where the seed comes from', {
      hint: 'Give --from PLACE, or --to media:DIR at the source.',
    });
  }
}
