// `hvdr demo`, the body of `npm run demo`: the disk engine at work on real input. Two states of a
// file system are made; the first becomes a VHDX, the change between them a delta, and the delta is
// applied to the VHDX in place. The proof is that the VHDX then holds the second state to the byte,
// read back by our commands and, where they are installed, by programs of others.

import { createReadStream, createWriteStream, mkdirSync, rmSync, statSync } from 'node:fs';
import { finished } from 'node:stream/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { DrError } from '../shared/errors.js';
import type { CliContext } from './context.js';
import { findProgram, makeImage } from './demo-image.js';
import { hashOutput, runHvdr, runStep } from './demo-run.js';
import { formatSize } from './sizes.js';

const DAY_ONE = 'monday.img';
const DAY_TWO = 'tuesday.img';
const FIRST = 'monday.vhdx';
const DISK = 'guest.vhdx';
const STREAMED = 'streamed.vhdx';
const BACK = 'back.img';
const DELTA = 'tuesday.cbt';
const MANIFEST = 'tuesday.manifest';

/** One comparison of the demo's proof. */
interface Proof {
  readonly what: string;
  readonly command: string;
  readonly sha256?: string;
  readonly isEqual: boolean;
}

/** Default folder: in the checkout, ignored by git, emptied by the next demo. */
function demoFolder({ folder }: CliContext, keep: string | undefined): string {
  if (keep !== undefined) return path.resolve(folder, keep);
  return fileURLToPath(new URL('../../.demo', import.meta.url));
}

export function registerDemo(program: Command, context: CliContext): void {
  program
    .command('demo')
    .summary('show the disk engine at work on a real file system, with proof')
    .description(
      'Makes a file system in two states, turns the first into a VHDX, the change into a delta,\n' +
        'applies the delta in place and compares every byte. Ends with 1 when anything differs.',
    )
    .option('--keep <dir>', 'a new folder for the files (default: .demo in the checkout)')
    .action(async (flags: { readonly keep?: string }) => {
      const folder = demoFolder(context, flags.keep);
      if (flags.keep === undefined) rmSync(folder, { recursive: true, force: true });
      else if ((await context.files.status(folder)) !== undefined) {
        throw new DrError('E_EXISTS', `${flags.keep} exists already`);
      }
      mkdirSync(folder, { recursive: true });
      await new Demo(context, folder).run();
    });
}

class Demo {
  readonly #context: CliContext;
  readonly #folder: string;
  readonly #startedAt: number;

  constructor(context: CliContext, folder: string) {
    this.#context = context;
    this.#folder = folder;
    this.#startedAt = context.clock.monotonic();
  }

  async run(): Promise<void> {
    const shown = path.relative(this.#context.folder, this.#folder) || '.';
    this.#say('start', `folder ${shown}`);
    const kind = await makeImage(this.#context, this.#folder, DAY_ONE, 1);
    await makeImage(this.#context, this.#folder, DAY_TWO, 2);
    const imageBytes = this.#size(DAY_TWO);
    this.#say('made', `${DAY_ONE} and ${DAY_TWO}: ${kind}, ${formatSize(imageBytes)} each`);

    await this.#hvdr('vhdx', 'convert', DAY_ONE, FIRST);
    const base = await this.#compareWithDisk(DAY_ONE, FIRST, 'the VHDX holds the first day');
    await this.#hvdr('vhdx', 'convert', FIRST, DISK);
    await this.#hvdr('pcbt', 'diff', DAY_ONE, DAY_TWO, '--out', DELTA, '--manifest', MANIFEST);
    this.#say(
      'note',
      `the delta has ${formatSize(this.#size(DELTA))} of ${formatSize(imageBytes)}`,
    );
    await this.#hvdr('pcbt', 'check', DELTA, '--manifest', MANIFEST);
    await this.#hvdr('pcbt', 'apply', DISK, DELTA, '--manifest', MANIFEST);
    await this.#hvdr('vhdx', 'check', DISK);
    await this.#stream();
    await this.#hvdr('vhdx', 'convert', STREAMED, BACK);

    const proofs = [
      base,
      await this.#compareWithDisk(DAY_TWO, DISK, 'the VHDX holds the second day after apply'),
      await this.#compareFiles(),
      ...(await this.#independentProofs()),
    ];
    this.#finish(shown, proofs);
  }

  /** Streams the second day to a pipe, as a disk travels to a backup. */
  async #stream(): Promise<void> {
    this.#say('run', `hvdr vhdx convert ${DAY_TWO} - --block-size 1M > ${STREAMED}`);
    const target = createWriteStream(path.join(this.#folder, STREAMED));
    await runHvdr(['vhdx', 'convert', DAY_TWO, '-', '--block-size', '1M'], {
      folder: this.#folder,
      onOutput: (chunk) => target.write(chunk),
    });
    target.end();
    await finished(target);
  }

  async #compareWithDisk(image: string, disk: string, what: string): Promise<Proof> {
    const expected = await this.#hashFile(image);
    const sha256 = await hashOutput((onOutput) =>
      runHvdr(['vhdx', 'read', disk], { folder: this.#folder, onOutput }),
    );
    return this.#judge({
      what,
      command: `sha256sum ${image}; hvdr vhdx read ${disk} | sha256sum`,
      sha256: `${expected} ${sha256}`,
      isEqual: expected === sha256,
    });
  }

  async #compareFiles(): Promise<Proof> {
    const [one, other] = [await this.#hashFile(DAY_TWO), await this.#hashFile(BACK)];
    return this.#judge({
      what: 'a VHDX streamed through a pipe and turned back',
      command: `sha256sum ${DAY_TWO} ${BACK}`,
      sha256: `${one} ${other}`,
      isEqual: one === other,
    });
  }

  /** The same answers from programs that share no code with us, where they are installed. */
  async #independentProofs(): Promise<Proof[]> {
    const proofs: Proof[] = [];
    const qemu = findProgram(this.#context, 'qemu-img');
    if (qemu !== undefined) {
      const args = ['compare', '-f', 'raw', '-F', 'vhdx', DAY_TWO, DISK];
      proofs.push(await this.#foreign('qemu-img agrees', qemu, args));
    } else {
      this.#say('left out', 'qemu-img is not installed (qemu-utils), so it was not asked');
    }
    const sevenZip = findProgram(this.#context, '7zz');
    if (sevenZip !== undefined) {
      const expected = await this.#hashFile(DAY_TWO);
      const args = ['x', '-so', '-tVHDX', DISK];
      const sha256 = await hashOutput((onOutput) =>
        runStep(sevenZip, args, { folder: this.#folder, onOutput }),
      );
      proofs.push(
        this.#judge({
          what: '7-Zip agrees',
          command: `7zz ${args.join(' ')} | sha256sum`,
          sha256: `${expected} ${sha256}`,
          isEqual: expected === sha256,
        }),
      );
    } else {
      this.#say('left out', '7zz is not installed (7zip), so it was not asked');
    }
    const fsck = findProgram(this.#context, 'e2fsck');
    if (fsck !== undefined && findProgram(this.#context, 'mke2fs') !== undefined) {
      proofs.push(await this.#foreign('the file system is whole', fsck, ['-fn', BACK]));
    }
    return proofs;
  }

  async #foreign(what: string, program: string, args: readonly string[]): Promise<Proof> {
    const command = [path.basename(program), ...args].join(' ');
    const isEqual = await runStep(program, args, { folder: this.#folder }).then(
      () => true,
      () => false,
    );
    return this.#judge({ what, command, isEqual });
  }

  #judge(proof: Proof): Proof {
    this.#say(proof.isEqual ? 'equal' : 'DIFFERENT', proof.what);
    return proof;
  }

  #finish(shown: string, proofs: readonly Proof[]): void {
    const { output } = this.#context;
    const bad = proofs.filter(({ isEqual }) => !isEqual);
    if (bad.length > 0) {
      throw new DrError(
        'E_DIFFERENT',
        `the demo failed: ${bad.map(({ what }) => what).join(', ')}`,
        {
          done: `the files are kept in ${shown}`,
          hint: `repeat it there: ${bad.map(({ command }) => command).join(' ; ')}`,
        },
      );
    }
    const document = proofs.map((proof) => ({ ...proof }));
    output.result({ folder: this.#folder, isEqual: true, proofs: document }, () =>
      ['', `Proof. Repeat it in ${shown} (hvdr is bin/hvdr of this checkout):`]
        .concat(
          proofs.flatMap(({ what, command, sha256 }) => [
            `  ${what}`,
            `    $ ${command}`,
            ...(sha256 === undefined ? [] : sha256.split(' ').map((hash) => `      ${hash}`)),
          ]),
        )
        .concat(`All ${proofs.length} comparisons are equal.`)
        .join('\n'),
    );
  }

  async #hvdr(...args: string[]): Promise<void> {
    this.#say('run', `hvdr ${args.join(' ')}`);
    await runHvdr(args, { folder: this.#folder });
  }

  #hashFile(name: string): Promise<string> {
    return hashOutput(async (onOutput) => {
      const stream = createReadStream(path.join(this.#folder, name));
      for await (const chunk of stream as AsyncIterable<Buffer>) onOutput(chunk);
    });
  }

  #size(name: string): number {
    return statSync(path.join(this.#folder, name)).size;
  }

  #say(event: string, text: string): void {
    const { clock, output } = this.#context;
    const seconds = (clock.monotonic() - this.#startedAt) / 1000;
    output.event(
      { event, seconds: Number(seconds.toFixed(3)), text },
      () => `${seconds.toFixed(1).padStart(6)} s  ${event.padEnd(9)}  ${text}`,
    );
  }
}
