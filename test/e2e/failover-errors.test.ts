// What the command line says when a failover is refused or fails: the code, the exit code, and a remedy
// whose commands exist. Two lab sites and a receiver as a process; the commands run in this process.

import { spawnSync } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { type CapturedRun, runInProcess } from '../support/cli.js';
import { CATALOGUE, type ErrorCode } from '../../shared/errors.js';
import { unknownCommands } from '../support/named-commands.js';
import { Site } from '../support/site.js';
import { skipBecause } from '../support/need.js';
import { WorkFolder } from '../support/work-folder.js';

/** failover.md § 6. */
const EXITS = {
  ...{ E_STATE: 10, E_NOT_PROTECTED: 10, E_NOT_FAILED_OVER: 10, E_NOTHING_TO_UNDO: 10 },
  ...{ E_COMMITTED: 10, E_FAILED_OVER: 10, E_UNCOMMITTED: 10, E_LOCKED: 11, E_NO_POINT: 12 },
  ...{ E_NO_MATCH: 12, E_POINT_CORRUPT: 13, E_SOURCE_ALIVE: 20, E_SOURCE_UNREACHABLE: 21 },
  ...{ E_SHUTDOWN_TIMEOUT: 22, E_FINAL_SYNC_FAILED: 23, E_STALE_EPOCH: 24, E_SPLIT_BRAIN: 25 },
  ...{ E_HALTED: 26, E_NET_UNMAPPED: 30, E_NOT_ISOLATED: 30, E_REIP_INVALID: 31 },
  ...{ E_REIP_CONFLICT: 31, E_REIP_GUEST: 31, E_CAPACITY: 32, E_DISK_MISMATCH: 33, E_EXISTS: 33 },
  ...{ E_BASE_LOST: 34, E_RESYNC_RUNNING: 34, E_CONSISTENCY: 35, E_CONFIRM: 40, E_AUTH: 41 },
  ...{ E_REPLAY: 41, E_VERSION: 41, E_IO: 16, E_STALLED: 42, E_NOT_FOUND: 16 },
} as const satisfies Partial<Record<ErrorCode, number>>;

type FailoverCode = keyof typeof EXITS;

describe('errors of the failover commands', function () {
  this.timeout(240_000);
  const work = new WorkFolder('failover-errors');
  const site = new Site(work.path);
  site.drHost = 'lab:dr';
  const atPrimary = ['--host', 'lab:lab', '--state-dir', 'state'];

  const run = (...args: string[]): Promise<CapturedRun> =>
    runInProcess(args, { folder: work.path });
  const hvdr = async (...args: string[]): Promise<void> => {
    const { code, stderr } = await run(...args);
    expect(code, `hvdr ${args.join(' ')}\n${stderr}`).to.be.oneOf([0, 3]);
  };
  const operator = (...args: string[]): Promise<CapturedRun> => run(...args, ...site.operator());
  const failover = async (...args: string[]): Promise<void> => {
    await hvdr('failover', ...args, ...site.operator());
  };
  const push = (vm: string): Promise<CapturedRun> => run(...site.pushArguments(vm));
  const fault = (lab: string, vm: string, ...words: string[]): Promise<void> =>
    hvdr('lab', 'fault', lab, vm, ...words);
  const make = async (vm: string, ...more: string[]): Promise<void> => {
    await hvdr('lab', 'create-vm', 'lab', vm, '--disk', '1M', ...more);
    await hvdr('lab', 'start', 'lab', vm);
    await hvdr(...site.pushArguments(vm));
  };

  const vmsAtDr = async (): Promise<string[]> => {
    const { stdout } = await run('lab', 'list', 'dr', '--json');
    // the contract of `hvdr lab list --json`
    const { vms } = JSON.parse(stdout) as { vms: { name: string }[] };
    return vms.map(({ name }) => name);
  };
  const deltas = (): string[] =>
    readdirSync(work.file('store'), { recursive: true, withFileTypes: true })
      .filter(({ name }) => name.endsWith('.delta'))
      .map(({ parentPath, name }) => join(parentPath, name));

  /** Code, exit code and remedy of an error as the user sees them; returns its line. */
  const expectError = ({ code, stderr }: CapturedRun, wanted: FailoverCode): string => {
    const line = stderr.split('\n').find((each) => each.includes(`${wanted}: `));
    expect(line, stderr).not.to.equal(undefined);
    expect(code, stderr).to.equal(EXITS[wanted]);
    expect(unknownCommands(stderr), stderr).to.deep.equal([]);
    return line ?? '';
  };

  before(async () => {
    await site.prepare();
    await hvdr('lab', 'init', 'dr');
    await hvdr('lab', 'switch', 'dr', 'add', 'prod');
    await site.startReceiver();
    await make('SQL01', '--switch', 'lan', '--ip', '192.0.2.10/24,192.0.2.1');
  });

  after(async () => {
    await site.stopReceiver();
    work.dispose();
  });

  it('have the exit codes of the specification, and remedies whose commands exist', () => {
    for (const [code, exitCode] of Object.entries(EXITS)) {
      const entry = CATALOGUE[code as FailoverCode];
      expect(entry.exitCode, code).to.equal(exitCode);
      expect(unknownCommands(entry.remedy), code).to.deep.equal([]);
    }
  });

  it('of a VM that nobody knows', async () => {
    expectError(await operator('failover', 'test', 'NOPE'), 'E_NOT_PROTECTED');
    expectError(await push('ZZ*'), 'E_NO_MATCH');
  });

  it('of a VM that has not failed over', async () => {
    expectError(await operator('failover', 'undo', 'SQL01', '--yes'), 'E_NOTHING_TO_UNDO');
    expectError(await operator('failover', 'permanent', 'SQL01', '--yes'), 'E_NOT_FAILED_OVER');
    const line = expectError(await operator('abort', 'SQL01'), 'E_STATE');
    expect(line).to.include('Valid now are: planned, unplanned, test');
  });

  it('of a point that is not there: the nearest ones are named', async () => {
    const map = ['--network-map', 'lan=prod'];
    const [point = ''] = await site.points('SQL01');
    const byId = await operator('failover', 'test', 'SQL01', '--point', 'ffff', ...map);
    expect(expectError(byId, 'E_NO_POINT')).to.include(point);
    const byTime = await operator('failover', 'test', 'SQL01', '--point', '2001-01-01');
    expect(expectError(byTime, 'E_NO_POINT')).to.include(point);
  });

  it('of networks and addresses', async () => {
    const unplanned = (...more: string[]): Promise<CapturedRun> =>
      operator('failover', 'unplanned', 'SQL01', ...more);
    expect(expectError(await unplanned(), 'E_NET_UNMAPPED')).to.include('lan');
    const map = ['--network-map', 'lan=prod'];
    const rules = (text: string): string[] => [...map, '--reip-rules', text];
    expectError(await unplanned(...rules('SQL01:300.1.1.1/24')), 'E_REIP_INVALID');
    const taken = ['--switch', 'prod', '--ip', '198.51.100.7/24'];
    await hvdr('lab', 'create-vm', 'dr', 'HOLDER', '--disk', '1M', ...taken);
    const conflict = await unplanned(...rules('SQL01:198.51.100.7/24/198.51.100.1'));
    expect(expectError(conflict, 'E_REIP_CONFLICT')).to.include('HOLDER');
    const test = await operator('failover', 'test', 'SQL01', '--test-network', 'prod', ...map);
    expect(expectError(test, 'E_NOT_ISOLATED')).to.include('prod');
  });

  it('of the source: it runs, it is not there, it does not stop', async () => {
    const map = ['--network-map', 'lan=prod'];
    const planned = ['failover', 'planned', 'SQL01', ...map];
    expectError(await operator(...planned), 'E_SOURCE_UNREACHABLE');
    const unplanned = ['failover', 'unplanned', 'SQL01', ...map];
    expectError(await operator(...unplanned, ...atPrimary), 'E_SOURCE_ALIVE');
    await fault('lab', 'SQL01', 'set', 'shutdown-ignored');
    const stuck = await operator(...planned, '--shutdown-timeout', '1', ...atPrimary);
    expectError(stuck, 'E_SHUTDOWN_TIMEOUT');
    await fault('lab', 'SQL01', 'clear', 'shutdown-ignored');
    expect((await push('SQL01')).code).to.be.oneOf([0, 3]);
  });

  it('of consistency that was required and not reached', async () => {
    await fault('lab', 'SQL01', 'set', 'quiesce-refused');
    const refused = await run(...site.pushArguments('SQL01', '--consistency', 'require'));
    expectError(refused, 'E_CONSISTENCY');
    await fault('lab', 'SQL01', 'clear', 'quiesce-refused');
  });

  it('of tests in the way of a planned failover', async () => {
    await failover('test', 'SQL01', '--keep');
    const args = ['failover', 'planned', 'SQL01', '--network-map', 'lan=prod'];
    expect(expectError(await operator(...args, ...atPrimary), 'E_LOCKED')).to.include('stop_tests');
    const shown = await operator('status', '--vm', 'SQL01', '--json');
    const id = /"operation":"([0-9a-f-]{36})","phase":"running"/.exec(
      shown.stdout.replace(/\s/g, ''),
    )?.[1];
    const unmade = await operator('failover', 'test', 'SQL01', '--adopt', id ?? '');
    expect(expectError(unmade, 'E_STATE')).to.include('shut it down');
    await failover('test', 'SQL01', '--stop', id ?? '');
  });

  it('of a VM whose name is taken at the DR site', async () => {
    await make('TWIN');
    await hvdr('lab', 'create-vm', 'dr', 'TWIN', '--disk', '1M');
    const forced = ['--force', '--reason', 'drill'];
    expectError(await operator('failover', 'unplanned', 'TWIN', ...forced), 'E_EXISTS');
  });

  it('of a VM that has failed over, until it is committed', async () => {
    await make('MOVED');
    await failover('unplanned', 'MOVED', '--force', '--reason', 'drill', '--yes');
    expectError(await operator('failover', 'undo', 'MOVED'), 'E_CONFIRM');
    expectError(await operator('failover', 'test', 'MOVED'), 'E_STATE');
    const stale = ['failover', 'undo', 'MOVED', '--confirm', '0123456789abcdef'];
    expectError(await operator(...stale), 'E_CONFIRM');
    await fault('dr', 'MOVED', 'set', 'turn-off-fails');
    const halted = expectError(await operator('failover', 'undo', 'MOVED', '--yes'), 'E_HALTED');
    expect(halted).to.include('turn-off-fails').and.include('Valid now are: resume');
    expectError(await operator('failover', 'permanent', 'MOVED', '--yes'), 'E_HALTED');
    const status = await operator('status', '--vm', 'MOVED');
    expect(status.stdout).to.include('turn-off-fails').and.include('valid commands: resume');
    await fault('dr', 'MOVED', 'clear', 'turn-off-fails');
    await hvdr('resume', 'MOVED', '--yes', ...site.operator());
    await failover('unplanned', 'MOVED', '--force', '--reason', 'drill', '--yes');
    await failover('permanent', 'MOVED', '--yes');
    expectError(await operator('failover', 'undo', 'MOVED', '--yes'), 'E_COMMITTED');
  });

  it('of a VM that runs at both sites', async () => {
    await make('BOTH');
    await failover('unplanned', 'BOTH', '--force', '--reason', 'drill', '--yes');
    const refused = await push('BOTH');
    expect(refused.code, refused.stderr).to.be.oneOf([EXITS.E_FAILED_OVER, EXITS.E_SPLIT_BRAIN]);
    // the agent of the primary says that it runs there, while a command that is refused anyway is asked
    const test = ['failover', 'test', 'BOTH', ...atPrimary];
    let told = await operator(...test);
    for (let n = 0; n < 20 && told.code === EXITS.E_STATE; n++) told = await operator(...test);
    expect(expectError(told, 'E_SPLIT_BRAIN')).to.include('resolve');
    const undo = await operator('failover', 'undo', 'BOTH', '--yes');
    expect(expectError(undo, 'E_SPLIT_BRAIN')).to.include('resolve');
    await hvdr('resolve', 'BOTH', '--keep', 'source', '--yes', ...site.operator(), ...atPrimary);
  });

  it('of a guest that does not take its address: the failover stands', async () => {
    await make('STUBBORN', '--switch', 'lan', '--ip', '192.0.2.20/24,192.0.2.1');
    await hvdr('lab', 'fault', 'dr', 'set', 'address-ignored');
    const rules = 'STUBBORN:198.51.100.20/24/198.51.100.1';
    const refused = await operator(
      ...['failover', 'unplanned', 'STUBBORN', '--network-map', 'lan=prod', '--reip-rules', rules],
      ...['--check-timeout', '1', '--force', '--reason', 'drill', '--yes'],
    );
    await hvdr('lab', 'fault', 'dr', 'clear', 'address-ignored');
    expect(expectError(refused, 'E_REIP_GUEST')).to.include('198.51.100.20');
    expect((await operator('status', '--vm', 'STUBBORN')).stdout).to.include('FAILED_OVER');
    await failover('undo', 'STUBBORN', '--yes');
  });

  it('of a VM that serves at the DR site: no cycle, no new protection before it is permanent', async () => {
    await make('AWAY');
    await hvdr('lab', 'stop', 'lab', 'AWAY');
    await failover('unplanned', 'AWAY');
    expectError(await push('AWAY'), 'E_FAILED_OVER');
    const port = String(site.port);
    const reprotected = await operator(
      ...['reprotect', 'AWAY', '--host', 'lab:dr', '--state-dir', 'state-dr'],
      ...['--principal', 'primary', '--retired-host', '127.0.0.1', '--retired-port', port],
      ...['--retired-psk-file', 'keys/operator.psk'],
    );
    expectError(reprotected, 'E_UNCOMMITTED');
    await failover('permanent', 'AWAY', '--yes');
    const retired = await push('AWAY');
    expect(retired.stdout + retired.stderr).to.include('W_RETIRED_SKIPPED');
  });

  it('of a store that was put back to an older copy: the source knows a later epoch', async () => {
    await make('BEHIND');
    await site.stopReceiver();
    cpSync(work.file('store'), work.file('store-before'), { recursive: true });
    await site.startReceiver();
    await failover('unplanned', 'BEHIND', '--force', '--reason', 'drill', '--yes');
    await failover('undo', 'BEHIND', '--yes');
    expect((await push('BEHIND')).code).to.be.oneOf([0, 3]);
    await site.stopReceiver();
    await site.startReceiver('--store', 'store-before');
    const planned = await operator('failover', 'planned', 'BEHIND', ...atPrimary);
    await site.stopReceiver();
    await site.startReceiver();
    expectError(planned, 'E_STALE_EPOCH');
    expect((await run('lab', 'show', 'lab', 'BEHIND', '--json')).stdout).to.include('running');
  });

  it('of a point whose bytes have turned: the primary stays the active site', async () => {
    await make('ROTTEN');
    const before = deltas();
    await hvdr('lab', 'write', 'lab', 'ROTTEN', '--disk', '0', '--random', '2', '--block', '64K');
    await hvdr(...site.pushArguments('ROTTEN'));
    for (const path of deltas().filter((each) => !before.includes(each))) {
      const bytes = readFileSync(path);
      bytes.writeUInt8(bytes.readUInt8(bytes.length / 2) ^ 4, bytes.length / 2);
      writeFileSync(path, bytes);
    }
    const args = ['failover', 'unplanned', 'ROTTEN', '--force', '--reason', 'drill', '--yes'];
    const line = expectError(await operator(...args), 'E_POINT_CORRUPT');
    const [first = ''] = await site.points('ROTTEN');
    expect(line).to.include('ROTTEN');
    expect(await vmsAtDr()).not.to.include('ROTTEN');
    await failover(...args.slice(1), '--point', first);
    expect(await vmsAtDr()).to.include('ROTTEN');
  });

  it('of a volume without room for the disks, and it comes up when there is', async function () {
    if (process.platform !== 'linux' || process.getuid?.() !== 0) {
      skipBecause(this, 'a small volume is mounted by root on Linux only');
    }
    const small = work.file('store-small');
    mkdirSync(small);
    mount('-t', 'tmpfs', '-o', 'size=40m', 'tmpfs', small);
    try {
      await site.stopReceiver();
      await site.startReceiver('--store', 'store-small');
      await make('LARGE');
      const { bavail, bsize } = statfsSync(small);
      writeFileSync(join(small, 'filler'), Buffer.alloc(bavail * bsize - 4 * 1024 * 1024));
      const args = ['failover', 'unplanned', 'LARGE', '--force', '--reason', 'drill', '--yes'];
      expectError(await operator(...args), 'E_CAPACITY');
      expect(await vmsAtDr()).not.to.include('LARGE');
      rmSync(join(small, 'filler'));
      await failover(...args.slice(1));
      expect(await vmsAtDr()).to.include('LARGE');
    } finally {
      await site.stopReceiver();
      spawnSync('umount', ['-l', small]);
      await site.startReceiver();
    }
  });

  it('of a test VM that was adopted: it is a test no more, and starts on disks of its own', async () => {
    await make('CLONE');
    await hvdr('lab', 'write', 'lab', 'CLONE', '--disk', '0', '--random', '2', '--block', '64K');
    await hvdr(...site.pushArguments('CLONE'));
    const before = await vmsAtDr();
    await failover('test', 'CLONE', '--keep');
    const [clone = ''] = (await vmsAtDr()).filter((name) => !before.includes(name));
    const shown = await operator('status', '--vm', 'CLONE', '--json');
    const id = /"operation":\s*"([0-9a-f-]{36})"/.exec(shown.stdout)?.[1] ?? '';
    const adopt = ['failover', 'test', 'CLONE', '--adopt', id];
    await hvdr('lab', 'stop', 'dr', clone);
    await hvdr(...adopt, ...site.operator());
    const after = await operator('status', '--vm', 'CLONE', '--json');
    expect(after.stdout).not.to.include(id);
    const dr = await run('lab', 'show', 'dr', clone, '--json');
    expect(dr.stdout).to.include('/machines/');
    await hvdr('lab', 'start', 'dr', clone);
    const read = async (lab: string, vm: string): Promise<Buffer> =>
      (await site.hvdr('lab', 'read', lab, vm, '--disk', '0')).stdout;
    expect((await read('dr', clone)).equals(await read('lab', 'CLONE'))).to.equal(true);
    expectError(await operator('failover', 'test', 'CLONE', '--stop', id), 'E_NOT_FOUND');
    expect(await vmsAtDr()).to.include(clone);
  });

  it('of a final delta that cannot be taken: the VM runs at the primary again', async () => {
    await make('LAST');
    await fault('lab', 'LAST', 'set', 'shutdown-ignored');
    const running = site.start(
      ...['failover', 'planned', 'LAST', '--force-off', '--shutdown-timeout', '4'],
      ...[...site.operator(), ...atPrimary, '--json'],
    );
    let isSet: Promise<void> | undefined;
    running.child.stdout?.on('data', (chunk: Buffer) => {
      // the guest is waited for now, so the cycles before are over
      if (chunk.toString().includes('"step":"P3"')) {
        isSet ??= fault('lab', 'LAST', 'set', 'checkpoint-fails');
      }
    });
    const { code, stderr } = await running.done;
    await isSet;
    expectError({ code: code ?? 0, stdout: '', stderr }, 'E_FINAL_SYNC_FAILED');
    const shown = await run('lab', 'show', 'lab', 'LAST', '--json');
    expect(shown.stdout).to.include('running');
  });
});

function mount(...args: string[]): void {
  const { status, stderr } = spawnSync('mount', args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`mount ${args.join(' ')}: ${stderr}`);
}
