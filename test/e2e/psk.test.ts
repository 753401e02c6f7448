// `hvdr psk` as a user runs it.

import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { expect } from 'chai';
import { runHvdr, runHvdrJson, runInProcess } from '../support/cli.js';
import { WorkFolder } from '../support/work-folder.js';

const STORE = '2f6a1c70-8a53-4f0e-9a3d-5b1d8f7f0c11';
const PASSPHRASE = 'able zebra moon quick tree lamp fork seven';

describe('hvdr psk', () => {
  const work = new WorkFolder('psk');

  after(() => {
    work.dispose();
  });

  const hvdr = (...args: string[]): ReturnType<typeof runHvdr> =>
    runHvdr(args, { folder: work.path });

  it('makes a key that its owner alone can read, and shows everything but the key', async () => {
    const made = await hvdr(
      ...['psk', 'generate', '--out', 'a.psk', '--id', 'sql-1', '--principal', 'sql-host'],
      ...['--vms', 'SQL*', '--receiver-id', STORE, '--receiver', 'dr.example:9847'],
    );
    expect(made.code, made.stderr).to.equal(0);
    if (process.platform !== 'win32') {
      expect(statSync(work.file('a.psk')).mode & 0o777).to.equal(0o600);
    }
    const text = readFileSync(work.file('a.psk'), 'utf8');
    const secret = /hvdrpsk1:(\S+)/.exec(text)?.[1] ?? '';
    expect(secret).to.have.length.above(60);
    const { run, document } = await runHvdrJson(['psk', 'inspect', 'a.psk'], { folder: work.path });
    expect(run.code, run.stderr).to.equal(0);
    expect(document).to.include({
      id: 'sql-1',
      principal: 'sql-host',
      role: 'source',
      vms: 'SQL*',
      ageDays: 0,
      receiverId: STORE,
    });
    const shown = await hvdr('psk', 'inspect', 'a.psk');
    for (const output of [made, run, shown]) {
      expect(`${output.stdout.toString()}${output.stderr}`).not.to.contain(secret.slice(0, 24));
    }
    expect(shown.stdout.toString()).to.match(/principal\s+sql-host/);
  });

  it('refuses a store that is none, for it would refuse every receiver later', async () => {
    const made = await hvdr('psk', 'generate', '--out', 'pin.psk', '--receiver-id', 'store-9');
    expect(made.code).to.equal(2);
    expect(made.stderr).to.match(/store-9 is no id of a store.*storeId/);
  });

  it('makes keys of every role with a random id', async () => {
    const ids = new Set<unknown>();
    for (const role of ['source', 'viewer', 'drill', 'operator']) {
      const file = `${role}.psk`;
      const made = await runHvdrJson(['psk', 'generate', '--out', file, '--role', role], {
        folder: work.path,
      });
      expect(made.run.code, made.run.stderr).to.equal(0);
      expect(made.document).to.include({ role });
      ids.add((made.document as { id: unknown }).id);
    }
    expect(ids.size).to.equal(4);
  });

  it('never replaces a file', async () => {
    writeFileSync(work.file('there.psk'), 'precious');
    const run = await hvdr('psk', 'generate', '--out', 'there.psk');
    expect(run.stderr).to.contain('E_EXISTS');
    expect(readFileSync(work.file('there.psk'), 'utf8')).to.equal('precious');
  });

  it('refuses wrong ids, roles and passphrases in the command line', async () => {
    const wrong: readonly (readonly string[])[] = [
      ['--id', 'a b'],
      ['--role', 'root'],
      ['--principal', 'a\u001b[2J'],
      ['--vms', ''],
      ['--from-passphrase', 'my secret passphrase here'],
      ['--from-passphrase', 'env:P', '--role', 'operator', '--id', 'x'],
      ['--from-passphrase', 'env:P'],
      ['--from-passphrase', 'env:P', '--id', 'x', '--principal', 'y'],
    ];
    for (const args of wrong) {
      const run = await runInProcess(['psk', 'generate', '--out', 'wrong.psk', ...args], {
        folder: work.path,
        environment: { P: PASSPHRASE },
      });
      expect(run.code, args.join(' ')).to.equal(2);
      expect(run.stderr).not.to.contain('my secret passphrase');
      expect(run.stderr).not.to.contain('\u001b');
    }
  });

  it('makes the same key of a passphrase from environment, file and standard input', async function () {
    this.timeout(240_000);
    writeFileSync(work.file('pass.txt'), `${PASSPHRASE}\r\n`);
    const made: string[] = [];
    for (const [index, where] of ['env:P', 'file:pass.txt', '-'].entries()) {
      const run = await runHvdr(
        ['psk', 'generate', '--out', `p${index}.psk`, '--id', 'branch', '--from-passphrase', where],
        {
          folder: work.path,
          input: Buffer.from(`${PASSPHRASE}\n`),
          environment: { P: PASSPHRASE },
        },
      );
      expect(run.code, run.stderr).to.equal(0);
      expect(`${run.stdout.toString()}${run.stderr}`).not.to.contain('zebra');
      const text = readFileSync(work.file(`p${index}.psk`), 'utf8');
      const line = /hvdrpsk1:(\S+)/.exec(text)?.[1] ?? '';
      // the secret stands in front, the time of its making behind it
      made.push(Buffer.from(line, 'base64url').subarray(0, 32).toString('hex'));
    }
    expect(new Set(made).size).to.equal(1);
    const weak = await runHvdr(
      ['psk', 'generate', '--out', 'w.psk', '--id', 'branch', '--from-passphrase', '-'],
      { folder: work.path, input: Buffer.from('secret') },
    );
    expect(weak.code).to.equal(41);
    expect(weak.stderr).to.contain('E_KEY_WEAK');
  });
});
