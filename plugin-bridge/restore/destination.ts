// Where a restore writes (docs/bacula-restore.md "Where"): restore_path, else what stands in front of the
// name that Bacula gives (Where, or what RegexWhere made of it), else the place of new VMs at the host.
// Pure; the system's own paths (POSIX or Windows) are an argument, so that both are tested everywhere.

import type { PlatformPath } from 'node:path';
import { pathError } from './names.js';
import type { RestoreEntry } from './work.js';

export interface Wish {
  readonly restorePath: string | undefined;
  /** Of the job; empty: `/` was asked for. */
  readonly where: string;
  readonly regexWhere: string;
  /** Folders of backend.conf; undefined: it does not limit them. */
  readonly roots: readonly string[] | undefined;
}

export type Destination =
  | { readonly kind: 'folder'; readonly folder: string }
  /** Where the host keeps new VMs. */
  | { readonly kind: 'original' };

/** @throws DrError E_RESTORE_PATH */
export function destinationOf(
  entry: Pick<RestoreEntry, 'path' | 'namespace' | 'placedAt'>,
  wish: Wish,
  system: PlatformPath,
): Destination {
  const { restorePath, roots } = wish;
  const prefix = prefixOf(entry, wish);
  if (restorePath === undefined && isTop(prefix)) return { kind: 'original' };
  const folder =
    restorePath === undefined
      ? legalFolder(prefix, "the job's Where", system)
      : legalFolder(restorePath, 'restore_path', system);
  if (roots !== undefined && !roots.some((root) => isInside(folder, root, system))) {
    throw pathError(
      `${folder} is below none of the restore roots of backend.conf`,
      roots.length === 0
        ? 'backend.conf allows no folder: add one to `restore_roots`.'
        : `Restore below one of these: ${roots.join(', ')}.`,
    );
  }
  return { kind: 'folder', folder: system.join(folder, entry.namespace) };
}

function isTop(prefix: string): boolean {
  return prefix === '' || /^[/\\]+$/.test(prefix);
}

/** What stands in front of `/@hyperv/…`. @throws DrError E_RESTORE_PATH */
function prefixOf(
  { path, namespace, placedAt }: Pick<RestoreEntry, 'path' | 'namespace' | 'placedAt'>,
  { where, regexWhere }: Wish,
): string {
  const end = `/${namespace}/${path}`;
  const bare = end.slice(1);
  const prefix = placedAt.endsWith(end)
    ? placedAt.slice(0, -end.length)
    : placedAt === bare
      ? ''
      : undefined;
  if (prefix === undefined) {
    throw pathError(
      `the name ${JSON.stringify(placedAt.slice(0, 200))} does not end with ${JSON.stringify(end.slice(0, 200))}`,
    );
  }
  const strip = (text: string): string => text.replace(/[/\\]+$/, '');
  if (regexWhere !== '' || strip(prefix) === strip(where)) return prefix;
  throw pathError(
    `the name ${JSON.stringify(placedAt.slice(0, 200))} does not begin with the job's Where, ${JSON.stringify(where)}`,
  );
}

/** An absolute folder as the system writes it. @throws DrError E_RESTORE_PATH */
export function legalFolder(text: string, what: string, system: PlatformPath): string {
  const eaten = /^([A-Za-z]):([^/\\].*)$/.exec(text);
  if (eaten !== null) {
    const [, drive = '', rest = ''] = eaten;
    throw pathError(
      `${what} is ${JSON.stringify(text)}, without a separator behind the drive: Bacula takes a backslash away`,
      `Write it with forward slashes: \`restore_path=${drive}:/${rest.replaceAll('\\', '/')}\`. Where Bacula has taken more of them, they belong there too.`,
    );
  }
  if (/[\u0000-\u001f\u007f]/.test(text)) throw pathError(`${what} holds a control character`);
  if (text.split(/[/\\]/).some((segment) => segment === '..' || segment === '.')) {
    throw pathError(`${what} is ${JSON.stringify(text)}: it holds \`.\` or \`..\``);
  }
  const isDevice = system.sep === '\\' && /^[/\\]{2}[.?][/\\]/.test(text);
  const isRooted = system.sep !== '\\' || /^[A-Za-z]:[/\\]|^[/\\]{2}[^/\\]+[/\\][^/\\]/.test(text);
  if (!system.isAbsolute(text) || isDevice || !isRooted) {
    throw pathError(
      `${what} is ${JSON.stringify(text)}: that is no absolute folder of this system`,
      system.sep === '\\'
        ? 'Give a drive as well: `restore_path=D:/restore`.'
        : 'Begin it with a slash: `restore_path=/srv/restore`.',
    );
  }
  if (text.length > 1000) throw pathError(`${what} is longer than 1000 characters`);
  const folder = system.normalize(text);
  return folder.length > system.parse(folder).root.length ? folder.replace(/[/\\]+$/, '') : folder;
}

/** Whether `folder` is `root`, or below it. */
export function isInside(folder: string, root: string, system: PlatformPath): boolean {
  const relative = system.relative(root, folder);
  return (
    relative !== '..' && !relative.startsWith(`..${system.sep}`) && !system.isAbsolute(relative)
  );
}
