// Bacula's storage in memory: the files of each job, and what a restore of some jobs gives.

import { parseCatalogPath, parseRctState, type RctState } from '../../shared/catalog/index.js';
import { LayeredDisk, ManifestFile, PcbtDelta } from '../../shared/delta/index.js';
import { DrError } from '../../shared/errors.js';
import { openVhdx } from '../../shared/vhdx/index.js';
import type { FileEntry, FileSink } from '../../source-agent/file-sink.js';
import { MemoryFileSystem } from './memory-file.js';
import { SeededRandom } from './seeded-random.js';

export class BackupVolume implements FileSink {
  readonly stop = new AbortController();
  readonly signal = this.stop.signal;
  readonly files = new Map<string, Buffer>();
  readonly said: string[] = [];
  /** Called before a file is taken. */
  onFile: (path: string) => void = () => undefined;
  /** Called before bytes of it are. */
  onChunk: (path: string) => void = () => undefined;

  async file({ path }: FileEntry, content: AsyncIterable<Buffer>): Promise<void> {
    this.onFile(path);
    const parts: Buffer[] = [];
    try {
      for await (const chunk of content) {
        this.onChunk(path);
        parts.push(Buffer.from(chunk));
      }
    } finally {
      // what was handed on before it broke stays in the catalog if the job counts
      this.files.set(path, Buffer.concat(parts));
    }
  }

  say(kind: 'info' | 'warning' | 'error', text: string): void {
    this.said.push(`${kind}: ${text}`);
  }
}

/** The disks that the newest state of the jobs names, put together from their files alone. */
export async function restoredDisks(jobs: readonly BackupVolume[]): Promise<Buffer[]> {
  const fs = new MemoryFileSystem();
  const found = new Map<string, Buffer>();
  for (const { files } of jobs) for (const [path, bytes] of files) found.set(path, bytes);
  const states = [...found]
    .filter(([path]) => parseCatalogPath(path)?.kind === 'state')
    .map(([path, bytes]) => parseRctState(bytes, path))
    .sort((a, b) => a.seq - b.seq);
  const state = states.at(-1);
  if (state === undefined) throw new Error('the jobs have no state');
  const flat = (path: string): string => `/${path.replaceAll('/', '|')}`;
  for (const [path, bytes] of found) {
    const file = await fs.open(flat(path), { mode: 'create' });
    await file.write(0, bytes);
    await file.close();
  }
  const disks: Buffer[] = [];
  for (const disk of state.disks) disks.push(await content(disk));
  return disks;

  async function content({ diskId }: RctState['disks'][number]): Promise<Buffer> {
    const paths = [...found.keys()];
    const named = (kind: string): string[] =>
      paths.filter((path) => {
        const name = parseCatalogPath(path);
        return name?.kind === kind && 'diskId' in name && name.diskId === diskId;
      });
    const manifests = new Map<string, { path: string; manifest: ManifestFile }>();
    for (const path of [...named('delta-manifest'), ...named('base-manifest')]) {
      const manifest = await openManifest(path);
      if (manifest !== undefined) manifests.set(manifest.header.point, { path, manifest });
    }
    const chain: PcbtDelta[] = [];
    let point: string = state?.pointId ?? '';
    for (;;) {
      const at = manifests.get(point);
      if (at === undefined) throw new Error(`no manifest leads to the point ${point}`);
      const data = at.path.replace('/.meta/', '/disks/').replace(/\.manifest$/, '');
      if (at.manifest.header.kind === 'base') {
        const base = await openVhdx(flat(data), { fs, random: new SeededRandom(1) });
        const layered = chain.length === 0 ? base : await LayeredDisk.open(base, chain);
        const bytes = Buffer.alloc(layered.sizeBytes);
        await layered.read(0, bytes);
        return bytes;
      }
      const delta = await fs.open(flat(`${data}.cbt`), { mode: 'read' });
      chain.unshift(new PcbtDelta(at.manifest, delta));
      point = at.manifest.header.parentPoint;
    }
  }
  /** undefined: a job broke off in it. */
  async function openManifest(path: string): Promise<ManifestFile | undefined> {
    try {
      return await ManifestFile.open(await fs.open(flat(path), { mode: 'read' }));
    } catch (error) {
      if (error instanceof DrError && error.code === 'E_DELTA_MANIFEST') return undefined;
      throw error;
    }
  }
}
