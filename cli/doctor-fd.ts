// What `hvdr doctor --fd-config` says of a File Daemon: whether the plugins of this release are where it loads plugins from,
// and find the backend. A package lays them where Debian's Bacula has its own; another Bacula has another folder.

import path from 'node:path';
import { findPluginFolder } from '../plugin-bridge/director-config.js';
import { DrError } from '../shared/errors.js';
import { readSmall } from '../shared/files/index.js';
import { readConfig } from './agent-options.js';
import type { CliContext } from './context.js';
import { fail, type Finding, ok, warn } from './finding.js';
import { productVersion } from './product-version.js';

/** Where Bacula's own packages, and those of Debian, have the file. */
const KNOWN_FILES = {
  win32: ['C:\\Program Files\\Bacula\\bacula-fd.conf'],
  other: ['/etc/bacula/bacula-fd.conf', '/opt/bacula/etc/bacula-fd.conf'],
} as const;
const PLUGIN = 'podheitor-hyperv';
const CONVERSIONS = ['podheitor-vsphere', 'podheitor-proxmox'];
const PLUGIN_BYTES_MAX = 4 * 1024 * 1024;
const BACKEND = '/usr/lib/podheitor/podheitor-hyperv-backend';

const onWindows = process.platform === 'win32';
const SUFFIX = onWindows ? '-fd.dll' : '-fd.so';
const BACKEND_NAME = `podheitor-hyperv-backend${onWindows ? '.exe' : ''}`;
const SHIPPED = onWindows ? 'C:\\Program Files\\PodHeitor\\HyperV\\bacula' : '/usr/lib/bacula';

/** `file`: true for those that are known. */
export async function examineFileDaemon(
  file: string | true,
  context: CliContext,
): Promise<Finding[]> {
  if (file !== true) return examineFile(file, context);
  const known = onWindows ? KNOWN_FILES.win32 : KNOWN_FILES.other;
  const present: string[] = [];
  for (const each of known) {
    if ((await context.files.status(each)) !== undefined) present.push(each);
  }
  if (present.length === 0) {
    const remedy = 'name its file: --fd-config FILE';
    return [fail('File Daemon', `there is no ${known.join(' and no ')}`, remedy)];
  }
  return (await Promise.all(present.map((each) => examineFile(each, context)))).flat();
}

async function examineFile(file: string, context: CliContext): Promise<Finding[]> {
  try {
    const { isFileDaemon, folder } = findPluginFolder(await readConfig(file, context));
    if (!isFileDaemon) {
      const remedy = 'name the file that has it; files named with @ are not followed';
      return [fail(file, 'no FileDaemon resource is in it', remedy)];
    }
    if (folder === undefined || folder === '') {
      return [
        fail(
          file,
          'the FileDaemon resource names no Plugin Directory, so no plugin is loaded',
          `add Plugin Directory = "${onWindows ? 'C:/Program Files/Bacula/plugins' : SHIPPED}", and restart the daemon`,
        ),
      ];
    }
    return await examineFolder(path.normalize(folder), context);
  } catch (error) {
    if (!(error instanceof DrError)) throw error;
    return [fail(file, `${error.code}: ${error.message}`, error.hint)];
  }
}

async function examineFolder(folder: string, context: CliContext): Promise<Finding[]> {
  const findings = [await examinePlugin(PLUGIN, folder, context)];
  for (const plugin of CONVERSIONS) {
    // whoever does not convert does without them
    const file = path.join(folder, `${plugin}${SUFFIX}`);
    if ((await context.files.status(file)) !== undefined) {
      findings.push(await examinePlugin(plugin, folder, context));
    }
  }
  findings.push(await examineBackend(folder, context));
  return findings;
}

async function examinePlugin(
  plugin: string,
  folder: string,
  { files }: CliContext,
): Promise<Finding> {
  const name = `${plugin}${SUFFIX}`;
  const file = path.join(folder, name);
  const check = `plugin ${plugin}`;
  const bring = onWindows
    ? `copy it from ${SHIPPED} when no job runs, and restart the daemon`
    : `install -m 644 ${SHIPPED}/${name} ${folder}/, and restart the daemon when no job runs`;
  const bytes = await readSmall(files, file, PLUGIN_BYTES_MAX);
  if (bytes === undefined) return fail(check, `${file} is not there`, bring);
  const real = await files.realPath(file);
  if (real !== path.join(await files.realPath(folder), name)) {
    return fail(check, `${file} is a link, which a File Daemon does not load`, bring);
  }
  const version = productVersion();
  // it is told to the daemon as a string of its own
  if (!Buffer.from(bytes).includes(Buffer.from(`\0${version}\0`, 'latin1'))) {
    return warn(check, `${file} is of another release than this program, ${version}`, bring);
  }
  return ok(check, `${file} is of this release, ${version}`);
}

/** Where the plugin looks, in its order; what HVDR_BACKEND of the daemon says is not seen from here. */
async function examineBackend(folder: string, { files }: CliContext): Promise<Finding> {
  const places = [path.join(folder, BACKEND_NAME), ...(onWindows ? [] : [BACKEND])];
  for (const place of places) {
    if ((await files.status(place))?.kind === 'file') return ok('backend', `${place} is there`);
  }
  return fail(
    'backend',
    `there is no ${places.join(' and no ')}`,
    onWindows
      ? 'run the set-up with /BACULA= and the folder of Bacula: it lays the backend beside the plugin'
      : 'install the package, or link the backend there',
  );
}
