// The configuration files of one Bacula site on the loopback address: a Director with its catalog, a
// Storage Daemon with disk volumes, a File Daemon, a console. Jobs and FileSets come from the caller. Pure.

import { directorString } from '../../plugin-bridge/plugin-string.js';

export type DaemonName = 'dir' | 'sd' | 'fd';
export const DAEMONS: readonly DaemonName[] = ['dir', 'sd', 'fd'];

export interface SiteSettings {
  /** Absolute path of the folder that everything of the site lies in. */
  readonly folder: string;
  readonly ports: Readonly<Record<DaemonName, number>>;
  readonly password: string;
  /** Folder of the File Daemon's plugins. */
  readonly pluginFolder: string;
  /** Resources of the Director beyond those of every site: Jobs, FileSets, Schedules, Pools. */
  readonly resources: string;
}

export const SITE_NAMES = {
  director: 'site-dir',
  client: 'hyperv1-fd',
  storage: 'File1',
  pool: 'File',
  catalog: 'MyCatalog',
} as const;

/** Name of each file and its text. */
export function siteFiles(site: SiteSettings): Readonly<Record<string, string>> {
  return {
    'bacula-dir.conf': directorFile(site),
    'bacula-sd.conf': storageFile(site),
    'bacula-fd.conf': clientFile(site),
    'bconsole.conf': consoleFile(site),
  };
}

function folders({ folder }: SiteSettings, daemon: DaemonName): string {
  return `  Working Directory = ${directorString(`${folder}/${daemon}`)}
  Pid Directory = ${directorString(`${folder}/${daemon}`)}`;
}

function addresses({ ports }: SiteSettings, prefix: string, daemon: DaemonName): string {
  return `  ${prefix}Addresses = { ip = { addr = 127.0.0.1; port = ${ports[daemon]} } }`;
}

function directorFile(site: SiteSettings): string {
  const { folder, ports, password, resources } = site;
  const { director, client, storage, pool, catalog } = SITE_NAMES;
  return `Director {
  Name = ${director}
${addresses(site, 'Dir', 'dir')}
${folders(site, 'dir')}
  Query File = "/dev/null"
  Password = ${password}
  Messages = Standard
  Maximum Concurrent Jobs = 8
}
Catalog { Name = ${catalog}; DB Name = bacula; User = ""; Password = "" }
Messages { Name = Standard; catalog = all, !skipped; append = ${directorString(`${folder}/messages`)} = all, !skipped }
Client {
  Name = ${client}; Address = 127.0.0.1; FD Port = ${ports.fd}; Password = ${password}
  Catalog = ${catalog}; Maximum Concurrent Jobs = 8; AutoPrune = no
}
Storage {
  Name = ${storage}; Address = 127.0.0.1; SD Port = ${ports.sd}; Password = ${password}
  Device = Disk; Media Type = File; Maximum Concurrent Jobs = 8; Autochanger = no
}
Pool {
  Name = ${pool}; Pool Type = Backup; Label Format = "Vol-"
  Maximum Volume Jobs = 1; Recycle = yes; AutoPrune = no
}
FileSet { Name = Nothing; Include { File = "/dev/null" } }
Job {
  Name = Restore; Type = Restore; Client = ${client}; FileSet = Nothing; Storage = ${storage}
  Pool = ${pool}; Messages = Standard; Where = ${directorString(`${folder}/restored`)}
}
${resources}`;
}

function storageFile(site: SiteSettings): string {
  const { folder, password } = site;
  const { director } = SITE_NAMES;
  return `Storage {
  Name = site-sd
${addresses(site, 'SD', 'sd')}
${folders(site, 'sd')}
  Maximum Concurrent Jobs = 16
}
Director { Name = ${director}; Password = ${password} }
Autochanger { Name = Disk; Device = ${[1, 2, 3, 4].map((n) => `Disk${n}`).join(', ')}; Changer Command = ""; Changer Device = "/dev/null" }
${[1, 2, 3, 4]
  .map(
    (n) => `Device {
  Name = Disk${n}; Media Type = File; Archive Device = ${directorString(`${folder}/volumes`)}; Device Type = File
  Label Media = yes; Random Access = yes; Automatic Mount = yes; Removable Media = no
  Always Open = no; Maximum Concurrent Jobs = 4; Autochanger = yes; Drive Index = ${n - 1}
}`,
  )
  .join('\n')}
Messages { Name = Standard; director = ${director} = all }
`;
}

function clientFile(site: SiteSettings): string {
  const { password, pluginFolder } = site;
  const { client, director } = SITE_NAMES;
  return `FileDaemon {
  Name = ${client}
${addresses(site, 'FD', 'fd')}
${folders(site, 'fd')}
  Plugin Directory = ${directorString(pluginFolder)}
  Maximum Concurrent Jobs = 8
}
Director { Name = ${director}; Password = ${password} }
Messages { Name = Standard; director = ${director} = all, !skipped, !restored }
`;
}

function consoleFile({ ports, password }: SiteSettings): string {
  return `Director { Name = ${SITE_NAMES.director}; Address = 127.0.0.1; DIR Port = ${ports.dir}; Password = ${password} }
`;
}
