// `hvdr doctor --deep`: whether a host of Hyper-V does what this product believes of it (docs/windows-acceptance.md).

import path from 'node:path';
import {
  acceptanceDocument,
  acceptanceText,
  acceptHost,
  type AcceptancePort,
  FOLDER_NAME,
  type GuestWish,
  type Host,
  isAccepted,
  labPort,
  type Probe,
  PROBES,
} from '../shared/acceptance/index.js';
import { DrError } from '../shared/errors.js';
import { writeDurably } from '../shared/files/index.js';
import { Lab } from '../shared/hypervisor/lab/index.js';
import { toJson } from '../shared/json.js';
import type { CliContext } from './context.js';
import { productVersion } from './product-version.js';
import { openSiteHost } from './site-host.js';

export interface DeepFlags {
  readonly host?: string;
  readonly deepFolder?: string;
  readonly guestImage?: string;
  readonly guestGeneration: string;
  readonly guestAddress: string;
  readonly guestBoot: string;
  readonly probe?: readonly string[];
  readonly report?: string;
}

const EXIT_REFUTED = 1;
const STEP_MS = 600_000;

/** @throws DrError E_USAGE, E_HYPERVISOR; of removing what a former run left */
export async function examineDeeply(context: CliContext, flags: DeepFlags): Promise<void> {
  const { output, files: fs, clock, random, folder } = context;
  if (flags.host === undefined) {
    throw new DrError('E_USAGE', '--deep is about a host, and none is named', {
      hint: 'Give --host hyperv on the host itself, or --host lab:DIR to see what it does.',
    });
  }
  const guest = guestOf(flags, folder);
  const chosen = flags.probe === undefined ? PROBES : flags.probe.map(probeOf);
  output.expectEvents();
  const signal = context.stopSignal();
  const host = await openSiteHost(flags.host, context);
  try {
    const parent =
      flags.deepFolder === undefined
        ? await host.defaultVmFolder()
        : path.resolve(folder, flags.deepFolder);
    const acceptance = await acceptHost(
      {
        ...{ host, port: await portOf(host, context), fs, clock, random, guest },
        ...{ folder: path.join(parent, FOLDER_NAME), timeoutMs: STEP_MS },
        signal,
      },
      (probe) => {
        output.event({ event: 'probe', probe }, () => `probe ${probe}`);
      },
      chosen,
    );
    const about = { version: productVersion(), platform: process.platform };
    const document = acceptanceDocument(acceptance, about);
    const text = acceptanceText(acceptance);
    if (flags.report !== undefined) {
      const file = path.resolve(folder, flags.report);
      const isText = path.extname(file) === '.txt';
      const bytes = Buffer.from(isText ? `${text}\n` : `${toJson(document, 2)}\n`);
      await writeDurably(fs, file, bytes, random);
    }
    if (!isAccepted(acceptance)) output.exitCode = EXIT_REFUTED;
    output.event({ event: 'result', ...document }, () => text);
  } catch (error) {
    if (!signal.aborted || error !== signal.reason) throw error;
    output.note('stopped; what was made is removed again');
  } finally {
    await host.close();
  }
}

/** @throws DrError E_HYPERVISOR */
async function portOf(host: Host, { files: fs, random }: CliContext): Promise<AcceptancePort> {
  if (host instanceof Lab) return labPort(host, { fs, random });
  // here only: nobody else waits for the files of that provider to be loaded
  const { acceptanceOf } = await import('../shared/hypervisor/hyperv/index.js');
  const disks = acceptanceOf(host);
  if (disks !== undefined) return disks;
  throw new DrError('E_HYPERVISOR', `${host.name} gives no hand at its disks`, {
    hint: 'Run this on a host of Hyper-V, with this program for Windows.',
  });
}

function probeOf(name: string): Probe {
  const found = PROBES.find((probe) => probe.name === name);
  if (found !== undefined) return found;
  throw new DrError('E_USAGE', `--probe ${name} is none`, {
    hint: `There are ${PROBES.map((probe) => probe.name).join(', ')}.`,
  });
}

function guestOf(flags: DeepFlags, folder: string): GuestWish | undefined {
  const { guestImage, guestGeneration, guestAddress, guestBoot } = flags;
  if (guestImage === undefined) return undefined;
  const bootSeconds = Number(guestBoot);
  if (!['1', '2'].includes(guestGeneration) || !/^\d+$/.test(guestBoot) || bootSeconds < 1) {
    throw new DrError('E_USAGE', 'the guest is not described well', {
      hint: 'Give --guest-generation 1 or 2, and --guest-boot SECONDS.',
    });
  }
  return {
    image: path.resolve(folder, guestImage),
    generation: guestGeneration === '1' ? 1 : 2,
    address: guestAddress,
    bootMs: bootSeconds * 1000,
  };
}
