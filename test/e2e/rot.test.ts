// Bytes of a store that turn by themselves, as a user meets them: found with VM, disk and offset by a
// verification or by the scrub, refused, mended where anybody still has them, and in any case gone with
// the next point.

import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { CELL_BYTES } from '../../shared/delta/index.js';
import { SeededRandom } from '../support/seeded-random.js';
import { Site } from '../support/site.js';

const VM = 'SQL01';

interface Verified {
  readonly isGood: boolean;
  readonly damagedPoints: readonly string[];
  readonly repairedCells: number;
  readonly wantedCells: number;
  readonly lostFiles: readonly string[];
  readonly findings: readonly { readonly disk: string; readonly offset: number }[];
}

describe('rot in a store', function () {
  this.timeout(300_000);
  let site: Site;
  const image = (seed: number): Buffer => new SeededRandom(seed).bytes(CELL_BYTES);

  beforeEach(async () => {
    site = new Site(mkdtempSync(join(tmpdir(), 'hvdr-rot-')));
    await site.prepare();
    await site.hvdr('lab', 'create-vm', 'lab', VM, '--disk', '8M');
    await site.hvdr('lab', 'start', 'lab', VM);
    await write(3, 103);
    await write(20, 120);
    await site.startReceiver('--scrub-rate', '0');
    await site.push(VM);
    await write(40, 140);
    await site.push(VM);
  });

  afterEach(async () => {
    await site.stopReceiver('SIGKILL');
    rmSync(site.folder, { recursive: true, force: true });
  });

  /** A guest write of one whole cell. */
  async function write(cell: number, seed: number): Promise<void> {
    writeFileSync(join(site.folder, 'cell'), image(seed));
    await site.hvdr(
      ...['lab', 'write', 'lab', VM, '--disk', '0', '--offset', String(cell * CELL_BYTES)],
      ...['--file', 'cell'],
    );
  }

  function filesBelow(folder: string): string[] {
    return readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name));
  }

  /** Turns one bit of the cell with these bytes, in the file of the store that holds it. */
  function turn(seed: number, ending: string, below = 'store'): string {
    const wanted = image(seed).subarray(0, 512);
    for (const path of filesBelow(join(site.folder, below))) {
      if (!path.endsWith(ending)) continue;
      const bytes = readFileSync(path);
      const place = bytes.indexOf(wanted);
      if (place < 0) continue;
      bytes.writeUInt8(bytes.readUInt8(place + 100) ^ 4, place + 100);
      writeFileSync(path, bytes);
      return path;
    }
    throw new Error(`no ${ending} holds the cell`);
  }

  async function verify(...more: string[]): Promise<{ code: number | null; result: Verified }> {
    const run = await site.try('verify', VM, ...more, ...site.operator(), '--json');
    // the contract of `hvdr verify --json`
    const result = JSON.parse(run.stdout.toString()) as Verified;
    return { code: run.code, result };
  }

  const fromSource = (): string[] => ['--host', 'lab:lab', '--state-dir', 'state'];

  async function expectHeadGood(): Promise<void> {
    const head = (await site.points(VM)).at(-1) ?? '';
    expect(await site.pointHashes(VM, head, 1)).to.deep.equal(await site.guestHashes(VM, 1));
    expect((await verify()).code, 'the newest point reads back').to.equal(0);
  }

  it('is found in base and delta, refused, and mended from the source', async () => {
    const points = await site.points(VM);
    turn(120, 'base.vhdx');
    turn(140, '.delta');
    const { code, result } = await verify('--point', 'all');
    expect(code).to.equal(13);
    expect(result.damagedPoints).to.deep.equal(points);
    const offsets = new Set(result.findings.map(({ offset }) => offset));
    expect(offsets).to.deep.equal(new Set([20 * CELL_BYTES, 40 * CELL_BYTES]));
    const status = await site.hvdr('status', ...site.operator());
    expect(status.stdout.toString())
      .to.match(/critical/)
      .and.to.contain(`offset ${20 * CELL_BYTES}`);
    const listed = await site.hvdr('points', VM, ...site.operator());
    expect(listed.stdout.toString()).to.contain(`DAMAGED (disk ${result.findings[0]?.disk}`);
    const refused = await site.try(
      ...['export', VM, '--point', 'latest', '--disk', '0', '--format', 'raw', '--out', 'o.raw'],
      ...site.operator(),
    );
    expect(refused.code).to.equal(13);
    expect(refused.stderr).to.match(/^E_POINT_CORRUPT: /m);
    // nothing else has these bytes, so without the source they stay wanted
    const alone = await verify('--point', 'all', '--repair');
    expect(alone.code).to.equal(13);
    expect(alone.result.wantedCells).to.equal(2);
    const mended = await verify('--point', 'all', '--repair', ...fromSource());
    expect(mended.result).to.include({ isGood: true, repairedCells: 2, wantedCells: 0 });
    expect(mended.code).to.equal(0);
    await expectHeadGood();
    expect((await site.hvdr('status', '--check', ...site.operator())).code).to.equal(0);
  });

  it('is mended or sent anew by the next cycle, and the point that comes is good', async () => {
    const [seed, before] = await site.points(VM);
    turn(120, 'base.vhdx');
    turn(103, 'base.vhdx');
    expect((await verify('--point', 'all')).result.wantedCells).to.equal(2);
    // one of the two is not at the source any more
    await write(3, 999);
    const run = await site.tryPush(VM);
    expect(run.code).to.equal(3);
    expect(run.stdout.toString()).to.contain('W_REPAIR').and.to.contain('1 were mended');
    await expectHeadGood();
    // the older points show what nobody has any more
    const { result } = await verify('--point', 'all');
    expect(result.damagedPoints).to.deep.equal([seed, before]);
    expect(result.findings.map(({ offset }) => offset)).to.deep.equal(
      [3, 3].map((n) => n * CELL_BYTES),
    );
  });

  it('costs a new base when a manifest is damaged, and the point that comes is good', async () => {
    const path = turn(103, 'base.vhdx').replace('base.vhdx', 'base.manifest');
    const bytes = readFileSync(path);
    bytes.writeUInt8(bytes.readUInt8(140) ^ 1, 140);
    writeFileSync(path, bytes);
    const { result } = await verify('--point', 'all', '--repair', ...fromSource());
    expect(result.lostFiles).to.have.length(1);
    expect(result.damagedPoints).to.have.length(2);
    await write(50, 150);
    const pushed = await site.push(VM);
    expect(pushed.bytesSent).to.be.above(3 * CELL_BYTES);
    await expectHeadGood();
    await write(51, 151);
    await site.push(VM);
    await expectHeadGood();
  });

  it('makes a compare send bad cells again, as bytes and as zeros', async () => {
    turn(103, 'base.vhdx');
    turn(120, 'base.vhdx');
    expect((await verify()).code).to.equal(13);
    await write(3, 999);
    await site.hvdr(
      ...['lab', 'write', 'lab', VM, '--disk', '0', '--zero', `${20 * CELL_BYTES},${CELL_BYTES}`],
    );
    // without its ledger the source compares
    rmSync(join(site.folder, 'state'), { recursive: true });
    const pushed = await site.push(VM);
    expect(pushed.kind).to.equal('resync');
    await expectHeadGood();
  });

  it('is found by the scrub, known after a restart, and mended by the next cycle', async () => {
    await site.stopReceiver();
    turn(120, 'base.vhdx');
    // the last round was long ago
    const [vmFolder = ''] = readdirSync(join(site.folder, 'store', 'vms'));
    const state1970 = { formatVersion: 1, scrubbedAtMs: 1, repaired: [], damage: [] };
    const path = join(site.folder, 'store', 'vms', vmFolder, 'scrub.json');
    writeFileSync(path, JSON.stringify(state1970));
    await site.startReceiver('--scrub-rate', '64M/s', '--scrub-period', '1');
    interface Status {
      protections: { health: string; damagedCells: number; scrubbedAt: string | null }[];
    }
    const state = async (): Promise<Status['protections'][0] | undefined> => {
      const run = await site.hvdr('status', ...site.operator(), '--json');
      return (JSON.parse(run.stdout.toString()) as Status).protections[0];
    };
    const is1970 = (at: string | null): boolean => at?.startsWith('1970') !== false;
    const until = async (isSo: (at: Status['protections'][0]) => boolean): Promise<void> => {
      for (;;) {
        const at = await state();
        if (at !== undefined && isSo(at)) return;
        await sleep(50);
      }
    };
    await until(({ damagedCells, scrubbedAt }) => damagedCells === 1 && !is1970(scrubbedAt));
    expect((await state())?.health).to.equal('critical');
    const log = (await site.stopReceiver())?.stderr ?? '';
    expect(log).to.contain('scrub.finding').and.to.contain(VM);
    expect(log).to.contain(String(20 * CELL_BYTES));
    await site.startReceiver('--scrub-rate', '64M/s', '--scrub-period', '1');
    expect(await state()).to.include({ damagedCells: 1, health: 'critical' });
    await site.push(VM);
    expect((await state())?.damagedCells).to.equal(0);
    await expectHeadGood();
  });

  it('is no divergence; bytes that changed at the source behind its back are one', async () => {
    const agrees = await site.try(
      ...['verify', VM, '--against-source', ...fromSource(), ...site.operator()],
    );
    expect(agrees.code, agrees.stderr).to.equal(0);
    await write(60, 160);
    const changed = await site.hvdr(
      ...['verify', VM, '--against-source', ...fromSource(), ...site.operator()],
    );
    expect(changed.stdout.toString()).to.contain(
      '1 cell(s) differ, 1 of them are known as changed',
    );
    await site.hvdr('lab', 'stop', 'lab', VM);
    turn(103, '.vhdx', 'lab');
    const diverged = await site.try(
      ...['verify', VM, '--against-source', ...fromSource(), ...site.operator()],
    );
    expect(diverged.code).to.equal(1);
    expect(diverged.stderr).to.match(/^E_DIFFERENT: /m);
    expect(diverged.stdout.toString()).to.contain(`offset ${3 * CELL_BYTES}`);
    const show = await site.hvdr('lab', 'show', 'lab', VM);
    expect(show.stdout.toString(), 'the checkpoint was given back').not.to.contain('recovery');
  });

  it('a look with another state folder takes nothing from the agent', async () => {
    await write(41, 141);
    const elsewhere = ['--host', 'lab:lab', '--state-dir', 'elsewhere'];
    const compared = await site.try(
      ...['verify', VM, '--against-source', ...elsewhere, ...site.operator()],
    );
    expect(compared.code, compared.stderr).to.equal(0);
    await site.hvdr(
      ...['seed', '--vm', VM, '--to', 'media:medium', '--psk-file', 'keys/source.psk'],
      ...['--host', 'lab:lab', '--state-dir', 'elsewhere2'],
    );
    turn(120, 'base.vhdx');
    expect((await verify('--repair', ...elsewhere)).result).to.include({ isGood: true });
    expect((await site.push(VM)).kind).to.equal('delta');
    await expectHeadGood();
  });

  it('what cannot be meant is refused, and a plan makes no folder', async () => {
    const all = await site.try(
      ...['verify', VM, '--against-source', '--point', 'all', ...fromSource(), ...site.operator()],
    );
    expect(all.code).to.equal(2);
    expect(all.stderr).to.contain('compares one point');
    const forget = await site.try('gc', '--forget', ...site.operator());
    expect(forget.code).to.equal(2);
    expect(forget.stderr).to.contain('--forget is about a source');
    const days = await site.try('gc', '--unfinished-days', '3', ...fromSource());
    expect(days.code).to.equal(2);
    expect(days.stderr).to.contain('--unfinished-days is about a receiver');
    await site.hvdr('gc', '--plan', '--host', 'lab:lab', '--state-dir', 'new');
    expect(existsSync(join(site.folder, 'new'))).to.equal(false);
  });

  it('gc removes what is ours and of no use, on both sides, and names the rest', async () => {
    const vmFolder = join(
      site.folder,
      'store',
      'vms',
      readdirSync(join(site.folder, 'store', 'vms'))[0] ?? '',
    );
    const foreignCycle = join(vmFolder, 'cycles', '00000000-0000-4000-9000-00000000abcd');
    mkdirSync(foreignCycle);
    writeFileSync(join(foreignCycle, 'disk.delta'), 'a point that only a newer journal knew');
    writeFileSync(join(site.folder, 'store', 'notes.txt'), 'of an operator');
    const leftover = join(vmFolder, '.scrub.json.0123abcd.unfinished');
    writeFileSync(leftover, '{');
    await site.hvdr('lab', 'fault', 'lab', VM, 'set', 'foreign-checkpoint');
    writeFileSync(join(site.folder, 'state', 'notes.txt'), 'of an operator');
    const gone = '00000000-0000-4000-9000-0000000000aa';
    writeFileSync(join(site.folder, 'state', `${gone}.lock`), ' ');
    writeFileSync(join(site.folder, 'state', `${gone}.json`), '{}');
    const both = [...site.operator(), ...fromSource()];
    const plan = await site.hvdr('gc', '--plan', ...both);
    const text = plan.stdout.toString();
    expect(text).to.match(/would go: receiver: temporary-file.*\.scrub\.json/);
    expect(text).to.match(/stays: receiver: unknown-cycle.*abcd/);
    expect(text).to.match(/stays: receiver: foreign-file: notes\.txt/);
    expect(text).not.to.contain('.lock');
    expect(text).to.match(/stays: source: ledger: .*aa\.json/);
    expect(text).to.match(/stays: source: foreign-checkpoint of SQL01/);
    expect(text).to.match(/stays: source: foreign-file: notes\.txt/);
    expect(existsSync(leftover), 'a plan does nothing').to.equal(true);
    const done = await site.hvdr('gc', ...both);
    expect(done.stdout.toString()).to.match(/removed: receiver: temporary-file/);
    expect(existsSync(leftover)).to.equal(false);
    for (const path of ['store/notes.txt', 'state/notes.txt', `state/${gone}.json`]) {
      expect(existsSync(join(site.folder, path)), path).to.equal(true);
    }
    await site.hvdr('gc', '--forget', ...both);
    expect(existsSync(join(site.folder, 'state', `${gone}.json`))).to.equal(false);
    // a lease that is removed may be held at that very moment
    expect(existsSync(join(site.folder, 'state', `${gone}.lock`))).to.equal(true);
    const shown = await site.hvdr('lab', 'show', 'lab', VM);
    expect(shown.stdout.toString()).to.contain('foreign');
    await site.hvdr('lab', 'fault', 'lab', VM, 'clear', 'foreign-checkpoint');
    // the next commit tidies up, and leaves the cycle that nobody knows
    await site.push(VM);
    await site.push(VM);
    expect(readFileSync(join(foreignCycle, 'disk.delta'), 'utf8')).to.contain('a point');
    const status = await site.hvdr('status', ...site.operator());
    expect(status.stdout.toString()).to.contain('not in the journal');
    await expectHeadGood();
  });
});
