// How a push is told: the line and the document of each outcome, totals, and `hvdr parameters`.

import { expect } from 'chai';
import { DrError } from '../../../shared/errors.js';
import {
  type CycleOutcome,
  type CycleResult,
  outcomeDocument,
  outcomeLine,
  type RunReport,
  totalsLine,
  vmDocument,
} from '../../../source-agent/index.js';
import { runInProcess } from '../../support/cli.js';
import { testGuid } from '../../support/fake-source-hypervisor.js';
import { MemoryFileSystem } from '../../support/memory-file.js';

const MIB = 2 ** 20;

const result: CycleResult = {
  vmId: testGuid(1),
  vmName: 'SQL01',
  kind: 'delta',
  pointId: testGuid(0x1f3a),
  cycleId: testGuid(3),
  bytesSent: 42 * MIB,
  disks: [0, 1].map((number) => ({
    diskId: testGuid(number),
    how: 'dirty',
    because: '7 cells changed',
    dataBytes: 21 * MIB,
    reusedBytes: 0,
    repeatedBytes: 0,
  })),
  consistency: 'application',
  consistentAtMs: 0,
  ageSeconds: 412,
  durationMs: 1234,
  warnings: [],
  notes: [],
};
const done: CycleOutcome = { kind: 'done', result };
const failed: CycleOutcome = {
  kind: 'failed',
  error: new DrError('E_CHECKPOINT', 'no space for a checkpoint'),
};
const vm = { id: testGuid(1), name: 'SQL01' };

function reportOf(...outcomes: readonly CycleOutcome[]): RunReport {
  return {
    vms: outcomes.map((last, index) => ({
      vmId: testGuid(index),
      vmName: `vm${index}`,
      cycleCount: 1,
      failureCount: last.kind === 'failed' ? 1 : 0,
      warningCount: 0,
      bytesSent: last.kind === 'done' ? 42 * MIB : 0,
      rpoSeconds: 600,
      last,
      lastDone: undefined,
    })),
    abortedBy: undefined,
    isStopped: false,
    warnings: [],
  };
}

describe('push: what is printed', () => {
  it('has a line for each VM', () => {
    expect(outcomeLine('SQL01', done, 600)).to.equal(
      'SQL01 delta 42 MiB, 2 disks, app-consistent, RPO 412/600 s, point 0000',
    );
    const [first] = result.disks;
    const repeated =
      first === undefined ? [] : [{ ...first, repeatedBytes: MIB, reusedBytes: MIB }];
    const broken = {
      ...result,
      disks: repeated,
      consistency: 'crash',
      notes: ['kept for you'],
    } as const;
    expect(outcomeLine('SQL01', { kind: 'done', result: broken }, 600)).to.equal(
      'SQL01 delta 42 MiB, 1 disk, crash-consistent, RPO 412/600 s, point 0000, ' +
        '1 MiB sent again after a break, 1 MiB taken from what the receiver had\n  kept for you',
    );
    expect(outcomeLine('SQL01', failed, 600)).to.match(/^SQL01 failed, E_CHECKPOINT: no space/);
    expect(outcomeLine('SQL01', { kind: 'stopped' }, 600)).to.contain('stays owed');
  });

  it('has the fields that scripts rely on', () => {
    expect(outcomeDocument(vm, done, 600)).to.include({
      vm: 'SQL01',
      kind: 'delta',
      bytesSent: 42 * MIB,
      point: testGuid(0x1f3a),
    });
    const document = outcomeDocument(vm, failed, 600);
    expect(document).to.include({ kind: 'failed' });
    expect(JSON.stringify(document)).to.contain('E_CHECKPOINT');
    const [first] = reportOf(done).vms;
    if (first !== undefined) expect(vmDocument(first)).to.include({ cycles: 1, failures: 0 });
  });

  it('ends with totals', () => {
    expect(totalsLine(reportOf(done, done, failed), 1234)).to.equal(
      '3 VMs: 2 done, 1 failed; 84 MiB sent, 1.2 s',
    );
  });
});

describe('hvdr parameters', () => {
  it('tells where each value comes from, and hides secrets', async () => {
    const files = new MemoryFileSystem();
    files.put('/p.conf', Buffer.from('dr_psk=correct horse battery\ndr_psk_id=k\ntimeout=7\n'));
    const plugin = 'podheitor-hyperv: vm="my vm" config_file=/p.conf';
    const run = await runInProcess(['parameters', '--plugin', plugin], { files });
    expect(run.code).to.equal(0);
    expect(run.stdout).to.match(/^vm +my vm {2}\(Plugin string\)$/m);
    expect(run.stdout).to.match(/^timeout +7 {2}\(config file\)$/m);
    expect(run.stdout).to.match(/^dr_port +9847 {2}\(default\)$/m);
    expect(run.stdout).not.to.contain('horse');
    const json = await runInProcess(['parameters', '--plugin', plugin, '--json'], { files });
    expect(json.stdout).not.to.contain('horse');
    const parsed = JSON.parse(json.stdout) as { parameters: { name: string; value: unknown }[] };
    expect(parsed.parameters.find(({ name }) => name === 'quiesce')?.value).to.equal(true);
  });

  it('refuses as a job would', async () => {
    const run = await runInProcess(['parameters', '--plugin', 'podheitor-hyperv: push_cycles=x']);
    expect(run.code).to.equal(2);
    expect(run.stderr).to.contain('E_PARAMETER: push_cycles').and.to.contain('whole number');
  });
});

describe('hvdr push: usage', () => {
  const CASES: readonly (readonly [readonly string[], string])[] = [
    [['push', '--dr-host', 'h', '--psk-file', 'k'], 'host'],
    [['push', '--host', 'lab:x', '--psk-file', 'k'], 'dr_host'],
    [['push', '--host', 'lab:x', '--dr-host', 'h', '--quiesce', 'perhaps'], 'quiesce'],
    [
      ['push', '--host', 'lab:x', '--dr-host', 'h', '--psk-file', 'k', '--dr-psk', 'env:X'],
      'dr_psk',
    ],
  ];
  for (const [args, word] of CASES) {
    it(`refuses ${args.slice(1).join(' ')}`, async () => {
      const files = new MemoryFileSystem();
      const run = await runInProcess(args, { files });
      expect(run.code, run.stderr).to.be.oneOf([2, 16]);
      expect(run.stderr).to.contain(word);
    });
  }

  it('names every parameter in --help', async () => {
    const { stdout, code } = await runInProcess(['push', '--help']);
    expect(code).to.equal(0);
    for (const flag of ['--vm', '--rpo-seconds', '--psk-file', '--bandwidth', '--on-partial']) {
      expect(stdout).to.contain(flag);
    }
  });
});
