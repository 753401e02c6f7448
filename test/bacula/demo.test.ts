// `hvdr demo --bacula` from end to end, and that it fails when the catalog does not say what it has to.

import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { delimiter } from 'node:path';
import { expect } from 'chai';
import { needBacula } from '../support/bacula-site.js';
import { runHvdr } from '../support/cli.js';
import { findTool, needTool } from '../support/need.js';
import { WorkFolder } from '../support/work-folder.js';

interface Result {
  readonly event: string;
  readonly isEqual?: boolean;
  readonly error?: { readonly code: string; readonly message: string };
  readonly proofs?: readonly { readonly what: string; readonly sha256?: readonly string[] }[];
}

function lastLine(stdout: Buffer): Result {
  // the contract of --json for long runs; its fields are checked below
  return JSON.parse(stdout.toString().trimEnd().split('\n').at(-1) ?? '') as Result;
}

describe('hvdr demo --bacula', function () {
  this.timeout(600_000);
  let work: WorkFolder;

  before(function () {
    needBacula(this);
    needTool(this, 'gcc');
  });

  beforeEach(() => {
    work = new WorkFolder('demo-bacula');
  });

  afterEach(() => {
    work.dispose();
  });

  it('backs up, pushes, restores, and proves each with bytes and the JobStatus of the catalog', async () => {
    const run = await runHvdr(['demo', '--bacula', '--keep', 'files', '--json'], {
      folder: work.path,
    });
    expect(run.code, run.stderr).to.equal(0);
    const result = lastLine(run.stdout);
    expect(result).to.include({ event: 'result', isEqual: true });
    const claims = result.proofs?.map(({ what }) => what) ?? [];
    for (const station of [
      /^job 1 \(Nightly, level F\) has JobStatus T and 0 errors/,
      /^job \d+ \(Nightly, level I\) has JobStatus T and 0 errors/,
      /^SQL01 at the other host is that of job \d+ \(Nightly, Incremental\), disk 0$/,
      /^SQL01 at the other host is that of job \d+ \(Nightly, Incremental\), disk 1$/,
      /^job \d+ \(Cycles, level I\) has JobStatus T and 0 errors/,
      /^SQL01 at the other host is that of job \d+ \(Cycles, Incremental\), disk 1$/,
      /^the point of job \d+ \(Direct\), disk 1 is what the guest had$/,
      /^job \d+ \(Drill, level F\) has JobStatus T and 0 errors/,
      /^job \d+ brought the report of the drill$/,
      /^the drill left nothing behind$/,
      /^job \d+ \(Nobody, level F\) has JobStatus f/,
    ]) {
      expect(
        claims.some((claim) => station.test(claim)),
        `${station}\n${claims.join('\n')}`,
      ).to.equal(true);
    }
    // states of different moments are different ones, so that equality says something
    const hashes = new Set(result.proofs?.map(({ sha256 }) => sha256?.[0]).filter(Boolean));
    expect(hashes.size).to.be.at.least(6);
    const newest = readFileSync(work.file('files/job3-disk0.raw'));
    expect(newest.equals(readFileSync(work.file('files/restore1-disk0.raw')))).to.equal(true);
  });

  it('ends with 1 and E_DIFFERENT when the catalog says of a job that it did not end well', async () => {
    const real = findTool('sqlite3') ?? '';
    const bin = work.file('sqlite3');
    writeFileSync(bin, `#!/bin/sh\n'${real}' "$@" | sed 's/"JobStatus":"T"/"JobStatus":"W"/'\n`);
    chmodSync(bin, 0o755);
    const run = await runHvdr(['demo', '--bacula', '--keep', 'files', '--json'], {
      folder: work.path,
      environment: { PATH: `${work.path}${delimiter}${process.env['PATH'] ?? ''}` },
    });
    expect(run.code).to.equal(1);
    expect(lastLine(run.stdout).error).to.include({ code: 'E_DIFFERENT' });
    expect(run.stderr).to.contain('job 1 (Nightly, level F) has JobStatus W');
  });

  it('names what is not installed, and touches nothing', async () => {
    const run = await runHvdr(['demo', '--bacula', '--keep', 'files'], {
      folder: work.path,
      environment: { PATH: work.path },
    });
    expect(run.code).to.equal(16);
    expect(run.stderr).to.match(/^E_TOOL_MISSING: not installed: .*sqlite3.*gcc/);
    expect(run.stderr).to.contain('apt-get install');
  });
});
