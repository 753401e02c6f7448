// What a job restores of a foreign VM becomes a VM of a real lab host.

import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { type ConversionPorts, openConversion } from '../../../../plugin-bridge/convert/restore.js';
import type { RestoreEntry, RestoreWork } from '../../../../plugin-bridge/restore/index.js';
import { defined } from '../../../../shared/assert.js';
import { systemClock, systemRandom } from '../../../../shared/clock.js';
import { DrError } from '../../../../shared/errors.js';
import { type FileSystem, nodeFileSystem } from '../../../../shared/files/index.js';
import { openHypervisor } from '../../../../shared/hypervisor/index.js';
import { silentLog } from '../../../../shared/log.js';
import { resolveParameters } from '../../../../shared/params/index.js';
import { runHvdr } from '../../../support/cli.js';
import { needTool, skipBecause } from '../../../support/need.js';
import { qemuConvert } from '../../../support/qemu.js';

const MIB = 1024 * 1024;
const CONF =
  'name: web\nbios: ovmf\nscsi0: local:vm-100-disk-0,size=5M\nnet0: e1000,bridge=vmbr0\n';

type Given = readonly (readonly [path: string, bytes: Buffer, sizeBytes?: number])[];

describe('a restore of a foreign VM', function () {
  this.timeout(120_000);
  let folder = '';
  let host: Awaited<ReturnType<ConversionPorts['host']>>;
  let said: string[] = [];
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'hvdr-foreign-'));
    said = [];
    for (const args of [
      ['lab', 'init', 'lab'],
      ['lab', 'switch', 'lab', 'add', 'LAN'],
    ]) {
      expect((await runHvdr(args, { folder })).code).to.equal(0);
    }
    host = await openHypervisor(`lab:${join(folder, 'lab')}`, {
      fs: nodeFileSystem,
      clock: systemClock,
      random: systemRandom,
      log: silentLog,
    });
  });
  afterEach(async () => {
    await host.close();
    await rm(folder, { recursive: true, force: true });
  });

  function work(
    options: Readonly<Record<string, string>> = {},
    fs: FileSystem = nodeFileSystem,
  ): RestoreWork {
    const given = Object.entries({ network_map: 'vmbr0=LAN,VM Network=LAN', ...options }).map(
      ([key, value]) => ({ key, value, origin: 'Plugin string' as const, place: key }),
    );
    const { values } = resolveParameters(given);
    return openConversion({ jobId: 7, where: folder, regexWhere: '' }, values, {
      fs,
      random: systemRandom,
      roots: undefined,
      host: () => Promise.resolve(host),
      signal: new AbortController().signal,
      say: (_kind, text) => said.push(text),
    });
  }

  function entry(path: string, sizeBytes: number): RestoreEntry {
    const namespace = '@proxmox_';
    const placedAt = `${folder}/${namespace}/${path}`;
    return { path, namespace, placedAt, kind: 'file', sizeBytes, modifiedAtMs: 0 };
  }

  /** In pieces that are no cell, as a session hands them on. */
  async function* pieces(bytes: Buffer): AsyncGenerator<Buffer> {
    for (let at = 0; at < bytes.length; at += 65_000) {
      yield await Promise.resolve(bytes.subarray(at, at + 65_000));
    }
  }

  async function deliver(to: RestoreWork, files: Given): Promise<void> {
    for (const [path, bytes, sizeBytes = bytes.length] of files) {
      if ((await to.begin(entry(path, sizeBytes))) !== 'take') continue;
      await to.data(pieces(bytes));
      await to.endFile();
    }
  }

  async function codeOf(run: () => Promise<unknown>): Promise<string> {
    try {
      await run();
    } catch (error) {
      if (error instanceof DrError) return error.code;
      throw error;
    }
    return 'nothing';
  }

  async function guestBytes(name: string): Promise<Buffer> {
    await runHvdr(['lab', 'start', 'lab', name], { folder });
    return (await runHvdr(['lab', 'read', 'lab', name, '--disk', '0'], { folder })).stdout;
  }

  function guestDisk(): Buffer {
    const bytes = Buffer.alloc(5 * MIB);
    randomBytes(MIB + 777).copy(bytes, 2 * MIB - 100);
    return bytes;
  }

  it('lays a raw disk into a VHDX without a copy, applies its deltas, and registers the VM', async () => {
    const bytes = guestDisk();
    const later = Buffer.from(bytes);
    randomBytes(512).copy(later, 4 * MIB);
    await writeFile(join(folder, 'a.raw'), bytes);
    await writeFile(join(folder, 'b.raw'), later);
    const diff = ['pcbt', 'diff', 'a.raw', 'b.raw', '--out', 'd.cbt'];
    expect((await runHvdr(diff, { folder })).code).to.equal(0);
    const restore = work();
    await deliver(restore, [
      ['web/disks/vm-100-disk-0', bytes],
      ['web/disks/vm-100-disk-0.1.cbt', await readFile(join(folder, 'd.cbt'))],
      ['web/logs/task.log', Buffer.from('left out')],
      ['web/config/100.conf', Buffer.from(CONF)],
    ]);
    await restore.finish();
    const vm = defined((await host.listVms())[0], 'the VM was registered');
    const { generation, adapters } = await host.describeVm(vm.id);
    expect(generation).to.equal(2);
    expect(adapters[0]?.switchName).to.equal('LAN');
    expect((await guestBytes('web')).equals(later)).to.equal(true);
    expect(await readdir(join(folder, '@proxmox_'))).to.deep.equal(['web']);
    expect(said.join('\n')).to.match(/web is registered as/);
  });

  it('takes a VMDK by way of qemu-img', async function () {
    needTool(this, 'qemu-img');
    const bytes = guestDisk();
    await writeFile(join(folder, 'a.raw'), bytes);
    const file = join(folder, 'boot.vmdk');
    await qemuConvert(
      { file: join(folder, 'a.raw'), format: 'raw' },
      { file, format: 'vmdk', options: 'subformat=streamOptimized' },
    );
    const vmx = 'displayName = "esx1"\nscsi0:0.present = "TRUE"\nscsi0:0.fileName = "boot.vmdk"\n';
    const restore = work({ new_vm_name: 'moved' });
    await deliver(restore, [
      ['esx1/esx1.vmx', Buffer.from(vmx)],
      ['esx1/boot.vmdk', await readFile(file)],
    ]);
    await restore.finish();
    expect((await guestBytes('moved')).equals(bytes)).to.equal(true);
  });

  it('makes nothing of a VM that lacks a disk, a configuration or bytes, or has a delta of another disk', async () => {
    const bytes = guestDisk();
    const lacking: readonly (readonly [Given, string])[] = [
      [[['web/config/100.conf', Buffer.from(CONF)]], 'E_NOT_FOUND'],
      [[['web/disks/vm-100-disk-0', bytes]], 'E_CONVERT_CONFIG'],
      [[], 'E_NO_MATCH'],
      [
        [
          ['web/config/100.conf', Buffer.from(CONF)],
          ['web/disks/vm-100-disk-0', bytes],
          ['web/disks/vm-100-disk-1.1.cbt', Buffer.from('PCBT')],
        ],
        'E_CONVERT_CONFIG',
      ],
    ];
    for (const [files, code] of lacking) {
      const restore = work();
      await deliver(restore, files);
      expect(await codeOf(() => restore.finish())).to.equal(code);
    }
    const short = work();
    const cut: Given = [['web/disks/vm-100-disk-0', bytes.subarray(0, MIB), bytes.length]];
    expect(await codeOf(() => deliver(short, cut))).to.equal('E_DISK_MISMATCH');
    await deliver(short, [['web/100.conf', Buffer.from(CONF)]]);
    expect(await codeOf(() => short.finish())).to.equal('E_PARTIAL');
    expect(await host.listVms()).to.deep.equal([]);
    expect(await readdir(join(folder, '@proxmox_'))).to.deep.equal([]);
  });

  it('takes no file for which there is no room, nor the rest of its VM, and makes the other VMs', async () => {
    const bytes = guestDisk();
    const fs = { ...nodeFileSystem, freeBytes: () => Promise.resolve(40 * MIB) };
    const restore = work({}, fs);
    const image = 'db/disks/vm-101-disk-0.qcow2';
    expect(await restore.begin(entry('db/config/101.conf', 100))).to.equal('take');
    await restore.data(pieces(Buffer.from(CONF)));
    await restore.endFile();
    const told = /E_CAPACITY: vm-101-disk-0\.qcow2 has 41943041 bytes, .* has 41943040 free/;
    let line = '';
    await restore.begin(entry(image, 40 * MIB + 1)).catch((error: unknown) => {
      line = error instanceof DrError ? error.line : '';
    });
    expect(line).to.match(told);
    expect(await restore.begin(entry('db/disks/vm-101-disk-1.qcow2', 100))).to.equal('skip');
    await deliver(restore, [
      ['web/config/100.conf', Buffer.from(CONF)],
      ['web/disks/vm-100-disk-0', bytes],
    ]);
    expect(await codeOf(() => restore.finish())).to.equal('E_PARTIAL');
    expect((await guestBytes('web')).equals(bytes)).to.equal(true);
    expect(await readdir(join(folder, '@proxmox_'))).to.deep.equal(['web']);
  });

  it('asks for the room of what is unpacked before a disk is made', async function () {
    needTool(this, 'qemu-img');
    await writeFile(join(folder, 'a.raw'), Buffer.alloc(16 * MIB, 'text '));
    const file = join(folder, 'boot.vmdk');
    await qemuConvert(
      { file: join(folder, 'a.raw'), format: 'raw' },
      { file, format: 'vmdk', options: 'subformat=streamOptimized' },
    );
    const vmx = 'displayName = "esx1"\nscsi0:0.present = "TRUE"\nscsi0:0.fileName = "boot.vmdk"\n';
    const folders: string[] = [];
    const narrow = {
      ...nodeFileSystem,
      freeBytes: () => Promise.resolve(39 * MIB),
      makeFolder: (path: string) => {
        folders.push(path);
        return nodeFileSystem.makeFolder(path);
      },
    };
    const restore = work({}, narrow);
    await deliver(restore, [
      ['esx1/esx1.vmx', Buffer.from(vmx)],
      ['esx1/boot.vmdk', await readFile(file)],
    ]);
    expect(await codeOf(() => restore.finish())).to.equal('E_CAPACITY');
    expect(folders.filter((path) => path.endsWith('esx1'))).to.deep.equal([]);
    expect(said.join('\n')).to.match(/esx1 was not converted: E_CAPACITY: .* 40894464 bytes free/);
    expect(await readdir(join(folder, '@proxmox_'))).to.deep.equal([]);
    expect(await host.listVms()).to.deep.equal([]);
  });

  it('lets a raw disk come that is larger than the volume, and leaves nothing when it does not fit', async function () {
    const volume = join(folder, 'volume');
    await mkdir(volume);
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', volume]);
    if (mounted.status !== 0) skipBecause(this, 'a small tmpfs cannot be mounted (needs root)');
    try {
      const thin = Buffer.alloc(48 * MIB);
      randomBytes(MIB).copy(thin, 40 * MIB);
      const files = (disk: Buffer): Given => [
        ['web/disks/vm-100-disk-0', disk],
        ['web/config/100.conf', Buffer.from(CONF)],
      ];
      const full = work({ restore_path: volume });
      const tooMuch = randomBytes(24 * MIB);
      expect(await codeOf(() => deliver(full, files(tooMuch)))).to.equal('E_CAPACITY');
      expect(await codeOf(() => full.finish())).to.equal('E_PARTIAL');
      expect(await readdir(join(volume, '@proxmox_'))).to.deep.equal([]);
      const restore = work({ restore_path: volume });
      await deliver(restore, files(thin));
      await restore.finish();
      expect((await guestBytes('web')).equals(thin)).to.equal(true);
      await runHvdr(['lab', 'stop', 'lab', 'web', '--turn-off'], { folder });
    } finally {
      spawnSync('umount', [volume]);
    }
  });

  it('leaves nothing when it is cancelled, and the next job removes what a killed one left', async () => {
    const killed = work();
    await deliver(killed, [['web/config/100.conf', Buffer.from(CONF)]]);
    const cancelled = work();
    await deliver(cancelled, [['web/config/100.conf', Buffer.from(CONF)]]);
    await cancelled.abandon();
    const root = join(folder, '@proxmox_');
    const left = (await readdir(root)).filter((name) => !name.endsWith('.lock'));
    expect(left, 'a job that works is not touched').to.have.length(1);
    await killed.abandon();
    // as a killed process leaves it: the lock is there, and nobody holds it
    await mkdir(join(root, '.hvdr-incoming-3-0badcafe', 'vm-0'), { recursive: true });
    await writeFile(join(root, '.hvdr-incoming-3-0badcafe', 'vm-0', 'x.raw'), 'x');
    await writeFile(join(root, '.hvdr-incoming-3-0badcafe.lock'), '');
    const next = work();
    await deliver(next, [['web/config/100.conf', Buffer.from(CONF)]]);
    await next.abandon();
    expect(await readdir(root)).to.deep.equal([]);
  });

  it('says where the disks stand when the host takes no VM', async () => {
    const refusing = new DrError('E_HYPERVISOR', 'the host takes no VM');
    host.registerVm = () => Promise.reject(refusing);
    const restore = work();
    await deliver(restore, [
      ['web/disks/vm-100-disk-0', guestDisk()],
      ['web/config/100.conf', Buffer.from(CONF)],
    ]);
    expect(await codeOf(() => restore.finish())).to.equal('E_HYPERVISOR');
    expect(said.join('\n')).to.include(join(folder, '@proxmox_', 'web', 'web-0.vhdx'));
    expect(await readdir(join(folder, '@proxmox_', 'web'))).to.deep.equal(['web-0.vhdx']);
  });

  it('takes no name that leads elsewhere', async () => {
    for (const path of ['../x/a.raw', 'web/../../a.raw', 'web/CON.raw', 'web/a:b.raw']) {
      expect(await codeOf(() => work().begin(entry(path, 1))), path).to.equal('E_RESTORE_PATH');
    }
  });
});
