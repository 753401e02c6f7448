// `hvdr demo`, the body of `npm run demo`: the main job from end to end on the lab host, with proof.
// demo-story.ts tells it, demo-image.ts makes the guest's disk, demo-proof.ts gathers what is claimed.

import { mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { DrError } from '../shared/errors.js';
import type { CliContext } from './context.js';
import { DemoStory } from './demo-story.js';

/** Default folder: in the checkout, ignored by git, emptied by the next demo. */
function demoFolder({ folder }: CliContext, keep: string | undefined): string {
  if (keep !== undefined) return path.resolve(folder, keep);
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
        'Ends with 1 when anything differs. Takes less than three minutes.',
    )
    .option('--keep <dir>', 'a new folder for the files (default: .demo in the checkout)')
    .addHelpText('after', '\nExamples:\n  hvdr demo\n  hvdr demo --keep /tmp/demo')
    .action(async (flags: { readonly keep?: string }) => {
      const folder = demoFolder(context, flags.keep);
      if (flags.keep === undefined) rmSync(folder, { recursive: true, force: true });
      else if ((await context.files.status(folder)) !== undefined) {
        throw new DrError('E_EXISTS', `${flags.keep} exists already`);
      }
      mkdirSync(folder, { recursive: true });
      await new DemoStory(context, folder).run();
    });
}
