import { expect } from 'chai';
import { collectRestoreSessions } from '../../../../plugin-bridge/restore/index.js';
import { defined } from '../../../../shared/assert.js';
import { DrError } from '../../../../shared/errors.js';
import {
  BackedUpVm,
  definitionWith,
  deliver,
  entryOf,
  type JobFile,
  pieces,
  selected,
} from '../../../support/backup-job.js';
import { CrashFileSystem } from '../../../support/crash-file.js';
import { FaultFileSystem } from '../../../support/fault-file.js';
import { refusal } from '../../../support/refusal.js';
import { RestoreSite, WHERE } from '../../../support/restore-site.js';
import { SeededRandom } from '../../../support/seeded-random.js';

const MIB = 1024 * 1024;
const ROOT = `${WHERE}/@hyperv`;

interface Chain {
  readonly vm: BackedUpVm;
  readonly full: readonly JobFile[];
  readonly first: readonly JobFile[];
  readonly second: readonly JobFile[];
}

async function chain(seed = 3): Promise<Chain> {
  const vm = new BackedUpVm(definitionWith('SQL01', [2 * MIB + 512, MIB]), seed);
  vm.write(8);
  const full = await vm.full();
  vm.write(5);
  const first = await vm.incremental();
  vm.write(5);
  const second = await vm.incremental();
  return { vm, full, first, second };
}

function all({ full, first, second }: Chain): JobFile[] {
  return selected(full, first, second);
}

async function expectDisks(site: RestoreSite, { vm }: Chain, root = ROOT): Promise<void> {
  for (const [index, { diskId }] of vm.definition.disks.entries()) {
    const bytes = await site.diskBytes(`${root}/${vm.names.base(diskId)}`);
    expect(bytes.equals(vm.disks[index] ?? Buffer.alloc(0)), `disk ${index}`).to.equal(true);
  }
}

function without(files: readonly JobFile[], part: string | RegExp): JobFile[] {
  return files.filter(({ path }) => path.search(part) < 0);
}

function tampered(files: readonly JobFile[], part: RegExp, position: number): JobFile[] {
  return files.map((file) => {
    if (!part.test(file.path) || file.bytes.length < Math.abs(position)) return file;
    const bytes = Buffer.from(file.bytes);
    const at = position < 0 ? bytes.length + position : position;
    bytes.writeUInt8(bytes.readUInt8(at) ^ 0x40, at);
    return { ...file, bytes };
  });
}

async function vmNames(site: RestoreSite): Promise<string[]> {
  return (await (await site.lab()).listVms()).map(({ name }) => name);
}

describe('restore of a Bacula job', function () {
  this.timeout(120_000);
  let site: RestoreSite;
  let made: Chain;
  beforeEach(async () => {
    site = await RestoreSite.make();
    made = await chain();
  });

  it('leads every disk to the newest point and registers the VM over them', async () => {
    expect(await site.restore(all(made))).to.deep.equal([]);
    await expectDisks(site, made);
    const lab = await site.lab();
    const [found] = (await lab.listVms()).filter(({ name }) => name === 'SQL01');
    expect(found?.powerState).to.equal('off');
    const vm = await lab.describeVm(found?.id ?? made.vm.definition.id);
    expect(vm.disks.map(({ path }) => path)).to.deep.equal(
      made.vm.definition.disks.map(({ diskId }) => `${ROOT}/${made.vm.names.base(diskId)}`),
    );
    const [adapter] = vm.adapters;
    expect([adapter?.mac, adapter?.switchName, adapter?.vlan]).to.deep.equal([
      '00155D0A0B0C',
      'LAN',
      7,
    ]);
    expect(await lab.tagOf(vm.id)).to.equal(undefined);
  });

  it('leaves nothing of its session, and no file that has no name of its own', async () => {
    await site.restore(all(made));
    expect(await site.filesBelow('/state')).to.deep.equal([]);
    const names = (await site.filesBelow(ROOT)).filter((file) => /restoring|unfinished/.test(file));
    expect(names).to.deep.equal([]);
  });

  it('gives the same disks in whatever order the files come', async () => {
    for (let seed = 1; seed <= 25; seed++) {
      const random = new SeededRandom(seed);
      const files = all(made);
      for (let at = files.length - 1; at > 0; at--) {
        const other = random.int(at + 1);
        const [moved] = files.splice(other, 1, ...files.slice(at, at + 1));
        files.splice(at, 1, ...(moved === undefined ? [] : [moved]));
      }
      const fresh = await RestoreSite.make();
      expect(await fresh.restore(files), `seed ${seed}`).to.deep.equal([]);
      await expectDisks(fresh, made);
      expect(await vmNames(fresh)).to.include('SQL01');
    }
  });

  it('goes on with what another backend of the job took', async () => {
    const files = all(made);
    const one = await site.work();
    const other = await site.work();
    for (const [index, file] of files.entries()) {
      await deliver(index % 2 === 0 ? one : other, file, WHERE);
    }
    await one.finish();
    await other.finish();
    await expectDisks(site, made);
    expect((await vmNames(site)).filter((name) => name === 'SQL01')).to.have.length(1);
    expect(await site.filesBelow('/state')).to.deep.equal([]);
  });

  describe('files that do not lead to a point', () => {
    it('a delta without its base is refused, and names what to select', async () => {
      const files = selected(made.first, made.second);
      const error = await refusal(() => site.restore(files));
      expect(error.code).to.equal('E_RESTORE_CHAIN');
      const [disk] = made.vm.definition.disks;
      expect(error.message).to.include(disk?.diskId ?? '-');
      expect(error.hint).to.include(`@hyperv/${made.vm.names.base(disk?.diskId ?? made.vm.point)}`);
      expect(await vmNames(site)).to.not.include('SQL01');
    });

    it('a delta in the middle that is missing is named', async () => {
      const [lost] = made.first.filter(({ path }) => path.endsWith('.cbt'));
      const error = await refusal(() => site.restore(without(all(made), lost?.path ?? '-')));
      expect(error.code).to.equal('E_RESTORE_CHAIN');
      expect(error.hint).to.include(lost?.path);
      expect(await vmNames(site)).to.not.include('SQL01');
    });

    it('a delta whose manifest is missing names the manifest', async () => {
      const [lost] = made.second.filter(({ path }) => path.endsWith('.manifest'));
      const error = await refusal(() => site.restore(without(all(made), lost?.path ?? '-')));
      expect(error.code).to.equal('E_RESTORE_CHAIN');
      expect(error.hint).to.include(lost?.path);
    });

    it('a whole job between two others that is missing is refused', async () => {
      const error = await refusal(() => site.restore(selected(made.full, made.second)));
      expect(error.code).to.equal('E_RESTORE_CHAIN');
    });

    it('a disk of the VM that was not selected keeps the VM from being registered', async () => {
      const [, second] = made.vm.definition.disks;
      const files = without(all(made), second?.diskId ?? '-');
      const error = await refusal(() => site.restore(files));
      expect(error.code).to.equal('E_RESTORE_CHAIN');
      expect(error.message).to.include(second?.diskId);
      expect(await vmNames(site)).to.not.include('SQL01');
    });

    it('deltas of two branches are refused', async () => {
      const other = made.vm.branch(77);
      other.write(4);
      const stray = without(await other.incremental(), /vm\.json|rct-state/);
      made.vm.write(4);
      const third = await made.vm.incremental();
      const files = selected(made.full, made.first, made.second, stray, third);
      const error = await refusal(() => site.restore(files));
      expect(error.code).to.equal('E_RESTORE_CHAIN');
      expect(error.message).to.include('two branches');
      expect(await vmNames(site)).to.not.include('SQL01');
    });

    it('deltas that a newer base has left behind do no harm', async () => {
      made.vm.write(4);
      const whole = await made.vm.full();
      expect(await site.restore(selected(made.full, made.first, made.second, whole))).to.deep.equal(
        [],
      );
      await expectDisks(site, made);
      expect(await vmNames(site)).to.include('SQL01');
    });
  });

  describe('bytes that are not those of the backup', () => {
    const cases: readonly (readonly [string, RegExp, number])[] = [
      ['a base', /\.vhdx$/, -5000],
      ['a delta', /\d\.cbt$/, -5000],
      ['the manifest of a base', /vhdx\.manifest$/, 200],
      ['the manifest of a delta', /\d\.manifest$/, 140],
    ];
    for (const [what, part, position] of cases) {
      it(`${what}: one byte is found, and no VM is registered`, async () => {
        const [, target] = made.vm.definition.disks;
        const own = new RegExp(`${target?.diskId ?? '-'}.*${part.source}`);
        const failed: unknown[] = [];
        const error = await refusal(async () => {
          failed.push(...(await site.restore(tampered(all(made), own, position))));
        });
        expect(['E_RESTORE_CORRUPT', 'E_RESTORE_CHAIN']).to.include(error.code);
        expect(`${error.message} ${error.hint}`).to.include(target?.diskId);
        expect(await vmNames(site)).to.not.include('SQL01');
        const file = `${ROOT}/${made.vm.names.base(target?.diskId ?? made.vm.point)}`;
        expect(await site.volume.status(file)).to.equal(undefined);
      });
    }

    it('a byte of a base is told with its disk and guest offset', async () => {
      const error = await refusal(() => site.restore(tampered(made.full, /0002\.vhdx$/, -5000)));
      expect(error.code).to.equal('E_RESTORE_CORRUPT');
      expect(error.context).to.include.keys('diskId', 'offset');
    });
  });

  describe('a part of a backup', () => {
    it('one disk is restored to its point, and no VM', async () => {
      const [disk] = made.vm.definition.disks;
      const files = all(made).filter(({ path }) => path.includes(disk?.diskId ?? '-'));
      expect(await site.restore(files)).to.deep.equal([]);
      const bytes = await site.diskBytes(
        `${ROOT}/${made.vm.names.base(disk?.diskId ?? made.vm.point)}`,
      );
      expect(bytes.equals(made.vm.disks[0] ?? Buffer.alloc(0))).to.equal(true);
      expect(await vmNames(site)).to.not.include('SQL01');
    });

    it('a base without its manifest is restored with a warning', async () => {
      const files = made.full.filter(({ path }) => path.endsWith('.vhdx'));
      expect(await site.restore(files)).to.deep.equal([]);
      expect(site.said.filter((line) => line.startsWith('warning:'))).to.have.length(2);
    });

    it('a base that ends before its stated length is refused, and so is its manifest', async () => {
      for (const name of ['.vhdx', '.vhdx.manifest']) {
        const [file] = made.full.filter(({ path }) => path.endsWith(name));
        if (file === undefined) throw new Error(`the job has no ${name}`);
        const work = await site.work();
        expect(await work.begin(entryOf(file, WHERE))).to.equal('take');
        const error = await refusal(() => work.data(pieces(file.bytes.subarray(0, -1))));
        expect(error.code).to.equal('E_RESTORE_CORRUPT');
        await work.finish();
        expect(await site.filesBelow(WHERE)).to.deep.equal([]);
      }
    });

    it('the configuration alone is restored as a file', async () => {
      await site.restore(made.full.filter(({ path }) => path.endsWith('vm.json')));
      expect(await site.filesBelow(WHERE)).to.deep.equal([`${ROOT}/${made.vm.names.config}`]);
      expect(await vmNames(site)).to.not.include('SQL01');
    });

    it('restore_to=disks registers nothing', async () => {
      await site.restore(all(made), { values: { restore_to: 'disks' } });
      await expectDisks(site, made);
      expect(await vmNames(site)).to.not.include('SQL01');
    });

    it('restore_to=files hands out what the jobs hold', async () => {
      const files = all(made);
      await site.restore(files, { values: { restore_to: 'files' } });
      for (const { path, bytes } of files) {
        const file = await site.volume.open(`${ROOT}/${path}`, { mode: 'read' });
        const found = Buffer.alloc(bytes.length);
        await file.read(0, found);
        expect((await file.size()) === bytes.length && found.equals(bytes), path).to.equal(true);
        await file.close();
      }
      expect(await site.filesBelow(WHERE)).to.have.length(files.length);
    });
  });

  describe('the VM', () => {
    it('gets a new name, GUID and MACs, and stays off the network', async () => {
      await site.restore(all(made), { values: { new_vm_name: 'SQL01-copy' } });
      const lab = await site.lab();
      const [found] = (await lab.listVms()).filter(({ name }) => name === 'SQL01-copy');
      const vm = await lab.describeVm(found?.id ?? made.vm.definition.id);
      expect(vm.id).to.not.equal(made.vm.definition.id);
      expect(vm.isAutoStart).to.equal(false);
      expect(vm.adapters[0]?.mac).to.not.equal('00155D0A0B0C');
      expect(vm.adapters[0]?.switchName).to.equal(undefined);
    });

    it('is gone when it cannot be connected, and the next restore makes it', async () => {
      const host = await site.lab();
      host.listSwitches = () => Promise.reject(new DrError('E_HYPERVISOR', 'no answer'));
      expect((await refusal(() => site.restore(all(made), { host }))).code).to.equal(
        'E_HYPERVISOR',
      );
      const namesAt = async (): Promise<string[]> =>
        (await (await site.lab()).listVms()).map(({ name }) => name);
      expect(await namesAt()).to.deep.equal(['other']);
      await expectDisks(site, made);
      await site.restore(all(made), { job: { jobId: 8, name: 'b' } });
      expect(await namesAt()).to.have.members(['other', 'SQL01']);
    });

    it('does not take the place of another one, and its disks stay ready', async () => {
      await (await site.lab()).createVm({ name: 'SQL01' });
      const error = await refusal(() => site.restore(all(made)));
      expect(error.code).to.equal('E_RESTORE_VM');
      await expectDisks(site, made);
    });

    it('takes the place of one that runs when replace_vm says so, and its disks stay', async () => {
      const lab = await site.lab();
      const former = await lab.createVm({ name: 'SQL01', disks: [{ source: { sizeBytes: MIB } }] });
      const { disks } = await lab.describeVm(former);
      await lab.startVm(former);
      expect((await refusal(() => site.restore(all(made)))).code).to.equal('E_RESTORE_VM');
      await site.restore(all(made), { values: { replace_vm: true }, job: { jobId: 8, name: 'b' } });
      const vms = (await lab.listVms()).filter(({ name }) => name === 'SQL01');
      expect(vms.map(({ id }) => id)).to.not.include(former);
      expect(vms).to.have.length(1);
      expect(await site.volume.status(disks[0]?.path ?? '-')).to.not.equal(undefined);
      expect(site.said.join('\n')).to.include(disks[0]?.path);
    });

    it('does not get a file replaced that a VM uses', async () => {
      await site.restore(all(made));
      const failed = await refusal(() => site.restore(all(made), { job: { jobId: 8, name: 'b' } }));
      expect(failed.code).to.be.oneOf(['E_RESTORE_VM', 'E_RESTORE_CHAIN']);
      await expectDisks(site, made);
    });

    it('to its original place stands in a folder of the job at the host', async () => {
      await site.restore(all(made), { job: { where: '' } });
      const root = `${await (await site.lab()).defaultVmFolder()}/restore-7/@hyperv`;
      await expectDisks(site, made, root);
    });
  });

  describe('Replace', () => {
    it('never leaves a disk that is there, and registers no VM', async () => {
      await site.restore(made.full, { values: { restore_to: 'disks' } });
      const before = await site.filesBelow(ROOT);
      await site.restore(all(made), { job: { jobId: 8, name: 'b', replace: 'n' } });
      expect(await site.filesBelow(ROOT)).to.deep.equal(before);
      expect(await vmNames(site)).to.not.include('SQL01');
    });

    it('always puts the restored disk in its place', async () => {
      await site.restore(made.full, { values: { restore_to: 'disks' } });
      await site.restore(all(made), { job: { jobId: 8, name: 'b' } });
      await expectDisks(site, made);
    });
  });

  describe('names', () => {
    for (const path of [
      '../x',
      'SQL01/../../etc/passwd',
      '/etc/passwd',
      'SQL01//x',
      'SQL01/disks/a\\b',
      'SQL01/disks/c:stream',
      'SQL01/disks/con.vhdx',
      'SQL01/disks/trailing. ',
      'SQL01/disks/\u202egnp.exe',
      'SQL01/disks/a\u0000b',
      `SQL01/${'x'.repeat(300)}`,
    ]) {
      it(`${JSON.stringify(path.slice(0, 30))} is refused, and nothing is written`, async () => {
        for (const restore_to of ['vm', 'files'] as const) {
          const work = await site.work({ values: { restore_to } });
          const file = { path, bytes: Buffer.from('x') };
          expect((await refusal(() => deliver(work, file, WHERE))).code).to.equal('E_RESTORE_PATH');
          await work.abandon();
        }
        expect(await site.filesBelow(WHERE)).to.deep.equal([]);
      });
    }

    it('a folder outside of the restore roots is refused', async () => {
      const work = await site.work({ roots: ['/srv/restore'] });
      const file = defined(made.full[0], 'a job has files');
      const error = await refusal(() => deliver(work, file, WHERE));
      expect(error.code).to.equal('E_RESTORE_PATH');
      expect(error.hint).to.include('/srv/restore');
      await work.abandon();
    });
  });

  describe('a job that ends early', () => {
    it('leaves nothing when it is cancelled', async () => {
      const work = await site.work();
      for (const file of all(made).slice(0, 6)) await deliver(work, file, WHERE);
      await work.abandon();
      expect(await site.filesBelow('/state')).to.deep.equal([]);
      expect(await site.filesBelow(WHERE)).to.deep.equal([]);
    });

    it('stays while another backend of the job lives', async () => {
      const one = await site.work();
      const other = await site.work();
      const files = all(made);
      for (const file of files.slice(0, 4)) await deliver(one, file, WHERE);
      await one.abandon();
      for (const file of files.slice(4)) await deliver(other, file, WHERE);
      await other.finish();
      await expectDisks(site, made);
    });

    it('is red when the volume is full, and a later job is right', async () => {
      const full = new FaultFileSystem(site.volume);
      full.inject({
        kind: 'write',
        path: /restoring/,
        nth: 3,
        times: Infinity,
        code: 'E_CAPACITY',
      });
      await refusal(() => site.restore(all(made), { fs: full }));
      expect(await vmNames(site)).to.not.include('SQL01');
      expect(await site.filesBelow(`${ROOT}/SQL01/disks`)).to.deep.equal([]);
      await site.restore(all(made), { job: { jobId: 8, name: 'b' } });
      await expectDisks(site, made);
    });

    it('is collected when nobody keeps its session alive, also with a record that rotted', async () => {
      const work = await site.work();
      const files = all(made);
      for (const file of files.slice(0, 6)) await deliver(work, file, WHERE);
      const collect = (isPlan: boolean): Promise<readonly unknown[]> =>
        collectRestoreSessions(site.volume, '/state', { isPlan });
      expect(await collect(false)).to.deep.equal([]);
      // a process that is gone holds no lock
      const dead = new CrashFileSystem({ volume: site.volume });
      dead.crashNow();
      const left = dead.survivors(1, 'all');
      const [record] = (await left.list('/state/restore-7/items')).filter((name) =>
        name.endsWith('.json'),
      );
      const file = await left.open(`/state/restore-7/items/${record ?? '-'}`, { mode: 'write' });
      await file.truncate(3);
      await file.close();
      expect(await collectRestoreSessions(left, '/state', { isPlan: true })).to.have.length(1);
      const [gone] = await collectRestoreSessions(left, '/state', { isPlan: false });
      expect(gone?.isRemoved).to.equal(true);
      expect(await RestoreSite.over(left).filesBelow('/state')).to.deep.equal([]);
      await work.abandon();
    });
  });
});
