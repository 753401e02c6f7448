// The backend as the File Daemon for Windows starts it, in both kinds of pipes that there are, under Wine.

import { readFileSync, writeFileSync } from 'node:fs';
import { expect } from 'chai';
import { backendOf, beginBackendJob } from '../support/backend-process.js';
import { SeededRandom } from '../support/seeded-random.js';
import { WindowsProduct } from '../support/windows-product.js';
import { needWine, windowsPath, WinePrefix } from '../support/wine.js';
import { WorkFolder } from '../support/work-folder.js';

const MIB = 1024 * 1024;
const LAB = 'C:\\lab';

describe('the backend on Windows', function () {
  this.timeout(90_000);
  let windows: WindowsProduct;
  let work: WorkFolder;
  const leftovers: (() => Promise<void> | void)[] = [];

  before(async function () {
    needWine(this);
    work = new WorkFolder('windows-backend');
    leftovers.push(() => {
      work.dispose();
    });
    const prefix = await WinePrefix.create();
    leftovers.unshift(() => prefix.dispose());
    windows = await WindowsProduct.install(prefix);
    writeFileSync(work.file('disk.raw'), new SeededRandom(3).bytes(2 * MIB));
    await windows.hvdr(['lab', 'init', LAB]);
    const image = windowsPath(work.file('disk.raw'));
    await windows.hvdr(['lab', 'create-vm', LAB, 'SQL01', '--import', image]);
    await windows.hvdr(['lab', 'start', LAB, 'SQL01']);
  });

  after(async () => {
    for (const remove of leftovers) await remove();
  });

  for (const pipes of ['named', 'anonymous'] as const) {
    it(`saves a VM through ${pipes} pipes`, async () => {
      const lines = [`host=lab:${LAB}`, `state_dir=C:\\state\\${pipes}`, 'modes=backup', ''];
      writeFileSync(work.file(pipes), lines.join('\r\n'), { mode: 0o600 });
      const job = await beginBackendJob(windowsPath(work.file(pipes)), ['vm=SQL01'], {
        start: (conf) =>
          backendOf(windows.startBackend({ pipes, environment: { HVDR_BACKEND_CONF: conf } })),
      }).ended;
      expect(job.colour, job.failure).to.equal('green');
      expect(job.exitCode).to.equal(0);
      expect(job.stderr).to.equal('');
      const disk = job.files.find(({ name }) => name.endsWith('.vhdx'));
      expect(disk?.isCutShort).to.equal(false);
      // as a restore would lay it down, and as the engine on Linux or Windows reads it
      const vhdx = windows.prefix.file(`saved-${pipes}.vhdx`);
      writeFileSync(vhdx, disk?.content ?? '');
      const raw = `C:\\saved-${pipes}.raw`;
      await windows.hvdr(['vhdx', 'convert', `C:\\saved-${pipes}.vhdx`, raw]);
      const bytes = readFileSync(windows.prefix.file(`saved-${pipes}.raw`));
      expect(bytes.equals(readFileSync(work.file('disk.raw')))).to.equal(true);
    });
  }

  it('ends when its input ends before a job has begun', async () => {
    const backend = backendOf(windows.startBackend({ pipes: 'anonymous' }));
    backend.peer.close();
    expect(await backend.exit).to.deep.equal([0, null]);
  });
});
