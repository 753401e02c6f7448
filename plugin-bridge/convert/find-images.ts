// Where the images of a foreign VM lie: in the folder of its configuration, or in `disks` below it, under
// the name that the configuration gives them. A path in a configuration comes from outside: its last
// part alone is used.

import path from 'node:path';
import { DrError } from '../../shared/errors.js';
import type { FileSystem } from '../../shared/files/index.js';
import { configurationError, type ForeignDisk, type ForeignVm } from './foreign-vm.js';
import { parseQemuConfig } from './qemu-config.js';
import { parseVmx } from './vmx.js';

const EXTENSIONS = ['', '.vmdk', '.qcow2', '.raw', '.img', '.vhdx', '.vhd'];
const DELTAS_MAX = 1000;

export interface FoundImage extends ForeignDisk {
  readonly file: string;
  /** PCBT files to be applied on top, the oldest first. */
  readonly deltas: readonly string[];
}

/** A configuration by its name. @throws DrError E_CONVERT_CONFIG */
export function parseConfiguration(file: string, bytes: Buffer): ForeignVm {
  if (/\.vmx$/i.test(file)) return parseVmx(file, bytes);
  if (/\.conf$/i.test(file)) return parseQemuConfig(file, bytes);
  throw configurationError(file, 'is neither a .vmx nor a Proxmox .conf');
}

/** The one configuration in a folder, or in `config` below it. @throws DrError E_CONVERT_CONFIG */
export async function findConfiguration(fs: FileSystem, folder: string): Promise<string> {
  const found: string[] = [];
  for (const place of [folder, path.join(folder, 'config')]) {
    if ((await fs.status(place))?.kind !== 'folder') continue;
    for (const name of await fs.list(place)) {
      if (/\.(vmx|conf)$/i.test(name)) found.push(path.join(place, name));
    }
  }
  const [only] = found;
  if (only !== undefined && found.length === 1) return only;
  const what = only === undefined ? 'holds no .vmx and no .conf' : `holds ${found.length} of them`;
  throw new DrError('E_CONVERT_CONFIG', `${folder} ${what}`, {
    context: { folder, count: found.length },
    done: 'no VM was made',
    hint: 'Name the configuration file itself.',
  });
}

/**
 * @throws DrError E_NOT_FOUND for an image that is not there, E_CONVERT_CONFIG for two in one place and for
 * a delta that belongs to none of them
 */
export async function findImages(
  fs: FileSystem,
  configuration: string,
  disks: readonly ForeignDisk[],
): Promise<FoundImage[]> {
  const folders = await imageFolders(fs, path.dirname(configuration));
  const images: FoundImage[] = [];
  for (const disk of disks) images.push(await findImage(fs, folders, disk));
  const files = new Set(images.map(({ file }) => file));
  if (files.size !== images.length) {
    throw configurationError(configuration, 'names one image for two disks');
  }
  await refuseLooseDeltas(fs, folders, images);
  return images;
}

/** Without it the disk would be an older one, and nobody would know. */
async function refuseLooseDeltas(
  fs: FileSystem,
  folders: readonly string[],
  images: readonly FoundImage[],
): Promise<void> {
  const used = new Set(images.flatMap(({ deltas }) => deltas));
  for (const folder of folders) {
    for (const name of await fs.list(folder)) {
      const file = path.join(folder, name);
      if (!/\.cbt$/i.test(name) || used.has(file)) continue;
      throw configurationError(file, 'is a delta of no disk of the VM');
    }
  }
}

/** `config/` is a place of configurations alone: the images lie beside it. */
async function imageFolders(fs: FileSystem, folder: string): Promise<string[]> {
  const root = path.basename(folder) === 'config' ? path.dirname(folder) : folder;
  const places = [root, path.join(root, 'disks')];
  const kinds = await Promise.all(places.map((place) => fs.status(place)));
  return places.filter((_place, index) => kinds[index]?.kind === 'folder');
}

async function findImage(
  fs: FileSystem,
  folders: readonly string[],
  disk: ForeignDisk,
): Promise<FoundImage> {
  const name = lastPart(disk.image);
  for (const folder of folders) {
    for (const extension of EXTENSIONS) {
      const file = path.join(folder, name + extension);
      if ((await fs.status(file))?.kind !== 'file') continue;
      return { ...disk, file, deltas: await deltasOf(fs, file, name) };
    }
  }
  throw new DrError('E_NOT_FOUND', `the image ${name || disk.image} of ${disk.slot} is not there`, {
    context: { slot: disk.slot, image: disk.image },
    hint: `Put it into ${folders[0] ?? 'the folder of the configuration'}.`,
  });
}

/** `[store] vm/disk.vmdk`, `local:100/vm-100-disk-0.qcow2`, `local-lvm:vm-100-disk-0`. */
function lastPart(image: string): string {
  const last =
    image
      .split(/[/\\:]/)
      .at(-1)
      ?.trim() ?? '';
  return last === '.' || last === '..' ? '' : last;
}

/** Named after the file, after the image, or after what the VHDX was before a restore made it one. */
async function deltasOf(fs: FileSystem, file: string, image: string): Promise<string[]> {
  const folder = path.dirname(file);
  const own = path.basename(file);
  const bases = new Set([own, image, own.replace(/\.vhdx$/i, '')]);
  const deltas: { readonly name: string; readonly number: number }[] = [];
  for (const name of await fs.list(folder)) {
    const [, base = '', number] = /^(.+?)(?:\.(\d{1,15}))?\.cbt$/i.exec(name) ?? [];
    if (!bases.has(base)) continue;
    deltas.push({ name, number: number === undefined ? -1 : Number(number) });
  }
  if (deltas.length > DELTAS_MAX) {
    throw configurationError(file, `has ${deltas.length} deltas; ${DELTAS_MAX} is the limit`);
  }
  return deltas
    .toSorted((one, other) => one.number - other.number)
    .map(({ name }) => path.join(folder, name));
}
