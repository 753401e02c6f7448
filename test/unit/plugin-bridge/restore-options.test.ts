import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import {
  readRestoreOptions,
  RESTORE_OPTIONS_FILE,
  withRestoreOptions,
} from '../../../plugin-bridge/restore-options.js';
import { type FileStatus, type FileSystem, nodeFileSystem } from '../../../shared/files/index.js';
import type { GivenParameter } from '../../../shared/params/index.js';
import { refusal } from '../../support/refusal.js';
import { WorkFolder } from '../../support/work-folder.js';

describe('what podheitor-restore.conf says of a restore', () => {
  let work: WorkFolder;
  let where: string;
  beforeEach(() => {
    work = new WorkFolder('options');
    where = work.file('where');
    mkdirSync(where, { mode: 0o700 });
  });
  afterEach(() => {
    work.dispose();
  });

  function write(...lines: readonly string[]): void {
    writeFileSync(path.join(where, RESTORE_OPTIONS_FILE), lines.join('\n'), { mode: 0o600 });
  }

  /** Everything is as it is, but for what is said of one file. */
  function telling(name: string, told: Partial<FileStatus>): FileSystem {
    return {
      ...nodeFileSystem,
      status: async (file) => {
        const status = await nodeFileSystem.status(file);
        return status !== undefined && path.basename(file) === name
          ? { ...status, ...told }
          : status;
      },
    };
  }

  const read = (
    fs: FileSystem = nodeFileSystem,
    roots?: readonly string[],
  ): Promise<readonly GivenParameter[]> => readRestoreOptions(fs, { where, roots });
  const pairs = (given: readonly GivenParameter[]): string[] =>
    given.map(({ key, value }) => `${key}=${value}`);

  it('is nothing without the file, and in a job without a folder', async () => {
    expect(await read()).to.deep.equal([]);
    write('replace_vm=yes');
    for (const elsewhere of ['', 'where', '/']) {
      expect(
        await readRestoreOptions(nodeFileSystem, { where: elsewhere, roots: undefined }),
        elsewhere,
      ).to.deep.equal([]);
    }
  });

  it('takes the place of the words of the line', async () => {
    write('# one restore', '', 'new_vm_name = "SQL 02"', 'restore_to=disks');
    const given = await read(nodeFileSystem, [work.path]);
    expect(pairs(given)).to.deep.equal(['new_vm_name=SQL 02', 'restore_to=disks']);
    const word = { origin: 'Plugin string', place: 'Plugin string' } as const;
    const line = [
      { key: 'vm', value: 'SQL*', ...word },
      { key: 'restore_to', value: 'files', ...word },
    ];
    expect(pairs(withRestoreOptions(line, given))).to.deep.equal([
      'vm=SQL*',
      'new_vm_name=SQL 02',
      'restore_to=disks',
    ]);
  });

  it('is refused with a key that is not for a restore, named with its line', async () => {
    for (const key of ['host', 'mode', 'dr_psk_file', 'state_dir', 'nonsense']) {
      write('replace_vm=yes', `${key}=x`);
      const error = await refusal(() => read());
      expect(error.code, key).to.equal('E_PARAMETER');
      expect(error.line).to.contain(`line 2 of ${where}/`).and.to.contain(key);
    }
  });

  it('is refused when the file or its folder is not the administrator’s alone', async () => {
    write('replace_vm=yes');
    for (const name of [RESTORE_OPTIONS_FILE, 'where']) {
      for (const told of [{ isChangeableByOthers: true }, { isOwnedByAnother: true }]) {
        const error = await refusal(() => read(telling(name, told)));
        expect(error.code, name).to.equal('E_STATE');
      }
    }
  });

  it('is refused behind a link', async () => {
    writeFileSync(work.file('target'), 'replace_vm=yes', { mode: 0o600 });
    symlinkSync(work.file('target'), path.join(where, RESTORE_OPTIONS_FILE));
    expect((await refusal(() => read())).code).to.equal('E_STATE');
  });

  it('is refused outside of the restore roots, also when the folder is a link', async () => {
    write('replace_vm=yes');
    mkdirSync(work.file('root'));
    const outside = await refusal(() => read(nodeFileSystem, [work.file('root')]));
    expect(outside.code).to.equal('E_RESTORE_PATH');
    symlinkSync(where, work.file('root/link'));
    where = work.file('root/link');
    const linked = await refusal(() => read(nodeFileSystem, [work.file('root')]));
    expect(linked.code).to.equal('E_RESTORE_PATH');
  });

  it('is known to be owned by who runs this', async () => {
    write('replace_vm=yes');
    const status = await nodeFileSystem.status(path.join(where, RESTORE_OPTIONS_FILE));
    expect(status?.isOwnedByAnother).to.equal(process.platform === 'win32' ? undefined : false);
  });
});
