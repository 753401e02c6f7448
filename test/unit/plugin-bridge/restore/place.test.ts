import { mkdirSync, symlinkSync } from 'node:fs';
import { expect } from 'chai';
import { confinedFolder } from '../../../../plugin-bridge/restore/place.js';
import { nodeFileSystem } from '../../../../shared/files/index.js';
import { refusal } from '../../../support/refusal.js';
import { WorkFolder } from '../../../support/work-folder.js';

describe('the folder of a restored file', () => {
  let work: WorkFolder;
  beforeEach(() => {
    work = new WorkFolder('place');
    for (const name of ['allowed', 'allowed/restore', 'elsewhere']) mkdirSync(work.file(name));
  });
  afterEach(() => work.dispose());

  const make = (below: readonly string[], root = 'allowed/restore'): Promise<string> =>
    confinedFolder(nodeFileSystem, work.file(root), below, [work.file('allowed')]);

  it('is made below the folder of the restore', async () => {
    expect(await make(['SQL01', 'disks'])).to.equal(work.file('allowed/restore/SQL01/disks'));
  });

  it('is refused when a link leads out of it', async () => {
    symlinkSync(work.file('elsewhere'), work.file('allowed/restore/SQL01'));
    expect((await refusal(() => make(['SQL01', 'disks']))).code).to.equal('E_RESTORE_PATH');
  });

  it('may be a link that stays inside', async () => {
    mkdirSync(work.file('allowed/restore/real'));
    symlinkSync(work.file('allowed/restore/real'), work.file('allowed/restore/SQL01'));
    expect(await make(['SQL01'])).to.equal(work.file('allowed/restore/SQL01'));
  });

  it('is refused when the folder of the restore is a link out of the restore roots', async () => {
    symlinkSync(work.file('elsewhere'), work.file('allowed/out'));
    expect((await refusal(() => make([], 'allowed/out/deeper'))).code).to.equal('E_RESTORE_PATH');
  });
});
