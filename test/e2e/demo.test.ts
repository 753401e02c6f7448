// `hvdr demo` from end to end, and that it fails when a comparison does.

import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { expect } from 'chai';
import { runHvdr } from '../support/cli.js';

interface Result {
  readonly event: string;
  readonly isEqual?: boolean;
  readonly error?: { readonly code: string };
  readonly proofs?: readonly {
    readonly what: string;
    readonly command: string;
    readonly isEqual: boolean;
  }[];
  readonly timeline?: readonly { readonly site: string }[];
  readonly next?: readonly string[];
}

function lastLine(stdout: Buffer): Result {
  const lines = stdout.toString().trimEnd().split('\n');
  // the contract of --json for long runs; its fields are checked below
  return JSON.parse(lines.at(-1) ?? '') as Result;
}

describe('hvdr demo', () => {
  let folder: string;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'hvdr-demo-'));
  });

  afterEach(() => {
    rmSync(folder, { recursive: true });
  });

  it('replicates, survives its accidents and proves every point equal', async function () {
    this.timeout(600_000);
    const run = await runHvdr(['demo', '--keep', 'files', '--json'], { folder });
    expect(run.code, run.stderr).to.equal(0);
    const result = lastLine(run.stdout);
    expect(result).to.include({ event: 'result', isEqual: true });
    // four points of two disks, the image of the second day, and the rotten byte
    expect(result.proofs).to.have.length.of.at.least(10);
    expect(result.next).to.have.length(3);
    const claims = result.proofs?.map(({ what }) => what).join('\n');
    for (const station of [
      'a test of MOVE01 runs on its bytes',
      'MOVE01 at the DR site is what it was when its primary stopped',
      'MOVE01 is home with all that was written at the DR site',
      'cycles of MOVE01 go on as deltas',
      'LOST01 runs on the older point',
      'LOST01 runs on the newest point',
      'LOST01 stays at the DR site',
      'the primary that came back does not start its old LOST01',
      'the disk that LOST01 left at the primary was only read',
      'LOST01 is home with all that was written since the accident',
      'the point of LOST01 with which its protection begins again',
    ]) {
      expect(claims).to.contain(station);
    }
    expect(result.timeline?.map(({ site }) => site)).to.include.members(['primary', 'wire', 'dr']);

    const hash = (name: string): string =>
      createHash('sha256')
        .update(readFileSync(join(folder, 'files', name)))
        .digest('hex');
    expect(hash('point2-disk0.raw')).to.equal(hash('tuesday.img'));
    expect(hash('point1-disk0.raw')).to.equal(hash('monday.img'));
    expect(hash('monday.img')).not.to.equal(hash('tuesday.img'));
    // nothing goes on running, so the store is free for who looks at it next
    const points = await runHvdr(['points', 'SQL01', '--store', 'files/dr-store'], { folder });
    expect(points.code, points.stderr).to.equal(0);
    // a retired protection keeps the name of its VM, and whoever asks is told which is which
    const both = await runHvdr(['points', 'LOST01', '--store', 'files/dr-store'], { folder });
    expect(both.code).to.equal(2);
    expect(both.stderr).to.match(/2 VMs are named LOST01: .*\(retired\).*hvdr forget ID/);
    const status = await runHvdr(['status', '--store', 'files/dr-store'], { folder });
    expect(status.stdout.toString())
      .to.match(/^LOST01 \([0-9a-f-]{36}\) {2}PROTECTED /m)
      .and.match(/^LOST01 \([0-9a-f-]{36}\) {2}COMMITTED /m)
      .and.include('LOST01 was left at this site');
  });

  it('ends with 1 and E_DIFFERENT when a judge disagrees', async function () {
    this.timeout(600_000);
    const bin = join(folder, 'bin');
    mkdirSync(bin);
    writeFileSync(join(bin, 'qemu-img'), '#!/bin/sh\nexit 1\n');
    chmodSync(join(bin, 'qemu-img'), 0o755);
    const run = await runHvdr(['demo', '--keep', 'files', '--json'], {
      folder,
      environment: { PATH: `${bin}${delimiter}${process.env['PATH'] ?? ''}` },
    });
    expect(run.code).to.equal(1);
    expect(lastLine(run.stdout).error?.code).to.equal('E_DIFFERENT');
    expect(run.stderr).to.contain('qemu-img agrees');
  });

  it('does not touch a folder that exists', async () => {
    const run = await runHvdr(['demo', '--keep', '.'], { folder });
    expect(run.code).to.equal(33);
    expect(run.stderr).to.match(/^E_EXISTS: /);
  });
});
