// The packages for Linux: a .deb, and a tarball for other systems with systemd or without. Both hold the pinned Node, the
// compiled program and its modules as the tests run them; neither needs npm, a compiler or the network.

import { createHash } from 'node:crypto';
import { lstatSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { root } from '../checkout.mjs';
import { SetUpError } from '../steps.mjs';
import { PROGRAM, Stage, filled } from './files.mjs';
import {
  NAME,
  baculaExamples,
  documents,
  foreignLicences,
  layProgram,
  must,
  printedBy,
  whole,
  readText,
  version,
} from './product.mjs';

const ARCHITECTURES = { x64: 'amd64', arm64: 'arm64' };
const deploy = join(root, 'deploy');
const linux = join(deploy, 'linux');

/** Words of the configuration files. */
const PLACES = {
  CONFIG: '/etc/podheitor/',
  STATE: '/var/lib/podheitor/',
  HOST: 'lab:/var/lib/podheitor/lab',
  RESTORE: '/srv/restore',
  SLASH: '/',
  LOG: 'log_file=/var/log/podheitor/backend.log\n',
};
export const CONFIG_FILES = ['receiver.conf', 'agent.conf', 'backend.conf'];
const UNITS = ['podheitor-receiver.service', 'podheitor-agent.service'];

/** What the program itself prints, and pages that it does not. */
function textsOf(runtime) {
  return {
    manPage: printedBy(runtime, 'manual', '--roff'),
    backendPage: filled(join(linux, 'podheitor-hyperv-backend.8'), { VERSION: version }),
  };
}

/** Where each shell of a system looks for completions. */
const COMPLETIONS = {
  bash: 'usr/share/bash-completion/completions/hvdr',
  zsh: 'usr/share/zsh/vendor-completions/_hvdr',
  fish: 'usr/share/fish/vendor_completions.d/hvdr.fish',
};

/** Program, launchers and Node. */
function layRuntime(stage, place, node) {
  layProgram(stage, place);
  stage.copy(node, join(place, 'node'), PROGRAM);
  for (const name of ['hvdr', 'podheitor-hyperv-backend']) {
    stage.copy(join(linux, name), join(place, name), PROGRAM);
  }
}

function architecture() {
  const name = ARCHITECTURES[process.arch];
  if (process.platform === 'linux' && name !== undefined) return name;
  throw new SetUpError('packages for Linux are built on Linux, x86-64 or ARM64', 'build there');
}

/** Makes the .deb in `folder`; returns its name. `adapters`: the .so files; `node`: the Node to ship. */
export async function packDebian({ runtime, node, folder, work, adapters, time, compress }) {
  const arch = architecture();
  const texts = textsOf(runtime);
  const stage = new Stage(join(work, 'deb'));
  const doc = `usr/share/doc/${NAME}`;
  layRuntime(stage, 'usr/lib/podheitor', node);
  for (const name of ['hvdr', 'podheitor-hyperv-backend']) {
    stage.link(`../lib/podheitor/${name}`, `usr/bin/${name}`);
  }
  for (const path of adapters) stage.copy(path, join('usr/lib/bacula', basename(path)));
  for (const unit of UNITS) {
    stage.copy(join(linux, 'systemd', unit), join('usr/lib/systemd/system', unit));
  }
  for (const name of CONFIG_FILES) {
    stage.fill(join(deploy, 'config', name), join('etc/podheitor', name), PLACES);
  }
  stage.copy(join(linux, 'logrotate'), `etc/logrotate.d/${NAME}`);
  stage.compress('usr/share/man/man1/hvdr.1.gz', texts.manPage);
  stage.compress('usr/share/man/man8/podheitor-hyperv-backend.8.gz', texts.backendPage);
  for (const [shell, place] of Object.entries(COMPLETIONS)) {
    stage.write(place, printedBy(runtime, 'completion', shell));
  }
  for (const { source, name } of documents()) {
    if (name === 'CHANGELOG.md') stage.compress(`${doc}/changelog.gz`, readText(name));
    else if (name !== 'LICENSE') stage.copy(source, join(doc, name));
  }
  stage.write(`${doc}/copyright`, copyright());
  stage.compress(`${doc}/third-party-licences.txt.gz`, foreignLicences());
  for (const { source, name } of baculaExamples()) {
    stage.copy(source, join(doc, 'examples', 'bacula', name));
  }

  const installed = stage.files().map((file) => join('/', file));
  const bytes = await must('du', ['-sk', '--apparent-size', stage.folder]);
  const control = {
    Package: NAME,
    Version: version,
    Architecture: arch,
    Maintainer: 'PodHeitor HVDR <podheitor-hvdr@localhost>',
    'Installed-Size': String(parseInt(bytes, 10)),
    Depends: `libc6 (>= ${neededGlibc(stage)}), libstdc++6, libgcc-s1, passwd`,
    Suggests: 'bacula-fd, qemu-utils, systemd',
    Section: 'admin',
    Priority: 'optional',
    Description:
      'disaster recovery for Microsoft Hyper-V, with Bacula and without\n' +
      ' Receiver and agent that replicate the changed blocks of VMs to a second site, keep\n' +
      ' restore points there and start a VM there when the first site is lost; the plugins\n' +
      " of Bacula's File Daemon, and their backend.",
  };
  const lines = Object.entries(control).map(([key, value]) => `${key}: ${value}\n`);
  stage.write('DEBIAN/control', lines.join(''));
  const conffiles = installed.filter((file) => file.startsWith('/etc/'));
  stage.write('DEBIAN/conffiles', conffiles.map((file) => `${file}\n`).join(''));
  const sums = checksums(stage, installed);
  stage.write('DEBIAN/md5sums', sums);
  const words = { BUILD: `${version}-${buildOf(sums)}` };
  for (const script of ['postinst', 'prerm', 'postrm']) {
    stage.fill(join(linux, 'debian', script), `DEBIAN/${script}`, words, PROGRAM);
  }

  stage.setTimes(time);
  const name = `${NAME}_${version}_${arch}.deb`;
  const output = join(folder, name);
  const packing = compress === 'off' ? ['-Znone'] : ['-Zxz', '-z1'];
  await must('dpkg-deb', ['--root-owner-group', ...packing, '--build', stage.folder, output], {
    env: { SOURCE_DATE_EPOCH: String(time) },
  });
  return name;
}

/** The newest version of the C library that a program in the package asks for. */
function neededGlibc(stage) {
  const programs = stage
    .files()
    .filter((file) => /\/node$|\.(node|so)$/.test(file))
    .map((file) => stage.path(file));
  const dump = whole('objdump', ['-p', ...programs]);
  const minors = [...dump.matchAll(/GLIBC_2\.(\d+)/g)].map(([, minor]) => Number(minor));
  return `2.${Math.max(...minors)}`;
}

/** What `dpkg --verify` compares with. */
function checksums(stage, installed) {
  return installed
    .filter((file) => !file.startsWith('/etc/') && lstatSync(stage.path(file)).isFile())
    .map((file) => {
      const digest = createHash('md5')
        .update(readFileSync(stage.path(file)))
        .digest('hex');
      return `${digest}  ${file.slice(1)}\n`;
    })
    .join('');
}

/** Differs between packages of other programs, also when they bear the same version. */
const buildOf = (sums) => createHash('sha256').update(sums).digest('hex').slice(0, 12);

function copyright() {
  return [
    'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/',
    '',
    'Files: *',
    'Copyright: the authors of PodHeitor HVDR',
    'License: Apache-2.0',
    '',
    'Files: usr/lib/bacula/*',
    'Copyright: the authors of PodHeitor HVDR',
    'License: AGPL-3.0-only',
    '',
    'Files: usr/lib/podheitor/node',
    'Copyright: Node.js contributors and others',
    'License: MIT and others',
    ' see third-party-licences.txt.gz beside this file',
    '',
    'Files: usr/lib/podheitor/dist/* usr/lib/podheitor/node_modules/*',
    'Copyright: the authors of PodHeitor HVDR; of what is bound into it, others',
    'License: MIT, Apache-2.0, BSD-3-Clause and ISC',
    '',
    ...['The whole texts:', '', readText('LICENSE'), ''],
    readText('plugin-bridge', 'adapter', 'LICENSE'),
    '',
    readText('plugin-bridge', 'adapter', 'COPYING'),
  ].join('\n');
}

/** Makes the tarball in `folder`; returns its name. */
export async function packTarball({ runtime, node, folder, work, adapters, time }) {
  const texts = textsOf(runtime);
  const title = `${NAME}-${version}`;
  const stage = new Stage(join(work, 'tar', title));
  layRuntime(stage, 'lib', node);
  for (const path of adapters) stage.copy(path, join('bacula', basename(path)));
  for (const name of ['LICENSE', 'COPYING']) {
    stage.copy(join(root, 'plugin-bridge', 'adapter', name), join('bacula', name));
  }
  for (const unit of UNITS) stage.copy(join(linux, 'systemd', unit), join('systemd', unit));
  for (const name of CONFIG_FILES) {
    stage.fill(join(deploy, 'config', name), join('config', name), PLACES);
  }
  stage.write('man/man1/hvdr.1', texts.manPage);
  stage.write('man/man8/podheitor-hyperv-backend.8', texts.backendPage);
  for (const [shell, place] of Object.entries(COMPLETIONS)) {
    stage.write(join('completion', basename(place)), printedBy(runtime, 'completion', shell));
  }
  stage.write('THIRD-PARTY-LICENCES.txt', foreignLicences());
  for (const { source, name } of documents()) {
    const isTop = /^(README|CHANGELOG|SECURITY)\.md$|^LICENSE$/.test(name);
    stage.copy(source, isTop ? name : join('docs', name));
  }
  for (const { source, name } of baculaExamples()) stage.copy(source, `deploy/bacula/${name}`);

  const name = `${title}-linux-${process.arch}.tar.gz`;
  const archive = join(work, `${title}.tar`);
  await must('tar', [
    ...['--sort=name', `--mtime=@${time}`, '--owner=0', '--group=0', '--numeric-owner'],
    ...['--format=ustar', '-cf', archive, '-C', join(work, 'tar'), title],
  ]);
  writeFileSync(join(folder, name), gzipSync(readFileSync(archive), { level: 6 }));
  return name;
}
