// What the backend process does when the product itself is at fault: an exception that nobody catches, a
// promise that nobody holds, a file of the installation that is gone. The job is red with an `A`, stderr
// stays silent, and the next job works.

import { readFileSync, writeFileSync } from 'node:fs';
import { expect } from 'chai';
import { systemClock, systemRandom } from '../../shared/clock.js';
import { nodeFileSystem } from '../../shared/files/index.js';
import { Lab } from '../../shared/hypervisor/lab/index.js';
import { beginBackendJob, type BackendProcess, startBackend } from '../support/backend-process.js';
import { runHvdr } from '../support/cli.js';
import { preloading } from '../support/preloaded.js';
import { jobLines } from '../support/ptcomm-peer.js';
import { WorkFolder } from '../support/work-folder.js';

const SEAMS = { fs: nodeFileSystem, clock: systemClock, random: systemRandom };
const DISK_BYTES = 8 * 1024 * 1024;
/** What an error of a library might quote. */
const CANARY = 'hvdrpsk1:c2VjcmV0LWNhbmFyeS1vZi10aGUtdGVzdA';

/** Does `harm` at the n-th read of a file. */
function atRead(n: number, harm: string): Readonly<Record<string, string>> {
  const source = `
import fs from 'node:fs';
const real = fs.read;
let count = 0;
fs.read = (...args) => {
  if (++count === ${String(n)}) setImmediate(() => { ${harm} });
  return real(...args);
};`;
  return { NODE_OPTIONS: preloading(source) };
}

const HARMS = {
  'an exception': `throw new TypeError('a bug, dr_psk=${CANARY}\\nsecond line')`,
  'a rejection': `void Promise.reject(new TypeError('a bug, dr_psk=${CANARY}'))`,
  'a thrown string': `throw 'a bug ${CANARY}'`,
} as const;

describe('a backend with a bug', function () {
  this.timeout(120_000);
  let folder: WorkFolder;
  let conf: string;

  before(async () => {
    folder = new WorkFolder('backend-faults');
    conf = folder.file('backend.conf');
    const lab = await Lab.create(folder.file('lab'), SEAMS);
    const vm = await lab.createVm({
      name: 'SQL01',
      disks: [{ source: { sizeBytes: DISK_BYTES } }],
    });
    await lab.startVm(vm);
    for (let at = 0; at < DISK_BYTES; at += 65_536) {
      await lab.guestWrite(vm, 0, at, Buffer.alloc(65_536, 1 + (at >> 16)));
    }
    await lab.close();
    const lines = [`host=lab:${folder.file('lab')}`, `state_dir=${folder.file('state')}`];
    writeFileSync(conf, [...lines, 'modes=backup', ''].join('\n'), { mode: 0o600 });
  });

  after(() => {
    folder.dispose();
  });

  /** Takes what the backend sends until its stdout ends; the `A` that it said. */
  async function untilFatal({ peer }: BackendProcess): Promise<string> {
    let fatal = '';
    for (;;) {
      const packet = await peer.read();
      if (packet === undefined) return fatal;
      if (packet.letter === 'A') fatal = packet.payload.toString('utf8');
    }
  }

  async function expectNothingLeft(): Promise<void> {
    const next = await beginBackendJob(conf, ['vm=SQL01', 'quiesce=no']).ended;
    expect(next.colour, next.failure).to.equal('green');
    const gc = ['--host', `lab:${folder.file('lab')}`, '--state-dir', folder.file('state')];
    const swept = await runHvdr(['gc', ...gc]);
    expect(swept.stdout.toString().trim()).to.equal('nothing is left over');
  }

  for (const [what, harm] of Object.entries(HARMS)) {
    it(`${what} that nobody expects in a backup makes the job red, and stderr stays silent`, async () => {
      const backend = startBackend(conf, atRead(40, harm));
      await backend.peer.begin(jobLines('B', 'Level=F'), ['vm=SQL01', 'quiesce=no']);
      await backend.peer.start('BackupStart');
      const fatal = await untilFatal(backend);
      expect(await backend.exit).to.deep.equal([70, null]);
      expect(fatal).to.match(/^E_INTERNAL: [^\n]*\n$/);
      // neither a secret nor the inside of the program
      expect(fatal).not.to.match(/hvdrpsk1|\.js:|node:internal/);
      expect(backend.stderr()).to.equal('');
      await expectNothingLeft();
    });
  }

  it('tells its log where it was, without the secret', () => {
    const log = readFileSync(folder.file('state/backend.log'), 'utf8');
    const failed = log.split('\n').filter((line) => line.includes('"run.failed"'));
    expect(failed).to.have.length(Object.keys(HARMS).length);
    expect(failed[0]).to.match(/"where":\["\s*at /);
    expect(log).not.to.contain('canary').and.not.to.contain(CANARY);
  });

  it('that does not load says so as a packet', async () => {
    const source = `
import { registerHooks } from 'node:module';
registerHooks({ resolve(name, context, next) {
  if (name.includes('/ptcomm-process')) throw new Error('Cannot find module ' + name);
  return next(name, context);
} });`;
    const backend = startBackend(conf, { NODE_OPTIONS: preloading(source) });
    const fatal = await untilFatal(backend);
    expect(await backend.exit).to.deep.equal([70, null]);
    expect(fatal).to.match(
      /^E_INTERNAL: the backend could not be loaded: Cannot find module .*\n$/,
    );
    expect(backend.stderr()).to.equal('');
  });
});
