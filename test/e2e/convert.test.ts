// VMware and Proxmox VMs become VMs of the lab host; qemu-img makes their images and judges the result.

import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { appendFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { expect } from 'chai';
import { mainProgram } from '../support/checkout.js';
import { runHvdr } from '../support/cli.js';
import { needTool } from '../support/need.js';
import { QEMU, qemuCompare, qemuConvert, qemuWrite } from '../support/qemu.js';
import { expectTool } from '../support/run-tool.js';

const MIB = 1024 * 1024;
const VMDK_KINDS = [
  'subformat=monolithicSparse',
  'subformat=monolithicFlat',
  'subformat=twoGbMaxExtentSparse',
  'subformat=twoGbMaxExtentFlat',
  'subformat=streamOptimized',
  'subformat=streamOptimized,compat6=on',
  'subformat=monolithicSparse,compat6=on',
  'subformat=monolithicSparse,zeroed_grain=on',
  'subformat=twoGbMaxExtentSparse,zeroed_grain=on,adapter_type=lsilogic',
  'subformat=monolithicFlat,adapter_type=buslogic,hwversion=14',
  'subformat=streamOptimized,adapter_type=legacyESX',
];
const QCOW2_KINDS = [
  'compat=0.10',
  'compat=0.10,cluster_size=512',
  'compat=1.1,cluster_size=512',
  'compat=1.1,cluster_size=4k',
  'compat=1.1,cluster_size=1M,refcount_bits=64',
  'compat=1.1,cluster_size=2M,lazy_refcounts=on',
  'compat=1.1,refcount_bits=1',
  'compat=1.1,extended_l2=on',
  'compat=1.1,extended_l2=on,cluster_size=16k,preallocation=metadata',
  'compat=1.1,preallocation=metadata',
  'compat=1.1,preallocation=falloc',
  'compat=1.1,preallocation=full',
  'compat=1.1,compression_type=zstd',
];
/** Written with `qemu-img convert -c`. */
const PACKED_KINDS = [
  'compat=0.10',
  'compression_type=zlib',
  'compression_type=zstd',
  'compression_type=zstd,cluster_size=2M',
  'compression_type=zstd,extended_l2=on',
];

interface Converted {
  readonly vm: string;
  readonly vmId?: string;
  readonly generation: number;
  readonly disks: readonly { readonly slot: string; readonly target: string }[];
  readonly notes: readonly string[];
}

describe('hvdr convert', function () {
  this.timeout(240_000);
  let folder = '';
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'hvdr-convert-'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  /** A disk with some data, some zeros and an end that no block ends with. */
  async function makeRaw(name: string): Promise<string> {
    const file = join(folder, name);
    const bytes = Buffer.alloc(9 * MIB + 512);
    randomBytes(3 * MIB).copy(bytes, MIB);
    randomBytes(700).copy(bytes, bytes.length - 700);
    await writeFile(file, bytes);
    return file;
  }

  async function converted(args: readonly string[]): Promise<Converted> {
    const run = await runHvdr(['--json', 'convert', ...args], { folder });
    expect(run.code, run.stderr).to.equal(0);
    return JSON.parse(run.stdout.toString()) as Converted;
  }

  async function refused(args: readonly string[]): Promise<string> {
    const run = await runHvdr(['convert', ...args], { folder });
    expect(run.code).to.not.equal(0);
    return run.stderr;
  }

  async function hvdr(...args: string[]): Promise<string> {
    const run = await runHvdr(args, { folder });
    expect(run.code, run.stderr).to.equal(0);
    return run.stdout.toString();
  }

  const vmx = (disks: readonly string[], more = ''): string =>
    [
      'displayName = "SQL01"',
      'memSize = "2048"',
      ...disks.flatMap((name, index) => [
        `scsi0:${index}.present = "TRUE"`,
        `scsi0:${index}.fileName = "${name}"`,
      ]),
      more,
    ].join('\n');

  it('makes a VM of every kind of VMDK that qemu-img writes, equal to the byte', async function () {
    needTool(this, 'qemu-img');
    const raw = await makeRaw('guest.raw');
    await mkdir(join(folder, 'esx'));
    const names: string[] = [];
    for (const [index, options] of VMDK_KINDS.entries()) {
      const name = `disk-${index}.vmdk`;
      const file = join(folder, 'esx', name);
      await qemuConvert({ file: raw, format: 'raw' }, { file, format: 'vmdk', options });
      names.push(name);
    }
    await writeFile(join(folder, 'esx', 'vm.vmx'), vmx(names));
    const { disks } = await converted(['esx', '--files-only', '--restore-path', 'out']);
    expect(disks).to.have.length(VMDK_KINDS.length);
    for (const { target } of disks) await qemuCompare(raw, target);
  });

  it('makes a VM of every flavour of qcow2 that qemu-img writes, equal to the byte', async function () {
    needTool(this, 'qemu-img');
    const raw = await makeRaw('guest.raw');
    await mkdir(join(folder, 'pve'));
    const lines = ['name: web'];
    for (const [index, options] of QCOW2_KINDS.entries()) {
      const file = join(folder, 'pve', `vm-100-disk-${index}.qcow2`);
      await qemuConvert({ file: raw, format: 'raw' }, { file, format: 'qcow2', options });
      lines.push(`scsi${index}: local:100/vm-100-disk-${index}.qcow2,size=10M`);
    }
    for (const [index, options] of PACKED_KINDS.entries()) {
      const file = join(folder, 'pve', `packed-${index}.qcow2`);
      const to = ['-O', 'qcow2', '-o', options];
      await expectTool('qemu-img', ['convert', '-c', '-f', 'raw', ...to, raw, file]);
      lines.push(`sata${index}: local:packed-${index}.qcow2`);
    }
    await writeFile(join(folder, 'pve', '100.conf'), lines.join('\n'));
    const { disks } = await converted(['pve/100.conf', '--files-only', '--restore-path', 'out']);
    expect(disks).to.have.length(QCOW2_KINDS.length + PACKED_KINDS.length);
    for (const { target } of disks) await qemuCompare(raw, target);
  });

  it('takes what was zeroed in a VMDK for zeros, whether its grains say so or not', async function () {
    needTool(this, ...QEMU);
    const raw = await makeRaw('guest.raw');
    const kinds = ['zeroed_grain=on', 'zeroed_grain=off', 'zeroed_grain=on,compat6=on'];
    for (const [index, options] of kinds.entries()) {
      const file = join(folder, `disk-${index}.vmdk`);
      await qemuConvert({ file: raw, format: 'raw' }, { file, format: 'vmdk', options });
      await qemuWrite(file, 'vmdk', ['write -z 2M 256k', 'write -P 0x5a 2100k 1k']);
    }
    await qemuWrite(raw, 'raw', ['write -z 2M 256k', 'write -P 0x5a 2100k 1k']);
    await writeFile(join(folder, 'vm.vmx'), vmx(kinds.map((_kind, index) => `disk-${index}.vmdk`)));
    const { disks } = await converted(['vm.vmx', '--files-only', '--restore-path', 'out']);
    for (const { target } of disks) await qemuCompare(raw, target);
  });

  it('refuses an encrypted qcow2 by its kind of encryption, before anything is made', async function () {
    needTool(this, 'qemu-img');
    const secret = ['--object', 'secret,id=key,data=abc123'];
    const kinds = [
      ['LUKS', 'encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10'],
      ['AES', 'encrypt.format=aes,encrypt.key-secret=key'],
    ] as const;
    await writeFile(join(folder, 'vm.vmx'), vmx(['disk.qcow2']));
    for (const [kind, options] of kinds) {
      const file = join(folder, 'disk.qcow2');
      const create = ['create', '-q', ...secret, '-f', 'qcow2', '-o', options, file, '8M'];
      await expectTool('qemu-img', create);
      const stderr = await refused(['vm.vmx', '--files-only', '--restore-path', 'out']);
      expect(stderr).to.match(/^E_IMAGE_FORMAT: .*disk\.qcow2 is encrypted/);
      expect(stderr).to.contain(`(${kind})`).and.contain('its key is');
      expect(await readdir(folder)).to.not.include('out');
    }
  });

  it('registers the VM with its generation, its disks in order and its network mapped', async () => {
    await makeRaw('boot.raw');
    await makeRaw('data.raw');
    await writeFile(
      join(folder, '100.conf'),
      [
        'name: web',
        'bios: ovmf',
        'memory: 1024',
        'boot: order=scsi1',
        'scsi0: local-lvm:data,size=9M',
        'scsi1: local-lvm:boot,size=9M',
        'net0: virtio=BC:24:11:AB:CD:EF,bridge=vmbr0,tag=20',
      ].join('\n'),
    );
    await hvdr('lab', 'init', 'lab');
    await hvdr('lab', 'switch', 'lab', 'add', 'LAN');
    const stderr = await refused(['100.conf', '--host', 'lab:lab', '--restore-path', 'out']);
    expect(stderr).to.match(/^E_NET_UNMAPPED/);
    expect(await readdir(folder)).to.not.include('out');
    const args = [
      '100.conf',
      '--host',
      'lab:lab',
      '--restore-path',
      'out',
      '--network-map',
      'vmbr0=LAN',
    ];
    const planned = await converted([...args, '--plan']);
    expect(planned.vmId).to.equal(undefined);
    expect(await readdir(folder)).to.not.include('out');
    const made = await converted([...args, '--new-vm-name', 'web2']);
    expect(made).to.include({ vm: 'web2', generation: 2 });
    expect(made.disks.map(({ slot }) => slot)).to.deep.equal(['scsi1', 'scsi0']);
    const shown = JSON.parse(await hvdr('--json', 'lab', 'show', 'lab', 'web2')) as {
      generation: number;
      adapters: { switchName?: string; vlan?: number; mac: string }[];
    };
    expect(shown.generation).to.equal(2);
    expect(shown.adapters[0]).to.include({ switchName: 'LAN', vlan: 20, mac: 'BC2411ABCDEF' });
    await hvdr('lab', 'start', 'lab', 'web2');
    for (const [index, name] of ['boot.raw', 'data.raw'].entries()) {
      const read = await runHvdr(['lab', 'read', 'lab', 'web2', '--disk', `${index}`], { folder });
      const guest = await readFile(join(folder, name));
      expect(read.stdout.subarray(0, guest.length).equals(guest)).to.equal(true);
    }
    expect(await refused([...args, '--new-vm-name', 'web2'])).to.match(/^E_EXISTS/);
  });

  it('applies the deltas that lie beside an image, in their order', async () => {
    const old = await readFile(await makeRaw('disk.raw'));
    let bytes = old;
    for (const seq of ['1', '2', '10']) {
      const next = Buffer.from(bytes);
      randomBytes(65536).copy(next, 5 * MIB);
      randomBytes(512).copy(next, Number(seq) * 65536);
      await writeFile(join(folder, 'old.raw'), bytes);
      await writeFile(join(folder, 'new.raw'), next);
      await hvdr('pcbt', 'diff', 'old.raw', 'new.raw', '--out', `disk.raw.${seq}.cbt`);
      bytes = next;
    }
    await writeFile(join(folder, 'vm.vmx'), vmx(['disk.raw']));
    const { disks } = await converted(['vm.vmx', '--files-only', '--restore-path', 'out']);
    await hvdr('vhdx', 'convert', disks[0]?.target ?? '', 'back.raw');
    const back = await readFile(join(folder, 'back.raw'));
    expect(back.subarray(0, bytes.length).equals(bytes)).to.equal(true);
  });

  it('refuses images that refer to others, and leaves nothing behind', async function () {
    needTool(this, 'qemu-img');
    const raw = await makeRaw('guest.raw');
    await expectTool('qemu-img', [
      'create',
      '-q',
      '-f',
      'qcow2',
      '-b',
      raw,
      '-F',
      'raw',
      join(folder, 'child.qcow2'),
    ]);
    await writeFile(join(folder, 'good.raw'), Buffer.alloc(MIB, 1));
    await writeFile(join(folder, 'vm.vmx'), vmx(['good.raw', 'child.qcow2']));
    expect(await refused(['vm.vmx', '--files-only', '--restore-path', 'out'])).to.match(
      /^E_IMAGE_REFERENCE/,
    );
    expect(await readdir(folder)).to.not.include('out');
    await writeFile(join(folder, 'vm.vmx'), vmx(['../../etc/passwd', 'good.raw']));
    expect(await refused(['vm.vmx', '--files-only'])).to.match(/^E_NOT_FOUND: the image passwd/);
  });

  it('leaves nothing when it is stopped, and goes on after it was killed in the middle', async () => {
    const file = join(folder, 'big.raw');
    const chunk = randomBytes(8 * MIB);
    for (let part = 0; part < 48; part++) await appendFile(file, chunk);
    await writeFile(join(folder, 'vm.vmx'), vmx(['big.raw']));
    const args = ['convert', 'vm.vmx', '--files-only', '--restore-path', 'out'];
    const inWork = async (): Promise<ChildProcess> => {
      const before = await temporaries();
      const child = spawn(process.execPath, [mainProgram, ...args], {
        cwd: folder,
        stdio: 'ignore',
      });
      const isNew = (name: string): boolean => name.includes('SQL01-0') && !before.includes(name);
      while (!(await temporaries()).some(isNew)) {
        expect(child.exitCode).to.equal(null);
        await pause(5);
      }
      return child;
    };
    const temporaries = (): Promise<string[]> =>
      readdir(join(folder, 'out', 'SQL01')).catch(() => []);

    const stopped = await inWork();
    stopped.kill('SIGINT');
    await once(stopped, 'exit');
    expect(await readdir(join(folder, 'out'))).to.deep.equal([]);

    const killed = await inWork();
    killed.kill('SIGKILL');
    await once(killed, 'exit');
    expect(await temporaries()).to.include('.hvdr-converting');
    const working = await inWork();
    working.kill('SIGSTOP');
    expect(await refused(args.slice(1))).to.match(/^E_LOCKED: another process makes a VM/);
    working.kill('SIGCONT');
    await once(working, 'exit');
    expect(working.exitCode).to.equal(0);
    expect(await temporaries()).to.deep.equal(['SQL01-0.vhdx']);
    expect(await refused(args.slice(1))).to.match(/^E_EXISTS/);
  });

  it('begins anew over what a killed run left, and touches no folder that is not its own', async () => {
    await makeRaw('disk.raw');
    await writeFile(join(folder, 'vm.vmx'), vmx(['disk.raw']));
    await mkdir(join(folder, 'out', 'SQL01'), { recursive: true });
    await writeFile(join(folder, 'out', 'SQL01', 'mine.txt'), 'keep');
    expect(await refused(['vm.vmx', '--files-only', '--restore-path', 'out'])).to.match(
      /^E_EXISTS/,
    );
    expect(await readdir(join(folder, 'out', 'SQL01'))).to.deep.equal(['mine.txt']);
    await writeFile(join(folder, 'out', 'SQL01', '.hvdr-converting'), '');
    await converted(['vm.vmx', '--files-only', '--restore-path', 'out']);
    expect(await readdir(join(folder, 'out', 'SQL01'))).to.deep.equal(['SQL01-0.vhdx']);
  });
});
