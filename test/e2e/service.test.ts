// Receiver and daemon as a service manager runs them: by a config file, told to end by a signal or by the end of their
// input, and speaking to the socket of systemd, which is a real one here (read by Python, as Node has none).

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { chmodSync, chownSync, writeFileSync } from 'node:fs';
import { expect } from 'chai';
import { builtFolder } from '../support/checkout.js';
import { runHvdr } from '../support/cli.js';
import { needTool, skipBecause } from '../support/need.js';
import { WorkFolder } from '../support/work-folder.js';

/** Prints each datagram as a line of JSON. */
const LISTENER = `
import json, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
name = sys.argv[1]
s.bind('\\0' + name[1:] if name[0] == '@' else name)
print('bound', flush=True)
while True: print(json.dumps(s.recv(65536).decode()), flush=True)
`;

/** A process whose stdout is read by lines. */
class Lines {
  readonly child: ChildProcess;
  readonly ended: Promise<number | null>;
  stderr = '';
  #text = '';

  constructor(program: string, args: readonly string[], environment: NodeJS.ProcessEnv = {}) {
    this.child = spawn(program, args, {
      env: { ...process.env, ...environment },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#text += text;
    });
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
    });
    this.ended = once(this.child, 'close').then(([code]) => (code === null ? null : Number(code)));
  }

  get lines(): readonly string[] {
    return this.#text.split('\n').slice(0, -1);
  }

  /** Waits for a line. @throws when the process ends before */
  async line(pattern: RegExp): Promise<string> {
    for (;;) {
      const found = this.lines.find((line) => pattern.test(line));
      if (found !== undefined) return found;
      const isEnded = await Promise.race([
        once(this.child.stdout ?? this.child, 'data').then(() => false),
        this.ended.then(() => true),
      ]);
      if (isEnded) throw new Error(`it ended without ${String(pattern)}: ${this.stderr}`);
    }
  }
}

const hvdr = (args: readonly string[], environment?: NodeJS.ProcessEnv): Lines =>
  new Lines(process.execPath, [join(builtFolder, 'cli', 'main.js'), ...args], environment);

describe('a service', () => {
  const work = new WorkFolder('service');
  const key = work.file('source.psk');
  const receiverConf = work.file('receiver.conf');
  const agentConf = work.file('agent.conf');
  const running: Lines[] = [];
  const start = (process: Lines): Lines => {
    running.push(process);
    return process;
  };

  before(async () => {
    const commands = [
      ['psk', 'generate', '--out', key, '--principal', 'primary'],
      ['lab', 'init', work.file('lab')],
      ['lab', 'create-vm', work.file('lab'), 'SQL01', '--disk', '1M'],
    ];
    for (const args of commands) {
      const run = await runHvdr(args);
      expect(run.code, run.stderr).to.equal(0);
    }
    writeFileSync(
      receiverConf,
      `store=${work.file('store')}\npsk_file=${key}\nlisten=127.0.0.1:0\nscrub_rate=0\n`,
      { mode: 0o600 },
    );
  });

  afterEach(async () => {
    for (const process of running.splice(0)) {
      process.child.kill('SIGKILL');
      await process.ended;
    }
  });

  after(() => {
    work.dispose();
  });

  it('that is a receiver takes all from its file, and its line goes before it', async () => {
    const receiver = start(hvdr(['receiver', '--config', receiverConf]));
    await receiver.line(/^listening 127\.0\.0\.1:\d+$/);
    receiver.child.kill('SIGTERM');
    expect(await receiver.ended).to.equal(143);
    const wrong = hvdr(['receiver', '--config', receiverConf, '--listen', 'nowhere']);
    expect(await wrong.ended).to.equal(2);
    expect(wrong.stderr).to.contain('E_USAGE: --listen "nowhere"');
  });

  it('obeys no file that others may change, or that belongs to another account', async function () {
    const file = work.file('theirs.conf');
    writeFileSync(file, `store=/x\npsk_file=${key}\n`);
    chmodSync(file, 0o666);
    for (const command of ['receiver', 'daemon']) {
      const open = hvdr([command, '--config', file]);
      expect(await open.ended, open.stderr).not.to.equal(0);
      expect(open.stderr).to.match(/E_STATE: .*theirs\.conf can be changed by others/);
      expect(open.stderr).to.contain(`chmod go-w ${file}`);
    }
    if (process.getuid?.() !== 0) skipBecause(this, 'only root gives a file away');
    chmodSync(file, 0o600);
    chownSync(file, 65534, 65534);
    const foreign = hvdr(['receiver', '--config', file]);
    expect(await foreign.ended).not.to.equal(0);
    expect(foreign.stderr).to.match(/E_STATE: .*theirs\.conf belongs to another account/);
    expect(foreign.stderr).to.contain(`chown root ${file}`);
  });

  it('says in which file or option a value is wrong', async () => {
    writeFileSync(work.file('bad.conf'), `store=/x\npsk_file=${key}\nquota_vms=many\n`);
    const bad = hvdr(['receiver', '--config', work.file('bad.conf')]);
    expect(await bad.ended).to.equal(2);
    expect(bad.stderr).to.match(/bad\.conf: quota_vms "many" is not a number/);
    const without = hvdr(['receiver', '--store', work.file('store')]);
    expect(await without.ended).to.equal(2);
    expect(without.stderr).to.contain('--psk-file is not given');
  });

  it('ends well when its input is closed, and is not touched by what comes in', async () => {
    const receiver = start(hvdr(['receiver', '--config', receiverConf, '--stop-on-stdin-close']));
    const [, port = ''] = /:(\d+)$/.exec(await receiver.line(/^listening/)) ?? [];
    receiver.child.stdin?.write('anything\n');
    writeFileSync(
      agentConf,
      `host=lab:${work.file('lab')}\nstate_dir=${work.file('state')}\ndr_host=127.0.0.1\n` +
        `dr_port=${port}\ndr_psk_file=${key}\n[all]\nvm=*\npush_interval=1\n`,
    );
    const daemon = start(
      hvdr(['daemon', '--config', agentConf, '--stop-on-stdin-close', '--json']),
    );
    await daemon.line(/"event":"cycle"/);
    daemon.child.stdin?.end();
    expect(await daemon.ended, daemon.stderr).to.equal(0);
    expect(daemon.lines.at(-1)).to.contain('"event":"result"');
    receiver.child.stdin?.end();
    expect(await receiver.ended, receiver.stderr).to.equal(0);
  });

  it('is not ended by a closed input that nobody told it to mind', async () => {
    const receiver = start(hvdr(['receiver', '--config', receiverConf]));
    receiver.child.stdin?.end();
    await receiver.line(/^listening/);
    receiver.child.kill('SIGTERM');
    expect(await receiver.ended).to.equal(143);
  });

  for (const [kind, name] of [
    ['a path', (): string => work.file('notify')],
    ['an abstract name', (): string => `@hvdr-test-${process.pid}`],
  ] as const) {
    it(`tells systemd at ${kind} that it is ready, lives and ends`, async function () {
      needTool(this, 'python3');
      const socket = start(new Lines('/usr/bin/python3', ['-c', LISTENER, name()]));
      await socket.line(/^bound$/);
      const receiver = start(
        hvdr(['receiver', '--config', receiverConf], {
          NOTIFY_SOCKET: name(),
          WATCHDOG_USEC: '200000',
        }),
      );
      expect(await socket.line(/READY=1/)).to.match(
        /^"READY=1\\nSTATUS=listening 127\.0\.0\.1:\d+"$/,
      );
      await socket.line(/^"WATCHDOG=1"$/);
      receiver.child.kill('SIGTERM');
      await socket.line(/^"STOPPING=1\\nSTATUS=/);
      expect(await receiver.ended, receiver.stderr).to.equal(143);
      expect(receiver.stderr).not.to.contain('cannot be told');
    });
  }

  it('leaves the watchdog of another process alone', async function () {
    needTool(this, 'python3');
    const name = `@hvdr-other-${process.pid}`;
    const socket = start(new Lines('/usr/bin/python3', ['-c', LISTENER, name]));
    await socket.line(/^bound$/);
    const receiver = start(
      hvdr(['receiver', '--config', receiverConf], {
        ...{ NOTIFY_SOCKET: name, WATCHDOG_USEC: '1000', WATCHDOG_PID: '1' },
      }),
    );
    await socket.line(/READY=1/);
    receiver.child.kill('SIGTERM');
    await socket.line(/STOPPING=1/);
    expect(socket.lines.filter((line) => line.includes('WATCHDOG'))).to.deep.equal([]);
    await receiver.ended;
  });

  it('serves all the same when nobody hears it, and says so', async () => {
    const receiver = start(
      hvdr(['receiver', '--config', receiverConf], { NOTIFY_SOCKET: work.file('nobody') }),
    );
    await receiver.line(/^listening/);
    receiver.child.kill('SIGTERM');
    expect(await receiver.ended).to.equal(143);
    expect(receiver.stderr).to.match(/the service manager cannot be told: .*nobody: ENOENT/);
  });
});
