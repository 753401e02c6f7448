// The packages for Linux: built, taken apart, and the .deb installed by dpkg in a copy of this machine, where the lines
// of its units are run as the user that they name, and a VM of a lab is pushed to that receiver.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { freePort } from '../support/free-port.js';
import { makePackages, onlyFile } from '../support/linux-package.js';
import { MachineCopy } from '../support/machine-copy.js';
import { needTool } from '../support/need.js';
import { expectTool } from '../support/run-tool.js';
import { WorkFolder } from '../support/work-folder.js';

const UNITS = ['podheitor-receiver.service', 'podheitor-agent.service'] as const;

interface Entry {
  readonly mode: string;
  readonly owner: string;
  readonly path: string;
}

/** What `tar -tv` and `dpkg-deb -c` print. */
function entriesOf(text: string): Entry[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [mode = '', owner = '', , , , ...name] = line.split(/\s+/);
      return { mode, owner, path: name.join(' ').replace(/ -> .*/, '') };
    });
}

describe('packages for Linux', () => {
  const work = new WorkFolder('package-linux');
  after(() => {
    work.dispose();
  });

  describe('built twice', () => {
    let tarball: Entry[];

    before(async function () {
      needTool(this, 'gcc', 'dpkg-deb');
      // a small program in place of Node: what is compared are the two builds
      for (const folder of ['one', 'two']) {
        const only = ['--only', 'deb', '--only', 'tarball', '--node', '/bin/true'];
        await makePackages('--out', work.file(folder), ...only);
      }
      const archive = onlyFile(work.file('one'), '.tar.gz');
      tarball = entriesOf((await expectTool('tar', ['-tvzf', archive])).text);
    });

    it('have the same bytes, whatever folder they were built in', () => {
      const names = readdirSync(work.file('one'));
      expect(names).to.have.length(3);
      for (const name of names) {
        const [one, two] = ['one', 'two'].map((folder) =>
          readFileSync(work.file(`${folder}/${name}`)),
        );
        expect(one?.equals(two ?? Buffer.alloc(0)), name).to.equal(true);
      }
    });

    it('are named by their checksums', async () => {
      await expectTool('sha256sum', ['--check', '--strict', 'SHA256SUMS'], {
        folder: work.file('one'),
      });
    });

    it('hold in the tarball programs, plugins, units, configuration and pages', () => {
      const names = tarball.map(({ path }) => path.replace(/^[^/]+\//, ''));
      expect(names).to.include.members([
        ...['lib/hvdr', 'lib/podheitor-hyperv-backend', 'lib/node', 'lib/dist/programs/main.js'],
        ...['hyperv', 'vsphere', 'proxmox'].map((name) => `bacula/podheitor-${name}-fd.so`),
        ...['config/receiver.conf', 'config/agent.conf', 'config/backend.conf'],
        ...UNITS.map((unit) => `systemd/${unit}`),
        ...[
          'man/man1/hvdr.1',
          ...['hvdr', '_hvdr', 'hvdr.fish'].map((file) => `completion/${file}`),
          'docs/bacula.md',
          'README.md',
          'LICENSE',
          'THIRD-PARTY-LICENCES.txt',
        ],
        ...['deploy/bacula/daily.conf', 'bacula/LICENSE'],
      ]);
      expect(new Set(tarball.map(({ owner }) => owner))).to.deep.equal(new Set(['0/0']));
    });
  });

  describe('of which the .deb', () => {
    let package_: string;
    let entries: Entry[];

    before(async function () {
      needTool(this, 'gcc', 'dpkg-deb');
      await makePackages('--out', work.file('deb'), '--only', 'deb', '--compress', 'off');
      package_ = onlyFile(work.file('deb'), '.deb');
      entries = entriesOf((await expectTool('dpkg-deb', ['-c', package_])).text);
    });

    it('holds nothing that installs, compiles or was made for tests', () => {
      const code = entries.map(({ path }) => path).filter((path) => path.includes('/usr/lib/'));
      const foreign =
        /\/(npm|npx|corepack|typescript|mocha|chai|eslint|prettier|ts-proto|dist\/(test|bench))(\/|$)|\.(ts|map|tsbuildinfo)$/;
      expect(code.filter((path) => foreign.test(path))).to.deep.equal([]);
      expect(code).to.include('./usr/lib/podheitor/node_modules/koffi/package.json');
    });

    it('belongs to root, and lets nobody else write', () => {
      for (const { mode, owner, path } of entries) {
        expect(owner, path).to.equal('root/root');
        expect(mode, path).to.match(/^(-rw-r--r--|-rwxr-xr-x|drwxr-xr-x|lrwxrwxrwx)$/);
      }
    });

    it('says what it needs: the libraries of its programs and no more', async () => {
      const folder = work.file('unpacked');
      await expectTool('dpkg-deb', ['-x', package_, folder]);
      const programs = [
        'usr/lib/podheitor/node',
        ...entries.map(({ path }) => path.slice(2)).filter((path) => /\.(node|so)$/.test(path)),
      ];
      const wanted = new Set<string>();
      const versions: number[] = [];
      for (const program of programs) {
        const dump = await expectTool('objdump', ['-p', join(folder, program)]);
        for (const [, name = ''] of dump.text.matchAll(/NEEDED\s+(\S+)/g)) wanted.add(name);
        for (const [, version = ''] of dump.text.matchAll(/GLIBC_2\.(\d+)/g)) {
          versions.push(Number(version));
        }
      }
      const known =
        /^(lib(c|m)\.so\.6|lib(dl|pthread)\.so\.[02]|libstdc\+\+\.so\.6|libgcc_s\.so\.1|ld-linux-.*)$/;
      expect([...wanted].filter((name) => !known.test(name))).to.deep.equal([]);
      const depends = `libc6 (>= 2.${Math.max(...versions)}), libstdc++6, libgcc-s1, passwd`;
      expect((await expectTool('dpkg-deb', ['-f', package_, 'Depends'])).text.trim()).to.equal(
        depends,
      );
    });

    describe('installed', function () {
      let copy: MachineCopy;
      let port: number;

      before(async function () {
        copy = await MachineCopy.make(this);
        // as a run of hvdr by root leaves it, on a machine that had nothing of ours
        const former = '/etc/podheitor /var/lib/podheitor /var/log/podheitor';
        await copy.shell(`rm -rf ${former} && mkdir -m 700 /var/lib/podheitor`);
        await copy.shell('cat > /tmp/hvdr.deb', readFileSync(package_));
        await copy.shell('dpkg -i /tmp/hvdr.deb');
        port = await freePort();
      });

      const running: RunningUnit[] = [];

      after(async () => {
        for (const unit of running) await unit.stop('SIGKILL');
        await copy.dispose();
      });

      it('is as it was packed, with its user and folders', async () => {
        expect(await copy.shell('dpkg --verify podheitor-hvdr')).to.equal('');
        const folders = '/etc/podheitor/keys /var/lib/podheitor /var/log/podheitor';
        expect(await copy.shell(`stat -c '%U:%G %a %n' ${folders}`)).to.equal(
          'podheitor:podheitor 750 /etc/podheitor/keys\n' +
            'podheitor:podheitor 750 /var/lib/podheitor\n' +
            'root:adm 750 /var/log/podheitor\n',
        );
        expect(await copy.shell('getent passwd podheitor')).to.match(/:\/usr\/sbin\/nologin$/m);
      });

      it('has its commands on the path, with manual and completion, and no other Node', async () => {
        const version = await copy.shell('env -i PATH=/usr/bin:/bin hvdr --version');
        expect(version).to.match(/^hvdr \d+\.\d+\.\d+\n$/);
        expect(await copy.shell('man -w hvdr podheitor-hyperv-backend')).to.contain('/man1/hvdr.1');
        const completes = 'source /usr/share/bash-completion/completions/hvdr; complete -p hvdr';
        expect((await copy.run(['bash', '-ec', completes])).text).to.contain('_hvdr hvdr');
        await copy.shell(`
          test -s /usr/share/zsh/vendor-completions/_hvdr
          test -s /usr/share/fish/vendor_completions.d/hvdr.fish
        `);
        const backend = await copy.run([
          'env',
          '-i',
          '/usr/lib/podheitor/podheitor-hyperv-backend',
        ]);
        expect(backend.stderr, 'the plugin takes any byte for an error').to.equal('');
      });

      it('passes on the licences of what comes with it', async () => {
        const file = '/usr/share/doc/podheitor-hvdr/third-party-licences.txt.gz';
        const text = await copy.shell(`zcat ${file}`);
        for (const name of ['node-linux-', '@grpc/grpc-js', 'koffi', 'pino', 'yaml', 'commander']) {
          expect(text).to.contain(`\n${name}`);
        }
        expect(text).to.contain('Copyright Node.js contributors');
      });

      it('has plugins where the File Daemon looks, which find the backend', async () => {
        const names = await copy.shell('ls /usr/lib/bacula');
        for (const name of ['hyperv', 'vsphere', 'proxmox']) {
          expect(names).to.contain(`podheitor-${name}-fd.so`);
        }
        const text = await copy.shell('strings -a /usr/lib/bacula/podheitor-hyperv-fd.so');
        const [place = ''] = /^\/.*\/podheitor-hyperv-backend$/m.exec(text) ?? [];
        await copy.shell(`test -f ${place} -a -x ${place} -a ! -L ${place}`);
      });

      it('is found well by doctor, where Debian has its File Daemon', async () => {
        await copy.shell(`
          mkdir -p /etc/bacula
          printf 'FileDaemon {\\n  Name = fd\\n  PluginDirectory = /usr/lib/bacula\\n}\\n' \\
            > /etc/bacula/bacula-fd.conf
        `);
        const said = await copy.run(['hvdr', 'doctor', '--fd-config']);
        await copy.shell('rm /etc/bacula/bacula-fd.conf');
        for (const check of ['plugin podheitor-hyperv', 'plugin podheitor-proxmox', 'backend']) {
          expect(said.text).to.match(new RegExp(`^ok +${check}: /usr/lib/`, 'm'));
        }
      });

      it('has units without a fault, hardened', async function () {
        needTool(this, 'systemd-analyze');
        const paths = UNITS.map((unit) => `/usr/lib/systemd/system/${unit}`);
        const verify = await copy.run(['systemd-analyze', 'verify', '--man=no', ...paths]);
        expect(verify.code, verify.stderr).to.equal(0);
        expect(verify.stderr).to.equal('');
        for (const path of paths) {
          const arguments_ = ['security', '--offline=true', '--threshold=20', path];
          const judged = await copy.run(['systemd-analyze', ...arguments_]);
          expect(judged.code, judged.text).to.equal(0);
        }
      });

      it('has a rotation that logrotate takes', async function () {
        needTool(this, 'logrotate');
        await copy.shell('echo line > /var/log/podheitor/backend.log');
        await copy.shell('logrotate --force --state /tmp/state /etc/logrotate.d/podheitor-hvdr');
        expect(await copy.shell('ls /var/log/podheitor')).to.equal('backend.log.1\n');
      });

      it('serves and pushes by the lines of its units, as their user', async function () {
        needTool(this, 'strace');
        await copy.shell(`
          umask 077
          hvdr psk generate --out /etc/podheitor/keys/site-a.psk --principal site-a
          hvdr psk generate --out /etc/podheitor/keys/operator.psk --principal me --role operator
          chown podheitor: /etc/podheitor/keys/*
          sed -i 's/^listen=.*/listen=127.0.0.1:${port}/' /etc/podheitor/receiver.conf
          sed -i 's/^dr_host=.*/dr_host=127.0.0.1\\ndr_port=${port}/' /etc/podheitor/agent.conf
          runuser -u podheitor -- hvdr lab init /var/lib/podheitor/lab
          runuser -u podheitor -- hvdr lab create-vm /var/lib/podheitor/lab SQL01 --disk 4M
          runuser -u podheitor -- hvdr lab write /var/lib/podheitor/lab SQL01 --disk 0 --random 8 --block 64K --seed 1
        `);
        const receiver = await startUnit(copy, 'podheitor-receiver.service');
        running.push(receiver);
        await receiver.until(new RegExp(`^listening 127\\.0\\.0\\.1:${port}$`, 'm'));
        const agent = await startUnit(copy, 'podheitor-agent.service');
        running.push(agent);
        await agent.until(/^SQL01 seed /m);
        const ways = `--dr-host 127.0.0.1 --dr-port ${port} --psk-file /etc/podheitor/keys/operator.psk`;
        const points = await copy.shell(`hvdr points SQL01 ${ways} --json`);
        expect(points).to.contain('"seed"');
        await copy.shell(`
          hvdr export SQL01 --point latest --disk 0 --format raw --out /tmp/replica.raw ${ways}
          hvdr lab read /var/lib/podheitor/lab SQL01 --disk 0 > /tmp/guest.raw
          cmp /tmp/guest.raw /tmp/replica.raw
        `);
        // SuccessExitStatus of the units
        expect(await agent.stop('SIGTERM')).to.equal(143);
        expect(await receiver.stop('SIGTERM')).to.equal(143);
        const owners = await copy.shell("find /var/lib/podheitor -printf '%U\\n' | sort -u");
        expect(owners).to.equal(await copy.shell('id -u podheitor'));
      });

      it('asks the kernel for nothing that its units forbid', async function () {
        needTool(this, 'systemd-analyze');
        const all = await allowedCalls(copy);
        const traces = await copy.shell('cat /tmp/*.service.trace');
        const used = new Set(
          [...traces.matchAll(/^\d+ +([a-z0-9_]+)\(/gm)].map(([, name = '']) => name),
        );
        expect(used.size).to.be.above(50);
        expect([...used].filter((name) => !all.has(name))).to.deep.equal([]);
      });

      it('keeps what people wrote when it is installed again', async () => {
        await copy.shell('dpkg -i /tmp/hvdr.deb');
        expect(await copy.shell('cat /etc/podheitor/receiver.conf')).to.contain(
          `\nlisten=127.0.0.1:${port}\n`,
        );
        expect(await copy.shell('ls /etc/podheitor/keys')).to.equal('operator.psk\nsite-a.psk\n');
      });

      it('leaves configuration when it is removed, and only data and keys when it is purged', async () => {
        await copy.shell('dpkg --remove podheitor-hvdr');
        await copy.shell('test ! -e /usr/bin/hvdr -a -e /etc/podheitor/receiver.conf');
        await copy.shell('dpkg --purge podheitor-hvdr');
        const left = (await copy.changedFiles()).filter((path) => !isOfDebian(path));
        const ours = /^\/(etc\/podheitor\/keys|var\/lib\/podheitor\/(store|lab|agent))\//;
        expect(left.filter((path) => !ours.test(path))).to.deep.equal([]);
        expect(left.some((path) => path.startsWith('/var/lib/podheitor/store/'))).to.equal(true);
        await copy.shell('getent passwd podheitor'); // the owner of the data
      });

      it('leaves nothing where there are no data', async () => {
        await copy.shell('rm -rf /var/lib/podheitor/* /etc/podheitor/keys/*');
        await copy.shell('dpkg -i /tmp/hvdr.deb && dpkg --purge podheitor-hvdr');
        await copy.shell('test ! -e /etc/podheitor -a ! -e /var/lib/podheitor');
        const gone = await copy.run(['getent', 'passwd', 'podheitor']);
        expect(gone.code).to.equal(2);
      });
    });
  });
});

/** Accounts, dpkg's own files, and caches of programs that were run. */
function isOfDebian(path: string): boolean {
  return /^\/(etc\/(passwd|group|g?shadow|subuid|subgid)-?$|etc\/\.pwd\.lock$|var\/lib\/(dpkg|systemd)\/|var\/(log\/(dpkg|lastlog|faillog)|cache\/man|mail)|root\/)/.test(
    path,
  );
}

function childrenOf(pid = 0): number[] {
  const file = `/proc/${pid}/task/${pid}/children`;
  return existsSync(file) ? readFileSync(file, 'utf8').split(' ').map(Number).filter(Boolean) : [];
}

/** System calls that `SystemCallFilter` of the units lets through. */
async function allowedCalls(copy: MachineCopy): Promise<ReadonlySet<string>> {
  const lines = new Set<string>();
  for (const unit of UNITS) {
    const text = await copy.shell(`cat /usr/lib/systemd/system/${unit}`);
    for (const [line] of text.matchAll(/^SystemCallFilter=.*$/gm)) lines.add(line);
  }
  expect([...lines]).to.deep.equal([
    'SystemCallFilter=@system-service',
    'SystemCallFilter=~@privileged @resources',
  ]);
  const callsOf = async (set: string): Promise<string[]> => {
    const text = await copy.shell(`systemd-analyze syscall-filter ${set}`);
    const [, ...words] = text.split('\n').map((line) => line.trim());
    const names = words.filter((word) => word !== '' && !word.startsWith('#'));
    const nested = names.map(async (name) => (name.startsWith('@') ? callsOf(name) : [name]));
    return (await Promise.all(nested)).flat();
  };
  const forbidden = new Set([...(await callsOf('@privileged')), ...(await callsOf('@resources'))]);
  return new Set((await callsOf('@system-service')).filter((name) => !forbidden.has(name)));
}

interface RunningUnit {
  until(pattern: RegExp): Promise<void>;
  stop(signal: NodeJS.Signals): Promise<number | null>;
}

/** Runs the ExecStart line of an installed unit as its User, in an empty environment; its system calls are written down. */
async function startUnit(copy: MachineCopy, unit: string): Promise<RunningUnit> {
  const text = await copy.shell(`cat /usr/lib/systemd/system/${unit}`);
  const value = (key: string): string => new RegExp(`^${key}=(.*)$`, 'm').exec(text)?.[1] ?? '';
  const user = ['--reuid', value('User'), '--regid', value('Group'), '--init-groups'];
  const hardened = ['--no-new-privs', '--bounding-set', '-all', '--inh-caps', '-all'];
  const [program, args] = copy.command(
    ...['env', '-i', 'PATH=/usr/bin:/bin', 'setpriv', ...user, ...hardened, '--'],
    ...['strace', '-f', '-qq', '-o', `/tmp/${unit}.trace`],
    ...value('ExecStart').split(' '),
  );
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (said += chunk));
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => (said += chunk));
  const ended = once(child, 'close').then(([code]) => (code === null ? null : Number(code)));
  return {
    async until(pattern) {
      while (!pattern.test(said)) {
        const isEnded = await Promise.race([
          once(child.stdout, 'data').then(() => false),
          ended.then(() => true),
        ]);
        if (isEnded) throw new Error(`${unit} ended: ${said}`);
      }
    },
    async stop(signal) {
      // strace itself lets no signal through
      for (const pid of childrenOf(child.pid)) process.kill(pid, signal);
      return ended;
    },
  };
}
