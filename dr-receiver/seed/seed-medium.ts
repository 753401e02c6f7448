// A seed from a medium that the source sealed with its own key: it says which VM it is, and the key
// says whose. The receiver takes the principal from its own copy of that key.

import path from 'node:path';
import type { Guid } from '../../shared/bytes/index.js';
import { OpenRequest, type PreSharedKey } from '../../shared/channel/index.js';
import { messageFrom, parseBatch } from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import type { BlockFile } from '../../shared/files/index.js';
import { MEDIUM_SUFFIX, readMediumHeader, SeedMediumReader } from '../../shared/seed/index.js';
import { type CycleRequest, parseOpenRequest } from '../ingest/open-request.js';
import type { SeedContent, SeedSeams } from './seed-content.js';

/** @throws DrError E_SEED_MEDIUM, E_SEED_PATH, E_NOT_FOUND, E_FILE_VERSION, E_IO */
export async function openSeedMedium(
  seams: SeedSeams,
  name: string,
  vmId: Guid | undefined,
): Promise<SeedContent> {
  const { files: fs } = seams;
  const file = await fs.open(await mediumIn(seams, name, vmId), { mode: 'read' });
  try {
    const { keyId } = await readMediumHeader(file);
    const key = keyOf(seams, file, keyId);
    const reader = await SeedMediumReader.open(file, key);
    return contentOf(file, reader, key);
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function mediumIn(seams: SeedSeams, name: string, vmId: Guid | undefined): Promise<string> {
  const { files: fs } = seams;
  const place = seams.resolve(name);
  const status = await fs.status(place);
  if (status === undefined) {
    throw new DrError('E_NOT_FOUND', `there is no medium ${name}`, { context: { path: name } });
  }
  if (status.kind !== 'folder') return place;
  const found = (await fs.list(place)).filter((each) =>
    vmId === undefined ? each.endsWith(MEDIUM_SUFFIX) : each === vmId + MEDIUM_SUFFIX,
  );
  const [only] = found;
  if (only !== undefined && found.length === 1) return path.join(place, only);
  throw new DrError(
    only === undefined ? 'E_NOT_FOUND' : 'E_USAGE',
    only === undefined
      ? `${name} holds no finished medium of this VM`
      : `${name} holds ${found.length} media`,
    {
      context: { path: name },
      hint:
        only === undefined
          ? 'A medium that was not written to its end does not count; make it again at the source.'
          : 'Name the file of one VM, or give --vm-id ID.',
    },
  );
}

function keyOf({ keys }: SeedSeams, { path: name }: BlockFile, keyId: string): PreSharedKey {
  const key = keys?.keys.find((each) => each.keyId === keyId);
  if (key !== undefined && key.role !== 'source' && key.role !== 'operator') {
    throw new DrError('E_SEED_MEDIUM', `${name} is sealed with the key of a ${key.role}`, {
      context: { file: name, keyId },
      hint: 'Seal it with the key that the source pushes with.',
    });
  }
  if (key !== undefined) return key;
  throw new DrError('E_SEED_MEDIUM', `${name} is sealed with the key ${keyId}, which is not here`, {
    context: { file: name, keyId },
    hint: 'The receiver needs the key of the source among its own; with --store, give --psk-file.',
  });
}

function contentOf(file: BlockFile, reader: SeedMediumReader, key: PreSharedKey): SeedContent {
  const { vmId, vmName, disks, cycleId } = describe(file, reader);
  return {
    vmId,
    vmName,
    sealedBy: key,
    from: `media:${cycleId}`,
    disks: disks,
    async *messages(starts) {
      for await (const message of reader.messages()) {
        const { kind, ...about } = parseBatch(message);
        const diskIndex = 'diskIndex' in about ? about.diskIndex : undefined;
        const start = diskIndex === undefined ? undefined : starts[diskIndex];
        const disk = diskIndex === undefined ? undefined : disks[diskIndex];
        if (kind === 'begin' || start === undefined || disk === undefined) {
          throw new DrError('E_SEED_MEDIUM', `${file.path}: it holds a message of no disk`);
        }
        if (start === 'complete') continue;
        const wanted = messageFrom(message, start, disk.sizeBytes);
        if (wanted !== undefined) yield wanted;
      }
    },
    close: () => file.close(),
  };
}

function describe({ path: name }: BlockFile, { description }: SeedMediumReader): CycleRequest {
  try {
    return parseOpenRequest(OpenRequest.decode(description));
  } catch (error) {
    throw new DrError('E_SEED_MEDIUM', `${name}: its description is not legal`, {
      context: { file: name },
      cause: error,
    });
  }
}
