// `hvdr import`: a delta that came by the other road becomes a restore point, or a part of one.

import type { Command } from 'commander';
import { guidFromWire } from '../shared/bytes/index.js';
import type {
  ImportDeltaRequest,
  ImportDeltaResponse,
  ImportDone,
} from '../shared/channel/index.js';
import {
  checkDelta,
  DeltaError,
  deltaMessages,
  encodeManifestHeader,
  ManifestFile,
  PcbtDelta,
} from '../shared/delta/index.js';
import { DrError } from '../shared/errors.js';
import type { BlockFile } from '../shared/files/index.js';
import type { CliContext } from './context.js';
import { examples } from './examples.js';
import { DeltaProgress, naming, withInput } from './pcbt-run.js';
import { type AccessFlags, withAccess, withAccessOptions } from './receiver-connection.js';

interface Flags extends AccessFlags {
  readonly disk: string;
  readonly delta: string;
  readonly manifest: string;
}

export function registerImport(program: Command, context: CliContext): void {
  withAccessOptions(
    program
      .command('import')
      .summary('make a restore point of a delta that came by the other road')
      .description(
        'Brings one disk of a restore point as a PCBT file with its manifest, for example from a Bacula\n' +
          'restore. The manifest has to follow the newest point of the VM, and every cell has to have its\n' +
          'hash. The point is listed when the deltas of all disks were imported; until then nothing\n' +
          'counts. Importing the same delta again changes nothing.',
      )
      .argument('<vm>', 'name or id of the VM')
      .option('--disk <n>', 'which disk of the VM, from 0', '0')
      .requiredOption('--delta <file>', 'the PCBT file')
      .requiredOption('--manifest <file>', 'the manifest that was made with it'),
  )
    .addHelpText(
      'after',
      examples(
        'hvdr import SQL01 --disk 0 --delta sql01.vhdx.7.cbt --manifest sql01.7.manifest --store /srv/dr',
      ),
    )
    .action((vm: string, flags: Flags) => importDelta(context, vm, flags));
}

async function importDelta(context: CliContext, vm: string, flags: Flags): Promise<void> {
  const { output } = context;
  if (!/^\d{1,3}$/.test(flags.disk)) {
    throw new DrError('E_USAGE', `--disk "${flags.disk}" is not a number`, {
      hint: 'Disks count from 0.',
    });
  }
  const diskIndex = Number(flags.disk);
  const done = await withInput(context, flags.manifest, (manifestFile) =>
    withInput(context, flags.delta, async (deltaFile) => {
      const manifest = await naming(flags.manifest, () => checkedManifest(manifestFile));
      await naming(flags.delta, () => checkWhole(deltaFile, manifestFile, manifest));
      return withAccess(context, flags, 'write', async ({ control }) => {
        const exchange = new Exchange(context, { vm, diskIndex, manifest, deltaFile });
        const signal = context.stopSignal();
        return exchange.run(control.importDelta(exchange.requests(), { signal }));
      });
    }),
  );
  const point = guidFromWire(done.pointId) ?? '';
  const { isCommitted, wasKnown, missingDisks, warnings } = done;
  output.result(
    { vm, disk: diskIndex, point, committed: isCommitted, wasKnown, missingDisks, warnings },
    () => {
      if (wasKnown) return `${vm} disk ${diskIndex}: point ${point} is there already`;
      if (!isCommitted) {
        return `${vm} disk ${diskIndex}: imported; point ${point} waits for disk ${missingDisks.join(', ')}`;
      }
      return [`${vm}: point ${point} is listed`, ...warnings].join('\n');
    },
  );
}

async function checkedManifest(file: BlockFile): Promise<ManifestFile> {
  const manifest = await ManifestFile.open(file);
  await manifest.verify();
  return manifest;
}

/** Everything is checked here before anything is sent; the receiver checks it all once more. */
async function checkWhole(
  delta: BlockFile,
  manifest: BlockFile,
  { header: { diskSizeBytes } }: ManifestFile,
): Promise<void> {
  await checkDelta(delta, { diskSizeBytes, manifest }, ({ code, where, position, message }) => {
    const place = where === 'guest' ? 'guest offset' : `byte of the ${where}`;
    throw new DeltaError(code, `${place} ${position}: ${message}`, {
      context: { position },
      done: 'nothing was imported',
    });
  });
}

interface Work {
  readonly vm: string;
  readonly diskIndex: number;
  readonly manifest: ManifestFile;
  readonly deltaFile: BlockFile;
}

/** The two directions of the call: nothing is sent before the receiver said what it wants. */
class Exchange {
  readonly #context: CliContext;
  readonly #work: Work;
  readonly #accepted: Promise<{ nextCell: number; isComplete: boolean } | undefined>;
  #accept: (answer: { nextCell: number; isComplete: boolean } | undefined) => void = () =>
    undefined;
  #failure: { readonly error: unknown } | undefined;

  constructor(context: CliContext, work: Work) {
    this.#context = context;
    this.#work = work;
    this.#accepted = new Promise((resolve) => {
      this.#accept = resolve;
    });
  }

  async *requests(): AsyncGenerator<ImportDeltaRequest> {
    const { vm, diskIndex, manifest, deltaFile } = this.#work;
    const { header, trailer } = manifest;
    const manifestHeader = encodeManifestHeader(header);
    yield {
      part: { $case: 'begin', value: { vm, diskIndex, manifestHeader, root: trailer.root } },
    };
    const wanted = await this.#accepted;
    if (wanted === undefined || wanted.isComplete) return;
    const progress = new DeltaProgress(this.#context, 'import');
    try {
      const source = new PcbtDelta(manifest, deltaFile);
      const totalBytes = await deltaFile.size();
      let sentBytes = 0;
      for await (const value of deltaMessages(source, diskIndex, wanted.nextCell)) {
        yield { part: { $case: 'batch', value } };
        sentBytes += value.length;
        progress.report(Math.min(sentBytes, totalBytes), totalBytes);
      }
    } catch (error) {
      this.#failure = { error };
      throw error;
    } finally {
      progress.end();
    }
  }

  async run(responses: AsyncIterable<ImportDeltaResponse>): Promise<ImportDone> {
    try {
      for await (const { step } of responses) {
        if (step?.$case === 'done') return step.value;
        if (step?.$case !== 'accepted') continue;
        const { nextCell, isComplete } = step.value;
        this.#accept({ nextCell: Number(nextCell), isComplete });
      }
    } catch (error) {
      // what went wrong here is told rather than how the transport put it
      throw this.#failure === undefined ? error : this.#failure.error;
    } finally {
      this.#accept(undefined);
    }
    throw new DrError('E_PROTOCOL', 'the receiver did not say how the import ended');
  }
}
