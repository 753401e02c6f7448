// TLS below the seal, as a user turns it on: receiver with certificate, source and operator commands
// with dr_tls_*. The certificates of test/golden/tls are for dr.example and 127.0.0.1.

import { chmodSync, copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { checkoutFolder } from '../support/checkout.js';
import type { CliRun } from '../support/cli.js';
import { Site } from '../support/site.js';

const GOLDEN = join(checkoutFolder, 'test/golden/tls');
const FILES = ['ours.crt', 'theirs.crt', 'server.crt', 'client.crt', 'stranger.crt'];
const KEYS = ['server.key', 'client.key', 'stranger.key'];

const SERVER = ['--tls-cert', 'server.crt', '--tls-key', 'server.key'];
const OURS = ['--dr-tls-ca', 'ours.crt'];
const certificate = (name: string): string[] => [
  ...['--dr-tls-cert', `${name}.crt`, '--dr-tls-key', `${name}.key`],
];

describe('TLS below the seal', () => {
  let site: Site;

  before(async () => {
    site = new Site(mkdtempSync(join(tmpdir(), 'hvdr-tls-')));
    for (const name of [...FILES, ...KEYS]) copyFileSync(join(GOLDEN, name), file(name));
    for (const name of KEYS) chmodSync(file(name), 0o600);
    await site.prepare();
    await site.hvdr('lab', 'create-vm', 'lab', 'SQL01', '--disk', '1M');
    await site.hvdr('lab', 'write', 'lab', 'SQL01', '--random', '4', '--seed', '7');
  });

  afterEach(() => site.stopReceiver('SIGKILL'));

  after(() => {
    rmSync(site.folder, { recursive: true, force: true });
  });

  const file = (name: string): string => join(site.folder, name);
  const ask = (...more: string[]): Promise<CliRun> =>
    site.try('status', ...site.operator(), ...more);

  function expectRefused(run: CliRun, words: RegExp): void {
    expect(run.stderr).to.match(/^E_TLS: /m);
    expect(run.stderr).to.match(words);
    expect(run.code).to.equal(41);
  }

  it('carries a push and the commands that ask the receiver', async () => {
    await site.startReceiver(...SERVER);
    const hashes = await site.guestHashes('SQL01', 1);
    const { point } = await site.push('SQL01', ...OURS, '--dr-tls-name', 'dr.example');
    const status = await ask(...OURS);
    expect(status.code, status.stderr).to.equal(0);
    await site.hvdr(
      ...['export', 'SQL01', '--point', point, '--format', 'raw', '--out', 'out.raw'],
      ...site.operator(),
      ...OURS,
    );
    const read = await site.hvdr('lab', 'read', 'lab', 'SQL01');
    expect(readFileSync(file('out.raw')).equals(read.stdout)).to.equal(true);
    expect(hashes).to.have.length(1);
    const doctor = await site.try(
      'doctor',
      '--psk-file',
      'keys/source.psk',
      ...OURS,
      '--json',
      ...[...['--dr-host', '127.0.0.1', '--dr-port', String(site.port)]],
    );
    expect(doctor.stdout.toString()).to.contain('takes the key; first answer');
  });

  it('is refused with another authority, another name, and when only one side asks for it', async () => {
    await site.startReceiver(...SERVER);
    expectRefused(await ask('--dr-tls-ca', 'theirs.crt'), /not from the authority that dr_tls_ca/);
    expectRefused(
      await ask(...OURS, '--dr-tls-name', 'dr2.example'),
      /not for the name dr2\.example/,
    );
    expectRefused(await ask(), /TLS is asked for there only/);
    const pushed = await site.tryPush('SQL01', '--dr-tls-ca', 'theirs.crt');
    expect(pushed.code).to.equal(41);
    expect(pushed.vms[0]?.error?.code).to.equal('E_TLS');
    await site.stopReceiver();
    await site.startReceiver();
    expectRefused(await ask(...OURS), /TLS is asked for here only/);
  });

  it('wants a certificate of its peers when it has an authority for them', async () => {
    await site.startReceiver(...SERVER, '--tls-client-ca', 'ours.crt');
    const good = await ask(...OURS, ...certificate('client'));
    expect(good.code, good.stderr).to.equal(0);
    expectRefused(await ask(...OURS), /wants a certificate of this side/);
    const stranger = await ask(...OURS, ...certificate('stranger'));
    expect(stranger.code).to.equal(21);
    expect(stranger.stderr).to.match(/may not accept the certificate of dr_tls_cert/);
    const { stderr } = (await site.stopReceiver()) ?? { stderr: '' };
    expect(stderr).to.match(
      /TLS: \w*PEER_DID_NOT_RETURN_A_CERTIFICATE.*channel\.handshake-refused/,
    );
    expect(stderr).to.match(/TLS: UNABLE_TO_VERIFY_LEAF_SIGNATURE.*channel\.handshake-refused/);
  });

  it('says which file cannot be used, and refuses a key that others may read', async () => {
    writeFileSync(file('garbage.crt'), 'no certificate');
    writeFileSync(
      file('broken.crt'),
      '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n',
    );
    copyFileSync(file('server.key'), file('open.key'));
    chmodSync(file('open.key'), 0o644);
    const receiver = (...tls: string[]): string[] => [
      ...['receiver', '--store', 'none', '--listen', '127.0.0.1:0', '--psk-file', 'keys', ...tls],
    ];
    const cases: readonly (readonly [readonly string[], RegExp])[] = [
      [['--tls-cert', 'none.crt', '--tls-key', 'server.key'], /^E_NOT_FOUND: .*none\.crt/],
      [['--tls-cert', 'garbage.crt', '--tls-key', 'server.key'], /^E_TLS: .*garbage\.crt/],
      [['--tls-cert', 'broken.crt', '--tls-key', 'server.key'], /^E_TLS: .*broken\.crt/],
      [['--tls-cert', 'server.crt', '--tls-key', 'garbage.crt'], /^E_KEY_FILE: .*garbage\.crt/],
      [
        ['--tls-cert', 'server.crt', '--tls-key', 'client.key'],
        /^E_TLS: .*client\.key is not that/,
      ],
      [['--tls-cert', 'server.crt', '--tls-key', 'open.key'], /^E_KEY_FILE: others .*chmod 600/],
      [['--tls-cert', 'server.crt'], /^E_USAGE: TLS needs a certificate and its key/],
      [['--tls-client-ca', 'ours.crt'], /^E_USAGE: TLS needs a certificate and its key/],
    ];
    for (const [tls, words] of cases) {
      const run = await site.try(...receiver(...tls));
      expect(run.stderr, tls.join(' ')).to.match(words);
    }
    const half = await ask(...OURS, '--dr-tls-cert', 'client.crt');
    expect(half.stderr).to.match(/^E_PARAMETER: dr_tls_cert and dr_tls_key/);
    const exposed = await ask(...OURS, '--dr-tls-cert', 'server.crt', '--dr-tls-key', 'open.key');
    expect(exposed.stderr).to.match(/^E_KEY_FILE: /);
  });
});
