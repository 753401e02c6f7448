// `hvdr seed --from vhdx:… | raw:… | media:… | bacula:… | host:…` and `--discard`: the DR site's side.

import path from 'node:path';
import { guidFromWire, guidToWire, parseGuid } from '../shared/bytes/index.js';
import type { SeedDone, SeedFile, SeedRequest } from '../shared/channel/index.js';
import { DrError } from '../shared/errors.js';
import type { CliContext } from './context.js';
import { startProgress } from './progress.js';
import { type AccessFlags, type ReceiverAccess, withAccess } from './receiver-connection.js';
import type { SeedFlags } from './seed-options.js';
import { formatSize } from '../shared/sizes.js';

const PLACE = /^(vhdx|raw|media|bacula|host):(.+)$/s;

interface Place {
  readonly kind: string;
  readonly name: string;
}

/** A path of the receiver as it was given, or of this machine, absolute. */
function placed({ folder }: CliContext, { store }: AccessFlags, name: string): string {
  return store === undefined ? name : path.resolve(folder, name);
}

function wireGuid(text: string, option: string): Buffer {
  const parsed = parseGuid(text);
  if (parsed !== undefined) return guidToWire(parsed);
  throw new DrError('E_USAGE', `${option} ${text} is no GUID`);
}

function accessOf(flags: SeedFlags & { readonly drPskFile?: string }): AccessFlags {
  const { pskFile = flags.drPskFile } = flags;
  return pskFile === undefined ? flags : { ...flags, pskFile };
}

function parsePlaces(from: readonly string[]): Place[] {
  const places = from.map((text): Place => {
    const [, kind, name] = PLACE.exec(text) ?? [];
    if (kind !== undefined && name !== undefined) return { kind, name };
    throw new DrError('E_USAGE', `--from ${text} names no place of a seed`, {
      hint: 'Legal are network, vhdx:FILE, raw:FILE, media:DIR, bacula:DIR and host:VM.',
    });
  });
  const isFile = ({ kind }: Place): boolean => kind === 'vhdx' || kind === 'raw';
  if (places.length > 1 && !places.every(isFile)) {
    throw new DrError('E_USAGE', 'only vhdx:FILE and raw:FILE may be given more than once');
  }
  return places;
}

function originOf(
  context: CliContext,
  flags: SeedFlags,
  places: readonly Place[],
): NonNullable<SeedRequest['from']> {
  const { diskId = [] } = flags;
  const [first] = places;
  if (first?.kind === 'media' || first?.kind === 'bacula') {
    if (diskId.length > 0) {
      throw new DrError('E_USAGE', `--disk-id goes with vhdx: and raw:, not with ${first.kind}:`);
    }
    if (first.kind === 'bacula' && /^\d+$/.test(first.name)) {
      throw new DrError('E_SEED_BACKUP', `a job is not read by its id (${first.name})`, {
        hint: 'Restore the job to a folder, then give --from bacula:DIR.',
      });
    }
    const value = placed(context, flags, first.name);
    return first.kind === 'media' ? { $case: 'medium', value } : { $case: 'backup', value };
  }
  if (first?.kind === 'host') {
    const diskIds = diskId.map((text) => wireGuid(text, '--disk-id'));
    return { $case: 'host', value: { vm: first.name, diskIds, isPlan: false } };
  }
  if (diskId.length > 0 && diskId.length !== places.length) {
    throw new DrError('E_USAGE', `${diskId.length} --disk-id came for ${places.length} files`, {
      hint: 'Give one --disk-id for each --from, in the same order, or none.',
    });
  }
  const files = places.map(({ kind, name }, index): SeedFile => ({
    path: placed(context, flags, name),
    format: kind,
    diskId: diskId[index] === undefined ? Buffer.alloc(0) : wireGuid(diskId[index], '--disk-id'),
  }));
  return { $case: 'files', value: { files } };
}

/** Stages a seed at the DR site. */
export async function seedReceiver(
  context: CliContext,
  flags: SeedFlags,
  from: readonly string[],
): Promise<void> {
  const origin = originOf(context, flags, parsePlaces(from));
  const done = await run(context, flags, origin);
  context.output.result({ ...document(done), from }, () => {
    const { vmName, owner, stagedBytes, disks } = done;
    const what = disks.length === 1 ? '1 disk' : `${disks.length} disks`;
    return `${vmName}: ${what}, ${formatSize(Number(stagedBytes))} staged for ${owner}; the first push sends what differs`;
  });
}

export async function discardSeed(context: CliContext, flags: SeedFlags): Promise<void> {
  const done = await run(context, flags, { $case: 'discard', value: {} });
  context.output.result({ ...document(done), discarded: true }, () => {
    return `${done.vmName}: the seed was removed`;
  });
}

async function run(
  context: CliContext,
  flags: SeedFlags,
  from: NonNullable<SeedRequest['from']>,
): Promise<SeedDone> {
  const { vm = '', vmId, principal = '', restart } = flags;
  const request: SeedRequest = {
    vm,
    vmId: vmId === undefined ? Buffer.alloc(0) : wireGuid(vmId, '--vm-id'),
    principal,
    isRestart: restart === true,
    from,
  };
  if (vm === '' && request.vmId.length === 0 && from.$case !== 'medium') {
    throw new DrError('E_USAGE', 'nothing says which VM is meant', { hint: 'Give --vm NAME.' });
  }
  const { host: siteHost, store } = flags;
  const access = { ...accessOf(flags), siteHost: store === undefined ? undefined : siteHost };
  return withAccess(context, access, 'write', ({ control }) =>
    stageThrough(context, control, request),
  );
}

/** Has a seed staged, with its progress. @throws DrError what the receiver says; E_CHANNEL when stopped */
export async function stageThrough(
  context: CliContext,
  control: ReceiverAccess['control'],
  request: SeedRequest,
): Promise<SeedDone> {
  const { clock, output } = context;
  const signal = context.stopSignal();
  let bar: ReturnType<typeof startProgress> | undefined;
  try {
    for await (const { step } of control.seed(request, { signal })) {
      if (step?.$case === 'progress') {
        const { doneBytes, totalBytes } = step.value;
        bar ??= startProgress(output, clock, { label: 'seed', total: Number(totalBytes) });
        bar.set(Number(doneBytes));
      } else if (step?.$case === 'done') {
        return step.value;
      }
    }
  } catch (error) {
    if (!signal.aborted || !(error instanceof DrError) || error.code !== 'E_CHANNEL') throw error;
    throw new DrError('E_CHANNEL', 'the seed was stopped', {
      done: 'what had become durable is staged',
      hint: 'The same command goes on from there.',
      cause: error,
    });
  } finally {
    bar?.end();
  }
  throw new DrError('E_PROTOCOL', 'the receiver did not say how the seed ended');
}

function document({ vmId, vmName, owner, stagedBytes, disks }: SeedDone) {
  return {
    vm: vmName,
    vmId: guidFromWire(vmId) ?? '',
    owner,
    stagedBytes: Number(stagedBytes),
    disks: disks.map(({ diskId, sizeBytes }) => ({
      id: guidFromWire(diskId) ?? '',
      sizeBytes: Number(sizeBytes),
    })),
  };
}
