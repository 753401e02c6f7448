// The package for Windows: the programs, and the set-up (deploy/nsis) that installs them. Everything is cross-compiled;
// what a set-up installs is the list of files that is made here, and it removes no others.

import { copyFileSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { root } from '../checkout.mjs';
import { Stage } from './files.mjs';
import {
  baculaExamples,
  documents,
  foreignLicences,
  must,
  printedBy,
  readText,
  version,
} from './product.mjs';

const deploy = join(root, 'deploy');

/** Words of the configuration files. */
const PLACES = {
  CONFIG: 'C:\\ProgramData\\PodHeitor\\',
  STATE: 'C:\\ProgramData\\PodHeitor\\',
  HOST: 'hyperv',
  RESTORE: 'D:\\restore',
  SLASH: '\\',
  LOG: '',
};
const CONFIG_FILES = ['receiver.conf', 'agent.conf', 'backend.conf'];
const CONVERSION = ['podheitor-vsphere-fd.dll', 'podheitor-proxmox-fd.dll'];
/** Made by the set-up itself. */
const MADE = ['hvdr.exe', 'uninstall.exe'];

/** Windows' editor shows these line ends everywhere. */
const forWindows = (text) => text.replace(/\r?\n/g, '\r\n');

/** Lays everything that is installed into a folder. `programs`: the executable with what lies beside it. */
export function layWindows({ runtime, work, programs }) {
  const stage = new Stage(join(work, 'windows'));
  // what lies in a folder that was packed before: the program's other name, and texts that are written below
  stage.copyFolder(programs, '.', (file) => file !== 'hvdr.exe' && !file.endsWith('.txt'));
  stage.write('bacula/LICENSE.txt', forWindows(readText('plugin-bridge', 'adapter', 'LICENSE')));
  stage.write('LICENSE.txt', forWindows(readText('LICENSE')));
  stage.write('THIRD-PARTY-LICENCES.txt', forWindows(foreignLicences()));
  stage.write('README.md', forWindows(readText('README.md')));
  stage.write('MANUAL.txt', forWindows(printedBy(runtime, 'manual')));
  for (const { source, name } of baculaExamples()) stage.copy(source, join('examples', name));
  for (const name of CONFIG_FILES)
    stage.fill(join(deploy, 'config', name), `config/${name}`, PLACES);
  for (const { source, name } of documents()) {
    if (name.endsWith('.md') && name !== 'README.md') stage.copy(source, join('docs', name));
  }
  return stage;
}

function componentOf(file) {
  if (file.startsWith('docs/')) return 'Documentation';
  return CONVERSION.some((name) => file === `bacula/${name}`) ? 'Conversion' : 'Main';
}

const windowsName = (file) => file.replaceAll('/', '\\');

/** Folders of files, the deepest first. */
function foldersOf(files) {
  const all = new Set();
  for (const file of files) {
    for (let at = dirname(file); at !== '.'; at = dirname(at)) all.add(at);
  }
  return [...all].sort((a, b) => b.split('/').length - a.split('/').length || (a < b ? -1 : 1));
}

/** The macros of files.nsh: what each component unpacks, and every file and folder by name. */
export function fileList(stage) {
  const files = stage.files();
  const each = (name, items) => [
    `!macro ${name} ACTION`,
    ...items.map((item) => `  !insertmacro \${ACTION} "${windowsName(item)}"`),
    '!macroend',
  ];
  const unpack = (component) => {
    const own = files.filter((file) => componentOf(file) === component);
    const lines = ['.', ...foldersOf(own).reverse()].flatMap((folder) => {
      const inside = own.filter((file) => dirname(file) === folder);
      if (inside.length === 0) return [];
      const place = folder === '.' ? '' : `\\${windowsName(folder)}`;
      return [
        `  SetOutPath "$INSTDIR\\.new${place}"`,
        ...inside.map((file) => `  File "\${STAGE}/${file}"`),
      ];
    });
    return [`!macro Unpack${component}`, ...lines, '!macroend'];
  };
  const plugins = files.filter((file) => /^bacula\/.*\.dll$/.test(file));
  // the plugin looks for the backend beside itself, and the backend for its parts
  const backend = files.filter((file) =>
    /^(podheitor-hyperv-backend\.exe|(native|powershell)\/.*)$/.test(file),
  );
  return [
    '; made by bin/package/windows.mjs',
    ...unpack('Main'),
    ...unpack('Conversion'),
    ...unpack('Documentation'),
    ...each('EachFile', [...files, ...MADE]),
    ...each('EachInstalled', [...files, 'hvdr.exe']),
    ...each('EachFolder', foldersOf(files)),
    ...each(
      'EachPlugin',
      plugins.map((file) => file.slice('bacula/'.length)),
    ),
    ...each(
      'EachConversion',
      CONVERSION.map((name) => `bacula/${name}`),
    ),
    ...each('EachConversionPlugin', CONVERSION),
    ...each(
      'EachDocumentation',
      files.filter((file) => componentOf(file) === 'Documentation'),
    ),
    ...each('EachBackend', backend),
    ...each('EachBackendFolder', foldersOf(backend)),
    '',
  ].join('\n');
}

/** Makes the set-up; returns its name. `compress`: lzma, or off, which is quick and large. */
export async function packSetup({ stage, folder, work, time, compress, release = version }) {
  const lists = new Stage(join(work, 'nsis'));
  lists.write('files.nsh', fileList(stage));
  const name = `podheitor-hvdr-${release}-setup.exe`;
  await must(
    'makensis',
    [
      ...['-V2', '-WX', '-NOCD', `-DLISTS=${lists.path('files.nsh')}`],
      ...[`-DVERSION=${release}`, `-DSTAGE=${stage.folder}`, `-DCOMPRESS=${compress}`],
      ...[`-DOUTPUT=${join(folder, name)}`, join(deploy, 'nsis', 'podheitor-hyperv.nsi')],
    ],
    { env: { SOURCE_DATE_EPOCH: String(time) } },
  );
  return name;
}

/** Copies what the set-up installs beside it, for those who install by hand; returns the names. */
export function copyPrograms(stage, folder) {
  const names = stage.files().filter((file) => /\.(exe|dll|node|ps1)$/.test(file));
  return names.map((file) => {
    const name = join('windows-x64', file);
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    copyFileSync(stage.path(file), join(folder, name));
    return name;
  });
}
