// The main job with real processes: a lab host, a receiver, `hvdr push` and `hvdr daemon` between
// them over loopback. After each step the exported disks are the guest's.

import { closeSync, openSync, readdirSync, readFileSync, statSync, writeSync } from 'node:fs';
import { expect } from 'chai';
import { systemClock } from '../../shared/clock.js';
import { runHvdr } from '../support/cli.js';
import { HvdrProcess } from '../support/hvdr-process.js';
import { SeededRandom } from '../support/seeded-random.js';
import { WorkFolder } from '../support/work-folder.js';

const MIB = 2 ** 20;

interface VmResult {
  readonly vm: string;
  readonly kind: string;
  readonly bytesSent: number;
  readonly point?: string;
  readonly disks?: readonly { dataBytes: number; reusedBytes: number; repeatedBytes: number }[];
}

describe('hvdr push', function () {
  this.timeout(300_000);
  const work = new WorkFolder('push');
  const lab = work.file('lab');
  const store = work.file('store');
  const key = work.file('source.psk');
  let receiver: HvdrProcess | undefined;
  // below the range from which the system gives ports to others while the receiver is down
  const port = 20_000 + (process.pid % 10_000);

  const ended = async (expected: number, args: readonly string[]): Promise<string> => {
    const { code, stdout, stderr } = await runHvdr(args);
    expect(code, `${args.join(' ')}: ${stderr}`).to.equal(expected);
    return stdout.toString();
  };
  const good = (args: readonly string[]): Promise<string> => ended(0, args);
  const startReceiver = async (): Promise<void> => {
    const listen = `127.0.0.1:${port}`;
    const args = ['receiver', '--store', store, '--host', `lab:${lab}`, '--listen', listen];
    receiver = new HvdrProcess([...args, '--psk-file', key]);
    await receiver.until(/^listening \S+:\d+\n/);
  };
  const stopReceiver = async (signal: NodeJS.Signals = 'SIGTERM'): Promise<void> => {
    const stopping = receiver;
    receiver = undefined;
    await stopping?.stop(signal);
  };
  const pushArgs = (vm: string, ...more: readonly string[]): string[] => [
    ...['push', '--vm', vm, '--host', `lab:${lab}`, '--dr-host', '127.0.0.1'],
    ...['--dr-port', `${port}`, '--psk-file', key, '--state-dir', work.file('state'), ...more],
  ];
  const push = async (vm: string, ...more: readonly string[]): Promise<VmResult> => {
    const text = await good([...pushArgs(vm, ...more), '--json']);
    const last = JSON.parse(text.trim().split('\n').at(-1) ?? '') as {
      event: string;
      vms: VmResult[];
    };
    expect(last.event).to.equal('result');
    const [first] = last.vms;
    if (first === undefined) throw new Error('no VM in the result');
    return first;
  };
  const write = (disk: number, seed: number): Promise<string> =>
    good(
      [
        'lab',
        'write',
        lab,
        'SQL01',
        '--disk',
        `${disk}`,
        '--random',
        '12',
        '--block',
        '64K',
      ].concat(['--seed', `${seed}`]),
    );
  /** Resolves when the receiver's store has grown by so much since `before`. */
  const untilGrown = async (before: number, bytes: number): Promise<void> => {
    const deadline = systemClock.monotonic() + 60_000;
    while (folderBytes(store) < before + bytes) {
      if (systemClock.monotonic() > deadline) throw new Error('nothing arrived at the store');
      await systemClock.sleep(20);
    }
  };
  /** Exports the newest point and compares it with the guest; the receiver is stopped for it. */
  const compare = async (): Promise<void> => {
    await stopReceiver();
    for (const disk of ['0', '1']) {
      const { stdout: guest } = await runHvdr(['lab', 'read', lab, 'SQL01', '--disk', disk]);
      const out = work.file(`out-${disk}.raw`);
      await good(
        ['export', 'SQL01', '--store', store, '--point', 'latest', '--disk', disk].concat([
          ...['--format', 'raw', '--out', out, '--force'],
        ]),
      );
      expect(readFileSync(out).equals(guest), `disk ${disk} is the guest's`).to.equal(true);
    }
    await startReceiver();
  };

  before(async () => {
    const image = work.file('disk.raw');
    const file = openSync(image, 'w');
    writeSync(file, new SeededRandom(1).bytes(12 * MIB), 0, 12 * MIB, 2 * MIB);
    writeSync(file, Buffer.alloc(512), 0, 512, 20 * MIB + 512);
    closeSync(file);
    await good(['psk', 'generate', '--out', key, '--principal', 'site-a']);
    await good(['lab', 'init', lab]);
    await good(['lab', 'create-vm', lab, 'SQL01', '--import', image, '--disk', '5M']);
    await good(['lab', 'start', lab, 'SQL01']);
    await startReceiver();
  });

  after(async () => {
    await stopReceiver('SIGKILL');
    work.dispose();
  });

  it('seeds, then sends what changed, and prints a line for each VM', async () => {
    const first = await good(pushArgs('SQL*'));
    expect(first).to.match(
      /^SQL01 seed [\d.]+ MiB, 2 disks, app-consistent, RPO \d+\/900 s, point [0-9a-f]{4}\n/,
    );
    expect(first).to.match(/1 VM: 1 done; [\d.]+ MiB sent/);
    await compare();
    await write(0, 1);
    await write(1, 2);
    const delta = await push('SQL01');
    expect(delta.kind).to.equal('delta');
    expect(delta.bytesSent).to.be.below(3 * MIB);
    expect((await push('SQL01')).kind).to.equal('nothing');
    await compare();
  });

  it('goes on by itself when the receiver is killed in the middle', async () => {
    await good([
      'lab',
      'write',
      lab,
      'SQL01',
      '--disk',
      '0',
      '--random',
      '150',
      '--block',
      '64K',
      '--seed',
      '5',
    ]);
    const before = folderBytes(store);
    const pushing = new HvdrProcess([...pushArgs('SQL01', '--bandwidth', '2M'), '--json']);
    await untilGrown(before, 2 * MIB);
    await stopReceiver('SIGKILL');
    await startReceiver();
    const { code, stdout, stderr } = await pushing.ended;
    expect(code, stderr).to.equal(0);
    expect(stderr).to.contain('cycle.resumed');
    const result = JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as { vms: VmResult[] };
    const repeated = (result.vms[0]?.disks ?? []).map(({ repeatedBytes }) => repeatedBytes);
    for (const bytes of repeated) expect(bytes).to.be.at.most(8 * MIB);
    await compare();
  });

  it('loses nothing when it is killed in the middle, and takes what had arrived', async () => {
    await good([
      'lab',
      'write',
      lab,
      'SQL01',
      '--disk',
      '0',
      '--random',
      '150',
      '--block',
      '64K',
      '--seed',
      '6',
    ]);
    const before = folderBytes(store);
    const killed = new HvdrProcess(pushArgs('SQL01', '--bandwidth', '2M'));
    await untilGrown(before, 2 * MIB);
    await killed.stop('SIGKILL');
    await write(0, 7);
    const result = await push('SQL01');
    expect(result.kind).to.equal('delta');
    expect(result.disks?.[0]?.reusedBytes).to.be.at.least(MIB);
    await compare();
    const shown = JSON.parse(await good(['lab', 'show', lab, 'SQL01', '--json'])) as object;
    expect(JSON.stringify(shown)).not.to.match(/"checkpoints":\s*\[\s*\{/);
  });

  for (const fault of [
    'die-after createCheckpoint',
    'die-before convertToReferencePoint',
    'die-after convertToReferencePoint',
  ]) {
    it(`loses nothing when the process ends at the moment "${fault}"`, async () => {
      await write(0, fault.length);
      await good(['lab', 'fault', lab, 'SQL01', 'set', ...fault.split(' ')]);
      const { code } = await runHvdr(pushArgs('SQL01'));
      expect(code).not.to.equal(0);
      await write(1, fault.length);
      await push('SQL01');
      await compare();
    });
  }

  it('ends at a safe point on SIGTERM', async () => {
    await good([
      'lab',
      'write',
      lab,
      'SQL01',
      '--disk',
      '0',
      '--random',
      '150',
      '--block',
      '64K',
      '--seed',
      '8',
    ]);
    const before = folderBytes(store);
    const stopped = new HvdrProcess(pushArgs('SQL01', '--bandwidth', '1M'));
    await untilGrown(before, MIB);
    const { code, stdout } = await stopped.stop('SIGTERM');
    expect(code).to.equal(143);
    expect(stdout).to.contain('SQL01 stopped');
    await push('SQL01');
    await compare();
  });

  it('compares when the state is gone, and sends only what differs', async () => {
    await write(0, 9);
    const result = await push('SQL01', '--timeout', '600');
    expect(result.kind).to.equal('delta');
    await write(0, 10);
    const elsewhere = [...pushArgs('SQL01'), '--json'];
    elsewhere[elsewhere.indexOf('--state-dir') + 1] = work.file('other-state');
    const text = await ended(3, elsewhere);
    expect(text).to.contain('"kind":"resync"');
    expect(text).to.contain('W_RESYNC');
    await compare();
  });

  it('warns with exit code 3 when the guest would not quiesce', async () => {
    await good(['lab', 'fault', lab, 'SQL01', 'set', 'quiesce-refused']);
    const { code, stdout } = await runHvdr(pushArgs('SQL01'));
    expect(code).to.equal(3);
    expect(stdout.toString()).to.contain('crash-consistent').and.to.contain('W_CRASH_CONSISTENT');
    const required = await runHvdr(pushArgs('SQL01', '--consistency', 'require'));
    expect(required.code).to.equal(35);
    await good(['lab', 'fault', lab, 'SQL01', 'clear', 'quiesce-refused']);
  });

  it('ends with the codes of its refusals', async () => {
    expect((await runHvdr(pushArgs('none*'))).code).to.equal(12);
    expect((await runHvdr(pushArgs('SQL01', '--bandwidth', '10Mbit'))).code).to.equal(2);
    await stopReceiver();
    expect((await runHvdr(pushArgs('SQL01'))).code).to.equal(21);
    await startReceiver();
  });

  it('keeps the key out of everything that it writes', () => {
    const text = readFileSync(key, 'latin1');
    const secret = text.trim().split(':').at(-1) ?? text;
    for (const name of readdirSync(work.file('state'))) {
      expect(readFileSync(`${work.file('state')}/${name}`, 'latin1')).not.to.contain(secret);
    }
  });

  it('pushes for ever as a daemon, until SIGTERM', async () => {
    const config = work.file('daemon.conf');
    const lines = [
      `host=lab:${lab}`,
      'dr_host=127.0.0.1',
      `dr_port=${port}`,
      `dr_psk_file=${key}`,
      `state_dir=${work.file('other-state')}`,
      '[databases]',
      'vm=SQL*',
      'push_interval=1',
    ];
    const file = openSync(config, 'w');
    writeSync(file, lines.join('\n'));
    closeSync(file);
    const daemon = new HvdrProcess(['daemon', '--config', config, '--json']);
    await daemon.until(/("event":"cycle"[^\n]*\n[^]*){3}/);
    await write(0, 11);
    const seen = daemon.stdout.length;
    await daemon.until(/"kind":"delta"[^]*\n/);
    expect(daemon.stdout.length).to.be.greaterThan(seen);
    const { code, stdout } = await daemon.stop('SIGTERM');
    expect(code).to.equal(143);
    expect(stdout).not.to.contain('"kind":"failed"');
    // the other state folder has seen none of this
    const text = await ended(3, [...pushArgs('SQL01'), '--json']);
    expect(text).to.contain('W_RESYNC');
    await compare();
  });
});

function folderBytes(folder: string): number {
  let sum = 0;
  for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
    // files come and go meanwhile
    sum += statSync(`${folder}/${name}`, { throwIfNoEntry: false })?.size ?? 0;
  }
  return sum;
}
