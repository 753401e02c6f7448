// `hvdr demo`, the body of `npm run demo`: the main job from end to end on the lab host, with proof.
// demo-story.ts tells it, demo-image.ts makes the guest's disk, demo-proof.ts gathers what is claimed.

import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { DrError } from '../shared/errors.js';
import { requireBacula } from './bacula-site/index.js';
import type { CliContext } from './context.js';
import { DemoBaculaStory } from './demo-bacula.js';
import { DemoStory } from './demo-story.js';
import { isSingleExecutable } from './own-program.js';

/** Default folder: in the checkout, ignored by git, emptied by the next demo; installed: among temporary files. */
function demoFolder({ folder }: CliContext, keep: string | undefined): string {
  if (keep !== undefined) return path.resolve(folder, keep);
  if (isSingleExecutable || !existsSync(new URL('../../tsconfig.json', import.meta.url))) {
    return path.join(tmpdir(), 'hvdr-demo');
  }
  return fileURLToPath(new URL('../../.demo', import.meta.url));
}

export function registerDemo(program: Command, context: CliContext): void {
  program
    .command('demo')
    .summary('replicate a VM from a lab host to a DR receiver, with proof')
    .description(
      'Makes a VM with a real file system on a lab host, replicates it to a receiver over the\n' +
        'sealed channel, lets the guest write, kills the receiver in mid-cycle, loses the state of\n' +
        'the source, lets a byte rot in the store and mends it, runs forty cycles of which the store\n' +
        'keeps a few, and compares every restore point with the bytes that the guest had then. A VM\n' +
        'moves to the DR site and back; another one is brought up there after its primary was lost, is\n' +
        'protected towards what came back of it, and goes home.\n' +
        'Ends with 1 when anything differs. Takes less than three minutes.\n' +
        'With --bacula: a real Director, Storage Daemon and File Daemon on the loopback address run backups,\n' +
        'restores, pushes and a drill of such a VM as jobs; each JobStatus is read from the catalog.',
    )
    .option('--bacula', 'by the way of Bacula (Debian: bacula-director, bacula-sd, bacula-fd, …)')
    .option('--keep <dir>', 'a new folder for the files (default: .demo in the checkout)')
    .addHelpText(
      'after',
      '\nExamples:\n  hvdr demo\n  hvdr demo --keep /tmp/demo\n  hvdr demo --bacula',
    )
    .action(async (flags: { readonly keep?: string; readonly bacula?: true }) => {
      if (flags.bacula === true && isSingleExecutable) {
        throw new DrError('E_USAGE', '--bacula builds the plugin, for which it needs a checkout', {
          hint: 'Run it in a checkout: `npm run demo:bacula`.',
        });
      }
      if (flags.bacula === true) requireBacula(context.environment);
      const folder = demoFolder(context, flags.keep);
      if (flags.keep === undefined) rmSync(folder, { recursive: true, force: true });
      else if ((await context.files.status(folder)) !== undefined) {
        throw new DrError('E_EXISTS', `${flags.keep} exists already`);
      }
      mkdirSync(folder, { recursive: true });
      const Story = flags.bacula === true ? DemoBaculaStory : DemoStory;
      await new Story(context, folder).run();
    });
}
